"""What confines a container: how the kernel writes it down, and what a file's words come to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from posixpath import normpath
from typing import Any

from cascade.model import seccomp
from cascade.model.apparmor import ENGINES_PROFILE, profile_of_group
from cascade.model.host import Host
from cascade.model.workload import Workload
from tests.verify.look import Unread

Mount = Mapping[str, Any]
Accounts = Mapping[str, Mapping[str, list[str]]]

# Source: Linux, include/uapi/linux/capability.h: each at the place of its bit.
_CAPABILITIES = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
    SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
    AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ
    PERFMON BPF CHECKPOINT_RESTORE
"""
# Source: moby, daemon/pkg/oci/caps: what a container has that says nothing.
_ENGINES_OWN = """
    AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP
    SETUID SYS_CHROOT
"""
CAPABILITIES = tuple(_CAPABILITIES.split())
ENGINES_OWN = frozenset(_ENGINES_OWN.split())
# Source: opencontainers/runtime-spec, config-linux.md, default devices.
NODES = frozenset(
    f"/dev/{name}" for name in ("console", "full", "null", "ptmx", "random", "tty", "urandom", "zero")
)
ENGINES_SOCKETS = ("/run/docker.sock", "/run/containerd/containerd.sock")
PAGE = 4096

# What each container has mounted, by kind; and files that the engine makes for it.
_SYSTEMS = {"/proc": "proc", "/dev": "tmpfs", "/dev/pts": "devpts", "/dev/mqueue": "mqueue", "/sys": "sysfs"}
_SYSTEMS |= {"/dev/shm": "tmpfs", "/dev/console": "devpts"}
# What its root is, by the storage driver of its engine; some make plain folders of the disk.
_DISKS = ("btrfs", "ext4", "xfs", "zfs")
_ROOTS = {
    "btrfs": ("btrfs",),
    "fuse-overlayfs": ("fuse.fuse-overlayfs",),
    "native": _DISKS,
    "overlay2": ("overlay",),
    "overlayfs": ("overlay",),
    "vfs": _DISKS,
    "zfs": ("zfs",),
}
# Where /sbin of an image leads elsewhere, the kernel names the place that it leads to.
_INITS = tuple(f"{folder}/docker-init" for folder in ("/sbin", "/usr/sbin", "/usr/bin", "/bin"))
_FILES = ("/etc/resolv.conf", "/etc/hostname", "/etc/hosts", *_INITS)
# Source: opencontainers/runtime-spec and moby, oci/defaults.go.
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def capabilities(mask: str) -> frozenset[str]:
    """Those whose bits are set; one that has no name yet by its number."""
    bits = int(mask, 16)
    numbers = (number for number in range(bits.bit_length()) if bits >> number & 1)
    return frozenset(
        CAPABILITIES[number] if number < len(CAPABILITIES) else str(number) for number in numbers
    )


def allowed_capabilities(add: Iterable[str], drop: Iterable[str]) -> frozenset[str]:
    """What a container may have at most."""
    added = {name.removeprefix("CAP_") for name in add}
    dropped = {name.removeprefix("CAP_") for name in drop}
    if "ALL" in added:
        return frozenset(CAPABILITIES) - dropped
    return (frozenset() if "ALL" in dropped else ENGINES_OWN - dropped) | added


def identity(user: str, accounts: Accounts) -> tuple[str, str]:
    """The numbers of a user and its group, looked up in the image as the engine does."""
    name, _, group = user.partition(":")
    uid, own = accounts["passwd"].get(_account(name, accounts), [name, "0"])
    return uid, accounts["group"].get(group, [group])[0] if group else own


def _account(user: str, accounts: Accounts) -> str:
    """The name of a user who may be told by number; what has no account is told by itself."""
    passwd = accounts["passwd"]
    by_number = (name for name, ids in passwd.items() if ids[0] == user)
    return user if user in passwd else next(by_number, user)


def groups(workload: Workload, accounts: Accounts) -> frozenset[str]:
    """The numbers of all groups that its processes may be in."""
    user = workload.service.user
    named = (accounts["group"].get(name, [name])[0] for name in workload.service.group_add)
    return frozenset((identity(user, accounts)[1], *named, *memberships(user, accounts)))


def memberships(user: str, accounts: Accounts) -> frozenset[str]:
    """The numbers of the groups that the image puts a user in, which count where no group is named.

    Source: moby/sys, user.GetExecUser.
    """
    name, _, group = user.partition(":")
    account = _account(name, accounts)
    found = accounts["group"].values() if not group and account in accounts["passwd"] else ()
    return frozenset(number for number, members in found if account in members.split(","))


def seccomp_profile(workload: Workload) -> str:
    """The profile of a workload as JSON, or `unconfined`."""
    said = {option.name: option.value for option in workload.service.security_opt}
    return said.get("seccomp") or seccomp.profile(workload.security.profile)


def apparmor_label(workload: Workload, host: Host) -> str:
    """How the kernel names what confines its processes."""
    name = profile_of_group(workload.group) if workload.kind == "container" else ENGINES_PROFILE
    return f"{name} ({host.apparmor_mode})"


def device_nodes(workload: Workload, host: Host) -> frozenset[str]:
    """The devices of the host that its file gives to it."""
    given = (one.target for one in workload.service.devices if one.source not in host.absent)
    return frozenset(map(normpath, given))


def is_within(path: str, places: Iterable[str]) -> bool:
    """Whether a path is one of these, or below one."""
    return any(path == place or _is_above(place, path) for place in places)


def declared_targets(workload: Workload) -> frozenset[str]:
    """Where a file has something mounted."""
    files = [use.path for _, use in (*workload.config_files, *workload.secret_files)]
    mounts = [mount.target for mount in workload.mounts]
    in_memory = [mount.target for mount in workload.tmpfs]
    return frozenset(map(normpath, (*files, *mounts, *in_memory)))


def undeclared(mounts: Iterable[Mount], declared: Collection[str], driver: str) -> list[str]:
    """Where something is mounted that neither an engine of this storage driver gives nor a file declares."""
    roots = _ROOTS.get(driver)
    if roots is None:
        raise Unread(f"nobody here knows what the storage driver {driver} mounts as the root of a container")
    return [mount["target"] for mount in mounts if not _is_known(mount, declared, roots)]


def _is_known(mount: Mount, declared: Collection[str], roots: Collection[str]) -> bool:
    target = mount["target"]
    if target == "/":
        return mount["kind"] in roots
    if target in declared or target in _FILES or _SYSTEMS.get(target) == mount["kind"]:
        return True
    if target == "/sys/fs/cgroup" or target.startswith("/sys/fs/cgroup/"):
        return mount["kind"] in ("tmpfs", "cgroup", "cgroup2")
    if not target.startswith(("/proc/", "/sys/")):
        return False
    return _is_masked(mount) or (target in READ_ONLY and "ro" in mount["options"])


def _is_masked(mount: Mount) -> bool:
    """A file is hidden behind /dev/null, a folder behind an empty one that can only be read."""
    empty = mount["root"] == "/" and "ro" in mount["options"]
    return mount["kind"] in ("tmpfs", "devtmpfs") and (empty or mount["root"] == "/null")


def is_of_gpus(path: str) -> bool:
    """Whether the NVIDIA runtime puts it into a container: its devices, and the driver's files."""
    return "nvidia" in path or path.startswith(("/usr/lib/", "/usr/bin/"))


def holds_engine(source: str) -> bool:
    """Whether a path of the host is a socket that is as powerful as root, or a folder that it is in."""
    path = "/run" + source.removeprefix("/var/run") if source.startswith("/var/run") else source
    return any(is_within(socket, [path]) for socket in ENGINES_SOCKETS)


def _is_above(folder: str, path: str) -> bool:
    return folder != "" and path.startswith(folder.rstrip("/") + "/")


def kilobytes(size: int) -> str:
    """How the kernel writes the size of a file system in memory, of whole pages."""
    return f"size={-(-size // PAGE) * PAGE // 1024}k"
