"""One value as an armored age file, with its system and name inside: no file stands for another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyrage

from cascade.model.wording import shown
from cascade.secrets.identity import Identity
from cascade.secrets.value import LARGEST_BYTES, Value

_FORMAT = "cascade-secret"
_VERSION = 1
_LONGEST_HEADER = 1024
_SOMEBODY_ELSES = "No matching keys found"


@dataclass(frozen=True)
class Unsealed:
    """A value, and the digest of those whom it was encrypted for."""

    value: Value
    recipients: str


def digest_of(recipients: Iterable[str]) -> str:
    """A digest of a list of recipients, whatever its order."""
    return hashlib.sha256("\n".join(sorted(recipients)).encode()).hexdigest()


def seal(value: Value, system: str, name: str, recipients: Sequence[str]) -> str:
    """The text of a value's file, for these recipients."""
    header = {_FORMAT: _VERSION, "system": system, "name": name, "recipients": digest_of(recipients)}
    plain = json.dumps(header).encode() + b"\n" + value.data
    keys = [recipient_key(recipient) for recipient in recipients]
    sealed: bytes = pyrage.encrypt(plain, keys, armored=True)
    return sealed.decode("ascii")


def recipient_key(recipient: str) -> object:
    """What pyrage encrypts for; raises ValueError."""
    kind = pyrage.ssh if recipient.startswith("ssh-") else pyrage.x25519
    try:
        key: object = kind.Recipient.from_str(recipient)
    except pyrage.RecipientError:
        raise ValueError("is no recipient") from None
    return key


def unseal(data: bytes, system: str, name: str, identity: Identity) -> Unsealed:
    """The value of a file that is this one's; raises ValueError: what is wrong, never what is in it."""
    try:
        plain: bytes = pyrage.decrypt(data, identity.keys)
    except pyrage.DecryptError as error:
        if str(error) == _SOMEBODY_ELSES:
            raise ValueError(
                "is not encrypted for this identity: use one that it is for,"
                " or have a recipient run `cascade secrets rekey INVENTORY --add` with yours"
            ) from None
        raise ValueError(
            "is damaged, or no age file: take it from git again, or set the value anew"
        ) from None
    header, newline, content = plain.partition(b"\n")
    recipients = _checked(header if newline else b"", system, name)
    if not 0 < len(content) <= LARGEST_BYTES:
        raise ValueError(f"holds {len(content)} bytes: give it a value of 1 to {LARGEST_BYTES}")
    return Unsealed(Value(content), recipients)


def _checked(header: bytes, system: str, name: str) -> str:
    """The digest of the recipients that a header names."""
    try:
        said = json.loads(header) if len(header) <= _LONGEST_HEADER else None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or _FORMAT not in said:
        raise ValueError("holds no value that Cascade sealed: give it one by `cascade secrets set`")
    if said[_FORMAT] != _VERSION or isinstance(said[_FORMAT], bool):
        raise ValueError("is of a format that this version does not know: use the version that wrote it")
    digest = said.get("recipients")
    if not isinstance(digest, str):
        raise ValueError("has a damaged header: take it from git again, or set the value anew")
    for what, wanted in (("system", system), ("name", name)):
        if said.get(what) != wanted:
            raise ValueError(
                f"is the value of another {what}, {shown(said.get(what))}:"
                " take the right file from git again, or set the value anew"
            )
    return digest
