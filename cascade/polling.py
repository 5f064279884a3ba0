"""The one way to wait for something to become true."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class NotInTime(Exception):
    """The deadline passed; the cause is the last error of the attempt."""


def until(
    attempt: Callable[[], T],
    not_yet: type[Exception],
    *,
    deadline_s: float,
    interval_s: float = 0.15,
    growth: float = 1.0,
) -> T:
    """What `attempt` returns as soon as it does not raise `not_yet`; tried at least once.

    Each interval is `growth` times as long as the one before.

    Raises NotInTime from the last error when the deadline has passed.
    """
    deadline = time.monotonic() + deadline_s
    while True:
        try:
            return attempt()
        except not_yet as error:
            if time.monotonic() >= deadline:
                raise NotInTime from error
        time.sleep(interval_s)
        interval_s *= growth
