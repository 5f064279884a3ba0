"""Runs on a host, as root: what the machine itself shows, read and never changed.

`python3 -IBS -c SOURCE PART REQUEST` prints a part as JSON: `machine`, or of a command what it `ran` to.
Standard library of python3-minimal only, and nothing of Cascade.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TextIO

TIMEOUT_S = 5
ENDS_WITHIN_S = 60
LISTENING = "0A"
PROFILES = "/sys/kernel/security/apparmor/profiles"
UNIT_FACTS = "LoadState,ActiveState,UnitFileState"


def machine(request: dict[str, Any]) -> dict[str, Any]:
    engine = number_of("docker.service")
    return {
        "system": os_release(),
        "packages": packages(request["packages"]),
        "sysctls": {name: sysctl(name) for name in request["sysctls"]},
        "sysctl_files": output("/usr/lib/systemd/systemd-sysctl", "--cat-config"),
        "units": {name: unit(name) for name in request["units"]},
        "failed": output("systemctl", "list-units", "--failed", "--plain", "--no-legend").splitlines(),
        "modules": {name: has_module(name) for name in request["modules"]},
        "full": {path: used(path) for path in request["folders"]},
        "sshd": output("sshd", "-T").splitlines() if request["sshd"] else [],
        "reached": {"%s:%d" % (at, port): takes(at, port) for at, port in request["reach"]},
        "apparmor": read("/sys/module/apparmor/parameters/enabled") == "Y",
        "profiles": (read(PROFILES) or "").splitlines(),
        "namespaces": {kind: os.readlink("/proc/1/ns/" + kind) for kind in os.listdir("/proc/1/ns")},
        "engine": {
            "started": started(engine),
            "listening": listening(engine),
            "settings": read("/etc/docker/daemon.json"),
            "settings_written": written("/etc/docker/daemon.json"),
            "socket": stated("/run/docker.sock"),
            "proxies": output("pgrep", "-x", "docker-proxy", may_be=(0, 1)).split(),
        },
        "certificate": read(request["certificate"]),
    }


def output(*argv: str, may_be: "tuple[int, ...]" = (0,)) -> str:
    code, said, wrong = ended(*argv)
    if code not in may_be:
        raise OSError("%s: %d %s" % (argv[0], code, wrong.strip()))
    return said


def ended(*argv: str) -> "tuple[int, str, str]":
    """How a program ended, and what it printed."""
    program = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", errors="replace"
    )
    try:
        said, wrong = program.communicate(timeout=ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        # It is not waited for: whoever hangs in the kernel cannot be killed.
        program.kill()
        raise TimeoutError("%s did not end within %d s" % (" ".join(argv), ENDS_WITHIN_S)) from None
    return program.returncode, said, wrong


def ran(command: str) -> "tuple[int, str, str]":
    """How a command of the shell ended, and what it printed."""
    return ended("sh", "-c", command)


def opened(path: str) -> TextIO:
    """A file in which nobody knows who wrote what: what is no UTF-8 is none of what is looked for."""
    return open(path, encoding="utf-8", errors="replace")


def read(path: str) -> "str | None":
    """None where there is no such file."""
    try:
        with opened(path) as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


def os_release() -> dict[str, str]:
    """Source: os-release(5)."""
    with opened("/etc/os-release") as file:
        pairs = [line.rstrip("\n").split("=", 1) for line in file if "=" in line]
    return {key: value.strip("\"'") for key, value in pairs}


def packages(names: list[str]) -> dict[str, str]:
    """The state of each that dpkg knows; it ends with 1 where it does not know one."""
    wanted = "${Package} ${db:Status-Status}\n"
    said = output("dpkg-query", "--show", "--showformat=" + wanted, *names, may_be=(0, 1)) if names else ""
    return dict(line.split() for line in said.splitlines())


def sysctl(name: str) -> "str | None":
    """A name has dots, or slashes where a part of it has dots. Source: sysctl.d(5)."""
    separator = min((sign for sign in "./" if sign in name), key=name.index)
    path = name if separator == "/" else name.translate(str.maketrans("./", "/."))
    return read("/proc/sys/" + path)


def unit(name: str) -> dict[str, str]:
    lines = output("systemctl", "show", "--property=" + UNIT_FACTS, name).splitlines()
    return dict(line.split("=", 1) for line in lines)


def number_of(name: str) -> int:
    """Of the unit's first process; 0 where it does not run."""
    return int(output("systemctl", "show", "--value", "--property=MainPID", name))


def has_module(name: str) -> bool:
    """Whether the kernel has it, or would load it when it is needed."""
    if os.path.isdir("/sys/module/" + name):
        return True
    try:
        return ended("modprobe", "--dry-run", "--quiet", name)[0] == 0
    except FileNotFoundError:
        return False


def used(path: str) -> "dict[str, float] | None":
    """Which part of its file system's space and of its files is taken, as users other than root see it."""
    try:
        found = os.statvfs(path)
    except FileNotFoundError:
        return None
    return {
        "space": 1 - found.f_bavail / found.f_blocks,
        "files": 1 - found.f_favail / found.f_files if found.f_files else 0,
    }


def takes(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), TIMEOUT_S).close()
    except OSError:
        return False
    return True


def started(pid: int) -> "float | None":
    """When a process began, in seconds since 1970. Source: proc_pid_stat(5), field 22."""
    if not pid:
        return None
    with opened("/proc/%d/stat" % pid) as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    with opened("/proc/stat") as file:
        boot = next(int(line.split()[1]) for line in file if line.startswith("btime "))
    return boot + ticks / os.sysconf("SC_CLK_TCK")


def written(path: str) -> "float | None":
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return None


def stated(path: str) -> "dict[str, int] | None":
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return {"mode": found.st_mode, "uid": found.st_uid}


def listening(pid: int) -> "list[list[Any]]":
    """The TCP addresses and ports at which a process listens. Source: proc_pid_net(5)."""
    own = inodes(pid) if pid else set()
    found = []
    for kind in ("tcp", "tcp6"):
        rows = [line.split() for line in (read("/proc/net/" + kind) or "").splitlines()[1:]]
        found += [place(row[1]) for row in rows if row[3] == LISTENING and row[9] in own]
    return sorted(found)


def inodes(pid: int) -> set[str]:
    """Of its open sockets."""
    folder = "/proc/%d/fd/" % pid
    return {target[8:-1] for target in map(target_of, map(folder.__add__, os.listdir(folder))) if target}


def target_of(path: str) -> str:
    """What an open file is of, where it is still open and a socket."""
    try:
        found = os.readlink(path)
    except FileNotFoundError:
        return ""
    return found if found.startswith("socket:[") else ""


def place(text: str) -> "list[Any]":
    """The kernel writes each four bytes of an address as a number of the machine's own order."""
    address, _, port = text.partition(":")
    words = [int(address[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(address), 8)]
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return [socket.inet_ntop(family, b"".join(words)).replace("::ffff:", ""), int(port, 16)]


PARTS: "dict[str, Callable[[Any], Any]]" = {"machine": machine, "ran": ran}

if __name__ == "__main__":
    json.dump(PARTS[sys.argv[1]](json.loads(sys.argv[2])), sys.stdout)
