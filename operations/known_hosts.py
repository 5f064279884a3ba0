"""The host keys that a person has accepted: one known_hosts file, read line by line and only added to."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from paramiko import HostKeys, PKey, SSHException
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

_HASHED = "|1|"


class Unreadable(Exception):
    """A known_hosts file, or a line of one, that nobody can read; paramiko would pass over the rest."""


@dataclass(frozen=True)
class Pin:
    """The key that one line of known_hosts gives to the hosts it names."""

    line: int
    names: tuple[str, ...]
    key: PKey

    def of(self, name: str) -> bool:
        """Whether the line is about this host; names may be hashed."""
        return any(_same(name, written) for written in self.names)


@dataclass(frozen=True)
class KnownHosts:
    """A known_hosts file, which need not exist yet."""

    path: Path

    def pins_of(self, name: str) -> list[Pin]:
        """The lines about a host, as `entry_name` writes it; raises Unreadable."""
        return [pin for pin in self._pins() if pin.of(name)]

    def expected(self, name: str, key: PKey) -> Pin | None:
        """The line that a host's key is held against: the first of its type, else the first at all."""
        pins = self.pins_of(name)
        return next((pin for pin in pins if pin.key.get_name() == key.get_name()), next(iter(pins), None))

    def record(self, name: str, key: PKey) -> None:
        """Adds a line; those that are there stay."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        written = self.path.read_bytes() if self.path.exists() else b""
        gap = b"" if written.endswith(b"\n") or not written else b"\n"
        line = f"{name} {key.get_name()} {key.get_base64()}\n"
        with self.path.open("ab") as file:
            file.write(gap + line.encode())

    def _pins(self) -> Iterator[Pin]:
        for number, line in enumerate(self._lines(), 1):
            if line and not line.startswith(("#", "@")) and (entry := self._entry(number, line)):
                assert entry.hostnames is not None
                assert entry.key is not None
                yield Pin(number, tuple(entry.hostnames), entry.key)

    def _lines(self) -> list[str]:
        try:
            return [line.strip() for line in self.path.read_text().splitlines()]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise Unreadable(f"{self.path}: {error}; make it a text file that you can read") from None

    def _entry(self, number: int, line: str) -> HostKeyEntry | None:
        try:
            entry = HostKeyEntry.from_line(line, number)
        except (InvalidHostKey, SSHException, ValueError, LookupError) as error:
            raise self._broken(number) from error
        if entry is None and len(line.split()) < 3:
            raise self._broken(number)
        return entry

    def _broken(self, number: int) -> Unreadable:
        return Unreadable(f"{self.path}: line {number}: this is no host key; mend the line or delete it")


def entry_name(hostname: str, port: int) -> str:
    """How known_hosts names an SSH server."""
    return hostname if port == 22 else f"[{hostname}]:{port}"


def _same(name: str, written: str) -> bool:
    if not written.startswith(_HASHED) or name.startswith(_HASHED):
        return name == written
    try:
        hashed = HostKeys.hash_host(name, written)
    except (AssertionError, ValueError, LookupError):
        return False
    return hmac.compare_digest(hashed.encode(), written.encode())
