"""Fields and their values in the words of people: `replicas 2 → 3`, not Mode.Replicated.Replicas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cascade.planning.diff import FieldChange

# The place of a field in a spec, without what says nothing to people.
_PLACES = ("TaskTemplate.ContainerSpec.", "TaskTemplate.", "HostConfig.", "NetworkingConfig.")
_NAMES = {
    "Mode.Replicated.Replicas": "replicas",
    "Resources.Limits.NanoCPUs": "CPU limit",
    "Resources.Limits.MemoryBytes": "memory limit",
    "Resources.Limits.Pids": "limit of processes",
    "Resources.Reservations.NanoCPUs": "CPU reservation",
    "Resources.Reservations.MemoryBytes": "memory reservation",
    "NanoCpus": "CPU limit",
    "Memory": "memory limit",
    "MemoryReservation": "memory reservation",
    "PidsLimit": "limit of processes",
    "Placement.Constraints": "constraints",
    "Placement.MaxReplicas": "most replicas on a node",
    "CapabilityAdd": "added capabilities",
    "CapabilityDrop": "dropped capabilities",
    "CapAdd": "added capabilities",
    "CapDrop": "dropped capabilities",
    "Privileges.NoNewPrivileges": "no-new-privileges",
    "Privileges.Seccomp.Mode": "seccomp",
    "Privileges.Seccomp.Profile": "seccomp profile",
    "SecurityOpt.no-new-privileges": "no-new-privileges",
    "SecurityOpt.seccomp": "seccomp",
    "ReadOnly": "read-only",
    "ReadonlyRootfs": "read-only",
    "Command": "entrypoint",
    "Args": "command",
    "Cmd": "command",
    "Dir": "working folder",
    "WorkingDir": "working folder",
    "UpdateStatus": "update",
    "in_force": "in force",
    "sha256": "content",
}
# Behind these a path goes on with a name of its owner's, which stays as it is.
_BEHIND = {
    "Env": "env",
    "Labels": "label",
    "labels": "label",
    "Sysctls": "sysctl",
    "Mounts": "mount",
    "Networks": "network",
    "EndpointsConfig": "network",
    "Ports": "port",
    "PortBindings": "port",
    "Ulimits": "ulimit",
    "Devices": "device",
    "Configs": "config",
    "Secrets": "secret",
    "options": "option",
    "Options": "option",
}
_FIRST = re.compile(r"^(?P<before>(?:[A-Za-z]+\.)*?)(?P<kind>" + "|".join(_BEHIND) + r")\.(?P<name>.+)$")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SHORTER = {
    "healthcheck": "health check",
    "update config": "update",
    "rollback config": "rollback",
    "endpoint spec": "endpoint",
}
_NANOSECONDS = {
    "Interval",
    "Timeout",
    "StartPeriod",
    "StartInterval",
    "Delay",
    "Monitor",
    "StopGracePeriod",
    "Window",
}
_BYTES = {"MemoryBytes", "Memory", "MemoryReservation", "ShmSize", "SizeBytes"}
_CPUS = {"NanoCPUs", "NanoCpus"}


def readable(path: str) -> str:
    """A field's name as a person would say it."""
    place = next((place for place in _PLACES if path.startswith(place)), "")
    rest = path.removeprefix(place)
    if rest in _NAMES:
        return _NAMES[rest]
    if found := _FIRST.match(rest):
        before, name = _spaced(found["before"].rstrip(".")), found["name"]
        of_container = "container " if place == _PLACES[0] and found["kind"] == "Labels" else ""
        return " ".join(filter(None, (before, f"{of_container}{_BEHIND[found['kind']]}", _tail(found, name))))
    return _spaced(rest)


def _tail(found: re.Match[str], name: str) -> str:
    """Things behind their owner's names may have fields again: `mount /data read only`."""
    if found["kind"] in ("Env", "Labels", "labels", "Sysctls", "Options", "options"):
        return name
    owned, dot, field = name.rpartition(".")
    return f"{owned} {_spaced(field)}" if dot and field[:1].isupper() else name


def _spaced(path: str) -> str:
    if not path or not path[:1].isupper():
        return path
    words = " ".join(_WORDS.sub(" ", part).lower() for part in path.split("."))
    for said, shorter in _SHORTER.items():
        words = words.replace(said, shorter)
    return words


def line_of(field: FieldChange) -> str:
    """A field that differs, with its sign: `~ replicas 2 → 3`."""
    name, values = readable(field.path), [field.observed, field.desired]
    if True in values:
        # A spec leaves out what is not so.
        values = [value or False for value in values]
    observed, desired = (measured(field.path, value) for value in values)
    if values[0] is None:
        return f"+ {name} = {desired}"
    if values[1] is None:
        return f"- {name} = {observed}"
    return f"~ {name} {observed} → {desired}"


def measured(path: str, value: Any) -> str:
    """A value in the unit that people write it in."""
    last = path.rpartition(".")[2]
    if last == "sha256" and value:
        return f"sha256 {str(value)[:12]}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and last in _NANOSECONDS:
        return f"{value / 1e9:g} s"
    if isinstance(value, int) and last in _CPUS:
        return f"{value / 1e9:g}"
    if isinstance(value, int) and last in _BYTES:
        return f"{value / (1 << 20):g} MiB"
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={measured(str(name), item)}" for name, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value)) or "none"
    return str(value) if value != "" else "empty"
