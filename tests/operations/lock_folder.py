"""The manager's part of the lock, run on this machine in a folder of a test's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pyinfra.connectors.util import CommandOutput, OutputLine

from operations import lock

FOLDER = "/var/lib/cascade"


class LockFolder:
    """A manager with nothing but its lock; `asked` is what it was asked to do, and `ahead_s` its clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "cascade"
        self.lock = self.folder / "lock"
        self.asked: list[Any] = []

    def answer(self, command: object, *, _sudo: bool, _stdin: str, _timeout: float) -> Any:
        """In place of a host's `run_shell_command`."""
        assert (str(command), _sudo) == ("python3 -IS -", True)
        assert FOLDER in _stdin
        done = subprocess.run(
            [sys.executable, "-IS", "-"],
            input=_stdin.replace(FOLDER, str(self.folder)),
            capture_output=True,
            text=True,
            timeout=_timeout,
            check=False,
        )
        outputs = (("stdout", done.stdout), ("stderr", done.stderr))
        lines = [OutputLine(name, line) for name, text in outputs for line in text.splitlines()]
        return done.returncode == 0, CommandOutput(lines)

    def begin(self, **task: Any) -> subprocess.Popen[str]:
        """The script at work on a task."""
        text = f"import json\nTASK = json.loads({json.dumps(task)!r})\n{lock._SCRIPT.read_text()}"
        process = subprocess.Popen(
            [sys.executable, "-IS", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin
        process.stdin.write(text.replace(FOLDER, str(self.folder)))
        process.stdin.close()
        process.stdin = None
        return process

    def do(self, **task: Any) -> Any:
        """What the script answers."""
        out, err = self.begin(**task).communicate(timeout=30)
        assert err == ""
        return json.loads(out)

    def acquire(
        self, token: str = "a", holder: str = "run", expires_s: float | None = 90, **more: Any
    ) -> Any:
        owner, purpose = f"{token}@desk", f"work of {token}"
        task = {"token": token, "holder": holder, "owner": owner, "purpose": purpose, "expires_s": expires_s}
        return self.do(do="acquire", **task, **more)

    @property
    def record(self) -> Any:
        return json.loads(self.lock.read_text())

    def pass_by(self, seconds: float) -> None:
        """As if the holder had been silent for so long."""
        self.lock.write_text(json.dumps({**self.record, "uptime_s": self.record["uptime_s"] - seconds}))

    @property
    def count(self) -> int:
        """How often the lock has changed hands."""
        return int(json.loads((self.folder / "lock-count").read_text())["count"])
