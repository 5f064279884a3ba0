"""The lab's SSH key pair and its strictly pinned known_hosts, both in the checkout's .lab folder."""

from pathlib import Path
from threading import Lock

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

_ONE_WRITER = Lock()


def private_key(lab_dir: Path) -> Path:
    """Where the private key lies."""
    return lab_dir / "id_ed25519"


def known_hosts(lab_dir: Path) -> Path:
    """Where the pinned host keys lie."""
    return lab_dir / "known_hosts"


def ensure_key_pair(lab_dir: Path) -> str:
    """Return the public key, making the pair when the private half is not there or not readable as a key."""
    private = private_key(lab_dir)
    with _ONE_WRITER:
        key = _load(private) or _make(private)
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        private.with_suffix(".pub").write_text(f"{public} cascade-lab\n")
    return f"{public} cascade-lab\n"


def _load(private: Path) -> Ed25519PrivateKey | None:
    if not private.exists():
        return None
    try:
        key = load_ssh_private_key(private.read_bytes(), password=None)
    except ValueError:
        return None
    return key if isinstance(key, Ed25519PrivateKey) else None


def _make(private: Path) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    private.unlink(missing_ok=True)
    private.touch(mode=0o600)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return key


def pin(lab_dir: Path, port: int, host_key: str) -> None:
    """Write a host's key into known_hosts, in place of the one that its port had before."""
    with _ONE_WRITER:
        pinned = known_hosts(lab_dir)
        before = pinned.read_text() if pinned.exists() else ""
        fresh = pinned.with_suffix(".new")
        fresh.write_text(with_pinned(before, port, host_key))
        fresh.replace(pinned)


def with_pinned(before: str, port: int, host_key: str) -> str:
    """A known_hosts text in which a loopback port has this key and no other."""
    name = f"[127.0.0.1]:{port}"
    others = [line for line in before.splitlines() if line.split()[:1] != [name]]
    return "".join(f"{line}\n" for line in sorted([*others, f"{name} {_without_comment(host_key)}"]))


def _without_comment(host_key: str) -> str:
    return " ".join(host_key.split()[:2])
