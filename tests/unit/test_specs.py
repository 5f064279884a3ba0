"""Workloads as the Engine API wants them."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cascade.model.fleet import Fleet
from cascade.model.seccomp import profile
from cascade.model.workload import Workload
from cascade.planning.specs import container_body, digest, service_spec

Alpha = Callable[..., tuple[tuple[Workload, ...], Fleet]]
SECOND = 1_000_000_000
# What every container has unless its file says otherwise.
CORE = {"Name": "core", "Soft": 0, "Hard": 0}
NOFILE = {"Name": "nofile", "Soft": 65536, "Hard": 65536}
TMP = {"Type": "tmpfs", "Target": "/tmp", "TmpfsOptions": {"SizeBytes": 64 * 2**20, "Mode": 0o1777}}
LOG_OPTIONS = {"max-file": "5", "max-size": "100m"}


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def workload(fleet: Fleet, name: str) -> Workload:
    group = name.partition("_")[0]
    return next(found for found in fleet.workloads[group] if found.name == name)


def of_service(fleet: Fleet, name: str) -> Any:
    return service_spec(workload(fleet, name), fleet)


def of_container(fleet: Fleet, name: str) -> Any:
    return container_body(workload(fleet, name), fleet)


def environment(entries: list[str]) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in entries)


@pytest.fixture
def container(alpha: Alpha) -> Callable[..., Any]:
    """The ContainerSpec of the first agent of a group written in the test."""

    def build(service: str = "{}", agents: str = "[{name: Fox}]", **host: Any) -> Any:
        (first, *_), fleet = alpha(service, agents, **host)
        return service_spec(first, fleet)["TaskTemplate"]["ContainerSpec"]

    return build


@pytest.fixture
def spec(alpha: Alpha) -> Callable[..., Any]:
    """The service of the first agent of a group written in the test."""

    def build(service: str = "{}", agents: str = "[{name: Fox}]", **host: Any) -> Any:
        (first, *_), fleet = alpha(service, agents, **host)
        return service_spec(first, fleet)

    return build


@pytest.fixture
def body(alpha: Alpha) -> Callable[..., Any]:
    """The host container of the first agent of a group written in the test."""

    def build(service: str = "{}", agents: str = "[{name: Fox}]", **host: Any) -> Any:
        (first, *_), fleet = alpha(service, agents, **host)
        return container_body(first, fleet)

    return build


def test_a_service_in_full(home_fleet: Fleet) -> None:
    name = "cascade-request-handler_request-coordinator"
    found = of_service(home_fleet, name)
    labels = {
        "cascade.system": "cascade",
        "cascade.group": "cascade-request-handler",
        "cascade.agent": "RequestCoordinator",
    }
    alias = "requestcoordinator.cascade-request-handler.cascade"
    assert found == {
        "Name": name,
        "Labels": labels | {"cascade.digest": digest({k: v for k, v in found.items() if k != "Labels"})},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": home_fleet.pinned_images["cascade/request-handler"],
                "Labels": labels,
                "Command": [],
                "Args": [],
                "Hostname": "",
                "Env": [
                    "AGENT_NAME=RequestCoordinator",
                    "HEALTH_PORT=27002",
                    "NVIDIA_VISIBLE_DEVICES=void",
                    "PORT=26002",
                    "REPLICA_SLOT={{.Task.Slot}}",
                ],
                "Dir": "",
                "User": "10001:10001",
                "Mounts": [TMP],
                "StopSignal": "SIGTERM",
                "StopGracePeriod": 10 * SECOND,
                "Healthcheck": {
                    "Test": ["CMD", "curl", "-f", "http://localhost:27002/health"],
                    "Interval": 10 * SECOND,
                    "Timeout": 5 * SECOND,
                    "Retries": 5,
                    "StartPeriod": 30 * SECOND,
                    "StartInterval": SECOND,
                },
                "Hosts": [],
                "Init": True,
                "ReadOnly": True,
                "CapabilityAdd": [],
                "CapabilityDrop": ["ALL"],
                "Ulimits": [CORE, NOFILE],
                "Sysctls": {},
                "Isolation": "default",
                "Privileges": {
                    "NoNewPrivileges": True,
                    "Seccomp": {"Mode": "custom", "Profile": base64_of(profile("python-service"))},
                },
            },
            "Resources": {
                "Limits": {"NanoCPUs": 666_666_666, "MemoryBytes": 1_431_655_765, "Pids": 512},
                "Reservations": {"NanoCPUs": 333_333_333, "MemoryBytes": 715_827_882},
            },
            "RestartPolicy": {"Condition": "any", "Delay": 5 * SECOND, "MaxAttempts": 0, "Window": 0},
            "Placement": {"Constraints": ["node.labels.system == mainpc"]},
            "Networks": [
                {"Target": "cascade-external", "Aliases": [alias]},
                {"Target": "cascade-internal", "Aliases": [alias]},
            ],
            "LogDriver": {"Name": "json-file", "Options": LOG_OPTIONS},
            "ForceUpdate": 0,
            "Runtime": "container",
        },
        "Mode": {"Replicated": {"Replicas": 3}},
        "UpdateConfig": {
            "Parallelism": 1,
            "Delay": 10 * SECOND,
            "FailureAction": "pause",
            "Monitor": 5 * SECOND,
            "MaxFailureRatio": 0.5,
            "Order": "start-first",
        },
        "RollbackConfig": {
            "Parallelism": 1,
            "FailureAction": "pause",
            "Monitor": 5 * SECOND,
            "MaxFailureRatio": 0,
            "Order": "stop-first",
        },
        "EndpointSpec": {
            "Mode": "vip",
            "Ports": [
                {"Protocol": "tcp", "TargetPort": 26002, "PublishedPort": 26002, "PublishMode": "ingress"}
            ],
        },
    }


def test_a_host_container_in_full(home_fleet: Fleet) -> None:
    found = of_container(home_fleet, "cascade-audio-realtime_audio-capture")
    assert found == {
        "Image": home_fleet.pinned_images["cascade/audio-realtime"],
        "Labels": {
            "cascade.system": "cascade",
            "cascade.group": "cascade-audio-realtime",
            "cascade.agent": "AudioCapture",
            "cascade.digest": digest({k: v for k, v in found.items() if k != "Labels"}),
        },
        "Env": [
            "AGENT_NAME=AudioCapture",
            "HEALTH_PORT=7550",
            "NVIDIA_VISIBLE_DEVICES=void",
            "PORT=6550",
            "REPLICA_SLOT=1",
        ],
        "User": "10001:10001",
        "StopSignal": "SIGTERM",
        "StopTimeout": 10,
        "Healthcheck": {
            "Test": ["CMD", "curl", "-f", "http://localhost:7550/health"],
            "Interval": 10 * SECOND,
            "Timeout": 5 * SECOND,
            "Retries": 5,
            "StartPeriod": 30 * SECOND,
            "StartInterval": SECOND,
        },
        "HostConfig": {
            "NetworkMode": "cascade-internal",
            "IpcMode": "private",
            "Mounts": [TMP],
            "Devices": [
                {"PathOnHost": "/dev/snd", "PathInContainer": "/dev/snd", "CgroupPermissions": "rwm"}
            ],
            "CapAdd": [],
            "CapDrop": ["ALL"],
            "Ulimits": [CORE, NOFILE, {"Name": "rtprio", "Soft": 95, "Hard": 95}],
            "Sysctls": {},
            "ExtraHosts": [],
            "SecurityOpt": [
                "no-new-privileges=true",
                f"seccomp={profile('audio-realtime')}",
                "apparmor=cascade.cascade-audio-realtime",
            ],
            "Init": True,
            "ReadonlyRootfs": True,
            "PidsLimit": 512,
            "GroupAdd": ["29"],
            "LogConfig": {"Type": "json-file", "Config": LOG_OPTIONS},
            "NanoCpus": 285_714_285,
            "Memory": 613_566_756,
            "MemoryReservation": 306_783_378,
            "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0},
            "PortBindings": {},
        },
        "NetworkingConfig": {
            "EndpointsConfig": {
                "cascade-internal": {"Aliases": ["audiocapture.cascade-audio-realtime.cascade"]}
            }
        },
    }


@pytest.mark.parametrize(
    ("name", "aliases"),
    [
        (
            "cascade-core_service-registry",
            {"cascade-internal": ["serviceregistry.cascade-core.cascade"]},
        ),
        (
            "cascade-core_observability-hub",
            {"cascade-internal": ["mainpc", "observabilityhub.cascade-core.cascade"]},
        ),
        (
            "cascade-ai-engine_vram-optimizer-agent",
            {"cascade-internal": ["vramoptimizeragent.cascade-ai-engine.cascade"]},
        ),
        (
            "cascade-pc2-core_observability-hub",
            {"cascade-internal": ["observabilityhub.cascade-pc2-core.cascade"]},
        ),
        (
            "cascade-pc2-apps_unified-web-agent",
            {
                "cascade-external": ["unifiedwebagent.cascade-pc2-apps.cascade"],
                "cascade-internal": ["unifiedwebagent.cascade-pc2-apps.cascade"],
            },
        ),
    ],
)
@pytest.mark.parametrize("fleet", ["home_fleet", "lab_fleet"])
def test_a_service_answers_to_its_agents_name(
    request: pytest.FixtureRequest, fleet: str, name: str, aliases: dict[str, list[str]]
) -> None:
    found = of_service(request.getfixturevalue(fleet), name)
    assert found["Name"] == name
    assert {net["Target"]: net["Aliases"] for net in found["TaskTemplate"]["Networks"]} == aliases


def test_an_agents_aliases_are_added_to_the_services(spec: Callable[..., Any]) -> None:
    found = spec(
        "{networks: {cascade-internal: {aliases: [den]}, cascade-external: }}",
        "[{name: Red_Fox, networks: {cascade-internal: {aliases: [burrow]}}}]",
    )
    assert found["TaskTemplate"]["Networks"] == [
        {"Target": "cascade-external", "Aliases": ["red_fox.alpha.cascade"]},
        {"Target": "cascade-internal", "Aliases": ["burrow", "den", "red_fox.alpha.cascade"]},
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "cascade-core_observability-hub",
            {
                "PROMETHEUS_ENABLED": "true",
                "PARALLEL_HEALTH_CHECKS": "true",
                "PORT": "9000",
                "HEALTH_PORT": "9001",
            },
        ),
        (
            "cascade-ai-engine_model-manager-suite",
            {
                "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
                "NVIDIA_VISIBLE_DEVICES": "GPU-11111111-2222-3333-4444-555555555555",
                "CUDA_VISIBLE_DEVICES": "0",
                "VRAM_BUDGET_PERCENTAGE": "80",
                "MODEL_CACHE_DIR": "/models",
                "HYBRID_INFERENCE_ENABLED": "true",
                "IDLE_TIMEOUT": "300",
                "PORT": "7211",
                "HEALTH_PORT": "8211",
            },
        ),
        ("cascade-personality_emotion-engine", {"STATE_SYNC": "true", "PORT": "5590", "HEALTH_PORT": "6590"}),
        ("cascade-personality_tone-detector", {"PORT": "5625", "HEALTH_PORT": "6625"}),
        (
            "cascade-pc2-core_observability-hub",
            {
                "AGENT_CONFIG": '{"mainpc_hub_endpoint":"http://mainpc:9000","scope":"pc2_agents"}',
                "MODEL_ENDPOINT": "http://modelmanagersuite.cascade-ai-engine.cascade:7211",
                "PORT": "9100",
                "HEALTH_PORT": "9110",
            },
        ),
    ],
)
def test_an_agents_environment_is_its_own_and_the_contracts(
    home_fleet: Fleet, name: str, expected: dict[str, str]
) -> None:
    found = environment(of_service(home_fleet, name)["TaskTemplate"]["ContainerSpec"]["Env"])
    contract = {"AGENT_NAME": workload(home_fleet, name).agent, "REPLICA_SLOT": "{{.Task.Slot}}"}
    assert found == {"NVIDIA_VISIBLE_DEVICES": "void"} | expected | contract


def test_the_later_environment_wins_and_the_contract_last(container: Callable[..., Any]) -> None:
    found = container(
        "{environment: {A: service, B: service, PORT: '1', REPLICA_SLOT: '9'}}",
        "[{name: Fox, environment: {B: agent, C: agent, HEALTH_PORT: '2', AGENT_NAME: Hen}}]",
    )
    assert found["Env"] == [
        "A=service",
        "AGENT_NAME=Fox",
        "B=agent",
        "C=agent",
        "HEALTH_PORT=2000",
        "NVIDIA_VISIBLE_DEVICES=void",
        "PORT=1000",
        "REPLICA_SLOT={{.Task.Slot}}",
    ]


def test_a_value_reaches_the_container_as_it_was_written(container: Callable[..., Any]) -> None:
    hostile = "a=b; touch x\n$(id) 'q' \"q\" -- ü"
    found = container(json.dumps({"environment": {"HOSTILE": hostile}}))
    assert environment(found["Env"])["HOSTILE"] == hostile


@pytest.mark.parametrize(
    ("ports", "absent", "endpoint"),
    [
        ([], [], {"Mode": "dnsrr"}),
        ([], ["ipvs"], {"Mode": "dnsrr"}),
        (["80:1000"], [], {"Mode": "vip", "Ports": [(80, 1000, "tcp", "ingress")]}),
        (["80:1000"], ["ipvs"], {"Mode": "dnsrr"}),
        (
            ["80:1000", "81:1000/udp"],
            ["gpu"],
            {"Mode": "vip", "Ports": [(80, 1000, "tcp", "ingress"), (81, 1000, "udp", "ingress")]},
        ),
    ],
)
def test_an_endpoint_is_dnsrr_unless_a_port_can_be_published(
    spec: Callable[..., Any], ports: list[str], absent: list[str], endpoint: dict[str, Any]
) -> None:
    found = spec(json.dumps({"ports": ports}), absent=absent)["EndpointSpec"]
    if "Ports" in found:
        keys = ("PublishedPort", "TargetPort", "Protocol", "PublishMode")
        found = found | {"Ports": [tuple(port[key] for key in keys) for port in found["Ports"]]}
    assert found == endpoint


def test_a_port_of_the_host_needs_neither_ipvs_nor_a_virtual_ip(spec: Callable[..., Any]) -> None:
    port, outside = "{target: 1000, published: 80, mode: host}", "networks: [cascade-external]"
    for absent in ([], ["ipvs"]):
        endpoint = spec(f"{{{outside}, ports: [{port}]}}", absent=absent)["EndpointSpec"]
        assert (endpoint["Mode"], [port["PublishMode"] for port in endpoint["Ports"]]) == ("dnsrr", ["host"])
    assert spec(f"{{{outside}, ports: [{port}, '81:1000']}}")["EndpointSpec"]["Mode"] == "vip"
    assert (
        spec(f"{{{outside}, ports: [{port}, '81:1000']}}", absent=["ipvs"])["EndpointSpec"]["Mode"] == "dnsrr"
    )


def test_a_port_belongs_to_the_agent_that_listens_on_it(alpha: Alpha) -> None:
    found, fleet = alpha("{ports: ['80:1001']}", "[{name: Fox}, {name: Hen}]")
    modes = {workload.agent: service_spec(workload, fleet)["EndpointSpec"]["Mode"] for workload in found}
    assert modes == {"Fox": "dnsrr", "Hen": "vip"}


def test_the_lab_publishes_no_port(lab_fleet: Fleet) -> None:
    found = of_service(lab_fleet, "cascade-request-handler_request-coordinator")
    assert found["EndpointSpec"] == {"Mode": "dnsrr"}


def test_a_device_that_the_machine_lacks_is_done_without(home_fleet: Fleet, lab_fleet: Fleet) -> None:
    for agent in ("audio-capture", "wake-word-detector"):
        name = f"cascade-audio-realtime_{agent}"
        assert len(of_container(home_fleet, name)["HostConfig"]["Devices"]) == 1
        assert of_container(lab_fleet, name)["HostConfig"]["Devices"] == []


def test_a_device_keeps_its_path_and_permissions(body: Callable[..., Any]) -> None:
    found = body("{devices: [/dev/a, '/dev/b:/dev/c:r', '/dev/gone']}", absent=["/dev/gone"])
    assert found["HostConfig"]["Devices"] == [
        {"PathOnHost": "/dev/a", "PathInContainer": "/dev/a", "CgroupPermissions": "rwm"},
        {"PathOnHost": "/dev/b", "PathInContainer": "/dev/c", "CgroupPermissions": "r"},
    ]


@pytest.mark.parametrize(
    ("agents", "absent", "limits"),
    [
        ("[{name: Fox}]", [], [("nofile", 1, 2)]),
        ("[{name: Fox}]", ["open-files"], [("nofile", 1, 2)]),
        ("[{name: Fox, realtime_priority: true}]", [], [("nofile", 1, 2), ("rtprio", 95, 95)]),
        ("[{name: Fox, realtime_priority: true}]", ["realtime"], [("nofile", 1, 2)]),
    ],
)
def test_limits_are_set_where_the_machine_has_them(
    alpha: Alpha, agents: str, absent: list[str], limits: list[tuple[str, int, int]]
) -> None:
    ulimits = "ulimits: {nofile: {soft: 1, hard: 2}}"
    (fox,), fleet = alpha(f"{{{ulimits}}}", agents, absent=absent)
    in_swarm = service_spec(fox, fleet)["TaskTemplate"]["ContainerSpec"]["Ulimits"]
    (fox,), fleet = alpha(f"{{devices: [/dev/snd], {ulimits}}}", agents, absent=absent)
    on_host = container_body(fox, fleet)["HostConfig"]["Ulimits"]
    found = [(limit["Name"], limit["Soft"], limit["Hard"]) for limit in in_swarm]
    assert found == [("core", 0, 0), *limits]
    assert on_host == in_swarm


def test_only_the_realtime_agent_of_the_seed_has_the_limit(home_fleet: Fleet, lab_fleet: Fleet) -> None:
    for fleet, expected in ((home_fleet, ["AudioCapture"]), (lab_fleet, [])):
        with_limit = [
            workload.agent
            for workload in fleet.workloads["cascade-audio-realtime"]
            if {"Name": "rtprio", "Soft": 95, "Hard": 95}
            in container_body(workload, fleet)["HostConfig"]["Ulimits"]
        ]
        assert with_limit == expected


@pytest.mark.parametrize(
    ("written", "named"),
    [
        (["SYS_NICE"], ["CAP_SYS_NICE"]),
        (["CAP_SYS_NICE"], ["CAP_SYS_NICE"]),
        (["ALL"], ["ALL"]),
        (["all", "cap_chown"], ["ALL", "CAP_CHOWN"]),
        (["SYS_NICE", "sys_nice", "CAP_SYS_NICE"], ["CAP_SYS_NICE"]),
        (["SYS_NICE", "CAP_CHOWN"], ["CAP_CHOWN", "CAP_SYS_NICE"]),
        ([], []),
    ],
)
def test_capabilities_have_the_engines_names(alpha: Alpha, written: list[str], named: list[str]) -> None:
    caps = {"user": "root", "cap_add": written, "cap_drop": written}
    (fox,), fleet = alpha(json.dumps(caps))
    in_swarm = service_spec(fox, fleet)["TaskTemplate"]["ContainerSpec"]
    (fox,), fleet = alpha(json.dumps(caps | {"devices": ["/dev/snd"]}))
    on_host = container_body(fox, fleet)["HostConfig"]
    assert (in_swarm["CapabilityAdd"], in_swarm["CapabilityDrop"]) == (named, named)
    assert (on_host["CapAdd"], on_host["CapDrop"]) == (named, named)


PORT = {"target": 1000, "published": 17000, "mode": "host"}


@pytest.mark.parametrize("order", ["start-first", "stop-first"])
@pytest.mark.parametrize(
    ("service", "agent", "updated"),
    [
        ({}, {}, ("as it says", 3)),
        ({}, {"persistent": True}, ("stop-first", 1)),
        ({"runtime": "nvidia"}, {}, ("stop-first", 1)),
        ({"ports": [PORT]}, {}, ("stop-first", 3)),
        ({"ports": [PORT | {"mode": "ingress"}]}, {}, ("as it says", 3)),
    ],
    ids=["any", "persistent", "GPU", "host port", "ingress port"],
)
def test_who_has_something_of_its_own_stops_before_its_successor_starts(
    spec: Callable[..., Any], order: str, service: Any, agent: Any, updated: tuple[str, int]
) -> None:
    deploy = {"update_config": {"order": order, "parallelism": 3}}
    networks = {"networks": ["cascade-internal", "cascade-external"]}
    update = spec(
        json.dumps(service | networks | {"deploy": deploy}), json.dumps([{"name": "Fox", **agent}])
    )["UpdateConfig"]
    expected = (order if updated[0] == "as it says" else updated[0], updated[1])
    assert (update["Order"], update["Parallelism"]) == expected


@pytest.mark.parametrize(
    ("scale", "cpus", "memory"), [(1, 10**9, 2**30), (0.5, 5 * 10**8, 2**29), (0.01, 10**7, 10737418)]
)
def test_the_scale_of_a_host_shrinks_reservations_and_no_limits(
    alpha: Alpha, scale: float, cpus: int, memory: int
) -> None:
    budget = "deploy: {resources: {limits: {cpus: 2, memory: 2G}, reservations: {cpus: 1, memory: 1G}}}"
    (fox,), fleet = alpha(f"{{{budget}}}", reservation_scale=scale)
    assert service_spec(fox, fleet)["TaskTemplate"]["Resources"] == {
        "Limits": {"NanoCPUs": 2 * 10**9, "MemoryBytes": 2 * 2**30, "Pids": 512},
        "Reservations": {"NanoCPUs": cpus, "MemoryBytes": memory},
    }
    (fox,), fleet = alpha(f"{{devices: [/dev/snd], {budget}}}", reservation_scale=scale)
    host_config = container_body(fox, fleet)["HostConfig"]
    assert (host_config["NanoCpus"], host_config["Memory"]) == (2 * 10**9, 2 * 2**30)
    assert host_config["MemoryReservation"] == memory


def test_what_is_unlimited_says_no_number(spec: Callable[..., Any], body: Callable[..., Any]) -> None:
    assert spec("{pids_limit: -1}")["TaskTemplate"]["Resources"] == {"Limits": {}, "Reservations": {}}
    on_host = body("{devices: [/dev/snd], pids_limit: -1}")["HostConfig"]
    assert "PidsLimit" not in on_host
    assert (on_host["NanoCpus"], on_host["Memory"], on_host["MemoryReservation"]) == (0, 0, 0)


def test_realtime_priority_says_its_limit_once(container: Callable[..., Any]) -> None:
    limits = container("{ulimits: {rtprio: 1}}", "[{name: Fox, realtime_priority: true}]")["Ulimits"]
    assert limits == [CORE, NOFILE, {"Name": "rtprio", "Soft": 95, "Hard": 95}]


def test_a_machine_that_cannot_set_it_does_without_the_default_limit_of_open_files(
    container: Callable[..., Any],
) -> None:
    assert container(absent=["open-files"])["Ulimits"] == [CORE]


def test_the_lab_scales_reservations_and_nothing_else(home_fleet: Fleet, lab_fleet: Fleet) -> None:
    (scale,) = {host.reservation_scale for host in lab_fleet.hosts.values()}
    for workloads in home_fleet.workloads.values():
        for found in (found for found in workloads if found.kind == "service"):
            at_home = of_service(home_fleet, found.name)["TaskTemplate"]["Resources"]
            in_lab = of_service(lab_fleet, found.name)["TaskTemplate"]["Resources"]
            assert in_lab["Limits"] == at_home["Limits"]
            amounts = {name: at_home["Reservations"][name] for name in ("NanoCPUs", "MemoryBytes")}
            assert in_lab["Reservations"] == {
                name: pytest.approx(amount * scale, abs=1) for name, amount in amounts.items()
            }


def test_mounts_name_volumes_as_they_are_on_the_host(container: Callable[..., Any]) -> None:
    found = container(
        "{volumes: ['data:/data', '/srv:/srv:ro'], tmpfs: [/run, '/tmp:size=64M,mode=1770']}",
        "[{name: Fox, volumes: ['shared:/common']}]",
    )
    assert found["Mounts"] == [
        {"Type": "volume", "Source": "alpha_data", "Target": "/data", "ReadOnly": False},
        {"Type": "bind", "Source": "/srv", "Target": "/srv", "ReadOnly": True},
        {"Type": "volume", "Source": "common", "Target": "/common", "ReadOnly": False},
        {"Type": "tmpfs", "Target": "/run"},
        {"Type": "tmpfs", "Target": "/tmp", "TmpfsOptions": {"SizeBytes": 64 * 2**20, "Mode": 0o1770}},
    ]


def test_what_the_service_says_reaches_its_containers(alpha: Alpha) -> None:
    said = {
        "command": "serve 'a b'",
        "entrypoint": ["/entry"],
        "user": 1000,
        "working_dir": "/app",
        "hostname": "den",
        "init": False,
        "read_only": True,
        "stop_signal": "SIGINT",
        "stop_grace_period": "3s",
        "sysctls": {"net.core.somaxconn": 1024},
        "extra_hosts": ["hole:192.0.2.9"],
        "logging": {"driver": "local", "options": {"max-size": "1m"}},
    }
    (fox,), fleet = alpha(json.dumps(said))
    template = service_spec(fox, fleet)["TaskTemplate"]
    expected = {
        "Command": ["/entry"],
        "Args": ["serve", "a b"],
        "User": "1000",
        "Dir": "/app",
        "Hostname": "den",
        "Init": False,
        "ReadOnly": True,
        "StopSignal": "SIGINT",
        "StopGracePeriod": 3 * SECOND,
        "Sysctls": {"net.core.somaxconn": "1024"},
        "Hosts": ["192.0.2.9 hole"],
    }
    assert {key: template["ContainerSpec"][key] for key in expected} == expected
    assert template["LogDriver"] == {"Name": "local", "Options": {"max-size": "1m"}}

    (fox,), fleet = alpha(
        json.dumps(said | {"shm_size": "1G", "ports": ["80:1000/udp"], "networks": ["cascade-external"]})
    )
    body = container_body(fox, fleet)
    expected = {
        "Entrypoint": ["/entry"],
        "Cmd": ["serve", "a b"],
        "User": "1000",
        "WorkingDir": "/app",
        "Hostname": "den",
        "StopSignal": "SIGINT",
        "StopTimeout": 3,
    }
    on_host = {
        "Init": False,
        "ReadonlyRootfs": True,
        "Sysctls": {"net.core.somaxconn": "1024"},
        "ExtraHosts": ["hole:192.0.2.9"],
        "LogConfig": {"Type": "local", "Config": {"max-size": "1m"}},
        "ShmSize": 2**30,
        "PortBindings": {"1000/udp": [{"HostIp": "", "HostPort": "80"}]},
    }
    assert {key: body[key] for key in expected} == expected
    assert {key: body["HostConfig"][key] for key in on_host} == on_host


@pytest.mark.parametrize(
    ("policy", "in_swarm", "on_host"),
    [
        ({}, ("any", 5 * SECOND, 0, 0), {"Name": "always", "MaximumRetryCount": 0}),
        (
            {"condition": "on-failure", "delay": "1s", "max_attempts": 3, "window": "1m"},
            ("on-failure", SECOND, 3, 60 * SECOND),
            {"Name": "on-failure", "MaximumRetryCount": 3},
        ),
        (
            {"condition": "none", "max_attempts": 3},
            ("none", 5 * SECOND, 3, 0),
            {"Name": "no", "MaximumRetryCount": 0},
        ),
        (
            {"condition": "any", "max_attempts": 10},
            ("any", 5 * SECOND, 10, 0),
            {"Name": "always", "MaximumRetryCount": 0},
        ),
    ],
)
def test_a_restart_policy_has_two_dialects(
    alpha: Alpha, policy: dict[str, Any], in_swarm: tuple[Any, ...], on_host: dict[str, Any]
) -> None:
    deploy = {"deploy": {"restart_policy": policy}}
    (fox,), fleet = alpha(json.dumps(deploy))
    keys = ("Condition", "Delay", "MaxAttempts", "Window")
    found = service_spec(fox, fleet)["TaskTemplate"]["RestartPolicy"]
    assert found == dict(zip(keys, in_swarm, strict=True))
    (fox,), fleet = alpha(json.dumps(deploy | {"devices": ["/dev/snd"]}))
    assert container_body(fox, fleet)["HostConfig"]["RestartPolicy"] == on_host


@pytest.mark.parametrize(
    ("service", "agent", "command"),
    [
        ("{}", "{}", "curl -f http://localhost:2000/health"),
        ("{healthcheck: {test: [CMD, service]}}", "{}", "service"),
        ("{healthcheck: {test: [CMD, service]}}", "{health_check: {test: [CMD, agent]}}", "agent"),
    ],
)
def test_an_agents_own_health_check_comes_first(
    container: Callable[..., Any], service: str, agent: str, command: str
) -> None:
    agents = "[" + "{name: Fox, " + agent[1:] + "]"
    assert container(service, agents)["Healthcheck"]["Test"] == ["CMD", *command.split()]


def test_a_service_without_agents_has_only_the_check_it_declares(container: Callable[..., Any]) -> None:
    assert container("{}", "[]")["Healthcheck"] is None
    assert container("{healthcheck: {test: 'exit 0'}}", "[]")["Healthcheck"]["Test"] == [
        "CMD-SHELL",
        "exit 0",
    ]


@pytest.mark.parametrize(("written", "seconds"), [("500ms", 1), ("1500ms", 2), ("3s", 3), ("0s", 0)])
def test_a_host_container_has_whole_seconds_to_stop_and_never_less(
    body: Callable[..., Any], written: str, seconds: int
) -> None:
    assert body(f"{{devices: [/dev/snd], stop_grace_period: {written}}}")["StopTimeout"] == seconds


@pytest.mark.parametrize(
    ("service", "agents", "checked"),
    [
        ("{}", "[{name: Fox}]", True),
        ("{}", "[]", False),
        ("{healthcheck: {test: [NONE]}}", "[]", False),
        ("{healthcheck: {test: [NONE]}}", "[{name: Fox}]", False),
        ("{healthcheck: {test: [NONE]}}", "[{name: Fox, health_check: {test: 'true'}}]", True),
    ],
)
def test_a_workload_is_checked_unless_its_check_is_none(
    alpha: Alpha, service: str, agents: str, checked: bool
) -> None:
    (found,), fleet = alpha(service, agents)
    assert found.checked is checked
    check = service_spec(found, fleet)["TaskTemplate"]["ContainerSpec"]["Healthcheck"]
    assert checked or check is None or check["Test"] == ["NONE"]


def test_labels_are_the_containers_and_those_of_deploy_the_services(alpha: Alpha) -> None:
    said = {
        "labels": {"owner": "me", "flag": None, "cascade.agent": "Hen"},
        "deploy": {"labels": ["team=blue", "cascade.group=owls", "flag"]},
    }
    (fox,), fleet = alpha(json.dumps(said))
    spec = service_spec(fox, fleet)
    identity = {"cascade.system": "cascade", "cascade.group": "alpha", "cascade.agent": "Fox"}
    digested = {"cascade.digest": spec["Labels"]["cascade.digest"]}
    assert spec["TaskTemplate"]["ContainerSpec"]["Labels"] == {"owner": "me", "flag": ""} | identity
    assert spec["Labels"] == {"team": "blue", "flag": ""} | identity | digested
    (fox,), fleet = alpha(json.dumps(said | {"devices": ["/dev/snd"]}))
    body = container_body(fox, fleet)
    digested = {"cascade.digest": body["Labels"]["cascade.digest"]}
    assert body["Labels"] == {"owner": "me", "team": "blue", "flag": ""} | identity | digested


def test_what_swarm_has_for_placing_replicas_reaches_it(spec: Callable[..., Any]) -> None:
    placement = {"max_replicas_per_node": 2, "preferences": [{"spread": "node.labels.zone"}]}
    found = spec(json.dumps({"deploy": {"placement": placement}}))["TaskTemplate"]["Placement"]
    assert found == {
        "Constraints": [],
        "Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.zone"}}],
        "MaxReplicas": 2,
    }


@pytest.mark.parametrize(
    ("keys", "most"),
    [
        ({"pids_limit": 99}, 99),
        ({"deploy": {"resources": {"limits": {"pids": 99}}}}, 99),
        ({"pids_limit": 99, "deploy": {"resources": {"limits": {"pids": 99}}}}, 99),
        ({"pids_limit": -1}, None),
        ({"pids_limit": 0}, None),
        ({}, 512),
    ],
)
def test_a_container_may_have_only_so_many_processes(alpha: Alpha, keys: Any, most: int | None) -> None:
    (fox,), fleet = alpha(json.dumps(keys))
    assert service_spec(fox, fleet)["TaskTemplate"]["Resources"]["Limits"].get("Pids") == most
    (fox,), fleet = alpha(json.dumps(keys | {"devices": ["/dev/snd"]}))
    assert container_body(fox, fleet)["HostConfig"].get("PidsLimit") == most


def test_terminals_groups_and_name_servers_reach_both_kinds_of_workload(alpha: Alpha) -> None:
    said = {
        "tty": True,
        "stdin_open": True,
        "group_add": ["audio", 44],
        "dns": "192.0.2.53",
        "dns_search": ["den.example", "example"],
        "dns_opt": ["ndots:1"],
    }
    (fox,), fleet = alpha(json.dumps(said))
    found = service_spec(fox, fleet)["TaskTemplate"]["ContainerSpec"]
    assert {key: found[key] for key in ("TTY", "OpenStdin", "Groups", "DNSConfig")} == {
        "TTY": True,
        "OpenStdin": True,
        "Groups": ["audio", "44"],
        "DNSConfig": {
            "Nameservers": ["192.0.2.53"],
            "Search": ["den.example", "example"],
            "Options": ["ndots:1"],
        },
    }
    (fox,), fleet = alpha(json.dumps(said | {"devices": ["/dev/snd"]}))
    body = container_body(fox, fleet)
    on_host = {
        "GroupAdd": ["audio", "44"],
        "Dns": ["192.0.2.53"],
        "DnsSearch": ["den.example", "example"],
        "DnsOptions": ["ndots:1"],
    }
    assert (body["Tty"], body["OpenStdin"]) == (True, True)
    assert {key: body["HostConfig"][key] for key in on_host} == on_host


def test_mounts_in_long_form_keep_their_options(container: Callable[..., Any]) -> None:
    volumes = [
        {"type": "volume", "source": "data", "target": "/a", "volume": {"nocopy": True}},
        {"type": "bind", "source": "/srv", "target": "/b", "bind": {"propagation": "rslave"}},
        {"type": "bind", "source": "/srv", "target": "/c", "bind": {"create_host_path": False}},
        {"type": "tmpfs", "target": "/d", "read_only": True, "tmpfs": {"size": "1M", "mode": "1770"}},
        {"type": "tmpfs", "target": "/e"},
    ]
    assert container(json.dumps({"volumes": volumes, "tmpfs": "/f"}))["Mounts"] == [
        {
            "Type": "volume",
            "Source": "alpha_data",
            "Target": "/a",
            "ReadOnly": False,
            "VolumeOptions": {"NoCopy": True},
        },
        {
            "Type": "bind",
            "Source": "/srv",
            "Target": "/b",
            "ReadOnly": False,
            "BindOptions": {"Propagation": "rslave"},
        },
        {"Type": "bind", "Source": "/srv", "Target": "/c", "ReadOnly": False},
        {
            "Type": "tmpfs",
            "Target": "/d",
            "ReadOnly": True,
            "TmpfsOptions": {"SizeBytes": 2**20, "Mode": 0o1770},
        },
        {"Type": "tmpfs", "Target": "/e"},
        {"Type": "tmpfs", "Target": "/f"},
        TMP,
    ]


@pytest.mark.parametrize(
    ("restart", "in_swarm", "on_host"),
    [
        ("always", ("any", 0), ("always", 0)),
        ("unless-stopped", ("any", 0), ("always", 0)),
        ("no", ("none", 0), ("no", 0)),
        (False, ("none", 0), ("no", 0)),
        ("on-failure", ("on-failure", 0), ("on-failure", 0)),
        ("on-failure:3", ("on-failure", 3), ("on-failure", 3)),
    ],
)
def test_restart_is_the_short_form_of_a_restart_policy(
    alpha: Alpha, restart: object, in_swarm: tuple[str, int], on_host: tuple[str, int]
) -> None:
    (fox,), fleet = alpha(json.dumps({"restart": restart}))
    found = service_spec(fox, fleet)["TaskTemplate"]["RestartPolicy"]
    assert (found["Condition"], found["MaxAttempts"], found["Delay"]) == (*in_swarm, 5 * SECOND)
    (fox,), fleet = alpha(json.dumps({"restart": restart, "devices": ["/dev/snd"]}))
    host_config = container_body(fox, fleet)["HostConfig"]
    assert tuple(host_config["RestartPolicy"].values()) == on_host


def test_a_plain_service_answers_to_its_bare_name_and_an_agent_does_not(spec: Callable[..., Any]) -> None:
    networks = "{networks: {cascade-internal: {aliases: [den]}}}"
    plain = spec(networks, "[]")["TaskTemplate"]["Networks"]
    assert plain == [{"Target": "cascade-internal", "Aliases": ["alpha", "alpha.alpha.cascade", "den"]}]
    agent = spec(networks)["TaskTemplate"]["Networks"]
    assert agent == [{"Target": "cascade-internal", "Aliases": ["den", "fox.alpha.cascade"]}]


def test_every_object_carries_the_digest_of_its_spec(home_fleet: Fleet, lab_fleet: Fleet) -> None:
    for fleet in (home_fleet, lab_fleet):
        for found in (found for workloads in fleet.workloads.values() for found in workloads):
            make = service_spec if found.kind == "service" else container_body
            said = dict(make(found, fleet))
            label = said.pop("Labels")["cascade.digest"]
            assert label == digest(said)
            assert re.fullmatch("[0-9a-f]{12}", label)


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})
    assert digest({"a": [1, 2]}) != digest({"a": [2, 1]})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("environment: {A: '1', B: '2'}", "environment: {B: '2', A: '1'}"),
        ("environment: {A: '1'}", "environment: ['A=1']"),
        ("networks: [cascade-internal, cascade-external]", "networks: [cascade-external, cascade-internal]"),
        ("user: root, cap_add: [SYS_NICE, CHOWN]", "user: root, cap_add: [CAP_CHOWN, CAP_SYS_NICE]"),
        ("ulimits: {nofile: 1, core: 0}", "ulimits: {core: {soft: 0, hard: 0}, nofile: 1}"),
        ("stop_grace_period: 90s", "stop_grace_period: 1m30s"),
        ("volumes: ['data:/d']", "volumes: [{type: volume, source: data, target: /d}]"),
    ],
)
def test_two_ways_to_write_the_same_give_the_same_digest(
    spec: Callable[..., Any], one: str, other: str
) -> None:
    assert spec(f"{{{one}}}")["Labels"] == spec(f"{{{other}}}")["Labels"]


DIGESTS = """\
import runpy, sys
from cascade.planning.specs import container_body, service_spec

fleet = runpy.run_path(sys.argv[1])["home"]()
for workloads in fleet.workloads.values():
    for found in workloads:
        make = service_spec if found.kind == "service" else container_body
        print(found.name, make(found, fleet)["Labels"]["cascade.digest"])
"""


def test_two_processes_with_other_hash_seeds_give_the_same_digests() -> None:
    conftest = str(Path(__file__).with_name("conftest.py"))
    root = Path(__file__).resolve().parents[2]
    one, other = (
        subprocess.run(
            [sys.executable, "-c", DIGESTS, conftest],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for seed in ("1", "2")
    )
    assert len(one) == 69
    assert one == other


def test_every_spec_can_be_posted_as_json(home_fleet: Fleet) -> None:
    for found in (found for workloads in home_fleet.workloads.values() for found in workloads):
        make = service_spec if found.kind == "service" else container_body
        said = make(found, home_fleet)
        assert json.loads(json.dumps(said, allow_nan=False)) == said


def test_every_port_of_a_host_container_is_exposed_and_bound(alpha: Alpha) -> None:
    said = {"devices": ["/dev/snd"], "ports": ["80:1000", "81:1000"], "networks": ["cascade-external"]}
    (fox,), fleet = alpha(json.dumps(said))
    body = container_body(fox, fleet)
    assert body["ExposedPorts"] == {"1000/tcp": {}}
    assert body["HostConfig"]["PortBindings"] == {
        "1000/tcp": [{"HostIp": "", "HostPort": "80"}, {"HostIp": "", "HostPort": "81"}]
    }
