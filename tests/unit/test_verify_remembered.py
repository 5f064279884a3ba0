"""What a host does not tell is remembered, and told to each test in as few words as to the first."""

from __future__ import annotations

import traceback

import pytest

from tests.verify.evidence import Remembered
from tests.verify.look import Unread


class Host:
    @Remembered
    def part(self) -> str:
        """Never read."""
        raise Unread("mainpc: engine: no such file")


def test_what_could_not_be_read_is_told_each_time_and_grows_no_longer() -> None:
    host = Host()
    lengths = []
    for _ in range(3):
        with pytest.raises(Unread, match="mainpc: engine") as told:
            _ = host.part
        lengths.append(len(traceback.extract_tb(told.value.__traceback__)))
    assert len(set(lengths)) == 1
