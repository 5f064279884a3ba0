"""A machine: what it offers, what it is in the Swarm, and what is installed on it."""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from cascade.model.gpu import HostGpu
from cascade.model.names import fits
from cascade.model.quantities import Whole
from cascade.model.strict import Strict
from cascade.model.wording import shown

_CONSTRAINT = re.compile(
    r"\s*(?P<key>[a-z0-9._-]+)\s*(?P<operator>==|!=)\s*(?P<value>[a-z0-9:_.*()?+\[\]\\^$|/-]+)\s*",
    re.IGNORECASE | re.ASCII,
)

check_package = fits(r"[a-z0-9][a-z0-9+.-]+", "is no name of a package", "curl")
check_sysctl = fits(
    r"[a-z0-9][A-Za-z0-9_-]*([./][A-Za-z0-9_-]+)+", "is no name of a kernel setting", "net.core.somaxconn"
)
_check_sysctl_value = fits(r"[!-~]+( [!-~]+)*", "is no value of a kernel setting", "4096")
_check_label_key = fits(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", "is no name of a label", "system")
_check_label = fits(r"[ -~]*", "is no value of a label", "mainpc")
_check_codename = fits(r"[a-z][a-z0-9-]*", "is no codename as in os-release", "trixie")

PackageName = Annotated[str, AfterValidator(check_package)]
SysctlName = Annotated[str, AfterValidator(check_sysctl)]
SysctlValue = Annotated[str, AfterValidator(_check_sysctl_value)]
LabelKey = Annotated[str, AfterValidator(_check_label_key)]
LabelValue = Annotated[str, AfterValidator(_check_label)]
Codename = Annotated[str, AfterValidator(_check_codename)]
CAPABILITIES = ("gpu", "realtime", "open-files", "ipvs", "clock")
CODENAMES = {
    "debian": ("bullseye", "bookworm", "trixie", "forky", "sid"),
    "ubuntu": ("focal", "jammy", "noble", "questing", "resolute"),
}


def _fixed_address(value: object) -> object:
    """An address at which the other hosts can reach this one."""
    example = "write the address that other hosts reach it at, like 192.0.2.11"
    try:
        address = IPv4Address(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError(f"{shown(value)} is no IPv4 address: {example}") from None
    if address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local:
        raise ValueError(f"{address} is no address of one machine among others: {example}")
    return value


def _forwards(sysctls: dict[str, str]) -> dict[str, str]:
    if sysctls.get("net.ipv4.ip_forward", "1") != "1":
        raise ValueError('without net.ipv4.ip_forward no container reaches another host: write "1"')
    return sysctls


class Host(Strict):
    """One machine of the fleet.

    `swarm_address` is its fixed address on the Swarm's network, which may differ from the SSH address.
    `reservation_scale` is the one factor by which reservations shrink on this host, limits do not.
    `distribution` and `codename` name its system as os-release does.
    `ssh_port` is where its SSH server listens, so that nothing is published there.
    `docker_source` says whose engine: the distribution's, or the one of Docker's own apt repository.
    `daemon_settings` are the keys of daemon.json that Cascade wants; other keys there are the owner's.
    `absent` names what the machine lacks and its workloads are to do without: `gpu`, `realtime`
    (limits for realtime priority), `open-files` (the default limit of them), `ipvs` (published ingress
    ports), `clock` (one of its own to keep right), or a device such as `/dev/snd`.
    `apparmor` says whether its kernel must have AppArmor; `apparmor_mode` whether what no profile allows is
    denied, or only logged. `ssh_hardening` closes SSH to root and to passwords.
    `gpu` says that it has NVIDIA GPUs; without it nothing of NVIDIA is installed.
    """

    name: str
    swarm_address: Annotated[str, BeforeValidator(_fixed_address)]
    swarm_role: Literal["manager", "worker"]
    node_labels: dict[LabelKey, LabelValue] = {}
    ssh_port: Whole = Field(22, ge=1, le=65535)
    reservation_scale: float = Field(1.0, gt=0, le=1)
    absent: frozenset[str] = frozenset()
    distribution: Literal["debian", "ubuntu"]
    codename: Codename
    docker_source: Literal["distribution", "docker"]
    daemon_settings: dict[str, Any] = {}
    packages: tuple[PackageName, ...] = ()
    apparmor: Literal["required", "if-available"] = "if-available"
    apparmor_mode: Literal["enforce", "complain"] = "enforce"
    ssh_hardening: bool = False
    sysctls: Annotated[dict[SysctlName, SysctlValue], AfterValidator(_forwards)] = {}
    gpu: HostGpu | None = None

    @field_validator("absent")
    @classmethod
    def _known(cls, absent: frozenset[str]) -> frozenset[str]:
        if unknown := sorted(
            name for name in absent if name not in CAPABILITIES and not name.startswith("/dev/")
        ):
            raise ValueError(
                f"{', '.join(unknown)} is nothing a machine can lack here:"
                f" name {', '.join(CAPABILITIES)} or a device under /dev/"
            )
        return absent

    @property
    def has_gpu(self) -> bool:
        """Whether its workloads get GPUs: some are declared, and not said to be absent."""
        return self.gpu is not None and "gpu" not in self.absent

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
        return f"{constraint!r} asks for {match['key']}: write node.labels.…, node.hostname or node.role"
    return None
