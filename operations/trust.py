"""Host keys: read without logging in, shown as fingerprints, recorded only when a person accepts them."""

from __future__ import annotations

import logging
import shlex
import socket
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from paramiko import BadHostKeyException, PKey, SSHException, Transport
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host
from pyinfra.connectors.sshuserclient.client import SSHClient

from cascade.exit_codes import ERROR, INVALID, UNREACHABLE
from operations.known_hosts import KnownHosts, Pin, Unreadable, entry_name

TIMEOUT_S = 10

# A server that hangs up in the middle is told in one line; paramiko would print a traceback.
QUIET = logging.getLogger("cascade.ssh")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False


class Refused(Exception):
    """A host that is not going to be talked to; the message says why and what to do."""

    def __init__(self, message: str, code: int = ERROR) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Reached:
    """A server's name in known_hosts, and a new connection to it."""

    name: str
    socket: Any


@dataclass(frozen=True)
class Place:
    """Where a host's SSH server is, and where its key is kept; ssh_config is asked too, as pyinfra does."""

    name: str
    hostname: str
    port: int | None
    known_hosts: KnownHosts
    ssh_config: str | None = None

    def reach(self) -> Reached:
        """Opens a connection; raises Refused."""
        try:
            hostname, port, gateway = self._resolved()
            connection = gateway or socket.create_connection((hostname, port), TIMEOUT_S)
        except (OSError, UnicodeError, SSHException, EOFError, PyinfraError) as error:
            raise self.unreachable(error) from error
        return Reached(entry_name(hostname, port), connection)

    def unreachable(self, error: Exception) -> Refused:
        """What to say when there is no connection, or none that speaks SSH."""
        port = f" port {self.port}" if self.port else ""
        reason = str(error) or type(error).__name__
        advice = "is the machine on, the address right and an SSH server installed?"
        return Refused(
            f"{self.name}: no SSH server answers at {self.hostname}{port}: {reason}; {advice}", UNREACHABLE
        )

    def _resolved(self) -> tuple[str, int, Any]:
        settings = {"timeout": TIMEOUT_S, "pkey": None} | ({"port": self.port} if self.port else {})
        hostname, config, *_ = SSHClient().parse_config(self.hostname, settings, self.ssh_config)
        return hostname, self.port or config["port"], config.get("sock")


@dataclass(frozen=True)
class Shown:
    """A key that a server has proven to hold."""

    place: Place
    name: str
    key: PKey

    def __str__(self) -> str:
        return f"{self.place.name} {self.name} {fingerprint(self.key)} ({self.key.get_name()})"


def fingerprint(key: PKey) -> str:
    """As `ssh-keygen -l` writes it."""
    return str(key.fingerprint)


def place_of(host: Host) -> Place:
    """Where the inventory says that a host is."""
    data = host.data.dict()
    return Place(
        name=host.name,
        hostname=str(data.get("ssh_hostname") or host.name),
        port=int(data["ssh_port"]) if data.get("ssh_port") else None,
        known_hosts=KnownHosts(Path(data.get("ssh_known_hosts_file") or "~/.ssh/known_hosts").expanduser()),
        ssh_config=data.get("ssh_config_file"),
    )


def trust(inventory_hosts: Iterable[Host], fingerprints: Collection[str] = ()) -> None:
    """Settles the key of every host: known already, or shown and accepted by a person and recorded.

    With fingerprints nobody is asked: keys with one of them are accepted. Ends the process with 1 when a
    key has changed or was not accepted, else with 6 when a host is unreachable.
    """
    refusals: list[Refused] = []
    for host in inventory_hosts:
        try:
            meet(place_of(host), fingerprints)
        except Refused as refused:
            refusals.append(refused)
    for refusal in refusals:
        say(str(refusal))
    if refusals:
        raise SystemExit(min(refusal.code for refusal in refusals))


def meet(place: Place, fingerprints: Collection[str] = ()) -> PKey:
    """The key of a server, once it is known or has been accepted; raises Refused."""
    try:
        shown = read_key(place)
        pin = place.known_hosts.expected(shown.name, shown.key)
    except Unreadable as error:
        raise Refused(str(error), INVALID) from error
    if pin is None:
        _accept(shown, fingerprints)
        _record(shown)
    elif pin.key != shown.key:
        raise Refused(changed(shown, pin))
    else:
        say(f"{shown}: known")
    return shown.key


def _record(shown: Shown) -> None:
    known_hosts = shown.place.known_hosts
    try:
        known_hosts.record(shown.name, shown.key)
    except OSError as error:
        advice = f"make {known_hosts.path} a file that you can write"
        raise Refused(
            f"{shown.place.name}: its key cannot be recorded, {error.strerror}: {error.filename}; {advice}"
        ) from error


def read_key(place: Place) -> Shown:
    """The key that a server shows and proves; nobody logs in. Raises Refused and Unreadable."""
    reached = place.reach()
    try:
        transport = Transport(reached.socket)
        transport.set_log_channel(QUIET.name)
        try:
            _prefer(transport, place.known_hosts.pins_of(reached.name))
            transport.start_client(timeout=TIMEOUT_S)
            return Shown(place, reached.name, transport.get_remote_server_key())
        finally:
            transport.close()
    except (SSHException, EOFError, OSError) as error:
        raise place.unreachable(error) from error
    finally:
        reached.socket.close()


def _prefer(transport: Transport, pins: list[Pin]) -> None:
    """Asks for the type of key that is known, as paramiko does when pyinfra connects."""
    options = transport.get_security_options()
    known = [pin.key.get_name() for pin in pins[:1] if pin.key.get_name() in options.key_types]
    options.key_types = [*known, *(kind for kind in options.key_types if kind not in known)]


def _accept(shown: Shown, fingerprints: Collection[str]) -> None:
    say(str(shown))
    how = f"compare it with `{_on_the_machine(shown.key)}` on {shown.place.name} itself"
    if fingerprint(shown.key) in fingerprints:
        return
    if fingerprints:
        raise Refused(f"{shown.place.name}: its key is not the one of --fingerprint; {how}")
    if not sys.stdin.isatty():
        given = f"--fingerprint {fingerprint(shown.key)}"
        raise Refused(
            f"{shown.place.name}: there is no terminal to ask on; {how}, then run this again with {given}"
        )
    say(how[0].upper() + how[1:])
    if not click.confirm(f"Is this the key of {shown.place.name}?", err=True):
        raise Refused(
            f"{shown.place.name}: the key was not accepted; run this again once you have compared it"
        )


def _on_the_machine(key: PKey) -> str:
    kind = key.get_name().removeprefix("ssh-").partition("-")[0]
    return f"ssh-keygen -lf /etc/ssh/ssh_host_{kind}_key.pub"


def changed(shown: Shown, pin: Pin) -> str:
    """What a person must know about a host whose key is not the recorded one."""
    path = shown.place.known_hosts.path
    remove = shlex.join(["ssh-keygen", "-f", str(path), "-R", shown.name])
    return (
        f"{shown.place.name}: THE HOST KEY HAS CHANGED: {path} line {pin.line} has {fingerprint(pin.key)} "
        f"({pin.key.get_name()}), the host shows {fingerprint(shown.key)} ({shown.key.get_name()}). "
        "Somebody may be posing as the machine. If it was installed anew, "
        f"compare with `{_on_the_machine(shown.key)}` there, then: {remove}, "
        "and accept the new key with `cascade doctor INVENTORY --trust`"
    )


def why_not(host: Host, error: BaseException) -> str | None:
    """What to add to pyinfra's words when it could not connect because of a host's key."""
    place = place_of(host)
    bad = error.__context__
    if isinstance(bad, BadHostKeyException):
        return _why_changed(place, bad)
    if "found in known_hosts" in str(error):
        advice = "look at it and accept it with `cascade doctor INVENTORY --trust`"
        return f"{host.name}: no key of it is in {place.known_hosts.path}; {advice}"
    return None


def _why_changed(place: Place, bad: BadHostKeyException) -> str | None:
    name = entry_name(bad.hostname, place.port or 22)
    try:
        pin = place.known_hosts.expected(name, bad.key)
    except Unreadable as error:
        return str(error)
    return changed(Shown(place, name, bad.key), pin) if pin else None


def say(line: str) -> None:
    """Words for a person: standard output belongs to what a program may read."""
    click.echo(line, err=True)
