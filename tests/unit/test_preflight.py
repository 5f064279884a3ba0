"""The preflight on readings captured from the lab, with one thing wrong at a time."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cascade.model.compose import Logging, Mount, Port, Resources
from cascade.model.fleet import Fleet
from cascade.model.host import Host
from cascade.model.image import RegistryImage
from cascade.model.secrets import SecretSource, SecretUse
from cascade.planning.checks.capacity import GIB
from cascade.planning.checks.network import calls_among
from cascade.planning.checks.replacement import Amount, amount_of
from cascade.planning.checks.subject import Facts, Skew
from cascade.planning.plan import make_plan
from cascade.planning.preflight import (
    CHECKS,
    Finding,
    errors,
    examine,
    first_findings,
    look_of,
    query_for,
    worth_saying,
)
from cascade.planning.specs import CONFIG_FOLDER
from cascade.planning.target import target_of
from tests.readings import captured_readings

SNAPSHOTS = Path(__file__).parents[1] / "operations" / "snapshots"
DIGEST = "sha256:" + "0" * 64


@dataclass
class Scene:
    """Hosts as they were captured, to spoil."""

    fleet: Fleet
    snapshots: dict[str, Any]
    readings: dict[str, Any]
    skews: dict[str, Skew]
    allow: bool = False
    prove: bool = True

    @property
    def facts(self) -> Facts:
        facts = Facts(
            fleet=self.fleet,
            plan=make_plan(target_of(self.fleet), self.snapshots),
            snapshots=self.snapshots,
            readings=self.readings,
            skews=self.skews,
            allow_docker_restart=self.allow,
        )
        members = {name for name in self.readings if facts.in_swarm(name)}
        return replace(facts, calls=calls_among(self.fleet, self.readings, members) if self.prove else None)

    def found(self) -> tuple[Finding, ...]:
        return examine(self.facts)

    def wrong(self) -> list[tuple[str, str, str]]:
        return [(each.host, each.check, each.level) for each in worth_saying(self.found())]

    def said(self, host: str, check: str) -> list[Finding]:
        return [each for each in self.found() if (each.host, each.check) == (host, check)]

    def change_host(self, name: str, **fields: Any) -> None:
        host = Host.model_validate({**self.fleet.hosts[name].model_dump(), **fields})
        self.fleet = replace(self.fleet, hosts={**self.fleet.hosts, name: host})

    def change_service(self, group: str, **fields: Any) -> None:
        """Other settings of a group's one service."""
        file = self.fleet.groups[group]
        services = {name: each.model_copy(update=fields) for name, each in file.services.items()}
        changed = file.model_copy(update={"services": services})
        self.fleet = replace(self.fleet, groups={**self.fleet.groups, group: changed})


def scene_of(fleet: Fleet, name: str) -> Scene:
    addresses = {"mainpc": "10.203.0.11", "pc2": "10.203.0.12"}
    hosts = {
        host: each.model_copy(update={"swarm_address": addresses[host]}) for host, each in fleet.hosts.items()
    }
    snapshots = json.loads(gzip.decompress((SNAPSHOTS / f"{name}.json.gz").read_bytes()))
    readings = captured_readings(name)
    skews = {host: Skew(0.01, 0.03) for host in readings}
    return Scene(replace(fleet, hosts=hosts), snapshots, readings, skews)


@pytest.fixture
def bare(lab_fleet: Fleet) -> Scene:
    return scene_of(lab_fleet, "bare")


@pytest.fixture
def running(lab_fleet: Fleet) -> Scene:
    return scene_of(lab_fleet, "converged")


def test_nothing_is_wrong_with_the_captured_hosts(bare: Scene, running: Scene) -> None:
    assert bare.wrong() == []
    assert running.wrong() == []


def test_every_check_says_something_of_every_host_once(bare: Scene, running: Scene) -> None:
    everything = [(host, check) for host in bare.fleet.hosts for check in CHECKS]
    for scene in (bare, running):
        assert [(each.host, each.check) for each in scene.found()] == everything


Spoil = Callable[[Scene], None]


def reading(*path: str, value: Any, host: str = "pc2") -> Spoil:
    """Puts a value into a host's reading."""

    def spoil(scene: Scene) -> None:
        *parents, last = path
        part = scene.readings[host]
        for name in parents:
            part = part[name]
        part[last] = value

    return spoil


def listening(port: int, protocol: str, name: str, host: str = "pc2", **holder: Any) -> Spoil:
    """Has a process hold a port."""
    process = {"pid": 4321, "name": name, "containers": [], **holder}
    entry = {"port": port, "protocol": protocol, "holder": process}
    return lambda scene: scene.readings[host]["sockets"].append(entry)


def skewed(ahead: float, within: float = 0.03) -> Spoil:
    return lambda scene: scene.skews.update(pc2=Skew(ahead, within))


def host_of(name: str, **fields: Any) -> Spoil:
    return lambda scene: scene.change_host(name, **fields)


def blocked(caller: str, callee: str, port: int, protocol: str) -> Spoil:
    """Loses every call of one host on one port of another."""

    def spoil(scene: Scene) -> None:
        scene.readings[caller]["probes"]["answered"].remove([callee, port, protocol])
        scene.readings[callee]["probes"]["reached"].remove([caller, port, protocol])

    return spoil


def blocked_with(firewall: str | None) -> Spoil:
    def spoil(scene: Scene) -> None:
        blocked("mainpc", "pc2", 7946, "udp")(scene)
        scene.readings["pc2"]["firewall"] = firewall

    return spoil


def publishing(scene: Scene) -> None:
    """The port that the lab's kernel cannot publish, in host mode."""
    port = Port.model_validate({"target": 26002, "published": 26002, "mode": "host"})
    scene.change_service("cascade-request-handler", ports=(port,))


def published_port_taken(scene: Scene) -> None:
    publishing(scene)
    listening(26002, "tcp", "python3", host="mainpc")(scene)


def stranger(**fields: Any) -> dict[str, Any]:
    """A running container of the owner."""
    return {
        "id": "f" * 64,
        "name": "owners-web",
        "image": "web:1",
        "labels": {"cascade.system": None},
        "ports": [],
        **fields,
    }


def running_stranger(scene: Scene, host: str = "mainpc", **fields: Any) -> None:
    scene.readings[host]["engine"]["containers"].append(stranger(**fields))


def installed(name: str, wanted: str) -> Spoil:
    """A package of the owner's, on a host that lacks one of Cascade's."""

    def spoil(scene: Scene) -> None:
        scene.readings["pc2"]["packages"] = [name]
        scene.snapshots["pc2"]["packages"][wanted] = None

    return spoil


def with_registry(
    scene: Scene, reference: str = f"registry.example.org/cascade/core@{DIGEST}", **fields: Any
) -> None:
    """MainPC's core comes from a registry."""
    images = {**scene.fleet.settings.images, "cascade/core": RegistryImage(reference=reference, **fields)}
    scene.fleet = replace(scene.fleet, settings=scene.fleet.settings.model_copy(update={"images": images}))


def unreachable_registry(scene: Scene) -> None:
    with_registry(scene)
    scene.readings["mainpc"]["registries"] = {"registry.example.org:443": "timed out"}


def with_sound(scene: Scene, **found: Any) -> None:
    scene.change_host("mainpc", absent=("gpu", "realtime", "ipvs", "clock"))
    scene.readings["mainpc"]["devices"] = {"/dev/snd": {"present": True, "users": [], **found}}


INJECTED = {
    "no space": (
        reading("disk", "/var/lib/docker", "free", value=2**20),
        ("pc2", "disk", "error"),
        ("/var/lib/docker", "1.0 MB free", "1.0 GB needed"),
        "mount a larger disk at /var/lib/docker",
    ),
    "no room for full logs": (
        reading("disk", "/var/lib/docker", "free", value=2 * GIB),
        ("pc2", "disk", "warning"),
        ("2.0 GB free", "20.0 GB once the logs of 39 replicas are full"),
        "max-size",
    ),
    "another distribution": (
        reading(
            "os",
            value={"distribution": "ubuntu", "codename": "noble", "version": "24.04", "machine": "aarch64"},
        ),
        ("pc2", "system", "error"),
        ("ubuntu noble", "debian trixie"),
        'set `distribution = "ubuntu"` and `codename = "noble"` in group_data/pc2.py',
    ),
    "an unknown distribution": (
        reading("os", value={"distribution": "fedora", "codename": "", "version": "41", "machine": "x86_64"}),
        ("pc2", "system", "error"),
        ("fedora 41 is not supported",),
        "Debian 12, Debian 13, Ubuntu 22.04, Ubuntu 24.04",
    ),
    "another architecture": (
        reading("os", "machine", value="armv7l"),
        ("pc2", "system", "error"),
        ("armv7l",),
        "x86_64 or aarch64",
    ),
    "a clock ahead": (
        skewed(90.0),
        ("pc2", "clock", "error"),
        ("90.0 s ahead of",),
        "set that of the machine",
    ),
    "a clock behind": (
        skewed(-2.0),
        ("pc2", "clock", "warning"),
        ("2.0 s behind",),
        "set that of the machine",
    ),
    "a clock that nobody could compare": (
        skewed(0.5, within=4.0),
        ("pc2", "clock", "warning"),
        ("within 4.0 s",),
        "again",
    ),
    "an address that is not here": (
        reading("address", value={"here": False, "reason": "no such address", "others": ["192.0.2.9"]}),
        ("pc2", "address", "error"),
        ("10.203.0.12", "no such address", "192.0.2.9"),
        "swarm_address of pc2",
    ),
    "an address that is lent": (
        reading("address", "dynamic", value=True),
        ("pc2", "address", "warning"),
        ("10.203.0.12", "DHCP"),
        "fixed",
    ),
    "no overlay file system": (
        reading("kernel", "overlay", value=False),
        ("pc2", "kernel", "error"),
        ("has no overlay",),
        "install the distribution's own kernel",
    ),
    "a kernel that does not say": (
        reading("kernel", "vxlan", value=None),
        ("pc2", "kernel", "error"),
        ("does not say whether it has vxlan",),
        "sudo modprobe vxlan",
    ),
    "a blocked port, iptables": (
        blocked_with("iptables"),
        ("pc2", "swarm-ports", "error"),
        ("mainpc (10.203.0.11) gets no answer on 7946/udp",),
        "on pc2: `sudo iptables -I INPUT -s 10.203.0.11 -p udp --dport 7946 -j ACCEPT`",
    ),
    "a blocked port, nft": (
        blocked_with("nft"),
        ("pc2", "swarm-ports", "error"),
        ("7946/udp",),
        "`sudo nft insert rule inet filter input ip saddr 10.203.0.11 udp dport 7946 accept`",
    ),
    "a blocked port, ufw": (
        blocked_with("ufw"),
        ("pc2", "swarm-ports", "error"),
        ("7946/udp",),
        "`sudo ufw allow from 10.203.0.11 to any port 7946 proto udp`",
    ),
    "a blocked port, firewalld": (
        blocked_with("firewalld"),
        ("pc2", "swarm-ports", "error"),
        ("7946/udp",),
        'source address="10.203.0.11" port port="7946" protocol="udp" accept',
    ),
    "a blocked port, no firewall": (
        blocked_with(None),
        ("pc2", "swarm-ports", "error"),
        ("7946/udp",),
        "what lies between the two",
    ),
    "a manager that is not reached": (
        blocked("pc2", "mainpc", 2377, "tcp"),
        ("mainpc", "swarm-ports", "error"),
        ("pc2 (10.203.0.12) gets no answer on 2377/tcp",),
        "--dport 2377",
    ),
    "the manager's port taken": (
        listening(2377, "tcp", "python3", host="mainpc"),
        ("mainpc", "swarm-ports", "error"),
        ("2377/tcp", "python3 (PID 4321)"),
        "stop it",
    ),
    "a published port taken": (
        published_port_taken,
        ("mainpc", "published-ports", "error"),
        ("26002/tcp", "cascade-request-handler_request-coordinator", "python3 (PID 4321)"),
        "publish another port",
    ),
    "a small machine": (
        host_of("mainpc", reservation_scale=1.0),
        ("mainpc", "reservations", "error"),
        ("reservations 19.0 CPU / 53.0 GB, mainpc has 2 / 23.5",),
        "set `reservation_scale = 0.1` in group_data/mainpc.py, or fewer replicas",
    ),
    "a snap": (reading("snap", value=True), ("pc2", "docker", "error"), ("snap",), "sudo snap remove docker"),
    "Docker Desktop": (
        reading("desktop", value=True),
        ("pc2", "docker", "error"),
        ("Docker Desktop",),
        "apt-get remove docker-desktop",
    ),
    "podman-docker": (
        reading("packages", value=["podman-docker"]),
        ("pc2", "docker", "error"),
        ("Podman, which has no Swarm",),
        "apt-get remove podman-docker",
    ),
    "another time daemon": (
        installed("chrony", wanted="systemd-timesyncd"),
        ("pc2", "packages", "error"),
        ("chrony is installed, and cannot be beside systemd-timesyncd",),
        "take systemd-timesyncd out of packages in group_data/pc2.py, and set `absent = frozenset({",
    ),
    "a containerd of the owner's": (
        installed("containerd.io", wanted="docker.io"),
        ("pc2", "packages", "error"),
        ("containerd.io is installed, and cannot be beside docker.io",),
        'to keep it, set `docker_source = "docker"` in group_data/pc2.py; or, if nothing needs it, on pc2:',
    ),
    "an engine of another source": (
        reading("packages", value=["docker-ce"]),
        ("pc2", "docker", "error"),
        ("its engine is docker-ce, group_data wants docker.io",),
        'set `docker_source = "docker"` in group_data/pc2.py to keep it; or on pc2: `sudo apt-get remove',
    ),
    "an engine of no package": (
        reading("dockerd", value="/usr/local/bin/dockerd"),
        ("pc2", "docker", "error"),
        ("/usr/local/bin/dockerd belongs to no package",),
        "remove this engine",
    ),
    "a registry that does not answer": (
        unreachable_registry,
        ("mainpc", "images", "error"),
        ("registry.example.org:443", "cascade/core", "timed out"),
        "archives",
    ),
    "no sound card": (
        lambda scene: with_sound(scene, present=False),
        ("mainpc", "devices", "error"),
        ("there is no /dev/snd", "cascade-audio-realtime_"),
        'set `absent = frozenset({"/dev/snd", "clock", "gpu", "ipvs", "realtime"})` in group_data/mainpc.py',
    ),
    "a busy sound card": (
        lambda scene: with_sound(scene, users=[{"pid": 77, "name": "pipewire", "containers": []}]),
        ("mainpc", "devices", "warning"),
        ("/dev/snd is in use by pipewire (PID 77)",),
        "stop it",
    ),
}


@pytest.mark.parametrize("injected", INJECTED.values(), ids=INJECTED.keys())
def test_what_is_wrong_is_named_with_its_next_step(
    injected: tuple[Spoil, tuple[str, str, str], tuple[str, ...], str], bare: Scene
) -> None:
    spoil, expected, words, step = injected
    spoil(bare)
    (finding,) = worth_saying(bare.found())
    assert (finding.host, finding.check, finding.level) == expected
    for word in words:
        assert word in finding.message
    assert step in finding.next_step


def test_two_wrong_things_are_both_named(bare: Scene) -> None:
    skewed(90.0)(bare)
    reading("disk", "/var/lib/docker", "free", value=0, host="mainpc")(bare)
    assert bare.wrong() == [("mainpc", "disk", "error"), ("pc2", "clock", "error")]


PARTS = (
    "os",
    "memory",
    "address",
    "kernel",
    "packages",
    "engine",
    "sockets",
    "devices",
    "paths",
    "registries",
    "disk",
)


@pytest.mark.parametrize("part", PARTS)
def test_what_could_not_be_read_is_an_error_with_the_reason(part: str, bare: Scene) -> None:
    bare.readings["pc2"][part] = {"error": "OSError: a reason"}
    found = errors(bare.found())
    assert found
    assert {finding.host for finding in found} == {"pc2"}
    assert all("could not be read: OSError: a reason" in finding.message for finding in found)


def test_calls_that_could_not_be_made_are_no_proof(bare: Scene) -> None:
    bare.readings["mainpc"]["probes"] = {"error": "OSError: no sockets left"}
    bare.readings["pc2"]["probes"]["reached"] = []
    bare.readings["pc2"]["probes"]["answered"] = []
    assert {(each.host, each.check) for each in errors(bare.found())} == {
        ("mainpc", "swarm-ports"),
        ("pc2", "swarm-ports"),
    }
    assert "no sockets left" in bare.said("pc2", "swarm-ports")[0].message


def test_ports_wait_for_a_caller_that_could_not_be_read(bare: Scene) -> None:
    bare.readings["pc2"]["probes"] = {"answered": [], "reached": [], "taken": []}
    whole = bare.facts
    found = examine(replace(whole, readings={"pc2": bare.readings["pc2"]}))
    (ports,) = (each for each in found if each.check == "swarm-ports")
    assert (ports.level, ports.message) == (
        "unchecked",
        "mainpc, which was to try these ports, could not be read",
    )


def test_a_vxlan_that_is_not_the_swarms_keeps_its_port_unproven(bare: Scene) -> None:
    bare.readings["pc2"]["sockets"] = [{"port": 4789, "protocol": "udp", "holder": None}]
    blocked("mainpc", "pc2", 4789, "udp")(bare)
    (ports,) = bare.said("pc2", "swarm-ports")
    assert ports.level == "warning"
    assert "ip -d link show type vxlan" in ports.next_step


@pytest.mark.parametrize("options", [{"max-size": "-1"}, {}])
def test_logs_without_a_bound_are_not_counted(options: dict[str, str], bare: Scene) -> None:
    bare.change_service("cascade-pc2-apps", logging=Logging(driver="local", options=options))
    (disk,) = bare.said("pc2", "disk")
    assert "once the logs of 5 replicas" in disk.message


def test_what_the_callee_received_proves_a_call_whose_answer_was_lost(bare: Scene) -> None:
    bare.readings["mainpc"]["probes"]["answered"] = []
    assert bare.wrong() == []


def test_ports_are_not_judged_while_the_address_is_wrong(bare: Scene) -> None:
    bare.readings["pc2"]["address"] = {"here": False, "reason": "no such address", "others": []}
    bare.readings["pc2"]["probes"] = {"error": "OSError: cannot assign"}
    levels = {(each.host, each.check): each.level for each in bare.found()}
    assert levels["pc2", "swarm-ports"] == "unchecked"
    assert levels["mainpc", "swarm-ports"] == "ok"


def test_ports_that_nobody_needed_to_prove_are_fine(running: Scene) -> None:
    running.prove = False
    assert running.wrong() == []


def test_a_node_that_the_manager_does_not_see_ready_makes_its_ports_doubtful(running: Scene) -> None:
    node = running.snapshots["pc2"]["docker"]["swarm"]["NodeID"]
    for each in running.snapshots["mainpc"]["docker"]["nodes"]:
        if each["ID"] == node:
            each["Status"]["State"] = "down"
    (finding,) = running.said("pc2", "swarm-ports")
    assert finding.level == "warning"
    assert "mainpc does not see pc2 ready" in finding.message


def test_a_member_of_the_swarm_is_called_by_tcp_only(running: Scene, bare: Scene) -> None:
    tried = {(call.callee, call.port, call.protocol) for call in running.facts.calls or ()}
    assert tried == {("mainpc", 2377, "tcp"), ("mainpc", 7946, "tcp"), ("pc2", 7946, "tcp")}
    for host in ("mainpc", "pc2"):
        assert query_for(running.facts, host, "w")["probes"]["offer"] == []
        assert query_for(bare.facts, host, "w")["probes"]["offer"] != []


def test_published_ports_of_our_own_containers_are_ours(running: Scene) -> None:
    publishing(running)
    containers = running.readings["mainpc"]["engine"]["containers"]
    containers[0]["ports"] = [[26002, "tcp"]]
    listening(26002, "tcp", "dockerd", host="mainpc")(running)
    assert running.said("mainpc", "published-ports")[0].level == "ok"


def test_a_port_of_a_process_in_our_own_container_is_ours(running: Scene) -> None:
    publishing(running)
    ours = running.readings["mainpc"]["engine"]["containers"][0]["id"]
    listening(26002, "tcp", "agent", host="mainpc", containers=["e" * 64, ours])(running)
    assert running.said("mainpc", "published-ports")[0].level == "ok"


def test_a_published_port_of_the_owners_container_is_taken_by_its_name(running: Scene) -> None:
    publishing(running)
    running_stranger(running, ports=[[26002, "tcp"]])
    listening(26002, "tcp", "docker-proxy", host="mainpc")(running)
    (finding,) = running.said("mainpc", "published-ports")
    assert finding.level == "error"
    assert "held by the container owners-web (web:1)" in finding.message


def test_a_published_port_of_the_owners_service_is_taken_on_every_node(running: Scene) -> None:
    publishing(running)
    spec = {"Name": "owners-shop", "Labels": {}}
    ports = [{"PublishedPort": 26002, "Protocol": "tcp"}]
    running.snapshots["mainpc"]["docker"]["services"].append(
        {**running.snapshots["mainpc"]["docker"]["services"][0], "ID": "x", "Endpoint": {"Ports": ports}}
    )
    running.snapshots["mainpc"]["docker"]["services"][-1]["Spec"] = {
        **running.snapshots["mainpc"]["docker"]["services"][0]["Spec"],
        **spec,
    }
    (finding,) = running.said("mainpc", "published-ports")
    assert "held by the service owners-shop" in finding.message


def other_settings(scene: Scene) -> None:
    scene.change_host(
        "mainpc", daemon_settings={**scene.fleet.hosts["mainpc"].daemon_settings, "debug": True}
    )


def test_a_restart_that_stops_the_owners_containers_needs_leave(running: Scene) -> None:
    running_stranger(running)
    assert running.said("mainpc", "docker-restart")[0].level == "ok"
    other_settings(running)
    (refused,) = running.said("mainpc", "docker-restart")
    assert refused.level == "error"
    assert "(debug)" in refused.message
    assert "owners-web (web:1)" in refused.message
    assert "--allow-docker-restart" in refused.next_step
    assert "--data allow_docker_restart=True" in refused.next_step
    running.allow = True
    assert running.said("mainpc", "docker-restart")[0].level == "warning"


def test_a_restart_that_hides_the_owners_images_needs_leave(running: Scene) -> None:
    running.readings["mainpc"]["engine"]["images_in_containerd"] = True
    running.change_host(
        "mainpc", daemon_settings={"features": {"containerd-snapshotter": True}, "debug": True}
    )
    assert running.said("mainpc", "docker-restart")[0].level == "ok"
    running.change_host(
        "mainpc", daemon_settings={"features": {"containerd-snapshotter": False}, "debug": True}
    )
    (refused,) = running.said("mainpc", "docker-restart")
    assert refused.level == "error"
    assert "hides all images and containers that are in containerd's store" in refused.message
    running.allow = True
    assert running.said("mainpc", "docker-restart")[0].level == "warning"


@pytest.mark.parametrize(
    ("settings", "level"),
    [({}, "error"), ({"features": {"containerd-snapshotter": False}}, "ok"), ({"features": {}}, "error")],
)
def test_archives_need_the_classic_store(settings: dict[str, Any], level: str, bare: Scene) -> None:
    bare.change_host("mainpc", docker_source="docker", daemon_settings=settings)
    (finding,) = bare.said("mainpc", "images")
    assert finding.level == level
    bare.change_host("mainpc", docker_source="distribution", daemon_settings=settings)
    assert bare.said("mainpc", "images")[0].level == "ok"


def test_a_restart_that_stops_only_our_own_needs_none(running: Scene) -> None:
    other_settings(running)
    assert running.said("mainpc", "docker-restart")[0].level == "ok"


def test_another_systems_containers_are_not_ours(running: Scene) -> None:
    running_stranger(running, labels={"cascade.system": "another"})
    other_settings(running)
    assert running.said("mainpc", "docker-restart")[0].level == "error"


def test_an_engine_that_does_not_run_is_started_not_restarted(running: Scene) -> None:
    other_settings(running)
    running.readings["mainpc"]["engine"] = None
    assert running.said("mainpc", "docker-restart")[0].level == "ok"


def test_ingress_ports_need_ipvs_unless_the_host_says_it_has_none(bare: Scene) -> None:
    for name in ("mainpc", "pc2"):
        bare.change_host(name, absent=("gpu", "/dev/snd", "realtime", "clock"))
    found = errors(bare.found())
    assert [(each.host, each.check) for each in found] == [("mainpc", "kernel"), ("pc2", "kernel")]
    assert "ip_vs, needed for published ports in ingress mode (26002)" in found[0].message
    assert 'absent = frozenset({"/dev/snd", "clock", "gpu", "ipvs", "realtime"})' in found[0].next_step
    for reading in bare.readings.values():
        reading["kernel"]["ipvs"] = True
    assert bare.wrong() == []


def test_a_host_without_ipvs_that_says_so_keeps_no_other_from_publishing(bare: Scene) -> None:
    bare.change_host("mainpc", absent=("gpu", "/dev/snd", "realtime", "clock"))
    bare.readings["mainpc"]["kernel"]["ipvs"] = True
    assert bare.wrong() == []


def test_a_port_in_host_mode_is_taken_only_where_its_service_runs(bare: Scene) -> None:
    publishing(bare)
    assert (26002, "tcp") in query_for(bare.facts, "mainpc", "w")["ports"]
    assert (26002, "tcp") not in query_for(bare.facts, "pc2", "w")["ports"]


def test_a_port_that_is_taken_is_not_called_blocked_too(bare: Scene) -> None:
    listening(7946, "udp", "python3")(bare)
    blocked("mainpc", "pc2", 7946, "udp")(bare)
    (finding,) = errors(bare.found())
    assert "7946/udp, which the Swarm needs, is held by python3 (PID 4321)" in finding.message


def mounting(scene: Scene, group: str = "cascade-auxiliary", source: str = "/srv/models") -> None:
    """Has a group's agents mount a path that no host has."""
    scene.change_service(group, volumes=(Mount(type="bind", source=source, target="/data"),))
    for found in scene.readings.values():
        found["paths"] = {source: False}


def test_a_path_that_is_not_there_stops_only_where_somebody_mounts_it(running: Scene) -> None:
    mounting(running)
    (finding,) = worth_saying(running.found())
    assert (finding.host, finding.check, finding.level) == ("mainpc", "mounts", "error")
    assert "there is no /srv/models, which cascade-auxiliary_" in finding.message
    assert "`sudo mkdir -p /srv/models`" in finding.next_step
    running.readings["mainpc"]["paths"]["/srv/models"] = True
    assert running.wrong() == []


def test_a_path_is_looked_for_on_every_host_where_its_agents_may_run(running: Scene) -> None:
    mounting(running)
    assert query_for(running.facts, "mainpc", "w")["paths"] == ["/srv/models"]
    assert query_for(running.facts, "pc2", "w")["paths"] == []


def test_what_the_run_itself_puts_on_a_host_is_not_looked_for(running: Scene) -> None:
    mounting(running, source=f"{CONFIG_FOLDER}/core_limits-0123456789ab")
    assert query_for(running.facts, "mainpc", "w")["paths"] == []


def test_a_host_that_is_to_keep_secrets_must_be_able_to_seal_them(running: Scene) -> None:
    program, group = "/usr/bin/systemd-creds", "cascade-audio-realtime"
    running.change_service(group, secrets=(SecretUse(source="tint"),))
    file = running.fleet.groups[group]
    declared = file.model_copy(update={"secrets": {"tint": SecretSource(external=True)}})
    running.fleet = replace(running.fleet, groups={**running.fleet.groups, group: declared})
    assert query_for(running.facts, "mainpc", "w")["paths"] == [program]
    assert query_for(running.facts, "pc2", "w")["paths"] == []
    running.readings["mainpc"]["paths"] = {program: True}
    assert running.wrong() == []
    running.readings["mainpc"]["paths"] = {program: False}
    (finding,) = worth_saying(running.found())
    assert (finding.host, finding.check, finding.level) == ("mainpc", "secrets", "error")
    assert f"there is no {program}" in finding.message


def test_the_command_for_a_strange_path_is_safe_to_run(running: Scene) -> None:
    mounting(running, source="/srv/a b; reboot")
    (finding,) = running.said("mainpc", "mounts")
    assert "`sudo mkdir -p '/srv/a b; reboot'`" in finding.next_step


def test_a_path_that_the_run_may_bring_itself_is_only_doubted(bare: Scene) -> None:
    mounting(bare)
    assert bare.wrong() == [("mainpc", "mounts", "warning")]


def test_a_missing_path_of_agents_that_are_not_touched_holds_up_nobody(running: Scene) -> None:
    mounting(running)
    untouched = replace(running.facts, plan=replace(running.facts.plan, changes=()))
    assert [finding.level for finding in examine(untouched) if finding.check == "mounts"] == ["warning", "ok"]


def test_a_missing_path_of_an_optional_agent_holds_up_nobody(running: Scene) -> None:
    mounting(running)
    (service,) = running.fleet.groups["cascade-auxiliary"].services.values()
    optional = tuple(agent.model_copy(update={"optional": True}) for agent in service.agents)
    running.change_service("cascade-auxiliary", agents=optional)
    assert running.wrong() == [("mainpc", "mounts", "warning")]


def with_room(scene: Scene, spare: Amount, host: str = "mainpc") -> None:
    """Has a node have just so much more than all tasks on it reserve."""
    engine = scene.snapshots["mainpc"]["docker"]
    specs = {service["ID"]: service["Spec"] for service in engine["services"]}
    (node,) = (node for node in engine["nodes"] if node["Description"]["Hostname"] == host)
    for task in engine["tasks"]:
        if task["NodeID"] == node["ID"]:
            spare += amount_of(specs[task["ServiceID"]]["TaskTemplate"]["Resources"]["Reservations"])
    node["Description"]["Resources"] = {"NanoCPUs": spare.nano_cpus, "MemoryBytes": spare.memory}


START_FIRST, STOP_FIRST = "cascade-auxiliary", "cascade-core"
PLENTY = Amount(4_000_000_000, 64 * GIB)


@pytest.fixture
def settled(running: Scene) -> Scene:
    """The running hosts, whose agents have the fleet's image already, and no room for anybody more."""
    services = running.snapshots["mainpc"]["docker"]["services"]
    there = services[0]["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
    wanted = next(iter(running.fleet.pinned_images.values()))
    running.snapshots = json.loads(json.dumps(running.snapshots).replace(there, wanted))
    with_room(running, Amount())
    assert without_room(running) == set()
    return running


def without_room(scene: Scene) -> set[str]:
    """The groups of the agents that have too little."""
    found = [finding for finding in errors(scene.found()) if finding.check == "room"]
    return {finding.message.partition("_")[0] for finding in found}


def test_a_replica_that_starts_first_needs_room_beside_the_one_it_replaces(settled: Scene) -> None:
    settled.change_service(START_FIRST, environment={"NEW": "1"})
    for lacking in (Amount(0, PLENTY.memory), Amount(PLENTY.nano_cpus, 0)):
        with_room(settled, lacking)
        found = [finding for finding in errors(settled.found()) if finding.check == "room"]
        assert found
        assert {finding.host for finding in found} == {"mainpc"}
        assert all("beside the replica it replaces" in finding.message for finding in found)
        assert all("`order: stop-first`" in finding.next_step for finding in found)
    with_room(settled, PLENTY)
    assert without_room(settled) == set()


def test_a_replica_that_stops_first_leaves_its_successor_the_room(settled: Scene) -> None:
    settled.change_service(STOP_FIRST, environment={"NEW": "1"})
    assert without_room(settled) == set()


@pytest.mark.parametrize(("replicas", "lacking"), [(2, set()), (3, set()), (4, {"cascade-request-handler"})])
def test_one_replica_more_needs_room_and_one_less_needs_none(
    replicas: int, lacking: set[str], settled: Scene
) -> None:
    (service,) = settled.fleet.groups["cascade-request-handler"].services.values()
    deploy = service.deploy.model_copy(update={"replicas": replicas})
    settled.change_service("cascade-request-handler", deploy=deploy, scale=None)
    assert without_room(settled) == lacking


def test_what_a_wave_before_gives_back_is_room_for_the_next(settled: Scene) -> None:
    settled.change_service(START_FIRST, environment={"NEW": "1"})
    assert without_room(settled) == {START_FIRST}
    (service,) = settled.fleet.groups["cascade-core"].services.values()
    nothing = service.deploy.resources.model_copy(update={"reservations": Resources()})
    settled.change_service("cascade-core", deploy=service.deploy.model_copy(update={"resources": nothing}))
    assert without_room(settled) == set()


def test_agents_that_are_removed_leave_their_room(settled: Scene) -> None:
    settled.change_service(START_FIRST, environment={"NEW": "1"})
    core = settled.fleet.groups["cascade-core"].model_copy(update={"enabled": False})
    settled.fleet = replace(settled.fleet, groups={**settled.fleet.groups, "cascade-core": core})
    assert without_room(settled) == set()


def test_the_advised_scale_is_the_largest_that_fits(bare: Scene) -> None:
    for cpus, scale in ((16, "0.6"), (10, "0.52"), (8, "0.42")):
        bare.change_host("mainpc", reservation_scale=1.0)
        bare.readings["mainpc"].update(cpus=cpus, memory=32 * GIB)
        (finding,) = bare.said("mainpc", "reservations")
        assert f"set `reservation_scale = {scale}` in group_data/mainpc.py" in finding.next_step
        bare.change_host("mainpc", reservation_scale=float(scale))
        assert bare.said("mainpc", "reservations")[0].level == "ok"
        bare.change_host("mainpc", reservation_scale=float(scale) + 0.01)
        assert bare.said("mainpc", "reservations")[0].level == "error"


def test_where_no_scale_fits_only_fewer_replicas_help(bare: Scene) -> None:
    bare.readings["mainpc"]["memory"] = 2**20
    (finding,) = bare.said("mainpc", "reservations")
    assert finding.next_step.startswith("fewer replicas")


def test_agents_that_may_run_on_several_hosts_count_in_equal_parts(bare: Scene) -> None:
    deploy = bare.fleet.groups["cascade-pc2-apps"].services["cascade-pc2-apps"].deploy
    anywhere = deploy.model_copy(update={"placement": type(deploy.placement)()})
    for name, alone in (("mainpc", "19.0"), ("pc2", "6.0")):
        bare.change_host(name, reservation_scale=1.0)
        assert bare.said(name, "reservations")[0].message.startswith(f"reservations {alone} CPU")
    bare.change_service("cascade-pc2-apps", deploy=anywhere)
    for name, shared in (("mainpc", "21.0"), ("pc2", "4.0")):
        (finding,) = bare.said(name, "reservations")
        assert finding.message.startswith(f"reservations {shared} CPU")
        assert "17 agents may run on several hosts and count in equal parts" in finding.message


def test_room_is_counted_where_the_engine_keeps_it(bare: Scene) -> None:
    bare.readings["mainpc"]["disk"]["/var/lib/containerd"]["free"] = 0
    assert bare.wrong() == []
    bare.change_host("mainpc", docker_source="docker", daemon_settings={})
    (finding,) = bare.said("mainpc", "disk")
    assert finding.message.startswith("/var/lib/containerd: 0.0 MB free")
    bare.change_host("mainpc", docker_source="distribution", daemon_settings={"data-root": "/srv/docker"})
    bare.readings["mainpc"]["disk"]["/srv/docker"] = {"device": 7, "free": 0}
    (finding,) = bare.said("mainpc", "disk")
    assert finding.message.startswith("/srv/docker: 0.0 MB free")
    assert "/srv/docker" in query_for(bare.facts, "mainpc", "w")["roots"]


def test_images_and_volumes_that_are_there_need_no_room(bare: Scene, running: Scene) -> None:
    assert "7 volumes at an assumed 1.0 GB" in bare.said("mainpc", "disk")[0].message
    assert "1 archive of " in bare.said("mainpc", "disk")[0].message
    (image,) = set(running.fleet.pinned_images.values())
    running.snapshots["mainpc"]["docker"]["images"].append({"Id": image, "RepoDigests": []})
    assert running.said("mainpc", "images")[0].message == "1 there"
    assert "1.0 GB needed: 1.0 GB spare;" in running.said("mainpc", "disk")[0].message
    with_registry(bare)
    bare.readings["mainpc"]["registries"] = {"registry.example.org:443": None}
    assert "1 image from a registry at an assumed 4.0 GB" in bare.said("mainpc", "disk")[0].message
    assert bare.said("mainpc", "images")[0].level == "ok"


@pytest.mark.parametrize(
    ("reference", "insecure", "address"),
    [
        (f"registry.example.org/a@{DIGEST}", False, "registry.example.org:443"),
        (f"registry.example.org/a@{DIGEST}", True, "registry.example.org:80"),
        (f"registry.example.org:5000/a@{DIGEST}", True, "registry.example.org:5000"),
        (f"localhost/a@{DIGEST}", False, "localhost:443"),
        (f"owner/a@{DIGEST}", False, "registry-1.docker.io:443"),
        (f"a@{DIGEST}", False, "registry-1.docker.io:443"),
    ],
)
def test_a_missing_image_is_sought_at_its_registry(
    reference: str, insecure: bool, address: str, bare: Scene
) -> None:
    with_registry(bare, reference, insecure=insecure)
    assert query_for(bare.facts, "mainpc", "w")["registries"] == [address]
    assert query_for(bare.facts, "pc2", "w")["registries"] == []


def test_behind_a_proxy_nobody_knows_whether_a_registry_answers(running: Scene) -> None:
    with_registry(running)
    running.readings["mainpc"]["registries"] = {"registry.example.org:443": "timed out"}
    running.readings["mainpc"]["engine"]["proxy"] = "http://proxy:3128"
    (finding,) = running.said("mainpc", "images")
    assert finding.level == "note"
    assert "http://proxy:3128" in finding.message


def test_a_device_that_only_our_own_container_holds_is_free(running: Scene) -> None:
    ours = running.readings["mainpc"]["engine"]["containers"][0]["id"]
    with_sound(running, users=[{"pid": 9, "name": "agent", "containers": ["e" * 64, ours]}])
    assert running.said("mainpc", "devices")[0].level == "ok"


def test_a_host_that_is_not_in_the_run_is_not_examined(bare: Scene) -> None:
    del bare.readings["pc2"]
    assert {each.host for each in bare.found()} == {"mainpc"}
    assert bare.said("mainpc", "swarm-ports")[0].message == "no other host to try it with"


LOOK = ["user deploy", "sudo yes", "python3 /usr/bin/python3"]


def test_a_first_look_finds_what_is_needed() -> None:
    found = first_findings("pc2", look_of(LOOK), "cascade bootstrap USER@pc2")
    assert [(each.check, each.level) for each in found] == [("sudo", "ok"), ("python3", "ok")]


@pytest.mark.parametrize(
    ("line", "check", "words"),
    [
        (
            "sudo sudo: a password is required",
            "sudo",
            "deploy may not use sudo without a password: sudo: a password",
        ),
        ("sudo ", "sudo", "deploy may not use sudo without a password: no answer"),
        ("python3 ", "python3", "there is no python3"),
    ],
)
def test_a_first_look_names_what_is_missing_and_what_was_not_checked(
    line: str, check: str, words: str
) -> None:
    lines = [each for each in LOOK if each.split()[0] != check]
    missing, others = first_findings("pc2", look_of([*lines, line]), "cascade bootstrap USER@pc2")
    assert (missing.check, missing.level, missing.next_step) == (
        check,
        "error",
        "`cascade bootstrap USER@pc2`",
    )
    assert missing.message.startswith(words)
    assert others.level == "unchecked"
    assert all(name in others.message for name in CHECKS)


def test_a_host_that_lacks_both_is_told_both() -> None:
    found = first_findings("pc2", look_of(["user deploy", "sudo ", "python3 "]), "cascade bootstrap USER@pc2")
    assert [each.check for each in errors(found)] == ["sudo", "python3"]


def test_a_first_look_without_an_answer_is_unknown_not_missing() -> None:
    (finding,) = first_findings("pc2", look_of([]), "cascade bootstrap USER@pc2")
    assert (finding.check, finding.level) == ("state", "error")
