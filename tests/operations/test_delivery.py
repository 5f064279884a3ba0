"""An archive's way to a host: both ends of the conversation, over a pipe in place of SSH."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.host import Host

from operations.run import WorkFailed
from operations.swarm import delivery
from operations.swarm.delivery import ask, send_archive
from tests.unit.conftest import write_archive

CONFIG = "0123456789abcdef" * 4
IMAGE = f"sha256:{CONFIG}"


class Pipe:
    """As much of a paramiko channel as a conversation needs; the script runs on this machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.sent = 0

    def settimeout(self, _: float) -> None: ...

    def exec_command(self, command: str) -> None:
        sudo, dash_n, _python, *argv = shlex.split(command)
        assert (sudo, dash_n) == ("sudo", "-n")
        path = f"{self.machine.programs}:{os.environ['PATH']}"
        self.process = subprocess.Popen(
            [sys.executable, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": path},
        )
        self.machine.commands.append(command)

    def sendall(self, content: bytes) -> None:
        """The line goes dead once so much has been sent."""
        assert self.process.stdin
        room = self.machine.breaks_after - self.sent
        try:
            self.process.stdin.write(content[: max(0, room)])
            self.process.stdin.flush()
        except BrokenPipeError:
            raise OSError("Socket is closed") from None
        self.sent += len(content)
        if self.sent >= self.machine.breaks_after:
            self.machine.alive = False
            raise OSError("Socket is closed")

    def exit_status_ready(self) -> bool:
        return self.machine.alive

    def makefile(self, _mode: str) -> Iterator[str]:
        assert self.process.stdout
        return (line.decode() for line in self.process.stdout)

    def makefile_stderr(self, _mode: str) -> Any:
        return self.process.stderr

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream
            try:
                stream.close()
            except BrokenPipeError:
                continue
        self.process.wait(timeout=30)


class Machine:
    """A host with a docker that remembers what it loaded, and its connection."""

    def __init__(self, folder: Path) -> None:
        self.programs, self.images = folder / "bin", folder / "lib/cascade/images"
        self.loaded = folder / "loaded"
        self.commands: list[str] = []
        self.said: list[str] = []
        self.breaks_after = sys.maxsize
        self.alive = True
        self.programs.mkdir()
        self.docker(f"cp $3 {self.loaded} && echo Loaded image: core:1")

    def docker(self, line: str) -> None:
        """What `docker load --input FILE` does here."""
        program = self.programs / "docker"
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)

    def open_session(self) -> Pipe:
        return Pipe(self)

    def is_active(self) -> bool:
        return self.alive

    @property
    def part(self) -> Path:
        return self.images / f"{CONFIG}.part"

    @property
    def record(self) -> Any:
        return json.loads((self.images / "delivered.json").read_text())


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    script = tmp_path / "remote_images.py"
    text = delivery._SCRIPT.read_text()
    assert text.count("/var/lib/cascade/images") == 1
    script.write_text(text.replace("/var/lib/cascade/images", str(machine.images)))
    monkeypatch.setattr(delivery, "_SCRIPT", script)
    monkeypatch.setattr(delivery, "transport_of", lambda _host: machine)
    monkeypatch.setattr(delivery, "PIECE_BYTES", 10_000)
    return machine


@pytest.fixture
def host(host: Host, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(host, "log", machine.said.append)
    return host


@pytest.fixture
def heavy(tmp_path: Path) -> Callable[..., Path]:
    """An archive with so much noise behind it."""

    def write(seed: int = 1) -> Path:
        path = write_archive(tmp_path / "heavy.tar", f"{CONFIG}.json")
        path.write_bytes(path.read_bytes() + random.Random(seed).randbytes(90_000))
        return path

    return write


def interrupted(machine: Machine, host: Host, archive: Path, after: int) -> None:
    script = delivery._SCRIPT.stat().st_size
    machine.breaks_after = script + after
    with pytest.raises(OSError, match="Socket is closed"):
        send_archive(host, IMAGE, archive)
    machine.breaks_after, machine.alive = sys.maxsize, True


def test_an_archive_arrives_whole_is_loaded_and_recorded(
    machine: Machine, host: Host, heavy: Callable[..., Path]
) -> None:
    archive = heavy()
    assert send_archive(host, IMAGE, archive) == "Loaded image: core:1"
    assert machine.loaded.read_bytes() == archive.read_bytes()
    assert machine.record[IMAGE]["tags"] == []
    assert [path.name for path in machine.images.iterdir()] == ["delivered.json"]
    assert machine.said[-1] == "heavy.tar: 0.1 of 0.1 MB"
    assert len(machine.commands) == 1


def test_what_lies_there_is_for_root_alone(machine: Machine, host: Host, heavy: Callable[..., Path]) -> None:
    machine.docker(f"stat -c %a {machine.images}/*.part > {machine.loaded}")
    send_archive(host, IMAGE, heavy())
    assert machine.loaded.read_text() == "600\n"
    assert machine.images.stat().st_mode & 0o777 == 0o700
    assert machine.images.parent.stat().st_mode & 0o777 == 0o755
    assert (machine.images / "delivered.json").stat().st_mode & 0o777 == 0o600


def test_an_interrupted_delivery_goes_on_where_it_ended(
    machine: Machine, host: Host, heavy: Callable[..., Path]
) -> None:
    archive = heavy()
    interrupted(machine, host, archive, after=60_000)
    there = machine.part.stat().st_size
    assert 0 < there < archive.stat().st_size
    assert not machine.loaded.exists()
    sent: list[int] = []
    _count(machine, sent)
    send_archive(host, IMAGE, archive)
    assert machine.loaded.read_bytes() == archive.read_bytes()
    assert archive.stat().st_size - there <= sum(sent) < archive.stat().st_size - there + 1_000
    assert machine.said[-1].endswith(f"MB, resumed at {there / 1e6:.1f} MB")


def _count(machine: Machine, sent: list[int]) -> None:
    """Counts what is sent behind the script."""
    open_session = machine.open_session

    def counting() -> Pipe:
        pipe = open_session()
        scripts: list[int] = []
        sendall = pipe.sendall

        def counted(content: bytes) -> None:
            (sent if scripts else scripts).append(len(content))
            sendall(content)

        pipe.sendall = counted  # type: ignore[method-assign]
        return pipe

    machine.open_session = counting  # type: ignore[method-assign]


def test_another_archive_starts_anew(machine: Machine, host: Host, heavy: Callable[..., Path]) -> None:
    interrupted(machine, host, heavy(seed=1), after=60_000)
    archive = heavy(seed=2)
    send_archive(host, IMAGE, archive)
    assert machine.loaded.read_bytes() == archive.read_bytes()
    assert "resumed" not in machine.said[-1]


def test_a_part_that_is_longer_than_the_archive_starts_anew(
    machine: Machine, host: Host, heavy: Callable[..., Path]
) -> None:
    archive = heavy()
    machine.images.mkdir(parents=True)
    machine.part.write_bytes(archive.read_bytes() + b"more")
    send_archive(host, IMAGE, archive)
    assert machine.loaded.read_bytes() == archive.read_bytes()


def test_a_part_that_is_whole_is_only_loaded(
    machine: Machine, host: Host, heavy: Callable[..., Path]
) -> None:
    archive = heavy()
    machine.images.mkdir(parents=True)
    machine.part.write_bytes(archive.read_bytes())
    send_archive(host, IMAGE, archive)
    assert machine.loaded.read_bytes() == archive.read_bytes()
    assert machine.said == ["heavy.tar: 0.1 of 0.1 MB, resumed at 0.1 MB"]


def test_an_image_that_the_engine_refuses_is_no_delivery(
    machine: Machine, host: Host, heavy: Callable[..., Path]
) -> None:
    machine.docker("echo unexpected EOF; exit 1")
    with pytest.raises(WorkFailed, match="docker load: unexpected EOF"):
        send_archive(host, IMAGE, heavy())
    assert machine.record == {}


def test_a_host_without_room_takes_nothing(
    machine: Machine, host: Host, heavy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _change_script(monkeypatch, tmp_path, "free = disk.f_bavail * disk.f_frsize", "free = 50_000")
    with pytest.raises(WorkFailed, match=r"0\.1 MB free under .*, and 0\.1 MB are to come"):
        send_archive(host, IMAGE, heavy())
    assert machine.part.stat().st_size == 0


def test_bytes_that_changed_on_the_way_are_never_loaded(
    machine: Machine, host: Host, heavy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _change_script(monkeypatch, tmp_path, "part.write(piece)", "part.write(piece[:-1] + b'x')")
    _change_script(
        monkeypatch, tmp_path, "digest.update(piece)\n        length", "digest.update(b'x')\n        length"
    )
    with pytest.raises(WorkFailed, match="arrived with other content than it was sent with: run again"):
        send_archive(host, IMAGE, heavy())
    assert not machine.loaded.exists()
    assert machine.part.stat().st_size == 0


def test_two_deliveries_of_one_image_do_not_mix(
    machine: Machine, host: Host, heavy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _change_script(monkeypatch, tmp_path, "LOCK_S = 300, 30, 45", "LOCK_S = 300, 30, 1")
    machine.images.mkdir(parents=True)
    with machine.part.open("w") as part:
        fcntl.flock(part, fcntl.LOCK_EX)
        with pytest.raises(WorkFailed, match="another delivery of this image is at work on this host"):
            send_archive(host, IMAGE, heavy())


def _change_script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: str, new: str) -> None:
    text = delivery._SCRIPT.read_text()
    assert text.count(old) == 1, old
    changed = tmp_path / f"remote_{hashlib.sha256(old.encode()).hexdigest()}.py"
    changed.write_text(text.replace(old, new))
    monkeypatch.setattr(delivery, "_SCRIPT", changed)


@pytest.mark.parametrize("image", ["sha256:../../etc/passwd", "sha256:0", f"sha512:{CONFIG}", f"{IMAGE}\nx"])
def test_a_name_that_is_no_image_id_becomes_no_file(
    machine: Machine, host: Host, heavy: Callable[..., Path], image: str
) -> None:
    with pytest.raises(WorkFailed, match="is no image ID"):
        send_archive(host, image, heavy())
    assert list(machine.images.iterdir()) == []


@pytest.mark.usefixtures("machine")
def test_a_script_that_breaks_says_why(host: Host) -> None:
    with pytest.raises(WorkFailed, match=r"its part of the delivery ended early: .*KeyError"):
        ask(host, {"do": "nothing"})


def test_a_connection_that_is_lost_while_waiting_is_no_refusal(machine: Machine, host: Host) -> None:
    machine.alive = False
    with pytest.raises(EOFError, match="the host hung up"):
        ask(host, {"do": "nothing"})


def test_what_was_delivered_is_listed_and_forgotten(machine: Machine, host: Host) -> None:
    reference = f"box:5000/core@{IMAGE}"
    ask(host, {"do": "record", "image": reference})
    ask(host, {"do": "record", "image": IMAGE})
    machine.part.write_bytes(b"half")
    listed = ask(host, {"do": "list"}, "delivered")
    assert listed["delivered"].keys() == {reference, IMAGE}
    assert listed["parts"] == {IMAGE: 4}
    ask(host, {"do": "forget", "images": [IMAGE, "never"], "parts": [IMAGE]})
    listed = ask(host, {"do": "list"}, "delivered")
    assert listed["delivered"].keys() == {reference}
    assert listed["parts"] == {}
