"""What differs between two targets, by the same diff as what differs on the hosts."""

from __future__ import annotations

from cascade.planning.comparable import comparable
from cascade.planning.diff import Change, diff
from cascade.planning.resource import Resources
from cascade.planning.target import Target, recorded


def between(before: Target, after: Target) -> tuple[Change, ...]:
    """What makes one target into another, by host, kind and name."""
    then, now = _recorded(before), _recorded(after)
    found = diff(_comparable(now), _comparable(then))
    changes = [
        Change(key, change.action, change.fields, now[key], then.get(key)) for key, change in found.items()
    ]
    gone = [Change(key, "remove", (), {}, then[key]) for key in then if key not in now]
    return tuple(sorted((*changes, *gone), key=lambda change: change.key))


def _recorded(target: Target) -> Resources:
    return {key: recorded(fields) for key, fields in target.wanted.items()}


def _comparable(resources: Resources) -> Resources:
    return {key: comparable(key.kind, fields) for key, fields in resources.items()}
