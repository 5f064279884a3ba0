"""Engine API specs in a form in which equal things compare equal and differences have a name.

What the engine changes, adds or loses on the way stands in the Engine API; the rules here undo it:
lists that are sets or maps become maps, and empty, zero and false values, which the engine drops or
fills in at will, are left out, save in maps whose keys are their owner's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from cascade.planning.resource import Fields, Kind

_BY_KEY: dict[str, Callable[[Any], Any]] = {
    "Env": lambda item: item.partition("=")[0],
    "Mounts": lambda item: item["Target"],
    "Networks": lambda item: item["Target"],
    "Ports": lambda item: f"{item['PublishedPort']}/{item['Protocol']}",
    "Ulimits": lambda item: item["Name"],
    "Devices": lambda item: item["PathInContainer"],
}
_SETS = {
    "CapabilityAdd",
    "CapabilityDrop",
    "CapAdd",
    "CapDrop",
    "Constraints",
    "Aliases",
    "Groups",
    "GroupAdd",
    "Hosts",
    "ExtraHosts",
}
_MAPS = {"Labels", "Sysctls", "Options", "Config", "ExposedPorts"}
_NOT_STATE = {"ForceUpdate", "cascade.release"}


def comparable(kind: Kind, fields: Fields) -> Fields:
    """A resource's fields as the diff compares them."""
    if kind == "file":
        return _file(fields)
    if kind in ("service", "container"):
        return dict(_pruned(fields))
    return fields


def _file(fields: Fields) -> Fields:
    if "content" not in fields:
        return fields
    others = {name: value for name, value in fields.items() if name != "content"}
    return {**others, "sha256": hashlib.sha256(fields["content"].encode()).hexdigest()}


def _pruned(value: Any, name: str = "") -> Any:
    if isinstance(value, dict) and name in _MAPS:
        return {key: item for key, item in value.items() if key not in _NOT_STATE}
    if isinstance(value, dict):
        pairs = ((key, _pruned(item, key)) for key, item in value.items() if key not in _NOT_STATE)
        return {key: item for key, item in pairs if item}
    if isinstance(value, (list, tuple)):
        return _list(name, value)
    return value


def _list(name: str, items: Iterable[Any]) -> Any:
    if name in _BY_KEY:
        return {_BY_KEY[name](item): _named_item(name, item) for item in items}
    pruned = [_pruned(item) for item in items]
    return sorted(pruned) if name in _SETS else pruned


def _named_item(name: str, item: Any) -> Any:
    return item.partition("=")[2] if name == "Env" else _pruned(item)
