"""Whose key a person has accepted, who shows another, and what is said about it."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paramiko import BadHostKeyException, ECDSAKey, Ed25519Key, HostKeys, PKey
from pyinfra.api.config import Config
from pyinfra.api.exceptions import ConnectError
from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State

from cascade.exit_codes import UNREACHABLE
from operations.deploy_key import make_key
from operations.known_hosts import KnownHosts, Unreadable, entry_name
from operations.run import Run
from operations.trust import Place, Refused, fingerprint, trust, why_not
from tests.operations.ssh_server import SSHServer

Answer = Callable[[str], None]


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ed25519Key, Ed25519Key]:
    """Two keys of the usual type."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("one", "other"):
        make_key(folder / name)
    return Ed25519Key.from_private_key_file(str(folder / "one")), Ed25519Key.from_private_key_file(
        str(folder / "other")
    )


@pytest.fixture
def server(keys: tuple[PKey, PKey]) -> Iterator[SSHServer]:
    """A host that shows the first key."""
    server = SSHServer(keys[0])
    yield server
    server.close()


@pytest.fixture
def known(tmp_path: Path) -> KnownHosts:
    """Where accepted keys are kept; the folder is not there yet."""
    return KnownHosts(tmp_path / "inventories" / "known_hosts")


@pytest.fixture
def host(server: SSHServer, known: KnownHosts) -> Host:
    """The server as a host of an inventory that nobody has connected."""
    return a_host(server.port, known)


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Puts a person with this answer in front of a terminal."""

    def give(words: str) -> None:
        terminal = io.StringIO(words)
        terminal.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr("sys.stdin", terminal)

    return give


def a_host(port: int, known: KnownHosts, name: str = "pc2", **more: str) -> Host:
    data = {
        "ssh_hostname": "127.0.0.1",
        "ssh_port": port,
        "ssh_known_hosts_file": str(known.path),
        "ssh_config_file": "/dev/null",
        **more,
    }
    inventory = Inventory(([(name, data)], {}))  # type: ignore[no-untyped-call]
    State(inventory, Config())  # type: ignore[no-untyped-call]
    return inventory.get_host(name)


def refused(host: Host, *fingerprints: str) -> int:
    with pytest.raises(SystemExit) as ended:
        trust([host], fingerprints)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def nobody_listens() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_new_key_is_shown_and_recorded_once_a_person_says_yes(
    host: Host, server: SSHServer, known: KnownHosts, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    answer("y\n")
    trust([host])
    said = capsys.readouterr()
    assert f"pc2 [127.0.0.1]:{server.port} {fingerprint(server.keys[0])} (ssh-ed25519)\n" in said.err
    assert said.out == ""
    assert "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" in said.err
    loaded = HostKeys(str(known.path)).lookup(f"[127.0.0.1]:{server.port}")
    assert loaded is not None
    assert loaded["ssh-ed25519"] == server.keys[0]
    assert server.users == []


def test_a_known_key_is_not_asked_about_and_not_recorded_twice(
    host: Host, server: SSHServer, known: KnownHosts, capsys: pytest.CaptureFixture[str]
) -> None:
    known.record(f"[127.0.0.1]:{server.port}", server.keys[0])
    before = known.path.read_bytes()
    trust([host])
    assert capsys.readouterr().err.endswith(": known\n")
    assert known.path.read_bytes() == before


@pytest.mark.parametrize("words", ["n\n", "\n"])
def test_a_key_that_a_person_does_not_accept_is_not_recorded(
    words: str, host: Host, known: KnownHosts, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(words)
    assert refused(host) == 1
    assert "the key was not accepted" in capsys.readouterr().err
    assert not known.path.exists()


def test_without_a_terminal_only_a_given_fingerprint_is_accepted(
    host: Host, server: SSHServer, known: KnownHosts, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = fingerprint(server.keys[0])
    assert refused(host) == 1
    assert f"then run this again with --fingerprint {mine}" in capsys.readouterr().err
    assert not known.path.exists()
    trust([host], ["SHA256:" + "A" * 43, mine])
    assert len(known.pins_of(f"[127.0.0.1]:{server.port}")) == 1


def test_with_a_fingerprint_another_key_is_refused_although_there_is_a_terminal(
    host: Host, known: KnownHosts, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    answer("y\n")
    assert refused(host, "SHA256:" + "A" * 43) == 1
    assert "its key is not the one of --fingerprint" in capsys.readouterr().err
    assert not known.path.exists()


def test_a_changed_key_is_refused_with_its_line_and_what_to_do(
    host: Host,
    server: SSHServer,
    known: KnownHosts,
    keys: tuple[PKey, PKey],
    answer: Answer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known.record("elsewhere", server.keys[0])
    known.record(f"[127.0.0.1]:{server.port}", keys[1])
    before = known.path.read_bytes()
    answer("y\n")
    assert refused(host, fingerprint(server.keys[0])) == 1
    said = capsys.readouterr().err
    assert f"pc2: THE HOST KEY HAS CHANGED: {known.path} line 2 has {fingerprint(keys[1])}" in said
    assert f"the host shows {fingerprint(server.keys[0])}" in said
    assert f"ssh-keygen -f {known.path} -R '[127.0.0.1]:{server.port}'" in said
    assert known.path.read_bytes() == before


def test_a_key_of_another_type_is_a_changed_key_unless_the_known_one_is_shown_too(
    keys: tuple[PKey, PKey], known: KnownHosts, capsys: pytest.CaptureFixture[str]
) -> None:
    ecdsa = ECDSAKey.generate()
    both, one = SSHServer(keys[0], ecdsa), SSHServer(keys[0])
    try:
        for server in (both, one):
            known.record(f"[127.0.0.1]:{server.port}", ecdsa)
        trust([a_host(both.port, known)])
        assert refused(a_host(one.port, known)) == 1
    finally:
        both.close()
        one.close()
    assert "HAS CHANGED" in capsys.readouterr().err


def test_a_host_may_be_known_by_keys_of_several_types(
    host: Host, server: SSHServer, known: KnownHosts, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in (ECDSAKey.generate(), server.keys[0]):
        known.record(f"[127.0.0.1]:{server.port}", key)
    trust([host])
    assert capsys.readouterr().err.endswith(": known\n")


def test_every_host_is_looked_at_and_a_changed_key_weighs_more_than_silence(
    host: Host,
    server: SSHServer,
    known: KnownHosts,
    keys: tuple[PKey, PKey],
    capsys: pytest.CaptureFixture[str],
) -> None:
    known.record(f"[127.0.0.1]:{server.port}", keys[1])
    silent = a_host(nobody_listens(), known, "mainpc")
    assert refused(silent) == 6
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        trust([silent, host])
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert "mainpc: no SSH server answers at 127.0.0.1 port" in said
    assert "pc2: THE HOST KEY HAS CHANGED" in said


def test_a_server_that_speaks_no_ssh_is_unreachable(
    known: KnownHosts, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        assert refused(a_host(listener.getsockname()[1], known)) == 6
        thread.join()
    assert "no SSH server answers" in capsys.readouterr().err


BROKEN = {
    "no key at all": "host",
    "two words": "host ssh-ed25519",
    "no base64": "host ssh-ed25519 AAA",
    "no text": "\udcff\udcfe",
}


@pytest.mark.parametrize("line", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_line_is_named_because_paramiko_would_pass_over_the_rest(
    line: str, host: Host, known: KnownHosts, capsys: pytest.CaptureFixture[str]
) -> None:
    known.path.parent.mkdir()
    known.path.write_bytes(b"# a comment\n\n" + line.encode("utf-8", "surrogateescape") + b"\n")
    assert refused(host) == 64
    said = capsys.readouterr().err
    assert str(known.path) in said
    assert "line 3" in said or "can't decode" in said


def test_names_may_be_hashed_listed_or_with_a_port(known: KnownHosts, keys: tuple[PKey, PKey]) -> None:
    key = f"{keys[0].get_name()} {keys[0].get_base64()}"
    known.path.parent.mkdir()
    lines = (
        f"{HostKeys.hash_host('[192.0.2.1]:2222')} {key} a comment",
        f"alpha,192.0.2.2\t{keys[0].get_name()}\t{keys[0].get_base64()}",
        f"@cert-authority * {key}",
        f"|1|x|y {key}",
        "host sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t",
    )
    known.path.write_text("\n".join(lines))
    found = {name: [pin.line for pin in known.pins_of(name)] for name in ("[192.0.2.1]:2222", "192.0.2.2")}
    assert found == {"[192.0.2.1]:2222": [1], "192.0.2.2": [2]}
    assert [known.pins_of(name) for name in ("192.0.2.1", "beta", "*", "host")] == [[], [], [], []]


def test_a_key_is_added_on_a_line_of_its_own(known: KnownHosts, keys: tuple[PKey, PKey]) -> None:
    known.path.parent.mkdir()
    known.path.write_text("# mine, without a last newline")
    known.record("alpha", keys[0])
    known.record("beta", keys[1])
    assert [pin.line for name in ("alpha", "beta") for pin in known.pins_of(name)] == [2, 3]
    assert known.path.read_text().startswith("# mine, without a last newline\n")


def test_a_file_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="Is a directory"):
        KnownHosts(tmp_path).pins_of("alpha")


def test_a_key_that_cannot_be_recorded_is_refused_in_words(
    host: Host, known: KnownHosts, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    known.path.parent.symlink_to("nowhere")
    answer("y\n")
    with pytest.raises(SystemExit) as ended:
        trust([host])
    assert ended.value.code == 1
    assert "cannot be recorded" in capsys.readouterr().err


@pytest.mark.parametrize("hostname", ["a..b", "a" * 64])
def test_a_name_that_cannot_be_looked_up_is_unreachable(hostname: str, known: KnownHosts) -> None:
    with pytest.raises(Refused, match="no SSH server answers") as refused:
        Place("pc2", hostname, None, known, "/dev/null").reach()
    assert refused.value.code == UNREACHABLE


def test_a_port_of_its_own_is_part_of_the_name() -> None:
    assert (entry_name("alpha", 22), entry_name("alpha", 2222)) == ("alpha", "[alpha]:2222")


def test_a_run_that_meets_another_key_names_the_line(
    host: Host, server: SSHServer, known: KnownHosts, keys: tuple[PKey, PKey]
) -> None:
    known.record(f"[127.0.0.1]:{server.port}", keys[1])
    error = ConnectError("SSH host key error")
    error.__context__ = BadHostKeyException("127.0.0.1", server.keys[0], keys[1])
    assert f"{known.path} line 1 has {fingerprint(keys[1])}" in str(why_not(host, error))


def test_a_run_that_meets_an_unknown_key_says_how_to_accept_it(host: Host, known: KnownHosts) -> None:
    error = ConnectError("SSH error (StrictPolicy: No host key for pc2 found in known_hosts)")
    said = str(why_not(host, error))
    assert str(known.path) in said
    assert "cascade doctor INVENTORY --trust" in said
    assert why_not(host, ConnectError("Could not connect")) is None


@pytest.mark.parametrize("checking", [{}, {"ssh_strict_host_key_checking": "no"}])
def test_a_run_takes_no_unknown_key_whatever_the_inventory_says(
    checking: dict[str, str], server: SSHServer, known: KnownHosts
) -> None:
    known.path.parent.mkdir()
    known.path.touch()
    host = a_host(server.port, known, **checking)
    host.state.init(host.inventory, Config())  # type: ignore[no-untyped-call]
    Run(host.state).join()
    with pytest.raises(ConnectError, match="No host key"):
        host.connect(raise_exceptions=True)
    assert known.path.read_text() == ""
