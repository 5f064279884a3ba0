"""The security options that single services can have: no new privileges, and a seccomp profile."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

from pydantic import AfterValidator, PlainValidator, ValidationInfo

from cascade.model.beside import read_beside
from cascade.model.strict import twice
from cascade.model.wording import shown

# Docker's own profile has about 20,000 bytes; each service holds its whole profile.
_LARGEST_PROFILE = 128 * 1024
_EXAMPLE = "no-new-privileges:true or seccomp:./profile.json"
# Source: opencontainers/runtime-spec, config-linux.md, and moby/profiles, seccomp.
_ACTIONS = {
    f"SCMP_ACT_{action}"
    for action in (
        "ALLOW",
        "ERRNO",
        "KILL",
        "KILL_PROCESS",
        "KILL_THREAD",
        "LOG",
        "NOTIFY",
        "TRACE",
        "TRAP",
    )
}
_KEYS = {
    "archMap",
    "architectures",
    "defaultAction",
    "defaultErrno",
    "defaultErrnoRet",
    "flags",
    "listenerMetadata",
    "listenerPath",
    "syscalls",
}
_REFUSED = {
    "apparmor": "a Swarm service takes no profile of its own: remove it; the engine's own one confines it",
    "label": "the hosts run no SELinux: remove it",
    "systempaths": "a Swarm service has no such setting: remove it",
    "writable-cgroups": "a Swarm service has no such setting: remove it",
}


@dataclass(frozen=True)
class SecurityOption:
    """`no-new-privileges` with the value true, or `seccomp` with unconfined or a profile as JSON."""

    name: str
    value: str


def _option(value: object, info: ValidationInfo) -> SecurityOption:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is no security option: write one like {_EXAMPLE}")
    name, _, said = value.replace("=", ":", 1).partition(":")
    if name in _REFUSED:
        raise ValueError(f"{shown(value)}: {_REFUSED[name]}")
    if name == "no-new-privileges":
        return _no_new_privileges(value, said)
    if name == "seccomp":
        return SecurityOption(name, said if said == "unconfined" else _profile(said, info))
    raise ValueError(f"{shown(value)} is no security option: write one like {_EXAMPLE}")


def _no_new_privileges(value: str, said: str) -> SecurityOption:
    """The engine knows only true; what is false for one cannot take back what is true for all."""
    if said not in ("", "true"):
        raise ValueError(
            f"{shown(value)} changes nothing, for it is off unless daemon_settings in group_data say"
            " otherwise: write no-new-privileges:true, or remove it"
        )
    return SecurityOption("no-new-privileges", "true")


def _profile(path: str, info: ValidationInfo) -> str:
    """The profile in as few characters as possible: how a file is laid out is no difference."""
    if path == "builtin":
        raise ValueError("a Swarm service has the engine's own profile unless it says otherwise: remove it")
    found = read_beside(path, info, _LARGEST_PROFILE, "./profile.json")
    try:
        profile = json.loads(found.data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{shown(path)} is no JSON, {error}: write a seccomp profile there") from None
    if fault := _fault(profile):
        raise ValueError(f"{shown(path)} is no seccomp profile: {fault}")
    return json.dumps(profile, separators=(",", ":"))


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _fault(profile: Any) -> str:
    """What the engine would only find when it starts a container, or an empty string."""
    if not isinstance(profile, dict):
        return 'it is no map: write one like {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []}'
    if unknown := sorted(profile.keys() - _KEYS):
        return f"it has no key {shown(unknown[0])}: write one of {', '.join(sorted(_KEYS))}"
    if profile.get("archMap") and profile.get("architectures"):
        return "architectures stands beside archMap: give one of the two"
    actions = [("defaultAction", profile.get("defaultAction"))]
    syscalls = profile.get("syscalls") or []
    if not isinstance(syscalls, list):
        return f"syscalls is {shown(syscalls)}: make it a list"
    for number, rule in enumerate(syscalls):
        if not isinstance(rule, Mapping) or not _names_calls(rule):
            return f'syscalls[{number}] names no system call: write "names": ["read"] in it'
        actions.append((f"syscalls[{number}].action", rule.get("action")))
    for place, action in actions:
        if not isinstance(action, str) or action not in _ACTIONS:
            return f"{place} is {shown(action)}: write one of {', '.join(sorted(_ACTIONS))}"
    return ""


def _names_calls(rule: Mapping[str, Any]) -> bool:
    names = rule.get("names", [rule.get("name")])
    return isinstance(names, list) and bool(names) and all(map(_is_call, names))


def _is_call(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(r"[a-z0-9_]+", name) is not None


def _each_once(options: tuple[SecurityOption, ...]) -> tuple[SecurityOption, ...]:
    if repeated := twice(option.name for option in options):
        raise ValueError(f"{', '.join(repeated)} stands twice: remove one of the two")
    return options


SecurityOptions = Annotated[
    tuple[Annotated[SecurityOption, PlainValidator(_option)], ...], AfterValidator(_each_once)
]
