"""The key that the deploying person proves themselves with: one that is there, or a new one."""

from __future__ import annotations

import os
import shlex
import socket
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from paramiko import Agent, PKey, SSHException
from paramiko.pkey import UnknownKeyType

from operations.trust import Refused


@dataclass(frozen=True)
class DeployKey:
    """A private key to log in with, out of its file or held by ssh-agent."""

    path: Path
    private: PKey

    @property
    def public(self) -> tuple[str, str]:
        """Its type and its body, as authorized_keys has them."""
        return self.private.get_name(), self.private.get_base64()


def load_key(path: Path) -> DeployKey:
    """The key in a file, or in ssh-agent where the file has a passphrase; raises Refused."""
    try:
        return DeployKey(path, PKey.from_path(path))
    except TypeError:
        return DeployKey(path, _held_by_agent(path))
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}; give another key with --key") from error
    except (ValueError, SSHException, UnknownKeyType, UnsupportedAlgorithm) as error:
        raise Refused(f"{path}: this is no private SSH key that can be read; give one with --key") from error


def make_key(path: Path) -> None:
    """Makes an Ed25519 key pair without a passphrase; raises Refused where it cannot be written."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, private, 0o600)
        _write(_public_half(path), public + f" cascade@{socket.gethostname()}\n".encode(), 0o644)
    except OSError as error:
        raise Refused(f"{error.filename}: {error.strerror}; give another path with --key") from error


def _write(path: Path, content: bytes, mode: int) -> None:
    """A new file; one that is there is never overwritten."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)


def _public_half(path: Path) -> Path:
    return path.with_name(f"{path.name}.pub")


def _held_by_agent(path: Path) -> PKey:
    try:
        wanted = _public_half(path).read_text().split()[1]
    except (OSError, ValueError, IndexError):
        wanted = ""
    try:
        held = Agent().get_keys()
    except SSHException:
        held = ()
    for key in held:
        if key.get_base64() == wanted:
            return key
    add = shlex.join(["ssh-add", str(path)])
    raise Refused(
        f"{path}: the key has a passphrase and ssh-agent does not hold it: run `{add}` first (and leave "
        "ssh_key out of the inventory, so that the agent is asked), or give another key with --key"
    )
