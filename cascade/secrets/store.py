"""The store: one folder per system in git, with the recipients and one age file for each value.

The key that makes names on the Swarm unguessable is such a file too.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cascade.files import write_whole
from cascade.model.secrets import DIGITS, NAME_KEY
from cascade.model.strict import InvalidFiles, Problem
from cascade.secrets.identity import Identity, read_identity
from cascade.secrets.reading import read_plain
from cascade.secrets.sealing import Unsealed, seal, unseal
from cascade.secrets.value import LARGEST_BYTES, Value, forbid_core_dumps

_NAME_KEY_BYTES = 32
_SUFFIX = ".age"
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
        return hmac.new(self.name_key.data, message, hashlib.sha256).hexdigest()[:DIGITS]


NOTHING_OPEN = Opened({}, Value(b""))


def open_values(
    folder: Path, identity: Path, system: str, names: Collection[str], generated: Collection[str] = ()
) -> Opened:
    """The values of these names; raises InvalidFiles with every problem of the identity and of every file."""
    opened, problems = open_what_can_be(folder, identity, system, names, generated)
    if problems:
        raise InvalidFiles(problems)
    return opened


def open_what_can_be(
    folder: Path, identity: Path, system: str, names: Collection[str], generated: Collection[str] = ()
) -> tuple[Opened, list[Problem]]:
    """Those of these values that can be opened, and every problem of the identity and of the other files."""
    if not names:
        return NOTHING_OPEN, []
    forbid_core_dumps()
    problems = list(missing(folder, names, generated))
    try:
        key = read_identity(identity, folder)
    except ValueError as error:
        return NOTHING_OPEN, [*problems, Problem.saying(str(identity), "", str(error))]
    store = Store(folder, system)
    there = filter(store.has, (*sorted(names), NAME_KEY))
    found = {name: unsealed.value for name, unsealed in store.open(there, key, problems).items()}
    if NAME_KEY not in found:
        # Nobody knows what the others are called on the Swarm.
        return NOTHING_OPEN, problems
    return Opened(found, found.pop(NAME_KEY)), problems


def missing(folder: Path, names: Collection[str], generated: Collection[str] = ()) -> Iterator[Problem]:
    """A problem for each of these values that has no file, with what makes it; needs no identity."""
    store = Store(folder, "")
    for name in sorted(names):
        if not store.has(name):
            makes = "init INVENTORY" if name in generated else f"set INVENTORY {name}"
            fix = f"run `cascade secrets {makes}`"
            yield Problem(str(store.path(name)), "", f"the value of the secret {name} is missing", fix)
    if names and not store.has(NAME_KEY):
        fix = "take it from git again; if there never was one, run `cascade secrets init INVENTORY`"
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
        try:
            self.path(name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            # Whoever reads it is told why it cannot be.
            return True
        return True

    def names(self) -> list[str]:
        """The values that are there, the key of the names not among them."""
        found = {path.name.removesuffix(_SUFFIX) for path in self.folder.glob(f"*{_SUFFIX}")}
        return sorted(found - {NAME_KEY})

    def read(self, name: str, identity: Identity) -> Unsealed:
        """A value; raises ValueError: what is wrong with its file, and what to do."""
        try:
            data = read_plain(self.path(name), _MOST_BYTES).data
        except ValueError as error:
            raise ValueError(f"{error}: take it from git again, or set the value anew") from None
        found = unseal(data, self.system, name, identity)
        if name == NAME_KEY and len(found.value.data) != _NAME_KEY_BYTES:
            raise ValueError(f"is no key of {_NAME_KEY_BYTES} bytes: take it from git again")
        return found

    def open(self, names: Iterable[str], identity: Identity, problems: list[Problem]) -> dict[str, Unsealed]:
        """Those of these values that can be opened; of the others the problems."""
        found = {}
        for name in names:
            try:
                found[name] = self.read(name, identity)
            except ValueError as error:
                problems.append(Problem.saying(str(self.path(name)), "", str(error)))
        return found

    def write(self, name: str, value: Value, recipients: tuple[str, ...]) -> None:
        """Seals a value; an interruption leaves the old file or the new one."""
        write_whole(self.path(name), seal(value, self.system, name, recipients))


def new_name_key() -> Value:
    """Another key of the names: with it every secret gets another name on the Swarm."""
    return Value(secrets.token_bytes(_NAME_KEY_BYTES))
