"""The SSH connections that pyinfra holds: patient with a network, and not with a host that is gone."""

from __future__ import annotations

import socket
from typing import Any

import gevent
from paramiko import SSHException, Transport
from pyinfra.api.host import Host
from pyinfra.connectors.ssh import SSHConnector

from cascade.model.strict import one_line
from cascade.polling import NotInTime, until
from operations.failed import WorkFailed

CONNECTION_LOST = (SSHException, EOFError, OSError)
# TCP tries again after twice as long each time: what a cut of half a minute stops comes after a whole one.
PATIENCE_S = 60
# Behind the last such try nothing is to be hoped for.
GONE_S = 75
CONNECTING_S = 3.0
FIRST_PAUSE_S = 0.5
COMMAND_S = 300.0
_SETUP_S = 10.0
_PROBE_AFTER_S, _PROBE_EACH_S = 15, 15
_NOT_PINNED = "found in known_hosts"


class TooLate(WorkFailed, OSError):
    """A command on a host did not end in time, and may still run there."""


class _NotYet(Exception):
    """The host does not answer at the moment."""


def transport_of(host: Host) -> Transport:
    """The SSH connection that pyinfra holds to a host."""
    assert isinstance(host.connector, SSHConnector)
    assert host.connector.client is not None
    transport = host.connector.client.get_transport()
    assert transport is not None
    return transport


def is_cut(host: Host) -> bool:
    """Whether there was a connection to a host, and is none any more."""
    client = getattr(host.connector, "client", None)
    transport = client.get_transport() if client else None
    return transport is not None and not transport.is_active()


def connect_patiently(host: Host) -> None:
    """Tries to connect for a while, with growing pauses; a refused key or password is the last word."""
    connector = host.connector
    if not isinstance(connector, SSHConnector) or "_connect" in vars(connector):
        return
    connect_once = connector._connect

    def attempt() -> None:
        try:
            connect_once()
        except CONNECTION_LOST as error:
            if _NOT_PINNED in str(error):
                raise
            raise _NotYet from error

    def connect() -> None:
        try:
            until(attempt, _NotYet, deadline_s=CONNECTING_S, interval_s=FIRST_PAUSE_S, growth=2.0)
        except NotInTime as late:
            error = late.__cause__ and late.__cause__.__cause__
            raise error or late from None

    connector._connect = connect  # type: ignore[method-assign]


def look_after(host: Host) -> None:
    """Makes a new connection quick, lets it notice a peer that is gone, and gives each command a deadline."""
    transport = transport_of(host)
    transport.channel_timeout = PATIENCE_S  # type: ignore[attr-defined]
    transport.set_keepalive(_PROBE_AFTER_S)
    if isinstance(transport.sock, socket.socket):
        for option, value in _TCP.items():
            transport.sock.setsockopt(socket.IPPROTO_TCP, option, value)
        transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    run = host.connector.run_shell_command

    def run_in_time(command: Any, *args: Any, **arguments: Any) -> Any:
        seconds = arguments["_timeout"] = arguments.get("_timeout") or COMMAND_S
        try:
            # pyinfra's own limit counts from when the host has begun, which it may never do.
            with gevent.Timeout(seconds + _SETUP_S, TimeoutError):
                return run(command, *args, **arguments)
        except TimeoutError as late:
            if is_cut(host):
                raise
            raise TooLate(
                f"{host.name}: no end within {seconds:.0f} s: {one_line(str(command))}: is the host at its"
                " limit? It may still run there; run again to go on"
            ) from late

    host.connector.run_shell_command = run_in_time  # type: ignore[method-assign]


def _tcp() -> dict[int, int]:
    """As far as the system of the deploying machine has them."""
    wanted = {
        "TCP_NODELAY": 1,
        "TCP_KEEPIDLE": _PROBE_AFTER_S,
        "TCP_KEEPINTVL": _PROBE_EACH_S,
        "TCP_KEEPCNT": (GONE_S - _PROBE_AFTER_S) // _PROBE_EACH_S,
        "TCP_USER_TIMEOUT": GONE_S * 1000,
    }
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


_TCP = _tcp()
