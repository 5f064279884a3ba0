"""What the preflight's checks look at, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cascade.model.fleet import Fleet
from cascade.model.host import Host
from cascade.planning.observed import Snapshot
from cascade.planning.plan import Plan

# "unchecked" stands where another finding is in the way.
Level = Literal["error", "warning", "note", "ok", "unchecked"]
Reading = Mapping[str, Any]


@dataclass(frozen=True, order=True)
class Call:
    """One host calling on a port of another, to see whether it gets through."""

    caller: str
    callee: str
    port: int
    protocol: str


@dataclass(frozen=True)
class Said:
    """What one check says of one host, and what a person can do about it."""

    level: Level
    message: str
    next_step: str = ""


class Unread(Exception):
    """A part of the host's reading that a check needs could not be read."""


class _Told(dict[str, Any]):
    """What was said of each thing that was asked for; a host that says nothing of one leaves it unread."""

    def __missing__(self, name: str) -> Any:
        raise Unread(f"nothing was said of {name}")


@dataclass(frozen=True)
class Skew:
    """How far a host's clock is ahead of the deploying machine's, and how well that is known; seconds."""

    ahead: float
    within: float


def own_file(host: str, _setting: str) -> str:
    """Where settings of one host belong."""
    return f"group_data/{host}.py"


@dataclass(frozen=True)
class Facts:
    """Everything that is known of a fleet's hosts before something is done to them.

    `readings` are those of the hosts that could be asked; `calls` are what these were to try among them,
    None where there was nothing to prove. `file_of` names the file in which a host gets a setting.
    """

    fleet: Fleet
    plan: Plan
    snapshots: Mapping[str, Snapshot]
    readings: Mapping[str, Reading]
    skews: Mapping[str, Skew]
    calls: tuple[Call, ...] | None = None
    allow_docker_restart: bool = False
    file_of: Callable[[str, str], str] = own_file

    def engine(self, host: str) -> Mapping[str, Any]:
        """What the snapshot says of a host's engine; empty where none runs or it could not be read."""
        engine = self.snapshots.get(host, {}).get("docker") or {}
        return engine if "api" in engine else {}

    def in_swarm(self, host: str) -> bool:
        return bool(self.engine(host)) and self.engine(host)["swarm"]["LocalNodeState"] == "active"

    def ready(self, host: str) -> bool:
        """Whether the fleet's manager sees this host's node ready."""
        nodes = {node["ID"]: node for node in self.engine(self.fleet.manager.name).get("nodes", ())}
        node = nodes.get(self.engine(host)["swarm"]["NodeID"]) if self.engine(host) else None
        return node is not None and node["Status"]["State"] == "ready"


@dataclass(frozen=True)
class Subject:
    """One host under examination."""

    host: Host
    facts: Facts

    @property
    def fleet(self) -> Fleet:
        return self.facts.fleet

    def part(self, name: str) -> Any:
        """One part of the host's reading; raises Unread where it could not be read."""
        found = self.facts.readings[self.host.name][name]
        if isinstance(found, dict) and "error" in found:
            raise Unread(found["error"])
        return _Told(found) if isinstance(found, dict) else found

    def setting(self, line: str) -> str:
        """The next step of somebody whose group_data is wrong about this host."""
        return f"set `{line}` in {self.facts.file_of(self.host.name, line.split()[0])}"
