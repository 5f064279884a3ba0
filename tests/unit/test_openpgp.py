"""Public keys are known by their fingerprints."""

from __future__ import annotations

import base64

import pytest

from cascade.model.openpgp import NoKey, fingerprints
from tests.fleets import ROOT

# Docker's, as it is published: https://docs.docker.com/engine/install/debian/.
DOCKER = (ROOT / "templates/etc/apt/keyrings/docker.asc.j2").read_bytes()
DOCKERS = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
# That of the archive of Debian 13, without its signatures: an Ed25519 key, in a packet of the old form.
DEBIAN = base64.b64decode("mDMEZ+Gq1RYJKwYBBAHaRw8BAQdARlh1OX84KPJRedAP/M7WxPFEthWypAp8nved")
PACKETS = base64.b64decode(b"".join(DOCKER.split(b"\n\n", 1)[1].split(b"\n=")[0].split()))


def new_form(body: bytes, tag: int = 6) -> bytes:
    """A packet with the head that programs of today write, for bodies of every length."""
    size = len(body)
    if size < 192:
        length = bytes((size,))
    elif size < 8384:
        length = bytes((((size - 192) >> 8) + 192, (size - 192) & 0xFF))
    else:
        length = b"\xff" + size.to_bytes(4, "big")
    return bytes((0xC0 | tag,)) + length + body


def armored(packets: bytes, head: bytes = b"") -> bytes:
    data = base64.encodebytes(packets)
    begin, end = (b"-----%s PGP PUBLIC KEY BLOCK-----\n" % word for word in (b"BEGIN", b"END"))
    return begin + head + b"\n" + data + end


BODY = PACKETS[3 : 3 + int.from_bytes(PACKETS[1:3], "big")]


@pytest.mark.parametrize(
    "content",
    [DOCKER, armored(PACKETS, b"Version: 2\n"), DOCKER.replace(b"\n", b"\r\n"), armored(new_form(BODY))],
    ids=["as it is", "headers", "other line ends", "new form"],
)
def test_a_key_has_its_owners_fingerprint_however_it_is_written(content: bytes) -> None:
    assert fingerprints(content) == (DOCKERS,)


@pytest.mark.parametrize("size", [191, 192, 8383, 8384])
def test_what_lies_between_keys_is_passed_over_whatever_its_length(size: int) -> None:
    between = new_form(b"x" * size, tag=13)
    assert fingerprints(armored(new_form(BODY) + between + PACKETS)) == (DOCKERS, DOCKERS)


def test_every_key_of_a_file_is_told() -> None:
    other = new_form(b"\x04" + BODY[1:-1] + b"\x00")
    first, second = fingerprints(armored(PACKETS + other))
    assert (first, second != DOCKERS) == (DOCKERS, True)


@pytest.mark.parametrize(
    "content",
    [
        b"<html>Not found</html>",
        PACKETS,
        DOCKER + DOCKER,
        DOCKER + armored(PACKETS, b"Version:\n"),
        b"They say:\n" + DOCKER,
    ],
    ids=["a page", "plain packets", "two blocks", "a second block that is odd", "text before"],
)
def test_a_key_comes_alone_because_apt_may_read_what_else_there_is(content: bytes) -> None:
    with pytest.raises(NoKey, match="not one armored"):
        fingerprints(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not one armored"),
        (armored(new_form(b"", tag=13)), "no OpenPGP public key"),
        (armored(b"text"), "no OpenPGP packets"),
        (armored(DEBIAN), "cut off"),
        (armored(PACKETS[:400]), "cut off"),
        (armored(PACKETS[:2]), "cut off"),
        (armored(b"\xc6\xff\x00"), "cut off"),
        (armored(b"\x9b" + BODY), "unknown length"),
        (armored(b"\xc6\xe1" + BODY), "unknown length"),
        (armored(new_form(b"\x06" + BODY)), "version 6"),
        (armored(new_form(b"")), "version none"),
        (DOCKER.replace(b"mQINBFit", b"mQINBFi"), "damaged|cut off"),
    ],
)
def test_what_is_no_key_is_no_key(content: bytes, reason: str) -> None:
    with pytest.raises(NoKey, match=reason):
        fingerprints(content)
