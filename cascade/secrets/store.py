"""The store: one folder per system in git, with the recipients and one age file for each value.

The key that makes names on the Swarm unguessable is such a file too.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cascade.files import write_whole
from cascade.model.strict import InvalidFiles, Problem
from cascade.secrets.identity import Identity, read_identity
from cascade.secrets.reading import read_plain
from cascade.secrets.sealing import Unsealed, seal, unseal
from cascade.secrets.value import LARGEST_BYTES, Value, forbid_core_dumps

RECIPIENTS = "recipients"
NAME_KEY = "cascade-name-key"
NAME_KEY_BYTES = 32

_SUFFIX = ".age"
_DIGITS = 12
# Armor is four letters for three bytes, beside its headers; a hundred recipients fit.
_MOST_BYTES = 2 * LARGEST_BYTES


@dataclass(frozen=True)
class Opened:
    """The values that a run wants, by their names in the store."""

    values: Mapping[str, Value]
    name_key: Value

    def keyed_digest(self, name: str) -> str:
        """What a value's name on the Swarm ends in: without the key nobody can try a guess on it."""
        message = name.encode() + b"\0" + self.values[name].data
        return hmac.new(self.name_key.data, message, hashlib.sha256).hexdigest()[:_DIGITS]


def open_values(folder: Path, identity: Path, system: str, names: Collection[str]) -> Opened:
    """The values of these names; raises InvalidFiles with every problem of the identity and of every file."""
    if not names:
        return Opened({}, Value(b""))
    forbid_core_dumps()
    problems = list(missing(folder, names))
    try:
        key = read_identity(identity, folder)
    except ValueError as error:
        raise InvalidFiles([*problems, Problem.saying(str(identity), "", str(error))]) from None
    store = Store(folder, system)
    values: dict[str, Value] = {}
    for name in filter(store.has, (*sorted(names), NAME_KEY)):
        try:
            values[name] = store.read(name, key).value
        except ValueError as error:
            problems.append(Problem.saying(str(store.path(name)), "", str(error)))
    if problems:
        raise InvalidFiles(problems)
    name_key = values.pop(NAME_KEY)
    return Opened(values, name_key)


def missing(folder: Path, names: Collection[str]) -> Iterator[Problem]:
    """A problem for each of these values that has no file; needs no identity."""
    store = Store(folder, "")
    for name in sorted(names):
        if not store.has(name):
            fix = f"run `cascade secrets set INVENTORY {name}`, or `init` for one that is generated"
            yield Problem(str(store.path(name)), "", f"the value of the secret {name} is missing", fix)
    if names and not store.has(NAME_KEY):
        fix = "run `cascade secrets init INVENTORY`, or take it from git again"
        yield Problem(str(store.path(NAME_KEY)), "", "the key of the names is missing", fix)


@dataclass(frozen=True)
class Store:
    """The files of one system's values."""

    folder: Path
    system: str

    def path(self, name: str) -> Path:
        return self.folder / f"{name}{_SUFFIX}"

    def has(self, name: str) -> bool:
        """Whether something is there under this name, be it readable or not."""
        path = self.path(name)
        return path.is_symlink() or path.exists()

    def read(self, name: str, identity: Identity) -> Unsealed:
        """A value; raises ValueError: what is wrong with its file, and what to do."""
        try:
            data = read_plain(self.path(name), _MOST_BYTES).data
        except ValueError as error:
            raise ValueError(f"{error}: take it from git again, or set the value anew") from None
        found = unseal(data, self.system, name, identity)
        if name == NAME_KEY and len(found.value.data) != NAME_KEY_BYTES:
            raise ValueError(f"is no key of {NAME_KEY_BYTES} bytes: take it from git again")
        return found

    def write(self, name: str, value: Value, recipients: tuple[str, ...]) -> None:
        """Seals a value; an interruption leaves the old file or the new one."""
        write_whole(self.path(name), seal(value, self.system, name, recipients))
