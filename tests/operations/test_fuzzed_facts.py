"""Hosts that answer anything: what cannot be understood is unknown, and every report can be shown."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from pyinfra.api.exceptions import FactProcessError

from cascade.documents import PlanDocument, json_of
from cascade.model.fleet import Fleet
from cascade.plan_report import plan_document, plan_lines
from cascade.planning.plan import Plan, make_plan
from cascade.planning.preflight import Finding
from cascade.planning.target import Target, target_of
from cascade.planning.understood import NotUnderstood, plain, understood
from operations.snapshot import Snapshot
from tests.hostile import GONE, VALUES, Place, bounded_time, changed, nested, places
from tests.operations.conftest import LocalRun, Snapshots

GROUPS = ("cascade-audio-realtime", "cascade-pc2-core")
# In one turn a place meets every fourth value, and the next place the values after those.
STRIDE = 4


@pytest.fixture(scope="session")
def target(fleet: Fleet) -> Target:
    """A group of host containers, and one of services."""
    phases = tuple((group,) for group in GROUPS)
    few = replace(
        fleet,
        settings=fleet.settings.model_copy(update={"phases": phases}),
        groups={name: group for name, group in fleet.groups.items() if name in GROUPS},
    )
    return target_of(few)


@pytest.fixture(scope="session")
def hosts(captured: dict[str, str]) -> Snapshots:
    """What the hosts said when all was well, of a few things of each kind."""
    found: Snapshots = json.loads(captured["converged"])
    for snapshot in found.values():
        engine = snapshot["docker"]
        engine["containers"] = engine["containers"][:2]
        services = [item for item in engine.get("services", ()) if item["Spec"]["Name"].startswith(GROUPS)]
        kept = {item["ID"] for item in services[:2]}
        for name in ("tasks", "running"):
            engine[name] = [task for task in engine.get(name, ()) if task["ServiceID"] in kept]
        if "services" in engine:
            engine["services"] = services[:2]
    return found


def said(snapshots: Snapshots, target: Target) -> Plan:
    """The plan of what hosts said, as far as it can be understood."""
    with bounded_time():
        return make_plan(target, {name: understood(each) for name, each in snapshots.items()}, ())


def assert_can_be_shown(lines: Iterable[str]) -> None:
    for line in lines:
        assert line.isprintable(), repr(line)


def test_what_hosts_say_is_left_as_it_is(captured: dict[str, str]) -> None:
    for snapshots in map(json.loads, captured.values()):
        assert {name: understood(each) for name, each in snapshots.items()} == snapshots


@pytest.mark.parametrize(
    "turn", [0, *(pytest.param(turn, marks=pytest.mark.long) for turn in range(1, STRIDE))]
)
def test_a_place_of_an_answer_may_hold_anything(turn: int, hosts: Snapshots, target: Target) -> None:
    values = [*VALUES.values()]
    for number, place in enumerate(places([*hosts.values()])):
        host = [*hosts][int(place[0])]
        for value in values[(number + turn) % STRIDE :: STRIDE]:
            with changed(hosts[host], place[1:], value) if place[1:] else changed(hosts, (host,), value):
                assert_refused_or_planned(hosts, target, place)


def assert_refused_or_planned(hosts: Snapshots, target: Target, place: Place) -> None:
    try:
        plan = said(hosts, target)
        document = plan_document(plan, "inventories/lab.py")
        lines, text = [*plan_lines(document)], json_of(PlanDocument, document)
    except NotUnderstood as fault:
        lines, text = [str(fault)], ""
    except Exception as fault:
        raise AssertionError(f"{place}: {fault!r}") from fault
    assert_can_be_shown([*lines, *text.splitlines()])


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (math.nan, "nan is no number"),
        (math.inf, "inf is no number"),
        ("\ud800", r"'\\ud800' holds half a sign"),
        ({"a\udfff": 1}, "holds half a sign"),
        (nested(51), "it is nested too deeply"),
    ],
)
def test_no_answer_holds_what_no_report_can_show(value: Any, why: str) -> None:
    with pytest.raises(NotUnderstood, match=why):
        plain({"probes": [value]})


def test_an_answer_as_deep_as_any_is_understood() -> None:
    assert plain(nested(40)) == nested(40)


@pytest.mark.parametrize("part", ["packages", "sysctls", "files", "units", "docker"])
def test_an_answer_without_one_of_its_parts_is_none(part: str, hosts: Snapshots) -> None:
    with changed(hosts["pc2"], (part,), GONE), pytest.raises(NotUnderstood, match=f"it has no {part}"):
        understood(hosts["pc2"])


@pytest.mark.parametrize(
    ("place", "value", "what", "reason"),
    [
        (("docker", "api"), "one", "Docker engine", "api is 'one', not a version"),
        (
            ("docker", "services", 0, "Spec", "Name"),
            5,
            "Docker engine",
            "services[0].Spec.Name is 5, not a text",
        ),
        (("docker", "nodes", 0, "ID"), GONE, "Docker engine", "nodes[0].ID is missing"),
        (("units", "docker.service"), [], "unit docker.service", "it is a list, not a map"),
        (("units",), [], "units", "what was read is a list, not a map"),
        (("sysctls", "net.core.somaxconn"), True, "sysctl net.core.somaxconn", "it is true, not a text"),
    ],
)
def test_a_part_that_is_not_what_it_should_be_is_unknown_and_says_why(
    place: Place, value: Any, what: str, reason: str, hosts: Snapshots, target: Target
) -> None:
    with changed(hosts["mainpc"], place, value):
        (unknown,) = said(hosts, target).unknown
    assert (unknown.host, unknown.what) == ("mainpc", what)
    assert unknown.reason.endswith(reason)


def packed(text: bytes) -> list[str]:
    """What a host would send."""
    return [base64.b64encode(zlib.compress(text)).decode()]


def refusal(output: list[str]) -> str:
    """Why a host's output is no snapshot."""
    with bounded_time(), pytest.raises(FactProcessError) as refused:
        Snapshot().process(output)
    return str(refused.value)


def test_what_a_host_sends_is_read_as_far_as_it_is_there(hosts: Snapshots) -> None:
    (whole,) = packed(json.dumps(hosts["mainpc"]).encode())
    assert Snapshot().process([whole]) == hosts["mainpc"]
    for length in range(0, len(whole), len(whole) // 50):
        assert refusal([whole[:length]]).isprintable()


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ([], "cut off"),
        (["\x1b[2J"], "answer cannot be understood"),
        (["no base64!"], "answer cannot be understood"),
        (packed(b"{"), "answer cannot be understood"),
        (packed(b"\xff\xfe"), "answer cannot be understood"),
        (packed(b"NaN"), "nan is no number"),
        (packed(b"[1e999]"), "inf is no number"),
        (packed(b"1" * 5000), "answer cannot be understood"),
        (packed(b"[" * 100_000 + b"]" * 100_000), "answer cannot be understood"),
        (packed(b"null"), "it is no map"),
        (packed(b" " * (65 * 1024 * 1024)), "more than 67108864 bytes"),
    ],
)
def test_what_is_no_answer_is_refused_in_bounded_time_and_memory(output: list[str], why: str) -> None:
    said = refusal(output)
    assert why in said
    assert said.isprintable()


def test_warnings_steer_no_terminal(run: LocalRun, caplog: pytest.LogCaptureFixture) -> None:
    steering = str(VALUES["escape sequences"])
    run._heed([Finding("mainpc", "kernel", "warning", f"it is {steering}", f"mend {steering}")])
    (said,) = caplog.messages
    assert "it is \\x1b[2J" in said
    assert_can_be_shown([said])
