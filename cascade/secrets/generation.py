"""Values that nobody has to think of."""

from __future__ import annotations

import secrets
from base64 import b64encode, urlsafe_b64encode
from binascii import hexlify
from collections.abc import Callable

from cascade.model.secrets import Generate
from cascade.secrets.value import Value

_ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "hex": hexlify,
    "base64": b64encode,
    "base64url": lambda data: urlsafe_b64encode(data).rstrip(b"="),
}


def generated(how: Generate) -> Value:
    """A new value of so many random bytes, as text."""
    return Value(_ENCODINGS[how.encoding](secrets.token_bytes(how.bytes)))
