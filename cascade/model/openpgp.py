"""The fingerprints of OpenPGP public keys as apt is given them in files called .asc: armored (RFC 9580)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator

_ARMORED = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----[ \t]*\r?\n"
    rb"(?:[^\r\n:]+: [^\r\n]*\r?\n)*[ \t]*\r?\n"
    rb"(?P<data>[A-Za-z0-9+/=\r\n]+?)\r?\n"
    rb"(?:=[A-Za-z0-9+/]{4}[ \t]*\r?\n)?"
    rb"-----END PGP PUBLIC KEY BLOCK-----"
)
_PRIMARY_KEY = 6
_VERSION_OF_SHA1 = 4


class NoKey(ValueError):
    """What is there is no public key that can be understood."""


def fingerprints(content: bytes) -> tuple[str, ...]:
    """The fingerprints of every primary key in a file, in capitals; raises NoKey.

    It has to be one armored block: whatever stood beside that, apt might understand.
    """
    found = tuple(_fingerprint(body) for tag, body in _packets(_unarmored(content)) if tag == _PRIMARY_KEY)
    if not found:
        raise NoKey("it holds no OpenPGP public key")
    return found


def _unarmored(content: bytes) -> bytes:
    block = _ARMORED.fullmatch(content.strip())
    if block is None:
        raise NoKey("it is not one armored OpenPGP public key and nothing else")
    try:
        return base64.b64decode(b"".join(block["data"].split()), validate=True)
    except binascii.Error as error:
        raise NoKey(f"its armor is damaged: {error}") from error


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each packet's tag and body; keys have no packet of a length that is not known beforehand."""
    place = 0
    while place < len(data):
        head = data[place]
        if not head & 0x80:
            raise NoKey("it holds no OpenPGP packets")
        tag = head & 0x3F if head & 0x40 else (head >> 2) & 0x0F
        size, begin = (_new_length if head & 0x40 else _old_length)(data, place)
        if begin + size > len(data):
            raise NoKey("it is cut off")
        yield tag, data[begin : begin + size]
        place = begin + size


def _new_length(data: bytes, place: int) -> tuple[int, int]:
    first = _number(data, place + 1, 1)
    if first < 192:
        return first, place + 2
    if first < 224:
        return ((first - 192) << 8) + _number(data, place + 2, 1) + 192, place + 3
    if first == 255:
        return _number(data, place + 2, 4), place + 6
    raise NoKey("it holds a packet of unknown length")


def _old_length(data: bytes, place: int) -> tuple[int, int]:
    kind = data[place] & 0x03
    if kind == 3:
        raise NoKey("it holds a packet of unknown length")
    octets = 1 << kind
    return _number(data, place + 1, octets), place + 1 + octets


def _number(data: bytes, place: int, octets: int) -> int:
    if place + octets > len(data):
        raise NoKey("it is cut off")
    return int.from_bytes(data[place : place + octets], "big")


def _fingerprint(body: bytes) -> str:
    """Of a key of version 4, the only one that apt's programs know by 40 digits."""
    if body[:1] != bytes((_VERSION_OF_SHA1,)):
        raise NoKey(f"it holds a key of version {body[0] if body else 'none'}, and only 4 is known here")
    marked = b"\x99" + len(body).to_bytes(2, "big") + body
    return hashlib.sha1(marked, usedforsecurity=False).hexdigest().upper()
