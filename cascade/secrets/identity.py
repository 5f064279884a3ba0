"""The identity: the private key that opens the values, outside of git."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyrage
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from cascade.files import write_whole
from cascade.secrets.reading import read_plain

USUAL = "~/.config/cascade/identity"
VARIABLE = "CASCADE_IDENTITY"

_MOST_BYTES = 64 * 1024
_OTHERS = 0o077
_AGE_KEY = "AGE-SECRET-KEY-1"


@dataclass(frozen=True, repr=False)
class Identity:
    """What opens values, and the recipients that it is: public, one a line of the recipients' file."""

    keys: tuple[Any, ...]
    recipients: tuple[str, ...]


def identity_path(setting: str | None = None) -> Path:
    """Where the identity is: as the environment says, else group_data's `identity`, else the usual place."""
    said = os.environ.get(VARIABLE) or setting or USUAL
    return Path(os.path.expanduser(said))  # noqa: PTH111 - a home that is not there is no error yet


def read_identity(path: Path, store: Path) -> Identity:
    """The identity of a file; raises ValueError: what is wrong with it, and what to do."""
    refuse_in_git(path, store)
    try:
        found = read_plain(path, _MOST_BYTES)
    except ValueError as error:
        raise ValueError(
            f"{error}: run `cascade secrets init INVENTORY`, which makes one, or name another by {VARIABLE}"
        ) from None
    if found.mode & _OTHERS:
        raise ValueError(f"is open to others (mode {found.mode:04o}): run `chmod 600 {path}`")
    return _parsed(found.data)


def refuse_in_git(path: Path, store: Path) -> None:
    """Raises ValueError for an identity in the working tree that the store is in."""
    if (tree := _working_tree(store)) is not None and _real(path).is_relative_to(tree):
        raise ValueError(
            f"lies in the git working tree {tree}, from where it would be published:"
            f" move it to {USUAL}, or name another place by {VARIABLE}"
        )


def make_identity(path: Path) -> None:
    """A new age identity, for its owner alone."""
    key = pyrage.x25519.Identity.generate()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(path, f"# public key: {key.to_public()}\n{key}\n", mode=0o600)


def _working_tree(store: Path) -> Path | None:
    """The git working tree that holds the store."""
    folder = _real(store)
    return next((tree for tree in (folder, *folder.parents) if os.path.lexists(tree / ".git")), None)


def _real(path: Path) -> Path:
    """Without its links; those that lead in a circle stay."""
    return Path(os.path.realpath(path))


def _parsed(data: bytes) -> Identity:
    if b"-----BEGIN AGE ENCRYPTED FILE-----" in data:
        raise ValueError("is encrypted itself, and nobody is asked for a passphrase: use one without")
    if data.lstrip().startswith(b"-----BEGIN"):
        return _ssh_identity(data)
    keys = list(_age_keys(data))
    if not keys:
        raise ValueError("holds no identity: write an age identity or an SSH private key into it")
    return Identity(tuple(keys), tuple(str(key.to_public()) for key in keys))


def _age_keys(data: bytes) -> Iterator[Any]:
    text = data.decode("utf-8", errors="replace")
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith(("age1", "ssh-")):
            raise ValueError("holds a public key: name the private one that belongs to it")
        if not line.startswith(_AGE_KEY):
            raise ValueError(
                f"line {number} is no age identity: write one like {_AGE_KEY}…, or an SSH private key"
            )
        try:
            yield pyrage.x25519.Identity.from_str(line)
        except pyrage.IdentityError:
            raise ValueError(
                f"line {number} is a damaged age identity: use a copy that is whole, or make another one"
            ) from None


def _ssh_identity(data: bytes) -> Identity:
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in data else load_pem_private_key
    try:
        public: Any = load(data, None).public_key()
        key = pyrage.ssh.Identity.from_buffer(data)
    except TypeError:
        raise ValueError("has a passphrase, and nobody is asked for it: use an identity without") from None
    except (pyrage.IdentityError, ValueError, UnsupportedAlgorithm):
        raise ValueError("is no ed25519 or RSA private key of SSH, or a damaged one: use another") from None
    return Identity((key,), (public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(),))
