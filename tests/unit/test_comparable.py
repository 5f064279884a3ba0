"""What the engine returns for what was posted compares equal to it."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from cascade.model.fleet import Fleet
from cascade.model.secrets import UNKNOWN_DIGITS
from cascade.model.workload import Workload
from cascade.planning.comparable import comparable
from cascade.planning.diff import diff_fields
from cascade.planning.plan import Plan, make_plan
from cascade.planning.specs import container_body, service_spec
from cascade.planning.target import target_of

Rich = Callable[..., tuple[Workload, Fleet]]
NETWORKS = {"cascade-internal": "fquwbem7r1ouf5m1vttuyxdpe", "cascade-external": "l6hli70lgfcw0u0op7zztxhoe"}

CONFIGS = {
    f"{prefix}-{hashlib.sha256(data).hexdigest()[:12]}": (f"tk2jvrk6hrqkqkdrvb0zu4t7{prefix[0]}", data)
    for prefix, data in (("alpha_settings", b"colour: red"), ("taken", b"x"))
}

SECRETS = {f"cascade_{name}-{UNKNOWN_DIGITS}": f"id of {name}" for name in ("password", "key")}
KEPT = {"Init", "ForceUpdate", "MaxFailureRatio", "MaxAttempts", "Window", "Replicas"}


def stored(value: Any) -> Any:
    """A posted service as Docker 26.1.5 gives it back: most of what is empty is left out."""
    if isinstance(value, dict):
        kept = {key: stored(item) for key, item in value.items()}
        said = {key for key, item in kept.items() if item or key in KEPT}
        return {key: item for key, item in kept.items() if key in said}
    return [stored(item) for item in value] if isinstance(value, list) else value


def by_number(spec: Any) -> Any:
    """The same service with its networks, configs and secrets by ID."""
    template, container = spec["TaskTemplate"], spec["TaskTemplate"]["ContainerSpec"]
    networks = [{**network, "Target": NETWORKS[network["Target"]]} for network in template["Networks"]]
    configs = [
        {**config, "ConfigID": CONFIGS[config["ConfigName"]][0]} for config in container.get("Configs", ())
    ]
    secrets = [
        {**secret, "SecretID": SECRETS[secret["SecretName"]]} for secret in container.get("Secrets", ())
    ]
    named = {"ContainerSpec": {**container, "Configs": configs, "Secrets": secrets}, "Networks": networks}
    return {**spec, "TaskTemplate": {**template, **named}}


def with_defaults(spec: Any) -> Any:
    """The same service with what engines and their command line add."""
    template = spec["TaskTemplate"]
    added = {
        "Privileges": {"CredentialSpec": None, "SELinuxContext": None},
        "DNSConfig": {},
        "TTY": False,
        "OpenStdin": False,
    }
    return {
        **spec,
        "TaskTemplate": {**template, "ContainerSpec": {**added, **template["ContainerSpec"]}},
        "RollbackConfig": {**spec["RollbackConfig"], "Delay": 0},
        "UpdateConfig": {"Delay": 0, **spec["UpdateConfig"]},
    }


def in_another_order(value: Any, name: str = "") -> Any:
    """The same service with its keys turned round, and every list whose order means nothing."""
    if isinstance(value, dict):
        return {key: in_another_order(item, key) for key, item in reversed(value.items())}
    if not isinstance(value, list):
        return value
    items = [in_another_order(item) for item in value]
    return items if name in ("Command", "Args", "Entrypoint", "Cmd", "Test") else items[::-1]


def restarted_by_hand(spec: Any) -> Any:
    return {**spec, "TaskTemplate": {**spec["TaskTemplate"], "ForceUpdate": 7}}


def released(spec: Any) -> Any:
    return {**spec, "Labels": {**spec["Labels"], "cascade.release": "r17"}}


def differences(desired: Any, observed: Any, kind: Any = "service") -> list[str]:
    return [str(field) for field in diff_fields(comparable(kind, desired), comparable(kind, observed))]


@pytest.mark.parametrize(
    "change", [stored, with_defaults, in_another_order, restarted_by_hand, released], ids=lambda f: f.__name__
)
def test_a_service_that_was_read_back_differs_in_nothing(
    change: Callable[[Any], Any], rich: Rich, home_fleet: Fleet, lab_fleet: Fleet
) -> None:
    found = [rich("service")] + [
        (workload, fleet)
        for fleet in (home_fleet, lab_fleet)
        for workloads in fleet.workloads.values()
        for workload in workloads
        if workload.kind == "service"
    ]
    assert len(found) == 1 + 2 * 62
    for workload, fleet in found:
        posted = service_spec(workload, fleet)
        assert change(posted) != posted or change is stored
        assert differences(posted, change(posted)) == []


def test_all_at_once_differs_in_nothing_either(rich: Rich) -> None:
    posted = service_spec(*rich("service"))
    observed = released(restarted_by_hand(in_another_order(with_defaults(stored(posted)))))
    assert differences(posted, observed) == []


NODE = {
    "ID": "n1",
    "Spec": {"Labels": {}, "Availability": "active"},
    "Description": {"Hostname": "mainpc"},
    "Status": {"State": "ready"},
}


def snapshot(services: list[Any], containers: list[Any]) -> Mapping[str, Any]:
    """A host whose engine runs and holds this; of everything else it has nothing."""
    networks = [
        {
            "Name": name,
            "Id": number,
            "Driver": "overlay",
            "Internal": name == "cascade-internal",
            "Attachable": True,
            "Options": None,
            "IPAM": {"Config": [{"Subnet": "172.20.0.0/16"}]},
        }
        for name, number in NETWORKS.items()
    ]
    swarm = {"NodeID": "n1", "NodeAddr": "192.0.2.1", "ControlAvailable": True, "LocalNodeState": "active"}
    return {
        "host": {"name": "mainpc", "cpus": 2, "memory_bytes": 2**33},
        "packages": {},
        "sysctls": {},
        "units": {},
        "files": {"/etc/docker/daemon.json": None},
        "docker": {
            "api": "1.45",
            "started": 0.0,
            "swarm": swarm,
            "images": [],
            "volumes": [],
            "containers": containers,
            "cluster": {"ID": "c1", "DefaultAddrPool": [], "SubnetSize": 24},
            "nodes": [NODE],
            "networks": networks,
            "configs": [
                {
                    "ID": number,
                    "Name": name,
                    "Labels": {"cascade.system": "cascade"},
                    "sha256": hashlib.sha256(data).hexdigest(),
                }
                for name, (number, data) in CONFIGS.items()
            ],
            "secrets": [
                {"ID": number, "Name": name, "Labels": {"cascade.system": "cascade"}}
                for name, number in SECRETS.items()
            ],
            "services": [{"ID": spec["Name"], "Spec": spec} for spec in services],
            "tasks": [],
        },
    }


def rollout_changes(plan: Plan) -> list[str]:
    """What the plan would do to services and containers, and why."""
    return [
        f"{change}: {', '.join(map(str, change.fields))}"
        for change in plan.changes
        if change.key.kind in ("service", "container")
    ]


def test_a_service_is_planned_once_and_then_needs_no_change(rich: Rich) -> None:
    fox, fleet = rich("service")
    assert rollout_changes(make_plan(target_of(fleet), {"mainpc": snapshot([], [])})) == [
        "create service alpha_fox: "
    ]
    observed = by_number(in_another_order(with_defaults(stored(service_spec(fox, fleet)))))
    assert rollout_changes(make_plan(target_of(fleet), {"mainpc": snapshot([observed], [])})) == []


def test_a_service_on_another_network_is_found_by_its_name(rich: Rich) -> None:
    fox, fleet = rich("service")
    observed = by_number(stored(service_spec(fox, fleet)))
    observed["TaskTemplate"]["Networks"][0]["Target"] = "elsewhere"
    (change,) = rollout_changes(make_plan(target_of(fleet), {"mainpc": snapshot([observed], [])}))
    assert change.startswith("update service alpha_fox: ")
    assert "TaskTemplate.Networks.cascade-external unset → " in change
    assert "TaskTemplate.Networks.elsewhere " in change


IMAGE = {
    "Hostname": "",
    "User": "65534:65534",
    "Env": ["PATH=/bin"],
    "Cmd": None,
    "WorkingDir": "/",
    "Entrypoint": ["/stand-in"],
    "Labels": {"org.opencontainers.image.title": "An image"},
    "StopSignal": "SIGTERM",
}
ENGINE_DEFAULTS = {
    "Binds": None,
    "LogConfig": {"Type": "json-file", "Config": {"max-file": "5"}},
    "NetworkMode": "bridge",
    "Dns": None,
    "IpcMode": "private",
    "Privileged": False,
    "SecurityOpt": None,
    "ShmSize": 67108864,
    "Runtime": "runc",
    "PidsLimit": None,
}


def inspected(name: str, body: Any, running: bool = True) -> dict[str, Any]:
    """A created container as Docker 26.1.5 shows it, with what it took from its image."""
    identity = hashlib.sha256(name.encode()).hexdigest()
    config = {key: value for key, value in body.items() if key not in ("HostConfig", "NetworkingConfig")}
    networks = body["NetworkingConfig"]["EndpointsConfig"]
    return {
        "container": {
            "Id": identity,
            "Name": f"/{name}",
            "State": {"Status": "running" if running else "exited", "Running": running, "Paused": False},
            "Config": {
                **IMAGE,
                **config,
                "Hostname": config.get("Hostname", identity[:12]),
                "Env": [*body["Env"], "PATH=/bin"],
                "Labels": IMAGE["Labels"] | body["Labels"],
            },
            "HostConfig": {**ENGINE_DEFAULTS, **body["HostConfig"]},
            "NetworkSettings": {
                "Networks": {
                    network: {
                        "Aliases": [*endpoint["Aliases"], identity[:12]],
                        "NetworkID": NETWORKS[network],
                    }
                    for network, endpoint in networks.items()
                }
            },
        },
        "image": IMAGE,
    }


def plain(alpha: Any) -> tuple[Workload, Fleet]:
    """A host container that says almost nothing, so that its image says the rest."""
    (fox,), fleet = alpha("{devices: [/dev/snd], networks: [cascade-internal]}")
    return fox, fleet


@pytest.mark.parametrize("kind", ["plain", "rich"])
def test_a_host_container_is_planned_once_and_then_needs_no_change(
    kind: str, rich: Rich, alpha: Callable[..., Any]
) -> None:
    fox, fleet = rich("container") if kind == "rich" else plain(alpha)
    assert rollout_changes(make_plan(target_of(fleet), {"mainpc": snapshot([], [])})) == [
        "create container alpha_fox: "
    ]
    found = inspected("alpha_fox", in_another_order(container_body(fox, fleet)))
    assert rollout_changes(make_plan(target_of(fleet), {"mainpc": snapshot([], [found])})) == []


def test_log_options_that_the_engine_adds_from_its_own_settings_are_no_difference(alpha: Any) -> None:
    logging = {"driver": "json-file", "options": {"max-size": "1m"}}
    said = {"devices": ["/dev/snd"], "networks": ["cascade-internal"], "logging": logging}
    (fox,), fleet = alpha(json.dumps(said))
    found = inspected("alpha_fox", container_body(fox, fleet))
    options = found["container"]["HostConfig"]["LogConfig"]["Config"]
    options["max-file"] = "5"
    assert rollout_changes(make_plan(target_of(fleet), {"mainpc": snapshot([], [found])})) == []
    options["max-size"] = "2m"
    (change,) = rollout_changes(make_plan(target_of(fleet), {"mainpc": snapshot([], [found])}))
    assert "HostConfig.LogConfig.Config.max-size 2m → 1m" in change


def test_a_host_container_whose_port_nobody_exposed_is_replaced(alpha: Any) -> None:
    said = {"devices": ["/dev/snd"], "ports": ["80:1000"], "networks": ["cascade-external"]}
    (fox,), fleet = alpha(json.dumps(said))
    found = inspected("alpha_fox", container_body(fox, fleet))
    assert rollout_changes(make_plan(target_of(fleet), {"mainpc": snapshot([], [found])})) == []
    del found["container"]["Config"]["ExposedPorts"]
    (change,) = rollout_changes(make_plan(target_of(fleet), {"mainpc": snapshot([], [found])}))
    assert change.startswith("replace container alpha_fox: ExposedPorts")


def test_a_host_container_that_has_stopped_is_only_started(rich: Rich) -> None:
    fox, fleet = rich("container")
    found = inspected("alpha_fox", container_body(fox, fleet), running=False)
    assert rollout_changes(make_plan(target_of(fleet), {"mainpc": snapshot([], [found])})) == [
        "update container alpha_fox: running False → True"
    ]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"A": ""}, {}, True),
        ({"A": 0}, {}, True),
        ({"A": False}, {}, True),
        ({"A": None}, {}, True),
        ({"A": []}, {}, True),
        ({"A": {"B": {"C": None}}}, {}, True),
        ({"Env": ["A=1", "B=2"]}, {"Env": ["B=2", "A=1"]}, True),
        ({"Env": ["A="]}, {"Env": []}, False),
        ({"Env": ["A=b=c"]}, {"Env": ["A=b"]}, False),
        ({"Constraints": ["a", "b"]}, {"Constraints": ["b", "a"]}, True),
        ({"Constraints": ["a"]}, {"Constraints": ["a", "b"]}, False),
        ({"Args": ["a", "b"]}, {"Args": ["b", "a"]}, False),
        ({"Test": ["CMD", "a"]}, {"Test": ["a", "CMD"]}, False),
        ({"A": "1"}, {"A": 1}, False),
        ({"A": "0"}, {}, False),
        ({"Init": True}, {}, False),
        ({"Labels": {"quiet": ""}}, {"Labels": {}}, False),
        ({"Labels": {"quiet": ""}}, {}, False),
        ({"Labels": {}}, {}, True),
        ({"Labels": {"cascade.release": "r1"}}, {}, True),
        ({"Sysctls": {"a": ""}}, {"Sysctls": {}}, False),
        ({"LogDriver": {"Options": {"a": ""}}}, {"LogDriver": {"Options": {}}}, False),
        ({"LogConfig": {"Config": {"a": ""}}}, {"LogConfig": {"Config": {}}}, False),
        ({"Mode": {"Replicated": {"Replicas": 1}}}, {"Mode": {"Replicated": {}}}, False),
    ],
)
@pytest.mark.parametrize("kind", ["service", "container"])
def test_what_is_equal_is_what_means_the_same(kind: Any, one: Any, other: Any, equal: bool) -> None:
    assert (comparable(kind, one) == comparable(kind, other)) is equal


def test_a_file_compares_by_its_digest() -> None:
    read_back = {"sha256": hashlib.sha256("äöü\n".encode()).hexdigest(), "mode": "644"}
    assert comparable("file", {"content": "äöü\n", "mode": "644"}) == read_back
    assert comparable("file", read_back) == read_back


@pytest.mark.parametrize("kind", ["package", "sysctl", "unit", "swarm", "network", "volume", "image"])
def test_other_resources_compare_as_they_are(kind: Any) -> None:
    fields = {"installed": False, "value": "", "options": {}, "Env": ["A=1"]}
    assert comparable(kind, fields) == fields


def test_comparing_changes_nothing(rich: Rich) -> None:
    posted = service_spec(*rich("service"))
    comparable("service", posted)
    assert posted == service_spec(*rich("service"))
