"""Machines, networks, groups and their order, checked as one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from cascade.model.compose import HealthTiming
from cascade.model.fleet import Fleet, FleetSettings, Overlay, SwarmPool, assemble
from cascade.model.host import Host, constraint_fault
from cascade.model.service import GroupFile
from cascade.model.strict import InvalidFiles, path_of
from cascade.model.workload import workloads_of

IMAGE = f"alpha/image@sha256:{'0' * 64}"
ONE = {"swarm_role": "manager", "node_labels": {"system": "one"}}
TWO = {"swarm_role": "worker", "node_labels": {"system": "two"}}
FOX = {"name": "Fox", "port": 7000, "health_port": 8000}


def host(name: str, **keys: Any) -> Host:
    usual = {
        "name": name,
        "swarm_address": "192.0.2.1" if name == "one" else "192.0.2.2",
        "swarm_role": "worker",
        "distribution": "debian",
        "codename": "trixie",
        "docker_source": "docker",
    }
    return Host.model_validate({**usual, **keys})


# What a device needs beside it.
REASON = "x-security: {exceptions: {devices: It plays.}}"
INNER = "{inner: {external: true}}"


def group(name: str = "alpha", service: str = "{}", networks: str = INNER, agents: Any = (FOX,)) -> GroupFile:
    usual = {"image": "alpha/image", "networks": ["inner"], "x-agents": list(agents)}
    keys = {**usual, **yaml.safe_load(service)}
    services = {name: keys}
    return GroupFile.model_validate(
        {"name": name, "services": services, "networks": yaml.safe_load(networks)}
    )


def small(**changes: Any) -> Fleet:
    """Two hosts and the group `alpha`, with these settings, `hosts` or `groups` in place of the usual."""
    hosts = changes.pop("hosts", {"one": ONE, "two": TWO})
    groups = changes.pop("groups", [group()])
    settings = {
        "system": "zoo",
        "phases": [["alpha"]],
        "networks": [Overlay(name="inner")],
        "swarm_pool": SwarmPool.model_validate({"pool": "10.0.0.0/8"}),
        "images": {"alpha/image": {"reference": IMAGE}},
    }
    return assemble(
        FleetSettings.model_validate({**settings, **changes}),
        {name: host(name, **keys) for name, keys in hosts.items()},
        {group.name: group for group in groups},
    )


Problems = list[tuple[str, str, str]]


def problems(**changes: Any) -> Problems:
    with pytest.raises(InvalidFiles) as invalid:
        small(**changes)
    return [(problem.file, problem.path, problem.reason) for problem in invalid.value.problems]


def alpha(service: str, **keys: Any) -> dict[str, Any]:
    return {"groups": [group("alpha", service, **keys)]}


PINNED = "placement: {constraints: [node.labels.system == one]}"


@pytest.mark.parametrize(
    ("changes", "file", "path", "reason"),
    [
        ({"phases": [["alpha"], ["alpha"]]}, "group_data", "phases", "alpha stands twice"),
        ({"phases": [["alpha", "beta"]]}, "group_data", "phases", "there is no group file for beta"),
        (
            {"groups": [group(), group("beta")]},
            "group_data",
            "phases",
            "the group beta has a file, beta.yaml, but stands in no phase",
        ),
        (
            {"hosts": {"one": TWO}},
            "group_data",
            "one.swarm_role",
            "no host is the manager",
        ),
        (
            {"hosts": {"one": ONE, "two": ONE}},
            "group_data",
            "two.swarm_role",
            "exactly one host is the manager, and one is one already",
        ),
        (
            {"hosts": {"Main PC": ONE}},
            "inventory",
            "['Main PC']",
            "'Main PC' is no DNS name of lower-case letters, digits, - and dots",
        ),
        ({"hosts": {}}, "inventory", "", "there is no host in it"),
        (
            {"hosts": {"one": ONE, "two": {**TWO, "swarm_address": "192.0.2.1"}}},
            "group_data",
            "two.swarm_address",
            "192.0.2.1 is the address of one too",
        ),
        (
            {"images": {}},
            "alpha.yaml",
            "services.alpha.image",
            "alpha/image is mapped to no image",
        ),
        (
            {"images": {"alpha/image": {"path": "gone.tar"}}},
            "group_data",
            "images['alpha/image']",
            "there is no archive gone.tar",
        ),
        (
            alpha("{deploy: {placement: {constraints: [node.labels.system = one]}}}"),
            "alpha.yaml",
            "services.alpha.deploy.placement.constraints",
            "'node.labels.system = one' is no constraint",
        ),
        (
            alpha("{deploy: {placement: {constraints: [node.ip == 192.0.2.1]}}}"),
            "alpha.yaml",
            "services.alpha.deploy.placement.constraints",
            "'node.ip == 192.0.2.1' asks for node.ip",
        ),
        (
            alpha("{deploy: {placement: {constraints: [node.labels.system == three]}}}"),
            "alpha.yaml",
            "services.alpha.deploy.placement.constraints",
            "no host meets node.labels.system == three",
        ),
        (
            alpha("{deploy: {placement: {constraints: [node.hostname == one, node.role == worker]}}}"),
            "alpha.yaml",
            "services.alpha.deploy.placement.constraints",
            "no host meets node.hostname == one and node.role == worker",
        ),
        (
            alpha("{ports: ['80:7001']}"),
            "alpha.yaml",
            "services.alpha.ports[0]",
            "no agent listens on 7001",
        ),
        (
            alpha("{}", networks="{outer: {external: true}}"),
            "alpha.yaml",
            "networks.outer",
            "group_data declares no such network",
        ),
        (
            alpha("{deploy: {resources: {limits: {cpus: 1}}}}", agents=[{**FOX, "cpus": 2}]),
            "alpha.yaml",
            "services.alpha.deploy.resources",
            "the agents' cpus sum up to 2, which leaves nothing of the group's 1",
        ),
        (
            alpha("{deploy: {resources: {reservations: {cpus: 2}, limits: {cpus: 1}}}}", agents=[]),
            "alpha.yaml",
            "services.alpha.deploy.resources",
            "the reservations give alpha more than their limits allow",
        ),
        (
            alpha("{ports: ['80:7000']}", agents=[FOX, {**FOX, "name": "Hen"}]),
            "alpha.yaml",
            "services.alpha.ports[0]",
            "Fox, Hen listen on 7000",
        ),
        (
            alpha("{ports: ['80:7000', '80:7000']}"),
            "alpha.yaml",
            "services.alpha.ports[1]",
            "alpha of alpha uses 80/tcp already",
        ),
        (
            alpha("{}", agents=[{**FOX, "name": "A" * 58}]),
            "alpha.yaml",
            "services.alpha.x-agents[0].name",
            f"Swarm would call it alpha_{'a' * 58}, which is no name there",
        ),
        (
            alpha("{}", agents=[{**FOX, "name": "Fox-"}]),
            "alpha.yaml",
            "services.alpha.x-agents[0].name",
            "Swarm would call it alpha_fox-, which is no name there",
        ),
        (
            alpha(f"{{devices: [/dev/snd], {REASON}}}"),
            "alpha.yaml",
            "services.alpha.deploy.placement.constraints",
            "needs devices /dev/snd, so one host must meet this, and one, two do",
        ),
        (
            alpha("{shm_size: 1G}"),
            "alpha.yaml",
            "services.alpha.deploy.placement.constraints",
            "needs shm_size, so one host must meet this, and one, two do",
        ),
        (
            alpha(f"{{devices: [/dev/a, /dev/b], {REASON}, deploy: {{replicas: 2, {PINNED}}}}}"),
            "alpha.yaml",
            "services.alpha.deploy.replicas",
            "needs devices /dev/a, /dev/b, and there is one of it",
        ),
    ],
)
def test_what_does_not_fit_together_is_a_problem(
    changes: dict[str, Any], file: str, path: str, reason: str
) -> None:
    assert problems(**changes) == [(file, path, reason)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hosts": {"one": ONE}},
        alpha(f"{{devices: [/dev/snd], {REASON}, deploy: {{{PINNED}}}}}"),
        alpha("{deploy: {placement: {constraints: [node.role != manager]}}}"),
        alpha("{ports: ['80:7000', '7000:7000/udp']}"),
        alpha("{ports: ['80:7000']}", agents=[]),
        alpha("{networks: [inner]}", networks="{inner: {external: true}}"),
    ],
)
def test_what_fits_together_is_a_fleet(changes: dict[str, Any]) -> None:
    assert [workload.group for workload in small(**changes).workloads["alpha"]] == ["alpha"]


HOST_PORT = "ports: [{target: 7000, published: 80, mode: host}]"
ON_TWO = "deploy: {placement: {constraints: [node.hostname == two]}}"


@pytest.mark.parametrize(
    ("one", "two", "free"),
    [
        ("ports: ['80:7000']", "ports: ['81:7000', '80:7000/udp']", True),
        ("ports: ['80:7000']", "ports: ['80:7000']", False),
        ("ports: ['80:7000']", f"{HOST_PORT}, {ON_TWO}", False),
        (f"{HOST_PORT}, deploy: {{{PINNED}}}", f"{HOST_PORT}, {ON_TWO}", True),
        (f"{HOST_PORT}, deploy: {{{PINNED}}}", HOST_PORT, False),
        (
            f"ports: ['80:7000'], devices: [/dev/a], {REASON}, deploy: {{{PINNED}}}",
            f"ports: ['80:7000'], shm_size: 1G, {ON_TWO}",
            True,
        ),
        (
            f"ports: ['80:7000'], devices: [/dev/a], {REASON}, deploy: {{{PINNED}}}",
            "ports: ['80:7000']",
            False,
        ),
    ],
)
def test_a_port_is_published_once(one: str, two: str, free: bool) -> None:
    changes = {
        "phases": [["alpha", "beta"]],
        "groups": [group("alpha", f"{{{one}}}"), group("beta", f"{{{two}}}")],
    }
    if free:
        assert small(**changes)
    else:
        reason = "alpha of alpha uses 80/tcp already"
        assert problems(**changes) == [("beta.yaml", "services.beta.ports[0]", reason)]


def test_a_name_of_63_letters_is_not_too_long() -> None:
    (workload,) = small(**alpha("{}", agents=[{**FOX, "name": "A" * 57}])).workloads["alpha"]
    assert len(workload.name) == 63


@pytest.mark.parametrize("name", ["a.b", "a b", "a-", "; touch x"])
def test_a_service_without_agents_has_a_name_that_swarm_takes(name: str) -> None:
    services = {name: {"image": "alpha/image", "networks": ["inner"]}}
    networks = {"inner": {"external": True}}
    odd = GroupFile.model_validate({"name": "alpha", "services": services, "networks": networks})
    ((file, path, reason),) = problems(groups=[odd])
    assert (file, path) == ("alpha.yaml", path_of(["services", name]))
    assert reason == f"Swarm would call it alpha_{name}, which is no name there"


def test_all_problems_of_order_hosts_and_groups_come_in_one_report() -> None:
    found = problems(
        phases=[["alpha", "beta"], ["alpha"]],
        hosts={"one": ONE, "two": {**ONE, "swarm_address": "192.0.2.1"}},
        groups=[group(service="{ports: ['80:1']}"), group("gamma")],
    )
    assert [(path, reason.split()[0]) for _, path, reason in found] == [
        ("phases", "alpha"),
        ("phases", "the"),
        ("phases", "there"),
        ("two.swarm_role", "exactly"),
        ("two.swarm_address", "192.0.2.1"),
        ("services.alpha.ports[0]", "no"),
    ]


def test_all_problems_of_all_groups_come_in_one_report() -> None:
    found = problems(
        phases=[["alpha"], ["beta", "gamma"]],
        groups=[
            group(
                "alpha",
                "{image: other/image, ports: ['80:81', '82:83'], deploy: {placement: {constraints: [a, b]}}}",
                "{outer: {external: true}, upper: {external: true}}",
            ),
            group("beta", f"{{devices: [/dev/snd], {REASON}}}"),
            group("gamma", "{deploy: {resources: {limits: {cpus: 1}}}}", agents=[{**FOX, "cpus": 2}]),
        ],
    )
    assert [(file, path) for file, path, _ in found] == [
        ("alpha.yaml", "networks.outer"),
        ("alpha.yaml", "networks.upper"),
        ("alpha.yaml", "services.alpha.ports[0]"),
        ("alpha.yaml", "services.alpha.ports[1]"),
        ("alpha.yaml", "services.alpha.deploy.placement.constraints"),
        ("alpha.yaml", "services.alpha.deploy.placement.constraints"),
        ("gamma.yaml", "services.gamma.deploy.resources"),
        ("beta.yaml", "services.beta.deploy.placement.constraints"),
        ("alpha.yaml", "services.alpha.image"),
    ]


def test_a_group_without_a_host_is_one_problem_however_many_agents_it_has() -> None:
    hen = {**FOX, "name": "Hen"}
    placed = "{deploy: {placement: {constraints: [node.hostname == three]}}}"
    found = problems(groups=[group("alpha", placed, agents=[FOX, hen])])
    assert [path for _, path, _ in found] == ["services.alpha.deploy.placement.constraints"]


def test_groups_keep_the_order_of_the_phases() -> None:
    fleet = small(phases=[["gamma"], ["alpha", "beta"]], groups=[group(), group("beta"), group("gamma")])
    assert fleet.group_order == ("gamma", "alpha", "beta")
    assert tuple(fleet.workloads) == fleet.group_order
    assert [fleet.phase_of(name) for name in fleet.group_order] == [1, 2, 2]


def test_the_manager_is_found_wherever_it_stands() -> None:
    assert small(hosts={"two": TWO, "one": ONE}).manager.name == "one"


def test_images_are_pinned_to_exact_content(archive: Callable[..., Path]) -> None:
    assert small().pinned_images == {"alpha/image": IMAGE}
    fleet = small(images={"alpha/image": {"path": archive("abc.json")}})
    assert fleet.pinned_images == {"alpha/image": "sha256:abc"}


@pytest.mark.parametrize(
    ("constraints", "eligible"),
    [
        ([], ["one", "two"]),
        (["node.labels.system == one"], ["one"]),
        (["node.labels.system==one"], ["one"]),
        (["node.labels.system == ONE"], ["one"]),
        (["node.labels.system != One"], ["two"]),
        (["node.role == Manager"], ["one"]),
        (["node.labels.System == one"], []),
        ([" node.labels.system  ==  one "], ["one"]),
        (["node.labels.system != one"], ["two"]),
        (["node.labels.gpu != none"], ["one", "two"]),
        (["node.role == manager"], ["one"]),
        (["node.role != manager"], ["two"]),
        (["node.hostname == two"], ["two"]),
        (["node.role == worker", "node.hostname != one"], ["two"]),
    ],
)
def test_a_host_is_eligible_that_meets_every_constraint(constraints: list[str], eligible: list[str]) -> None:
    fleet = small()
    (workload,) = workloads_of(
        group("alpha", f"{{deploy: {{placement: {{constraints: {constraints}}}}}}}"), HealthTiming()
    )
    assert [host.name for host in fleet.eligible(workload)] == eligible


@pytest.mark.parametrize(
    "constraint",
    [
        "",
        "node.role",
        "node.role = manager",
        "node.role == ",
        "== manager",
        "node.role == a b",
        "node.role > manager",
        "node.labels.a == b; touch x",
        "node.role == manager\nnode.role == worker",
        "engine.labels.a == b",
        "node.id == abc",
        "node.platform.os == linux",
        "role == manager",
        "node.labels.a == ä",
        "node.labels.a == b;c",
        "node.labels.a == ==b",
    ],
)
def test_a_constraint_that_cannot_be_honoured_has_a_fault(constraint: str) -> None:
    assert repr(constraint) in (constraint_fault(constraint) or "")


@pytest.mark.parametrize(
    "constraint", ["node.role == worker", "node.labels.a-b.c != D_1", "node.hostname==x"]
)
def test_a_constraint_that_can_be_honoured_has_none(constraint: str) -> None:
    assert constraint_fault(constraint) is None


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({"swarm_role": "leader"}, ("swarm_role",)),
        ({"docker_source": "snap"}, ("docker_source",)),
        ({"distribution": "arch"}, ("distribution",)),
        ({"reservation_scale": 0}, ("reservation_scale",)),
        ({"reservation_scale": -0.5}, ("reservation_scale",)),
        ({"reservation_scale": 1.5}, ("reservation_scale",)),
        ({"absent": ["sound"]}, ("absent",)),
        ({"absent": ["gpu", "/etc/passwd"]}, ("absent",)),
        ({"node_labels": ["system"]}, ("node_labels",)),
        ({"sysctls": {"net.ipv4.ip_forward": None}}, ("sysctls", "net.ipv4.ip_forward")),
        ({"adress": "192.0.2.1"}, ("adress",)),
    ],
)
def test_a_host_says_only_what_is_known(keys: dict[str, Any], path: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as refused:
        host("one", **keys)
    assert [error["loc"] for error in refused.value.errors()] == [path]


@pytest.mark.parametrize(
    "absent", [[], ["gpu", "realtime", "ipvs", "clock"], ["/dev/snd"], ["/dev/dri/card0"]]
)
def test_what_a_machine_lacks_is_a_capability_or_a_device(absent: list[str]) -> None:
    assert host("one", absent=absent).absent == frozenset(absent)


@pytest.mark.parametrize(
    ("model", "written", "path"),
    [
        (Overlay, {"name": "inner", "subnet": "172.20.0.1/16"}, ("subnet",)),
        (Overlay, {"name": "inner", "subnet": "everything"}, ("subnet",)),
        (Overlay, {"name": "inner", "driver": "bridge"}, ("driver",)),
        (Overlay, {"subnet": "172.20.0.0/16"}, ("name",)),
        (SwarmPool, {"pool": "10.0.0.0/33"}, ("pool",)),
        (SwarmPool, {}, ("pool",)),
    ],
)
def test_a_network_says_only_what_is_known(model: Any, written: dict[str, Any], path: tuple[str]) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(written)
    assert [error["loc"] for error in refused.value.errors()] == [path]


def test_the_pool_of_the_swarm_gives_subnets_of_a_usual_size() -> None:
    assert SwarmPool.model_validate({"pool": "10.0.0.0/8"}).subnet_size == 24


@pytest.mark.parametrize(
    ("agents", "optional"), [([FOX], False), ([{**FOX, "optional": True}], True), ([], False)]
)
def test_a_workload_is_optional_if_its_agent_says_so(agents: list[Any], optional: bool) -> None:
    (workload,) = small(groups=[group(agents=agents)]).workloads["alpha"]
    assert workload.optional is optional


@pytest.mark.parametrize("scale", [1, 0.5, 0.001])
def test_a_host_shrinks_reservations_by_a_factor_up_to_one(scale: float) -> None:
    assert host("one").reservation_scale == 1
    assert host("one", reservation_scale=scale).reservation_scale == scale
