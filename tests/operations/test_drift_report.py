"""What `cascade drift` says of captured hosts, held against a release."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from cascade.documents import DriftDocument, json_of
from cascade.drift_report import drift_document, drift_lines
from cascade.model.fleet import Fleet
from cascade.model.service import Scale
from cascade.planning.plan import make_plan
from cascade.planning.release import Release, decoded, encoded, target_in
from cascade.planning.resource import Unknown
from cascade.planning.target import Target, target_of
from tests.operations.test_drift import DAEMON, MEMORY, REGISTRY, SYSCTLS, spec, task
from tests.schemas import valid

Snapshots = dict[str, Any]
AT = "2026-11-21T15:20:00+00:00"
DOWN = Unknown("pc2", "host", "does not answer")


def release_of(target: Target, purpose: str = "deploy") -> Release:
    return Release(3, "2026-11-20T10:00:00+00:00", "owner", "0123abc", False, purpose, target.digest)


def document_of(
    fleet: Fleet,
    snapshots: Snapshots,
    *,
    files: Fleet | None = None,
    purpose: str = "deploy",
    lost: tuple[Unknown, ...] = (),
) -> DriftDocument:
    """A check of the hosts against a release of the fleet, kept and read as the manager does."""
    said = target_of(files or fleet)
    data = base64.b64encode(encoded(target_of(fleet))).decode()
    release = target_in(decoded(data), "release 3", said)
    plan = make_plan(release, snapshots, lost=lost)
    known = release_of(release, purpose)
    document = drift_document("/somewhere/inventory.py", AT, said, plan, known, lost, bool(lost))
    valid("drift", json_of(DriftDocument, document))
    return document


def with_replicas(fleet: Fleet, count: int) -> Fleet:
    """The files with another number of replicas of one agent."""
    group = fleet.groups["cascade-core"]
    service = next(iter(group.services.values()))
    name = next(iter(group.services))
    deploy = service.deploy.model_copy(update={"replicas": count})
    services = {**group.services, name: service.model_copy(update={"deploy": deploy})}
    changed = group.model_copy(update={"services": services})
    return Fleet(fleet.settings, fleet.hosts, {**fleet.groups, "cascade-core": changed}, fleet.options)


def test_a_fleet_as_the_release_says_is_in_sync(fleet: Fleet, converged: Snapshots) -> None:
    document = document_of(fleet, converged)
    assert (document.in_sync, document.exit_code, document.findings) == (True, 0, ())
    assert (document.files.differ, document.notes) == (False, ())
    assert list(drift_lines(document)) == ["release 3: in sync"]


def test_drift_is_told_by_host_and_thing(fleet: Fleet, converged: Snapshots) -> None:
    converged["pc2"]["files"][SYSCTLS].update(mode="666", owner="nobody")
    converged["mainpc"]["files"][DAEMON] = None
    spec(converged, REGISTRY)["Mode"] = {"Replicated": {"Replicas": 7}}
    task(converged, MEMORY)["ContainerSpec"]["Env"].append("DB_PASSWORD=planted")
    document = document_of(fleet, converged)
    approve = " (its repair restarts what is persistent or has a GPU: approve it)"
    assert list(drift_lines(document)) == [
        "mainpc",
        f"  + daemon-settings {DAEMON}{approve}",
        f"  ~ service {REGISTRY}",
        "      ~ replicas 7 → 1",
        f"  ~ service {MEMORY}{approve}",
        "      - env DB_PASSWORD = ***",
        "pc2",
        f"  ~ file {SYSCTLS}",
        "      ~ mode 666 → 644",
        "      ~ owner nobody → root",
        "release 3: 4 differ from it",
    ]
    assert (document.in_sync, document.exit_code) == (False, 2)
    assert "planted" not in json_of(DriftDocument, document)


def test_what_cascade_does_not_repair_says_so(fleet: Fleet, converged: Snapshots) -> None:
    converged["pc2"]["docker"]["swarm"]["NodeAddr"] = "192.0.2.7"
    document = document_of(fleet, converged)
    assert [finding.repair for finding in document.findings] == ["none"]
    assert list(drift_lines(document))[1].endswith("(Cascade does not repair it: see `cascade plan`)")


def test_files_that_differ_are_no_drift_but_are_told(fleet: Fleet, converged: Snapshots) -> None:
    document = document_of(fleet, converged, files=with_replicas(fleet, 2))
    assert (document.in_sync, document.exit_code, document.findings) == (True, 0, ())
    assert document.files.differ
    assert {(change.kind, change.action) for change in document.files.changes} == {("service", "update")}
    assert document.notes == ("the files differ from release 3: a deployment would apply them",)


def test_files_differ_too_where_only_the_rollout_of_an_agent_does(fleet: Fleet, converged: Snapshots) -> None:
    """A deployment would record a release of it."""
    group = fleet.groups["cascade-core"]
    services = {
        name: service.model_copy(update={"scale": Scale(min=1, max=5)})
        for name, service in group.services.items()
    }
    changed = group.model_copy(update={"services": services})
    files = Fleet(fleet.settings, fleet.hosts, {**fleet.groups, "cascade-core": changed}, fleet.options)
    document = document_of(fleet, converged, files=files)
    assert (document.files.differ, document.files.changes, document.exit_code) == (True, (), 0)


def test_after_a_rollback_the_newer_files_are_warned_of(fleet: Fleet, converged: Snapshots) -> None:
    document = document_of(fleet, converged, files=with_replicas(fleet, 2), purpose="rollback to 1")
    assert document.notes[-1] == (
        "release 3 is a rollback to 1, made by owner: a deployment would apply the newer files again"
    )
    assert document_of(fleet, converged, purpose="rollback to 1").notes == ()


def test_an_agent_that_the_files_no_longer_name_is_a_difference_of_the_files(
    fleet: Fleet, converged: Snapshots
) -> None:
    groups = {name: group for name, group in fleet.groups.items() if name != "cascade-pc2-apps"}
    phases = tuple(tuple(name for name in phase if name in groups) for phase in fleet.settings.phases)
    settings = fleet.settings.model_copy(update={"phases": tuple(filter(None, phases))})
    document = document_of(fleet, converged, files=Fleet(settings, fleet.hosts, groups, fleet.options))
    gone = {change.name for change in document.files.changes if change.action == "remove"}
    assert len([name for name in gone if name.startswith("cascade-pc2-apps_")]) == 17
    assert document.exit_code == 0


def test_a_host_that_is_down_is_named_beside_what_was_found(fleet: Fleet, converged: Snapshots) -> None:
    converged["mainpc"]["packages"]["curl"] = None
    document = document_of(fleet, {"mainpc": converged["mainpc"]}, lost=(DOWN,))
    assert [finding.name for finding in document.findings] == ["curl"]
    assert [unknown.host for unknown in document.unknown] == ["pc2"]
    assert (document.in_sync, document.exit_code) == (False, 6)
    assert list(drift_lines(document))[-1] == "release 3: 1 differs from it, 1 unknown"


def test_what_cannot_be_read_is_worse_than_drift(fleet: Fleet, converged: Snapshots) -> None:
    converged["mainpc"]["packages"]["curl"] = None
    converged["pc2"]["packages"] = {"error": "PermissionError"}
    document = document_of(fleet, converged)
    assert [finding.name for finding in document.findings] == ["curl"]
    assert [unknown.what for unknown in document.unknown] == ["packages"]
    assert (document.in_sync, document.exit_code) == (False, 1)


@pytest.mark.parametrize(("unreachable", "code"), [(True, 6), (False, 1)])
def test_without_a_release_nothing_is_compared(fleet: Fleet, unreachable: bool, code: int) -> None:
    unknown = [Unknown("mainpc", "release", "no release is recorded: deploy first")]
    document = drift_document("x", AT, target_of(fleet), None, None, unknown, unreachable)
    valid("drift", json_of(DriftDocument, document))
    assert (document.release, document.findings, document.in_sync) == (None, (), False)
    assert document.exit_code == code
    assert list(drift_lines(document)) == [
        "unknown",
        "  mainpc: release: no release is recorded: deploy first",
        "no known release: 1 unknown",
    ]


def test_an_unwanted_object_is_drift(fleet: Fleet, converged: Snapshots) -> None:
    volume = {"Name": "left-over", "Driver": "local", "Labels": {"cascade.system": "cascade"}}
    converged["pc2"]["docker"]["volumes"].append(volume)
    document = document_of(fleet, converged)
    assert [(item.host, item.name) for item in document.unwanted] == [("pc2", "left-over")]
    assert (document.in_sync, document.exit_code) == (False, 2)


def test_a_count_within_its_range_is_no_drift(fleet: Fleet, converged: Snapshots) -> None:
    member = next(member for member in target_of(fleet).members if member.scale)
    assert member.scale
    for count, code in ((member.scale[0], 0), (member.scale[1], 0), (member.scale[1] + 1, 2)):
        spec(converged, member.name)["Mode"] = {"Replicated": {"Replicas": count}}
        assert document_of(fleet, converged).exit_code == code
