"""The one way to wait for something on a host."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from operations.run import WorkFailed

T = TypeVar("T")
INTERVAL_S = 0.15


def poll(what: str, attempt: Callable[[], T | None], deadline_s: float) -> T:
    """Tries until the attempt gives a value.

    Raises WorkFailed at the deadline, with the last WorkFailed of the attempt as its reason.
    """
    until = time.monotonic() + deadline_s
    reason = "nothing answered"
    while True:
        try:
            value = attempt()
        except WorkFailed as failure:
            value, reason = None, str(failure)
        if value is not None:
            return value
        if time.monotonic() > until:
            raise WorkFailed(f"{what}: not within {deadline_s:.0f} s: {reason}")
        time.sleep(INTERVAL_S)
