"""What the hosts' snapshots say, in the shape of the desired resources."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from cascade.model.apparmor import PROFILE_FOLDER
from cascade.model.daemon import ours_in
from cascade.model.openpgp import NoKey, fingerprints
from cascade.planning.comparable import comparable
from cascade.planning.desired import (
    DAEMON_SETTINGS,
    GPU_KEY,
    LOCK_FILE,
    OTHER_GPU_SOURCES,
    SETTINGS_STAMP,
    stamp,
)
from cascade.planning.diff import GPU_LOST, PROFILE_LOST, FieldChange
from cascade.planning.gpu import GPU, engine_in, faults_in, lost_in, why_unknown, workloads_by_container
from cascade.planning.resource import Fields, Key, Kind, Resources, Unknown
from cascade.planning.specs import CONFIG_FOLDER, LABEL_GROUP, LABEL_NEEDS, LABEL_RELEASE, LABEL_SYSTEM
from cascade.planning.target import Target

MINIMUM_API = (1, 44)

_ANOTHER_GPU = "put it back, deploy, which takes what is there now, or go back to another release"
_NUMBER = re.compile("[0-9]{1,9}")
_OCTAL = re.compile("[0-7]{1,5}")
_CONFIG_FILE = re.compile(rf"{CONFIG_FOLDER}/(?P<prefix>[^/]+)-[0-9a-f]{{12}}(?:\.|$)")

Snapshot = Mapping[str, Any]
Labels = Mapping[str, str]
_ENGINE_KINDS: frozenset[Kind] = frozenset(
    ("swarm", "node", "network", "volume", "config", "secret", "image", "service", "container")
)
_BODY = (
    "Labels",
    "Entrypoint",
    "Cmd",
    "Env",
    "ExposedPorts",
    "Tty",
    "OpenStdin",
    "WorkingDir",
    "User",
    "StopSignal",
    "StopTimeout",
    "Healthcheck",
)
_HOST_CONFIG = (
    "NetworkMode",
    "IpcMode",
    "PidMode",
    "UTSMode",
    "UsernsMode",
    "CgroupParent",
    "DeviceRequests",
    "DeviceCgroupRules",
    "GroupAdd",
    "VolumesFrom",
    "PublishAllPorts",
    "Links",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "Mounts",
    "Binds",
    "Devices",
    "CapAdd",
    "CapDrop",
    "Privileged",
    "SecurityOpt",
    "Ulimits",
    "Sysctls",
    "ExtraHosts",
    "Init",
    "ReadonlyRootfs",
    "NanoCpus",
    "Memory",
    "MemoryReservation",
    "PidsLimit",
    "RestartPolicy",
    "PortBindings",
)
_NOT_READ = {"error": "it was not read"}
_NAMED_BY_ENGINE = ("Hostname",)
_DEFAULTED_BY_ENGINE = ("ShmSize", "LogConfig")


@dataclass
class Observed:
    """The resources that were read, what could not be read, and engines that must be started to be read.

    `whole` has host containers with what nobody compares, so that they can be made again as they were;
    `doubled` are services of which a replica runs twice, which Swarm may leave behind an update;
    `stale_engines` began before something that an engine reads at its start, and are named with that;
    `unconfined` are hosts whose kernel has no AppArmor;
    `losses` are what workloads have lost that nothing gives back to their containers;
    `previous` are the secrets to which the Swarm may still take a service back.
    """

    resources: Resources = field(default_factory=dict)
    unknown: list[Unknown] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    faulty: set[str] = field(default_factory=set)
    not_read: set[Key] = field(default_factory=set)
    stopped: set[str] = field(default_factory=set)
    stale_engines: dict[str, str] = field(default_factory=dict)
    unconfined: set[str] = field(default_factory=set)
    paused: set[Key] = field(default_factory=set)
    network_ids: Mapping[str, str] = field(default_factory=dict)
    health: dict[Key, int] = field(default_factory=dict)
    placed: dict[Key, tuple[str, ...]] = field(default_factory=dict)
    doubled: set[Key] = field(default_factory=set)
    losses: dict[Key, tuple[FieldChange, ...]] = field(default_factory=dict)
    owned: dict[Key, Labels] = field(default_factory=dict)
    previous: set[Key] = field(default_factory=set)
    whole: dict[Key, Fields] = field(default_factory=dict)
    foreign: dict[Key, str] = field(default_factory=dict)
    releases: tuple[Labels, ...] = ()

    @property
    def left_out(self) -> set[str]:
        """The hosts that nobody asked."""
        return self.unread - self.lost

    @property
    def needed(self) -> set[Key]:
        """What the releases that are kept need."""
        return {key for labels in self.releases for key in needs_in(labels)}

    def silent(self, host: str) -> bool:
        """Whether nobody knows what the host's engine holds."""
        return host in self.stopped | self.unread | self.faulty

    def before(self, key: Key) -> Fields | None:
        """A thing as it can be made again; None where there is none."""
        return self.whole.get(key) or self.resources.get(key)

    def unreadable(self, key: Key, manager: str) -> bool:
        """Whether nobody knows: the host was left out, its engine does not run, or the reading failed."""
        if key.host in self.unread or key in self.not_read:
            return True
        if key.kind not in _ENGINE_KINDS:
            return False
        asked = {key.host}
        if key.kind == "swarm":
            asked.add(manager)
        if key.kind == "node":
            asked.add(key.name)
        return any(map(self.silent, asked))


def observe(target: Target, snapshots: Mapping[str, Snapshot], lost: Collection[Unknown] = ()) -> Observed:
    """The fleet as its hosts' snapshots show it. The target says which parts of shared objects are ours."""
    observed = Observed(
        unread=set(target.hosts) - set(snapshots),
        lost={unknown.host for unknown in lost},
        unknown=[*lost],
    )
    observed.network_ids = _network_ids(snapshots.get(target.manager))
    wanted = target.wanted
    for name, snapshot in snapshots.items():
        _observe_host(observed, name, snapshot, wanted)
    engines = {
        name: engine
        for name, snapshot in snapshots.items()
        if (engine := _engine(snapshot)) and name not in observed.faulty
    }
    _observe_swarm(observed, target.manager, engines, wanted)
    observed.losses = _losses(target.manager, snapshots)
    cluster = engines.get(target.manager, {})
    labelled = dict(_labelled(target.manager, engines))
    observed.owned = {
        key: labels for key, labels in labelled.items() if labels.get(LABEL_SYSTEM) == target.system
    }
    observed.foreign = {
        key: system
        for key, labels in labelled.items()
        if (system := labels.get(LABEL_SYSTEM, target.system)) != target.system
    }
    for key in _config_files(observed, target):
        observed.owned[key] = {LABEL_SYSTEM: target.system}
    for key in observed.resources:
        if key.kind == "secret-file" and key.name.partition("/")[2].startswith(f"{target.system}_"):
            observed.owned[key] = {LABEL_SYSTEM: target.system}
    observed.releases = tuple(releases_in(cluster, target.system))
    return observed


def in_config_folder(key: Key) -> bool:
    """Whether it is a file for host containers, of this system or of another one."""
    return key.kind == "file" and key.name.startswith(f"{CONFIG_FOLDER}/")


def is_container_file(key: Key) -> bool:
    """Whether it is a file that only host containers read, so that it goes when none does."""
    return in_config_folder(key) or key.kind == "secret-file"


def _config_files(observed: Observed, target: Target) -> list[Key]:
    """The files for host containers, but for those that hold configs of another system."""
    groups = {wave.group for wave in target.order}
    groups |= {labels.get(LABEL_GROUP, "") for labels in observed.owned.values()}
    configs = {key.name for key in (*target.known, *observed.owned) if key.kind == "config"}
    prefixes = {name.rpartition("-")[0] for name in configs}
    files = {key: _CONFIG_FILE.match(key.name) for key in filter(in_config_folder, observed.resources)}
    return [
        key
        for key, of in files.items()
        if of is None or of["prefix"] in prefixes or of["prefix"].partition("_")[0] in groups
    ]


def releases_in(engine: Mapping[str, Any], system: str) -> Iterator[Labels]:
    """The labels of every release of a system that its manager keeps, the oldest first."""
    labels = (config["Labels"] for config in engine.get("configs", ()))
    ours = [
        found
        for found in labels
        if found.get(LABEL_SYSTEM) == system and _NUMBER.fullmatch(found.get(LABEL_RELEASE, ""))
    ]
    yield from sorted(ours, key=lambda found: int(found[LABEL_RELEASE]))


def needs_in(release: Labels) -> Iterator[Key]:
    """The objects that a release says it needs."""
    for item in release.get(LABEL_NEEDS, "").split():
        host, _, rest = item.partition("/")
        kind, _, name = rest.partition("/")
        yield Key(host, cast(Kind, kind), name)


def secrets_before(manager: str, service: Mapping[str, Any]) -> Iterator[Key]:
    """The secrets of a service's previous spec, to which the Swarm may still take it back."""
    container = (service.get("PreviousSpec") or {}).get("TaskTemplate", {}).get("ContainerSpec") or {}
    yield from (Key(manager, "secret", held["SecretName"]) for held in container.get("Secrets") or ())


def _labelled(manager: str, engines: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[Key, Labels]]:
    """Everything in the engines that carries labels; releases are no resources."""
    cluster = engines.get(manager, {})
    for service in cluster.get("services", ()):
        yield Key(manager, "service", service["Spec"]["Name"]), service["Spec"].get("Labels") or {}
    for network in cluster.get("networks", ()):
        yield Key(manager, "network", network["Name"]), network.get("Labels") or {}
    for config in cluster.get("configs", ()):
        if LABEL_RELEASE not in config["Labels"]:
            yield Key(manager, "config", config["Name"]), config["Labels"]
    for secret in cluster.get("secrets", ()):
        yield Key(manager, "secret", secret["Name"]), secret["Labels"]
    for host, engine in engines.items():
        for volume in engine["volumes"]:
            yield Key(host, "volume", volume["Name"]), volume.get("Labels") or {}
        for item in engine["containers"]:
            container = item["container"]
            key = Key(host, "container", container["Name"].lstrip("/"))
            yield key, container["Config"].get("Labels") or {}


def _losses(manager: str, snapshots: Mapping[str, Snapshot]) -> dict[Key, tuple[FieldChange, ...]]:
    """What workloads have lost of which one of their containers tells: the GPU, or its AppArmor profile."""
    found: dict[Key, dict[FieldChange, None]] = defaultdict(dict)
    blind = lost_in(snapshots)
    free = {id_ for snapshot in snapshots.values() for id_ in engine_in(snapshot).get("unconfined", ())}
    for container, key in workloads_by_container(manager, snapshots).items():
        if said := blind.get(container):
            found[key][FieldChange(GPU_LOST, f"lost: {said}", "seen")] = None
        if container in free:
            found[key][FieldChange(PROFILE_LOST, "unconfined", "confined")] = None
    return {key: tuple(losses) for key, losses in found.items()}


def _engine(snapshot: Snapshot) -> Mapping[str, Any] | None:
    engine = snapshot["docker"]
    return engine if engine and "api" in engine else None


def _network_ids(manager: Snapshot | None) -> dict[str, str]:
    engine = _engine(manager) if manager else None
    return {network["Name"]: network["Id"] for network in (engine or {}).get("networks", ())}


def _observe_host(observed: Observed, host: str, snapshot: Snapshot, wanted: Resources) -> None:
    files = dict(snapshot["files"])
    _daemon_settings(observed, host, files.pop(DAEMON_SETTINGS, _NOT_READ), snapshot, wanted)
    for read_elsewhere in (SETTINGS_STAMP, LOCK_FILE, *OTHER_GPU_SOURCES):
        files.pop(read_elsewhere, None)
    keys = {path: files.pop(path) for path in (GPU_KEY,) if path in files}
    readings: tuple[tuple[Kind, Any, Callable[[Any], Fields]], ...] = (
        ("package", snapshot["packages"], _package),
        ("sysctl", snapshot["sysctls"], _sysctl),
        ("unit", snapshot["units"], _unit),
        ("file", files, _file),
        ("secret-file", snapshot.get("secret_files", {}), dict),
        ("signing-key", keys, _signing_key),
    )
    for kind, found, fields in readings:
        _simple(observed, host, kind, found, fields, wanted)
    _held(observed, host, snapshot, wanted)
    _gpus(observed, host, snapshot, wanted)
    observed.unknown += [Unknown(host, GPU, reason) for reason in faults_in(snapshot)]
    _confinement(observed, host, snapshot, wanted)
    _permissions(observed, host, snapshot, wanted)
    docker = snapshot["docker"]
    if docker and "error" in docker:
        _engine_fault(observed, host, docker["error"])
    elif docker and docker.get("stopped"):
        observed.stopped.add(host)
    elif docker:
        _observe_engine(observed, host, docker, wanted)


def _confinement(observed: Observed, host: str, snapshot: Snapshot, wanted: Resources) -> None:
    """The profiles that are loaded; an engine looks for AppArmor and its programs when it starts."""
    found = snapshot.get("apparmor")
    if found is None:
        observed.unconfined.add(host)
        return
    keys = {key for key in wanted if (key.host, key.kind) == (host, "apparmor")}
    if "error" in found:
        observed.unknown.append(Unknown(host, "AppArmor", found["error"]))
        observed.not_read |= keys
        return
    for key in keys:
        if policy := found.get(key.name):
            observed.resources[key] = _profile(key, policy, wanted)
    if keys and not (_engine(snapshot) or {}).get("apparmor", True):
        observed.stale_engines[host] = "there was AppArmor"


def _profile(key: Key, policy: Mapping[str, Any], wanted: Resources) -> Fields:
    """In force is what came from the file as it is to be."""
    file = wanted.get(Key(key.host, "file", f"{PROFILE_FOLDER}/{key.name}"), {})
    return {"mode": policy["mode"], "in_force": policy["file"] == comparable("file", file).get("sha256")}


def _permissions(observed: Observed, host: str, snapshot: Snapshot, wanted: Resources) -> None:
    """A mode that allows less is as good as the one that is wanted; what is not there has none."""
    found = snapshot.get("permissions", {})
    _simple(observed, host, "permissions", found, dict, wanted)
    for key in [key for key in wanted if (key.host, key.kind) == (host, "permissions")]:
        there = observed.resources.get(key)
        if there is None:
            observed.not_read.add(key)
        elif _OCTAL.fullmatch(there["mode"]) and not int(there["mode"], 8) & ~int(wanted[key]["mode"], 8):
            observed.resources[key] = {**there, "mode": wanted[key]["mode"]}


def _engine_fault(observed: Observed, host: str, reason: str) -> None:
    observed.unknown.append(Unknown(host, "Docker engine", reason))
    observed.faulty.add(host)


def _simple(
    observed: Observed, host: str, kind: Kind, found: Any, fields: Callable[[Any], Fields], wanted: Resources
) -> None:
    """Resources by name, where None is absent and an error is unknown."""
    if "error" in found:
        observed.unknown.append(Unknown(host, f"{kind}s", found["error"]))
        observed.not_read |= {key for key in wanted if (key.host, key.kind) == (host, kind)}
        return
    for name, value in found.items():
        key = Key(host, kind, name)
        if isinstance(value, dict) and "error" in value:
            observed.unknown.append(Unknown(host, f"{kind} {name}", value["error"]))
            observed.not_read.add(key)
        elif value is not None:
            observed.resources[key] = fields(value)


def _package(version: str) -> Fields:
    return {"installed": True, "version": version}


def _held(observed: Observed, host: str, snapshot: Snapshot, wanted: Resources) -> None:
    """Version and hold of the packages that are to have them; of others they are the owner's."""
    held = snapshot.get("held", ())
    unread = held["error"] if isinstance(held, dict) else ""
    for key in [key for key in wanted if (key.host, key.kind) == (host, "package")]:
        if key not in observed.resources:
            continue
        there = observed.resources[key]
        if "held" not in wanted[key]:
            observed.resources[key] = {"installed": True}
        elif unread:
            observed.unknown.append(Unknown(host, f"package {key.name}", unread))
            observed.not_read.add(key)
        else:
            observed.resources[key] = {**there, "held": key.name in held}


def _signing_key(found: Mapping[str, Any]) -> Fields:
    """Which keys a file holds; apt reads it as nobody, so that its mode counts."""
    try:
        named = " ".join(fingerprints((found["content"] or "").encode()))
    except NoKey as error:
        named = f"none: {error}"
    return {"fingerprint": named, **{name: found[name] for name in ("mode", "owner", "group")}}


def _gpus(observed: Observed, host: str, snapshot: Snapshot, wanted: Resources) -> None:
    """How the GPUs are set, of which the driver says what it says; what it cannot set is as it is."""
    part = snapshot.get("gpu") or {}
    there = {gpu["uuid"]: gpu for gpu in part.get("gpus", ())}
    for key in [key for key in wanted if (key.host, key.kind) == (host, "gpu")]:
        gpu = there.get(key.name)
        if gpu is None or gpu["lost"]:
            observed.not_read.add(key)
            if gpu is None and not why_unknown(snapshot):
                observed.unknown.append(
                    Unknown(host, GPU, f"there is no {key.name} any more: {_ANOTHER_GPU}")
                )
            continue
        found = {
            "persistence": gpu["persistence"],
            "power_limit": gpu["power_limit"] and gpu["power_limit"] // 1000,
            "dev_char": part["dev_char"],
        }
        fields = wanted[key]
        observed.resources[key] = {
            name: fields[name] if found[name] is None else found[name] for name in fields
        }


def _sysctl(value: str) -> Fields:
    return {"value": value}


def _unit(found: Mapping[str, Any]) -> Fields:
    return {name: found[name] for name in ("enabled", "active")}


def _file(found: Mapping[str, Any]) -> Fields:
    """With the content where that is text; else its digest is all there is to compare."""
    content = {"content": found["content"]} if found["content"] is not None else {"sha256": found["sha256"]}
    return content | {name: found[name] for name in ("mode", "owner", "group")}


def _daemon_settings(
    observed: Observed, host: str, found: Any, snapshot: Snapshot, wanted: Resources
) -> None:
    """Only what is wanted; the rest of the file is the owner's."""
    key = Key(host, "daemon-settings", DAEMON_SETTINGS)
    if found is None or key not in wanted:
        return
    try:
        settings = _settings_in(found)
    except ValueError as error:
        observed.unknown.append(Unknown(host, DAEMON_SETTINGS, str(error)))
        observed.not_read.add(key)
        return
    observed.resources[key] = ours_in(settings, wanted[key])
    engine = _engine(snapshot)
    known = snapshot["files"].get(SETTINGS_STAMP) or {}
    if engine and found["changed"] > engine["started"] and known.get("content") != stamp(settings):
        observed.stale_engines[host] = "the file was written"


def _settings_in(found: Mapping[str, Any]) -> dict[str, Any]:
    if "error" in found:
        raise ValueError(found["error"])
    try:
        settings = json.loads(found["content"] or "{}")
        # JSON can say what no text can hold: half a sign.
        json.dumps(settings, ensure_ascii=False).encode()
    except ValueError as error:
        raise ValueError(f"{error}: mend it or move it away") from error
    if not isinstance(settings, dict):
        raise ValueError("not a JSON object: mend it or move it away")
    return settings


def _observe_engine(observed: Observed, host: str, engine: Mapping[str, Any], wanted: Resources) -> None:
    api = tuple(int(part) for part in engine["api"].split("."))
    if api < MINIMUM_API:
        _engine_fault(
            observed, host, f"its API {engine['api']} is older than 1.44: upgrade Docker to 25 or later"
        )
        return
    if (swarm := engine["swarm"]["LocalNodeState"]) not in ("active", "inactive"):
        _engine_fault(observed, host, f"its part of the Swarm is {swarm}: wait for it, or see `docker info`")
        return
    for volume in engine["volumes"]:
        _observe_volume(observed, Key(host, "volume", volume["Name"]), volume, wanted)
    present = {reference for image in engine["images"] for reference in (image["Id"], *image["RepoDigests"])}
    for key, fields in wanted.items():
        if key.host == host and key.kind == "image" and fields["present"] in present:
            observed.resources[key] = fields
    for item in engine["containers"]:
        _observe_container(observed, host, item, wanted)


def _observe_volume(observed: Observed, key: Key, volume: Mapping[str, Any], wanted: Resources) -> None:
    """Its owner only where one is wanted; others are nobody's business."""
    fields = {"driver": volume["Driver"], "options": volume.get("Options") or {}}
    if "owner" in wanted.get(key, {}):
        if volume["Owner"] is None:
            observed.unknown.append(Unknown(key.host, f"volume {key.name}", volume.get("Fault", "not told")))
            observed.not_read.add(key)
            return
        fields["owner"] = volume["Owner"]
    observed.resources[key] = fields


def _observe_container(observed: Observed, host: str, item: Mapping[str, Any], wanted: Resources) -> None:
    container, image = item["container"], item["image"]
    key = Key(host, "container", container["Name"].lstrip("/"))
    state = container["State"]
    ours = wanted.get(key, {})
    said = (*_BODY, *(name for name in _NAMED_BY_ENGINE if name in ours))
    body = {name: _own(container["Config"].get(name), image.get(name), ours.get(name)) for name in said}
    networks = container["NetworkSettings"]["Networks"]
    on_host = {name: container["HostConfig"].get(name) for name in _HOST_CONFIG}
    for name in ours.get("HostConfig", {}).keys() & set(_DEFAULTED_BY_ENGINE):
        on_host[name] = _asked(container["HostConfig"].get(name), ours["HostConfig"][name])
    fields = {
        **body,
        "Image": container["Config"]["Image"],
        "HostConfig": on_host,
        "NetworkingConfig": {
            "EndpointsConfig": {
                _present(observed, name, endpoint): {
                    "Aliases": [
                        alias for alias in endpoint["Aliases"] or [] if not container["Id"].startswith(alias)
                    ]
                }
                for name, endpoint in networks.items()
            }
        },
        "running": state["Running"] and not state["Paused"],
    }
    observed.resources[key] = fields
    observed.whole[key] = {**fields, "HostConfig": container["HostConfig"]}
    health = state.get("Health", {}).get("Status", "healthy")
    observed.health[key] = int(state["Running"] and health == "healthy")
    observed.placed[key] = (host,)


def _asked(value: Any, wanted: Any) -> Any:
    """Without the log options that the engine adds from its own settings to those of a container."""
    if isinstance(value, dict) and isinstance(wanted, dict):
        return {name: _asked(value[name], wanted[name]) for name in value if name in wanted}
    return value


def _present(observed: Observed, name: str, endpoint: Mapping[str, Any]) -> str:
    """A network's name, unless the container is tied to an earlier network of that name."""
    joined = endpoint.get("NetworkID")
    return name if not joined or observed.network_ids.get(name, joined) == joined else f"{name} (removed)"


def _own(value: Any, inherited: Any, wanted: Any) -> Any:
    """What a container says beyond its image; what we say ourselves counts although the image says it too."""
    if isinstance(value, dict):
        kept = {
            name for name in value if name in (wanted or {}) or value[name] != (inherited or {}).get(name)
        }
        return {name: value[name] for name in value if name in kept}
    if isinstance(value, list) and value != inherited:
        return [item for item in value if item in (wanted or []) or item not in (inherited or [])]
    return None if value == inherited and wanted is None else value


def _observe_swarm(
    observed: Observed, manager: str, engines: Mapping[str, Mapping[str, Any]], wanted: Resources
) -> None:
    cluster = engines.get(manager, {})
    nodes = {node["ID"]: node for node in cluster.get("nodes", ())}
    hosts = {engine["swarm"]["NodeID"]: host for host, engine in engines.items() if engine["swarm"]["NodeID"]}
    for node_id, host in hosts.items():
        settings = cluster["cluster"] if host == manager and "cluster" in cluster else None
        observed.resources[Key(host, "swarm", host)] = _member(engines[host]["swarm"], nodes, settings)
        _node(observed, Key(manager, "node", host), nodes.get(node_id), nodes.values(), wanted)
    for network in cluster.get("networks", ()):
        key = Key(manager, "network", network["Name"])
        observed.resources[key] = _network(network, wanted.get(key, {}))
    configs = [config for config in cluster.get("configs", ()) if LABEL_RELEASE not in config["Labels"]]
    for config in configs:
        key = Key(manager, "config", config["Name"])
        labels = _wanted_labels(config, wanted.get(key, {}))
        observed.resources[key] = {"labels": labels, "sha256": config["sha256"]}
    secrets = cluster.get("secrets", ())
    for secret in secrets:
        key = Key(manager, "secret", secret["Name"])
        observed.resources[key] = {"labels": _wanted_labels(secret, wanted.get(key, {}))}
    network_names = {network["Id"]: network["Name"] for network in cluster.get("networks", ())}
    names = {item["ID"]: item["Name"] for item in (*configs, *secrets)}
    for service in cluster.get("services", ()):
        key = Key(manager, "service", service["Spec"]["Name"])
        spec = _with_network_names(service["Spec"], network_names)
        observed.resources[key] = _with_file_names(spec, names)
        observed.previous.update(secrets_before(manager, service))
        tasks = list(_healthy(service["ID"], cluster["tasks"], nodes))
        paused = service.get("UpdateStatus", {}).get("State") == "paused"
        if paused and len(tasks) < service["Spec"]["Mode"].get("Replicated", {}).get("Replicas", 0):
            observed.paused.add(key)
        observed.health[key] = len(tasks)
        slots = [task["Slot"] for task in _healthy(service["ID"], cluster.get("running", ()), nodes)]
        if len(slots) > len(set(slots)):
            observed.doubled.add(key)
        placed = {task["NodeID"] for task in tasks}
        observed.placed[key] = tuple(sorted({hosts.get(id_) or _hostname(nodes[id_]) for id_ in placed}))


def _wanted_labels(item: Mapping[str, Any], wanted: Fields) -> dict[str, str]:
    """Only the labels that are wanted; others are their owner's."""
    ours = wanted.get("labels", item["Labels"])
    return {name: text for name, text in item["Labels"].items() if name in ours}


def _hostname(node: Mapping[str, Any]) -> str:
    """A node that was not read goes by the name that it gave the Swarm."""
    return str(node["Description"].get("Hostname") or node["ID"])


def _member(swarm: Mapping[str, Any], nodes: Mapping[str, Any], cluster: Mapping[str, Any] | None) -> Fields:
    fields = {
        "role": "manager" if swarm["ControlAvailable"] else "worker",
        "address": swarm["NodeAddr"],
        "member": swarm["LocalNodeState"] == "active" and swarm["NodeID"] in nodes,
    }
    pool = {"pool": cluster["DefaultAddrPool"], "subnet_size": cluster["SubnetSize"]} if cluster else {}
    return fields | pool


def _node(
    observed: Observed,
    key: Key,
    node: Mapping[str, Any] | None,
    nodes: Iterable[Mapping[str, Any]],
    wanted: Resources,
) -> None:
    """Only the labels that are wanted; others on the node are the owner's."""
    if node is None or key not in wanted:
        return
    labels = node["Spec"].get("Labels") or {}
    observed.resources[key] = {
        "labels": {name: labels[name] for name in wanted[key]["labels"] if name in labels},
        "availability": node["Spec"]["Availability"],
        "earlier_entries": earlier_entries(node, nodes),
    }


def earlier_entries(node: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    """The IDs under which the same machine was a member before; they are down for good."""
    hostname = node["Description"].get("Hostname")
    return sorted(
        other["ID"]
        for other in nodes
        if other["ID"] != node["ID"]
        and other["Description"].get("Hostname") == hostname is not None
        and other["Status"]["State"] == "down"
    )


def _network(network: Mapping[str, Any], wanted: Fields) -> Fields:
    """An overlay without a driver or subnet was refused by the allocator, and is not what it says."""
    options = {
        name: text
        for name, text in (network["Options"] or {}).items()
        if name != "com.docker.network.driver.overlay.vxlanid_list"
    }
    subnets = [config["Subnet"] for config in network["IPAM"]["Config"] or []]
    subnet = {"subnet": subnets[0] if subnets else None} if "subnet" in wanted else {}
    return {
        "driver": network["Driver"],
        "internal": network["Internal"],
        "attachable": network["Attachable"],
        "options": options,
        **subnet,
    }


def _with_network_names(spec: Fields, names: Mapping[str, str]) -> Fields:
    template = spec["TaskTemplate"]
    networks = [
        {**network, "Target": names.get(network["Target"], network["Target"])}
        for network in template.get("Networks") or []
    ]
    return {**spec, "TaskTemplate": {**template, "Networks": networks}}


def _with_file_names(spec: Fields, names: Mapping[str, str]) -> Fields:
    """A config or secret is what its ID says; the name that a service gives it is only a note."""
    template = spec["TaskTemplate"]
    container = template.get("ContainerSpec") or {}
    named = {
        f"{kind}s": [
            {**item, f"{kind}Name": names.get(item[f"{kind}ID"], f"{item[f'{kind}Name']} (not Cascade's)")}
            for item in container[f"{kind}s"]
        ]
        for kind in ("Config", "Secret")
        if container.get(f"{kind}s")
    }
    if not named:
        return spec
    return {**spec, "TaskTemplate": {**template, "ContainerSpec": {**container, **named}}}


def _healthy(
    service_id: str, tasks: Iterable[Mapping[str, Any]], nodes: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """Those of these tasks of a service that run on a node that is not down."""
    for task in tasks:
        ready = nodes.get(task["NodeID"], {}).get("Status", {}).get("State") == "ready"
        if task["ServiceID"] == service_id and task["Status"]["State"] == "running" and ready:
            yield task
