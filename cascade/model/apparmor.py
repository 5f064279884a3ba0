"""AppArmor: what the profiles of containers say, and what differs between them.

The rules that they share stand in templates/etc/apparmor.d/container.j2. Nothing is denied by name there:
what no rule allows is denied, and in complain mode only logged, where a rule that denies would still deny.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cascade.model.host import Host
from cascade.model.workload import Workload

# The engine gives this one to every container that names none, and a Swarm service cannot name one.
ENGINES_PROFILE = "docker-default"
PROFILE_FOLDER = "/etc/apparmor.d"

# Source: moby, daemon/pkg/oci/caps, what the engine gives a container of root.
_ENGINES_OWN = """
    AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP
    SETUID SYS_CHROOT
"""
# What a container keeps of the capabilities that it has been given, and what for.
CAPABILITIES = {
    "AUDIT_WRITE": "programs that log people in",
    "CHOWN": "databases that take over their folder before they give up root",
    "DAC_OVERRIDE": "the same, before they give up root",
    "FOWNER": "the same, on files of others",
    "FSETID": "the same, on files with a set group",
    "IPC_LOCK": "memory that is never swapped out",
    "KILL": "a first process of root that stops others",
    "NET_ADMIN": "network settings of the container's own",
    "NET_BIND_SERVICE": "ports below 1024",
    "NET_RAW": "ping",
    "SETFCAP": "package managers inside of an image that is built",
    "SETGID": "programs that give up root",
    "SETPCAP": "programs that give up capabilities",
    "SETUID": "programs that give up root",
    "SYS_CHROOT": "programs that lock themselves in a folder",
    "SYS_NICE": "priorities",
    "SYS_PTRACE": "debuggers of processes of other users in the same container",
    "SYS_RESOURCE": "databases that raise their own limits",
}
_SPECIAL = re.compile(r'[\\"*?\[\]{}]')


@dataclass(frozen=True)
class Profile:
    """What one profile allows beyond what all do: capabilities by AppArmor's names, and device nodes."""

    name: str
    capabilities: tuple[str, ...]
    devices: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The profile's file on a host."""
        return f"{PROFILE_FOLDER}/{self.name}"


def profile_of_group(group: str) -> str:
    """The name of the profile of a group's host containers."""
    return f"cascade.{group}"


def engines_profile() -> Profile:
    """The one in place of the engine's own."""
    return Profile(ENGINES_PROFILE, tuple(name.lower() for name in CAPABILITIES))


def group_profile(group: str, containers: Iterable[Workload], host: Host) -> Profile:
    """That of a group's host containers on a host: what their files give to them, and nothing else."""
    containers = tuple(containers)
    given = {name for workload in containers for name in _given(workload)}
    devices = {
        _literally(device.target)
        for workload in containers
        for device in workload.service.devices
        if device.source not in host.absent
    }
    return Profile(profile_of_group(group), tuple(sorted(given)), tuple(sorted(devices)))


def _given(workload: Workload) -> set[str]:
    """The capabilities of a container by AppArmor's names; `all` is one, too."""
    dropped = {_bare(name) for name in workload.service.cap_drop}
    own = set() if "all" in dropped else set(_ENGINES_OWN.lower().split()) - dropped
    return own | {_bare(name) for name in workload.service.cap_add}


def _bare(capability: str) -> str:
    return capability.removeprefix("CAP_").lower()


def _literally(path: str) -> str:
    """A path in a rule, where some signs stand for others."""
    return _SPECIAL.sub(r"\\\g<0>", path)
