"""A store of secrets on disk with its identity, for tests that use and break it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pyrage

from cascade.model.secrets import NAME_KEY
from cascade.secrets.identity import Identity, make_identity, read_identity
from cascade.secrets.recipients import write_recipients
from cascade.secrets.store import Opened, Store, open_values
from cascade.secrets.value import Value

SYSTEM, NAME = "den", "db_password"
CANARY = b"fox-CANARY-0123456789-canary-FOX"


@dataclass(frozen=True)
class Scene:
    """A project in git with one value and the key of the names; the identity lies outside."""

    folder: Path

    @property
    def project(self) -> Path:
        return self.folder / "project"

    @property
    def identity(self) -> Path:
        return self.folder / "home" / "identity"

    @property
    def store(self) -> Store:
        return Store(self.project / "group_data" / "secrets", SYSTEM)

    @property
    def file(self) -> Path:
        return self.store.path(NAME)

    def key(self) -> Identity:
        return read_identity(self.identity, self.store.folder)

    def open(self, *names: str) -> Opened:
        return open_values(self.store.folder, self.identity, SYSTEM, names or [NAME])

    def seal(self, plain: bytes) -> None:
        """The file of the value with just this inside of its encryption."""
        keys = [pyrage.x25519.Recipient.from_str(one) for one in self.key().recipients]
        self.file.write_bytes(pyrage.encrypt(plain, keys, armored=True))


def scene_in(folder: Path) -> Scene:
    scene = Scene(folder)
    (scene.project / ".git").mkdir(parents=True)
    make_identity(scene.identity)
    recipients = scene.key().recipients
    write_recipients(scene.store.folder, recipients)
    scene.store.write(NAME_KEY, Value(bytes(range(32))), recipients)
    scene.store.write(NAME, Value(CANARY), recipients)
    return scene


def ssh_key(path: Path, kind: str = "ed25519", passphrase: str = "", *options: str) -> str:
    """Makes a pair of keys; returns the public one."""
    path.unlink(missing_ok=True)
    keygen = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, *options, "-f", str(path)]
    subprocess.run(keygen, check=True)
    return path.with_suffix(".pub").read_text().strip()


def another() -> tuple[str, str]:
    """An age identity of somebody else: private and public."""
    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())
