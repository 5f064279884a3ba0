"""Everything Cascade manages is a resource: a kind, a host, a name and comparable fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal[
    "package",
    "sysctl",
    "file",
    "apparmor",
    "permissions",
    "signing-key",
    "gpu",
    "daemon-settings",
    "unit",
    "swarm",
    "node",
    "network",
    "volume",
    "config",
    "secret",
    "secret-file",
    "image",
    "service",
    "container",
]

Fields = Mapping[str, Any]


@dataclass(frozen=True, order=True)
class Key:
    """Which resource. Resources of the Swarm as a whole belong to its manager."""

    host: str
    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} on {self.host}"


@dataclass(frozen=True)
class Unknown:
    """What could not be read: never absent, and never in sync."""

    host: str
    what: str
    reason: str

    def __str__(self) -> str:
        return f"{self.host}: {self.what}: {self.reason}"


Resources = dict[Key, Fields]
