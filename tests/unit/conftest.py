"""Fleets and groups for the tests of the pure core."""

import hashlib
import io
import json
import runpy
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cascade.model.compose import HealthTiming
from cascade.model.fleet import Fleet, FleetSettings, assemble
from cascade.model.gpu import Gpu
from cascade.model.hardening import Security
from cascade.model.host import Host
from cascade.model.image import ArchiveImage, RegistryImage
from cascade.model.loader import group_of as read_document
from cascade.model.loader import load_group_files
from cascade.model.service import GroupFile
from cascade.model.weaker import weaknesses
from cascade.model.workload import Workload, workloads_of

# A service that says something under every key; what makes a host container of it comes beside.
RICH = """
command: [serve, a b]
entrypoint: [/entry]
environment: {LEVEL: info, EMPTY: ""}
networks: {cascade-internal: {aliases: [den, burrow]}, cascade-external: {}}
volumes:
  - data:/data
  - /srv:/srv:ro
  - {type: volume, source: data, target: /copy, volume: {nocopy: true}}
  - {type: bind, source: /srv, target: /shared, bind: {propagation: rshared}}
  - {type: tmpfs, target: /cache, tmpfs: {size: 1M, mode: "1700"}}
runtime: nvidia
x-gpu: {vram_budget: 50%}
configs:
  - settings
  - {source: other, target: /etc/fox.conf, uid: "1000", gid: 44, mode: 0400}
secrets:
  - password
  - {source: token, target: /etc/token, uid: "1000", gid: 44, mode: 0400}
security_opt: ["no-new-privileges:true", "seccomp:unconfined"]
tmpfs: [/run]
dns: [192.0.2.53]
dns_search: [den.example]
dns_opt: ["ndots:1"]
group_add: [audio, 44]
tty: true
stdin_open: true
pids_limit: 99
ports: ["80:1000", "81:1000/udp"]
healthcheck:
  {test: [CMD, ask], interval: 7s, timeout: 3s, retries: 2, start_period: 9s, start_interval: 250ms}
init: true
stop_grace_period: 3s
stop_signal: SIGINT
user: "0"
working_dir: /app
hostname: den
read_only: true
cap_add: [SYS_NICE, CHOWN]
cap_drop: [NET_RAW, MKNOD]
ulimits: {nofile: {soft: 512, hard: 1024}, core: 7}
sysctls: {net.core.somaxconn: "1024"}
labels: {owner: me}
logging: {driver: local, options: {max-size: 1m}}
extra_hosts: ["hole:192.0.2.9", "earth:192.0.2.10"]
deploy:
  replicas: 1
  labels: {team: blue}
  placement:
    constraints: [node.role == manager, node.labels.system == mainpc]
    preferences: [{spread: node.labels.system}]
    max_replicas_per_node: 1
  resources: {limits: {cpus: 2, memory: 2G}, reservations: {cpus: 1, memory: 1G}}
  restart_policy: {condition: on-failure, delay: 2s, max_attempts: 4, window: 8s}
  update_config: {parallelism: 2, delay: 6s, order: stop-first, monitor: 4s}
"""

GROUP_DATA = Path(__file__).resolve().parents[2] / "group_data"
# As NVML describes the cards of seed 004.
GPUS = {
    "mainpc": (Gpu(0, "GPU-11111111-2222-3333-4444-555555555555", "NVIDIA GeForce RTX 4090", 24564),),
    "pc2": (Gpu(0, "GPU-99999999-8888-7777-6666-555555555555", "NVIDIA GeForce RTX 3060", 12288),),
}
ADDRESSES = {"mainpc": "192.0.2.1", "pc2": "192.0.2.2"}


def group_data(*names: str) -> dict[str, Any]:
    """What these files of group_data say together, the later ones winning."""
    values: dict[str, Any] = {}
    for name in names:
        values |= runpy.run_path(str(GROUP_DATA / f"{name}.py"))
    return values


def fleet_of(values: dict[str, Any], *layers: str) -> Fleet:
    """The seed's groups on its two hosts; `values` and the named files of group_data are the owner's."""
    shared = group_data("all", *layers) | values
    settings = {name: shared[name] for name in FleetSettings.model_fields if name in shared}
    hosts = {}
    for name, address in ADDRESSES.items():
        known = group_data("all", name, *layers) | {"name": name, "swarm_address": address}
        hosts[name] = Host(**{key: known[key] for key in Host.model_fields if key in known})
    groups = load_group_files(GROUP_DATA / "stacks" / "cascade")
    return assemble(FleetSettings(**settings), hosts, {group.name: group for group in groups})


def home() -> Fleet:
    """Machines that lack nothing, with images by digest."""
    phases = group_data("all")["phases"]
    images = {
        name: RegistryImage(reference=f"{name}@sha256:{hashlib.sha256(name.encode()).hexdigest()}")
        for name in (group.replace("cascade-", "cascade/", 1) for phase in phases for group in phase)
    }
    return replace(fleet_of({"images": images}), gpus=GPUS)


def write_archive(path: Path, *configs: str) -> Path:
    """A `docker save` archive with one image for each of these config files."""
    content = json.dumps([{"Config": config, "RepoTags": None, "Layers": []} for config in configs])
    with tarfile.open(path, "w") as tar:
        manifest = tarfile.TarInfo("manifest.json")
        manifest.size = len(content)
        tar.addfile(manifest, io.BytesIO(content.encode()))
    return path


@pytest.fixture(scope="session")
def home_fleet() -> Fleet:
    return home()


@pytest.fixture(scope="session")
def seed_groups(home_fleet: Fleet) -> dict[str, GroupFile]:
    return home_fleet.groups


@pytest.fixture(scope="session")
def lab_fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """The fleet as group_data/lab.py changes it, with an archive that exists."""
    archive = ArchiveImage(path=write_archive(tmp_path_factory.mktemp("images") / "a.tar", "abc.json"))
    return fleet_of({"images": dict.fromkeys(group_data("lab")["images"], archive)}, "lab")


@pytest.fixture
def archive(tmp_path: Path) -> Callable[..., Path]:
    """Writes an archive with one image for each of the given config files."""

    def write(*configs: str) -> Path:
        return write_archive(tmp_path / "images.tar", *configs)

    return write


@pytest.fixture
def group_of() -> Callable[..., GroupFile]:
    """A group `alpha` from its service's keys and its agents; agents get ports if they name none."""

    def build(service: str = "{}", agents: str = "[]", **top: Any) -> GroupFile:
        numbered = [
            {"port": 1000 + n, "health_port": 2000 + n, **agent}
            for n, agent in enumerate(yaml.safe_load(agents))
        ]
        keys = {"image": "alpha/image", **yaml.safe_load(service), "x-agents": numbered}
        return read_document({"name": "alpha", "services": {"alpha": keys}, **top}, "alpha.yaml")

    return build


@pytest.fixture
def workloads(group_of: Callable[..., GroupFile]) -> Callable[..., dict[str, Workload]]:
    """The workloads of such a group, by agent."""

    def build(service: str = "{}", agents: str = "[]", **top: Any) -> dict[str, Workload]:
        found = workloads_of(group_of(service, agents, **top), HealthTiming())
        return {workload.agent: workload for workload in found}

    return build


@pytest.fixture
def alpha(
    home_fleet: Fleet, group_of: Callable[..., GroupFile]
) -> Callable[..., tuple[tuple[Workload, ...], Fleet]]:
    """The workloads of such a group and their fleet of one host; further keys are the host's.

    What is weaker than the default has a reason.
    """

    def build(
        service: str = "{}", agents: str = "[{name: Fox}]", **host: Any
    ) -> tuple[tuple[Workload, ...], Fleet]:
        group = group_of(
            yaml.safe_dump({"networks": ["cascade-internal"], **yaml.safe_load(service)}),
            agents,
            networks={"cascade-internal": {"external": True}, "cascade-external": {"external": True}},
            volumes={"data": None, "shared": {"name": "common"}},
            configs={"settings": {"content": "colour: red"}, "other": {"content": "x", "name": "taken"}},
            secrets={"password": {"external": True}, "token": {"x-generate": {}, "name": "key"}},
        )
        only_service = group.services["alpha"]
        if "security" not in only_service.model_fields_set:
            reasons = {found.key: "A test needs it." for found in weaknesses("", only_service)}
            security = Security(exceptions=reasons)
            group.services["alpha"] = only_service.model_copy(update={"security": security})
        images = {"alpha/image": RegistryImage(reference=f"alpha/image@sha256:{'0' * 64}")}
        settings = home_fleet.settings.model_copy(update={"phases": (("alpha",),), "images": images})
        only = Host.model_validate({**home_fleet.manager.model_dump(), **host})
        fleet = replace(assemble(settings, {only.name: only}, {"alpha": group}), gpus=home_fleet.gpus)
        return fleet.workloads["alpha"], fleet

    return build


@pytest.fixture
def rich(alpha: Callable[..., tuple[tuple[Workload, ...], Fleet]]) -> Callable[..., tuple[Workload, Fleet]]:
    """A workload that says something under every key, a service or a host container."""

    def build(kind: str) -> tuple[Workload, Fleet]:
        own = {} if kind == "service" else {"devices": ["/dev/snd"], "shm_size": "1G"}
        (fox,), fleet = alpha(
            yaml.safe_dump(yaml.safe_load(RICH) | own), "[{name: Fox, realtime_priority: true, vram: 1G}]"
        )
        assert fox.kind == kind
        return fox, fleet

    return build
