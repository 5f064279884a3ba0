"""Secrets on captured hosts: what a plan does about them, what of them is posted, and what stays or goes."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pyinfra.api.host import Host

from cascade.model.agent import Agent
from cascade.model.fleet import Fleet
from cascade.model.options import Options
from cascade.model.secrets import SecretSource, SecretUse
from cascade.planning.desired import UNSEALING_FILES, UNSEALING_UNIT
from cascade.planning.diff import Change
from cascade.planning.observed import observe
from cascade.planning.plan import Plan, make_plan
from cascade.planning.release import Release, encoded, merged, needs, target_document, target_in
from cascade.planning.removal import PRUNABLE
from cascade.planning.resource import Key
from cascade.planning.steps import Record
from cascade.planning.target import Target, target_of
from cascade.secrets.store import Opened
from cascade.secrets.value import Value
from operations.failed import WorkFailed
from operations.host import secrets as on_hosts
from operations.host.secrets import keep_secret
from operations.look import files_as_read, release_read
from operations.releases import record
from operations.swarm.objects import create_secret
from operations.swarm.removal import remove
from operations.swarm.workloads import apply_service
from tests.operations.conftest import LocalRun, Snapshots
from tests.operations.deployed import deploy_agents, said
from tests.operations.engine import Engine
from tests.operations.test_configs import AUXILIARY, CREATED, asked
from tests.operations.test_part_of_the_fleet import AUDIO, choosing
from tests.operations.test_plan import WAKE_WORD

OLD, NEW = {"tint": "0" * 12}, {"tint": "f" * 12}
OLD_NAME, NEW_NAME = f"cascade_tint-{OLD['tint']}", f"cascade_tint-{NEW['tint']}"
OLD_PLACE, NEW_PLACE = f"{WAKE_WORD}/{OLD_NAME}", f"{WAKE_WORD}/{NEW_NAME}"
LABELS = {"cascade.system": "cascade", "cascade.secret": "tint"}
CANARY = b"\0\xff'; touch x\n"


def reading(fleet: Fleet, digits: dict[str, str], *groups: str) -> Fleet:
    """The fleet with groups of which one agent reads a secret at /etc/tint, and with these values open."""
    found = dict(fleet.groups)
    for group in groups:
        use = SecretUse(source="tint", target="/etc/tint", mode=0o440, uid="7")
        services = {
            key: service.model_copy(update={"agents": _first_reading(service.agents, use)})
            for key, service in found[group].services.items()
        }
        secrets = {"tint": SecretSource(external=True)}
        found[group] = found[group].model_copy(update={"services": services, "secrets": secrets})
    return Fleet(fleet.settings, fleet.hosts, found, digits=digits)


def _first_reading(agents: tuple[Agent, ...], use: SecretUse) -> tuple[Agent, ...]:
    reading = next((agent for agent in agents if agent.name == "WakeWordDetector"), agents[0])
    return tuple(
        agent.model_copy(update={"secrets": (use,)}) if agent is reading else agent for agent in agents
    )


def file_reading(mode: str = "440", sealed: bool = True, in_place: bool = True) -> dict[str, Any]:
    return {"mode": mode, "owner": "7", "group": "0", "sealed": sealed, "in_place": in_place}


def deployed(snapshots: Snapshots, target: Target) -> Snapshots:
    """What the hosts say once this target is deployed, as far as secrets go."""
    manager = snapshots["mainpc"]["docker"]
    for item in target.resources:
        fields, there = item.fields, snapshots[item.key.host]
        if item.key.kind == "secret":
            manager.setdefault("secrets", []).append(
                {"ID": f"id-of-{item.key.name}", "Name": item.key.name, "Labels": dict(fields["labels"])}
            )
        if item.key.kind == "secret-file":
            there.setdefault("secret_files", {})[item.key.name] = file_reading()
        if item.key.kind == "file" and item.key.name in UNSEALING_FILES:
            told = {name: fields[name] for name in ("content", "mode", "owner", "group")}
            there["files"][item.key.name] = {**told, "sha256": "", "changed": 0.0}
        if item.key.kind == "unit" and item.key.name == UNSEALING_UNIT:
            there["units"][item.key.name] = {"enabled": True, "active": True, "state": ""}
    deploy_agents(manager, target, "Secret")
    return snapshots


def keys(plan: Plan, kind: str) -> list[Key]:
    return [change.key for change in plan.changes if change.key.kind == kind]


@pytest.fixture
def old(fleet: Fleet) -> Fleet:
    return reading(fleet, OLD, AUDIO, AUXILIARY)


@pytest.fixture
def new(fleet: Fleet) -> Fleet:
    return reading(fleet, NEW, AUDIO, AUXILIARY)


def test_first_secrets_are_made_before_their_readers_change(old: Fleet, converged: Snapshots) -> None:
    plan = make_plan(target_of(old), converged)
    assert [step.name for step in plan.steps["secrets"]] == [
        *(f"create file {path}" for path in UNSEALING_FILES),
        f"create unit {UNSEALING_UNIT}",
        f"create secret {OLD_NAME}",
        f"create secret-file {OLD_PLACE}",
    ]
    assert list(plan.steps).index("secrets") < list(plan.steps).index("rollout")
    assert plan.refused == ()


def test_what_is_deployed_needs_no_change_and_no_release(old: Fleet, converged: Snapshots) -> None:
    target = target_of(old)
    plan = make_plan(target, deployed(converged, target))
    assert (said(plan), plan.unwanted, plan.refused) == ([], (), ())


def test_another_value_is_for_its_readers_alone(old: Fleet, new: Fleet, converged: Snapshots) -> None:
    plan = make_plan(target_of(new), deployed(converged, target_of(old)))
    readers = {
        found.name for group in (AUDIO, AUXILIARY) for found in new.workloads[group] if found.secret_files
    }
    changed = {key.name for kind in ("service", "container") for key in keys(plan, kind)}
    assert changed == readers
    assert keys(plan, "secret") == [Key("mainpc", "secret", NEW_NAME)]
    assert f"create secret-file {NEW_PLACE} on mainpc" in said(plan)
    assert f"remove secret-file {OLD_PLACE} on mainpc" in said(plan)


def test_a_service_that_reads_another_secret_under_the_name_is_updated(
    old: Fleet, converged: Snapshots
) -> None:
    target = target_of(old)
    there = deployed(converged, target)
    reader = next(
        service["Spec"]["TaskTemplate"]["ContainerSpec"]["Secrets"][0]
        for service in there["mainpc"]["docker"]["services"]
        if service["Spec"]["TaskTemplate"]["ContainerSpec"].get("Secrets")
    )
    reader["SecretID"] = "somebody's"
    (change,) = make_plan(target, there).changes
    (field,) = change.fields
    assert (field.observed, field.desired) == (f"{OLD_NAME} (not Cascade's)", OLD_NAME)


def test_nothing_of_a_value_is_in_a_release_or_a_saved_plan(old: Fleet) -> None:
    target = target_of(old)
    (item,) = (item for item in target.resources if item.key.kind == "secret")
    assert item.fields == {"labels": LABELS, "stored": "tint"}
    document = json.dumps(target_document(target))
    assert "stored" not in document
    assert OLD_NAME in document
    assert encoded(target)


def test_a_release_needs_its_secrets_on_the_swarm_and_on_the_hosts(old: Fleet) -> None:
    found = {key for key in needs(target_of(old)) if key.kind.startswith("secret")}
    assert found == {Key("mainpc", "secret", OLD_NAME), Key("mainpc", "secret-file", OLD_PLACE)}


def released(target: Target, files: Target) -> Target:
    return target_in(target_document(target), "release 1", files)


def test_a_system_without_secrets_is_as_it_was(fleet: Fleet, converged: Snapshots) -> None:
    target = target_of(fleet)
    assert not [item for item in target.resources if item.stage == "secrets"]
    assert make_plan(target, converged).changes == ()


def test_an_older_release_has_its_values_back_from_the_hosts(
    old: Fleet, new: Fleet, converged: Snapshots
) -> None:
    there = deployed(converged, target_of(old))
    plan = make_plan(released(target_of(old), target_of(new)), there)
    assert (said(plan), plan.refused) == ([], ())


def test_an_older_release_needs_no_value_open(old: Fleet, new: Fleet, converged: Snapshots) -> None:
    there = deployed(converged, target_of(new))
    keep_release(there, f"mainpc/secret/{OLD_NAME}", f"mainpc/secret-file/{OLD_PLACE}")
    release = released(target_of(old), target_of(replace(new, digits={})))
    there = deployed(there, release)
    there["mainpc"]["secret_files"][OLD_PLACE] = file_reading(in_place=False)
    plan = make_plan(release, there)
    assert f"update secret-file {OLD_PLACE} on mainpc" in said(plan)
    assert plan.refused == ()
    there["mainpc"]["docker"]["secrets"] = []
    (refused,) = make_plan(release, there).refused
    assert refused.startswith(f"secret {OLD_NAME} on mainpc is not there")


BRINGS_BACK = ("brings back older values of: tint",)


@pytest.mark.parametrize("group", [AUDIO, AUXILIARY])
@pytest.mark.parametrize(
    ("options", "today", "notes"),
    [
        ({"rollback": "1"}, NEW, BRINGS_BACK),
        ({"rollback": "1"}, OLD, ()),
        ({"rollback": "1"}, {}, ()),
        ({"repair": "all"}, NEW, ()),
    ],
    ids=["replaced", "the same", "not open", "repaired"],
)
def test_going_back_says_which_values_come_back_that_the_files_have_replaced(
    options: dict[str, str],
    today: dict[str, str],
    notes: tuple[str, ...],
    group: str,
    fleet: Fleet,
    run: LocalRun,
    converged: Snapshots,
) -> None:
    target, files = (target_of(reading(fleet, digits, group)) for digits in (OLD, today))
    run.fleet = replace(fleet, options=Options.model_validate(options))
    of_release = Release(1, "", "", "", False, "deploy", target.digest)
    data = base64.b64encode(encoded(target)).decode()
    there = {"mainpc": {"docker": {"release": {"Labels": of_release.labels(target), "Data": data}}}}
    _, going_back_to = release_read(run, there, files, "1")
    assert make_plan(going_back_to, converged).notes == notes
    assert make_plan(going_back_to, deployed(converged, target)).notes == ()


@pytest.mark.parametrize("gone", ["secret", "secret-file"])
def test_a_release_whose_value_is_gone_for_good_is_refused(
    gone: str, old: Fleet, new: Fleet, converged: Snapshots
) -> None:
    there = deployed(converged, target_of(old))
    if gone == "secret":
        there["mainpc"]["docker"]["secrets"] = []
    else:
        there["mainpc"]["secret_files"][OLD_PLACE] = file_reading(sealed=False)
    key = Key("mainpc", gone, OLD_NAME if gone == "secret" else OLD_PLACE)  # type: ignore[arg-type]
    (refused,) = make_plan(released(target_of(old), target_of(new)), there).refused
    assert refused.startswith(f"{key} is not there, and the files have no such value: choose a release")
    assert make_plan(released(target_of(old), target_of(old)), there).refused == ()


@pytest.mark.parametrize("found", [file_reading(in_place=False), file_reading(mode="644")])
def test_a_file_in_memory_is_put_right_without_its_value(
    found: dict[str, Any], old: Fleet, new: Fleet, converged: Snapshots
) -> None:
    there = deployed(converged, target_of(old))
    there["mainpc"]["secret_files"][OLD_PLACE] = found
    plan = make_plan(released(target_of(old), target_of(new)), there)
    assert said(plan) == [f"update secret-file {OLD_PLACE} on mainpc"]
    assert plan.refused == ()


def test_what_could_not_be_read_is_unknown(old: Fleet, converged: Snapshots) -> None:
    target = target_of(old)
    there = deployed(converged, target)
    there["mainpc"]["secret_files"][OLD_PLACE] = {"error": "Timeout"}
    (unknown,) = make_plan(target, there).unknown
    assert str(unknown) == f"mainpc: secret-file {OLD_PLACE}: Timeout"


def release_labels(number: int, *needed: str) -> dict[str, str]:
    return {
        "cascade.system": "cascade",
        "cascade.release": str(number),
        "cascade.digest": "0",
        "cascade.needs": " ".join(needed),
    }


def keep_release(snapshots: Snapshots, *needed: str) -> None:
    config = {"ID": "r", "Name": "release", "Labels": release_labels(1, *needed), "sha256": ""}
    snapshots["mainpc"]["docker"]["configs"].append(config)


def test_what_only_an_older_release_needs_stays(old: Fleet, new: Fleet, converged: Snapshots) -> None:
    there = deployed(deployed(converged, target_of(old)), target_of(new))
    keep_release(there, f"mainpc/secret/{OLD_NAME}", f"mainpc/secret-file/{OLD_PLACE}")
    plan = make_plan(target_of(new), there)
    assert (said(plan), plan.unwanted) == ([], ())


def test_what_no_release_needs_goes(old: Fleet, new: Fleet, converged: Snapshots) -> None:
    there = deployed(deployed(converged, target_of(old)), target_of(new))
    plan = make_plan(target_of(new), there)
    assert said(plan) == [f"remove secret-file {OLD_PLACE} on mainpc"]
    assert [change.key.name for change in plan.unwanted] == [OLD_NAME]
    pruned = make_plan(target_of(new), there, PRUNABLE)
    assert f"remove secret {OLD_NAME} on mainpc" in said(pruned)


def test_where_the_swarm_may_take_a_service_back_to_a_secret_it_stays(
    old: Fleet, new: Fleet, converged: Snapshots
) -> None:
    there = deployed(deployed(converged, target_of(old)), target_of(new))
    before = {"ContainerSpec": {"Secrets": [{"SecretName": OLD_NAME, "SecretID": "1"}]}}
    there["mainpc"]["docker"]["services"][0]["PreviousSpec"] = {"TaskTemplate": before}
    assert make_plan(target_of(new), there).unwanted == ()


def test_files_of_another_system_stay(old: Fleet, converged: Snapshots) -> None:
    target = target_of(old)
    there = deployed(converged, target)
    there["mainpc"]["secret_files"]["theirs_one/other_tint-000000000000"] = file_reading()
    assert said(make_plan(target, there)) == []


def test_a_run_about_another_group_keeps_the_secrets_in_its_release(old: Fleet, converged: Snapshots) -> None:
    whole = target_of(old)
    there = deployed(converged, whole)
    part = target_of(replace(choosing(old, group=("cascade-core",)), digits=OLD))
    assert not [item for item in part.resources if item.key.kind.startswith("secret")]
    recorded = merged(part, observe(part, there), whole)
    assert recorded.digest == whole.digest


class Keeping(LocalRun):
    """A run with this value open."""

    opened = Opened({"tint": Value(CANARY)}, Value(b"k" * 32))


def change(kind: str, name: str, action: str = "create", **desired: Any) -> Change:
    return Change(Key("mainpc", kind, name), action, (), desired)  # type: ignore[arg-type]


def test_a_secret_is_created_with_its_bytes_and_labels(run: LocalRun, host: Host, engine: Engine) -> None:
    run.opened = Keeping.opened
    engine.answers = {"/v1.44/secrets/create": CREATED}
    create_secret(run, host, change("secret", OLD_NAME, labels=LABELS, stored="tint"))
    (call,) = engine.asked
    assert call.body == {"Name": OLD_NAME, "Data": base64.b64encode(CANARY).decode(), "Labels": LABELS} | {
        key: value for key, value in call.body.items() if key == "Driver"
    }


def test_a_secret_gets_its_labels_back(run: LocalRun, host: Host, engine: Engine) -> None:
    found = {"ID": "s1", "Version": {"Index": 17}, "Spec": {"Name": OLD_NAME, "Labels": {"mine": "yes"}}}
    engine.answers = {
        f"/v1.44/secrets/{OLD_NAME}": found,
        "/v1.44/secrets/s1/update": b"HTTP/1.0 200 OK\r\n\r\n",
    }
    create_secret(run, host, change("secret", OLD_NAME, "update", labels=LABELS))
    posted = engine.asked[-1]
    assert str(posted) == "POST /v1.44/secrets/s1/update"
    assert "version=17" in posted.path
    assert posted.body == {"Name": OLD_NAME, "Labels": LABELS}


def test_a_secret_that_is_gone_already_is_removed(run: LocalRun, host: Host, engine: Engine) -> None:
    engine.answers = {f"/v1.44/secrets/{OLD_NAME}": b'HTTP/1.0 404 Not Found\r\n\r\n{"message": "gone"}'}
    remove(run, host, (change("secret", OLD_NAME, "remove"),))
    assert asked(engine) == [f"DELETE /secrets/{OLD_NAME}"]


def service_change(fleet: Fleet) -> Change:
    item = next(
        item
        for item in target_of(fleet).resources
        if item.key.kind == "service" and item.key.name.startswith(f"{AUXILIARY}_")
    )
    return Change(item.key, "create", (), item.fields)


def test_a_service_is_posted_with_the_ids_of_its_secrets(
    old: Fleet, run: LocalRun, host: Host, engine: Engine
) -> None:
    wanted = service_change(old)
    others = [{"ID": "s1", "Spec": {"Name": OLD_NAME}}, {"ID": "s0", "Spec": {"Name": f"{OLD_NAME}0"}}]
    engine.answers = {"/v1.44/secrets": others, "/v1.44/services/create": CREATED}
    apply_service(run, host, wanted)
    (posted,) = (call.body for call in engine.asked if str(call).endswith("/services/create"))
    use = {"Name": "/etc/tint", "UID": "7", "GID": "0", "Mode": 0o440}
    assert posted["TaskTemplate"]["ContainerSpec"]["Secrets"] == [
        {"File": use, "SecretName": OLD_NAME, "SecretID": "s1"}
    ]


def test_a_service_whose_secret_went_meanwhile_is_not_posted(
    old: Fleet, run: LocalRun, host: Host, engine: Engine
) -> None:
    engine.answers = {"/v1.44/secrets": []}
    with pytest.raises(WorkFailed, match=f"there is no secret {OLD_NAME} any more: run again"):
        apply_service(run, host, service_change(old))
    assert asked(engine) == ["GET /secrets"]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What hosts are told to run, and on which input; they answer that it is done."""
    heard: list[tuple[str, str]] = []

    def shell(_host: Host, command: str, stdin: str = "") -> str:
        heard.append((command, stdin))
        return "{}"

    monkeypatch.setattr(on_hosts, "shell", shell)
    return heard


WANTED: dict[str, Any] = {"in_place": True, "sealed": True, "mode": "440", "owner": "7", "group": "0"}


def test_a_value_reaches_a_host_on_standard_input_alone(
    told: list[tuple[str, str]], run: LocalRun, host: Host
) -> None:
    run.opened = Keeping.opened
    keep_secret(run, host, change("secret-file", OLD_PLACE, **WANTED, stored="tint"))
    ((command, stdin),) = told
    assert command.endswith("exec python3 -IS -")
    assert base64.b64encode(CANARY).decode() in stdin


@pytest.mark.parametrize(("most", "limit"), [("unlimited", "1"), ("0", "[01]")])
def test_whoever_holds_a_value_on_a_host_leaves_no_dump(
    most: str, limit: str, told: list[tuple[str, str]], run: LocalRun, host: Host
) -> None:
    keep_secret(run, host, change("secret-file", OLD_PLACE, "update", **WANTED))
    limited = ["sh", "-c", f"ulimit -Sc {most}; ulimit -Hc {most}; {told[0][0]}"]
    script = "print(open('/proc/self/limits').read())"
    done = subprocess.run(limited, input=script, capture_output=True, text=True, check=True)
    assert re.search(rf"Max core file size +{limit} +{limit} ", done.stdout)
    assert done.stderr == ""


def test_without_the_value_at_hand_the_host_is_told_to_unseal_its_own(
    told: list[tuple[str, str]], run: LocalRun, host: Host
) -> None:
    keep_secret(run, host, change("secret-file", OLD_PLACE, "update", **WANTED))
    assert '"value": null' in told[0][1]


def test_what_a_host_cannot_do_ends_the_run_with_its_words(
    run: LocalRun, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_hosts, "shell", lambda *_: '{"error": "systemd-creds: no key"}')
    with pytest.raises(WorkFailed, match=f"mainpc: the secret {OLD_PLACE}: systemd-creds: no key"):
        keep_secret(run, host, change("secret-file", OLD_PLACE, "remove"))


Recorded = Callable[..., list[str]]


@pytest.fixture
def recorded(run: LocalRun, host: Host, engine: Engine, new: Fleet) -> Recorded:
    """Records a release beside others, of which two are kept; tells the writes."""

    def do(*releases: dict[str, str], previous: str = "") -> list[str]:
        settings = new.settings.model_copy(update={"releases_kept": 2})
        run.fleet = replace(new, settings=settings)
        before = {"ContainerSpec": {"Secrets": [{"SecretName": previous}]}} if previous else {}
        engine.answers |= {
            "/v1.44/configs": [
                {"ID": f"r{n}", "Spec": {"Name": f"r{n}", "Labels": labels}}
                for n, labels in enumerate(releases)
            ],
            "/v1.44/configs/create": CREATED,
            "/v1.44/services": [{"ID": "s", "Spec": {}, "PreviousSpec": {"TaskTemplate": before}}],
            "/v1.44/secrets": [
                {"ID": name, "Spec": {"Name": name, "Labels": labels}}
                for name, labels in (
                    (OLD_NAME, LABELS),
                    (NEW_NAME, LABELS),
                    ("by-hand", {"cascade.system": "cascade"}),
                )
            ],
        }
        record(run, host, Record(1, target_of(run.fleet)))
        return [call for call in asked(engine) if call.startswith("DELETE /secrets")]

    return do


NEEDS_OLD = release_labels(1, f"mainpc/secret/{OLD_NAME}")


def test_a_secret_goes_with_the_last_release_that_needs_it(recorded: Recorded) -> None:
    assert recorded(NEEDS_OLD, release_labels(2)) == [f"DELETE /secrets/{OLD_NAME}"]


def test_a_secret_stays_while_a_kept_release_needs_it(recorded: Recorded) -> None:
    assert recorded(NEEDS_OLD) == []


def test_a_secret_stays_while_the_swarm_may_take_a_service_back_to_it(recorded: Recorded) -> None:
    assert recorded(NEEDS_OLD, release_labels(2), previous=OLD_NAME) == []


@pytest.mark.parametrize("group", [AUDIO, AUXILIARY])
def test_who_only_looks_takes_the_values_that_agents_have_for_those_of_the_files(
    group: str, fleet: Fleet, run: LocalRun, converged: Snapshots
) -> None:
    old = reading(fleet, OLD, group)
    there = deployed(converged, target_of(old))
    run.fleet = replace(old, digits={})
    assert make_plan(target_of(run.fleet), there).changes != ()
    plan = make_plan(files_as_read(run, there), there)
    assert (said(plan), plan.refused) == ([], ())


def test_a_value_that_is_open_stands_for_itself(old: Fleet, run: LocalRun, converged: Snapshots) -> None:
    there = deployed(converged, target_of(old))
    run.fleet = replace(old, digits=NEW)
    assert files_as_read(run, there).digest == target_of(replace(old, digits=NEW)).digest


def test_who_only_looks_is_refused_nothing_for_a_value_that_nobody_has_yet(
    old: Fleet, run: LocalRun, converged: Snapshots
) -> None:
    run.fleet = replace(old, digits={})
    plan = make_plan(files_as_read(run, converged), converged)
    assert keys(plan, "secret") == [Key("mainpc", "secret", "cascade_tint-************")]
    assert plan.refused == ()
