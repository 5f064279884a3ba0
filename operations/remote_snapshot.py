"""Runs on a host, from standard input of `python3 -IS -`: reads everything Cascade manages there.

Standard library of python3-minimal only. The deploying machine prepends QUERY, and PROBE where it asks for
GPUs; the answer is JSON, compressed, in base64. What is absent is None; what could not be read is
{"error": reason}.
"""

import base64
import hashlib
import json
import os
import re
import socket
import stat
import subprocess
import sys
import time
import zlib
from typing import Any
from urllib.parse import quote

QUERY = globals().get("QUERY", {})
PROBE = globals().get("PROBE", "")
SOCKET = "/run/docker.sock"
PID_FILE = "/run/docker.pid"
SWARM_STATE = "/var/lib/docker/swarm/docker-state.json"
CONFIG_FOLDER = "/var/lib/cascade/configs"
OPEN_SECRETS, SEALED_SECRETS = "/run/cascade/secrets", "/var/lib/cascade/secrets"
DAEMONS = ("/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd")
APPARMOR_SWITCH = "/sys/module/apparmor/parameters/enabled"
POLICIES = "/sys/kernel/security/apparmor/policy/profiles"
POLICY_NOTES = "/run/cascade/apparmor"
PROCESS_LABEL = "/proc/%s/attr/current"
# Of a containerd by itself, and of one that dockerd started.
CONTAINERDS = ("/run/containerd", "/run/docker/containerd/daemon")
FIRST_PROCESS = "%s/io.containerd.runtime.v2.task/moby/%s/init.pid"
TIMEOUT_S = 10
GPU_TIMEOUT_S = 20
SHOWN_BYTES = 65536
LARGEST_BYTES = 64 * 1024 * 1024
# What an answer can do to its reader that is not what its sender's manual says.
FAULTS = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
TASK_LABEL = "com.docker.swarm.task.id"
TASK_FIELDS = ("ID", "ServiceID", "NodeID", "Slot", "DesiredState", "Status")
TOOLKIT = "nvidia-container-toolkit"
GIVEN = "NVIDIA_VISIBLE_DEVICES="
NO_GPU = ("", "void", "none")
LISTED = re.compile(r"\(UUID: (GPU-[0-9a-f-]+)\)")
# NVML's own words for a GPU that is out of a container's reach. What fails otherwise says nothing of the GPU.
NVML_LOST = re.compile(
    "Failed to initialize NVML: (Unknown Error|Driver Not Loaded|Driver/library version mismatch|GPU is lost)"
    "|No devices (were )?found|Unable to determine the device handle for"
)


class Gone(ValueError):
    """What was listed a moment ago is no longer there."""


def snapshot(query: Any) -> Any:
    # It takes the longest, so it runs beside the rest.
    probe = start_probe() if query.get("gpu") else None
    return {
        "packages": guarded(read_packages, query["packages"]),
        **({"held": guarded(read_held, query["held"])} if query.get("held") else {}),
        "files": {path: guarded(read_file, path) for path in (*query["files"], *config_files())},
        "sysctls": {name: guarded(read_sysctl, name) for name in query["sysctls"]},
        **({"secret_files": guarded(read_secret_files, None)} if secret_places() else {}),
        "units": guarded(read_units, query["units"]),
        "apparmor": guarded(read_apparmor, query["profiles"]),
        "permissions": {path: guarded(read_permissions, path) for path in query["permissions"]},
        "docker": guarded(read_docker, query),
        **({"gpu": guarded(read_gpu, probe)} if probe else {}),
    }


def guarded(read: Any, argument: Any) -> Any:
    try:
        return read(argument)
    except (*FAULTS, subprocess.SubprocessError) as error:
        return {"error": "%s: %s" % (type(error).__name__, error)}


def read_packages(names: list[str]) -> dict[str, str | None]:
    """The installed version of each package, from dpkg's own database."""
    versions: dict[str, str | None] = dict.fromkeys(names)
    for name, (status, version) in entries_of(names).items():
        if status.endswith(" ok installed"):
            versions[name] = version
    return versions


def read_held(names: list[str]) -> list[str]:
    """Those of these packages that an upgrade leaves as they are."""
    return [name for name, (status, _) in entries_of(names).items() if status.startswith("hold ")]


def entries_of(names: list[str]) -> dict[str, tuple[str, str]]:
    """Status and version of those of these packages that dpkg knows."""
    found = {}
    with open("/var/lib/dpkg/status", encoding="utf-8", errors="replace") as database:
        for entry in database.read().split("\n\n"):
            fields = dict(
                line.split(": ", 1) for line in entry.splitlines() if line[:1].isalpha() and ": " in line
            )
            if fields.get("Package") in names:
                found[fields["Package"]] = (fields.get("Status", ""), fields.get("Version", ""))
    return found


def read_file(path: str) -> Any:
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            content = no_larger(file.read(LARGEST_BYTES + 1))
    except FileNotFoundError:
        return None
    told = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "mode": "%o" % stat.S_IMODE(status.st_mode),
        "changed": status.st_mtime,
    }
    if os.path.dirname(path) == CONFIG_FOLDER:
        return {**told, "content": None, "owner": str(status.st_uid), "group": str(status.st_gid)}
    return {
        **told,
        "content": content.decode() if path in QUERY["contents"] else shown(content),
        **permissions(status),
    }


def read_permissions(path: str) -> Any:
    try:
        return permissions(os.stat(path))
    except FileNotFoundError:
        return None


def permissions(status: os.stat_result) -> dict[str, str]:
    return {
        "mode": "%o" % stat.S_IMODE(status.st_mode),
        "owner": name_of("/etc/passwd", status.st_uid),
        "group": name_of("/etc/group", status.st_gid),
    }


def no_larger(content: bytes) -> bytes:
    if len(content) > LARGEST_BYTES:
        raise ValueError("more than %d bytes" % LARGEST_BYTES)
    return content


def config_files() -> list[str]:
    """What lies where host containers find their configs; Cascade's names there are plain ones."""
    found = os.listdir(CONFIG_FOLDER) if os.path.isdir(CONFIG_FOLDER) else []
    paths = [CONFIG_FOLDER + "/" + name for name in sorted(found) if name.isprintable()]
    return [path for path in paths if os.path.isfile(path)]


def secret_places() -> list[str]:
    """What lies where host containers find their secrets: the container's folder and the name in it."""
    places = set()
    for root in (OPEN_SECRETS, SEALED_SECRETS):
        for folder in os.listdir(root) if os.path.isdir(root) else ():
            inside = os.listdir(root + "/" + folder) if os.path.isdir(root + "/" + folder) else ()
            places |= {folder + "/" + name for name in inside if not name.endswith(".cascade-new")}
    return sorted(place for place in places if place.isprintable())


def read_secret_files(_nothing: Any) -> Any:
    forbid_core_dumps()
    return {place: guarded(read_secret_file, place) for place in secret_places()}


def forbid_core_dumps() -> None:
    """Of this process and those that it starts; a program that takes dumps heeds only a limit of one byte."""
    for limit in ("1:1", "0:0"):
        limiting = ["prlimit", "--pid", str(os.getpid()), "--core=" + limit]
        if subprocess.run(limiting, stderr=subprocess.DEVNULL).returncode == 0:
            return


def read_secret_file(place: str) -> Any:
    """Whether it can be unsealed, and lies open as it was sealed: of a value nothing else is told."""
    opened, sealed = OPEN_SECRETS + "/" + place, SEALED_SECRETS + "/" + place
    there = opened if os.path.exists(opened) else sealed
    status = os.stat(there)
    told = {
        "mode": "%o" % stat.S_IMODE(status.st_mode),
        "owner": str(status.st_uid),
        "group": str(status.st_gid),
    }
    if not os.path.exists(sealed):
        return {**told, "sealed": False, "in_place": False}
    name = "--name=" + os.path.basename(place)
    unsealing = ["systemd-creds", "decrypt", name, "--", sealed, "-"]
    with subprocess.Popen(unsealing, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as unsealed:
        assert unsealed.stdout
        compared = subprocess.run(["cmp", "-s", "--", "-", opened], stdin=unsealed.stdout, timeout=TIMEOUT_S)
        # Whoever is not listened to until the end fails.
        while unsealed.stdout.read(SHOWN_BYTES):
            pass
    return {**told, "sealed": unsealed.returncode == 0, "in_place": compared.returncode == 0}


def shown(content: bytes) -> str | None:
    """The text of a file, unless it is none or too long to be read by people."""
    try:
        return content.decode() if len(content) <= SHOWN_BYTES else None
    except UnicodeDecodeError:
        return None


def name_of(database: str, number: int) -> str:
    with open(database, encoding="utf-8") as lines:
        names = {fields[2]: fields[0] for fields in (line.split(":") for line in lines) if len(fields) > 2}
    return names.get(str(number), str(number))


def read_sysctl(name: str) -> str | None:
    try:
        with open("/proc/sys/" + name.replace(".", "/"), encoding="utf-8") as value:
            return " ".join(value.read().split())
    except FileNotFoundError:
        return None


def read_units(names: list[str]) -> Any:
    """Whether each unit is enabled and active, by one call; None where there is no such unit."""
    if not names:
        return {}
    shown = subprocess.run(
        ["systemctl", "show", "--property=Id,LoadState,UnitFileState,ActiveState", *names],
        capture_output=True,
        timeout=TIMEOUT_S,
        check=True,
    ).stdout.decode()
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines()) for block in shown.strip().split("\n\n")
    ]
    return {name: unit(block) for name, block in zip(names, blocks, strict=True)}


def unit(block: dict[str, str]) -> Any:
    if block["LoadState"] == "not-found":
        return None
    return {
        "enabled": block["UnitFileState"] in ("enabled", "enabled-runtime", "static", "alias"),
        "active": block["ActiveState"] in ("active", "activating", "reloading"),
        "state": block["LoadState"] + " " + block["UnitFileState"] + " " + block["ActiveState"],
    }


def read_apparmor(names: list[str]) -> Any:
    """The mode of each profile and the digest of the file that it came from; None for a kernel without them.

    A policy that somebody else has loaded since has no such file.
    """
    if not os.path.isdir(POLICIES) or line_of(APPARMOR_SWITCH) != "Y":
        return None
    folders = [POLICIES + "/" + folder for folder in sorted(os.listdir(POLICIES))]
    loaded = {line_of(folder + "/name"): folder for folder in folders}
    return {name: policy(name, loaded[name]) if name in loaded else None for name in names}


def policy(name: str, folder: str) -> Any:
    known = [line_of(folder + "/" + entry) for entry in os.listdir(folder) if entry.startswith("sha")]
    try:
        file, _, noted = line_of(POLICY_NOTES + "/" + name).partition(" ")
    except FileNotFoundError:
        file, noted = "", ""
    ours = noted == (known[0] if known else "unknown")
    return {"mode": line_of(folder + "/mode"), "file": file if ours else ""}


def line_of(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def read_docker(query: Any) -> Any:
    """Everything of the engine; None where none is or was, {"stopped": true} where it does not run.

    A connection to the socket would start a stopped engine, so its process is looked for first. An engine
    whose package was removed has left its Swarm behind, and is one of these.
    """
    if not any(os.path.exists(path) for path in (*DAEMONS, SWARM_STATE)):
        return None
    if not running():
        return {"stopped": True}
    info = get("/info")
    images = get("/images/json")
    ours = get("/containers/json?all=1&filters=" + labelled(query["label"]))
    confining = "name=apparmor" in (info.get("SecurityOptions") or [])
    reply = {
        "api": get("/version")["ApiVersion"],
        "started": started(),
        "swarm": info["Swarm"],
        "apparmor": confining,
        "unconfined": unconfined(ours) if confining else [],
        "images": [
            {"Id": image["Id"], "RepoDigests": image.get("RepoDigests") or [], "Size": image["Size"]}
            for image in images
        ],
        "volumes": [owned(volume) for volume in get("/volumes")["Volumes"] or []],
        "containers": read_containers(query, ours),
    }
    if info["Swarm"].get("ControlAvailable"):
        reply.update(read_manager(query))
    return reply


def owned(volume: Any) -> Any:
    """A volume with the owner of what is in it, by number: its root's."""
    owner = guarded(owner_of, volume["Mountpoint"])
    told = {"Owner": owner} if isinstance(owner, str) else {"Owner": None, "Fault": owner["error"]}
    return {**volume, **told}


def owner_of(path: str) -> str:
    status = os.stat(path)
    return "%d:%d" % (status.st_uid, status.st_gid)


def running() -> bool:
    try:
        with open(PID_FILE, encoding="utf-8") as pid:
            return os.path.exists("/proc/" + pid.read().strip())
    except FileNotFoundError:
        return False


def started() -> float:
    return os.stat(PID_FILE).st_mtime


def start_probe() -> "subprocess.Popen[bytes]":
    """What the driver says is asked by a process of its own, which nobody waits for that has asked enough."""
    with open(os.memfd_create("probe"), "w+b") as script:
        script.write(zlib.decompress(base64.b64decode(PROBE)))
        script.seek(0)
        return subprocess.Popen(
            [sys.executable, "-IS", "-"], stdin=script, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )


def read_gpu(probe: "subprocess.Popen[bytes]") -> Any:
    """What the driver and the library say, the toolkit's version, and what containers see of their GPUs."""
    try:
        answer, said = probe.communicate(timeout=GPU_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        # It is not waited for: whoever hangs in the kernel cannot be killed.
        probe.kill()
        raise TimeoutError("NVIDIA's library did not answer within %d s" % GPU_TIMEOUT_S) from None
    if probe.returncode:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise ValueError("NVIDIA's library ended its asker with %d: %s" % (probe.returncode, last))
    told = json.loads(answer)
    sees = read_sight() if told["nvml"] == "ok" and running() else {}
    return {**told, "toolkit": read_packages([TOOLKIT])[TOOLKIT], "containers": sees}


def read_sight() -> dict[str, str]:
    """What each running container of the system that was given a GPU sees; all are asked at the same time."""
    until = time.monotonic() + TIMEOUT_S
    given = {}
    for item in get("/containers/json?filters=" + labelled(QUERY["label"])):
        try:
            environment = get("/containers/%s/json" % item["Id"])["Config"]["Env"] or []
        except Gone:
            continue
        devices = [entry[len(GIVEN) :] for entry in environment if entry.startswith(GIVEN)]
        if devices and devices[-1] not in NO_GPU:
            given[item["Id"]] = devices[-1]
    looks = {container: guarded(begin_look, container) for container in given}
    seen = {container: guarded(end_look, (look, until)) for container, look in looks.items()}
    return {container: sight(given[container], seen[container]) for container in given}


def begin_look(container: str) -> Any:
    """An `nvidia-smi -L` inside, by its number, and the connection on which it answers."""
    command = {"AttachStdout": True, "AttachStderr": True, "Tty": True, "Cmd": ["nvidia-smi", "-L"]}
    path = "/containers/%s/exec" % container
    number = json.loads(answered("POST " + path, ask("POST", path, command)))["Id"]
    return number, ask("POST", "/exec/%s/start" % number, {"Detach": False, "Tty": True})


def end_look(look: Any) -> Any:
    """How it ended, and what it said."""
    begun, until = look
    if isinstance(begun, dict):
        raise ValueError(begun["error"])
    number, connection = begun
    connection.settimeout(max(0.1, until - time.monotonic()))
    said = answered("nvidia-smi -L", connection).decode(errors="replace")
    return get("/exec/%s/json" % number)["ExitCode"], " ".join(said.split())


def sight(given: str, seen: Any) -> str:
    """In a word, with what was said: `ok`, `lost` or, where it could not be asked, `unknown`."""
    if isinstance(seen, dict):
        return "unknown: %s" % seen["error"]
    code, said = seen
    if NVML_LOST.search(said):
        return "lost: %s" % said
    visible = sorted(LISTED.findall(said))
    if code or not visible:
        return "unknown: nvidia-smi ended with %s: %s" % (code, said or "it said nothing")
    wanted = sorted(name.strip() for name in given.split(",") if name.strip().startswith("GPU-"))
    # The beginning of a UUID names it too.
    same = len(wanted) == len(visible) and all(map(str.startswith, visible, wanted))
    if wanted and not same:
        return "lost: it sees %s, and was given %s" % (", ".join(visible), ", ".join(wanted))
    return "ok"


def labelled(label: str) -> str:
    return quote(json.dumps({"label": [label]}))


def unconfined(containers: list[Any]) -> list[str]:
    """Those that run and that no AppArmor profile confines: one that is taken away lets its processes go."""
    running = [item["Id"] for item in containers if item["State"] == "running"]
    return [name for name in running if confinement_of(name) == "unconfined"]


def confinement_of(container: str) -> str | None:
    """The profile of a container's first process; none where it has ended since."""
    try:
        return line_of(PROCESS_LABEL % first_process(container))
    except (Gone, FileNotFoundError, ProcessLookupError):
        return None


def first_process(container: str) -> str:
    """The number that containerd wrote down, or else the engine's, which takes longer to say it."""
    for path in (FIRST_PROCESS % (root, container) for root in CONTAINERDS):
        if os.path.exists(path):
            return line_of(path)
    return str(get("/containers/%s/json" % container)["State"]["Pid"])


def read_containers(query: Any, ours: list[Any]) -> list[Any]:
    """Host containers, by label or name, with their images' settings; Swarm tasks stand in the tasks."""
    listed = list(ours)
    if query["containers"]:
        named = json.dumps({"name": ["^/%s$" % name for name in query["containers"]]})
        listed += get("/containers/json?all=1&filters=" + quote(named))
    by_id = {item["Id"]: item for item in listed}
    alone = [item for item in by_id.values() if TASK_LABEL not in item["Labels"]]
    images: dict[str, Any] = {}
    found = []
    for item in alone:
        try:
            container = get("/containers/%s/json" % item["Id"])
        except Gone:
            continue
        image = container["Image"]
        images[image] = images.get(image) or read_image(image)
        found.append({"container": container, "image": images[image]})
    return found


def read_image(image: str) -> Any:
    """An image's settings; none where it was removed under its containers."""
    try:
        return get("/images/%s/json" % image)["Config"]
    except Gone:
        return {}


def read_manager(query: Any) -> Any:
    cluster = get("/swarm")
    return {
        "cluster": {name: cluster.get(name) for name in ("ID", "DefaultAddrPool", "SubnetSize")},
        "nodes": get("/nodes"),
        "networks": [network for network in get("/networks") if network["Scope"] == "swarm"],
        "services": get("/services"),
        **read_configs(query),
        "secrets": read_secrets(query),
        "tasks": read_tasks({"_up-to-date": ["true"], "desired-state": ["running"]}),
        "running": read_tasks({"desired-state": ["running"]}),
    }


def read_tasks(filters: Any) -> Any:
    tasks = get("/tasks?filters=" + quote(json.dumps(filters)))
    return [{name: task.get(name) for name in TASK_FIELDS} for task in tasks]


def read_configs(query: Any) -> Any:
    """Configs, by label or name, without their data, and the release that is asked for with it."""
    label, _, system = query["label"].partition("=")
    known = get("/configs")
    known.sort(key=lambda config: config["Spec"]["Name"])
    for config in known:
        config["Spec"]["Labels"] = config["Spec"].get("Labels") or {}
    ours = [config for config in known if config["Spec"]["Labels"].get(label) == system]
    found = [config for config in known if config in ours or config["Spec"]["Name"] in query["configs"]]
    number = query["release_label"]
    releases = [config for config in ours if is_number(config["Spec"]["Labels"].get(number, ""))]
    return {
        "configs": [
            {
                "ID": config["ID"],
                "Name": config["Spec"]["Name"],
                "Labels": config["Spec"]["Labels"],
                "sha256": hashlib.sha256(base64.b64decode(config["Spec"]["Data"])).hexdigest(),
            }
            for config in found
        ],
        "release": asked_release(releases, query["release"], number),
    }


def read_secrets(query: Any) -> Any:
    """Secrets, by label or name; the engine tells nobody their values."""
    label, _, system = query["label"].partition("=")
    found = [
        {"ID": secret["ID"], "Name": secret["Spec"]["Name"], "Labels": secret["Spec"].get("Labels") or {}}
        for secret in get("/secrets")
    ]
    found.sort(key=lambda secret: secret["Name"])
    return [
        secret
        for secret in found
        if secret["Labels"].get(label) == system or secret["Name"] in query["secrets"]
    ]


def is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def asked_release(releases: list[Any], asked: str | None, label: str) -> Any:
    """The last release, the one before it, or the one of a number, with its data; None where it is not."""
    by_place = {"last": releases[-1:], "previous": releases[-2:-1]}
    by_number = [config for config in releases if config["Spec"]["Labels"][label] == asked]
    for config in by_place.get(asked or "", by_number):
        return {"Labels": config["Spec"]["Labels"], "Data": config["Spec"]["Data"]}
    return None


def get(path: str) -> Any:
    return json.loads(answered("GET " + path, ask("GET", path)))


def ask(method: str, path: str, body: Any = None) -> socket.socket:
    """One call over the engine's socket, in HTTP/1.0: python3-minimal has no http module."""
    content = b"" if body is None else json.dumps(body).encode()
    head = "%s %s HTTP/1.0\r\nHost: docker\r\n" % (method, path)
    if body is not None:
        head += "Content-Type: application/json\r\nContent-Length: %d\r\n" % len(content)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(TIMEOUT_S)
    connection.connect(SOCKET)
    connection.sendall(head.encode() + b"\r\n" + content)
    return connection


def answered(call: str, connection: socket.socket) -> bytes:
    """What the engine says to a call; raises Gone for what is not there, ValueError where it refuses."""
    with connection, connection.makefile("rb") as answer:
        reply = no_larger(answer.read(LARGEST_BYTES + 1))
    head, _, body = reply.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1."):
        raise ValueError("%s was answered by something that speaks no HTTP" % call)
    status = int(head.split(None, 2)[1])
    if status == 404:
        raise Gone(call)
    if not 200 <= status < 300:
        raise ValueError("%s answered %d: %s" % (call, status, body.decode(errors="replace").strip()))
    return body


print(base64.b64encode(zlib.compress(json.dumps(snapshot(QUERY)).encode())).decode())
