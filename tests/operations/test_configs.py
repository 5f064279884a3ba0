"""Configs in plans of the lab's fleet, in what engines and hosts are told, and in what hosts say."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pyinfra.api.host import Host

from cascade.model.configs import ConfigSource, ConfigUse
from cascade.model.fleet import Fleet
from cascade.planning.diff import Action, Change
from cascade.planning.plan import Plan, make_plan
from cascade.planning.release import encoded, target_document
from cascade.planning.removal import PRUNABLE
from cascade.planning.resource import Key
from cascade.planning.target import Target, target_of
from operations.run import WorkFailed
from operations.swarm.objects import create_config
from operations.swarm.workloads import apply_service
from tests.operations.conftest import LocalRun, Snapshots
from tests.operations.deployed import deploy_agents, said
from tests.operations.engine import Engine

AUDIO, AUXILIARY = "cascade-audio-realtime", "cascade-auxiliary"
FOLDER = "/var/lib/cascade/configs"
NAMED = "TaskTemplate.ContainerSpec.Configs./etc/tint.ConfigName"
RED, BLUE = b"colour: red\n", b"colour: blue\n"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def name(group: str, data: bytes) -> str:
    return f"{group}_tint-{sha(data)[:12]}"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def reading(fleet: Fleet, data: bytes, *groups: str) -> Fleet:
    """The fleet with groups whose agents all read a config of this content, at /etc/tint."""
    found = dict(fleet.groups)
    for group in groups:
        use = ConfigUse(source="tint", target="/etc/tint", mode=0o440)
        services = {
            key: service.model_copy(update={"configs": (use,)})
            for key, service in found[group].services.items()
        }
        configs = {"tint": ConfigSource(content=data.decode())}
        found[group] = found[group].model_copy(update={"services": services, "configs": configs})
    return Fleet(fleet.settings, fleet.hosts, found)


def deployed(snapshots: Snapshots, target: Target) -> Snapshots:
    """What the hosts say once this target is deployed, as far as configs go."""
    manager = snapshots["mainpc"]["docker"]
    for item in target.resources:
        fields = item.fields
        if item.key.kind == "config":
            config = {"ID": f"id-of-{item.key.name}", "Name": item.key.name}
            manager["configs"].append(
                {**config, "Labels": dict(fields["labels"]), "sha256": fields["sha256"]}
            )
        if item.key.kind == "file" and item.key.name.startswith(FOLDER):
            told = {name: fields[name] for name in ("sha256", "mode", "owner", "group")}
            snapshots[item.key.host]["files"][item.key.name] = {**told, "content": None, "changed": 0.0}
    deploy_agents(manager, target, "Config")
    return snapshots


def order(plan: Plan) -> list[str]:
    return [step.name for steps in plan.steps.values() for step in steps]


@pytest.fixture
def red(fleet: Fleet) -> Fleet:
    return reading(fleet, RED, AUDIO, AUXILIARY)


@pytest.fixture
def blue(fleet: Fleet) -> Fleet:
    return reading(fleet, BLUE, AUDIO, AUXILIARY)


def audio_file(data: bytes) -> str:
    return f"{FOLDER}/{name(AUDIO, data)}.440.0.0"


def test_a_first_config_is_made_before_its_readers_change(
    red: Fleet, fleet: Fleet, converged: Snapshots
) -> None:
    plan = make_plan(target_of(red), converged)
    made = [change for change in said(plan) if "rollout" not in change and "create" in change]
    assert made == [
        f"create config {name(AUDIO, RED)} on mainpc",
        f"create config {name(AUXILIARY, RED)} on mainpc",
        f"create file {audio_file(RED)} on mainpc",
    ]
    readers = {change.key.name for change in plan.changes if change.key.kind in ("service", "container")}
    assert readers == {workload.name for group in (AUDIO, AUXILIARY) for workload in fleet.workloads[group]}
    steps = order(plan)
    assert steps[:3] == [made_.removesuffix(" on mainpc") for made_ in made]


def test_what_was_deployed_needs_nothing_more(red: Fleet, converged: Snapshots) -> None:
    plan = make_plan(target_of(red), deployed(converged, target_of(red)))
    assert (plan.changes, plan.unknown, plan.refused) == ((), (), ())


def test_another_content_is_another_config_and_changes_its_readers_alone(
    red: Fleet, blue: Fleet, fleet: Fleet, converged: Snapshots
) -> None:
    plan = make_plan(target_of(blue), deployed(converged, target_of(red)))
    things = [change for change in said(plan) if "service" not in change and "container" not in change]
    assert things == [
        f"remove file {audio_file(RED)} on mainpc",
        f"create config {name(AUDIO, BLUE)} on mainpc",
        f"create config {name(AUXILIARY, BLUE)} on mainpc",
        f"create file {audio_file(BLUE)} on mainpc",
    ]
    readers = {change.key.name for change in plan.changes if change.key.kind in ("service", "container")}
    assert readers == {workload.name for group in (AUDIO, AUXILIARY) for workload in fleet.workloads[group]}
    updated = next(change for change in plan.changes if change.key.kind == "service")
    (field,) = (field for field in updated.fields if "digest" not in field.path)
    assert str(field) == f"{NAMED} {name(AUXILIARY, RED)} → {name(AUXILIARY, BLUE)}"
    assert [step.name for step in plan.steps["prune"]] == [f"remove file {audio_file(RED)}"]


def test_a_file_that_nobody_reads_goes_after_the_rollout(red: Fleet, converged: Snapshots) -> None:
    stray = {"sha256": sha(b"x"), "mode": "644", "owner": "0", "group": "0", "content": None, "changed": 0.0}
    snapshots = deployed(converged, target_of(red))
    snapshots["pc2"]["files"][f"{FOLDER}/stray"] = stray
    plan = make_plan(target_of(red), snapshots)
    assert said(plan) == [f"remove file {FOLDER}/stray on pc2"]
    assert [step.name for step in plan.steps["prune"]] == [f"remove file {FOLDER}/stray"]


def test_a_file_of_another_systems_group_stays(red: Fleet, converged: Snapshots) -> None:
    snapshots = deployed(converged, target_of(red))
    file = {"sha256": sha(b"x"), "mode": "444", "owner": "0", "group": "0", "content": None, "changed": 0.0}
    theirs = f"{FOLDER}/{name('others', BLUE)}"
    named = f"{FOLDER}/colours-{sha(BLUE)[:12]}"
    snapshots["mainpc"]["files"] |= {theirs: file, f"{theirs}.440.0.0": file, named: file}
    plan = make_plan(target_of(red), snapshots, PRUNABLE)
    assert (said(plan), plan.unwanted) == ([], ())


def test_a_file_of_a_group_that_is_gone_goes_while_a_trace_says_whose_it_was(
    red: Fleet, converged: Snapshots
) -> None:
    snapshots = deployed(converged, target_of(red))
    file = {"sha256": sha(b"x"), "mode": "444", "owner": "0", "group": "0", "content": None, "changed": 0.0}
    snapshots["mainpc"]["files"][f"{FOLDER}/{name('gone', BLUE)}"] = file
    labels = {"cascade.system": "cascade", "cascade.group": "gone"}
    config = {"ID": "gone", "Name": name("gone", BLUE), "Labels": labels, "sha256": sha(BLUE)}
    snapshots["mainpc"]["docker"]["configs"].append(config)
    assert said(make_plan(target_of(red), snapshots)) == [
        f"remove file {FOLDER}/{name('gone', BLUE)} on mainpc"
    ]


def test_a_run_about_a_part_of_the_fleet_leaves_the_files_of_others(red: Fleet, converged: Snapshots) -> None:
    snapshots = deployed(converged, target_of(red))
    only = replace(red, options=red.options.model_copy(update={"group": (AUXILIARY,)}))
    assert said(make_plan(target_of(only), snapshots)) == []
    whole = make_plan(target_of(red), snapshots).release
    assert whole
    record = make_plan(target_of(only), snapshots, last=whole.target).release
    assert record is None or record.target.digest == whole.target.digest


Case = tuple[Callable[[Snapshots], None], list[str]]


def exchange(snapshots: Snapshots) -> None:
    config(snapshots)["sha256"] = sha(b"something else")


def relabel(snapshots: Snapshots) -> None:
    config(snapshots)["Labels"] = {"cascade.system": "cascade"}


def remove(snapshots: Snapshots) -> None:
    """Gone, and the service that read it with it."""
    configs = snapshots["mainpc"]["docker"]["configs"]
    configs.remove(config(snapshots))


def config(snapshots: Snapshots) -> Any:
    (found,) = (
        found for found in snapshots["mainpc"]["docker"]["configs"] if found["Name"] == name(AUDIO, RED)
    )
    return found


def edit(**fields: str) -> Callable[[Snapshots], None]:
    def mutate(snapshots: Snapshots) -> None:
        snapshots["mainpc"]["files"][audio_file(RED)].update(fields)

    return mutate


def lose(snapshots: Snapshots) -> None:
    del snapshots["mainpc"]["files"][audio_file(RED)]


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        (exchange, f"replace config {name(AUDIO, RED)}: sha256"),
        (relabel, f"update config {name(AUDIO, RED)}: labels.cascade.config, labels.cascade.group"),
        (remove, f"create config {name(AUDIO, RED)}: "),
        (edit(sha256=sha(b"x")), f"update file {audio_file(RED)}: sha256"),
        (edit(mode="644"), f"update file {audio_file(RED)}: mode"),
        (edit(owner="1000"), f"update file {audio_file(RED)}: owner"),
        (edit(group="7"), f"update file {audio_file(RED)}: group"),
        (lose, f"create file {audio_file(RED)}: "),
    ],
    ids=["exchanged", "labels lost", "removed", "edited", "mode", "owner", "group", "file removed"],
)
def test_what_was_done_by_hand_to_a_config_of_host_containers_is_undone_and_nothing_restarts(
    done: Callable[[Snapshots], None], expected: str, red: Fleet, converged: Snapshots
) -> None:
    snapshots = deployed(converged, target_of(red))
    done(snapshots)
    plan = make_plan(target_of(red), snapshots)
    assert [f"{change}: {', '.join(field.path for field in change.fields)}" for change in plan.changes] == [
        expected
    ]
    assert plan.refused == ()


def test_an_exchanged_config_is_replaced_with_its_readers(red: Fleet, converged: Snapshots) -> None:
    snapshots = deployed(converged, target_of(red))
    for found in snapshots["mainpc"]["docker"]["configs"]:
        if found["Name"] == name(AUXILIARY, RED):
            found["sha256"] = sha(b"something else")
    plan = make_plan(target_of(red), snapshots)
    readers = [f"replace service {workload.name} on mainpc" for workload in red.workloads[AUXILIARY]]
    assert said(plan) == [f"replace config {name(AUXILIARY, RED)} on mainpc", *readers]
    assert plan.refused == ()


def test_a_service_with_somebody_elses_config_is_told_and_updated(red: Fleet, converged: Snapshots) -> None:
    snapshots = deployed(converged, target_of(red))
    service = next(
        found
        for found in snapshots["mainpc"]["docker"]["services"]
        if found["Spec"]["Name"].startswith(f"{AUXILIARY}_")
    )
    uses = service["Spec"]["TaskTemplate"]["ContainerSpec"]["Configs"]
    uses[0] = {**uses[0], "ConfigID": "another", "ConfigName": "mine"}
    (change,) = make_plan(target_of(red), snapshots).changes
    assert list(map(str, change.fields)) == [f"{NAMED} mine (not Cascade's) → {name(AUXILIARY, RED)}"]


def without_data(target: Target) -> Target:
    """The target as a release has it."""
    resources = (
        replace(item, fields={key: value for key, value in item.fields.items() if key != "data"})
        for item in target.resources
    )
    return replace(target, resources=tuple(resources))


def test_a_release_whose_config_is_gone_cannot_be_gone_back_to(red: Fleet, converged: Snapshots) -> None:
    target = without_data(target_of(red))
    snapshots = deployed(converged, target)
    assert make_plan(target, snapshots).refused == ()
    remove(snapshots)
    (reason,) = make_plan(target, snapshots).refused
    assert reason == (
        f"mainpc: config {name(AUDIO, RED)} is not there, and no file says what it holds: choose a release"
        " whose configs are there, or deploy the files"
    )


def test_no_release_and_no_saved_plan_has_what_a_config_holds(fleet: Fleet) -> None:
    secret = b"planted " * 40
    target = target_of(reading(fleet, secret, AUDIO, AUXILIARY))
    document = json.dumps(target_document(target))
    assert b64(secret)[:20] not in document
    assert "planted" not in document
    assert encoded(target)
    assert name(AUDIO, secret) in document


def change(data: bytes, action: Action = "create", **fields: Any) -> Change:
    labels = {"cascade.system": "cascade", "cascade.group": AUDIO, "cascade.config": "tint"}
    desired = {"labels": labels, "sha256": sha(data), "data": b64(data), **fields}
    return Change(Key("mainpc", "config", name(AUDIO, data)), action, (), desired)


CREATED = b'HTTP/1.0 201 Created\r\n\r\n{"ID": "new"}'


def asked(engine: Engine) -> list[str]:
    return [str(call).replace("/v1.44", "") for call in engine.asked]


def test_a_config_is_created_with_its_bytes_and_labels(run: LocalRun, host: Host, engine: Engine) -> None:
    engine.answers = {"/v1.44/configs/create": CREATED}
    create_config(run, host, change(b"\x00\xff'; touch x"))
    (call,) = engine.asked
    assert call.body == {
        "Name": name(AUDIO, b"\x00\xff'; touch x"),
        "Data": b64(b"\x00\xff'; touch x"),
        "Labels": {"cascade.system": "cascade", "cascade.group": AUDIO, "cascade.config": "tint"},
    }


def test_an_exchanged_config_goes_before_the_right_one_comes(
    run: LocalRun, host: Host, engine: Engine
) -> None:
    removed = b"HTTP/1.0 204 No Content\r\n\r\n"
    gone = b'HTTP/1.0 404 Not Found\r\n\r\n{"message": "gone"}'
    answers = iter((removed, gone))
    path = f"/v1.44/configs/{name(AUDIO, RED)}"

    class Once(dict[str, Any]):
        """The first removal is heard, the second finds nothing any more."""

        def get(self, key: str, default: Any = None) -> Any:
            return next(answers) if key == path else super().get(key, default)

    engine.answers = Once({"/v1.44/configs/create": CREATED})
    create_config(run, host, change(RED, "replace"))
    assert asked(engine)[0] == f"DELETE /configs/{name(AUDIO, RED)}"
    assert asked(engine)[-1] == "POST /configs/create"


def test_a_config_gets_its_labels_back_and_keeps_its_content(
    run: LocalRun, host: Host, engine: Engine
) -> None:
    current = {
        "ID": "c1",
        "Version": {"Index": 17},
        "Spec": {"Name": name(AUDIO, RED), "Labels": {"mine": "yes"}, "Data": b64(RED)},
    }
    engine.answers = {
        f"/v1.44/configs/{name(AUDIO, RED)}": current,
        "/v1.44/configs/c1/update": b"HTTP/1.0 200 OK\r\n\r\n",
    }
    create_config(run, host, change(RED, "update"))
    posted = engine.asked[-1]
    assert str(posted) == "POST /v1.44/configs/c1/update"
    assert "version=17" in posted.path
    assert posted.body == {**current["Spec"], "Labels": change(RED).desired["labels"]}  # type: ignore[dict-item]


def service_change(red: Fleet) -> Change:
    target = target_of(red)
    item = next(
        item
        for item in target.resources
        if item.key.kind == "service" and item.key.name.startswith(f"{AUXILIARY}_")
    )
    return Change(item.key, "create", (), item.fields)


def test_a_service_is_posted_with_the_ids_of_its_configs(
    red: Fleet, run: LocalRun, host: Host, engine: Engine
) -> None:
    wanted, config_name = service_change(red), name(AUXILIARY, RED)
    others = [{"ID": "c1", "Spec": {"Name": config_name}}, {"ID": "c0", "Spec": {"Name": f"{config_name}0"}}]
    engine.answers = {"/v1.44/configs": others, "/v1.44/services/create": CREATED}
    apply_service(run, host, wanted)
    (posted,) = (call.body for call in engine.asked if str(call).endswith("/services/create"))
    use = {"Name": "/etc/tint", "UID": "0", "GID": "0", "Mode": 0o440}
    container = posted["TaskTemplate"]["ContainerSpec"]
    assert container["Configs"] == [{"File": use, "ConfigName": config_name, "ConfigID": "c1"}]
    assert "ConfigID" not in json.dumps(wanted.desired)


def test_a_service_whose_config_went_meanwhile_is_not_posted(
    red: Fleet, run: LocalRun, host: Host, engine: Engine
) -> None:
    engine.answers = {"/v1.44/configs": [], "/v1.44/services/create": CREATED}
    with pytest.raises(WorkFailed, match=f"there is no config {name(AUXILIARY, RED)} any more: run again"):
        apply_service(run, host, service_change(red))
    assert asked(engine) == ["GET /configs"]
