"""What somebody did to a host, as a finding says it: the field, the values, and who may repair it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cascade.model.fleet import Fleet
from cascade.planning.drift import Difference, counts, differences, repairs, restarts
from cascade.planning.plan import Plan, make_plan
from cascade.planning.resource import Key
from cascade.planning.shown import text_diff
from cascade.planning.target import target_of

Snapshots = dict[str, Any]
Mutation = Callable[[Snapshots], None]

REGISTRY = "cascade-core_service-registry"
MEMORY = "cascade-memory-learning_memory-client"
WAKE_WORD = "cascade-audio-realtime_wake-word-detector"
SYSCTLS = "/etc/sysctl.d/90-cascade.conf"
DAEMON = "/etc/docker/daemon.json"


def plan_of(fleet: Fleet, snapshots: Snapshots) -> Plan:
    return make_plan(target_of(fleet), snapshots)


def spec(snapshots: Snapshots, name: str) -> Any:
    services = snapshots["mainpc"]["docker"]["services"]
    return next(service["Spec"] for service in services if service["Spec"]["Name"] == name)


def task(snapshots: Snapshots, name: str) -> Any:
    return spec(snapshots, name)["TaskTemplate"]


def container(snapshots: Snapshots, name: str) -> Any:
    found = (item["container"] for item in snapshots["mainpc"]["docker"]["containers"])
    return next(item for item in found if item["Name"] == f"/{name}")


def network(snapshots: Snapshots, name: str) -> Any:
    return next(item for item in snapshots["mainpc"]["docker"]["networks"] if item["Name"] == name)


def node(snapshots: Snapshots, host: str) -> Any:
    nodes = snapshots["mainpc"]["docker"]["nodes"]
    return next(item for item in nodes if item["Description"]["Hostname"] == host)


def remove_service(snapshots: Snapshots, name: str) -> None:
    services = snapshots["mainpc"]["docker"]["services"]
    services[:] = [service for service in services if service["Spec"]["Name"] != name]


def remove_images(snapshots: Snapshots) -> None:
    snapshots["pc2"]["docker"]["images"] = []


# Each: what was done, the kind, name, action and fields that are found, and who may repair it.
TABLE: list[tuple[str, Mutation, tuple[str, str, str], list[str], str]] = [
    (
        "a package was removed",
        lambda s: s["pc2"]["packages"].update(curl=None),
        ("package", "curl", "create"),
        [""],
        "automatic",
    ),
    (
        "a sysctl was set",
        lambda s: s["pc2"]["sysctls"].update({"net.core.somaxconn": "128"}),
        ("sysctl", "net.core.somaxconn", "update"),
        ["value"],
        "automatic",
    ),
    (
        "a file's mode and owner changed",
        lambda s: s["pc2"]["files"][SYSCTLS].update(mode="666", owner="nobody"),
        ("file", SYSCTLS, "update"),
        ["mode", "owner"],
        "automatic",
    ),
    (
        "a file's text changed",
        lambda s: s["pc2"]["files"][SYSCTLS].update(content="vm.swappiness = 1\n"),
        ("file", SYSCTLS, "update"),
        ["sha256"],
        "automatic",
    ),
    (
        "the unit of the engine was disabled while it runs",
        lambda s: s["mainpc"]["units"]["docker.service"].update(enabled=False),
        ("unit", "docker.service", "update"),
        ["enabled"],
        "automatic",
    ),
    (
        "the engine's package is gone where persistent agents live",
        lambda s: s["mainpc"]["packages"].update({"docker.io": None}),
        ("package", "docker.io", "create"),
        [""],
        "approval",
    ),
    (
        "the engine's package is gone where no agent is precious",
        lambda s: s["pc2"]["packages"].update({"docker.io": None}),
        ("package", "docker.io", "create"),
        [""],
        "automatic",
    ),
    (
        "the command line of the engine is gone",
        lambda s: s["mainpc"]["packages"].update({"docker-cli": None}),
        ("package", "docker-cli", "create"),
        [""],
        "automatic",
    ),
    (
        "the engine's settings are gone where persistent agents live",
        lambda s: s["mainpc"]["files"].update({DAEMON: None}),
        ("daemon-settings", DAEMON, "create"),
        [""],
        "approval",
    ),
    (
        "the engine's settings are gone where no agent is precious",
        lambda s: s["pc2"]["files"].update({DAEMON: None}),
        ("daemon-settings", DAEMON, "create"),
        [""],
        "automatic",
    ),
    (
        "replicas were scaled",
        lambda s: spec(s, REGISTRY).update(Mode={"Replicated": {"Replicas": 4}}),
        ("service", REGISTRY, "update"),
        ["Mode.Replicated.Replicas"],
        "automatic",
    ),
    (
        "a label of a persistent agent's service changed",
        lambda s: spec(s, MEMORY)["Labels"].update({"cascade.group": "other"}),
        ("service", MEMORY, "update"),
        ["Labels.cascade.group"],
        "automatic",
    ),
    (
        "the memory limit of a persistent agent changed",
        lambda s: task(s, MEMORY)["Resources"]["Limits"].update(MemoryBytes=1 << 20),
        ("service", MEMORY, "update"),
        ["TaskTemplate.Resources.Limits.MemoryBytes"],
        "approval",
    ),
    (
        "a persistent agent's service was removed",
        lambda s: remove_service(s, MEMORY),
        ("service", MEMORY, "create"),
        [""],
        "automatic",
    ),
    (
        "the environment of an agent changed",
        lambda s: task(s, REGISTRY)["ContainerSpec"]["Env"].append("DEBUG=1"),
        ("service", REGISTRY, "update"),
        ["TaskTemplate.ContainerSpec.Env.DEBUG"],
        "automatic",
    ),
    (
        "a host container was stopped",
        lambda s: container(s, WAKE_WORD)["State"].update(Running=False),
        ("container", WAKE_WORD, "update"),
        ["running"],
        "automatic",
    ),
    (
        "a host container has other memory",
        lambda s: container(s, WAKE_WORD)["HostConfig"].update(Memory=1 << 24),
        ("container", WAKE_WORD, "replace"),
        ["HostConfig.Memory"],
        "automatic",
    ),
    (
        "a node was drained",
        lambda s: node(s, "pc2")["Spec"].update(Availability="drain"),
        ("node", "pc2", "update"),
        ["availability"],
        "automatic",
    ),
    (
        "a node has another address in the Swarm",
        lambda s: s["pc2"]["docker"]["swarm"].update(NodeAddr="192.0.2.7"),
        ("swarm", "pc2", "update"),
        ["address"],
        "none",
    ),
]


@pytest.mark.parametrize(
    ("mutate", "thing", "fields", "repair"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_what_was_done_by_hand_is_found_field_by_field(
    fleet: Fleet,
    converged: Snapshots,
    mutate: Mutation,
    thing: tuple[str, str, str],
    fields: list[str],
    repair: str,
) -> None:
    mutate(converged)
    found = differences(plan_of(fleet, converged))
    assert {(each.kind, each.name, each.action) for each in found} == {thing}
    assert [each.field for each in found] == fields
    assert {each.repair for each in found} == {repair}


def test_a_fleet_in_sync_has_no_difference(fleet: Fleet, converged: Snapshots) -> None:
    assert differences(plan_of(fleet, converged)) == ()


def test_a_network_takes_as_much_as_the_agents_that_hold_it(fleet: Fleet, converged: Snapshots) -> None:
    network(converged, "cascade-internal")["Attachable"] = False
    plan = plan_of(fleet, converged)
    found = {(each.kind, each.name): each for each in differences(plan)}
    internal = found["network", "cascade-internal"]
    assert (internal.action, internal.field, internal.repair) == ("replace", "attachable", "approval")
    assert found["service", MEMORY].repair == "approval"
    assert found["service", REGISTRY].repair == "automatic"
    assert (REGISTRY, "it is replaced") in agents_restarted(plan)


def test_a_network_of_agents_that_nobody_misses_is_replaced_without_a_person(
    fleet: Fleet, converged: Snapshots
) -> None:
    network(converged, "cascade-external")["Attachable"] = False
    assert set(repairs(plan_of(fleet, converged)).values()) == {"automatic"}


def test_an_image_that_nobody_can_bring_is_not_repaired(fleet: Fleet, converged: Snapshots) -> None:
    remove_images(converged)
    target = target_of(fleet)
    nowhere = tuple(
        item if item.key.kind != "image" else type(item)(item.stage, item.key, {"present": item.key.name})
        for item in target.resources
    )
    plan = make_plan(type(target)(**{**vars(target), "resources": nowhere}), converged)
    assert {repair for key, repair in repairs(plan).items() if key.kind == "image"} == {"none"}


def test_a_finding_names_the_agent_and_its_group(fleet: Fleet, converged: Snapshots) -> None:
    spec(converged, REGISTRY)["Mode"] = {"Replicated": {"Replicas": 4}}
    (found,) = differences(plan_of(fleet, converged))
    assert found == Difference(
        host="mainpc",
        kind="service",
        name=REGISTRY,
        group="cascade-core",
        agent="ServiceRegistry",
        action="update",
        field="Mode.Replicated.Replicas",
        desired=1,
        observed=4,
        repair="automatic",
    )


def test_what_a_plan_spares_is_a_difference_all_the_same(fleet: Fleet, converged: Snapshots) -> None:
    converged["pc2"]["packages"]["curl"] = None
    plan = make_plan(target_of(fleet), converged, spare=[Key("pc2", "package", "curl")])
    assert plan.changes == ()
    assert [each.name for each in differences(plan)] == ["curl"]
    assert repairs(plan) == {Key("pc2", "package", "curl"): "automatic"}


def test_no_secret_stands_in_a_difference(fleet: Fleet, converged: Snapshots) -> None:
    task(converged, REGISTRY)["ContainerSpec"]["Env"] += [
        "DB_PASSWORD=planted-one",
        "URL=http://u:planted-one@h",
    ]
    converged["pc2"]["files"][SYSCTLS]["content"] = "password = planted-two\nnet.core.somaxconn = 4096\n"
    plan = plan_of(fleet, converged)
    said = repr(differences(plan)) + repr([text_diff(change) for change in plan.changes])
    assert "planted" not in said
    assert "-password =***" in said or "-password = ***" in said


def test_a_changed_file_shows_only_the_lines_that_differ(fleet: Fleet, converged: Snapshots) -> None:
    text = converged["pc2"]["files"][SYSCTLS]["content"]
    converged["pc2"]["files"][SYSCTLS]["content"] = text.replace("somaxconn = 4096", "somaxconn = 128")
    (change,) = plan_of(fleet, converged).changes
    assert [line for line in text_diff(change) if line[0] in "-+" and line[:3] not in ("---", "+++")] == [
        "-net.core.somaxconn = 128",
        "+net.core.somaxconn = 4096",
    ]


def agents_restarted(plan: Plan) -> list[tuple[str, str]]:
    return [(restart.member.name, restart.why) for restart in restarts(plan)]


def test_an_agent_restarts_when_its_tasks_change(fleet: Fleet, converged: Snapshots) -> None:
    task(converged, REGISTRY)["ContainerSpec"]["Env"].append("DEBUG=1")
    spec(converged, MEMORY)["UpdateConfig"]["Parallelism"] = 7
    assert agents_restarted(plan_of(fleet, converged)) == [(REGISTRY, "its tasks change")]


def test_a_stopped_container_is_started_and_another_one_replaced(fleet: Fleet, converged: Snapshots) -> None:
    container(converged, WAKE_WORD)["State"]["Running"] = False
    assert agents_restarted(plan_of(fleet, converged)) == []
    container(converged, WAKE_WORD)["HostConfig"]["Memory"] = 1 << 24
    assert agents_restarted(plan_of(fleet, converged)) == [(WAKE_WORD, "it is replaced")]


def test_with_its_engine_every_agent_of_a_host_restarts(fleet: Fleet, converged: Snapshots) -> None:
    converged["pc2"]["files"][DAEMON] = None
    plan = plan_of(fleet, converged)
    on_pc2 = [status.member.name for status in plan.agents if "pc2" in status.nodes]
    assert len(on_pc2) == 22
    assert agents_restarted(plan) == [(name, "the engine of pc2 restarts") for name in on_pc2]


def test_on_bare_hosts_nothing_restarts(fleet: Fleet, bare: Snapshots) -> None:
    assert restarts(plan_of(fleet, bare)) == ()


def test_a_plan_is_counted_by_what_it_does(fleet: Fleet, converged: Snapshots) -> None:
    converged["pc2"]["packages"]["curl"] = None
    converged["pc2"]["sysctls"]["net.core.somaxconn"] = "128"
    container(converged, WAKE_WORD)["HostConfig"]["Memory"] = 1 << 24
    plan = plan_of(fleet, converged)
    assert counts(plan.changes) == {"add": 1, "change": 1, "replace": 1, "remove": 0}
