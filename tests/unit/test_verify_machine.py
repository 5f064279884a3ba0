"""What a machine says of itself, and how tests/verify understands it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.fleets import lab_fleet
from tests.verify import remote_machine
from tests.verify.machine import (
    dotted,
    is_signed_by,
    kept_sysctls,
    members_of_node,
    request_for,
    validity,
    words,
)

CONFIG = """\
# /usr/lib/sysctl.d/50-default.conf
net.ipv4.conf.*.rp_filter = 2
-net.core.somaxconn = 128
# /etc/sysctl.d/90-cascade.conf
; net.core.somaxconn = 1
net/core/somaxconn=4096
net.ipv4.ip_local_reserved_ports =  2377,4789
kernel.printk = 4 4	1 7
"""
Key = ec.EllipticCurvePrivateKey
MINUTE = timedelta(minutes=1)
# The kernel tells in whole seconds when it began.
ROUNDED_S = 2


def certificate(subject: str, own: Key, issuer: str, key: Key, role: str = "swarm-worker") -> str:
    """One that is valid for a minute before and after now."""
    names = (NameOID.COMMON_NAME, subject), (NameOID.ORGANIZATIONAL_UNIT_NAME, role)
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(oid, value) for oid, value in names]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(own.public_key())
        .serial_number(1)
        .not_valid_before(now - MINUTE)
        .not_valid_after(now + MINUTE)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(Encoding.PEM).decode()


def authority(key: Key) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "swarm-ca")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    dated = built.serial_number(2).not_valid_before(now - MINUTE).not_valid_after(now + MINUTE)
    return dated.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


@contextmanager
def started_process() -> Iterator[subprocess.Popen[bytes]]:
    """One that waits to be told to end."""
    with subprocess.Popen((sys.executable, "-c", "input()"), stdin=subprocess.PIPE) as process:
        yield process
        process.communicate(b"\n")


@pytest.fixture
def other() -> Iterator[int]:
    """Another process, which has no sockets."""
    with started_process() as process:
        yield process.pid


@pytest.fixture(scope="module")
def key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def test_of_several_values_of_a_kernel_setting_a_reboot_keeps_the_last() -> None:
    kept = kept_sysctls(CONFIG)
    assert kept["net.core.somaxconn"] == "4096"
    assert kept_sysctls(f"{CONFIG}net.core.somaxconn=1")["net.core.somaxconn"] == "1"
    assert sorted(kept) == ["kernel.printk", "net.core.somaxconn", "net.ipv4.ip_local_reserved_ports"]


def test_values_of_kernel_settings_are_the_same_however_they_are_spaced() -> None:
    assert kept_sysctls(CONFIG)["kernel.printk"] == words("4\t4 1  7\n") == "4 4 1 7"


@pytest.mark.parametrize(
    ("name", "understood"),
    [
        ("net.core.somaxconn", "net.core.somaxconn"),
        ("net/core/somaxconn", "net.core.somaxconn"),
        ("net/ipv4/conf/eth0.7/arp_filter", "net.ipv4.conf.eth0/7.arp_filter"),
        ("net.ipv4.conf.eth0/7.arp_filter", "net.ipv4.conf.eth0/7.arp_filter"),
    ],
)
def test_a_kernel_setting_has_one_name_in_either_way_of_writing_it(name: str, understood: str) -> None:
    assert dotted(name) == understood


def test_a_kernel_setting_is_read_by_either_name() -> None:
    assert remote_machine.sysctl("kernel.ostype") == remote_machine.sysctl("kernel/ostype") == "Linux"
    assert remote_machine.sysctl("kernel.no_such_setting") is None


def test_a_certificate_names_the_node_and_its_role(key: Key) -> None:
    found = certificate("n0de", key, "swarm-ca", key, "swarm-manager")
    assert members_of_node(found) == {"node": "n0de", "role": "swarm-manager"}
    since, until = validity(found)
    assert until - since == 2 * MINUTE


def test_a_certificate_of_another_authority_is_not_of_the_swarm(key: Key) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    own = authority(key)
    assert is_signed_by(certificate("n0de", key, "swarm-ca", key), own)
    assert not is_signed_by(certificate("n0de", key, "swarm-ca", other), own)
    assert not is_signed_by(certificate("n0de", key, "somebody", key), own)


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_sockets_at_which_a_process_listens_are_found_with_their_addresses(
    family: socket.AddressFamily, address: str, other: int
) -> None:
    with socket.socket(family) as server, socket.socket(family) as client:
        try:
            server.bind((address, 0))
        except OSError:
            pytest.skip(f"this machine has no {address}")
        server.listen()
        client.connect(server.getsockname()[:2])
        found = remote_machine.listening(os.getpid())
        assert [address, server.getsockname()[1]] in found
        assert [address, client.getsockname()[1]] not in found
        assert remote_machine.listening(other) == []


def test_a_mapped_address_is_the_one_that_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.byteorder", "little")
    assert remote_machine.place("0B00CB0A:0949") == ["10.203.0.11", 2377]
    assert remote_machine.place("0000000000000000FFFF00000B00CB0A:1F0A") == ["10.203.0.11", 7946]
    assert remote_machine.place("00000000000000000000000000000000:0016") == ["::", 22]


def test_a_process_began_when_it_was_started() -> None:
    before = time.time()
    with started_process() as process:
        began = remote_machine.started(process.pid)
    assert began is not None
    assert before - ROUNDED_S <= began <= time.time() + ROUNDED_S
    assert remote_machine.started(0) is None


@pytest.mark.parametrize("missing", [remote_machine.read, remote_machine.written, remote_machine.stated])
def test_what_is_not_there_is_nothing(missing: Callable[[str], object]) -> None:
    assert missing("/no/such/file") is None


def test_what_is_no_utf_8_is_read_nevertheless(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"caf\xe9\n")
    assert remote_machine.read(str(file)) == "caf\ufffd"
    assert remote_machine.output("cat", str(file)) == "caf\ufffd\n"


def test_a_program_that_nobody_can_end_is_left_alone_and_told_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hanging: list[subprocess.Popen[str]] = []
    with monkeypatch.context() as patched:
        patched.setattr(remote_machine, "ENDS_WITHIN_S", 0)
        patched.setattr(subprocess.Popen, "kill", lambda program: hanging.append(program))
        with pytest.raises(TimeoutError, match="tail -f /dev/null did not end"):
            remote_machine.output("tail", "-f", "/dev/null")
    (program,) = hanging
    assert program.poll() is None
    program.kill()
    program.communicate()


def test_of_a_command_everything_is_told_whatever_came_of_it() -> None:
    assert remote_machine.ran("echo /pro[c]") == (0, "/proc\n", "")
    assert remote_machine.ran("no-such-program")[0] == 127


def test_a_program_that_fails_is_told_with_its_own_words() -> None:
    with pytest.raises(OSError, match=r"ls: 2 .*no/such/file"):
        remote_machine.output("ls", "/no/such/file")


@pytest.mark.parametrize(
    ("settings", "data"),
    [({}, "/var/lib/docker"), ({"data-root": "/srv/docker"}, "/srv/docker"), ({"data-root": "/d/"}, "/d")],
)
def test_the_engine_is_looked_for_where_its_settings_put_its_data(
    settings: dict[str, str], data: str
) -> None:
    fleet = lab_fleet()
    host = fleet.manager.model_copy(update={"daemon_settings": settings})
    request = request_for(host, fleet)
    assert request["folders"] == ["/", data]
    assert request["certificate"] == f"{data}/swarm/certificates/swarm-node.crt"


def test_a_folder_that_is_not_there_hides_nothing_else() -> None:
    assert remote_machine.used("/no/such/folder") is None
    assert remote_machine.used("/") is not None
