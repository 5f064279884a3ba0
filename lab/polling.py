"""Waiting for something to become true, in one place."""

import time
from collections.abc import Callable
from typing import TypeVar

from lab.errors import LabError

T = TypeVar("T")


def until(
    where: str, attempt: Callable[[], T], *, timeout_s: float, next_step: str, interval_s: float = 0.1
) -> T:
    """Return what `attempt` returns as soon as it raises no LabError; say the last error at the deadline."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return attempt()
        except LabError as error:
            if time.monotonic() >= deadline:
                message = f"not after {timeout_s:g} s; the last error was: {error.where}: {error.what}"
                raise LabError(where, message, next_step) from error
        time.sleep(interval_s)
