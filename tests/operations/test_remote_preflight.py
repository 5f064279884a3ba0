"""What the preflight reads on a host: the script as hosts run it, on this machine."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.operations.engine import Engine

SCRIPT = Path(__file__).parents[2] / "operations" / "remote_preflight.py"
HERE, THERE, NOWHERE = "127.0.0.1", "127.0.0.2", "192.0.2.1"
BRIEF_S = 0.6

QUERY: dict[str, Any] = {
    "probes": {"me": "here", "address": HERE, "word": "w", "send": [], "offer": []},
    "address": HERE,
    "ports": [],
    "devices": [],
    "paths": [],
    "registries": [],
    "roots": ["/"],
    "labels": ["cascade.system"],
}


def start(query: dict[str, Any], **constants: Any) -> subprocess.Popen[str]:
    """The script on its way, as a host runs it; constants of the script may be others."""
    text = SCRIPT.read_text()
    for name, value in constants.items():
        (line,) = (line for line in text.splitlines() if line.startswith(f"{name} = "))
        text = text.replace(f"\n{line}\n", f"\n{name} = {value!r}\n")
    script = subprocess.Popen(
        [sys.executable, "-IS", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert script.stdin
    script.stdin.write(f"import json\nQUERY = json.loads({json.dumps(QUERY | query)!r})\n{text}")
    script.stdin.close()
    return script


def finish(script: subprocess.Popen[str]) -> dict[str, Any]:
    assert script.stdout
    with script:
        answer = script.stdout.read()
    assert script.returncode == 0
    return dict(json.loads(zlib.decompress(base64.b64decode(answer))))


def read(query: dict[str, Any] | None = None, **constants: Any) -> dict[str, Any]:
    return finish(start(query or {}, **constants))


@contextmanager
def bound(address: str, protocol: str, port: int = 0) -> Iterator[socket.socket]:
    """A port that is held by this process."""
    with socket.socket(
        socket.AF_INET, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    ) as held:
        held.bind((address, port))
        if protocol == "tcp":
            held.listen()
        yield held


def free_ports() -> dict[str, int]:
    """A port for each protocol that nobody holds on any address."""
    with ExitStack() as stack:
        return {
            protocol: stack.enter_context(bound("0.0.0.0", protocol)).getsockname()[1]
            for protocol in ("tcp", "udp")
        }


def both(ports: dict[str, int], word: str = "w") -> tuple[dict[str, Any], dict[str, Any]]:
    """What two hosts are to try with each other."""
    calls = [(port, protocol) for protocol, port in ports.items()]

    def plan(me: str, address: str, peer: str, peers: str) -> dict[str, Any]:
        send = [(peer, peers, port, protocol) for port, protocol in calls]
        offer = [(peer, port, protocol) for port, protocol in calls]
        return {"probes": {"me": me, "address": address, "word": word, "send": send, "offer": offer}}

    return plan("here", HERE, "there", THERE), plan("there", THERE, "here", HERE)


def spots(found: list[Any]) -> set[tuple[Any, ...]]:
    return {tuple(item) for item in found}


def test_hosts_that_reach_each_other_hear_and_are_heard() -> None:
    ports = free_ports()
    here, there = (finish(script) for script in [start(plan) for plan in both(ports)])
    for reading, peer in ((here, "there"), (there, "here")):
        everything = {(peer, port, protocol) for protocol, port in ports.items()}
        assert spots(reading["probes"]["answered"]) == everything
        assert spots(reading["probes"]["reached"]) == everything
        assert reading["probes"]["taken"] == []
        assert reading["clock"]["took"] < 3.0


def test_a_host_that_comes_later_is_still_answered() -> None:
    ports = free_ports()
    early, late = both(ports)
    first = start(early)
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(timeout=0.5)
    second = finish(start(late))
    assert len(second["probes"]["answered"]) == len(finish(first)["probes"]["answered"]) == 2


def test_nobody_gets_an_answer_without_the_word_of_this_run() -> None:
    ports = free_ports()
    ours, _ = both(ports)
    _, theirs = both(ports, word="another")
    scripts = [start(plan, PROBE_S=BRIEF_S) for plan in (ours, theirs)]
    for reading in map(finish, scripts):
        assert reading["probes"]["reached"] == []
        assert [protocol for _, _, protocol in reading["probes"]["answered"]] == ["tcp"]


def test_a_port_that_somebody_holds_is_taken_and_not_disturbed() -> None:
    ports = free_ports()
    plan, _ = both(ports)
    with bound(HERE, "udp", ports["udp"]) as held:
        found = read(plan, PROBE_S=BRIEF_S)["probes"]
        held.setblocking(False)
        with pytest.raises(BlockingIOError):
            held.recv(1)
    assert spots(found["taken"]) == {(ports["udp"], "udp")}
    assert found["answered"] == []


def test_calls_from_an_address_that_is_not_here_are_a_fault_not_a_silence() -> None:
    plan, _ = both(free_ports())
    plan["probes"]["address"] = NOWHERE
    assert "OSError" in read(plan)["probes"]["error"]


def test_an_address_of_this_host_is_told_from_one_that_is_not() -> None:
    assert read({"address": HERE})["address"]["here"] is True
    elsewhere = read({"address": NOWHERE})["address"]
    assert elsewhere["here"] is False
    assert elsewhere["reason"]
    assert HERE not in elsewhere["others"]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_who_holds_a_port_is_named(protocol: str) -> None:
    with bound("0.0.0.0", protocol) as held:
        port = held.getsockname()[1]
        (entry,) = read({"ports": [(port, protocol)]})["sockets"]
    assert (entry["port"], entry["protocol"]) == (port, protocol)
    assert entry["holder"]["pid"] == os.getpid()
    assert entry["holder"]["name"] == Path("/proc/self/comm").read_text().strip()


def test_a_connection_from_a_port_does_not_hold_it() -> None:
    with bound(HERE, "tcp") as server, socket.create_connection(server.getsockname()) as client:
        port = client.getsockname()[1]
        assert read({"ports": [(port, "tcp")]})["sockets"] == []


def test_a_device_is_there_and_in_use_or_not_there(tmp_path: Path) -> None:
    folder, missing = tmp_path / "snd", tmp_path / "video0"
    folder.mkdir()
    with (tmp_path / "snd2").open("w"):
        idle = read({"devices": [str(folder)]})["devices"]
    with (folder / "pcm").open("w"):
        found = read({"devices": [str(folder), str(missing)]})["devices"]
    assert idle[str(folder)] == {"present": True, "users": []}
    assert [user["pid"] for user in found[str(folder)]["users"]] == [os.getpid()]
    assert found[str(folder)]["present"] is True
    assert found[str(missing)] == {"present": False, "users": []}


def test_a_path_is_there_or_not_there_and_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    here, file, missing = tmp_path / "here", tmp_path / "a file", tmp_path / "missing"
    file.touch()
    here.symlink_to(file)
    (tmp_path / "nowhere").symlink_to(missing)
    paths = [str(each) for each in (here, file, missing, tmp_path / "nowhere")]
    assert read({"paths": paths})["paths"] == dict(zip(paths, (True, True, False, False), strict=True))


def test_room_is_read_where_a_folder_would_lie(tmp_path: Path) -> None:
    path = str(tmp_path / "not" / "yet")
    found = read({"roots": [path]})["disk"][path]
    room = os.statvfs(tmp_path)
    assert found["device"] == tmp_path.stat().st_dev
    assert abs(found["free"] - room.f_bavail * room.f_frsize) < 2**30


def test_registries_answer_or_say_why_not() -> None:
    with bound(HERE, "tcp") as server:
        answering = f"{HERE}:{server.getsockname()[1]}"
        refusing = f"{HERE}:{free_ports()['tcp']}"
        found = read({"registries": [answering, refusing, "no.such.name.invalid:443"]})["registries"]
    assert found[answering] is None
    assert "refused" in found[refusing]
    assert found["no.such.name.invalid:443"]


def test_a_machine_without_an_engine_has_none(tmp_path: Path) -> None:
    nothing = str(tmp_path / "nothing")
    found = read(
        PID_FILE=nothing, DAEMONS=(nothing,), DPKG_STATUS=os.devnull, SNAPS=(nothing,), DESKTOP=nothing
    )
    assert (found["engine"], found["dockerd"], found["packages"]) == (None, None, [])
    assert (found["snap"], found["desktop"]) == (False, False)


DPKG = """\
Package: docker.io
Status: install ok installed

Package: docker-ce
Status: deinstall ok config-files

Package: podman-docker
Status: install ok installed
"""


def test_other_engines_are_seen(tmp_path: Path) -> None:
    status, daemon = tmp_path / "status", tmp_path / "dockerd"
    status.write_text(DPKG)
    daemon.touch()
    places: dict[str, Any] = {
        "DAEMONS": (str(daemon),),
        "SNAPS": (str(tmp_path),),
        "DESKTOP": str(tmp_path),
    }
    found = read(DPKG_STATUS=str(status), PID_FILE=str(tmp_path / "none"), **places)
    assert found["packages"] == ["docker.io", "podman-docker"]
    assert (found["dockerd"], found["snap"], found["desktop"]) == (str(daemon), True, True)


def test_an_engine_that_answers_nonsense_is_unknown_not_absent(engine: Engine, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    pid.write_text(str(os.getpid()))
    found = read(PID_FILE=str(pid), SOCKET=str(engine.path))
    assert "error" in found["engine"]


INFO = {
    "DockerRootDir": "/srv/docker",
    "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
    "HttpsProxy": "http://proxy:3128",
    "OperatingSystem": "Debian GNU/Linux 13 (trixie)",
}
LISTED = {
    "Id": "a" * 64,
    "Names": ["/web"],
    "Image": "web:1",
    "Labels": {"owner": "me", "secret": "a planted secret"},
    "Ports": [{"PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}, {"PrivatePort": 81, "Type": "tcp"}],
}


def test_an_engine_says_where_its_data_lie_and_what_runs_in_it(engine: Engine, tmp_path: Path) -> None:
    engine.answers |= {"/info": INFO, "/containers/json": [LISTED]}
    pid = tmp_path / "pid"
    pid.write_text(str(os.getpid()))
    found = read(PID_FILE=str(pid), SOCKET=str(engine.path))
    assert found["engine"] == {
        "root": "/srv/docker",
        "images_in_containerd": True,
        "proxy": "http://proxy:3128",
        "system": "Debian GNU/Linux 13 (trixie)",
        "containers": [
            {
                "id": "a" * 64,
                "name": "web",
                "image": "web:1",
                "labels": {"cascade.system": None},
                "ports": [[8080, "tcp"]],
            }
        ],
    }
    assert found["disk"].keys() == {"/", "/srv/docker"}
    assert {asked.method for asked in engine.asked} == {"GET"}


def test_the_machine_says_what_it_is() -> None:
    found = read()
    assert found["os"]["machine"] == os.uname().machine
    assert found["cpus"] == len(os.sched_getaffinity(0))
    assert found["memory"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert found["kernel"]["release"] == os.uname().release
    assert found["kernel"]["cgroup"] in (1, 2)
