"""The plan from what real hosts said: each small thing done to them, and exactly what it brings."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from cascade.model.fleet import Fleet
from cascade.planning.desired import JOURNAL_SETTINGS, SETTINGS_STAMP
from cascade.planning.diff import Change
from cascade.planning.plan import Plan, make_plan
from cascade.planning.steps import Gate, Recheck
from cascade.planning.target import target_of
from cascade.planning.waves import rollout_order

Snapshots = dict[str, Any]
Mutation = Callable[[Snapshots], None]
Step = str | int | Callable[[Any], bool]

DAEMON = "/etc/docker/daemon.json"
SYSCTLS = "/etc/sysctl.d/90-cascade.conf"
PORTS_SYSCTL = "net.ipv4.ip_local_reserved_ports"
REGISTRY = "cascade-core_service-registry"
TWIN = "cascade-core_system-digital-twin"
COORDINATOR = "cascade-request-handler_request-coordinator"
WAKE_WORD = "cascade-audio-realtime_wake-word-detector"
OUR_SETTINGS = "features, icc, log-driver, log-opts, no-new-privileges, userland-proxy"
OTHER_NETWORK = "TaskTemplate.Networks.cascade-external, TaskTemplate.Networks.gone"
UNPUBLISHED = f"{COORDINATOR}: port 26002 is not published: group_data says there is no IPVS"

CORE_GATE = "cascade-core wave 1/4"
AUDIO_GATE = "cascade-audio-realtime wave 1/1"
PC2_GATES = ("cascade-pc2-core wave 1/1", "cascade-pc2-apps wave 1/1")
SHAKEN_PC2_GATES = ("cascade-pc2-core wave 1/1, held 5 s", "cascade-pc2-apps wave 1/1")


def setting(value: Any, *path: Step) -> Mutation:
    """Puts a value where the path leads."""

    def mutate(snapshots: Snapshots) -> None:
        _at(snapshots, path[:-1])[path[-1]] = value

    return mutate


def without(*path: Step) -> Mutation:
    """Takes away what the path leads to."""

    def mutate(snapshots: Snapshots) -> None:
        around, last = _at(snapshots, path[:-1]), path[-1]
        del around[_index(around, last) if callable(last) else last]

    return mutate


def adding(item: Any, *path: Step) -> Mutation:
    """Adds an item to the list that the path leads to."""

    def mutate(snapshots: Snapshots) -> None:
        _at(snapshots, path).append(item)

    return mutate


def all_of(*mutations: Mutation) -> Mutation:
    def mutate(snapshots: Snapshots) -> None:
        for mutation in mutations:
            mutation(snapshots)

    return mutate


def _at(value: Any, path: tuple[Step, ...]) -> Any:
    for step in path:
        value = value[_index(value, step) if callable(step) else step]
    return value


def _index(items: list[Any], wanted: Callable[[Any], bool]) -> int:
    (index,) = (index for index, item in enumerate(items) if wanted(item))
    return index


def engine(host: str, *path: Step) -> tuple[Step, ...]:
    return (host, "docker", *path)


def service(name: str, *path: Step) -> tuple[Step, ...]:
    """Into the spec of a service."""
    return (*engine("mainpc", "services", lambda item: item["Spec"]["Name"] == name), "Spec", *path)


def task_template(name: str, *path: Step) -> tuple[Step, ...]:
    return service(name, "TaskTemplate", *path)


def container_spec(name: str, *path: Step) -> tuple[Step, ...]:
    return task_template(name, "ContainerSpec", *path)


def container(name: str, *path: Step) -> tuple[Step, ...]:
    """Into a container as the engine shows it."""

    def named(item: Any) -> bool:
        return bool(item["container"]["Name"] == f"/{name}")

    return (*engine("mainpc", "containers", named), "container", *path)


def node(host: str, *path: Step) -> tuple[Step, ...]:
    nodes = engine("mainpc", "nodes", lambda item: item["Description"]["Hostname"] == host)
    return (*nodes, *path)


def another_node(hostname: str, state: str) -> dict[str, Any]:
    """One more entry in the manager's list."""
    return {
        "ID": "another",
        "Description": {"Hostname": hostname},
        "Spec": {"Labels": {"system": "elsewhere"}, "Availability": "active"},
        "Status": {"State": state},
    }


def network(name: str, *path: Step) -> tuple[Step, ...]:
    return (*engine("mainpc", "networks", lambda item: item["Name"] == name), *path)


def network_gone(name: str) -> Mutation:
    """A network is gone; the services that were in it go on naming its ID."""

    def mutate(snapshots: Snapshots) -> None:
        lost = _at(snapshots, network(name))["Id"]
        without(*network(name))(snapshots)
        for item in snapshots["mainpc"]["docker"]["services"]:
            for attached in item["Spec"]["TaskTemplate"]["Networks"]:
                if attached["Target"] == lost:
                    attached["Target"] = "gone"

    return mutate


def running(name: str, again: int = 0, **changed: Any) -> Mutation:
    """What the manager says of the replicas that run, whatever their spec; of so many of them twice."""

    def mutate(snapshots: Snapshots) -> None:
        tasks = tasks_of(snapshots, name)
        twins = [{**task, "ID": f"{task['ID']} again", **changed} for task in tasks[:again]]
        snapshots["mainpc"]["docker"]["running"] = [*tasks, *twins]

    return mutate


def tasks_of(snapshots: Snapshots, name: str) -> list[dict[str, Any]]:
    wanted = _at(snapshots, service(name)[:-1])["ID"]
    return [task for task in snapshots["mainpc"]["docker"]["tasks"] if task["ServiceID"] == wanted]


def tasks_in(state: str, name: str) -> Mutation:
    """Every task of a service is in this state."""

    def mutate(snapshots: Snapshots) -> None:
        for task in tasks_of(snapshots, name):
            task["Status"]["State"] = state

    return mutate


def one_task_less(name: str) -> Mutation:
    def mutate(snapshots: Snapshots) -> None:
        snapshots["mainpc"]["docker"]["tasks"].remove(tasks_of(snapshots, name)[0])

    return mutate


def stopped(host: str) -> Mutation:
    """A host whose engine does not run."""
    return all_of(
        setting({"stopped": True}, *engine(host)),
        setting(False, host, "units", "docker.service", "active"),
    )


def down(host: str) -> Mutation:
    """How the manager shows a node that it does not hear of."""
    return setting("down", *node(host, "Status", "State"))


def daemon_json(host: str, edit: Callable[[str], str]) -> Mutation:
    def mutate(snapshots: Snapshots) -> None:
        file = snapshots[host]["files"][DAEMON]
        edited = edit(file["content"])
        assert edited != file["content"]
        file["content"] = edited

    return mutate


def changed_after_start(host: str) -> Mutation:
    def mutate(snapshots: Snapshots) -> None:
        snapshots[host]["files"][DAEMON]["changed"] = snapshots[host]["docker"]["started"] + 0.5

    return mutate


def copied_service(name: str, **spec: Any) -> Mutation:
    """Another service, made like one of ours."""

    def mutate(snapshots: Snapshots) -> None:
        services = snapshots["mainpc"]["docker"]["services"]
        (like,) = (item for item in services if item["Spec"]["Name"] == name)
        services.append({**like, "ID": "foreign", "Spec": {**like["Spec"], **spec}})

    return mutate


def copied_container(name: str, copy: str) -> Mutation:
    def mutate(snapshots: Snapshots) -> None:
        containers = snapshots["mainpc"]["docker"]["containers"]
        (like,) = (item for item in containers if item["container"]["Name"] == f"/{name}")
        containers.append({**like, "container": {**like["container"], "Name": f"/{copy}"}})

    return mutate


LEFT_SWARM = {
    "NodeID": "",
    "NodeAddr": "",
    "LocalNodeState": "inactive",
    "ControlAvailable": False,
    "Error": "",
    "RemoteManagers": None,
}


@dataclass(frozen=True)
class Case:
    """Something done to converged hosts, and all that the plan makes of it."""

    name: str
    done: Mutation
    changes: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


HOST_CASES = (
    Case(
        "a package is gone",
        setting(None, "pc2", "packages", "curl"),
        ("create package curl on pc2",),
    ),
    Case(
        "a file has other content",
        setting("vm.swappiness = 1\n", "pc2", "files", SYSCTLS, "content"),
        (f"update file {SYSCTLS} on pc2: sha256",),
    ),
    Case(
        "a file is no text any more",
        all_of(
            setting(None, "pc2", "files", SYSCTLS, "content"),
            setting("0" * 64, "pc2", "files", SYSCTLS, "sha256"),
        ),
        (f"update file {SYSCTLS} on pc2: sha256",),
    ),
    Case(
        "a file has another mode",
        setting("666", "mainpc", "files", SYSCTLS, "mode"),
        (f"update file {SYSCTLS} on mainpc: mode",),
    ),
    Case(
        "a file belongs to others",
        all_of(
            setting("deploy", "pc2", "files", SYSCTLS, "owner"),
            setting("users", "pc2", "files", SYSCTLS, "group"),
        ),
        (f"update file {SYSCTLS} on pc2: group, owner",),
    ),
    Case(
        "a file is gone",
        setting(None, "pc2", "files", SYSCTLS),
        (f"create file {SYSCTLS} on pc2",),
    ),
    Case(
        "a file was only touched",
        setting(9e9, "pc2", "files", SYSCTLS, "changed"),
    ),
    Case(
        "a kernel setting differs",
        setting("1", "pc2", "sysctls", PORTS_SYSCTL),
        (f"update sysctl {PORTS_SYSCTL} on pc2: value",),
    ),
    Case(
        "the kernel has no such setting",
        setting(None, "mainpc", "sysctls", PORTS_SYSCTL),
        (f"create sysctl {PORTS_SYSCTL} on mainpc",),
    ),
    Case(
        "a unit is disabled",
        setting(False, "pc2", "units", "docker.service", "enabled"),
        ("update unit docker.service on pc2: enabled",),
    ),
    Case(
        "a unit is masked and stopped",
        setting(
            {"enabled": False, "active": False, "state": "masked masked inactive"},
            "pc2",
            "units",
            "docker.service",
        ),
        ("update unit docker.service on pc2: active, enabled",),
    ),
    Case(
        "a unit is gone",
        setting(None, "pc2", "units", "docker.service"),
        ("create unit docker.service on pc2",),
    ),
    Case(
        "the same package is gone from both hosts",
        all_of(
            setting(None, "mainpc", "packages", "docker-cli"),
            setting(None, "pc2", "packages", "docker-cli"),
        ),
        ("create package docker-cli on mainpc", "create package docker-cli on pc2"),
    ),
)

SETTINGS_CASES = (
    Case(
        "a setting of the engine was changed",
        daemon_json("pc2", lambda text: text.replace("100m", "1m")),
        (f"update daemon-settings {DAEMON} on pc2: log-opts.max-size",),
        SHAKEN_PC2_GATES,
    ),
    Case(
        "a setting of the engine was removed",
        daemon_json("pc2", lambda _: '{"default-address-pools": [{"base": "10.202.0.0/16", "size": 24}]}'),
        (f"update daemon-settings {DAEMON} on pc2: {OUR_SETTINGS}",),
        SHAKEN_PC2_GATES,
    ),
    Case(
        "the engine's settings are gone",
        setting(None, "pc2", "files", DAEMON),
        (f"create daemon-settings {DAEMON} on pc2",),
        SHAKEN_PC2_GATES,
    ),
    Case(
        "the engine's settings are an empty file",
        setting("", "pc2", "files", DAEMON, "content"),
        (f"update daemon-settings {DAEMON} on pc2: default-address-pools, {OUR_SETTINGS}",),
        SHAKEN_PC2_GATES,
    ),
    Case(
        "the owner set something of their own",
        daemon_json("pc2", lambda text: text.replace("{", '{"debug": false,', 1)),
    ),
    Case(
        "the owner wrote the same settings in another way",
        daemon_json("pc2", lambda text: " ".join(text.split())),
    ),
    Case(
        "the settings were touched after the engine had started with them",
        changed_after_start("pc2"),
    ),
    Case(
        "the settings changed after the engine had started with others",
        all_of(changed_after_start("pc2"), setting("another", "pc2", "files", SETTINGS_STAMP, "content")),
        (f"update daemon-settings {DAEMON} on pc2: running engine",),
        SHAKEN_PC2_GATES,
    ),
    Case(
        "the settings changed, and nobody knows what the engine started with",
        all_of(changed_after_start("pc2"), setting(None, "pc2", "files", SETTINGS_STAMP)),
        (f"update daemon-settings {DAEMON} on pc2: running engine",),
        SHAKEN_PC2_GATES,
    ),
    Case(
        "the settings changed to the wrong ones after the engine had started",
        all_of(changed_after_start("pc2"), daemon_json("pc2", lambda text: text.replace("100m", "1m"))),
        (f"update daemon-settings {DAEMON} on pc2: log-opts.max-size",),
        SHAKEN_PC2_GATES,
    ),
)

SWARM_CASES = (
    Case(
        "the worker left the Swarm",
        all_of(setting(LEFT_SWARM, *engine("pc2", "swarm")), down("pc2")),
        ("create swarm pc2 on pc2", "create node pc2 on mainpc"),
        PC2_GATES,
    ),
    Case(
        "the worker is in another Swarm",
        all_of(setting("stranger", *engine("pc2", "swarm", "NodeID")), down("pc2")),
        ("update swarm pc2 on pc2: member", "create node pc2 on mainpc"),
        PC2_GATES,
        refused=("pc2: swarm pc2: member False → True; if nothing there is needed, `docker swarm leave",),
    ),
    Case(
        "the worker joined with another address",
        setting("192.0.2.7", *engine("pc2", "swarm", "NodeAddr")),
        ("update swarm pc2 on pc2: address",),
        refused=("pc2: swarm pc2: address 192.0.2.7 → 10.203.0.12",),
    ),
    Case(
        "the worker was made a manager",
        setting(True, *engine("pc2", "swarm", "ControlAvailable")),
        ("update swarm pc2 on pc2: role",),
        refused=("pc2: swarm pc2: role manager → worker",),
    ),
    Case(
        "the Swarm was made with another pool",
        setting(["10.0.0.0/8"], *engine("mainpc", "cluster", "DefaultAddrPool")),
        ("update swarm mainpc on mainpc: pool",),
        refused=("mainpc: swarm mainpc: pool ['10.0.0.0/8'] → ['10.201.0.0/16']",),
    ),
    Case(
        "a node's label was changed",
        setting("gtx970", *node("pc2", "Spec", "Labels", "gpu")),
        ("update node pc2 on mainpc: labels.gpu",),
    ),
    Case(
        "a node's label was removed",
        without(*node("mainpc", "Spec", "Labels", "system")),
        ("update node mainpc on mainpc: labels.system",),
    ),
    Case(
        "a node has no labels",
        setting(None, *node("pc2", "Spec", "Labels")),
        ("update node pc2 on mainpc: labels.gpu, labels.system",),
    ),
    Case(
        "the owner labelled a node",
        setting("attic", *node("pc2", "Spec", "Labels", "room")),
    ),
    Case(
        "the worker's earlier life is still listed",
        adding(another_node("pc2", "down"), *engine("mainpc", "nodes")),
        ("update node pc2 on mainpc: earlier_entries",),
    ),
    Case(
        "another machine of the same name lives",
        adding(another_node("pc2", "ready"), *engine("mainpc", "nodes")),
    ),
    Case(
        "a machine of the owner's is down",
        adding(another_node("attic", "down"), *engine("mainpc", "nodes")),
    ),
    Case(
        "a node was drained",
        setting("drain", *node("pc2", "Spec", "Availability")),
        ("update node pc2 on mainpc: availability",),
    ),
    Case(
        "a node was paused",
        setting("pause", *node("mainpc", "Spec", "Availability")),
        ("update node mainpc on mainpc: availability",),
    ),
)

OBJECT_CASES = (
    Case(
        "a network is gone",
        network_gone("cascade-external"),
        (
            "create network cascade-external on mainpc",
            f"update service {COORDINATOR} on mainpc: {OTHER_NETWORK}",
            f"update service cascade-pc2-apps_remote-connector-agent on mainpc: {OTHER_NETWORK}",
            f"update service cascade-pc2-apps_unified-web-agent on mainpc: {OTHER_NETWORK}",
        ),
        ("cascade-request-handler wave 1/1", "cascade-pc2-apps wave 1/1"),
    ),
    Case(
        "a network reaches nowhere any more",
        setting(True, *network("cascade-external", "Internal")),
        (
            "replace network cascade-external on mainpc: internal",
            f"replace service {COORDINATOR} on mainpc: network cascade-external",
            "replace service cascade-pc2-apps_remote-connector-agent on mainpc: network cascade-external",
            "replace service cascade-pc2-apps_unified-web-agent on mainpc: network cascade-external",
        ),
        ("cascade-request-handler wave 1/1", "cascade-pc2-apps wave 1/1"),
    ),
    Case(
        "a network that names no subnet got another one",
        setting("10.201.9.0/24", *network("cascade-external", "IPAM", "Config", 0, "Subnet")),
    ),
    Case(
        "the owner has a network too",
        adding(
            {
                "Id": "owners",
                "Name": "owners",
                "Driver": "overlay",
                "Internal": False,
                "Attachable": False,
                "Options": None,
                "IPAM": {"Config": None},
            },
            *engine("mainpc", "networks"),
        ),
    ),
    Case(
        "a volume is gone",
        without(*engine("mainpc", "volumes", lambda item: item["Name"] == "cascade-core_redis_data")),
        ("create volume cascade-core_redis_data on mainpc",),
    ),
    Case(
        "a volume has another driver",
        setting(
            "nfs",
            *engine("mainpc", "volumes", lambda item: item["Name"] == "cascade-core_redis_data"),
            "Driver",
        ),
        ("replace volume cascade-core_redis_data on mainpc: driver",),
        refused=("mainpc: volume cascade-core_redis_data: driver nfs → local",),
    ),
    Case(
        "the owner has a volume and an image too",
        all_of(
            adding({"Name": "owners", "Driver": "local", "Labels": None}, *engine("pc2", "volumes")),
            adding({"Id": "sha256:owners", "RepoDigests": ["o@sha256:1"]}, *engine("pc2", "images")),
        ),
    ),
    Case(
        "an image is gone from one host",
        setting([], *engine("pc2", "images")),
        ("create image {image} on pc2",),
    ),
)


def of_registry(field: str) -> tuple[str, ...]:
    return (f"update service {REGISTRY} on mainpc: {field}",)


SERVICE_CASES = (
    Case(
        "a service is gone",
        without(*service(REGISTRY)[:-1]),
        (f"create service {REGISTRY} on mainpc",),
        (CORE_GATE,),
    ),
    Case(
        "a variable was changed",
        setting("PORT=1", *container_spec(REGISTRY, "Env", 2)),
        of_registry("TaskTemplate.ContainerSpec.Env.PORT"),
        (CORE_GATE,),
    ),
    Case(
        "a variable was added",
        adding("DEBUG=1", *container_spec(REGISTRY, "Env")),
        of_registry("TaskTemplate.ContainerSpec.Env.DEBUG"),
        (CORE_GATE,),
    ),
    Case(
        "variables stand in another order",
        lambda snapshots: _at(snapshots, container_spec(REGISTRY, "Env")).reverse(),
    ),
    Case(
        "it has another image",
        setting("sha256:other", *container_spec(REGISTRY, "Image")),
        of_registry("TaskTemplate.ContainerSpec.Image"),
        (CORE_GATE,),
    ),
    Case(
        "it has a command",
        setting(["sleep", "1"], *container_spec(REGISTRY, "Command")),
        of_registry("TaskTemplate.ContainerSpec.Command"),
        (CORE_GATE,),
    ),
    Case(
        "it runs as somebody else",
        setting("root", *container_spec(REGISTRY, "User")),
        of_registry("TaskTemplate.ContainerSpec.User"),
        (CORE_GATE,),
    ),
    Case(
        "it got a capability",
        setting(["CAP_SYS_ADMIN"], *container_spec(REGISTRY, "CapabilityAdd")),
        of_registry("TaskTemplate.ContainerSpec.CapabilityAdd"),
        (CORE_GATE,),
    ),
    Case(
        "it has no init",
        without(*container_spec(REGISTRY, "Init")),
        of_registry("TaskTemplate.ContainerSpec.Init"),
        (CORE_GATE,),
    ),
    Case(
        "it got a mount",
        setting([{"Type": "bind", "Source": "/", "Target": "/host"}], *container_spec(REGISTRY, "Mounts")),
        of_registry("TaskTemplate.ContainerSpec.Mounts./host, TaskTemplate.ContainerSpec.Mounts./tmp"),
        (CORE_GATE,),
    ),
    Case(
        "it lost one of its mounts",
        without(*container_spec(TWIN, "Mounts", 0)),
        (f"update service {TWIN} on mainpc: TaskTemplate.ContainerSpec.Mounts./data/unified_memory.db",),
        ("cascade-core wave 2/4",),
    ),
    Case(
        "its health check asks less often",
        setting(1, *container_spec(REGISTRY, "Healthcheck", "Interval")),
        of_registry("TaskTemplate.ContainerSpec.Healthcheck.Interval"),
        (CORE_GATE,),
    ),
    Case(
        "its health check always says yes",
        setting(["CMD", "true"], *container_spec(REGISTRY, "Healthcheck", "Test")),
        of_registry("TaskTemplate.ContainerSpec.Healthcheck.Test"),
        (CORE_GATE,),
    ),
    Case(
        "its memory limit was raised",
        setting(1 << 40, *task_template(REGISTRY, "Resources", "Limits", "MemoryBytes")),
        of_registry("TaskTemplate.Resources.Limits.MemoryBytes"),
        (CORE_GATE,),
    ),
    Case(
        "it has no limits",
        without(*task_template(REGISTRY, "Resources", "Limits")),
        of_registry("TaskTemplate.Resources.Limits"),
        (CORE_GATE,),
    ),
    Case(
        "it reserves nothing",
        setting({}, *task_template(REGISTRY, "Resources", "Reservations")),
        of_registry("TaskTemplate.Resources.Reservations"),
        (CORE_GATE,),
    ),
    Case(
        "it may run elsewhere",
        setting([], *task_template(REGISTRY, "Placement", "Constraints")),
        of_registry("TaskTemplate.Placement"),
        (CORE_GATE,),
    ),
    Case(
        "it answers to another name",
        setting(["registry"], *task_template(REGISTRY, "Networks", 0, "Aliases")),
        of_registry("TaskTemplate.Networks.cascade-internal.Aliases"),
        (CORE_GATE,),
    ),
    Case(
        "it hangs in one more network",
        adding({"Target": "owners"}, *task_template(REGISTRY, "Networks")),
        of_registry("TaskTemplate.Networks.owners"),
        (CORE_GATE,),
    ),
    Case(
        "it is not restarted any more",
        setting("none", *task_template(REGISTRY, "RestartPolicy", "Condition")),
        of_registry("TaskTemplate.RestartPolicy.Condition"),
        (CORE_GATE,),
    ),
    Case(
        "it was restarted by hand",
        setting(3, *task_template(REGISTRY, "ForceUpdate")),
    ),
    Case(
        "it was scaled inside its range",
        setting(1, *service(COORDINATOR, "Mode", "Replicated", "Replicas")),
    ),
    Case(
        "it was scaled up inside its range and its tasks are still to come",
        setting(5, *service(COORDINATOR, "Mode", "Replicated", "Replicas")),
        gates=("cascade-request-handler wave 1/1",),
    ),
    Case(
        "it was scaled beyond its range",
        setting(9, *service(COORDINATOR, "Mode", "Replicated", "Replicas")),
        (f"update service {COORDINATOR} on mainpc: Mode.Replicated.Replicas",),
        ("cascade-request-handler wave 1/1",),
    ),
    Case(
        "it was scaled inside its range and got another image",
        all_of(
            setting(1, *service(COORDINATOR, "Mode", "Replicated", "Replicas")),
            setting("sha256:other", *container_spec(COORDINATOR, "Image")),
        ),
        (f"update service {COORDINATOR} on mainpc: TaskTemplate.ContainerSpec.Image",),
        ("cascade-request-handler wave 1/1",),
    ),
    Case(
        "it was scaled and has no range",
        setting(2, *service(REGISTRY, "Mode", "Replicated", "Replicas")),
        of_registry("Mode.Replicated.Replicas"),
        (CORE_GATE,),
    ),
    Case(
        "it was stopped by scaling it to nothing",
        setting(0, *service(REGISTRY, "Mode", "Replicated", "Replicas")),
        of_registry("Mode.Replicated.Replicas"),
        (CORE_GATE,),
    ),
    Case(
        "it is updated in another order",
        setting("start-first", *service(REGISTRY, "UpdateConfig", "Order")),
        of_registry("UpdateConfig.Order"),
        (CORE_GATE,),
    ),
    Case(
        "it goes back by itself",
        setting("rollback", *service(REGISTRY, "UpdateConfig", "FailureAction")),
        of_registry("UpdateConfig.FailureAction"),
        (CORE_GATE,),
    ),
    Case(
        "it publishes a port",
        setting(
            [{"Protocol": "tcp", "TargetPort": 1, "PublishedPort": 1, "PublishMode": "host"}],
            *service(REGISTRY, "EndpointSpec", "Ports"),
        ),
        of_registry("EndpointSpec.Ports"),
        (CORE_GATE,),
    ),
    Case(
        "a label was changed",
        setting("elsewhere", *service(REGISTRY, "Labels", "cascade.group")),
        of_registry("Labels.cascade.group"),
        (CORE_GATE,),
    ),
    Case(
        "a label was added",
        setting("me", *service(REGISTRY, "Labels", "owner")),
        of_registry("Labels.owner"),
        (CORE_GATE,),
    ),
    Case(
        "only the release differs",
        setting("7", *service(REGISTRY, "Labels", "cascade.release")),
    ),
    Case(
        "somebody runs a service of their own",
        copied_service(REGISTRY, Name="owners_service", Labels={}),
    ),
    Case(
        "somebody runs a service that looks like one of ours",
        copied_service(REGISTRY, Name="cascade-core_extra"),
    ),
    Case(
        "its tasks are starting",
        tasks_in("starting", REGISTRY),
        gates=(CORE_GATE,),
    ),
    Case(
        "the worker is not heard of",
        down("pc2"),
        gates=PC2_GATES,
    ),
    Case(
        "one of three replicas is missing",
        one_task_less(COORDINATOR),
        gates=("cascade-request-handler wave 1/1",),
    ),
    Case("each replica runs once", running(COORDINATOR)),
    Case(
        "a replica runs twice",
        running(COORDINATOR, again=1),
        gates=("cascade-request-handler wave 1/1",),
    ),
    Case(
        "a replica on a lost node has a successor",
        running(COORDINATOR, again=1, NodeID="lost"),
    ),
)


def of_wake_word(fields: str, action: str = "replace") -> tuple[str, ...]:
    return (f"{action} container {WAKE_WORD} on mainpc: {fields}",)


def container_case(name: str, value: Any, field: str, *path: Step) -> Case:
    """A field of the host container that only a new one can have."""
    return Case(name, setting(value, *container(WAKE_WORD, *path)), of_wake_word(field), (AUDIO_GATE,))


SOUND = {"PathOnHost": "/dev/snd", "PathInContainer": "/dev/snd", "CgroupPermissions": "rwm"}

CONTAINER_CASES = (
    Case(
        "it is gone",
        without(*container(WAKE_WORD)[:-1]),
        (f"create container {WAKE_WORD} on mainpc",),
        (AUDIO_GATE,),
    ),
    Case(
        "it is stopped",
        setting(False, *container(WAKE_WORD, "State", "Running")),
        of_wake_word("running", "update"),
        (AUDIO_GATE,),
    ),
    Case(
        "it is stopped and differs",
        all_of(
            setting(False, *container(WAKE_WORD, "State", "Running")),
            setting(True, *container(WAKE_WORD, "HostConfig", "Privileged")),
        ),
        of_wake_word("HostConfig.Privileged, running"),
        (AUDIO_GATE,),
    ),
    Case(
        "it is not healthy",
        setting("unhealthy", *container(WAKE_WORD, "State", "Health", "Status")),
        gates=(AUDIO_GATE,),
    ),
    Case(
        "a variable was added",
        adding("DEBUG=1", *container(WAKE_WORD, "Config", "Env")),
        of_wake_word("Env.DEBUG"),
        (AUDIO_GATE,),
    ),
    Case(
        "a variable is missing",
        without(*container(WAKE_WORD, "Config", "Env", 0)),
        of_wake_word("Env.AGENT_NAME"),
        (AUDIO_GATE,),
    ),
    Case(
        "a variable of its image was overridden",
        setting(
            ["AGENT_NAME=WakeWordDetector", "HEALTH_PORT=7552", "PORT=6552", "REPLICA_SLOT=1", "PATH=/"],
            *container(WAKE_WORD, "Config", "Env"),
        ),
        of_wake_word("Env.PATH"),
        (AUDIO_GATE,),
    ),
    container_case("it has another image", "sha256:other", "Image", "Config", "Image"),
    container_case("it runs another program", ["sh"], "Entrypoint", "Config", "Entrypoint"),
    container_case("it runs as somebody else", "root", "User", "Config", "User"),
    container_case("a label was changed", "x", "Labels.cascade.agent", "Config", "Labels", "cascade.agent"),
    container_case("a label was added", "me", "Labels.owner", "Config", "Labels", "owner"),
    container_case("it is privileged", True, "HostConfig.Privileged", "HostConfig", "Privileged"),
    container_case("it has a device more", [SOUND], "HostConfig.Devices", "HostConfig", "Devices"),
    container_case("it has a capability", ["SYS_ADMIN"], "HostConfig.CapAdd", "HostConfig", "CapAdd"),
    container_case("it sees the host's files", ["/:/host"], "HostConfig.Binds", "HostConfig", "Binds"),
    container_case(
        "it is not confined",
        ["seccomp=unconfined"],
        "HostConfig.SecurityOpt.apparmor, HostConfig.SecurityOpt.no-new-privileges,"
        " HostConfig.SecurityOpt.seccomp",
        "HostConfig",
        "SecurityOpt",
    ),
    container_case("it has no memory limit", 0, "HostConfig.Memory", "HostConfig", "Memory"),
    container_case(
        "it is not started again",
        {"Name": "no", "MaximumRetryCount": 0},
        "HostConfig.RestartPolicy.Name",
        "HostConfig",
        "RestartPolicy",
    ),
    container_case(
        "its health check always says yes",
        {"Test": ["CMD", "true"]},
        "Healthcheck.Interval, Healthcheck.Retries, Healthcheck.StartInterval, Healthcheck.StartPeriod, "
        "Healthcheck.Test, Healthcheck.Timeout",
        "Config",
        "Healthcheck",
    ),
    container_case(
        "it answers to another name",
        ["wake"],
        "NetworkingConfig.EndpointsConfig.cascade-internal.Aliases",
        "NetworkSettings",
        "Networks",
        "cascade-internal",
        "Aliases",
    ),
    Case(
        "its engine lists its short ID among its names",
        lambda snapshots: _at(
            snapshots,
            container(WAKE_WORD, "NetworkSettings", "Networks", "cascade-internal", "Aliases"),
        ).append(_at(snapshots, container(WAKE_WORD, "Id"))[:12]),
    ),
    container_case(
        "it hangs in another network too",
        {"NetworkID": "", "Aliases": None},
        "NetworkingConfig.EndpointsConfig.bridge",
        "NetworkSettings",
        "Networks",
        "bridge",
    ),
    container_case(
        "it hangs in no network",
        {},
        "NetworkingConfig",
        "NetworkSettings",
        "Networks",
    ),
    Case(
        "somebody runs a container of their own",
        copied_container(WAKE_WORD, "owners"),
    ),
)

SEEN_BY_NOBODY_YET = {
    "it shares the host's processes": setting("host", *container(WAKE_WORD, "HostConfig", "PidMode")),
    "it shares the host's network": setting("host", *container(WAKE_WORD, "HostConfig", "NetworkMode")),
    "it shares the host's memory": setting("host", *container(WAKE_WORD, "HostConfig", "IpcMode")),
    "it has the GPUs": setting(
        [{"Driver": "", "Count": -1, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}],
        *container(WAKE_WORD, "HostConfig", "DeviceRequests"),
    ),
    "it may use every device": setting(
        ["a *:* rwm"], *container(WAKE_WORD, "HostConfig", "DeviceCgroupRules")
    ),
    "it is in other groups": setting(["0"], *container(WAKE_WORD, "HostConfig", "GroupAdd")),
    "it sees another's volumes": setting(["other"], *container(WAKE_WORD, "HostConfig", "VolumesFrom")),
    "it asks another name server": setting(["192.0.2.9"], *container(WAKE_WORD, "HostConfig", "Dns")),
    "it is paused": all_of(
        setting(True, *container(WAKE_WORD, "State", "Paused")),
        setting("paused", *container(WAKE_WORD, "State", "Status")),
    ),
}

CASES = {
    f"{what}: {case.name}": case
    for what, cases in (
        ("host", HOST_CASES),
        ("engine settings", SETTINGS_CASES),
        ("swarm", SWARM_CASES),
        ("object", OBJECT_CASES),
        ("service", SERVICE_CASES),
        ("container", CONTAINER_CASES),
    )
    for case in cases
}


def said(change: Change) -> str:
    """A change in one line: what happens to what, where, and which fields differ."""
    fields = ", ".join(sorted(field.path for field in change.fields))
    return f"{change} on {change.key.host}" + (f": {fields}" if fields else "")


def works(plan: Plan) -> Iterator[tuple[str, Any]]:
    """What each host does, in order."""
    for steps in plan.steps.values():
        for step in steps:
            yield from step.work.items()


def gates(plan: Plan) -> tuple[str, ...]:
    return tuple(
        f"{work.wave}" + (f", held {work.hold_s:.0f} s" if work.hold_s else "")
        for _, work in works(plan)
        if isinstance(work, Gate)
    )


def planned(plan: Plan) -> list[Change]:
    """The changes as the steps hold them; each must stand with its own host.

    An agent that holds what is replaced is removed first: that is a part of its own replacement.
    """
    found: list[Change] = []
    for host, work in works(plan):
        if isinstance(work, tuple):
            assert all(change.key.host == host for change in work)
            found += work
    replaced = {change.key for change in found if change.action == "replace"}
    return [change for change in found if change.action != "remove" or change.key not in replaced]


def ungated(plan: Plan) -> set[str]:
    """The workloads that change without the gate of their wave right behind them."""
    waiting: set[str] = set()
    for step in plan.steps.get("rollout", ()):
        (work,) = step.work.values()
        if isinstance(work, tuple):
            waiting |= {change.key.name for change in work}
        elif isinstance(work, Gate) and waiting <= {member.name for member in work.wave.members}:
            waiting = set()
    return waiting


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_one_thing_done_by_hand_brings_exactly_what_undoes_it(
    case: Case, converged: Snapshots, fleet: Fleet, image_id: str
) -> None:
    case.done(converged)
    plan = make_plan(target_of(fleet), converged)
    assert [said(change) for change in plan.changes] == [
        change.format(image=image_id) for change in case.changes
    ]
    assert gates(plan) == case.gates
    assert len(plan.refused) == len(case.refused)
    for refusal, expected in zip(plan.refused, case.refused, strict=True):
        assert expected in refusal
    assert plan.unknown == ()
    assert plan.notes == (*case.notes, UNPUBLISHED)
    assert sorted(map(said, planned(plan))) == sorted(map(said, plan.changes))
    assert ungated(plan) == set()


@pytest.mark.parametrize("done", SEEN_BY_NOBODY_YET.values(), ids=SEEN_BY_NOBODY_YET.keys())
def test_a_host_container_that_can_do_more_is_replaced(
    done: Mutation, converged: Snapshots, fleet: Fleet
) -> None:
    done(converged)
    assert [change.key.name for change in make_plan(target_of(fleet), converged).changes] == [WAKE_WORD]


MADE_ANEW = {
    "with another subnet": (
        setting("172.21.0.0/16", *network("cascade-internal", "IPAM", "Config", 0, "Subnet")),
        "subnet",
    ),
    "without driver and subnet": (
        all_of(
            setting("", *network("cascade-internal", "Driver")),
            setting(None, *network("cascade-internal", "IPAM", "Config")),
        ),
        "driver, subnet",
    ),
    "so that it reaches outside": (
        setting(False, *network("cascade-internal", "Internal")),
        "internal",
    ),
}


@pytest.mark.parametrize(("done", "fields"), MADE_ANEW.values(), ids=MADE_ANEW.keys())
def test_a_network_that_was_made_anew_is_replaced_with_every_agent_in_it(
    done: Mutation, fields: str, converged: Snapshots, fleet: Fleet
) -> None:
    done(converged)
    plan = make_plan(target_of(fleet), converged)
    network, *agents = plan.changes
    assert said(network) == f"replace network cascade-internal on mainpc: {fields}"
    place = {member.name: n for n, wave in enumerate(rollout_order(fleet)) for member in wave.members}
    assert {change.key.name for change in agents} == place.keys()
    assert {change.action for change in agents} == {"replace"}
    freeing, replacing = plan.steps["networks"]
    (removed,) = freeing.work.values()
    assert isinstance(removed, tuple)
    places = [place[change.key.name] for change in removed]
    assert places == sorted(place.values(), reverse=True)
    assert replacing.name == "replace network cascade-internal"
    assert len(gates(plan)) == len(rollout_order(fleet))
    assert plan.refused == ()


def test_nobody_is_told_to_remove_a_volume_only_because_it_has_no_label(
    converged: Snapshots, fleet: Fleet
) -> None:
    for volume in converged["mainpc"]["docker"]["volumes"]:
        volume["Labels"] = None
    assert make_plan(target_of(fleet), converged).refused == ()


@pytest.mark.parametrize("waiting", [True, False], ids=["a replica waits", "all are well"])
def test_a_paused_update_is_posted_again_while_a_replica_waits(
    waiting: bool, converged: Snapshots, fleet: Fleet
) -> None:
    engine_of_manager = converged["mainpc"]["docker"]
    (found,) = (item for item in engine_of_manager["services"] if item["Spec"]["Name"] == COORDINATOR)
    found["UpdateStatus"] = {"State": "paused"}
    if waiting:
        task = next(task for task in engine_of_manager["tasks"] if task["ServiceID"] == found["ID"])
        task["Status"]["State"] = "failed"
    plan = make_plan(target_of(fleet), converged)
    expected = [f"update service {COORDINATOR} on mainpc: UpdateStatus"] if waiting else []
    assert [said(change) for change in plan.changes] == expected
    assert all(change.desired["TaskTemplate"] for change in plan.changes)


def test_converged_hosts_need_nothing(converged: Snapshots, fleet: Fleet) -> None:
    plan = make_plan(target_of(fleet), converged)
    assert (plan.changes, plan.unknown, plan.refused) == ((), (), ())
    assert [*works(plan)] == []
    assert list(plan.differences()) == []
    assert len(plan.agents) == 69
    assert all(agent.up for agent in plan.agents)
    assert sum(agent.healthy for agent in plan.agents) == 114
    assert {node for agent in plan.agents for node in agent.nodes} == {"mainpc", "pc2"}


def test_a_bare_fleet_is_built_stage_by_stage(bare: Snapshots, fleet: Fleet, image_id: str) -> None:
    plan = make_plan(target_of(fleet), bare)
    both, manager = ("mainpc", "pc2"), ("mainpc",)
    before_rollout = [
        (stage, step.name, tuple(step.work))
        for stage, steps in plan.steps.items()
        if stage != "rollout"
        for step in steps
    ]
    volumes = (
        "cascade-ai-engine_model_cache",
        "cascade-ai-engine_model_configs",
        "cascade-core_redis_data",
        "cascade-core_unified_memory",
        "cascade-memory-learning_learning_data",
        "cascade-memory-learning_memory_data",
        "cascade-memory-learning_training_checkpoints",
    )
    assert before_rollout == [
        ("system", "install curl, systemd-timesyncd", both),
        ("system", f"create file {SYSCTLS}", both),
        ("system", "update sysctl net.ipv4.conf.all.send_redirects", both),
        ("system", "update sysctl net.ipv4.conf.default.accept_redirects", both),
        ("system", "update sysctl net.ipv4.conf.default.accept_source_route", both),
        ("system", "update sysctl net.ipv4.conf.default.send_redirects", both),
        ("system", f"update sysctl {PORTS_SYSCTL}", both),
        ("system", "update sysctl net.ipv4.tcp_keepalive_time", both),
        ("system", f"create file {JOURNAL_SETTINGS}", both),
        ("engine", f"create daemon-settings {DAEMON}", both),
        ("engine", "install docker-cli, docker.io", both),
        ("engine", "create unit docker.service", both),
        ("swarm", "create swarm mainpc", manager),
        ("swarm", "create swarm pc2", ("pc2",)),
        ("swarm", "create node mainpc", manager),
        ("swarm", "create node pc2", manager),
        ("networks", "create network cascade-internal", manager),
        ("networks", "create network cascade-external", manager),
        *(("volumes", f"create volume {name}", manager) for name in volumes),
        ("images", f"create image {image_id}", both),
        ("release", "record release 1", manager),
    ]
    assert (plan.unknown, plan.refused) == ((), ())


def test_on_a_bare_fleet_every_wave_is_made_whole_and_then_gated(bare: Snapshots, fleet: Fleet) -> None:
    plan = make_plan(target_of(fleet), bare)
    expected = []
    for wave in rollout_order(fleet):
        expected += [f"{wave}: create {one.kind} {one.name}" for one in wave.members]
        expected.append(f"{wave}: gate")
    assert [step.name for step in plan.steps["rollout"]] == expected
    assert len(gates(plan)) == 17
    assert not any("held" in gate for gate in gates(plan))
    assert {host for step in plan.steps["rollout"] for host in step.work} == {"mainpc"}
    assert len(planned(plan)) == len(plan.changes)
    assert sum(agent.healthy for agent in plan.agents) == 0


def test_a_gate_waits_as_long_as_its_slowest_health_check_may_take(bare: Snapshots, fleet: Fleet) -> None:
    health = {one.name: one.health for workloads in fleet.workloads.values() for one in workloads}
    for _, work in works(make_plan(target_of(fleet), bare)):
        if isinstance(work, Gate):
            checks = [check for one in work.wave.members if (check := health[one.name])]
            slowest = max(c.start_period + c.retries * (c.interval + c.timeout) for c in checks)
            assert work.deadline_s > slowest


def test_a_gate_knows_who_comes_after_it_and_only_those_of_this_plan(
    converged: Snapshots, fleet: Fleet
) -> None:
    for task in converged["mainpc"]["docker"]["tasks"]:
        task["Status"]["State"] = "starting"
    healthy = {status.member.name for status in make_plan(target_of(fleet), converged).agents if status.up}
    waiting = [wave for wave in rollout_order(fleet) if not {one.name for one in wave.members} <= healthy]
    found = [work for _, work in works(make_plan(target_of(fleet), converged)) if isinstance(work, Gate)]
    assert [gate.wave for gate in found] == waiting != list(rollout_order(fleet))
    assert [gate.later for gate in found] == [tuple(waiting[place:]) for place in range(1, len(waiting) + 1)]


def test_a_stopped_engine_is_started_and_compared_and_its_agents_waited_for(
    converged: Snapshots, fleet: Fleet
) -> None:
    stopped("pc2")(converged)
    down("pc2")(converged)
    plan = make_plan(target_of(fleet), converged)
    assert [said(change) for change in plan.changes] == ["update unit docker.service on pc2: active"]
    assert [step.name for step in plan.steps["engine"]] == [
        "update unit docker.service",
        "compare what the engine holds on pc2",
    ]
    assert plan.steps["engine"][1].work == {"mainpc": Recheck(("pc2",))}
    assert gates(plan) == SHAKEN_PC2_GATES
    assert plan.notes[0].startswith("pc2: its engine does not run;")
    assert (plan.unknown, plan.refused) == ((), ())


def test_with_the_managers_engine_stopped_nothing_in_the_swarm_is_called_absent(
    converged: Snapshots, fleet: Fleet
) -> None:
    stopped("mainpc")(converged)
    plan = make_plan(target_of(fleet), converged)
    assert [said(change) for change in plan.changes] == ["update unit docker.service on mainpc: active"]
    assert plan.steps["engine"][1].work == {"mainpc": Recheck(("mainpc",))}
    assert gates(plan)[0] == f"{CORE_GATE}, held 5 s"
    assert len(gates(plan)) == len(rollout_order(fleet))


def test_with_both_engines_stopped_they_are_compared_together(converged: Snapshots, fleet: Fleet) -> None:
    stopped("mainpc")(converged)
    stopped("pc2")(converged)
    plan = make_plan(target_of(fleet), converged)
    assert [step.name for step in plan.steps["engine"]] == [
        "update unit docker.service",
        "compare what the engine holds on mainpc, pc2",
    ]
    assert {key.kind for key in (change.key for change in plan.changes)} == {"unit"}


def test_an_engine_that_is_stopped_is_no_reason_to_forget_the_host_around_it(
    converged: Snapshots, fleet: Fleet
) -> None:
    stopped("pc2")(converged)
    setting("1", "pc2", "sysctls", PORTS_SYSCTL)(converged)
    plan = make_plan(target_of(fleet), converged)
    assert said(plan.changes[0]) == f"update sysctl {PORTS_SYSCTL} on pc2: value"


REASON = "PermissionError: denied"
UNREADABLE = {
    "the worker's engine": (setting({"error": REASON}, *engine("pc2")), f"pc2: Docker engine: {REASON}"),
    "the manager's engine": (
        setting({"error": REASON}, *engine("mainpc")),
        f"mainpc: Docker engine: {REASON}",
    ),
    "an engine that is too old": (
        setting("1.43", *engine("pc2", "api")),
        "pc2: Docker engine: its API 1.43 is older than 1.44: upgrade Docker to 25 or later",
    ),
    "a worker's Swarm that is still starting": (
        setting("pending", *engine("pc2", "swarm", "LocalNodeState")),
        "pc2: Docker engine: its part of the Swarm is pending: wait for it, or see `docker info`",
    ),
    "a manager's Swarm that is locked": (
        setting("locked", *engine("mainpc", "swarm", "LocalNodeState")),
        "mainpc: Docker engine: its part of the Swarm is locked: wait for it, or see `docker info`",
    ),
    "a file": (
        setting({"error": REASON}, "pc2", "files", SYSCTLS),
        f"pc2: file {SYSCTLS}: {REASON}",
    ),
    "the engine's settings": (
        setting({"error": REASON}, "pc2", "files", DAEMON),
        f"pc2: {DAEMON}: {REASON}",
    ),
    "a kernel setting": (
        setting({"error": REASON}, "pc2", "sysctls", PORTS_SYSCTL),
        f"pc2: sysctl {PORTS_SYSCTL}: {REASON}",
    ),
    "the units": (setting({"error": REASON}, "pc2", "units"), f"pc2: units: {REASON}"),
}
NOT_JSON = ("{", "[]", "null", '"text"', "{'log-driver': 'local'}", '{"log-driver": "\\ud800"}')


@pytest.mark.parametrize(("done", "expected"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_read_is_named_with_its_reason(
    done: Mutation, expected: str, converged: Snapshots, fleet: Fleet
) -> None:
    done(converged)
    assert [str(unknown) for unknown in make_plan(target_of(fleet), converged).unknown] == [expected]


@pytest.mark.parametrize("content", NOT_JSON)
def test_settings_that_cannot_be_understood_are_named_with_what_to_do(
    content: str, converged: Snapshots, fleet: Fleet
) -> None:
    setting(content, "pc2", "files", DAEMON, "content")(converged)
    (unknown,) = make_plan(target_of(fleet), converged).unknown
    assert str(unknown).startswith(f"pc2: {DAEMON}: ")
    assert str(unknown).endswith(": mend it or move it away")


@pytest.mark.parametrize(("done", "_"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_read_is_never_called_absent(
    done: Mutation, _: str, converged: Snapshots, fleet: Fleet
) -> None:
    done(converged)
    assert [said(change) for change in make_plan(target_of(fleet), converged).changes] == []


def test_nothing_is_planned_for_a_worker_that_was_left_out(bare: Snapshots, fleet: Fleet) -> None:
    del bare["pc2"]
    plan = make_plan(target_of(fleet), bare)
    assert {change.key.host for change in plan.changes} == {"mainpc"}
    assert "pc2" not in {change.key.name for change in plan.changes}
    waiting = "waiting for it: cascade-pc2-core (5 agents), cascade-pc2-apps (17 agents)"
    assert plan.notes == (f"pc2: left out by --limit; {waiting}", UNPUBLISHED)


def test_with_the_worker_left_out_a_converged_manager_needs_nothing(
    converged: Snapshots, fleet: Fleet
) -> None:
    del converged["pc2"]
    plan = make_plan(target_of(fleet), converged, last=target_of(fleet))
    assert plan.changes == ()
    assert [*works(plan)] == []


@pytest.mark.parametrize("state", ["bare", "converged"])
def test_nothing_is_planned_for_a_manager_that_was_left_out(
    state: str, request: pytest.FixtureRequest, fleet: Fleet
) -> None:
    snapshots = request.getfixturevalue(state)
    del snapshots["mainpc"]
    plan = make_plan(target_of(fleet), snapshots)
    assert {change.key.host for change in plan.changes} <= {"pc2"}
    assert {host for host, _ in works(plan)} <= {"pc2"}
    waiting = "it is the manager, so the Swarm and all groups wait for it"
    assert plan.notes == (f"mainpc: left out by --limit; {waiting}", UNPUBLISHED)


@pytest.mark.parametrize("seed", range(4))
def test_the_order_in_which_hosts_say_things_makes_no_difference(
    seed: int, converged: Snapshots, bare: Snapshots, fleet: Fleet
) -> None:
    for name in (
        "service: it was scaled beyond its range",
        "object: a network is gone",
        "container: it is stopped",
    ):
        CASES[name].done(converged)
    for snapshots in (converged, bare):
        expected = make_plan(target_of(fleet), snapshots)
        assert expected.changes
        assert make_plan(target_of(fleet), shuffled(snapshots, random.Random(seed))) == expected


def shuffled(snapshots: Snapshots, order: random.Random) -> Snapshots:
    """The same snapshots with hosts, and all that an engine lists in no order, in another order."""
    mixed = {}
    for host in order.sample(list(snapshots), k=len(snapshots)):
        docker = snapshots[host]["docker"] or {}
        lists = {name: order.sample(v, k=len(v)) for name, v in docker.items() if isinstance(v, list)}
        facts = {**snapshots[host], "docker": {**docker, **lists} if docker else None}
        mixed[host] = {name: facts[name] for name in order.sample(list(facts), k=len(facts))}
    return mixed


def test_differences_are_told_field_by_field(converged: Snapshots, fleet: Fleet) -> None:
    setting("1", "pc2", "sysctls", PORTS_SYSCTL)(converged)
    adding("DEBUG=1", *container_spec(REGISTRY, "Env"))(converged)
    assert list(make_plan(target_of(fleet), converged).differences()) == [
        f"pc2: sysctl {PORTS_SYSCTL}: value 1 → 2377,4789,7946,26002",
        f"mainpc: service {REGISTRY}: TaskTemplate.ContainerSpec.Env.DEBUG 1 → unset",
    ]


def test_a_change_carries_the_whole_of_what_is_wanted(converged: Snapshots, fleet: Fleet) -> None:
    setting("PORT=1", *container_spec(REGISTRY, "Env", 2))(converged)
    (change,) = make_plan(target_of(fleet), converged).changes
    assert change.desired["Name"] == REGISTRY
    assert "PORT=7200" in change.desired["TaskTemplate"]["ContainerSpec"]["Env"]
    assert change.desired["TaskTemplate"]["Networks"][0]["Target"] == "cascade-internal"


def test_an_update_keeps_the_count_that_somebody_chose_inside_the_range(
    converged: Snapshots, fleet: Fleet
) -> None:
    CASES["service: it was scaled inside its range and got another image"].done(converged)
    plan = make_plan(target_of(fleet), converged)
    (change,) = plan.changes
    assert change.desired["Mode"] == {"Replicated": {"Replicas": 1}}
    (gate,) = (work for _, work in works(plan) if isinstance(work, Gate))
    assert gate.replicas[COORDINATOR] == 1
