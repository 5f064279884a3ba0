"""Waiting for something on a host."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cascade.polling import NotInTime, until
from operations.failed import WorkFailed
from operations.signals import SIGNALS

T = TypeVar("T")


def poll(what: str, attempt: Callable[[], T], deadline_s: float) -> T:
    """Tries until the attempt raises no WorkFailed; raises WorkFailed with the last one at the deadline.

    A signal ends it between two attempts.
    """

    def attempt_or_end() -> T:
        SIGNALS.pause_point()
        return attempt()

    try:
        return until(attempt_or_end, WorkFailed, deadline_s=deadline_s)
    except NotInTime as late:
        raise WorkFailed(f"{what}: not within {deadline_s:.0f} s: {late.__cause__}") from late
