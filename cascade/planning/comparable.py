"""Engine API specs in a form in which equal things compare equal and differences have a name.

What the engine changes, adds or loses on the way stands in the Engine API; the rules here undo it:
lists that are sets or maps become maps, and empty, zero and false values, which the engine drops or
fills in at will, are left out, save in maps whose keys are their owner's and where they say something.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Any

from cascade.planning.resource import Fields, Kind

_OPTION_NAME = re.compile("[=:]")
_BY_KEY: dict[str, Callable[[Any], Any]] = {
    "Env": lambda item: item.partition("=")[0],
    "Mounts": lambda item: item["Target"],
    "Networks": lambda item: item["Target"],
    "Ports": lambda item: f"{item.get('PublishedPort', 'any')}/{item['Protocol']}",
    "Ulimits": lambda item: item["Name"],
    "Devices": lambda item: item["PathInContainer"],
    "Configs": lambda item: (item.get("File") or {}).get("Name", ""),
    "Secrets": lambda item: (item.get("File") or {}).get("Name", ""),
    "SecurityOpt": lambda item: _OPTION_NAME.split(item, maxsplit=1)[0],
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
# Being there says something of these, even where nothing is said of them.
_NAMED = {"EndpointsConfig"}
_LONGEST_WORD = 20
# What a file holds, and the config that has it; its digest says it all.
_CONTENT = ("content", "data", "config")
# No replicas, and not running, are no less said than others.
_ALWAYS_SAID = {"Replicas", "running"}
_NOT_STATE = {"ForceUpdate", "ConfigID", "SecretID", "cascade.release"}


def comparable(kind: Kind, fields: Fields) -> Fields:
    """A resource's fields as the diff compares them."""
    if kind == "file":
        return _file(fields)
    if kind == "config":
        return {name: fields[name] for name in ("labels", "sha256")}
    if kind in ("secret", "secret-file"):
        return {name: value for name, value in fields.items() if name != "stored"}
    if kind == "signing-key":
        return {name: value for name, value in fields.items() if name != "url"}
    if kind == "apparmor":
        return {name: fields[name] for name in ("mode", "in_force")}
    if kind in ("service", "container"):
        return dict(_pruned(fields))
    return fields


def _file(fields: Fields) -> Fields:
    others = {name: value for name, value in fields.items() if name not in _CONTENT}
    if "content" not in fields:
        return others
    return {**others, "sha256": hashlib.sha256(fields["content"].encode()).hexdigest()}


def _pruned(value: Any, name: str = "") -> Any:
    if isinstance(value, dict) and name in _MAPS:
        return {key: item for key, item in value.items() if key not in _NOT_STATE}
    if isinstance(value, dict) and name in _NAMED:
        return {key: _pruned(item, key) for key, item in value.items()}
    if isinstance(value, dict):
        pairs = ((key, _pruned(item, key)) for key, item in value.items() if key not in _NOT_STATE)
        return {key: item for key, item in pairs if item or (key in _ALWAYS_SAID and item is not None)}
    if isinstance(value, (list, tuple)):
        return _list(name, value)
    if name == "Profile" and value:
        return _short(_decoded(value))
    return value


def _decoded(profile: str) -> str:
    """What a seccomp profile says, or itself where it is not in base64: then it is none of Cascade's."""
    try:
        return base64.b64decode(profile).decode(errors="replace")
    except ValueError:
        return profile


def _list(name: str, items: Iterable[Any]) -> Any:
    if name in _BY_KEY:
        return {_BY_KEY[name](item): _named_item(name, item) for item in items}
    pruned = [_pruned(item) for item in items]
    return sorted(pruned) if name in _SETS else pruned


def _named_item(name: str, item: Any) -> Any:
    if name == "SecurityOpt":
        option, *value = _OPTION_NAME.split(item, maxsplit=1)
        return _short("".join(value) or "true") if option == "seccomp" else "".join(value) or "true"
    return item.partition("=")[2] if name == "Env" else _pruned(item)


def _short(profile: str) -> str:
    """A seccomp profile is too long to be shown, so it goes by a digest; a word stays as it is."""
    if len(profile) <= _LONGEST_WORD:
        return profile
    return f"profile {hashlib.sha256(profile.encode()).hexdigest()[:12]}"
