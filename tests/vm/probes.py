"""What AppArmor alone says no to: the kernel's log says so, and who is not confined gets a yes.

Everybody may read these files by owner and mode, and no mask of the engine covers them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tests.vm.machines import Container, on_machine

DENIED = (
    "/proc/consoles",
    "/proc/crypto",
    "/proc/iomem",
    "/proc/ioports",
    "/proc/kallsyms",
    "/proc/key-users",
    "/proc/locks",
    "/sys/kernel/notes",
    "/sys/kernel/uevent_seqnum",
    "/sys/power/state",
)
ALLOWED = (
    "/etc/passwd",
    "/proc/1/cmdline",
    "/proc/meminfo",
    "/proc/self/status",
    "/proc/sys/kernel/osrelease",
    "/sys/class/net/lo/mtu",
    "/sys/fs/cgroup/memory.max",
)
_LOGGED = re.compile(
    r'apparmor="(?P<verdict>DENIED|ALLOWED)".* profile="(?P<profile>[^"]+)" name="(?P<path>[^"]+)"'
)


@dataclass(frozen=True)
class Answers:
    """Which files could be read, and what AppArmor logged of it: verdict, profile and file."""

    read: frozenset[str]
    logged: frozenset[tuple[str, str, str]]


def probe(container: Container, paths: Iterable[str] = (*DENIED, *ALLOWED)) -> Answers:
    """Reads these files inside of a container."""
    script = "; ".join(f"cat {path} >/dev/null 2>&1 && echo {path}" for path in paths)
    # Without it the kernel leaves out messages that come too fast.
    on_machine(container.machine, "sysctl -qw kernel.printk_ratelimit=0; dmesg --clear")
    read = container.run(f"{script}; true").split()
    found = _LOGGED.finditer(on_machine(container.machine, "dmesg"))
    logged = ((match["verdict"], match["profile"], match["path"]) for match in found)
    return Answers(frozenset(read), frozenset(logged))


def expected(container: Container, *, complain: bool = False) -> Answers:
    """What the profile of a container should make of it."""
    profile, _, _ = container.profile.partition(" ")
    verdict = "ALLOWED" if complain else "DENIED"
    logged = frozenset((verdict, profile, path) for path in DENIED)
    return Answers(frozenset((*DENIED, *ALLOWED) if complain else ALLOWED), logged)
