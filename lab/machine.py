"""The facts of this machine that decide how its test hosts are run."""

import platform
from dataclasses import dataclass
from pathlib import Path

from lab.engine import Engine

SYS_RESOURCE = 24
LARGEST_MTU = 1500


@dataclass(frozen=True)
class Machine:
    """What a test host has to adapt to."""

    cgroup_version: int
    has_sys_resource: bool
    has_apparmor: bool
    has_kernel_modules: bool
    mtu: int


def this_machine(engine: Engine) -> Machine:
    """Read the facts from the engine and the kernel."""
    return Machine(
        cgroup_version=int(engine.run("info", "--format", "{{.CgroupVersion}}")),
        has_sys_resource=has_capability(Path("/proc/self/status").read_text(), SYS_RESOURCE),
        has_apparmor="name=apparmor" in engine.run("info", "--format", "{{json .SecurityOptions}}"),
        has_kernel_modules=Path("/lib/modules", platform.release()).is_dir(),
        mtu=_path_mtu(),
    )


def has_capability(status: str, number: int) -> bool:
    """Whether the bounding set in a /proc/<pid>/status, the most it can ever have, holds a capability."""
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd:"))
    return bool(int(mask, 16) >> number & 1)


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
