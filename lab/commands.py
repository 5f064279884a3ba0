"""Running the commands of this machine, with errors that say what they said."""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from lab.errors import LabError
from lab.progress import Say

HEARTBEAT_S = 5.0


def as_root(*argv: str) -> tuple[str, ...]:
    """Put sudo before a command unless this process is root already."""
    return argv if os.geteuid() == 0 else ("sudo", *argv)


def output(argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 120) -> str:
    """Return what a command writes to stdout, or raise with what it wrote to stderr."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=timeout_s, check=False)
    except FileNotFoundError as error:
        raise LabError(
            argv[0], "is not installed", "install it, or see docs for what the lab needs"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise LabError(_short(argv), f"no end after {timeout_s:g} s", "look at the machine's load") from error
    if done.returncode:
        raise LabError(_short(argv), _last_words(done), "run it by hand to see more")
    return done.stdout.decode(errors="replace")


def succeeds(argv: Sequence[str], *, timeout_s: float = 30) -> bool:
    """Whether a command ends with 0."""
    try:
        output(argv, timeout_s=timeout_s)
    except LabError:
        return False
    return True


def run_logged(argv: Sequence[str], log: Path, say: Say, *, timeout_s: float) -> None:
    """Run a long command, keep its output in a log, and tell its newest line every few seconds."""
    deadline = time.monotonic() + timeout_s
    with (
        log.open("wb") as sink,
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink) as process,
    ):
        while (code := _wait_a_little(process)) is None:
            if time.monotonic() > deadline:
                process.terminate()
                raise LabError(
                    _short(argv), f"no end after {timeout_s:g} s: {newest_line(log)}", f"read {log}"
                )
            say(f"  … {newest_line(log)}")
    if code:
        raise LabError(_short(argv), f"exit code {code}: {newest_line(log)}", f"read {log}")


def newest_line(log: Path) -> str:
    """The last line of a log that is not empty."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:160] if lines else "(no output yet)"


def _wait_a_little(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(timeout=HEARTBEAT_S)
    except subprocess.TimeoutExpired:
        return None


def _short(argv: Sequence[str]) -> str:
    return " ".join(argv[:4]) + (" …" if len(argv) > 4 else "")


def _last_words(done: subprocess.CompletedProcess[bytes]) -> str:
    words = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace")
    return f"exit code {done.returncode}: {words[-600:] or '(it said nothing)'}"
