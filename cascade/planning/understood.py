"""What hosts said, as far as it can be understood: a part that is not what it should be becomes an error.

Engines say more than is named here, and newer ones yet more: that is left as it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cascade.model.strict import one_line, path_of
from cascade.model.wording import shown

_DEEPEST = 50
_API = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4})+")

# A shape is a type, a list of one shape, or a map of shapes by name. What stands under a name with ! may
# be missing, under one with ~ be null, under one with ? either; the name * stands for every name. A tuple is
# a list of as many items, each with a shape of its own.
Shape = Any
_MARKS = "!~?"
_KINDS = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
_LABELS = {"*": str}
_STATUS = {"State": str}

_CONTAINER_SAID = {
    "Cmd?": [str],
    "Entrypoint?": [str],
    "Env?": [str],
    "ExposedPorts?": {},
    "Healthcheck?": {},
    "Labels?": _LABELS,
    "StopSignal?": str,
    "StopTimeout?": int,
    "User?": str,
    "WorkingDir?": str,
}
_MOUNTS = [{"Target": str, "Source?": str}]
_CONTAINER = {
    "Id": str,
    "Name": str,
    "Config": {"Image": str, **_CONTAINER_SAID},
    "HostConfig": {
        "CapAdd?": [str],
        "CapDrop?": [str],
        "Devices?": [{"PathInContainer": str}],
        "ExtraHosts?": [str],
        "GroupAdd?": [str],
        "LogConfig?": {},
        "Mounts?": _MOUNTS,
        "SecurityOpt?": [str],
        "Ulimits?": [{"Name": str}],
    },
    "NetworkSettings": {"Networks": {"*": {"Aliases~": [str], "NetworkID?": str}}},
    "State": {"Running": bool, "Paused": bool, "Health!": {"Status": str}},
}
_TASK_TEMPLATE = {
    "ContainerSpec!": {
        "CapabilityAdd?": [str],
        "CapabilityDrop?": [str],
        "Configs?": [{"ConfigID": str, "ConfigName": str, "File?": {"Name": str}}],
        "Env?": [str],
        "Groups?": [str],
        "Hosts?": [str],
        "Labels?": _LABELS,
        "Mounts?": _MOUNTS,
        "Privileges?": {"Seccomp?": {"Profile?": str}},
        "Secrets?": [{"SecretID": str, "SecretName": str, "File?": {"Name": str}}],
        "Ulimits?": [{"Name": str}],
    },
    "Networks?": [{"Target": str, "Aliases?": [str]}],
    "Placement?": {"Constraints?": [str]},
}
_SPEC = {
    "Name": str,
    "Labels?": _LABELS,
    "TaskTemplate": _TASK_TEMPLATE,
    "Mode": {"Replicated!": {"Replicas!": int}},
    "EndpointSpec?": {"Ports?": [{"Protocol": str, "PublishedPort!": int}]},
}
_TASK_STATUS = {"State": str, "ContainerStatus?": {"ContainerID?": str}}
_TASKS = [{"ID": str, "ServiceID": str, "NodeID~": str, "Slot~": int, "Status": _TASK_STATUS}]
_ENGINE = {
    "api": str,
    "apparmor!": bool,
    "unconfined!": [str],
    "started": float,
    "swarm": {"LocalNodeState": str, "NodeID": str, "NodeAddr": str, "ControlAvailable": bool},
    "images": [{"Id": str, "RepoDigests": [str], "Size": int}],
    "volumes": [
        {
            "Name": str,
            "Driver": str,
            "Labels?": _LABELS,
            "Options?": _LABELS,
            "Owner~": str,
            "Fault?": str,
        }
    ],
    "containers": [{"container": _CONTAINER, "image": _CONTAINER_SAID}],
}
_MANAGER = {
    **_ENGINE,
    "cluster!": {"DefaultAddrPool~": [str], "SubnetSize~": int},
    "nodes": [
        {
            "ID": str,
            "Spec": {"Availability": str, "Labels?": _LABELS},
            "Description": {"Hostname!": str},
            "Status": _STATUS,
        }
    ],
    "networks": [
        {
            "Id": str,
            "Name": str,
            "Driver": str,
            "Internal": bool,
            "Attachable": bool,
            "Options~": _LABELS,
            "Labels?": _LABELS,
            "IPAM": {"Config~": [{"Subnet": str}]},
        }
    ],
    "services": [
        {
            "ID": str,
            "Spec": _SPEC,
            "Endpoint?": {"Ports?": [{"Protocol": str, "PublishedPort!": int}]},
            "PreviousSpec?": {"TaskTemplate!": _TASK_TEMPLATE},
            "UpdateStatus!": _STATUS,
        }
    ],
    "configs": [{"ID": str, "Name": str, "Labels": _LABELS, "sha256": str}],
    "release?": {"Labels": _LABELS, "Data": str},
    "secrets!": [{"ID": str, "Name": str, "Labels": _LABELS}],
    "tasks": _TASKS,
    "running!": _TASKS,
}
_OWNED = {"mode": str, "owner": str, "group": str}
# The parts that hold things by name, with the shape of one of them.
_PARTS: dict[str, Shape] = {
    "packages": str,
    "sysctls": str,
    "files": {**_OWNED, "sha256": str, "changed": float, "content~": str},
    "secret_files!": {**_OWNED, "sealed": bool, "in_place": bool},
    "units": {"enabled": bool, "active": bool},
    "apparmor?": {"mode": str, "file": str},
    "permissions!": _OWNED,
}
_GPU = {
    "module~": str,
    "nvml": str,
    "said": str,
    "library~": str,
    "driver~": str,
    "cuda~": str,
    "gpus": [
        {
            "index": int,
            "uuid~": str,
            "name~": str,
            "memory_total~": int,
            "memory_used~": int,
            "mig~": bool,
            "persistence~": bool,
            "power_limit~": int,
            "lost": str,
            "processes~": [{"pid": int, "memory~": int, "name": str, "container": str}],
        }
    ],
    "dev_char": bool,
    "toolkit~": str,
    "cdi": [str],
    "containers": {"*": str},
}
# Those that are one thing, and only where they were asked for.
_WHOLE: dict[str, Shape] = {"gpu": _GPU, "held": [str]}
_HOLDER = {"name": str, "pid": int, "containers": [str]}
_CALLS = [(str, int, str)]
_PREFLIGHT: dict[str, Shape] = {
    "address": {"here": bool, "dynamic?": bool, "reason!": str, "others!": [str]},
    "clock": {"at": float, "took": float},
    "cpus": int,
    "desktop": bool,
    "devices": {"*": {"present": bool, "users": [_HOLDER]}},
    "disk": {"*": {"device": int, "free": int}},
    "dockerd~": str,
    "engine~": {
        "containers": [
            {"id": str, "image": str, "labels": {"*~": str}, "name": str, "ports": [(int, str)]},
        ],
        "images_in_containerd": bool,
        "proxy": str,
        "root": str,
        "system": str,
    },
    "firewall~": str,
    "kernel": {
        "apparmor": bool,
        "cgroup": int,
        "ipvs~": bool,
        "overlay~": bool,
        "release": str,
        "vxlan~": bool,
    },
    "memory": int,
    "os": {"codename": str, "distribution": str, "machine": str, "version": str},
    "packages": [str],
    "paths": {"*": bool},
    "probes": {"answered": _CALLS, "reached": _CALLS, "taken": [(int, str)]},
    "registries": {"*~": str},
    "snap": bool,
    "sockets": [{"holder~": _HOLDER, "port": int, "protocol": str}],
}


class NotUnderstood(ValueError):
    """A host said nothing that could be a reading of it."""


def understood(reading: Any) -> dict[str, Any]:
    """A reading in which every part has its shape, or says in an `error` why it has not.

    Raises NotUnderstood for what is no reading at all.
    """
    reading = _with_parts(reading, (*_PARTS, "docker"))
    parts = {
        name: _part(reading[name], shape)
        for name, shape in _named(_PARTS)
        if name in reading and not (reading[name] is None and f"{name}?" in _PARTS)
    }
    if "error" in parts["files"]:
        raise NotUnderstood(parts["files"]["error"])
    whole = {name: _checked(reading[name], shape) for name, shape in _WHOLE.items() if name in reading}
    return {**reading, **parts, **whole, "docker": _engine(reading["docker"])}


def understood_preflight(reading: Any) -> dict[str, Any]:
    """The same for what the preflight reads; without the time it took nothing of it is of use."""
    reading = _with_parts(reading, _PREFLIGHT)
    parts: dict[str, Any] = {
        name: None if reading[name] is None and f"{name}~" in _PREFLIGHT else _checked(reading[name], shape)
        for name, shape in _named(_PREFLIGHT)
    }
    if "error" in parts["clock"]:
        raise NotUnderstood(parts["clock"]["error"])
    return {**reading, **parts}


def plain(value: Any) -> Any:
    """The same value; raises NotUnderstood for what no report can show: too deep, no number, half a sign."""
    levels = [iter((value,))]
    while levels:
        item = next(levels[-1], levels)
        if item is levels:
            levels.pop()
        elif isinstance(item, (dict, list)):
            if len(levels) > _DEEPEST:
                raise NotUnderstood("it is nested too deeply")
            levels.append(iter([*item, *item.values()] if isinstance(item, dict) else item))
        elif isinstance(item, float) and not math.isfinite(item):
            raise NotUnderstood(f"{item} is no number")
        elif (
            isinstance(item, str)
            and not item.isascii()
            and any("\ud800" <= sign <= "\udfff" for sign in item)
        ):
            raise NotUnderstood(f"{one_line(shown(item))} holds half a sign")
    return value


def _with_parts(reading: Any, parts: Iterable[str]) -> dict[str, Any]:
    if not isinstance(plain(reading), dict):
        raise NotUnderstood("it is no map")
    required = {name.rstrip(_MARKS) for name in parts if not name.endswith(("!", "?"))}
    if missing := sorted(required - reading.keys()):
        raise NotUnderstood(f"it has no {missing[0]}")
    return {**reading}


def _named(shapes: Mapping[str, Shape]) -> Iterator[tuple[str, Shape]]:
    return ((name.rstrip(_MARKS), shape) for name, shape in shapes.items())


def _part(found: Any, shape: Shape) -> dict[str, Any]:
    """Things by name: each is null, says why it could not be read, or has the shape."""
    if not isinstance(found, dict):
        return {"error": f"what was read is {one_line(shown(found))}, not a map"}
    if isinstance(found.get("error"), str):
        return found
    return {name: None if item is None else _checked(item, shape) for name, item in found.items()}


def _engine(found: Any) -> Any:
    if found is None or found == {"stopped": True}:
        return found
    shape = _MANAGER if isinstance(found, dict) and "nodes" in found else _ENGINE
    checked = _checked(found, shape)
    if "error" not in checked and not _API.fullmatch(checked["api"]):
        return _error(f"api is {shown(checked['api'])}, not a version")
    return checked


def _checked(found: Any, shape: Shape) -> Any:
    if isinstance(found, dict) and isinstance(found.get("error"), str):
        return found
    fault = next(_faults(found, shape, ()), None)
    return _error(fault) if fault else found


def _error(fault: str) -> dict[str, str]:
    return {"error": one_line(f"what was read cannot be understood: {fault}")}


def _faults(value: Any, shape: Shape, place: tuple[int | str, ...]) -> Iterator[str]:
    """Where a value differs from its shape, and how."""
    if isinstance(shape, dict):
        yield from (
            _map_faults(value, shape, place) if isinstance(value, dict) else _other(value, "a map", place)
        )
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield from _other(value, "a list", place)
        else:
            for number, item in enumerate(value):
                yield from _faults(item, shape[0], (*place, number))
    elif isinstance(shape, tuple):
        if not isinstance(value, list) or len(value) != len(shape):
            yield from _other(value, f"a list of {len(shape)}", place)
        else:
            for number, item in enumerate(value):
                yield from _faults(item, shape[number], (*place, number))
    elif not _is(value, shape):
        yield from _other(value, _KINDS[shape], place)


def _is(value: Any, kind: type) -> bool:
    """True is no number, and a whole number is a number."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _other(value: Any, kind: str, place: tuple[int | str, ...]) -> Iterator[str]:
    yield f"{path_of(place) or 'it'} is {shown(value)}, not {kind}"


def _map_faults(
    value: Mapping[str, Any], shape: Mapping[str, Shape], place: tuple[int | str, ...]
) -> Iterator[str]:
    for marked in shape.keys() & {"*", "*~"}:
        for name, item in value.items():
            if item is not None or marked == "*":
                yield from _faults(item, shape[marked], (*place, name))
        return
    for marked, inner in shape.items():
        name = marked.rstrip(_MARKS)
        if name not in value:
            if not marked.endswith(("!", "?")):
                yield f"{path_of((*place, name))} is missing"
        elif value[name] is not None or not marked.endswith(("~", "?")):
            yield from _faults(value[name], inner, (*place, name))
