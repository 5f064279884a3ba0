"""`on_drift`: the owner's command that hears of a result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

TIMEOUT_S = 30


class HookFailed(Exception):
    """The command could not be started, took too long or ended with an error; the message says which."""


def call(argv: Sequence[str], document: Path, said: Mapping[str, str], timeout_s: float = TIMEOUT_S) -> None:
    """Runs the command without a shell, the document on its standard input; raises HookFailed.

    `said` is added to its environment. What it writes goes to standard error.
    """
    try:
        with document.open("rb") as stdin:
            process = subprocess.Popen(
                argv, stdin=stdin, stdout=sys.stderr, env={**os.environ, **said}, start_new_session=True
            )
    except OSError as error:
        raise HookFailed(f"{argv[0]} cannot be started: {error.strerror}") from error
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired as error:
        raise HookFailed(f"{argv[0]} had not ended after {timeout_s:g} s and was killed") from error
    finally:
        _end(process)
    if code:
        raise HookFailed(f"{argv[0]} ended with exit code {code}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing that the command started outlives it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
