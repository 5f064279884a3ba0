"""The witness that verification sends to hosts: how it reads what resolvers and servers answer."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from tests.verify import remote_witness as witness
from tests.verify.conversations import kept_out

QUESTION = b"\4web1\4core\0" + struct.pack("!2H", 1, 1)
POINTER = b"\xc0\x0c"


def header(answers: int, code: int = 0) -> bytes:
    return struct.pack("!6H", 4919, 0x8180 + code, 1, answers, 0, 0)


def address(text: str, name: bytes = POINTER) -> bytes:
    return name + struct.pack("!2HIH", 1, 1, 600, 4) + socket.inet_aton(text)


def test_every_address_of_an_answer_is_read() -> None:
    answer = header(2) + QUESTION + address("10.0.0.3") + address("10.0.0.4", b"\4web1\4core\0")
    assert witness.addresses_in(answer, 12 + len(QUESTION)) == ["10.0.0.3", "10.0.0.4"]


def test_what_is_no_address_is_passed_over() -> None:
    other = POINTER + struct.pack("!2HIH", 5, 1, 600, 6) + b"\3abc\0\0"
    answer = header(2) + QUESTION + other + address("10.0.0.3")
    assert witness.addresses_in(answer, 12 + len(QUESTION)) == ["10.0.0.3"]


def test_a_name_that_nobody_has_has_no_address() -> None:
    assert witness.addresses_in(header(0) + QUESTION, 12 + len(QUESTION)) == []


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The one that is asked, who says nothing by himself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        monkeypatch.setattr(witness, "RESOLVER", bound.getsockname())
        yield bound


def answer_with(resolver: socket.socket, said: bytes) -> Thread:
    def answer() -> None:
        _, asker = resolver.recvfrom(512)
        resolver.sendto(said, asker)

    thread = Thread(target=answer)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("code", "kept"), [(0, True), (2, True), (3, True), (1, False), (4, False), (5, False)]
)
def test_only_a_resolver_that_knows_says_that_nobody_is_there(
    code: int, kept: bool, resolver: socket.socket
) -> None:
    answering = answer_with(resolver, header(0, code) + QUESTION)
    assert kept_out(witness.ask("names", "web1.core")) is kept
    answering.join()


def test_a_resolver_that_says_nothing_says_nothing_of_isolation(
    resolver: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witness, "RESOLVED_WITHIN_S", 0.1)
    answer = witness.ask("names", "web1.core")
    assert answer == {"error": "Unresolved: the resolver: timed out"}
    assert not kept_out(answer)
    resolver.close()
    assert not kept_out(witness.ask("names", "web1.core"))


@contextmanager
def server(said: bytes) -> Iterator[socket.socket]:
    """The near end of a connection whose far end reads a request, says this and hangs up."""
    near, far = socket.socketpair()

    def answer() -> None:
        with far:
            assert far.recv(65536).startswith(b"GET /health HTTP/1.0\r\nHost: here\r\n")
            far.sendall(said)

    thread = Thread(target=answer)
    thread.start()
    with near:
        yield near
    thread.join()


def test_an_answer_has_a_status_and_a_body() -> None:
    with server(b"HTTP/1.0 503 Service Unavailable\r\nX: y\r\n\r\nill") as near:
        assert witness.answer_to(near, "here", "/health") == (503, b"ill")


def test_an_engine_that_says_nothing_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness, "ENGINE", str(tmp_path / "sock"))
    monkeypatch.setattr(witness, "ANSWERS_WITHIN_S", 0.1)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(witness.ENGINE)
        silent.listen()
        with pytest.raises(TimeoutError, match="GET /info: no answer"):
            witness.get("/info")


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH_10.0\r\n", b"HTTP/1.0 well\r\n\r\n"])
def test_what_does_not_speak_http_is_no_answer(said: bytes) -> None:
    with server(said) as near, pytest.raises(ValueError, match="no HTTP"):
        witness.answer_to(near, "here", "/health")


def test_a_mount_is_read_as_the_kernel_writes_it() -> None:
    found = witness.mount("36 35 98:0 /mnt1 /mnt2 ro,noatime master:1", "ext3 /dev/root rw,errors=continue")
    assert (found["device"], found["root"], found["target"]) == ("98:0", "/mnt1", "/mnt2")
    assert (found["options"], found["kind"], found["source"]) == (["ro", "noatime"], "ext3", "/dev/root")


@pytest.fixture
def foreign() -> Iterator[int]:
    """A process whose name and variables are no UTF-8."""
    program = "open('/proc/self/comm', 'wb').write(b'caf\\xe9'); print(flush=True); input()"
    variables = {b"PLACE": b"caf\xe9", b"PORT": b"70"}
    with subprocess.Popen(
        [sys.executable, "-c", program], env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        yield process.pid
        process.communicate(b"\n")


def test_what_is_no_utf_8_hides_nothing_else(foreign: int) -> None:
    assert witness.status(foreign)["Name"] == "caf\ufffd"
    assert witness.environment(foreign, ["PLACE", "PORT"]) == {"PLACE": "caf\ufffd", "PORT": "70"}


def test_ports_at_which_somebody_listens_are_told_and_those_of_connections_are_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.connect(server.getsockname())
        found = witness.listening(os.getpid())
        assert server.getsockname()[1] in found
        assert client.getsockname()[1] not in found


def test_nobody_listening_is_an_answer_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert witness.ask("connect", "127.0.0.1", port) == "127.0.0.1"
    assert witness.ask("connect", "127.0.0.1", port)["error"].startswith("ConnectionRefusedError")


def test_the_addresses_of_a_network_are_those_that_the_kernel_calls_local() -> None:
    routes = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 172.20.0.0
        /16 link UNICAST
Local:
  +-- 0.0.0.0/0 2 0 2
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
     |-- 172.20.0.7
        /32 host LOCAL
     |-- 172.20.255.255
        /32 link BROADCAST"""
    assert witness.own_addresses(routes.splitlines()) == ["127.0.0.1", "172.20.0.7"]
