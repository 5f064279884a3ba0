"""Runs on a host, from standard input of `python3 -IS -`: reads what the preflight checks, changes nothing.

Standard library of python3-minimal only. The deploying machine prepends QUERY; the answer is JSON,
compressed, in base64. What could not be read is {"error": reason}.
"""

import base64
import errno
import glob
import json
import os
import re
import selectors
import socket
import subprocess
import threading
import time
import zlib
from typing import Any

QUERY = globals().get("QUERY", {})
SOCKET = "/run/docker.sock"
PID_FILE = "/run/docker.pid"
DAEMONS = ("/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd")
DPKG_STATUS = "/var/lib/dpkg/status"
SNAPS = ("/snap/docker", "/var/snap/docker")
DESKTOP = "/opt/docker-desktop"
ENGINE_PACKAGES = ("docker.io", "docker-ce", "podman-docker", "docker-desktop", "moby-engine")
# What a package of Cascade's would push out.
CONFLICTING = ("chrony", "ntpsec", "openntpd", "containerd", "containerd.io", "runc")
TIMEOUT_S = 10
CONNECT_S = 3.0
PROBE_S = 3.0
PROBE_INTERVAL_S = 0.05
LISTENING = {"tcp": "0A", "udp": "07"}
CONTAINER_ID = re.compile(r"[0-9a-f]{64}")


def preflight(query: Any) -> Any:
    began, clock = time.monotonic(), time.time()
    registries = Registries(query["registries"])
    reply = {
        "probes": guarded(probe, query["probes"]),
        "os": guarded(read_os),
        "cpus": len(os.sched_getaffinity(0)),
        "memory": guarded(read_memory),
        "address": guarded(read_address, query["address"]),
        "kernel": guarded(read_kernel),
        "packages": guarded(read_packages),
        "dockerd": next((path for path in DAEMONS if os.path.exists(path)), None),
        "snap": any(map(os.path.exists, SNAPS)),
        "desktop": os.path.exists(DESKTOP),
        "engine": guarded(read_engine),
        "sockets": guarded(read_sockets, query["ports"]),
        "devices": guarded(read_devices, query["devices"]),
        "paths": {path: os.path.exists(path) for path in query["paths"]},
        "firewall": guarded(read_firewall),
        "registries": registries.results(),
    }
    reply["disk"] = guarded(read_disk, data_roots(reply["engine"], query["roots"]))
    return {**reply, "clock": {"at": clock, "took": time.monotonic() - began}}


def guarded(read: Any, *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except (OSError, ValueError, KeyError, subprocess.SubprocessError, zlib.error) as error:
        return {"error": "%s: %s" % (type(error).__name__, error)}


def text_of(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def read_os() -> Any:
    lines = (line.partition("=") for line in text_of("/etc/os-release").splitlines())
    named = {name: value.strip("\"'") for name, _, value in lines}
    return {
        "distribution": named.get("ID", ""),
        "codename": named.get("VERSION_CODENAME", ""),
        "version": named.get("VERSION_ID", ""),
        "machine": os.uname().machine,
    }


def read_memory() -> int:
    (total,) = re.findall(r"^MemTotal:\s+(\d+) kB$", text_of("/proc/meminfo"), re.M)
    return int(total) * 1024


def data_roots(engine: Any, wanted: list[str]) -> list[str]:
    """Where an engine's data are to lie, and where those of the one that runs do."""
    return sorted({*wanted, *filter(None, [(engine or {}).get("root")])})


def read_disk(paths: list[str]) -> Any:
    """What is free for root where each of these lies, or would lie."""
    found = {}
    for path in paths:
        there = path
        while not os.path.exists(there):
            there = os.path.dirname(there)
        room = os.statvfs(there)
        found[path] = {"device": os.stat(there).st_dev, "free": room.f_bavail * room.f_frsize}
    return found


def read_address(address: str) -> Any:
    """Whether the address is this host's, and whether it is only lent; None where nobody here can say."""
    with socket.socket(family(address), socket.SOCK_DGRAM) as probing:
        try:
            probing.bind((address, 0))
        except OSError as error:
            return {"here": False, "reason": error.strerror, "others": addresses()}
    try:
        shown = subprocess.run(
            ["ip", "-j", "addr"], capture_output=True, timeout=TIMEOUT_S, check=True
        ).stdout
    except FileNotFoundError:
        return {"here": True, "dynamic": None}
    entries = [entry for link in json.loads(shown) for entry in link.get("addr_info", ())]
    dynamic = any(entry.get("dynamic") for entry in entries if entry.get("local") == address)
    return {"here": True, "dynamic": dynamic}


def addresses() -> list[str]:
    """The addresses that this host has in its own tables."""
    trie = text_of("/proc/net/fib_trie")
    found = re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", trie)
    return sorted({address for address in found if not address.startswith("127.")})


def family(address: str) -> Any:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def read_kernel() -> Any:
    """Which parts the kernel has or can load; None where it does not say."""
    modules, config = known_modules(), kernel_config()
    sure = bool(modules or config)

    def has(module: str, option: str) -> Any:
        there = os.path.exists("/sys/module/" + module)
        return there or module in modules or option in config or (False if sure else None)

    overlay = "\toverlay\n" in text_of("/proc/filesystems")
    apparmor = "/sys/module/apparmor/parameters/enabled"
    return {
        "release": os.uname().release,
        "overlay": overlay or has("overlay", "CONFIG_OVERLAY_FS"),
        "vxlan": has("vxlan", "CONFIG_VXLAN"),
        "ipvs": has("ip_vs", "CONFIG_IP_VS"),
        "apparmor": os.path.exists(apparmor) and text_of(apparmor).strip() == "Y",
        "cgroup": 2 if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else 1,
    }


def known_modules() -> set[str]:
    folder = "/lib/modules/" + os.uname().release
    names = set()
    for listing in ("modules.dep", "modules.builtin"):
        path = os.path.join(folder, listing)
        if os.path.exists(path):
            names.update(re.findall(r"([^/\s]+)\.ko\S*?(?::|$)", text_of(path), re.M))
    return {name.replace("-", "_") for name in names}


def kernel_config() -> set[str]:
    """The options that the running kernel was built with, where it shows them."""
    if os.path.exists("/proc/config.gz"):
        with open("/proc/config.gz", "rb") as packed:
            text = zlib.decompress(packed.read(), 31).decode(errors="replace")
    else:
        path = "/boot/config-" + os.uname().release
        text = text_of(path) if os.path.exists(path) else ""
    return set(re.findall(r"^(CONFIG_\w+)=[ym]$", text, re.M))


def read_packages() -> list[str]:
    """Which of the packages that matter to Cascade's own are installed."""
    found = []
    for entry in text_of(DPKG_STATUS).split("\n\n"):
        name = re.search(r"^Package: (.*)$", entry, re.M)
        installed = re.search(r"^Status: .* ok installed$", entry, re.M)
        if name and installed and name[1] in (*ENGINE_PACKAGES, *CONFLICTING):
            found.append(name[1])
    return sorted(found)


def read_engine() -> Any:
    """The engine's data and its running containers; None where none runs.

    A connection to the socket would start a stopped engine, so its process is looked for first.
    """
    if not running():
        return None
    info = get("/info")
    return {
        "root": info["DockerRootDir"],
        "images_in_containerd": any(
            "io.containerd.snapshotter" in str(item) for item in info.get("DriverStatus") or []
        ),
        "proxy": info.get("HttpsProxy") or "",
        "system": info["OperatingSystem"],
        "containers": [
            {
                "id": item["Id"],
                "name": item["Names"][0].lstrip("/") if item["Names"] else item["Id"][:12],
                "image": item["Image"],
                "labels": {name: item["Labels"].get(name) for name in QUERY["labels"]},
                "ports": [
                    [port["PublicPort"], port["Type"]] for port in item["Ports"] if port.get("PublicPort")
                ],
            }
            for item in get("/containers/json")
        ],
    }


def running() -> bool:
    try:
        return os.path.exists("/proc/" + text_of(PID_FILE).strip())
    except FileNotFoundError:
        return False


def get(path: str) -> Any:
    """One GET over the engine's socket, in HTTP/1.0: python3-minimal has no http module."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(SOCKET)
        connection.sendall(("GET %s HTTP/1.0\r\nHost: docker\r\n\r\n" % path).encode())
        reply = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = reply.partition(b"\r\n\r\n")
    if head.split(None, 2)[1:2] != [b"200"]:
        raise ValueError("GET %s was answered with %r" % (path, head[:80]))
    return json.loads(body)


def read_sockets(ports: list[Any]) -> Any:
    """Who listens on these ports of the host: the process, or nobody when it is the kernel itself."""
    wanted = {(port, protocol) for port, protocol in ports}
    found = [entry for protocol in LISTENING for entry in listening(protocol, wanted)]
    holders = holders_of({"socket:[%s]" % inode for _, _, inode in found}) if found else {}
    return [
        {"port": port, "protocol": protocol, "holder": holders.get("socket:[%s]" % inode)}
        for port, protocol, inode in found
    ]


def listening(protocol: str, wanted: set[Any]) -> Any:
    for table in ("/proc/net/" + protocol, "/proc/net/%s6" % protocol):
        for line in text_of(table).splitlines()[1:] if os.path.exists(table) else ():
            fields = line.split()
            port = int(fields[1].rpartition(":")[2], 16)
            if fields[3] == LISTENING[protocol] and (port, protocol) in wanted:
                yield port, protocol, fields[9]


def holders_of(targets: set[str]) -> dict[str, Any]:
    """The process that has each of these open, by what its file descriptor points to."""
    return {target: process(pid) for pid, target in open_files() if target in targets}


def open_files() -> Any:
    for link in glob.iglob("/proc/[0-9]*/fd/*"):
        try:
            yield int(link.split("/")[2]), os.readlink(link)
        except OSError:
            continue  # The process has ended, or closed it.


def process(pid: int) -> Any:
    """A process by its name, with the containers that it runs in, one inside the other."""
    try:
        name = text_of("/proc/%d/comm" % pid).strip()
        containers = CONTAINER_ID.findall(text_of("/proc/%d/cgroup" % pid))
    except OSError:
        return {"pid": pid, "name": "a process that has just ended", "containers": []}
    return {"pid": pid, "name": name, "containers": sorted(set(containers))}


def read_devices(devices: list[str]) -> Any:
    """Whether each device is there, and who has it, or something in it, open."""
    users: dict[str, dict[int, Any]] = {device: {} for device in devices}
    for pid, target in open_files() if devices else ():
        for device in devices:
            if target == device or target.startswith(device.rstrip("/") + "/"):
                users[device][pid] = process(pid)
    return {
        device: {
            "present": os.path.exists(device),
            "users": [users[device][pid] for pid in sorted(users[device])],
        }
        for device in devices
    }


def read_firewall() -> Any:
    """The firewall in force that a person would talk to; None where there is none."""
    ufw = "/etc/ufw/ufw.conf"
    if os.path.exists(ufw) and re.search(r"^ENABLED=[\"']?yes", text_of(ufw), re.M | re.I):
        return "ufw"
    asked = ["systemctl", "is-active", "--quiet", "firewalld.service"]
    if subprocess.run(asked, capture_output=True, timeout=TIMEOUT_S, check=False).returncode == 0:
        return "firewalld"
    folders = ("/usr/sbin", "/sbin", "/usr/bin")
    tools = (
        name for name in ("iptables", "nft") for folder in folders if os.path.exists(folder + "/" + name)
    )
    return next(tools, None)


class Registries:
    """Connects to each registry, all at once and beside everything else."""

    def __init__(self, names: list[str]) -> None:
        self.answers: dict[str, Any] = dict.fromkeys(names, "no answer in %d s" % CONNECT_S)
        self.threads = [threading.Thread(target=self.connect, args=[name], daemon=True) for name in names]
        for thread in self.threads:
            thread.start()

    def connect(self, name: str) -> None:
        host, _, port = name.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
        except OSError as error:
            self.answers[name] = str(error)
        else:
            self.answers[name] = None

    def results(self) -> dict[str, str | None]:
        """What went wrong with each, or None; a name server that stays silent is not waited for."""
        deadline = time.monotonic() + CONNECT_S
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return dict(self.answers)


def probe(plan: Any) -> Any:
    """Which of the peers' ports answer from here, and which of the ports here the peers have reached."""
    if not plan["send"] and not plan["offer"]:
        return {"answered": [], "reached": [], "taken": []}
    with selectors.DefaultSelector() as selector:
        exchange = Exchange(plan, selector)
        try:
            exchange.run()
        finally:
            exchange.close()
    return {
        "answered": sorted(exchange.answered),
        "reached": sorted(exchange.reached),
        "taken": sorted(exchange.taken),
    }


class Exchange:
    """Offers ports to the peers, and calls on theirs again and again until they answer.

    Every message carries this run's own word: nobody else gets an answer. It is over when all have
    answered and all have been answered, or at the deadline.
    """

    def __init__(self, plan: Any, selector: Any) -> None:
        self.me, self.address, self.word = plan["me"], plan["address"], plan["word"]
        self.send = [tuple(item) for item in plan["send"]]
        self.expected = {(peer, port, protocol) for peer, port, protocol in plan["offer"]}
        self.selector = selector
        self.answered: set[Any] = set()
        self.reached: set[Any] = set()
        self.taken: set[Any] = set()
        self.open: dict[Any, Any] = {}
        for port, protocol in sorted({(port, protocol) for _, port, protocol in self.expected}):
            self.offer(port, protocol)

    def offer(self, port: int, protocol: str) -> None:
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        offered = socket.socket(family(self.address), kind)
        offered.setblocking(False)
        try:
            if protocol == "tcp":
                offered.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            offered.bind((self.address, port))
            if protocol == "tcp":
                offered.listen(16)
        except OSError as error:
            offered.close()
            if error.errno != errno.EADDRINUSE:
                raise
            self.taken.add((port, protocol))
            return
        answer = self.accept if protocol == "tcp" else self.answer
        self.watch(offered, selectors.EVENT_READ, lambda: answer(offered, port))

    def run(self) -> None:
        deadline = time.monotonic() + PROBE_S
        calls: float = 0.0
        while time.monotonic() < deadline and not self.over():
            if time.monotonic() >= calls:
                calls = time.monotonic() + PROBE_INTERVAL_S
                for target in self.send:
                    if target[:1] + target[2:] not in self.answered:
                        self.call(*target)
            for key, _ in self.selector.select(PROBE_INTERVAL_S):
                if key.fileobj in self.open:
                    key.data()

    def over(self) -> bool:
        targets = {(peer, port, protocol) for peer, _, port, protocol in self.send}
        return targets <= self.answered and self.expected <= self.reached

    def call(self, peer: str, address: str, port: int, protocol: str) -> None:
        """One attempt; an earlier one by TCP that still waits for its answer goes on."""
        target = (peer, port, protocol)
        if target in self.open.values():
            if protocol == "udp":
                self.hail(next(calling for calling, owner in self.open.items() if owner == target))
            return
        calling = socket.socket(
            family(address), socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        )
        calling.setblocking(False)
        try:
            calling.bind((self.address, 0))
            begun = calling.connect_ex((address, port))
        except OSError:
            calling.close()
            raise
        if begun not in (0, errno.EINPROGRESS):
            calling.close()
        elif protocol == "udp":
            self.watch(calling, selectors.EVENT_READ, lambda: self.heard(calling, target), target)
            self.hail(calling)
        else:
            self.watch(calling, selectors.EVENT_WRITE, lambda: self.connected(calling, target), target)

    def hail(self, calling: Any) -> None:
        try:
            calling.send(self.message())
        except OSError:
            return  # Refused a moment ago: the peer does not listen yet, and is called again.

    def connected(self, calling: Any, target: Any) -> None:
        """A connection that stands is the proof; the message says whose it is."""
        try:
            calling.getpeername()
            self.answered.add(target)
            self.hail(calling)
        except OSError:
            pass  # Refused: nobody listens there yet.
        finally:
            self.drop(calling)

    def heard(self, calling: Any, target: Any) -> None:
        try:
            if self.author(calling.recv(512)) == target[0]:
                self.answered.add(target)
                self.drop(calling)
        except OSError:
            return  # Nobody listens there yet.

    def accept(self, offered: Any, port: int) -> None:
        caller, _ = offered.accept()
        caller.setblocking(False)
        self.watch(caller, selectors.EVENT_READ, lambda: self.welcome(caller, port))

    def welcome(self, caller: Any, port: int) -> None:
        try:
            self.reach(self.author(caller.recv(512)), port, "tcp")
        except OSError:
            pass  # It went away before it said who it was.
        finally:
            self.drop(caller)

    def answer(self, offered: Any, port: int) -> None:
        message, sender = offered.recvfrom(512)
        if self.reach(self.author(message), port, "udp"):
            offered.sendto(self.message(), sender)

    def reach(self, peer: str | None, port: int, protocol: str) -> bool:
        known = (peer, port, protocol) in self.expected
        if known:
            self.reached.add((peer, port, protocol))
        return known

    def message(self) -> bytes:
        return ("%s %s" % (self.word, self.me)).encode()

    def author(self, message: bytes) -> str | None:
        word, _, name = message.decode(errors="replace").partition(" ")
        return name if word == self.word else None

    def watch(self, sock: Any, event: int, react: Any, owner: Any = None) -> None:
        self.open[sock] = owner
        self.selector.register(sock, event, react)

    def drop(self, sock: Any) -> None:
        self.selector.unregister(sock)
        del self.open[sock]
        sock.close()

    def close(self) -> None:
        for sock in list(self.open):
            self.drop(sock)


print(base64.b64encode(zlib.compress(json.dumps(preflight(QUERY)).encode())).decode())
