"""What is mounted in a container, as the kernel has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Mounted = Mapping[str, Any]

# What lies there is gone with the container, or with the host's power.
PASSING = ("overlay", "ramfs", "tmpfs")


def mount_of(mounts: Iterable[Mounted], path: str) -> Mounted:
    """The mount on which a path lies: of the longest place above it the one that was made last."""
    above = [one for one in mounts if one["target"] == "/" or f"{path}/".startswith(f"{one['target']}/")]
    longest = max(len(one["target"]) for one in above)
    return [one for one in above if len(one["target"]) == longest][-1]


def same_file(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether two names are of one file or folder; never of one that is not there."""
    return bool(one and other) and _identity(one) == _identity(other)


def _identity(stated: Mapping[str, Any] | None) -> tuple[int, int]:
    return (stated["device"], stated["inode"]) if stated else (0, 0)
