"""A machine: what it offers, what it is in the Swarm, and what is installed on it."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from cascade.model.strict import Strict

_CONSTRAINT = re.compile(
    r"\s*(?P<key>[a-z0-9._-]+)\s*(?P<operator>==|!=)\s*(?P<value>[a-z0-9:_.*()?+\[\]\\^$|/-]+)\s*",
    re.IGNORECASE | re.ASCII,
)

PackageName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]
SysctlName = Annotated[str, Field(pattern=r"^[a-z0-9][A-Za-z0-9_-]*([./][A-Za-z0-9_-]+)+$")]
CAPABILITIES = ("gpu", "realtime", "ipvs", "clock")


class Host(Strict):
    """One machine of the fleet.

    `swarm_address` is its fixed address on the Swarm's network, which may differ from the SSH address.
    `reservation_scale` is the one factor by which reservations shrink on this host, limits do not.
    `distribution` and `codename` name its system as os-release does.
    `docker_source` says whose engine: the distribution's, or the one of Docker's own apt repository.
    `daemon_settings` are the keys of daemon.json that Cascade wants; other keys there are the owner's.
    `absent` names what the machine lacks and its workloads are to do without: `gpu`, `realtime`
    (limits for realtime priority), `ipvs` (published ingress ports), `clock` (one of its own to keep
    right), or a device such as `/dev/snd`.
    """

    name: str
    swarm_address: str
    swarm_role: Literal["manager", "worker"]
    node_labels: dict[str, str] = {}
    reservation_scale: float = Field(1.0, gt=0, le=1)
    absent: frozenset[str] = frozenset()
    distribution: Literal["debian", "ubuntu"]
    codename: str
    docker_source: Literal["distribution", "docker"]
    daemon_settings: dict[str, object] = {}
    packages: tuple[PackageName, ...] = ()
    sysctls: dict[SysctlName, str] = {}

    @field_validator("absent")
    @classmethod
    def _known(cls, absent: frozenset[str]) -> frozenset[str]:
        if unknown := sorted(
            name for name in absent if name not in CAPABILITIES and not name.startswith("/dev/")
        ):
            raise ValueError(f"{', '.join(unknown)}: name {', '.join(CAPABILITIES)} or a device under /dev/")
        return absent

    def meets(self, constraint: str) -> bool:
        """Whether a placement constraint admits this host; the constraint must have been checked.

        Swarm does not tell letter case in values apart.
        """
        match = _CONSTRAINT.fullmatch(constraint)
        assert match is not None, constraint
        same = self._attribute(match["key"]).lower() == match["value"].lower()
        return same if match["operator"] == "==" else not same

    def _attribute(self, key: str) -> str:
        if key.startswith("node.labels."):
            return self.node_labels.get(key.removeprefix("node.labels."), "")
        return {"node.hostname": self.name, "node.role": self.swarm_role}[key]


def constraint_fault(constraint: str) -> str | None:
    """Why a placement constraint cannot be honoured, or None."""
    match = _CONSTRAINT.fullmatch(constraint)
    if match is None:
        return f"{constraint!r} is no constraint: write it like node.labels.system == mainpc"
    if not match["key"].startswith("node.labels.") and match["key"] not in ("node.hostname", "node.role"):
        return f"{constraint!r}: only node.labels.*, node.hostname and node.role are honoured"
    return None
