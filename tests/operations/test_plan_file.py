"""A plan in a file: it is what was planned, a damaged one is refused, and what has moved since is told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cascade.model.fleet import Fleet
from cascade.planning.plan import Plan, make_plan
from cascade.planning.plan_file import (
    NoPlan,
    PlanFile,
    SavedOptions,
    moved,
    read,
    saved,
    saved_changes,
    target_of_plan,
    written,
)
from cascade.planning.target import target_of

Snapshots = dict[str, Any]
SOMAXCONN = "net.core.somaxconn"


def plan_of(fleet: Fleet, snapshots: Snapshots) -> Plan:
    return make_plan(target_of(fleet), snapshots)


def file_of(plan: Plan) -> PlanFile:
    return saved("/somewhere/inventory.py", SavedOptions(limit=("pc2",), prune=True), plan)


@pytest.mark.parametrize("captured_as", ["bare", "converged"])
def test_a_plan_comes_out_of_its_file_as_it_went_in(
    fleet: Fleet, captured_as: str, request: pytest.FixtureRequest
) -> None:
    snapshots = request.getfixturevalue(captured_as)
    plan = plan_of(fleet, snapshots)
    again = read(written(file_of(plan)))
    assert again == file_of(plan)
    target = target_of_plan(again, target_of(fleet))
    assert (target.digest, target.waves, target.order, target.known) == (
        plan.target.digest,
        plan.target.waves,
        plan.target.order,
        plan.target.known,
    )
    now = make_plan(target, snapshots)
    assert [str(change) for change in now.changes] == [str(change) for change in plan.changes]
    assert moved(again.changes, saved_changes(now.changes)) == []


def test_it_knows_which_groups_are_to_stop(fleet: Fleet, converged: Snapshots) -> None:
    plan = plan_of(with_group_off(fleet, "cascade-pc2-apps"), converged)
    emptied = replace(target_of(fleet), order=())
    target = target_of_plan(read(written(file_of(plan))), emptied)
    assert target.order == plan.target.order
    removed = [change.key for change in make_plan(target, converged).changes if change.action == "remove"]
    assert removed == [change.key for change in plan.changes if change.action == "remove"] != []


def with_group_off(fleet: Fleet, group: str) -> Fleet:
    off = fleet.groups[group].model_copy(update={"enabled": False})
    return Fleet(fleet.settings, fleet.hosts, {**fleet.groups, group: off}, fleet.options)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no plan file: Expecting value"),
        ("[]", "is no plan file: make one"),
        ("[" * 100_000, "is no plan file"),
        ('{"format": 7}', "is of format 7, and this Cascade reads 1"),
        ('{"format": 1}', "was damaged or edited after it was made"),
    ],
)
def test_what_is_no_plan_is_refused(text: str, reason: str) -> None:
    with pytest.raises(NoPlan, match=reason):
        read(text)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("inventory",), "/somewhere/else.py"),
        (("options", "prune"), False),
        (("target", "manager"), "pc2"),
        (("changes", 0, "name"), "openssh-server"),
        (("digest",), "0" * 64),
    ],
)
def test_an_edited_file_is_refused(
    fleet: Fleet, bare: Snapshots, path: tuple[str | int, ...], value: object
) -> None:
    document = json.loads(written(file_of(plan_of(fleet, bare))))
    around: Any = document
    for step in path[:-1]:
        around = around[step]
    around[path[-1]] = value
    with pytest.raises(NoPlan, match="was damaged or edited"):
        read(json.dumps(document))


def test_a_plan_for_another_fleet_is_refused(fleet: Fleet, converged: Snapshots) -> None:
    found = file_of(plan_of(fleet, converged))
    settings = fleet.settings.model_copy(update={"system": "other"})
    other = Fleet(settings, fleet.hosts, fleet.groups, fleet.options)
    with pytest.raises(NoPlan, match="is for system cascade on mainpc, pc2 with the manager mainpc"):
        target_of_plan(found, target_of(other))


def test_what_has_moved_is_told_line_by_line(fleet: Fleet, converged: Snapshots) -> None:
    converged["pc2"]["sysctls"][SOMAXCONN] = "128"
    converged["pc2"]["packages"]["curl"] = None
    before = saved_changes(plan_of(fleet, converged).changes)
    converged["pc2"]["sysctls"][SOMAXCONN] = "256"
    converged["pc2"]["packages"]["curl"] = "8.0"
    converged["mainpc"]["sysctls"][SOMAXCONN] = None
    now = saved_changes(plan_of(fleet, converged).changes)
    assert moved(before, now) == [
        f"mainpc: create sysctl {SOMAXCONN}: is to be done now, and was not when the plan was made",
        "pc2: create package curl: is in the plan, and there is nothing to do any more",
        f"pc2: update sysctl {SOMAXCONN}: value 128 → 4096 when the plan was made, and 256 → 4096 now",
    ]


def test_a_change_that_became_another_has_moved(fleet: Fleet, converged: Snapshots) -> None:
    converged["pc2"]["sysctls"][SOMAXCONN] = "128"
    before = saved_changes(plan_of(fleet, converged).changes)
    converged["pc2"]["sysctls"][SOMAXCONN] = None
    now = saved_changes(plan_of(fleet, converged).changes)
    assert moved(before, now) == [f"pc2: update sysctl {SOMAXCONN}: would be create now"]


def test_no_secret_is_told_of_what_has_moved(fleet: Fleet, converged: Snapshots) -> None:
    spec = converged["mainpc"]["docker"]["services"][0]["Spec"]
    environment = spec["TaskTemplate"]["ContainerSpec"]["Env"]
    environment.append("API_TOKEN=first-planted-secret")
    before = saved_changes(plan_of(fleet, converged).changes)
    environment[-1] = "API_TOKEN=second-planted-secret"
    (line,) = moved(before, saved_changes(plan_of(fleet, converged).changes))
    assert line.endswith("Env.API_TOKEN *** → unset when the plan was made, and *** → unset now")
