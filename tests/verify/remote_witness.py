"""Runs on a host, as root: what its engine answers and what its kernel holds, read and never changed.

`python3 -IBS -c SOURCE PART REQUEST` prints a part as JSON: `engine`, `processes`, `files` or `probes`.
Standard library of python3-minimal only, and nothing of Cascade.
"""

import json
import os
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TextIO

ENGINE = "/run/docker.sock"
RESOLVER = ("127.0.0.11", 53)
TIMEOUT_S = 5
# The engine, and a network's process beyond what its questions may last.
ANSWERS_WITHIN_S = 60
AT_ONCE = 16
NAMESPACES = ("ipc", "mnt", "net", "pid", "uts")
LISTENING = "0A"
CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
CONFINING = ("Name", "Uid", "Gid", "Groups", *CAPABILITIES, "NoNewPrivs", "Seccomp")
# Source: Linux, Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst: the file of the one and of the other.
LIMITS = {
    "memory": (("memory", "memory.limit_in_bytes"), "memory.max"),
    "pids": (("pids", "pids.max"), "pids.max"),
    "cpu_quota": (("cpu", "cpu.cfs_quota_us"), "cpu.max"),
    "cpu_period": (("cpu", "cpu.cfs_period_us"), "cpu.max"),
}


# Source: RFC 1035, and moby, libnetwork/resolver.go: Docker's resolver asks up to three others, four seconds
# each, for what is no name of its own, and says that it failed where it may ask nobody or nobody answers.
FOUND, FAILED, NOBODY = 0, 2, 3
RESOLVED_WITHIN_S = 13


class Gone(OSError):
    """What the engine has no longer."""


class Unresolved(OSError):
    """A name of which the resolver did not tell whether anybody has it."""


def get(path: str) -> Any:
    """What the engine answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWERS_WITHIN_S)
        try:
            connection.connect(ENGINE)
            status, body = answer_to(connection, "localhost", path)
        except TimeoutError:
            raise TimeoutError("GET %s: no answer within %d s" % (path, ANSWERS_WITHIN_S)) from None
    if status != 200:
        kind = Gone if status == 404 else OSError
        raise kind("GET %s: %d %s" % (path, status, body.decode(errors="replace").strip()))
    return json.loads(body)


def answer_to(connection: socket.socket, host: str, path: str) -> "tuple[int, bytes]":
    """A GET in HTTP/1.0, whose answer ends with the connection: python3-minimal has no http module."""
    connection.sendall(("GET %s HTTP/1.0\r\nHost: %s\r\n\r\n" % (path, host)).encode())
    received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ValueError("no HTTP but %r" % received[:60])
    return int(words[1]), body


def engine(_: Any) -> dict[str, Any]:
    info = get("/info")
    manager = bool((info.get("Swarm") or {}).get("ControlAvailable"))
    return {
        "info": info,
        "containers": [found for one in get("/containers/json") for found in running(one["Id"])],
        "states": {one["Names"][0].lstrip("/"): one["State"] for one in get("/containers/json?all=1")},
        "networks": [get("/networks/%s" % one["Id"]) for one in get("/networks")],
        "volumes": get("/volumes")["Volumes"] or [],
        "nodes": get("/nodes") if manager else [],
        "services": get("/services") if manager else [],
        "tasks": get("/tasks") if manager else [],
    }


def running(container: str) -> "list[Any]":
    """What the engine says of a container; nothing of one that has ended since it was listed."""
    try:
        found = get("/containers/%s/json" % container)
    except Gone:
        return []
    return [found] if found["State"]["Pid"] else []


def processes(request: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """By name: what the kernel has of a process and of the others in its control group, while it lives."""
    found = {}
    for name, one in request.items():
        try:
            found[name] = process(**one)
        except OSError:
            if alive(one["pid"]):
                raise
    return {name: what for name, what in found.items() if alive(request[name]["pid"])}


def alive(pid: int) -> bool:
    """Whether a process is still there; one that has ended may wait for its parent."""
    try:
        return not status(pid)["State"].startswith(("Z", "X"))
    except (FileNotFoundError, ProcessLookupError):
        return False


def process(pid: int, paths: list[str], variables: list[str]) -> dict[str, Any]:
    beside = fellows(pid)
    return {
        "beside": beside,
        "confinements": confinements(beside),
        "accounts": {name: accounts(pid, name) for name in ("passwd", "group")},
        "device_nodes": device_nodes(pid),
        "namespaces": {kind: os.readlink("/proc/%d/ns/%s" % (pid, kind)) for kind in NAMESPACES},
        "limits": {name: limit(pid, name) for name in LIMITS},
        "rlimits": rlimits(pid),
        "environment": environment(pid, variables),
        "mounts": mounts(pid),
        "listening": listening(pid),
        "default_routes": default_routes(pid),
        "addresses": addresses(pid),
        "files": {path: stated("/proc/%d/root%s" % (pid, path)) for path in paths},
    }


def confinements(pids: list[int]) -> "list[dict[str, str]]":
    """What the kernel says of each, once where it says the same of several."""
    found = []
    for pid in pids:
        one = confinement(pid)
        if one and one not in found:
            found.append(one)
    return found


def confinement(pid: int) -> "dict[str, str] | None":
    """None for one that is gone, or that the engine is only about to start: that one is runc until then."""
    try:
        if is_runc(os.readlink("/proc/%d/exe" % pid)):
            return None
        said = status(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    label = first_line("/proc/%d/attr/current" % pid) or ""
    return {**{key: said[key] for key in CONFINING}, "AppArmor": label}


def is_runc(program: str) -> bool:
    """Whether it is what starts containers, or its own copy in memory."""
    name = os.path.basename(program.removesuffix(" (deleted)"))
    return name == "runc" or program.startswith("/memfd:runc_cloned:")


def accounts(pid: int, name: str) -> "dict[str, list[str]]":
    """The numbers of its users with their groups, or of its groups with their members, by name."""
    try:
        with opened("/proc/%d/root/etc/%s" % (pid, name)) as file:
            rows = [line.rstrip("\n").split(":") for line in file]
    except FileNotFoundError:
        return {}
    return {row[0]: row[2:4] for row in rows if len(row) > 3}


def device_nodes(pid: int) -> list[str]:
    """Below its /dev, but for terminals."""
    folder = "/proc/%d/root/dev" % pid
    found = [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]
    nodes = [path for path in found if os.path.lexists(path) and is_node(os.lstat(path).st_mode)]
    relative = [path[len(folder) - len("/dev") :] for path in nodes]
    return sorted(path for path in relative if not path.startswith("/dev/pts/"))


def is_node(mode: int) -> bool:
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def opened(path: str) -> TextIO:
    """A file in which nobody knows who wrote what: what is no UTF-8 is none of what is looked for."""
    return open(path, encoding="utf-8", errors="replace")


def first_line(path: str) -> "str | None":
    """None where there is no such thing; the kernel calls a module that is off an invalid argument."""
    try:
        with opened(path) as file:
            return file.readline().rstrip("\n\0")
    except OSError:
        return None


def status(pid: int) -> dict[str, str]:
    with opened("/proc/%d/status" % pid) as file:
        return {key: value.strip() for key, _, value in (line.partition(":") for line in file)}


def groups_of(pid: int) -> dict[str, str]:
    """Its control group by controller; the one of version 2 has an empty name."""
    with opened("/proc/%d/cgroup" % pid) as file:
        rows = [line.rstrip("\n").split(":", 2) for line in file]
    return {controller: path for _, controllers, path in rows for controller in controllers.split(",")}


def folder_of(pid: int, controller: str) -> "tuple[str, bool]":
    """The folder of its control group, and whether that is one of version 2."""
    groups = groups_of(pid)
    if controller in groups:
        return "/sys/fs/cgroup/%s%s" % (controller, groups[controller]), False
    return "/sys/fs/cgroup" + groups[""], True


def fellows(pid: int) -> list[int]:
    folder, _ = folder_of(pid, "pids")
    with opened(folder + "/cgroup.procs") as file:
        return [int(line) for line in file]


def limit(pid: int, name: str) -> "str | None":
    (controller, old), new = LIMITS[name]
    folder, unified = folder_of(pid, controller)
    found = first_line("%s/%s" % (folder, new if unified else old))
    if unified and found and name.startswith("cpu_"):
        return found.split()[name == "cpu_period"]
    return found


def rlimits(pid: int) -> "dict[str, list[str]]":
    """Soft and hard limit by the kernel's name, 25 characters wide. Source: Linux, fs/proc/base.c."""
    with opened("/proc/%d/limits" % pid) as file:
        return {line[:25].strip(): line[25:].split()[:2] for line in file}


def environment(pid: int, names: list[str]) -> dict[str, str]:
    """Only the variables of these names: others may hold what nobody should see."""
    with opened("/proc/%d/environ" % pid) as file:
        pairs = [entry.partition("=") for entry in file.read().split("\0")]
    return {name: value for name, _, value in pairs if name in names}


def mounts(pid: int) -> "list[dict[str, Any]]":
    """Source: proc_pid_mountinfo(5)."""
    with opened("/proc/%d/mountinfo" % pid) as file:
        return [mount(*line.rstrip("\n").split(" - ", 1)) for line in file]


def mount(left: str, right: str) -> "dict[str, Any]":
    _, _, device, root, target, options = left.split()[:6]
    kind, source, settings = right.split()
    return {
        "device": device,
        "root": root,
        "target": target,
        "options": options.split(","),
        "kind": kind,
        "source": source,
        "settings": settings.split(","),
    }


def listening(pid: int) -> list[int]:
    """The TCP ports at which somebody listens in its network."""
    found = set()
    for name in ("tcp", "tcp6"):
        try:
            with opened("/proc/%d/net/%s" % (pid, name)) as file:
                rows = [line.split() for line in file][1:]
        except FileNotFoundError:
            continue
        found |= {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == LISTENING}
    return sorted(found)


def default_routes(pid: int) -> list[str]:
    """The interfaces that lead everywhere."""
    with opened("/proc/%d/net/route" % pid) as file:
        rows = [line.split() for line in file][1:]
    return [row[0] for row in rows if row[1] == row[7] == "00000000"]


def addresses(pid: int) -> list[str]:
    """The IPv4 addresses that the kernel has for its network's own."""
    with opened("/proc/%d/net/fib_trie" % pid) as file:
        return own_addresses(file.read().splitlines())


def own_addresses(routes: "list[str]") -> list[str]:
    """Source: Linux, net/ipv4/fib_trie.c, fib_trie_seq_show."""
    found, leaf = set(), ""
    for words in map(str.split, routes):
        if words[:1] == ["|--"]:
            leaf = words[1]
        elif words[1:] == ["host", "LOCAL"]:
            found.add(leaf)
    return sorted(found)


def stated(path: str) -> "dict[str, Any] | None":
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return {
        "mode": found.st_mode,
        "uid": found.st_uid,
        "gid": found.st_gid,
        "device": found.st_dev,
        "inode": found.st_ino,
        "rdev": found.st_rdev,
    }


def files(paths: list[str]) -> "dict[str, dict[str, Any] | None]":
    """What is at these paths; never what is in it."""
    return {path: stated(path) for path in paths}


def probes(request: "list[dict[str, Any]]") -> "list[list[Any]]":
    """What is answered inside of the networks of processes: a list of answers for each one asked."""
    starts = range(0, len(request), AT_ONCE)
    return [answers for start in starts for answers in probed(request[start : start + AT_ONCE])]


def probed(some: "list[dict[str, Any]]") -> "list[list[Any]]":
    children = [in_network(one) for one in some]
    try:
        return [answers_of(child, one) for child, one in zip(children, some, strict=True)]
    finally:
        for child in children:
            child.kill()


def in_network(one: "dict[str, Any]") -> "subprocess.Popen[bytes]":
    """This program again, in the network of a process: os.setns came with Python 3.12 only."""
    python = [sys.executable, "-IBS", "-c", sys.orig_argv[sys.orig_argv.index("-c") + 1]]
    argv = ["nsenter", "--net=/proc/%d/ns/net" % one["pid"], *python, "asked", json.dumps(one["questions"])]
    return subprocess.Popen(argv, stdout=subprocess.PIPE)


def answers_of(child: "subprocess.Popen[bytes]", one: "dict[str, Any]") -> "list[Any]":
    within = ANSWERS_WITHIN_S + (RESOLVED_WITHIN_S + TIMEOUT_S) * len(one["questions"])
    try:
        said, _ = child.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        words = (len(one["questions"]), one["pid"], within)
        raise TimeoutError(
            "%d questions in the network of process %d: no answer within %d s" % words
        ) from None
    if child.returncode and not alive(one["pid"]):
        return [{"error": "it has ended before it was asked"}] * len(one["questions"])
    if child.returncode:
        raise OSError("a network could not be entered")
    found: list[Any] = json.loads(said)
    return found


def asked(questions: "list[list[Any]]") -> "list[Any]":
    return [ask(*question) for question in questions]


def ask(kind: str, *arguments: Any) -> Any:
    """An answer, or {"error": why there is none}."""
    try:
        return KINDS[kind](*arguments)
    except (OSError, ValueError) as error:
        return {"error": "%s: %s" % (type(error).__name__, error)}


def addresses_of(name: str) -> list[str]:
    """The IPv4 addresses that Docker's resolver gives for a name. Source: RFC 1035."""
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    query = struct.pack("!6H", 4919, 0x0100, 1, 0, 0, 0) + question + struct.pack("!2H", 1, 1)
    answer = resolved(query)
    if (code := answer[3] & 0xF) not in (FOUND, FAILED, NOBODY):
        raise Unresolved("%s: the resolver answers with code %d" % (name, code))
    return sorted(addresses_in(answer, len(query)))


def resolved(query: bytes) -> bytes:
    """What the resolver answers; none at all says nothing of a name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(RESOLVED_WITHIN_S)
        try:
            client.connect(RESOLVER)
            client.send(query)
            return client.recv(65535)
        except OSError as error:
            raise Unresolved("the resolver: %s" % error) from None


def addresses_in(answer: bytes, offset: int) -> list[str]:
    count = struct.unpack("!H", answer[6:8])[0]
    found = []
    for _ in range(count):
        while answer[offset] and answer[offset] < 192:
            offset += answer[offset] + 1
        offset += 2 if answer[offset] >= 192 else 1
        kind, _, _, length = struct.unpack("!2HIH", answer[offset : offset + 10])
        offset += 10
        if kind == 1:
            found.append(socket.inet_ntoa(answer[offset : offset + 4]))
        offset += length
    return found


def http_status(address: str, port: int, path: str) -> int:
    with socket.create_connection((address, port), TIMEOUT_S) as connection:
        return answer_to(connection, address, path)[0]


def connected(address: str, port: int, timeout_s: float = TIMEOUT_S) -> str:
    """The address at the other end."""
    with socket.create_connection((address, port), timeout_s) as client:
        found: str = client.getpeername()[0]
        return found


def reached(name: str, port: int) -> "dict[str, bool]":
    """Whether each address of a name takes a connection."""
    return {address: takes(address, port) for address in addresses_of(name)}


def takes(address: str, port: int) -> bool:
    try:
        connected(address, port)
    except OSError:
        return False
    return True


def answered(name: str, port: int, path: str) -> "dict[str, Any]":
    """The status of the answer of each address of a name."""
    return {address: ask("http", address, port, path) for address in addresses_of(name)}


KINDS: "dict[str, Callable[..., Any]]" = {
    "answered": answered,
    "connect": connected,
    "http": http_status,
    "names": addresses_of,
    "reach": reached,
}
PARTS: "dict[str, Callable[[Any], Any]]" = {
    "engine": engine,
    "processes": processes,
    "files": files,
    "probes": probes,
    "asked": asked,
}

if __name__ == "__main__":
    json.dump(PARTS[sys.argv[1]](json.loads(sys.argv[2])), sys.stdout)
