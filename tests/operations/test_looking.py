"""`cascade plan`, `drift` and `status` where no host lets anybody in: the whole command line, no lab."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from paramiko import Ed25519Key, SSHException
from pyinfra.api.host import Host

from operations.snapshot import take_snapshot
from tests.fleets import ROOT
from tests.operations.ssh_server import SSHServer
from tests.schemas import valid

CASCADE = Path(sys.executable).with_name("cascade")
INVENTORY = """
_shared = {{
    "ssh_hostname": "127.0.0.1", "ssh_user": "deploy", "ssh_key": "key", "ssh_known_hosts_file": "known"
}}
mainpc = [("mainpc", {{**_shared, "ssh_port": {ports[0]}, "swarm_address": "10.203.0.11"}})]
pc2 = [("pc2", {{**_shared, "ssh_port": {ports[1]}, "swarm_address": "10.203.0.12"}})]
"""
LAB = """
from cascade.model.image import RegistryImage
_names = ("core", "ai-engine", "request-handler", "memory-learning", "audio-realtime", "personality",
    "auxiliary", "pc2-core", "pc2-apps")
_digest = "sha256:" + "0" * 64
images = {f"cascade/{name}": RegistryImage(reference=f"r.invalid/{name}@{_digest}") for name in _names}
absent = frozenset(("gpu", "/dev/snd", "realtime", "open-files", "ipvs", "clock"))
docker_source = "distribution"
"""
SSH_KEYGEN = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f")

Checkout = Callable[[int, int], Path]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """The files of a fleet whose hosts listen on these ports."""
    shutil.copytree(ROOT / "group_data", tmp_path / "group_data")
    (tmp_path / "group_data" / "lab.py").write_text(LAB)
    (tmp_path / "inventories").mkdir()
    subprocess.run((*SSH_KEYGEN, str(tmp_path / "key")), check=True)

    def make(*ports: int) -> Path:
        (tmp_path / "inventories" / "lab.py").write_text(INVENTORY.format(ports=ports))
        (tmp_path / "known").touch()
        return tmp_path

    return make


@pytest.fixture
def closed() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def hanging_up() -> Iterator[int]:
    """A port behind which somebody hangs up before a word is said."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                listener.accept()[0].close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield int(listener.getsockname()[1])
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[int]:
    """A port of a host whose key nobody has accepted."""
    subprocess.run((*SSH_KEYGEN, str(tmp_path / "host_key")), check=True)
    server = SSHServer(Ed25519Key.from_private_key_file(str(tmp_path / "host_key")))
    yield server.port
    server.close()


def cascade(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        (str(CASCADE), *argv),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize("command", ["plan", "drift", "status"])
def test_every_host_that_cannot_be_reached_is_named_in_the_document(
    command: str, checkout: Checkout, closed: int, hanging_up: int
) -> None:
    done = cascade(checkout(closed, hanging_up), command, "inventories/lab.py", "--json")
    assert done.returncode == 6, done.stderr
    document: Any = valid(command, done.stdout)
    hosts = {item["host"]: item["reason"] for item in document["unknown"] if item["what"] == "host"}
    assert sorted(hosts) == ["mainpc", "pc2"]
    assert all("is it on" in reason for reason in hosts.values())


@pytest.mark.parametrize("command", ["plan", "drift", "status"])
def test_a_host_whose_key_nobody_accepted_is_unreachable(
    command: str, checkout: Checkout, closed: int, stranger: int
) -> None:
    done = cascade(checkout(closed, stranger), command, "inventories/lab.py", "--json")
    assert done.returncode == 6, done.stderr
    reasons = {item["host"]: item["reason"] for item in valid(command, done.stdout)["unknown"]}
    assert "cascade doctor" in reasons["pc2"]


def test_people_are_told_the_same_in_lines_without_colours(
    checkout: Checkout, closed: int, hanging_up: int
) -> None:
    folder = checkout(closed, hanging_up)
    for command in ("plan", "drift", "status"):
        done = cascade(folder, command, "inventories/lab.py")
        assert done.returncode == 6
        assert "\x1b" not in done.stdout + done.stderr
        assert "pc2: host: " in done.stdout
    assert cascade(folder, "plan", "inventories/lab.py").stdout.splitlines()[-1] == (
        "0 to add, 0 to change, 0 to replace, 0 to remove"
    )


class _HangsUp:
    """A host whose connection ends under a question."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def get_fact(self, *_: object, **__: object) -> None:
        raise self.error("gone")


@pytest.mark.parametrize("error", [SSHException, EOFError, ConnectionResetError])
def test_a_host_that_hangs_up_while_it_is_read_was_not_read(error: type[Exception]) -> None:
    assert take_snapshot(cast(Host, _HangsUp(error)), {}) is None


def test_history_needs_the_manager(checkout: Checkout, closed: int, hanging_up: int) -> None:
    done = cascade(checkout(closed, hanging_up), "history", "inventories/lab.py", "--json")
    assert (done.returncode, done.stdout) == (6, "")


def test_no_plan_is_saved_of_what_was_not_read(checkout: Checkout, closed: int, hanging_up: int) -> None:
    folder = checkout(closed, hanging_up)
    done = cascade(folder, "plan", "inventories/lab.py", "--out", "saved.plan")
    assert done.returncode == 6
    assert not (folder / "saved.plan").exists()


@pytest.mark.parametrize("command", ["plan", "drift", "history", "status"])
def test_mistakes_in_the_files_are_told_on_standard_error(
    command: str, checkout: Checkout, closed: int
) -> None:
    folder = checkout(closed, closed)
    with (folder / "group_data" / "lab.py").open("a") as file:
        file.write("dokcer_source = 1\n")
    done = cascade(folder, command, "inventories/lab.py", "--json")
    assert (done.returncode, done.stdout) == (64, "")
    assert "dokcer_source" in done.stderr
