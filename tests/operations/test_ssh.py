"""Connections: tried again for a while, watched for a peer that is gone, and a deadline for each command."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import docker.errors
import gevent
import pytest
import requests
from paramiko import SSHException, Transport
from pyinfra.api.command import StringCommand
from pyinfra.api.exceptions import ConnectError
from pyinfra.api.host import Host

from cascade.exit_codes import ERROR, GATE_FAILED, UNREACHABLE
from operations import run as running
from operations import ssh
from operations.deploy import _told
from operations.failed import WorkFailed
from operations.lock import Lost
from operations.run import Stopped
from operations.ssh import TooLate, connect_patiently, is_cut, look_after
from operations.swarm.rollout import _gone_back
from tests.operations.conftest import LocalRun

Connect = Callable[[Exception | None], Callable[[], None]]


@pytest.fixture
def tried(host: Host, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Connects to a host that answers so, one try after the other; how often it was tried."""
    monkeypatch.setattr(ssh, "FIRST_PAUSE_S", 0.0)

    def connect(*answers: Exception | None) -> list[str]:
        tries: list[str] = []
        left = iter(answers)

        def once() -> None:
            tries.append("try")
            if error := next(left):
                raise error

        host.connector.__dict__.pop("_connect", None)
        monkeypatch.setattr(type(host.connector), "_connect", lambda _self: once())
        connect_patiently(host)
        host.connector.connect()
        return tries

    return connect


def test_a_host_that_does_not_answer_yet_is_tried_again(tried: Callable[..., list[str]]) -> None:
    assert len(tried(ConnectionRefusedError(), EOFError(), SSHException("banner"), None)) == 4


def test_a_host_that_never_answers_is_told_with_its_last_words(
    tried: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "CONNECTING_S", 0.0)
    with pytest.raises(ConnectError, match="no route there"):
        tried(OSError("no route there"))


@pytest.mark.parametrize(
    "last_word",
    [ConnectError("Authentication error"), SSHException("Server '[a]:1' not found in known_hosts")],
)
def test_a_refusal_is_not_tried_again(last_word: Exception, tried: Callable[..., list[str]]) -> None:
    with pytest.raises(ConnectError, match=r"Authentication error|not found in known_hosts"):
        tried(last_word, AssertionError("tried again"))


class Client:
    """As much of a connection as is looked after."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def get_transport(self) -> Transport:
        return self.transport


@pytest.fixture
def connection(host: Host) -> Iterator[Transport]:
    """A connection of the host's, which nobody has begun to speak in."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport = Transport(socket.create_connection(server.getsockname()))
        host.connector.client = Client(transport)  # type: ignore[attr-defined]
        yield transport
        transport.close()


def test_a_peer_that_is_gone_is_noticed_and_a_cut_of_half_a_minute_is_none(
    host: Host, connection: Transport
) -> None:
    look_after(host)

    assert isinstance(connection.sock, socket.socket)
    told = partial(connection.sock.getsockopt, socket.IPPROTO_TCP)
    assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    probed_s = told(socket.TCP_KEEPIDLE) + told(socket.TCP_KEEPINTVL) * told(socket.TCP_KEEPCNT)
    for seconds in (probed_s, told(socket.TCP_USER_TIMEOUT) / 1000):
        assert 60 < seconds <= 90


@pytest.fixture
def runs(host: Host, connection: Transport, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a command on a host that does this instead."""
    assert not connection.is_active()

    def run(does: Callable[..., Any], **arguments: Any) -> Any:
        monkeypatch.setattr(host.connector, "run_shell_command", does)
        look_after(host)
        monkeypatch.setattr(connection, "active", arguments.pop("active", True))
        return host.connector.run_shell_command(StringCommand("sleep", "9"), **arguments)

    return run


def test_every_command_has_a_deadline_and_its_own_counts(runs: Callable[..., Any]) -> None:
    assert runs(lambda *_, **arguments: arguments) == {"_timeout": ssh.COMMAND_S}
    assert runs(lambda *_, **arguments: arguments, _timeout=7) == {"_timeout": 7}


def test_a_command_that_the_host_never_begins_is_ended_here(
    runs: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "_SETUP_S", 0.0)
    with pytest.raises(TooLate, match=r"mainpc: no end within 0 s: sleep 9: "):
        runs(lambda *_, **__: gevent.sleep(60), _timeout=0.1)


def test_a_lost_connection_is_no_late_command(runs: Callable[..., Any]) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise TimeoutError

    with pytest.raises(TooLate):
        runs(never)
    with pytest.raises(TimeoutError) as lost:
        runs(never, active=False)
    assert not isinstance(lost.value, TooLate)


FAILURES: list[tuple[Exception, int, int]] = [
    (WorkFailed("a gate", GATE_FAILED), GATE_FAILED, GATE_FAILED),
    (docker.errors.DockerException("no"), ERROR, UNREACHABLE),
    (requests.ConnectionError("aborted"), ERROR, UNREACHABLE),
    (SSHException("Socket is closed"), UNREACHABLE, UNREACHABLE),
    (EOFError(), UNREACHABLE, UNREACHABLE),
]


@pytest.mark.parametrize(("failure", "code", "cut"), FAILURES)
def test_what_fails_with_its_connection_is_told_as_that(
    failure: Exception, code: int, cut: int, run: LocalRun, connection: Transport
) -> None:
    connection.active = True
    assert _told(run, failure)[0] == code
    connection.active = False
    assert run.cut_off == ["mainpc"]
    found, said = _told(run, failure)
    assert found == cut
    assert said == ("the connection to mainpc was lost" if cut == UNREACHABLE else str(failure))


def test_a_group_goes_not_back_over_a_connection_that_is_lost(
    run: LocalRun, connection: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.active = False
    monkeypatch.setattr(run, "plan", lambda: pytest.fail("it looked for what to put back"))
    for failure in (requests.ConnectionError("aborted"), Lost("gone")):
        assert _gone_back(run, "cascade-core", failure) is failure


def test_a_host_that_was_never_connected_is_not_cut_off(host: Host) -> None:
    assert not is_cut(host)


def test_a_host_that_is_gone_ends_the_run_before_its_next_operation(
    run: LocalRun, connection: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time each host is asked; a connection may be dead and nobody knows."""
    connection.active = True
    asked: list[str] = []

    def answers(host: Host) -> bool:
        asked.append(host.name)
        return host.name != "pc2" or len(asked) > 2

    monkeypatch.setattr(running, "_answers", answers)
    monkeypatch.setattr(run.state.inventory, "get_active_hosts", lambda: list(run.state.inventory))
    with pytest.raises(Stopped) as stopped:
        run.refuse_without_hosts()
    assert stopped.value.messages == ("pc2: the connection was lost; nothing more is begun",)
    run.refuse_without_hosts()
    assert asked == ["mainpc", "pc2"]
    connection.active = False
    with pytest.raises(Stopped) as stopped:
        run.refuse_without_hosts()
    assert (stopped.value.code, run.code) == (UNREACHABLE, UNREACHABLE)
