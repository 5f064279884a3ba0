"""What a host says of itself: the script as hosts run it, on this machine."""

from __future__ import annotations

import base64
import grp
import hashlib
import json
import os
import pwd
import socket
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cascade.model.fleet import Fleet
from cascade.planning.desired import (
    CONFINEMENT_FILES,
    CONFINEMENT_PACKAGE,
    CONFINEMENT_UNIT,
    DAEMON_SETTINGS,
    JOURNAL_SETTINGS,
    LOCK_FILE,
    PERMISSIONS,
    SETTINGS_STAMP,
    SYSCTL_FILE,
    Desired,
    desired,
)
from cascade.planning.plan import make_plan
from cascade.planning.resource import Key, Kind
from cascade.planning.target import target_of
from cascade.planning.waves import rollout_order
from operations.snapshot import query_for
from tests.operations.engine import Engine

SCRIPT = Path(__file__).parents[2] / "operations" / "remote_snapshot.py"
HOST = "here"

Answers = dict[str, Any]
Read = Callable[..., dict[str, Any]]


def of(kind: Kind, name: str, host: str = HOST) -> Desired:
    """Something to look for."""
    return Desired("system", Key(host, kind, name), {})


def run_script(query: dict[str, Any], dpkg_status: Path | None = None, **constants: Any) -> dict[str, Any]:
    """What the script prints, run as a host runs it; constants of the script may be others."""
    text = SCRIPT.read_text()
    for name, value in constants.items():
        (line,) = (line for line in text.splitlines() if line.startswith(f"{name} = "))
        text = text.replace(f"\n{line}\n", f"\n{name} = {value!r}\n")
    if dpkg_status:
        assert text.count('"/var/lib/dpkg/status"') == 1
        text = text.replace('"/var/lib/dpkg/status"', repr(str(dpkg_status)))
    done = subprocess.run(
        [sys.executable, "-IS", "-"],
        input=f"import json\nQUERY = json.loads({json.dumps(query)!r})\n{text}",
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(zlib.decompress(base64.b64decode(done.stdout))))


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads things of this machine, as if it had no Docker."""

    def read(*wanted: Desired, contents: tuple[str, ...] = (), **constants: Any) -> dict[str, Any]:
        query = query_for(HOST, wanted, "cascade")
        query["contents"] += contents
        return run_script(query, **{"DAEMONS": (str(tmp_path / "no-dockerd"),), **constants})

    return read


def test_a_query_names_what_is_wanted_on_its_host_and_nothing_else(fleet: Fleet) -> None:
    query = query_for("pc2", desired(fleet, rollout_order(fleet)), "cascade")
    host = fleet.hosts["pc2"]
    assert query == {
        "packages": [*host.packages, CONFINEMENT_PACKAGE, "docker.io", "docker-cli"],
        "sysctls": [*host.sysctls],
        "files": [
            SYSCTL_FILE,
            JOURNAL_SETTINGS,
            "/etc/apparmor.d/docker-default",
            *CONFINEMENT_FILES,
            DAEMON_SETTINGS,
            SETTINGS_STAMP,
            LOCK_FILE,
        ],
        "contents": [DAEMON_SETTINGS, SETTINGS_STAMP, LOCK_FILE],
        "units": [CONFINEMENT_UNIT, "docker.service"],
        "profiles": ["docker-default"],
        "permissions": [*PERMISSIONS],
        "containers": [],
        "configs": [],
        "secrets": [],
        "label": "cascade.system=cascade",
        "release_label": "cascade.release",
        "release": None,
    }
    assert query_for("mainpc", (), "cascade", "previous")["release"] == "previous"
    assert query_for("elsewhere", (of("package", "curl"),), "cascade")["packages"] == []


def test_a_host_tells_its_config_files_by_digest_with_owners_by_number(read: Read, tmp_path: Path) -> None:
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "kept").write_text("red")
    (folder / "stray").write_bytes(b"\xff")
    (folder / "sub").mkdir()
    for name in (b"\xff", b"a\x1b[2J"):
        Path(os.fsdecode(bytes(folder) + b"/" + name)).write_text("of nobody")
    found = read(
        of("file", str(folder / "kept")), of("file", str(folder / "gone")), CONFIG_FOLDER=str(folder)
    )["files"]
    kept = found[str(folder / "kept")]
    assert (kept["sha256"], kept["content"]) == (hashlib.sha256(b"red").hexdigest(), None)
    assert (kept["owner"], kept["group"]) == (str(os.getuid()), str(os.getgid()))
    assert found[str(folder / "stray")]["sha256"] == hashlib.sha256(b"\xff").hexdigest()
    assert found[str(folder / "gone")] is None
    assert {path for path in found if path.startswith(str(folder))} == {
        str(folder / name) for name in ("kept", "stray", "gone")
    }


def test_what_is_absent_is_none(read: Read) -> None:
    found = read(
        of("package", "no-such-package"),
        of("file", "/no/such/file"),
        of("sysctl", "net.no.such_setting"),
    )
    assert found["packages"] == {"no-such-package": None}
    assert found["files"]["/no/such/file"] is None
    assert found["sysctls"] == {"net.no.such_setting": None}
    assert found["units"] == {}
    assert found["docker"] is None


@pytest.mark.skipif(not Path("/var/lib/dpkg/status").exists(), reason="no dpkg here")
def test_an_installed_package_has_its_version(read: Read) -> None:
    version = subprocess.run(
        ["dpkg-query", "-f", "${Version}", "-W", "dpkg"], capture_output=True, text=True, check=True
    ).stdout
    assert read(of("package", "dpkg"))["packages"] == {"dpkg": version}


DPKG_STATUS = """\
Package: installed
Status: install ok installed
Version: 1:2.3-4

Package: removed
Status: deinstall ok config-files
Version: 1.0
Conffiles:
 /etc/removed.conf 0123456789abcdef

Package: broken
Status: install ok half-configured
Version: 1.0

Package: held
Status: hold ok installed
Version: 2.0
Description: a package
 Package: curl
"""


def test_a_host_without_dpkg_is_read_but_for_its_packages(tmp_path: Path, read: Read) -> None:
    found = read(of("package", "curl"), of("file", "/no/such/file"), dpkg_status=tmp_path / "none")
    assert found["packages"].keys() == {"error"}
    assert found["files"]["/no/such/file"] is None


def test_only_a_package_that_is_whole_is_installed(tmp_path: Path, read: Read) -> None:
    database = tmp_path / "status"
    # A maintainer's name of long ago.
    database.write_bytes(b"Maintainer: J\xf6rg\n\n" + DPKG_STATUS.encode())
    names = ("installed", "removed", "broken", "held", "curl")
    assert read(*(of("package", name) for name in names), dpkg_status=database)["packages"] == {
        "installed": "1:2.3-4",
        "removed": None,
        "broken": None,
        "held": "2.0",
        "curl": None,
    }


@pytest.mark.parametrize(
    "name", ["kernel.ostype", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports"]
)
def test_a_kernel_setting_reads_as_words(name: str, read: Read) -> None:
    path = Path("/proc/sys", *name.split("."))
    assert read(of("sysctl", name))["sysctls"] == {name: " ".join(path.read_text().split())}


@pytest.mark.parametrize("mode", ["644", "600", "4755"])
def test_a_file_is_its_digest_its_mode_and_its_owners(mode: str, tmp_path: Path, read: Read) -> None:
    file = tmp_path / "a file; with 'quotes'"
    file.write_bytes(b"a\0\xff\n")
    file.chmod(int(mode, 8))
    assert read(of("file", str(file)))["files"][str(file)] == {
        "sha256": hashlib.sha256(b"a\0\xff\n").hexdigest(),
        "content": None,
        "mode": mode,
        "owner": pwd.getpwuid(os.geteuid()).pw_name,
        "group": grp.getgrgid(file.stat().st_gid).gr_name,
        "changed": file.stat().st_mtime,
    }


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a: \xc3\xa4\n", "a: ä\n"),
        (b"", ""),
        (b"\xff", None),
        (b"x" * 65536, "x" * 65536),
        (b"x" * 65537, None),
    ],
    ids=["text", "nothing", "no text", "much", "too much"],
)
def test_what_people_can_read_is_told_and_the_rest_goes_by_its_digest(
    content: bytes, told: str | None, tmp_path: Path, read: Read
) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_bytes(content)
    other.write_text("a planted secret")
    found = read(of("file", str(file)))
    assert found["files"][str(file)]["content"] == told
    assert found["files"][str(file)]["sha256"] == hashlib.sha256(content).hexdigest()
    assert "a planted secret" not in json.dumps(found)


def test_settings_are_told_whole(tmp_path: Path, read: Read) -> None:
    settings = tmp_path / "settings"
    settings.write_text("x" * 65537)
    found = read(of("file", str(settings)), contents=(str(settings),))
    assert found["files"][str(settings)]["content"] == "x" * 65537


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_an_owner_without_a_name_is_a_number(tmp_path: Path, read: Read) -> None:
    file = tmp_path / "file"
    file.touch()
    os.chown(file, 54321, 54322)
    found = read(of("file", str(file)))["files"][str(file)]
    assert (found["owner"], found["group"]) == ("54321", "54322")


def test_what_cannot_be_read_says_why_and_leaves_the_rest_alone(tmp_path: Path, read: Read) -> None:
    loop, binary, good = tmp_path / "loop", tmp_path / "binary", tmp_path / "good"
    loop.symlink_to(loop)
    binary.write_bytes(b"\xff")
    good.write_text("good")
    found = read(
        *(of("file", str(path)) for path in (loop, tmp_path, binary, good)),
        of("sysctl", "net.ipv4"),
        contents=(str(binary),),
    )
    errors = {name: found["files"][str(name)]["error"] for name in (loop, tmp_path, binary)}
    assert errors[loop].startswith("OSError: ")
    assert errors[tmp_path].startswith("IsADirectoryError: ")
    assert errors[binary].startswith("UnicodeDecodeError: ")
    assert found["sysctls"]["net.ipv4"]["error"].startswith("IsADirectoryError: ")
    assert found["files"][str(good)]["mode"]


SHOWN = {
    "enabled and active": ("loaded", "enabled", "active", True, True),
    "enabled and stopped": ("loaded", "enabled", "inactive", True, False),
    "enabled and failed": ("loaded", "enabled", "failed", True, False),
    "starting": ("loaded", "enabled", "activating", True, True),
    "stopping": ("loaded", "enabled", "deactivating", True, False),
    "disabled and active": ("loaded", "disabled", "active", False, True),
    "masked": ("masked", "masked", "inactive", False, False),
    "static": ("loaded", "static", "inactive", True, False),
    "enabled until the next boot": ("loaded", "enabled-runtime", "active", True, True),
}


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts another systemctl first: a shell script."""

    def install(script: str) -> None:
        program = tmp_path / "bin" / "systemctl"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)

    return install


def test_units_are_read_by_one_call_in_the_order_asked(
    read: Read, systemctl: Callable[[str], None], tmp_path: Path
) -> None:
    blocks = [
        f"Id={name}\nLoadState={load}\nUnitFileState={file}\nActiveState={active}"
        for name, (load, file, active, _, _) in SHOWN.items()
    ]
    blocks.insert(1, "Id=gone.service\nLoadState=not-found\nUnitFileState=\nActiveState=inactive")
    (tmp_path / "shown").write_text("\n\n".join(blocks) + "\n")
    systemctl(f"echo called >> {tmp_path}/calls; cat {tmp_path}/shown")
    names = list(SHOWN)
    names.insert(1, "gone.service")
    units = read(*(of("unit", name) for name in names))["units"]
    assert units.pop("gone.service") is None
    assert {name: (unit["enabled"], unit["active"]) for name, unit in units.items()} == {
        name: shown[3:] for name, shown in SHOWN.items()
    }
    assert units["masked"]["state"] == "masked masked inactive"
    assert (tmp_path / "calls").read_text() == "called\n"


ONE_UNIT = "echo Id=a; echo LoadState=loaded; echo UnitFileState=enabled; echo ActiveState=active"


@pytest.mark.parametrize(
    "script", [f"{ONE_UNIT}; echo; {ONE_UNIT}; exit 1", ONE_UNIT, "exit 0", "echo nothing of use"]
)
def test_units_that_cannot_be_read_are_an_error(
    script: str, read: Read, systemctl: Callable[[str], None]
) -> None:
    systemctl(script)
    assert set(read(of("unit", "a"), of("unit", "b"))["units"]) == {"error"}


ID = "sha256:" + "1" * 64
TASKS_FILTER = (
    "%7B%22_up-to-date%22%3A%20%5B%22true%22%5D%2C%20%22desired-state%22%3A%20%5B%22running%22%5D%7D"
)
RUNNING_FILTER = "%7B%22desired-state%22%3A%20%5B%22running%22%5D%7D"
CONTAINERS = "/containers/json?all=1&filters=%7B%22label%22%3A%20%5B%22cascade.system%3Dcascade%22%5D%7D"
WORKER: Answers = {
    "/info": {
        "Swarm": {"NodeID": "n1", "ControlAvailable": False},
        "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin"],
    },
    "/images/json": [{"Id": ID, "RepoDigests": None, "Size": 1}],
    "/version": {"ApiVersion": "1.45"},
    "/volumes": {"Volumes": None},
    CONTAINERS: [
        {"Id": "c1", "Labels": {"cascade.system": "cascade"}, "State": "exited"},
        {"Id": "c2", "Labels": {"com.docker.swarm.task.id": "t1"}, "State": "exited"},
    ],
    "/containers/c1/json": {"Id": "c1", "Name": "/alone", "Image": ID},
    f"/images/{ID}/json": {"Id": ID, "Config": {"Env": ["PATH=/bin"]}},
}
MANAGER: Answers = WORKER | {
    "/info": {"Swarm": {"NodeID": "n1", "ControlAvailable": True}},
    "/swarm": {
        "ID": "s1",
        "DefaultAddrPool": ["10.201.0.0/16"],
        "SubnetSize": 24,
        "JoinTokens": {"Worker": "SWMTKN-planted", "Manager": "SWMTKN-planted"},
    },
    "/nodes": [{"ID": "n1"}],
    "/networks": [{"Name": "bridge", "Scope": "local"}, {"Name": "ours", "Scope": "swarm"}],
    "/services": [{"ID": "s1", "Spec": {"Name": "a"}}],
    "/configs": [],
    "/secrets": [],
    f"/tasks?filters={TASKS_FILTER}": [{"ID": "t1", "Slot": 1, "Spec": {"Env": ["PASSWORD=planted"]}}],
    f"/tasks?filters={RUNNING_FILTER}": [{"ID": "t0", "Slot": 1, "Spec": {"Env": ["PASSWORD=planted"]}}],
}


@pytest.fixture
def read_engine(engine: Engine, tmp_path: Path) -> Read:
    """Reads the engine on that socket; its process is this one."""
    (tmp_path / "docker.pid").write_text(f"{os.getpid()}\n")

    def read(release: str | None = None, *wanted: Desired, **constants: Any) -> dict[str, Any]:
        paths = {
            "SOCKET": str(engine.path),
            "PID_FILE": str(tmp_path / "docker.pid"),
            "DAEMONS": (sys.executable,),
        }
        query = query_for(HOST, wanted, "cascade", release)
        return dict(run_script(query, **(paths | constants))["docker"])

    return read


def test_a_worker_tells_what_its_engine_holds(engine: Engine, read_engine: Read, tmp_path: Path) -> None:
    engine.answers = WORKER
    assert read_engine() == {
        "api": "1.45",
        "started": (tmp_path / "docker.pid").stat().st_mtime,
        "swarm": {"NodeID": "n1", "ControlAvailable": False},
        "apparmor": True,
        "unconfined": [],
        "images": [{"Id": ID, "RepoDigests": [], "Size": 1}],
        "volumes": [],
        "containers": [
            {"container": WORKER["/containers/c1/json"], "image": {"Env": ["PATH=/bin"]}},
        ],
    }
    assert len({call.path for call in engine.asked}) == len(engine.asked) == 7


def test_a_manager_tells_the_swarm_too_without_its_secrets(engine: Engine, read_engine: Read) -> None:
    engine.answers = MANAGER
    found = read_engine()
    assert found["cluster"] == {"ID": "s1", "DefaultAddrPool": ["10.201.0.0/16"], "SubnetSize": 24}
    assert [network["Name"] for network in found["networks"]] == ["ours"]
    assert (found["nodes"], found["services"]) == (MANAGER["/nodes"], MANAGER["/services"])
    assert [task["ID"] for task in (*found["tasks"], *found["running"])] == ["t1", "t0"]
    assert "planted" not in json.dumps(found)


def config(name: str, content: str = "planted", **labels: str) -> dict[str, Any]:
    """A config as the engine lists it."""
    data = base64.b64encode(content.encode()).decode()
    said = {f"cascade.{label}": text for label, text in labels.items()}
    return {"ID": f"id of {name}", "Spec": {"Name": name, "Labels": said or None, "Data": data}}


def release(number: str, system: str = "cascade") -> dict[str, Any]:
    name = f"cascade-release-{system}-{number:>06}"
    return config(name, f"all of {number}", system=system, release=number)


def test_configs_are_told_by_their_digest_and_never_by_what_they_hold(
    engine: Engine, read_engine: Read
) -> None:
    engine.answers = MANAGER | {
        "/configs": [
            config("own_settings", system="cascade", config="settings"),
            config("nobodys"),
            config("anothers", system="another"),
            config("unlabelled"),
        ]
    }
    found = read_engine(None, of("config", "unlabelled"), of("config", "not-there"))
    digest = hashlib.sha256(b"planted").hexdigest()
    ours = {"cascade.system": "cascade", "cascade.config": "settings"}
    assert found["configs"] == [
        {"ID": "id of own_settings", "Name": "own_settings", "Labels": ours, "sha256": digest},
        {"ID": "id of unlabelled", "Name": "unlabelled", "Labels": {}, "sha256": digest},
    ]
    assert found["release"] is None
    assert "planted" not in json.dumps(found)
    assert base64.b64encode(b"planted").decode() not in json.dumps(found)


def test_secrets_are_told_by_name_and_labels(engine: Engine, read_engine: Read) -> None:
    labels = {"cascade.system": "cascade", "cascade.secret": "key"}
    listed = {
        "cascade_key-0": labels,
        "anothers": {"cascade.system": "another"},
        "unlabelled": None,
        "nobodys": None,
    }
    engine.answers = MANAGER | {
        "/secrets": [
            {"ID": f"id of {name}", "Spec": {"Name": name, "Labels": said}} for name, said in listed.items()
        ]
    }
    found = read_engine(None, of("secret", "unlabelled"), of("secret", "not-there"))
    assert found["secrets"] == [
        {"ID": "id of cascade_key-0", "Name": "cascade_key-0", "Labels": labels},
        {"ID": "id of unlabelled", "Name": "unlabelled", "Labels": {}},
    ]


RELEASES = [
    release("12"),
    release("2"),
    release("10"),
    release("99", system="another"),
    config("by-hand", "all of newest", system="cascade", release="newest"),
    config("far", "all of too many", system="cascade", release="9" * 10),
]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("last", "12"),
        ("previous", "10"),
        ("2", "2"),
        ("10", "10"),
        ("3", None),
        ("99", None),
        ("newest", None),
        (None, None),
    ],
)
def test_a_manager_tells_the_release_that_it_is_asked_for_and_no_other(
    asked: str | None, told: str | None, engine: Engine, read_engine: Read
) -> None:
    engine.answers = MANAGER | {"/configs": RELEASES}
    found = read_engine(asked)
    spec = release(told)["Spec"] if told else None
    assert found["release"] == (spec and {"Labels": spec["Labels"], "Data": spec["Data"]})
    assert len(found["configs"]) == 5


@pytest.mark.parametrize(("asked", "told"), [("last", "1"), ("previous", None)])
def test_before_the_first_release_there_is_none(
    asked: str, told: str | None, engine: Engine, read_engine: Read
) -> None:
    engine.answers = MANAGER | {"/configs": [release("1")]}
    found = read_engine(asked)["release"]
    assert (found and found["Labels"]["cascade.release"]) == told
    engine.answers = MANAGER
    assert read_engine(asked)["release"] is None


def test_a_container_that_went_while_it_was_asked_for_is_absent(engine: Engine, read_engine: Read) -> None:
    engine.answers = {path: answer for path, answer in WORKER.items() if path != "/containers/c1/json"}
    assert read_engine()["containers"] == []


def test_a_container_whose_image_was_removed_is_still_there(engine: Engine, read_engine: Read) -> None:
    engine.answers = {path: answer for path, answer in WORKER.items() if path != f"/images/{ID}/json"}
    found = read_engine()
    assert "error" in found or found["containers"]


REFUSAL = b'HTTP/1.0 500 Internal Server Error\r\n\r\n{"message": "disk is full"}'
NO_ENGINE = {"refuses": REFUSAL, "talks nonsense": b"HTTP/1.0 200 OK\r\n\r\n<html>"}
NO_HTTP = {"hangs up": b"", "speaks another protocol": b"SSH-2.0-OpenSSH_10.0\r\n"}


@pytest.mark.parametrize("answer", NO_ENGINE.values(), ids=NO_ENGINE.keys())
def test_an_engine_that_answers_badly_is_an_error_and_never_empty(
    answer: bytes, engine: Engine, read_engine: Read
) -> None:
    engine.answers = WORKER | {"/volumes": answer}
    assert set(read_engine()) == {"error"}


def test_an_engines_own_reason_is_passed_on(engine: Engine, read_engine: Read) -> None:
    engine.answers = WORKER | {"/volumes": REFUSAL}
    assert read_engine()["error"] == ('ValueError: GET /volumes answered 500: {"message": "disk is full"}')


@pytest.mark.parametrize("answer", NO_HTTP.values(), ids=NO_HTTP.keys())
def test_an_engine_that_speaks_no_http_is_an_error(answer: bytes, engine: Engine, read_engine: Read) -> None:
    engine.answers = WORKER | {"/volumes": answer}
    assert set(read_engine()) == {"error"}


def test_an_engine_that_stays_silent_is_an_error(tmp_path: Path, read_engine: Read) -> None:
    silent = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(silent))
        listener.listen()
        assert read_engine(SOCKET=str(silent), TIMEOUT_S=0.1)["error"].startswith("TimeoutError")


def test_a_socket_that_refuses_is_an_error(tmp_path: Path, read_engine: Read) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "dead.sock"))
    assert read_engine(SOCKET=str(tmp_path / "dead.sock"))["error"].startswith("ConnectionRefusedError")


@pytest.mark.parametrize("process", ["4194305", None], ids=["gone", "never written"])
def test_an_engine_without_its_process_is_stopped_and_not_spoken_to(
    process: str | None, engine: Engine, read_engine: Read, tmp_path: Path
) -> None:
    engine.answers = WORKER
    if process:
        (tmp_path / "docker.pid").write_text(process)
    else:
        (tmp_path / "docker.pid").unlink()
    assert read_engine() == {"stopped": True}
    assert engine.asked == []


def test_a_plan_can_be_made_of_what_this_machine_says(fleet: Fleet, bare: dict[str, Any], read: Read) -> None:
    wanted = [
        Desired(item.stage, Key(HOST, item.key.kind, item.key.name), item.fields)
        for item in desired(fleet, rollout_order(fleet))
        if item.key.host == "pc2" and item.key.kind != "unit"
    ]
    plan = make_plan(target_of(fleet), bare | {"pc2": read(*wanted)})
    assert plan.unknown == ()


class Kernel:
    """What a kernel with AppArmor shows, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.policies, self.notes, self.switch = (folder / name for name in ("policies", "notes", "enabled"))
        self.policies.mkdir()
        self.notes.mkdir()
        self.switch.write_text("Y\n")

    def load(self, name: str, digest: str, noted: str = "", mode: str = "enforce") -> None:
        folder = self.policies / f"{name}.{len(list(self.policies.iterdir()))}"
        folder.mkdir()
        for file, text in (("name", name), ("mode", mode), ("sha256", digest)):
            (folder / file).write_text(f"{text}\n")
        if noted:
            (self.notes / name).write_text(f"{noted}\n")

    @property
    def constants(self) -> dict[str, Any]:
        return {
            "APPARMOR_SWITCH": str(self.switch),
            "POLICIES": str(self.policies),
            "POLICY_NOTES": str(self.notes),
        }


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def asked(read: Read, kernel: Kernel, *names: str) -> Any:
    return read(*(of("apparmor", name) for name in names), **kernel.constants)["apparmor"]


def test_a_host_tells_the_mode_of_each_profile_and_the_file_it_came_from(read: Read, kernel: Kernel) -> None:
    kernel.load("docker-default", "aa", noted="f1 aa")
    kernel.load("cascade.alpha", "bb", noted="f2 bb", mode="complain")
    kernel.load("of-others", "cc")
    assert asked(read, kernel, "docker-default", "cascade.alpha", "cascade.gone") == {
        "docker-default": {"mode": "enforce", "file": "f1"},
        "cascade.alpha": {"mode": "complain", "file": "f2"},
        "cascade.gone": None,
    }


@pytest.mark.parametrize("noted", ["", "f1 bb"])
def test_a_policy_that_somebody_else_has_loaded_came_from_no_file(
    read: Read, kernel: Kernel, noted: str
) -> None:
    kernel.load("docker-default", "aa", noted=noted)
    assert asked(read, kernel, "docker-default")["docker-default"]["file"] == ""


def test_a_kernel_that_tells_no_digests_is_believed(read: Read, kernel: Kernel) -> None:
    kernel.load("docker-default", "aa", noted="f1 unknown")
    (kernel.policies / "docker-default.0" / "sha256").unlink()
    assert asked(read, kernel, "docker-default")["docker-default"]["file"] == "f1"


def test_a_kernel_without_apparmor_says_so(read: Read, kernel: Kernel) -> None:
    kernel.load("docker-default", "aa")
    kernel.switch.write_text("N\n")
    assert asked(read, kernel, "docker-default") is None
    kernel.switch.write_text("Y\n")
    kernel.policies.rename(kernel.policies.with_name("elsewhere"))
    assert asked(read, kernel, "docker-default") is None


def test_a_policy_that_cannot_be_read_is_an_error(read: Read, kernel: Kernel) -> None:
    kernel.load("docker-default", "aa")
    (kernel.policies / "docker-default.0" / "mode").unlink()
    assert "FileNotFoundError" in asked(read, kernel, "docker-default")["error"]


def running(*names: str) -> list[dict[str, Any]]:
    return [{"Id": name, "Labels": {"com.docker.swarm.task.id": name}, "State": "running"} for name in names]


@pytest.fixture
def processes(tmp_path: Path) -> dict[str, Any]:
    """Where the script finds the first processes of containers and their profiles, in a folder."""
    for name in ("containerd", "labels"):
        (tmp_path / name).mkdir()
    return {
        "CONTAINERDS": (str(tmp_path / "nowhere"), str(tmp_path / "containerd")),
        "FIRST_PROCESS": "%s/%s",
        "PROCESS_LABEL": str(tmp_path / "labels/%s"),
    }


def test_a_host_tells_which_of_our_containers_no_profile_confines(
    engine: Engine, read_engine: Read, processes: dict[str, Any], tmp_path: Path
) -> None:
    labels = {
        "kept": "docker-default (enforce)",
        "lenient": "docker-default (complain)",
        "free": "unconfined",
    }
    for number, (name, label) in enumerate(labels.items(), 100):
        (tmp_path / "containerd" / name).write_text(str(number))
        (tmp_path / "labels" / str(number)).write_text(f"{label}\n")
    (tmp_path / "containerd" / "ended").write_text("999")
    engine.answers = WORKER | {CONTAINERS: running(*labels, "ended")}
    assert read_engine(**processes)["unconfined"] == ["free"]


def test_the_engine_tells_a_first_process_that_containerd_did_not_write_down(
    engine: Engine, read_engine: Read, processes: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "labels" / "100").write_text("unconfined\n")
    told = {"/containers/free/json": {"State": {"Pid": 100}}}
    engine.answers = WORKER | told | {CONTAINERS: running("free", "gone")}
    assert read_engine(**processes)["unconfined"] == ["free"]


def test_an_engine_that_confines_nothing_is_not_asked_for_profiles(
    engine: Engine, read_engine: Read, processes: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "containerd" / "free").write_text("100")
    (tmp_path / "labels" / "100").write_text("unconfined\n")
    engine.answers = WORKER | {
        "/info": {"Swarm": {"NodeID": "n1", "ControlAvailable": False}},
        CONTAINERS: running("free"),
    }
    assert read_engine(**processes)["unconfined"] == []
