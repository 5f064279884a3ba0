"""What fails is replaced or started again, and no fault; what fails again and again is."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.verify.tasks import failing as failing_on
from tests.verify.tasks import keeps_falling

TEMPLATE = {"ContainerSpec": {"Image": "sha256:1"}, "ForceUpdate": 0, "Runtime": "container"}
OWN = {"ContainerSpec": {"Image": "sha256:1"}, "ForceUpdate": 0}
OLD = {"ContainerSpec": {"Image": "sha256:0"}, "ForceUpdate": 0}


def failing(tasks: list[Any], template: Any, now: str, **engines: float) -> list[Any]:
    return failing_on(tasks, template, now, engines)


def at(second: int) -> str:
    """As the engine writes it, with nine digits."""
    return f"2026-11-22T10:20:{second:02d}.275725435Z"


def task(created: int, state: str, since: int, slot: int = 1, spec: Any = OWN) -> dict[str, Any]:
    status = {"State": state, "Timestamp": at(since)}
    return {"Slot": slot, "Spec": spec, "CreatedAt": at(created), "Status": status}


def test_nothing_fails_where_nothing_has_failed() -> None:
    assert failing([task(0, "running", 1), task(0, "shutdown", 1)], TEMPLATE, at(9)) == []


def test_one_task_that_failed_and_was_replaced_is_no_fault() -> None:
    assert failing([task(0, "failed", 5), task(6, "running", 7)], TEMPLATE, at(7)) == []


def test_a_task_that_failed_is_a_fault_until_another_one_runs_in_its_place() -> None:
    failed = task(5, "rejected", 6)
    assert failing([failed], TEMPLATE, at(9)) == [failed]
    assert failing([failed, task(7, "starting", 8)], TEMPLATE, at(9)) == [failed]
    assert failing([failed, task(7, "running", 8, slot=2)], TEMPLATE, at(9)) == [failed]
    assert failing([failed, task(0, "running", 1)], TEMPLATE, at(9)) == [failed]


def test_after_several_the_one_that_runs_has_to_outlive_the_shortest() -> None:
    several = [task(0, "failed", 10), task(11, "failed", 16)]
    assert failing([*several, task(17, "running", 18)], TEMPLATE, at(21)) == several
    assert failing([*several, task(17, "running", 18)], TEMPLATE, at(23)) == []


def test_what_failed_by_another_spec_is_gone_with_it() -> None:
    assert failing([task(0, "failed", 1, spec=OLD), task(2, "failed", 3, spec=OLD)], TEMPLATE, at(9)) == []


def test_the_task_of_every_host_is_in_one_place() -> None:
    failed = {**task(0, "failed", 1)}
    del failed["Slot"]
    assert failing([failed], TEMPLATE, at(9)) == [failed]


def test_what_ended_with_its_engine_did_not_fail_by_itself() -> None:
    several = [{**task(0, "failed", 10), "NodeID": "n"}, {**task(11, "failed", 16), "NodeID": "n"}]
    running = {**task(17, "running", 18), "NodeID": "n"}
    began = datetime.fromisoformat(at(16)).timestamp()
    assert failing([*several, running], TEMPLATE, at(21), n=began) == []
    assert failing([*several, running], TEMPLATE, at(21), other=began) == several
    assert failing([*several, running], TEMPLATE, at(21), n=began - 6) == []
    late = {**task(17, "failed", 19), "NodeID": "n"}
    assert failing([*several, late], TEMPLATE, at(21), n=began) == [late]


def container(restarts: int, created: int, finished: int, started: int) -> dict[str, Any]:
    state = {"FinishedAt": at(finished), "StartedAt": at(started)}
    return {"RestartCount": restarts, "Created": at(created), "State": state}


NEVER = "0001-01-01T00:00:00Z"


def test_a_container_that_never_fell_or_fell_once_and_runs_is_no_fault() -> None:
    new = {**container(0, 0, 0, 1), "State": {"FinishedAt": NEVER, "StartedAt": at(1)}}
    assert not keeps_falling(new, at(1), 0)
    assert not keeps_falling(container(1, 0, 40, 41), at(41), 0)


def test_a_container_that_fell_often_has_to_outlive_the_average_of_those_before() -> None:
    often = container(4, 0, 20, 22)
    assert keeps_falling(often, at(26), 0)
    assert not keeps_falling(often, at(27), 0)
    assert keeps_falling(often, at(21), 0)


def test_a_container_is_counted_anew_when_its_engine_begins() -> None:
    began = datetime.fromisoformat(at(16)).timestamp()
    assert not keeps_falling(container(4, 0, 20, 22), at(23), began)
    assert keeps_falling(container(4, 0, 20, 22), at(22), began)
