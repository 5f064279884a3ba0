"""The facts of this machine that decide how its test hosts are run."""

import platform
from dataclasses import dataclass
from pathlib import Path

from lab.engine import Engine

# In the kernel's order. The three that are younger are left out: older engines do not know their names.
# fmt: off
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK",
    "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN",
    "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE",
    "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND",
    "AUDIT_READ",
)
# fmt: on
LARGEST_MTU = 1500


@dataclass(frozen=True)
class Machine:
    """What a test host has to adapt to."""

    cgroup_version: int
    capabilities: tuple[str, ...]
    has_apparmor: bool
    has_kernel_modules: bool
    mtu: int


def this_machine(engine: Engine) -> Machine:
    """Read the facts from the engine and the kernel."""
    return Machine(
        cgroup_version=int(engine.run("info", "--format", "{{.CgroupVersion}}")),
        capabilities=bounding_set(Path("/proc/self/status").read_text()),
        has_apparmor="name=apparmor" in engine.run("info", "--format", "{{json .SecurityOptions}}"),
        has_kernel_modules=Path("/lib/modules", platform.release()).is_dir(),
        mtu=_path_mtu(),
    )


def bounding_set(status: str) -> tuple[str, ...]:
    """The capabilities that a process with this /proc/<pid>/status can give away at most."""
    mask = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd:")), 16)
    return tuple(name for number, name in enumerate(CAPABILITIES) if mask >> number & 1)


def default_interface(routes: str) -> str | None:
    """The interface of the default route in /proc/net/route."""
    rows = [line.split() for line in routes.splitlines()[1:]]
    return next((row[0] for row in rows if row[1] == "00000000"), None)


def _path_mtu() -> int:
    """A packet between hosts must not be larger than one that leaves the machine."""
    interface = default_interface(Path("/proc/net/route").read_text())
    if interface is None:
        return LARGEST_MTU
    return min(LARGEST_MTU, int(Path("/sys/class/net", interface, "mtu").read_text()))
