"""Waiting for something in the lab."""

from collections.abc import Callable
from typing import TypeVar

from cascade import polling
from lab.errors import LabError

T = TypeVar("T")


def until(
    where: str, attempt: Callable[[], T], *, timeout_s: float, next_step: str, interval_s: float = 0.1
) -> T:
    """Return what `attempt` returns as soon as it raises no LabError; say the last error at the deadline."""
    try:
        return polling.until(attempt, LabError, deadline_s=timeout_s, interval_s=interval_s)
    except polling.NotInTime as late:
        last = late.__cause__
        assert isinstance(last, LabError)
        message = f"not after {timeout_s:g} s; the last error was: {last.where}: {last.what}"
        raise LabError(where, message, next_step) from last
