"""Waiting ends with the value, or with the last error."""

from collections.abc import Callable

import pytest

from lab.errors import LabError
from lab.polling import until


def failing(times: int) -> Callable[[], str]:
    errors = [LabError("pc2", f"try {number}", "wait") for number in range(times)]

    def attempt() -> str:
        if errors:
            raise errors.pop(0)
        return "here"

    return attempt


def test_the_first_success_is_returned() -> None:
    assert until("pc2", failing(2), timeout_s=60, next_step="look", interval_s=0) == "here"


def test_the_deadline_carries_the_last_error_and_the_next_step() -> None:
    with pytest.raises(LabError, match=r"pc2: not after 0 s; .* try 0\n  next: look"):
        until("pc2", failing(5), timeout_s=0, next_step="look", interval_s=0)
