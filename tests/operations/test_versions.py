"""Updates that the Swarm overtakes with its own notes, or somebody else with another spec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import docker.errors
import pytest
from requests import Response

from operations.failed import WorkFailed
from operations.swarm.versions import update_latest

OVERTAKEN = "rpc error: code = Unknown desc = update out of sequence"


def refusal(said: str) -> docker.errors.APIError:
    answer = Response()
    answer.status_code = 500
    return docker.errors.APIError("refused", answer, said)


def versions(*specs: str) -> Iterator[dict[str, Any]]:
    """The object as it is read, one time after the other."""
    for index, spec in enumerate(specs):
        yield {"Version": {"Index": index}, "Spec": {"Name": spec}}


class Store:
    """Takes an update that names this version, and refuses any other."""

    def __init__(self, newest: int) -> None:
        self.newest = newest
        self.written: list[int] = []

    def write(self, current: Mapping[str, Any]) -> None:
        index = current["Version"]["Index"]
        if index != self.newest:
            raise refusal(OVERTAKEN)
        self.written.append(index)


def test_an_update_that_the_swarm_overtook_is_made_from_the_newer_version() -> None:
    read, store = versions("a", "a", "a", "a"), Store(newest=2)
    update_latest("it", lambda: next(read), store.write)
    assert store.written == [2]


def test_an_update_that_nobody_overtook_reads_once() -> None:
    read, store = versions("a"), Store(newest=0)
    update_latest("it", lambda: next(read), store.write)
    assert store.written == [0]


def test_what_somebody_else_has_changed_is_not_written_over() -> None:
    read, store = versions("a", "b", "b"), Store(newest=1)
    with pytest.raises(WorkFailed, match="it: somebody else has just changed it: run again"):
        update_latest("it", lambda: next(read), store.write)
    assert store.written == []


def test_any_other_refusal_ends_it_at_once() -> None:
    read = versions("a")

    def write(_: Mapping[str, Any]) -> None:
        raise refusal("no suitable port")

    with pytest.raises(docker.errors.APIError, match="no suitable port"):
        update_latest("it", lambda: next(read), write)
