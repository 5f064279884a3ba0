"""The one diff: two sets of resources in, every difference out, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from cascade.planning.resource import Fields, Key, Resources

# What a container that is as it is to be has lost, so that it must be made anew all the same.
GPU_LOST = "GPU"
PROFILE_LOST = "AppArmor"
LOSSES = (GPU_LOST, PROFILE_LOST)

Action = Literal["create", "update", "replace", "remove"]


@dataclass(frozen=True)
class FieldChange:
    """One field that differs; None stands for a field that is not there."""

    path: str
    observed: Any
    desired: Any

    def __str__(self) -> str:
        return f"{self.path} {_shown(self.observed)} → {_shown(self.desired)}"


@dataclass(frozen=True)
class Change:
    """What has to happen to one resource; `observed` is None for one that is not there."""

    key: Key
    action: Action
    fields: tuple[FieldChange, ...]
    desired: Fields
    observed: Fields | None = None

    def __str__(self) -> str:
        return f"{self.action} {self.key.kind} {self.key.name}"


def diff(desired: Resources, observed: Resources) -> dict[Key, Change]:
    """The changes that make `observed` into `desired`, in the order of `desired`."""
    changes = {}
    for key, wanted in desired.items():
        if key not in observed:
            changes[key] = Change(key, "create", (), wanted)
        elif fields := tuple(diff_fields(wanted, observed[key])):
            changes[key] = Change(key, _action(key, fields), fields, wanted, observed[key])
    return changes


def diff_fields(desired: Any, observed: Any, path: str = "") -> Iterator[FieldChange]:
    """The fields in which two values differ, each with its path."""
    if isinstance(desired, dict) and isinstance(observed, dict):
        for name in sorted(desired.keys() | observed.keys()):
            below = f"{path}.{name}" if path else name
            yield from diff_fields(desired.get(name), observed.get(name), below)
    elif desired != observed:
        yield FieldChange(path, observed, desired)


def _action(key: Key, fields: tuple[FieldChange, ...]) -> Action:
    """A container cannot be changed, only started; of a config only the labels, of a volume its owner."""
    if key.kind == "network":
        return "replace"
    if key.kind == "volume" and any(field.path != "owner" for field in fields):
        return "replace"
    if key.kind == "config" and any(field.path == "sha256" for field in fields):
        return "replace"
    if key.kind == "container" and any(field.path != "running" for field in fields):
        return "replace"
    return "update"


def _shown(value: Any) -> str:
    return "unset" if value is None else str(value)
