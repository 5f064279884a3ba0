"""The key of Docker's apt repository is the one that Docker publishes."""

import base64
import hashlib
from pathlib import Path

FINGERPRINT = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
KEY = Path(__file__).parents[2] / "templates/etc/apt/keyrings/docker.asc.j2"


def _first_packet(armored: str) -> bytes:
    """The body of the first packet, a public key. Source: RFC 4880, sections 4.2 and 6.2."""
    body = armored.split("\n\n", 1)[1].rsplit("\n=", 1)[0]
    data = base64.b64decode(body)
    assert data[0] == 0x99, "an old-format public-key packet with a two-octet length"
    length = int.from_bytes(data[1:3], "big")
    return data[3 : 3 + length]


def _fingerprint(packet: bytes) -> str:
    """Source: RFC 4880, section 12.2."""
    return hashlib.sha1(b"\x99" + len(packet).to_bytes(2, "big") + packet).hexdigest().upper()


def test_the_key_has_dockers_fingerprint() -> None:
    assert _fingerprint(_first_packet(KEY.read_text())) == FINGERPRINT
