"""The hunter for values finds what is planted, in every place and in every form that it is to look for."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest

from lab.hosts import HOSTS
from tests.lab.conftest import ROOT, Checkout, look, on_host
from tests.lab.leaks import Hunter, hunted, needles_of

TEXT = secrets.token_urlsafe(24)
BINARY = b"\0\xff\xfe" + secrets.token_hex(24).encode() + b"\xff\0"
# Of nothing but bytes that are written otherwise wherever they can be.
HIGH = bytes(secrets.choice(range(0xF8, 0x100)) for _ in range(72))
MIXED = " &".join(secrets.token_hex(24)).encode()
VALUES = {"text": TEXT.encode(), "binary": BINARY, "high": HIGH, "mixed": MIXED}
HUNTER = Hunter(needles_of(VALUES))
MAINPC, PC2 = (host.name for host in HOSTS)
EMPTY_JOURNAL = "journalctl --rotate; journalctl --vacuum-time=1s"
FORMS: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda value: value,
    "base64": base64.b64encode,
    "base64 after one byte": lambda value: base64.b64encode(b"-" + value + b"more"),
    "base64 after two bytes": lambda value: base64.b64encode(b"--" + value + b"more"),
    "base64 for URLs": base64.urlsafe_b64encode,
    "base64 of base64": lambda value: base64.b64encode(b"{" + base64.b64encode(b"{" + value)),
    "hex": lambda value: value.hex().encode(),
    "HEX": lambda value: value.hex().upper().encode(),
    "in a URL": lambda value: quote_from_bytes(value, safe="").encode(),
    "each byte in a URL": lambda value: "".join(f"%{byte:02x}" for byte in value).encode(),
    "Python's own": lambda value: repr(value).encode(),
    "JSON": lambda value: json.dumps(value.decode("latin-1")).encode(),
    "numbers": lambda value: str(list(value)).encode(),
    "compressed": lambda value: base64.b64encode(zlib.compress(b"a snapshot with " + value)),
}


@pytest.fixture(scope="module")
def hosts() -> None:
    Checkout(ROOT, ROOT / ".venv").run("cascade", "lab", "up").ok()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_found_in_an_output_in_whatever_form(name: str, form: str) -> None:
    assert HUNTER.in_bytes(b"something \xff before " + FORMS[form](VALUES[name]) + b" and after") == [name]
    assert HUNTER.in_bytes(b"something \xff before and after") == []


def test_a_part_of_a_long_value_is_found() -> None:
    value = secrets.token_bytes(500_000).replace(b"\n", b"")
    hunter = Hunter(needles_of({"long": value}))
    assert [hunter.in_bytes(value[:40]), hunter.in_bytes(value[-40:])] == [["long"], ["long"]]
    assert hunter.in_bytes(value[len(value) // 3 - 50 : len(value) // 3 + 50]) == ["long"]


def test_a_command_that_shows_a_value_fails() -> None:
    checkout = hunted(Checkout(ROOT, ROOT / ".venv"), {"text": TEXT.encode()})
    checkout.run("echo", "nothing")
    for script in (f"echo {TEXT}", f"echo {TEXT} >&2"):
        with pytest.raises(AssertionError, match="shows text"):
            checkout.run("sh", "-c", script)


def test_a_value_is_found_in_a_file_here_and_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "clean").write_text("nothing")
    assert HUNTER.here(tmp_path) == []
    (tmp_path / "below").mkdir()
    (tmp_path / "below/core").write_bytes(bytes(100_000) + BINARY)
    (tmp_path / "below/more").write_bytes(HIGH)
    (tmp_path / TEXT).touch()
    assert sorted(HUNTER.here(tmp_path)) == [
        f"this machine: {tmp_path}/below/core: binary",
        f"this machine: {tmp_path}/below/more: high",
        "this machine: the name of a file: text",
    ]
    assert HUNTER.here(tmp_path, but=[tmp_path / "below", tmp_path / TEXT]) == []


@pytest.fixture
def planted(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """A value where a command on a host leaves it; away again afterwards."""
    name, do, undo, words = PLACES[request.param]
    on_host(name, do)
    yield name, words
    look(name, undo)


def _file(path: str, data: bytes) -> tuple[str, str, str, str]:
    packed = base64.b64encode(data).decode()
    return MAINPC, f"echo {packed} | base64 -d > {path}", f"rm {path}", path


PLACES = {
    "a file in /etc": _file("/etc/planted", b"x = " + TEXT.encode()),
    "a file of root": _file("/root/.planted", base64.b64encode(b"a" + TEXT.encode())),
    "a file in /tmp": _file("/tmp/planted", BINARY),
    "a file of a service": _file("/var/lib/planted", TEXT.encode().hex().encode()),
    "a core dump in /run": _file("/run/core", bytes(5000) + BINARY),
    "the other host": (PC2, f"echo {TEXT} > /home/planted", "rm /home/planted", "/home/planted"),
    "the journal": (
        MAINPC,
        f"logger -t sudo {TEXT}",
        EMPTY_JOURNAL,
        "journalctl --sync",
    ),
    "the environment of a unit": (
        MAINPC,
        f"systemctl set-environment PLANTED={TEXT} && systemd-run --unit planted -E X={TEXT} sleep 300",
        f"systemctl unset-environment PLANTED; systemctl stop planted; {EMPTY_JOURNAL}",
        "systemctl show",
    ),
}


@pytest.mark.usefixtures("hosts")
@pytest.mark.parametrize("planted", PLACES, indirect=True)
def test_a_value_is_found_wherever_it_lies_on_a_host(planted: tuple[str, str]) -> None:
    name, words = planted
    found = HUNTER.host(name)
    assert found
    assert all(where.startswith(f"{name}: ") and ("text" in where or "binary" in where) for where in found)
    assert any(words in where for where in found), found
    assert not HUNTER.in_bytes("".join(found).encode()), "it says where they are, not what they are"


@pytest.mark.usefixtures("hosts")
def test_a_value_is_found_in_what_a_process_has_for_a_moment(tmp_path: Path) -> None:
    packed = base64.b64encode(b"a" + TEXT.encode()).decode()
    moments = {
        "environ of a process": f"exec env A={packed} sleep 0.4",
        "cmdline of a process": f"exec sh -c 'sleep 0.4; exit' {packed}",
        "/tmp/planted": f"echo {TEXT} > /tmp/planted; sleep 0.4; rm /tmp/planted",
    }
    for words, script in moments.items():
        with pytest.raises(AssertionError, match=f"{PC2}: {words}: text"), HUNTER.watching(tmp_path):
            on_host(PC2, script)
    here = "this machine: environ of a process: text"
    with pytest.raises(AssertionError, match=here), HUNTER.watching(tmp_path):
        subprocess.run(["sleep", "0.4"], env={**os.environ, "A": TEXT}, check=True)
    with HUNTER.watching(tmp_path):
        on_host(PC2, "sleep 0.2")
