"""`cascade bootstrap`: first contact with a machine that has a user with a password and nothing else."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from cascade.commands.arguments import fingerprint_option
from cascade.exit_codes import INVALID
from operations.bootstrap import USER_NAME, bootstrap
from operations.deploy_key import DeployKey, load_key, make_key
from operations.known_hosts import KnownHosts
from operations.trust import Place, Refused, say

_TARGET = re.compile(
    r"(?P<login>[A-Za-z0-9_][A-Za-z0-9_.@\\-]*)@"
    r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*|\[(?P<address>[0-9A-Fa-f:.]+)\])(:(?P<port>[0-9]{1,5}))?",
    re.ASCII,
)


@dataclass(frozen=True)
class Target:
    """Who logs in where."""

    login: str
    hostname: str
    port: int | None

    @property
    def name(self) -> str:
        """What messages call the machine."""
        return f"{self.hostname} port {self.port}" if self.port else self.hostname


def target(written: str) -> Target:
    """Parses USER@HOST[:PORT]; an IPv6 address stands in brackets. Raises ValueError."""
    match = _TARGET.fullmatch(written)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or port not in (None, *range(1, 65536)):
        raise ValueError(f"{written!r} is not like USER@HOST or USER@HOST:PORT")
    return Target(match["login"], match["address"] or match["host"], port)


def _target(_ctx: click.Context, _argument: click.Parameter, written: str) -> Target:
    try:
        return target(written)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _user(_ctx: click.Context, _option: click.Parameter, name: str) -> str:
    if USER_NAME.fullmatch(name) is None:
        raise click.BadParameter(f"{name!r} is no user name: up to 32 of a-z, 0-9, _ and -, a letter first")
    return name


@click.command()
@click.argument("machine", callback=_target, metavar="USER@HOST[:PORT]")
@click.option(
    "--key",
    "key_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("~/.ssh/id_ed25519"),
    show_default=True,
    help="The private key to deploy with; made when there is none.",
)
@click.option("--user", default="deploy", show_default=True, callback=_user, help="The user to deploy as.")
@click.option(
    "--known-hosts",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("inventories/known_hosts"),
    show_default=True,
    help="Where accepted host keys are kept.",
)
@fingerprint_option
@click.option(
    "--password-stdin", is_flag=True, help="Read the password from the first line of standard input."
)
def command(
    machine: Target,
    key_path: Path,
    user: str,
    known_hosts: Path,
    fingerprint: tuple[str, ...],
    password_stdin: bool,
) -> None:
    """Make a deploy user with a key and sudo on a machine where USER has a password (or is root).

    The password is asked for once, on the terminal, for SSH and for sudo; it is in no argument, no
    environment and no log. What is there already stays. Exit code 6: the machine is unreachable.
    """
    place = Place(machine.name, machine.hostname, machine.port, KnownHosts(known_hosts))
    try:
        key = _key(key_path.expanduser())
        done = bootstrap(
            place, machine.login, user, key, lambda: _password(machine, password_stdin), fingerprint
        )
    except Refused as refused:
        say(str(refused))
        raise SystemExit(refused.code) from None
    summary = f"{user} logs in with {key.path}, sudo asks for no password, python3 is there"
    click.echo(f"{machine.name}: {summary}" if done else f"{machine.name}: nothing was to do: {summary}")


def _key(path: Path) -> DeployKey:
    if not path.exists():
        make_key(path)
        say(f"{path}: made a new key without a passphrase; keep it like the key to root")
    return load_key(path)


def _password(machine: Target, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        advice = "give --password-stdin and the password on standard input"
        raise Refused(f"{machine.name}: there is no terminal to ask for the password on; {advice}", INVALID)
    return str(click.prompt(f"Password of {machine.login} at {machine.name}", hide_input=True, err=True))
