"""A person at a terminal: questions are answered when they have come."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_SPAWN = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


Answer = str | Callable[[], str]


def at_terminal(argv: list[str], cwd: Path, *answers: tuple[str, Answer]) -> tuple[int, str]:
    """Runs a command on a terminal of its own; its exit code and all that the terminal showed.

    Each answer is typed once its question stands on the screen behind those before it; a person may do
    something first.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", _SPAWN, *argv], cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    shown, seen, waiting = "", 0, list(answers)
    with process:
        while chunk := os.read(process.stdout.fileno(), 65536):
            shown += chunk.decode()
            while waiting and (place := shown.find(waiting[0][0], seen)) >= 0:
                question, answer = waiting.pop(0)
                seen = place + len(question)
                typed = answer if isinstance(answer, str) else answer()
                process.stdin.write(f"{typed}\n".encode())
                process.stdin.flush()
    assert not waiting, f"never asked: {waiting[0][0]}\n{shown}"
    return process.returncode, shown
