"""First contact: keys on this machine, how commands become root's, and where the password goes."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_ssh_private_key,
)
from paramiko import Ed25519Key

import cascade.cli  # noqa: F401 - gives click's usage errors their code
from cascade.commands.bootstrap import command, target
from operations.bootstrap import Answer, Connection, Machine, Password, Root, Step, _root, _settle
from operations.deploy_key import DeployKey, load_key, make_key
from operations.known_hosts import KnownHosts
from operations.trust import Place, Refused, fingerprint
from tests.operations.ssh_server import SSHServer

PASSWORD = "pl4nted; touch x $(touch y) 'q\""
# What sudo does with a password where it asks for one, where it does not, and where it takes none.
ASKS = 'read -r word; [ "$word" = "$PASSWORD" ] || { echo "sudo: 1 incorrect password attempt"; exit 1; }'
OPEN = ":"
CLOSED = 'echo "owner is not in the sudoers file."; exit 1'


@dataclass(frozen=True)
class LocalConnection:
    """Runs commands here, in a folder with a sudo of its own, and remembers what was asked of it."""

    folder: Path
    name: str = "alpha"
    asked: list[tuple[str, str]] = field(default_factory=list)

    def put(self, program: str, script: str) -> None:
        path = self.folder / "bin" / program
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def sudo(self, behaviour: str) -> None:
        """A sudo; -n asks nobody."""
        self.put(
            "sudo",
            'for word; do [ "$word" != -n ] || quiet=1; done\n'
            f'if [ "$quiet" ]; then {"exit 1" if behaviour != OPEN else ":"}; else {behaviour}; fi\n'
            'while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
        )

    def run(self, *argv: str, stdin: str = "") -> Answer:
        self.asked.append((shlex.join(argv), stdin))
        done = subprocess.run(
            ["sh", "-c", shlex.join(argv)],
            cwd=self.folder,
            env={"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "PASSWORD": PASSWORD},
            input=stdin.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return Answer(done.returncode, done.stdout.decode())


@pytest.fixture
def local(tmp_path: Path) -> LocalConnection:
    """A machine that is this one, with an owner who is not root."""
    connection = LocalConnection(tmp_path)
    connection.put("id", "echo 1000")
    return connection


@pytest.fixture
def key(tmp_path: Path) -> DeployKey:
    """A key that was just made."""
    make_key(tmp_path / "keys" / "id")
    return load_key(tmp_path / "keys" / "id")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SSHServer]:
    """A server that lets nobody in, and with keys only."""
    make_key(tmp_path / "host")
    server = SSHServer(Ed25519Key.from_private_key_file(str(tmp_path / "host")))
    yield server
    server.close()


def become_root(local: LocalConnection, words: str = PASSWORD) -> Root:
    return _root(cast(Connection, local), "owner", Password(lambda: words))


@pytest.mark.parametrize("behaviour", [ASKS, OPEN], ids=["sudo asks", "sudo asks nobody"])
def test_the_password_is_never_the_input_of_what_runs_as_root(local: LocalConnection, behaviour: str) -> None:
    local.sudo(behaviour)
    root = Root(cast(Connection, local), ("sudo", "-k", "-S", "-p", "", "--"), f"{PASSWORD}\n")
    assert root.run("cat; sh; echo end", {}) == Answer(0, "end\n")
    assert {path.name for path in local.folder.iterdir()} == {"bin"}


def test_the_password_is_in_no_argument(local: LocalConnection) -> None:
    local.sudo(ASKS)
    assert become_root(local).run("echo done", {}).output == "done\n"
    assert any("sudo -k -S" in command for command, _ in local.asked)
    assert not any("pl4nted" in command for command, _ in local.asked)
    assert [stdin for command, stdin in local.asked if "sudo -k -S" not in command and stdin] == []


def test_the_password_is_in_no_representation(local: LocalConnection) -> None:
    local.sudo(ASKS)
    password = Password(lambda: PASSWORD)
    root = _root(cast(Connection, local), "owner", password)
    assert "pl4nted" not in repr((root, password)).replace(repr(local), "")


def test_the_password_is_asked_for_once_and_only_when_needed(local: LocalConnection) -> None:
    asked: list[str] = []

    def ask() -> str:
        asked.append("?")
        return PASSWORD

    local.sudo(OPEN)
    _root(cast(Connection, local), "owner", Password(ask))
    assert asked == []
    local.sudo(ASKS)
    password = Password(ask)
    assert password.get() == PASSWORD
    _root(cast(Connection, local), "owner", password)
    assert asked == ["?"]


def test_root_needs_no_sudo(local: LocalConnection) -> None:
    local.put("id", "echo 0")
    assert become_root(local).sudo == ()


REFUSED = {
    "a wrong password": (ASKS, "wrong", "sudo does not take the password of owner"),
    "no right to sudo": (CLOSED, PASSWORD, "owner may not use sudo: owner is not in the sudoers file."),
}


@pytest.mark.parametrize(("behaviour", "words", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_why_sudo_does_not_work_is_told(
    behaviour: str, words: str, said: str, local: LocalConnection
) -> None:
    local.sudo(behaviour)
    with pytest.raises(Refused, match=said) as refused:
        become_root(local, words)
    assert words not in str(refused.value).replace("wrong password", "")


@pytest.mark.parametrize("value", ["$(touch x)", "'; touch x; '", "a\nb", "-rf", '"', "\\", "*"])
def test_values_reach_the_script_as_plain_data(value: str, local: LocalConnection) -> None:
    answer = Root(cast(Connection, local)).run('printf %s "$user"', {"user": value})
    assert answer.output == value
    assert {path.name for path in local.folder.iterdir()} == {"bin"}


def test_a_failed_step_is_told_in_the_machines_own_words(local: LocalConnection, key: DeployKey) -> None:
    local.put("id", "echo 0")
    step = Step("installing x", "false", "echo one; echo two >&2; apt-get-not-here")
    with pytest.raises(Refused, match=r"alpha: installing x failed: one \| two") as refused:
        _settle(become_root(local), step, "deploy", key)
    assert "package mirror" in str(refused.value)


def test_a_step_that_has_nothing_to_do_is_left_alone(local: LocalConnection, key: DeployKey) -> None:
    local.put("id", "echo 0")
    root, step = become_root(local), Step("making x", "test -e x", "touch x")
    assert [_settle(root, step, "deploy", key) for _ in range(2)] == [True, False]


def test_a_new_key_is_a_pair_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "new" / "id"
    make_key(path)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    kind, body, _comment = path.with_name("id.pub").read_text().split()
    assert load_key(path).public == (kind, body)
    written = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(path)], capture_output=True, text=True, check=True
    ).stdout
    assert written.split()[:2] == [kind, body]


def test_a_key_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "id.pub").write_text("mine")
    with pytest.raises(Refused, match="File exists"):
        make_key(tmp_path / "id")
    assert (tmp_path / "id.pub").read_text() == "mine"


def test_a_key_with_a_passphrase_needs_the_agent(
    tmp_path: Path, key: DeployKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    private = load_ssh_private_key(key.path.read_bytes(), None)
    locked = tmp_path / "my keys"
    locked.write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(b"words"))
    )
    with pytest.raises(Refused, match="has a passphrase") as refused:
        load_key(locked)
    assert f"ssh-add '{locked}'" in str(refused.value)


def test_a_key_with_a_passphrase_is_taken_from_the_agent(
    key: DeployKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = ["ssh-keygen", "-q", "-p", "-N", "words", "-f", str(key.path)]

    class Agent:
        def get_keys(self) -> tuple[Any, ...]:
            return (key.private,)

    monkeypatch.setattr("operations.deploy_key.Agent", Agent)
    subprocess.run(change, check=True, capture_output=True)
    assert load_key(key.path).public == key.public


@pytest.mark.parametrize("content", [b"", b"no key", b"ssh-ed25519 AAAA me", b"\x00\xff" * 100])
def test_a_file_that_is_no_private_key_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "id").write_bytes(content)
    with pytest.raises(Refused, match="no private SSH key"):
        load_key(tmp_path / "id")


def bootstrap(server: SSHServer, tmp_path: Path, *options: str, words: str = "") -> Result:
    where = ("--known-hosts", str(tmp_path / "known_hosts"), "--key", str(tmp_path / "keys" / "id"))
    return CliRunner().invoke(command, [f"owner@127.0.0.1:{server.port}", *where, *options], input=words)


def test_a_server_that_takes_no_passwords_is_told(server: SSHServer, tmp_path: Path) -> None:
    given = ("--password-stdin", "--fingerprint", fingerprint(server.keys[0]))
    refused = bootstrap(server, tmp_path, *given, words=f"{PASSWORD}\n")
    assert refused.exit_code == 1
    assert "owner may not log in" in refused.output
    assert "only with publickey: log in another way and add the key" in refused.output
    assert "pl4nted" not in refused.output


def test_nobody_logs_in_where_the_host_key_was_not_accepted(server: SSHServer, tmp_path: Path) -> None:
    refused = bootstrap(server, tmp_path, "--password-stdin", words=f"{PASSWORD}\n")
    assert refused.exit_code == 1
    assert "there is no terminal to ask on" in refused.output
    assert server.users == []


def test_without_a_terminal_and_without_standard_input_there_is_no_password(
    server: SSHServer, tmp_path: Path
) -> None:
    refused = bootstrap(server, tmp_path, "--fingerprint", fingerprint(server.keys[0]), words=f"{PASSWORD}\n")
    assert refused.exit_code == 64
    assert "give --password-stdin" in refused.output


def test_a_key_that_changes_between_two_connections_ends_it(server: SSHServer, key: DeployKey) -> None:
    place = Place("alpha", "127.0.0.1", server.port, KnownHosts(key.path), "/dev/null")
    with (
        pytest.raises(Refused, match="changed between two connections"),
        Machine(place, key.private).connection(),
    ):
        pass
    assert server.users == []


def test_a_target_is_a_user_a_host_and_perhaps_a_port() -> None:
    written = ("me@alpha", "me@192.0.2.1:2222", "me@[2001:db8::1]:22", "dom\\me@alpha.lan", "a@b@alpha")
    found = [(item.login, item.hostname, item.port) for item in map(target, written)]
    assert found == [
        ("me", "alpha", None),
        ("me", "192.0.2.1", 2222),
        ("me", "2001:db8::1", 22),
        ("dom\\me", "alpha.lan", None),
        ("a@b", "alpha", None),
    ]


@pytest.mark.parametrize(
    "written",
    ["", "alpha", "@alpha", "me@", "me@-x", "-x@alpha", "me@a b", "me@a;x", "me@a\n", "me@a:0", "me@a:65536"],
)
def test_what_is_no_target_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="is not like USER@HOST"):
        target(written)


@pytest.mark.parametrize("name", ["a;touch x", "Deploy", "-x", "a b", "$(x)", "a\nb", "a.b", ""])
def test_a_hostile_user_name_is_refused_before_any_connection(
    name: str, server: SSHServer, tmp_path: Path
) -> None:
    refused = bootstrap(server, tmp_path, f"--user={name}")
    assert refused.exit_code == 64
    assert "is no user name" in refused.output
    assert {path.name for path in tmp_path.iterdir()} == {"host", "host.pub"}
