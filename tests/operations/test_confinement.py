"""AppArmor on hosts: what is planned where a kernel has it, where it must, and where it has none."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import replace
from typing import Any

import pytest
from pyinfra.api.command import StringCommand

from cascade.model.fleet import Fleet
from cascade.planning.desired import (
    CONFINEMENT_FILES,
    CONFINEMENT_PACKAGE,
    CONFINEMENT_UNIT,
    DAEMON_SETTINGS,
    LOADER,
)
from cascade.planning.diff import Change
from cascade.planning.drift import repairs, restarts, restarts_engine
from cascade.planning.gpu import container_of
from cascade.planning.plan import Plan, make_plan
from cascade.planning.preflight import of_plan
from cascade.planning.resource import Key
from cascade.planning.target import Target, target_of
from operations.host.confinement import load_profile
from tests.operations.conftest import Snapshots

NOTE = "its kernel has no AppArmor, so containers there are not confined by it"
DEFAULT, AUDIO = "docker-default", "cascade.cascade-audio-realtime"


def policies(target: Target, host: str) -> dict[str, Any]:
    """What the kernel says where every profile is in force."""
    names = [key.name for key in target.wanted if (key.host, key.kind) == (host, "apparmor")]
    content = {name: target.wanted[Key(host, "file", f"/etc/apparmor.d/{name}")]["content"] for name in names}
    return {
        name: {"mode": "enforce", "file": hashlib.sha256(content[name].encode()).hexdigest()}
        for name in names
    }


@pytest.fixture
def confined(fleet: Fleet, converged: Snapshots) -> Snapshots:
    """The converged hosts as if their kernels had AppArmor, with all that Cascade has there for it."""
    target = target_of(fleet)
    for host, snapshot in converged.items():
        snapshot["apparmor"] = policies(target, host)
        snapshot["packages"][CONFINEMENT_PACKAGE] = "4.1"
        snapshot["units"][CONFINEMENT_UNIT] = {"enabled": True, "active": True, "state": ""}
        snapshot["docker"]["apparmor"] = True
        for item in target.resources:
            if item.stage == "confinement" and item.key.host == host and item.key.kind == "file":
                fields = item.fields
                told = {name: fields[name] for name in ("content", "mode", "owner", "group")}
                snapshot["files"][item.key.name] = {**told, "sha256": "", "changed": 0.0}
    return converged


def planned(fleet: Fleet, snapshots: Snapshots) -> Plan:
    return make_plan(target_of(fleet), snapshots)


def changes(plan: Plan) -> list[str]:
    return [
        f"{change.action} {change.key}" + "".join(f": {field}" for field in change.fields)
        for change in plan.changes
    ]


def requiring(fleet: Fleet, *names: str) -> Fleet:
    hosts = {
        name: host.model_copy(update={"apparmor": "required"}) if name in names else host
        for name, host in fleet.hosts.items()
    }
    return replace(fleet, hosts=hosts)


def test_where_everything_is_in_force_nothing_is_done(fleet: Fleet, confined: Snapshots) -> None:
    plan = planned(fleet, confined)
    assert (changes(plan), plan.unconfined_notes) == ([], ())


def test_a_bare_host_is_confined_before_its_engine_is_installed(fleet: Fleet, bare: Snapshots) -> None:
    for snapshot in bare.values():
        snapshot["apparmor"] = {}
    plan = planned(fleet, bare)
    stages = [stage for stage in plan.steps if stage in ("system", "confinement", "engine")]
    assert stages == ["system", "confinement", "engine"]
    assert [step.name for step in plan.steps["confinement"]] == [
        "install apparmor",
        f"create file /etc/apparmor.d/{DEFAULT}",
        f"create file /etc/apparmor.d/{AUDIO}",
        *(f"create file {path}" for path in CONFINEMENT_FILES),
        f"create apparmor {DEFAULT}",
        f"create apparmor {AUDIO}",
        f"create unit {CONFINEMENT_UNIT}",
    ]


@pytest.mark.parametrize(
    ("found", "field"),
    [
        (None, ""),
        ({"mode": "complain"}, ": mode complain → enforce"),
        ({"mode": "unconfined"}, ": mode unconfined → enforce"),
        ({"file": ""}, ": in_force False → True"),
        ({"file": hashlib.sha256(b"an earlier file").hexdigest()}, ": in_force False → True"),
    ],
)
def test_a_profile_that_is_not_in_force_is_loaded_again(
    fleet: Fleet, confined: Snapshots, found: dict[str, str] | None, field: str
) -> None:
    policy = confined["mainpc"]["apparmor"]
    policy[AUDIO] = found and policy[AUDIO] | found
    action = "update" if found else "create"
    plan = planned(fleet, confined)
    assert changes(plan) == [f"{action} apparmor {AUDIO} on mainpc{field}"]
    assert set(repairs(plan).values()) == {"automatic"}


def test_an_edited_file_is_written_and_what_was_loaded_from_the_wanted_one_stays(
    fleet: Fleet, confined: Snapshots
) -> None:
    path = f"/etc/apparmor.d/{DEFAULT}"
    confined["pc2"]["files"][path]["content"] += "# mine\n"
    assert [line.partition(":")[0] for line in changes(planned(fleet, confined))] == [
        f"update file {path} on pc2"
    ]


def test_complain_mode_changes_the_file_and_the_policy(fleet: Fleet, confined: Snapshots) -> None:
    lenient = fleet.hosts["pc2"].model_copy(update={"apparmor_mode": "complain"})
    plan = planned(replace(fleet, hosts={**fleet.hosts, "pc2": lenient}), confined)
    assert [(change.key.kind, change.key.name) for change in plan.changes] == [
        ("file", f"/etc/apparmor.d/{DEFAULT}"),
        ("apparmor", DEFAULT),
    ]
    assert [str(field) for field in plan.changes[1].fields] == [
        "in_force False → True",
        "mode enforce → complain",
    ]


def test_a_kernel_without_apparmor_needs_none_of_it_and_the_plan_says_so(
    fleet: Fleet, confined: Snapshots
) -> None:
    snapshot = confined["pc2"]
    snapshot["apparmor"] = snapshot["packages"][CONFINEMENT_PACKAGE] = None
    snapshot["units"][CONFINEMENT_UNIT] = snapshot["files"][CONFINEMENT_FILES[1]] = None
    plan = planned(fleet, confined)
    assert (changes(plan), plan.unconfined_notes) == ([], (f"pc2: {NOTE}",))


def test_a_host_that_must_have_apparmor_is_refused_without(fleet: Fleet, confined: Snapshots) -> None:
    confined["pc2"]["apparmor"] = None
    plan = planned(requiring(fleet, "mainpc", "pc2"), confined)
    (refusal,) = plan.refused
    assert refusal.startswith("pc2: its kernel has no AppArmor, which group_data requires; boot a kernel")
    (finding,) = of_plan(plan)
    assert (finding.host, finding.level) == ("pc2", "error")
    assert finding.next_step.startswith("boot a kernel")
    assert planned(fleet, confined).refused == ()


def test_that_apparmor_is_required_changes_nothing_where_it_is_there(
    fleet: Fleet, confined: Snapshots
) -> None:
    plan = planned(requiring(fleet, "mainpc", "pc2"), confined)
    assert (changes(plan), plan.refused) == ([], ())


def test_what_cannot_be_read_is_unknown(fleet: Fleet, confined: Snapshots) -> None:
    confined["mainpc"]["apparmor"] = {"error": "PermissionError: no"}
    plan = planned(fleet, confined)
    assert [str(unknown) for unknown in plan.unknown] == ["mainpc: AppArmor: PermissionError: no"]
    assert changes(plan) == []


def test_an_engine_that_began_without_apparmor_is_restarted(fleet: Fleet, confined: Snapshots) -> None:
    confined["pc2"]["docker"]["apparmor"] = False
    plan = planned(fleet, confined)
    stale = "running engine started before there was AppArmor → unset"
    assert changes(plan) == [f"update daemon-settings {DAEMON_SETTINGS} on pc2: {stale}"]
    assert restarts_engine(plan.changes[0])


def test_a_release_from_before_says_nothing_of_apparmor(fleet: Fleet, confined: Snapshots) -> None:
    confined["pc2"]["docker"]["apparmor"] = False
    confined["pc2"]["apparmor"] = dict.fromkeys(confined["pc2"]["apparmor"])
    target = target_of(fleet)
    before = replace(
        target, resources=tuple(item for item in target.resources if item.stage != "confinement")
    )
    assert make_plan(before, confined).changes == ()


@pytest.mark.parametrize("name", ["cascade.a; touch x", "cascade.$(touch x)", "-r"])
def test_a_profiles_name_reaches_the_shell_as_one_word(name: str) -> None:
    ran = []

    class Shell:
        name = "pc2"

        def run_shell_command(self, command: StringCommand, **_: Any) -> Any:
            ran.append(shlex.split(command.get_raw_value()))
            return True, type("Output", (), {"stdout": ""})

    load_profile(None, Shell(), Change(Key("pc2", "apparmor", name), "update", (), {}))  # type: ignore[arg-type]
    assert ran == [["sh", LOADER, name]]


@pytest.mark.parametrize("kind", ["service", "container"])
def test_an_agent_whose_profile_went_is_made_anew_without_being_asked(
    fleet: Fleet, confined: Snapshots, kind: str
) -> None:
    """A profile that is taken away leaves its processes free, also when it comes back."""
    key, container = next(found for found in one_of_each(confined) if found[0].kind == kind)
    confined["mainpc"]["docker"]["unconfined"] = [container]
    plan = planned(fleet, confined)
    (change,) = plan.changes
    assert change.key == key
    assert (change.action, [str(field) for field in change.fields]) == (
        "update" if kind == "service" else "replace",
        ["AppArmor unconfined → confined"],
    )
    assert any(restart.member.key == key for restart in restarts(plan))


def one_of_each(snapshots: Snapshots) -> list[tuple[Key, str]]:
    """A service and a host container, each with the ID of a container of it."""
    engine = snapshots["mainpc"]["docker"]
    task = engine["tasks"][0]
    names = {service["ID"]: service["Spec"]["Name"] for service in engine["services"]}
    alone = engine["containers"][0]["container"]
    return [
        (Key("mainpc", "service", names[task["ServiceID"]]), container_of(task)),
        (Key("mainpc", "container", alone["Name"].lstrip("/")), alone["Id"]),
    ]
