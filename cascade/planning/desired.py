"""What a fleet is to consist of: every resource, in the order in which it is made."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cascade.model.apparmor import Profile, engines_profile, group_profile
from cascade.model.configs import Config, ConfigUse
from cascade.model.fleet import Fleet, Overlay
from cascade.model.gpu import HostGpu
from cascade.model.host import Host
from cascade.model.image import ImageSource, RegistryImage
from cascade.model.secrets import Secret, SecretUse
from cascade.model.workload import Workload
from cascade.planning.resource import Fields, Key
from cascade.planning.specs import (
    LABEL_CONFIG,
    LABEL_GROUP,
    LABEL_SECRET,
    LABEL_SYSTEM,
    config_path,
    container_body,
    digest,
    secret_place,
    service_spec,
)
from cascade.planning.vram import daemon_settings
from cascade.planning.waves import Wave

Stage = Literal[
    "system",
    "confinement",
    "gpu",
    "engine",
    "swarm",
    "networks",
    "volumes",
    "configs",
    "secrets",
    "images",
    "rollout",
    "prune",
    "release",
]

DAEMON_SETTINGS = "/etc/docker/daemon.json"
SETTINGS_STAMP = "/var/lib/cascade/daemon-settings"
LOCK_FILE = "/var/lib/cascade/lock"
SYSCTL_FILE = "/etc/sysctl.d/90-cascade.conf"
JOURNAL_SETTINGS = "/etc/systemd/journald.conf.d/90-cascade.conf"
# The first that sshd reads: of two values it takes the first.
SSH_SETTINGS = "/etc/ssh/sshd_config.d/00-cascade.conf"
ENGINE_PACKAGES = {
    "distribution": ("docker.io", "docker-cli"),
    "docker": (
        "docker-ce",
        "docker-ce-cli",
        "containerd.io",
        "docker-buildx-plugin",
        "docker-compose-plugin",
    ),
}
# Before Docker starts, they put the secrets of host containers back in memory.
UNSEALING_FILES = ("/usr/local/lib/cascade/unseal-secrets", "/etc/systemd/system/cascade-secrets.service")
UNSEALING_UNIT = "cascade-secrets.service"
# Before Docker starts, they load the profiles of containers.
CONFINEMENT_PACKAGE = "apparmor"
LOADER = "/usr/local/lib/cascade/load-apparmor"
CONFINEMENT_FILES = (LOADER, "/etc/systemd/system/cascade-apparmor.service")
CONFINEMENT_UNIT = "cascade-apparmor.service"
# At most this mode, and this owner and group, where there is such a thing.
PERMISSIONS = {
    "/etc/containerd": ("755", "root", "root"),
    "/etc/default/docker": ("644", "root", "root"),
    "/etc/docker": ("755", "root", "root"),
    DAEMON_SETTINGS: ("644", "root", "root"),
    "/run/containerd/containerd.sock": ("660", "root", "root"),
    "/run/docker.sock": ("660", "root", "docker"),
    "/usr/lib/systemd/system/docker.service": ("644", "root", "root"),
    "/usr/lib/systemd/system/docker.socket": ("644", "root", "root"),
}
REPOSITORY_FILES = ("/etc/apt/keyrings/docker.asc", "/etc/apt/sources.list.d/docker.sources")
# What gives containers their GPUs; all four in one version.
GPU_PACKAGES = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)
GPU_KEY = "/etc/apt/keyrings/nvidia-container-toolkit.asc"
GPU_SOURCES = "/etc/apt/sources.list.d/nvidia-container-toolkit.sources"
# What NVIDIA's own instructions have made over the years.
OTHER_GPU_SOURCES = (
    "/etc/apt/sources.list.d/nvidia-container-toolkit.list",
    "/etc/apt/sources.list.d/libnvidia-container.list",
    "/etc/apt/sources.list.d/nvidia-docker.list",
)
GPU_RUNTIME_SETTINGS = "/etc/nvidia-container-runtime/config.toml"
GPU_SCRIPT = "/usr/local/lib/cascade/prepare-gpus"
GPU_FILES = (
    GPU_SOURCES,
    "/etc/apt/preferences.d/nvidia-container-toolkit",
    "/etc/apt/apt.conf.d/52cascade-nvidia",
    GPU_RUNTIME_SETTINGS,
    GPU_SCRIPT,
    "/etc/systemd/system/cascade-gpu.service",
)
GPU_UNIT = "cascade-gpu.service"
_PROFILE_TEMPLATE = "/etc/apparmor.d/container"
TEMPLATES = Path(__file__).parents[2] / "templates"


@dataclass(frozen=True)
class Desired:
    """One resource as it should be, and the stage of the deployment that makes it so."""

    stage: Stage
    key: Key
    fields: Fields


def stamp(settings: Mapping[str, Any]) -> str:
    """A name for what daemon.json means, however it is written: kept on a host for the running engine."""
    return digest(settings)


def desired(fleet: Fleet, order: tuple[Wave, ...]) -> tuple[Desired, ...]:
    """Every resource of the fleet, in the order in which a bare fleet is built."""
    hosts, workloads = fleet.hosts.values(), _by_name(fleet)
    return (
        *(item for host in hosts for item in _system(host)),
        *(item for host in hosts for item in _confinement(fleet, host)),
        *(item for host in hosts if host.gpu and host.has_gpu for item in _gpu(fleet, host, host.gpu)),
        *(item for host in hosts for item in _engine(fleet, host)),
        *_swarm(fleet),
        *(_network(fleet, overlay) for overlay in fleet.settings.networks),
        *(
            Desired("volumes", key, {"driver": "local", "options": {}, **_owner(fleet, key)})
            for key in _volumes(fleet, fleet.workloads)
        ),
        *_configs(fleet, _all(fleet.workloads)),
        *_unsealing(fleet),
        *_secrets(fleet, _all(fleet.workloads)),
        *_images(fleet),
        *(_workload(fleet, workloads[member.name]) for wave in order for member in wave.members),
    )


def things_of(fleet: Fleet, order: tuple[Wave, ...]) -> Iterator[Key]:
    """The objects of engines that the files name, whether their group is to run or not."""
    yield from (Key(fleet.manager.name, "network", overlay.name) for overlay in fleet.settings.networks)
    yield from _volumes(fleet, fleet.all_workloads)
    yield from (item.key for item in _configs(fleet, _all(fleet.all_workloads)))
    yield from (item.key for item in _secrets(fleet, _all(fleet.all_workloads)))
    yield from (member.key for wave in order for member in wave.members)


def _by_name(fleet: Fleet) -> dict[str, Workload]:
    return {workload.name: workload for workload in _all(fleet.all_workloads)}


def _all(groups: Mapping[str, tuple[Workload, ...]]) -> list[Workload]:
    return [workload for workloads in groups.values() for workload in workloads]


def _system(host: Host) -> Iterator[Desired]:
    for package in host.packages:
        yield Desired("system", Key(host.name, "package", package), {"installed": True})
    yield _file("system", host, SYSCTL_FILE, sysctls=host.sysctls)
    for name, value in host.sysctls.items():
        yield Desired("system", Key(host.name, "sysctl", name), {"value": value})
    if "clock" not in host.absent:
        yield _unit("system", host, "systemd-timesyncd.service")
    yield _file("system", host, JOURNAL_SETTINGS)
    if host.ssh_hardening:
        yield _file("system", host, SSH_SETTINGS)


def _confinement(fleet: Fleet, host: Host) -> Iterator[Desired]:
    """AppArmor's programs, without which the engine confines nothing, and the profiles of containers."""
    yield Desired("confinement", Key(host.name, "package", CONFINEMENT_PACKAGE), {"installed": True})
    profiles = tuple(_profiles(fleet, host))
    for profile in profiles:
        yield _file("confinement", host, profile.path, _PROFILE_TEMPLATE, profile=profile)
    for path in CONFINEMENT_FILES:
        yield _file("confinement", host, path)
    required = {"required": True} if host.apparmor == "required" else {}
    for profile in profiles:
        fields = {"mode": host.apparmor_mode, "in_force": True, **required}
        yield Desired("confinement", Key(host.name, "apparmor", profile.name), fields)
    yield _unit("confinement", host, CONFINEMENT_UNIT)


def _profiles(fleet: Fleet, host: Host) -> Iterator[Profile]:
    """The one for all services, and those of the host's containers, whatever groups the run is about."""
    yield engines_profile()
    for group in fleet.group_order:
        containers = [
            workload
            for workload in fleet.all_workloads[group]
            if workload.kind == "container" and host in fleet.eligible(workload)
        ]
        if containers and fleet.groups[group].enabled:
            yield group_profile(group, containers, host)


def _gpu(fleet: Fleet, host: Host, gpu: HostGpu) -> Iterator[Desired]:
    """NVIDIA Container Toolkit, which the engine's settings name, and the GPUs as containers need them.

    The driver is the owner's.
    """
    key = {"fingerprint": gpu.key, "url": gpu.key_url, "mode": "644", "owner": "root", "group": "root"}
    yield Desired("gpu", Key(host.name, "signing-key", GPU_KEY), key)
    for path in GPU_FILES:
        yield _file("gpu", host, path, packages=GPU_PACKAGES)
    for package in GPU_PACKAGES:
        fields = {"installed": True, "version": gpu.toolkit, "held": True}
        yield Desired("gpu", Key(host.name, "package", package), fields)
    yield _unit("gpu", host, GPU_UNIT)
    limit = {"power_limit": gpu.power_limit} if gpu.power_limit else {}
    for found in fleet.gpus.get(host.name, ()):
        fields = {"persistence": gpu.persistence, "dev_char": True, **limit}
        yield Desired("gpu", Key(host.name, "gpu", found.uuid), fields)


def _engine(fleet: Fleet, host: Host) -> Iterator[Desired]:
    settings = Key(host.name, "daemon-settings", DAEMON_SETTINGS)
    yield Desired("engine", settings, daemon_settings(fleet, host))
    if host.docker_source == "docker":
        for path in REPOSITORY_FILES:
            yield _file("engine", host, path)
    for package in ENGINE_PACKAGES[host.docker_source]:
        yield Desired("engine", Key(host.name, "package", package), {"installed": True})
    yield _unit("engine", host, "docker.service")
    for path, (mode, owner, group) in PERMISSIONS.items():
        fields = {"mode": mode, "owner": owner, "group": group}
        yield Desired("engine", Key(host.name, "permissions", path), fields)


def _file(stage: Stage, host: Host, path: str, template: str = "", **values: Any) -> Desired:
    content = render(template or path, host=host, **values)
    fields = {"content": content, "mode": "644", "owner": "root", "group": "root"}
    return Desired(stage, Key(host.name, "file", path), fields)


def render(path: str, **values: Any) -> str:
    """A host's file from the template at the same place under templates/."""
    return _templates().get_template(f"{path.lstrip('/')}.j2").render(values)


@cache
def _templates() -> Environment:
    """Each template is compiled once, however many files come of it."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        autoescape=False,  # noqa: S701 - configuration files, not HTML
    )


def _unit(stage: Stage, host: Host, name: str) -> Desired:
    return Desired(stage, Key(host.name, "unit", name), {"enabled": True, "active": True})


def _swarm(fleet: Fleet) -> Iterator[Desired]:
    manager = fleet.manager
    for host in sorted(fleet.hosts.values(), key=lambda host: host is not manager):
        fields = {"role": host.swarm_role, "address": host.swarm_address, "member": True}
        yield Desired("swarm", Key(host.name, "swarm", host.name), fields | _pool(fleet, host))
    for host in fleet.hosts.values():
        fields = {"labels": dict(host.node_labels), "availability": "active", "earlier_entries": []}
        yield Desired("swarm", Key(manager.name, "node", host.name), fields)


def _pool(fleet: Fleet, host: Host) -> dict[str, Any]:
    if host is not fleet.manager:
        return {}
    pool = fleet.settings.swarm_pool
    return {"pool": [str(pool.pool)], "subnet_size": pool.subnet_size}


def _network(fleet: Fleet, overlay: Overlay) -> Desired:
    mtu = {"com.docker.network.driver.mtu": str(overlay.mtu)} if overlay.mtu else {}
    fields = {
        "driver": "overlay",
        "internal": overlay.internal,
        "attachable": overlay.attachable,
        "options": mtu,
    }
    subnet = {"subnet": str(overlay.subnet)} if overlay.subnet else {}
    return Desired("networks", Key(fleet.manager.name, "network", overlay.name), fields | subnet)


def _volumes(fleet: Fleet, groups: Mapping[str, tuple[Workload, ...]]) -> list[Key]:
    return sorted(
        {
            Key(host.name, "volume", mount.source)
            for workloads in groups.values()
            for workload in workloads
            for mount in workload.mounts
            if mount.type == "volume"
            for host in fleet.eligible(workload)
        }
    )


def _owner(fleet: Fleet, volume: Key) -> Fields:
    """The user that writes a volume, who cannot where it is another's."""
    owner = fleet.volume_owners.get((volume.host, volume.name))
    return {"owner": owner} if owner else {}


def _configs(fleet: Fleet, workloads: Iterable[Workload]) -> list[Desired]:
    """Those that somebody reads: in the Swarm, from where a rollback has them, then as files of hosts."""
    in_swarm, on_hosts = {}, {}
    for workload in workloads:
        for config, use in workload.config_files:
            item = _config(fleet, workload.group, config)
            in_swarm[item.key] = item
            for host in fleet.eligible(workload) if workload.kind == "container" else ():
                item = _config_file(host, config, use)
                on_hosts[item.key] = item
    return [found[key] for found in (in_swarm, on_hosts) for key in sorted(found)]


def _config(fleet: Fleet, group: str, config: Config) -> Desired:
    labels = {LABEL_SYSTEM: fleet.settings.system, LABEL_GROUP: group, LABEL_CONFIG: config.key}
    fields = {"labels": labels, "sha256": config.digest, "data": _base64(config)}
    return Desired("configs", Key(fleet.manager.name, "config", config.name), fields)


def _config_file(host: Host, config: Config, use: ConfigUse) -> Desired:
    """Owners by number: they are those of the container, and mean nothing on the host."""
    fields = {
        "config": config.name,
        "sha256": config.digest,
        "data": _base64(config),
        "mode": f"{use.mode:o}",
        "owner": use.uid,
        "group": use.gid,
    }
    return Desired("configs", Key(host.name, "file", config_path(config, use)), fields)


def _base64(config: Config) -> str:
    return base64.b64encode(config.data).decode()


def _secrets(fleet: Fleet, workloads: Iterable[Workload]) -> list[Desired]:
    """Those that somebody reads: of services in the Swarm, of host containers on their hosts."""
    in_swarm, on_hosts = {}, {}
    for workload in workloads:
        for secret, use in workload.secret_files:
            if workload.kind == "service":
                item = _secret(fleet, secret)
                in_swarm[item.key] = item
                continue
            for host in fleet.eligible(workload):
                item = _secret_file(fleet, host, workload, secret, use)
                on_hosts[item.key] = item
    return [found[key] for found in (in_swarm, on_hosts) for key in sorted(found)]


def _unsealing(fleet: Fleet) -> Iterator[Desired]:
    """On the hosts whose containers read secrets, whatever groups the run is about."""
    enabled = (fleet.all_workloads[name] for name in fleet.group_order if fleet.groups[name].enabled)
    reading = [found for found in chain(*enabled) if found.kind == "container" and found.secret_files]
    names = {host.name for workload in reading for host in fleet.eligible(workload)}
    for host in (fleet.hosts[name] for name in sorted(names)):
        yield from (_file("secrets", host, path) for path in UNSEALING_FILES)
        yield _unit("secrets", host, UNSEALING_UNIT)


def _secret(fleet: Fleet, secret: Secret) -> Desired:
    labels = {LABEL_SYSTEM: fleet.settings.system, LABEL_SECRET: secret.name}
    key = Key(fleet.manager.name, "secret", fleet.swarm_secret(secret.name))
    return Desired("secrets", key, {"labels": labels, **_stored(fleet, secret)})


def _secret_file(fleet: Fleet, host: Host, workload: Workload, secret: Secret, use: SecretUse) -> Desired:
    """In memory, and sealed on the disk for the next start of its host; owners by number."""
    fields = {
        "in_place": True,
        "sealed": True,
        "mode": f"{use.mode:o}",
        "owner": use.uid,
        "group": use.gid,
        **_stored(fleet, secret),
    }
    key = Key(host.name, "secret-file", secret_place(workload, fleet, secret))
    return Desired("secrets", key, fields)


def _stored(fleet: Fleet, secret: Secret) -> Fields:
    """The name under which this run has the value open; a value itself is no part of any plan."""
    return {"stored": secret.name} if secret.name in fleet.digits else {}


def _images(fleet: Fleet) -> Iterator[Desired]:
    wanted = {
        (host.name, fleet.pinned_images[image]): fleet.settings.images[image]
        for workloads in fleet.workloads.values()
        for workload in workloads
        for image in (workload.service.image,)
        for host in fleet.eligible(workload)
    }
    for (host, pinned), source in sorted(wanted.items(), key=lambda item: item[0]):
        yield Desired("images", Key(host, "image", pinned), _image(pinned, source))


def _image(pinned: str, source: ImageSource) -> Mapping[str, Any]:
    if isinstance(source, RegistryImage):
        login = {"login": source.parsed.registry} if source.credentials else {}
        return {"present": pinned, **login}
    return {"present": pinned, "archive": str(source.archive)}


def _workload(fleet: Fleet, workload: Workload) -> Desired:
    if workload.kind == "service":
        key = Key(fleet.manager.name, "service", workload.name)
        return Desired("rollout", key, service_spec(workload, fleet))
    (host,) = fleet.eligible(workload)
    fields = {"running": True, **container_body(workload, fleet)}
    return Desired("rollout", Key(host.name, "container", workload.name), fields)
