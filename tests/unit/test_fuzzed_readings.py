"""The preflight of hosts that answer anything: what cannot be understood is an error, never a traceback."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cascade.model.fleet import Fleet
from cascade.planning.checks.subject import Facts
from cascade.planning.preflight import Finding, examine
from cascade.planning.understood import NotUnderstood, understood_preflight
from tests.hostile import GONE, VALUES, Place, bounded_time, changed, places
from tests.readings import captured_readings
from tests.unit.test_preflight import scene_of

# A place meets every fourth value, and the next place the values after those.
STRIDE = 4


@pytest.fixture(scope="module")
def facts(lab_fleet: Fleet) -> Facts:
    return scene_of(lab_fleet, "converged").facts


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """What the hosts answered when all was well, of a few things of each kind."""
    found = captured_readings("converged")
    for reading in found.values():
        reading["engine"]["containers"] = reading["engine"]["containers"][:2]
    return found


def found(facts: Facts, answers: dict[str, Any]) -> tuple[Finding, ...]:
    """What the preflight says of these answers, as far as they can be understood."""
    with bounded_time():
        readings = {name: understood_preflight(answer) for name, answer in answers.items()}
        return examine(replace(facts, readings=readings))


def test_what_hosts_answer_is_left_as_it_is(answers: dict[str, Any]) -> None:
    for reading in (*answers.values(), *captured_readings("bare").values()):
        assert understood_preflight(reading) == reading


def test_a_place_of_an_answer_may_hold_anything(facts: Facts, answers: dict[str, Any]) -> None:
    values = [*VALUES.values()]
    for number, place in enumerate(places(answers["mainpc"])):
        for value in values[number % STRIDE :: STRIDE]:
            with changed(answers["mainpc"], place, value):
                assert_refused_or_examined(facts, answers, place)


def assert_refused_or_examined(facts: Facts, answers: dict[str, Any], place: Place) -> None:
    try:
        assert found(facts, answers)
    except NotUnderstood:
        return
    except Exception as fault:
        raise AssertionError(f"{place}: {fault!r}") from fault


@pytest.mark.parametrize(
    ("place", "value", "check", "reason"),
    [
        (("memory",), "much", "reservations", "it is 'much', not a whole number"),
        (("kernel", "release"), GONE, "kernel", "release is missing"),
        (("sockets", 0, "port"), 2.5, "swarm-ports", "[0].port is 2.5, not a whole number"),
        (("disk", "/var/lib/docker"), GONE, "disk", "nothing was said of /var/lib/docker"),
    ],
)
def test_a_part_that_is_not_what_it_should_be_is_an_error_that_says_why(
    place: Place, value: Any, check: str, reason: str, facts: Facts, answers: dict[str, Any]
) -> None:
    with changed(answers["mainpc"], place, value):
        said = [each for each in found(facts, answers) if (each.host, each.check) == ("mainpc", check)]
    assert [each.level for each in said] == ["error"]
    assert said[0].message.endswith(reason)


@pytest.mark.parametrize(
    ("place", "value", "why"),
    [
        (("clock", "at"), "noon", "at is 'noon', not a number"),
        (("clock",), GONE, "it has no clock"),
        (("packages",), GONE, "it has no packages"),
    ],
)
def test_an_answer_without_its_time_or_a_part_is_none(
    place: Place, value: Any, why: str, answers: dict[str, Any]
) -> None:
    with changed(answers["pc2"], place, value), pytest.raises(NotUnderstood, match=why):
        understood_preflight(answers["pc2"])
