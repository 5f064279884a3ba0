"""A line in each host's journal for every change that is made there."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

import gevent
from paramiko import SSHException
from pyinfra.api.host import Host

from cascade.planning.audit import DONE, FAILED, Deed, Entry, deeds_of, line_of, reason_of
from operations.failed import WorkFailed
from operations.ssh import PATIENCE_S, transport_of

# Says that it is there before it listens: a change that nobody could write down is not made.
_LOGGER = "command -v logger && exec logger --tag cascade"
INTERRUPTED = "interrupted"
COMMAND_FAILED = "a command failed on the host; the run's output has its words"


class Journal(Protocol):
    """Where the lines of one host go."""

    def write(self, line: str) -> None: ...

    def close(self) -> None: ...


class HostJournal:
    """A host's journal, through one exec that stays open: each line is there as soon as it is written."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._channel = transport_of(host).open_session()
        self._channel.settimeout(PATIENCE_S)
        self._channel.exec_command(shlex.join(("sudo", "-n", "sh", "-c", _LOGGER)))
        if not self._channel.makefile("r").readline():
            said = self._channel.makefile_stderr("rb").read().decode(errors="replace").strip()
            self._channel.close()
            raise WorkFailed(
                f"{host.name}: changes cannot be written down in the journal: {said or 'there is no logger'};"
                " nothing was changed there: apt install bsdutils"
            )

    def write(self, line: str) -> None:
        """Raises WorkFailed when nobody takes the line any more, and OSError when the connection is lost."""
        try:
            self._channel.sendall(f"{line}\n".encode())
        except OSError as error:
            if not transport_of(self._host).is_active():
                raise
            raise WorkFailed(f"{self._host.name}: the journal did not take: {line}: {error}") from error

    def close(self) -> None:
        """Returns when the last line has been taken; raises WorkFailed when it is not in time."""
        self._channel.shutdown_write()
        with gevent.Timeout(PATIENCE_S, WorkFailed(f"not taken within {PATIENCE_S} s")):
            self._channel.recv_exit_status()
        self._channel.close()


class Trail:
    """What a run changes, on each host and here in order; `release` is its number once there is one."""

    def __init__(self, who: str, run: str, open_journal: Callable[[Host], Journal] = HostJournal) -> None:
        self.who, self.run = who, run
        self.release: int | None = None
        self.entries: list[Entry] = []
        self._open_journal = open_journal
        self._journals: dict[str, Journal] = {}
        self._begun: dict[str, tuple[Host, tuple[Deed, ...]]] = {}

    @property
    def documents(self) -> list[dict[str, str]]:
        """The entries as small maps, for a release."""
        return [entry.document() for entry in self.entries]

    @contextmanager
    def of(self, host: Host, work: object) -> Iterator[None]:
        """Writes down what the block does: done, or failed with the reason, which goes on its way."""
        deeds = deeds_of(work)
        if not deeds:
            yield
            return
        journal = self._journal(host)
        try:
            yield
        except Exception as failure:
            self._write(journal, host, deeds, FAILED, reason_of(str(failure), work))
            raise
        except BaseException:
            self._write(journal, host, deeds, FAILED, INTERRUPTED)
            raise
        self._write(journal, host, deeds, DONE)

    def note(self, host: Host, work: object) -> None:
        """Writes down what is done already."""
        self._write(self._journal(host), host, deeds_of(work), DONE)

    def begin(self, host: Host, work: object) -> None:
        """Work whose commands pyinfra runs itself; `end` says how they went."""
        self._journal(host)
        self._begun[host.name] = (host, deeds_of(work))

    def end(self, host: Host, failure: str = "") -> None:
        """Writes down what was begun on a host, if anything was."""
        if begun := self._begun.pop(host.name, None):
            result = FAILED if failure else DONE
            self._write(self._journal(host), host, begun[1], result, failure)

    def close(self) -> list[str]:
        """What was begun and not ended was cut off; what stood in the way of writing the last lines."""
        return [*filter(None, (self._closed(name) for name in [*self._journals]))]

    def _closed(self, name: str) -> str:
        journal = self._journals[name]
        try:
            if begun := self._begun.get(name):
                self.end(begun[0], INTERRUPTED)
            journal.close()
        except (WorkFailed, SSHException, EOFError, OSError) as failure:
            return f"{name}: the last lines may not be in its journal: {failure}"
        finally:
            del self._journals[name]
        return ""

    def _journal(self, host: Host) -> Journal:
        if host.name not in self._journals:
            self._journals[host.name] = self._open_journal(host)
        return self._journals[host.name]

    def _write(
        self, journal: Journal, host: Host, deeds: Iterable[Deed], result: str, reason: str = ""
    ) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for deed in deeds:
            entry = Entry(now, host.name, deed.action, deed.kind, deed.name, result, reason)
            self.entries.append(entry)
            journal.write(line_of(entry, self.who, self.run, self.release))
