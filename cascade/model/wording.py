"""What is wrong with a value and what to write instead: pydantic's errors in plain words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import ErrorDetails

# Whoever writes an inventory for others to fill in leaves this where they must write something.
PLACEHOLDER = "CHANGE-ME"
UNFILLED = f"still a placeholder, {PLACEHOLDER}"

_SHOWN = 60
_WORDS = {True: "true", False: "false", None: "nothing"}
_MANUAL = "see docs/reference/group-files.md and docs/reference/group-data.md"
_VERBS = "add|build|correct|declare|give|join|list|make|mount|move|name|put|remove|run|see|take|use|write"
_FIX = re.compile(rf"[:;] (?=(?:{_VERBS})\b)")

# Examples for what must not be missing, as group files and as Python write them.
_YAML = {
    "external": "true",
    "hard": "65536",
    "health_port": "8200",
    "image": "cascade/core",
    "max": "5",
    "min": "1",
    "name": "cascade-core",
    "port": "7200",
    "published": "8080",
    "services": "{cascade-core: {image: cascade/core}}",
    "soft": "65536",
    "source": "data",
    "target": "8080",
    "test": "[CMD, curl, -f, http://localhost:8200/health]",
    "vram_budget": "80%",
}
_PYTHON = {
    "codename": '"trixie"',
    "context": '"images/core"',
    "distribution": '"debian"',
    "docker_source": '"docker"',
    "images": '{"cascade/core": RegistryImage(reference="registry.example/core@sha256:…")}',
    "name": '"cascade-internal"',
    "networks": '(Overlay(name="cascade-internal", internal=True),)',
    "path": '"images/core.tar"',
    "phases": '(("cascade-core",),)',
    "pool": '"10.201.0.0/16"',
    "reference": '"registry.example/core@sha256:…"',
    "ssh_hostname": '"192.0.2.11"',
    "stacks": '"group_data/stacks/cascade"',
    "swarm_address": '"192.0.2.11"',
    "swarm_pool": 'SwarmPool(pool="10.201.0.0/16")',
    "swarm_role": '"worker"',
    "system": '"cascade"',
}

_MAP = ("{given} is no map", 'write one like {{"name": "value"}}')
_LIST = ("{given} is no list", 'write one like ["a", "b"]')
_WHOLE = ("{given} is no whole number", "write one like 3")
_NUMBER = ("{given} is no number", "write one like 0.5")
_BOOL = ("{given} is neither true nor false", "write true or false, without quotes")
_KINDS = {
    "bool_parsing": _BOOL,
    "bool_type": _BOOL,
    "decimal_parsing": _NUMBER,
    "decimal_type": _NUMBER,
    "dict_type": _MAP,
    "finite_number": _NUMBER,
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "frozen_set_type": _LIST,
    "greater_than": ("{given} is too small", "write more than {gt}"),
    "greater_than_equal": ("{given} is too small", "write {ge} or more"),
    "int_from_float": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_type": _WHOLE,
    "less_than": ("{given} is too big", "write less than {lt}"),
    "less_than_equal": ("{given} is too big", "write {le} or less"),
    "list_type": _LIST,
    "literal_error": ("{given} is not known here", "write {expected}"),
    "mapping_type": _MAP,
    "model_attributes_type": _MAP,
    "model_type": _MAP,
    "path_type": ("{given} is no path", 'write one like "images/core.tar"'),
    "string_pattern_mismatch": ("{given} does not fit", "write what matches {pattern}"),
    "string_too_short": ("it is empty", "write {min_length} character or more"),
    "string_type": ("{given} is no text", 'write it in quotes, like "10"'),
    "tuple_type": _LIST,
}


def shown(value: object) -> str:
    """A value as a message shows it: never long, whatever it is."""
    if isinstance(value, Mapping):
        return "a map"
    if isinstance(value, (list, tuple, set, frozenset)):
        return "a list"
    text = _WORDS[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def wording(error: ErrorDetails, python: bool = False) -> tuple[str, str]:
    """The reason and the fix of one error of pydantic; `python` tells how the file writes values."""
    kind, given, key = error["type"], error["input"], str(error["loc"][-1]) if error["loc"] else ""
    if isinstance(given, str) and PLACEHOLDER in given:
        return placeholder(key)
    if kind == "missing":
        return "is missing", f"add `{line_for(key, python)}`"
    if kind == "extra_forbidden":
        return _unknown(key, python)
    if kind in ("model_type", "model_attributes_type") and python:
        model = error["ctx"]["class_name"]
        return f"{shown(given)} is no {model}", f"write {model}(…)"
    if kind in _KINDS:
        context: dict[str, Any] = error.get("ctx", {})
        reason, fix = _KINDS[kind]
        return reason.format(given=shown(given), **context), fix.format(given=shown(given), **context)
    return reason_and_fix(error["msg"].removeprefix("Value error, "))


def placeholder(key: str) -> tuple[str, str]:
    """What is said of a place that still holds PLACEHOLDER."""
    example = f", like {_PYTHON[key]}" if key in _PYTHON else ""
    return UNFILLED, f"write your own value{example}"


def reason_and_fix(message: str) -> tuple[str, str]:
    """A message ends with what to do: `'x' is no port: write one like 80`."""
    found = list(_FIX.finditer(message))
    if not found:
        return message, _MANUAL
    return message[: found[-1].start()], message[found[-1].end() :]


def line_for(key: str, python: bool = True) -> str:
    """The line to add for a setting, or for a key of a group file."""
    if python:
        return f"{key} = {_PYTHON.get(key, '…')}"
    return f"{key}: {_YAML.get(key, '…')}"


def _unknown(key: str, python: bool) -> tuple[str, str]:
    if python:
        return "there is no such setting", f"remove it, or {_MANUAL}"
    if key == "agents":
        return "unknown key", "write it as x-agents"
    return "unknown key, or one that Cascade cannot honour", f"remove it, or {_MANUAL}"
