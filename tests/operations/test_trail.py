"""Lines in the hosts' journals: for every change one, also for those that fail or are cut off."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
import pytest
from pyinfra.api.host import Host

from cascade.planning.audit import Deed
from cascade.planning.diff import Change
from cascade.planning.resource import Key
from cascade.planning.steps import Recheck
from operations import audit
from operations.audit import COMMAND_FAILED, INTERRUPTED, HostJournal, Trail
from operations.failed import WorkFailed
from operations.run import Run
from tests.operations.sheets import Sheets

BY = "who=me@desk run=0123456789ab"


def change(name: str, **desired: Any) -> Change:
    return Change(Key("mainpc", "volume", name), "create", (), desired)


@pytest.fixture
def sheets() -> Sheets:
    return Sheets()


@pytest.fixture
def trail(sheets: Sheets) -> Trail:
    return sheets.trail()


def test_what_is_done_is_written_down_with_the_release_that_it_belongs_to(
    trail: Trail, sheets: Sheets, host: Host
) -> None:
    with trail.of(host, change("a")):
        assert sheets["mainpc"] == []
    trail.release = 4
    with trail.of(host, (change("b"), change("c"))):
        pass
    assert sheets["mainpc"] == [
        f"{BY} action=create kind=volume name=a result=done",
        f"{BY} release=4 action=create kind=volume name=b result=done",
        f"{BY} release=4 action=create kind=volume name=c result=done",
    ]
    assert [(entry["host"], entry["name"], entry["result"]) for entry in trail.documents] == [
        ("mainpc", "a", "done"),
        ("mainpc", "b", "done"),
        ("mainpc", "c", "done"),
    ]


def test_what_fails_is_written_down_with_its_reason_and_without_its_secrets(
    trail: Trail, sheets: Sheets, host: Host
) -> None:
    work = change("a", options={"password": "planted"})
    with pytest.raises(WorkFailed), trail.of(host, work):
        raise WorkFailed("mount:\n planted refused")
    assert sheets["mainpc"] == [
        f'{BY} action=create kind=volume name=a result=failed reason="mount: *** refused"'
    ]


def test_what_is_cut_off_is_written_down(trail: Trail, sheets: Sheets, host: Host) -> None:
    with pytest.raises(KeyboardInterrupt), trail.of(host, change("a")):
        raise KeyboardInterrupt
    (line,) = sheets["mainpc"]
    assert line.endswith(f"result=failed reason={INTERRUPTED}")


def test_what_changes_nothing_opens_no_journal(trail: Trail, sheets: Sheets, host: Host) -> None:
    with trail.of(host, Recheck(("mainpc",))):
        pass
    assert trail.close() == []
    assert dict(sheets) == {}


def test_nothing_is_changed_where_nothing_can_be_written_down(host: Host) -> None:
    def no_journal(_host: Host) -> Any:
        raise WorkFailed("there is no logger")

    trail, done = Trail("me@desk", "1", no_journal), []
    with pytest.raises(WorkFailed, match="there is no logger"), trail.of(host, change("a")):
        done.append("changed")
    with pytest.raises(WorkFailed, match="there is no logger"):
        trail.begin(host, change("a"))
    assert done == []


def test_a_line_that_nobody_takes_fails_the_work_and_is_kept_here(
    trail: Trail, sheets: Sheets, host: Host
) -> None:
    with pytest.raises(OSError, match="Socket is closed"), trail.of(host, change("a")):
        sheets.torn = True
    assert [entry.result for entry in trail.entries] == ["done"]


def test_commands_of_pyinfras_own_end_well_or_with_a_reason(trail: Trail, sheets: Sheets, host: Host) -> None:
    trail.begin(host, (change("a"), change("b")))
    assert sheets["mainpc"] == []
    trail.end(host)
    trail.end(host, COMMAND_FAILED)
    trail.begin(host, change("c"))
    trail.end(host, COMMAND_FAILED)
    assert [(entry.name, entry.result) for entry in trail.entries] == [
        ("a", "done"),
        ("b", "done"),
        ("c", "failed"),
    ]


def test_at_the_end_what_was_begun_was_cut_off_and_every_journal_is_closed(
    run: Run, trail: Trail, sheets: Sheets
) -> None:
    mainpc, pc2 = run.state.inventory
    trail.begin(mainpc, change("a"))
    trail.begin(pc2, change("b"))
    trail.end(pc2)
    assert trail.close() == []
    assert sheets["mainpc"] == [
        f"{BY} action=create kind=volume name=a result=failed reason={INTERRUPTED}",
        "(closed)",
    ]
    assert sheets["pc2"] == [f"{BY} action=create kind=volume name=b result=done", "(closed)"]


def test_one_host_that_is_gone_holds_up_no_other_journal(run: Run, sheets: Sheets) -> None:
    mainpc, pc2 = run.state.inventory

    def journal(host: Host) -> Any:
        sheet = sheets.trail()._open_journal(host)
        if host is mainpc:
            sheet.close = _gone  # type: ignore[method-assign]
        return sheet

    trail = Trail("me@desk", "1", journal)
    for host in (mainpc, pc2):
        with trail.of(host, change("a")):
            pass
    assert trail.close() == ["mainpc: the last lines may not be in its journal: Socket is closed"]
    assert sheets["pc2"][-1] == "(closed)"


def _gone() -> None:
    raise OSError("Socket is closed")


class Pipe:
    """As much of a paramiko channel as a journal needs; what it runs runs on this machine."""

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        self.alive = True

    def open_session(self) -> Pipe:
        return self

    def is_active(self) -> bool:
        return self.alive

    def settimeout(self, _: float) -> None: ...

    def exec_command(self, command: str) -> None:
        sudo, dash_n, *argv = shlex.split(command)
        assert (sudo, dash_n) == ("sudo", "-n")
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            ["/bin/sh", *argv[1:]], stdin=pipe, stdout=pipe, stderr=pipe, env={"PATH": str(self.programs)}
        )

    def makefile(self, _mode: str) -> Any:
        return self.process.stdout

    def makefile_stderr(self, _mode: str) -> Any:
        return self.process.stderr

    def sendall(self, content: bytes) -> None:
        assert self.process.stdin
        try:
            self.process.stdin.write(content)
            self.process.stdin.flush()
        except BrokenPipeError:
            raise OSError("Socket is closed") from None

    def shutdown_write(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()

    def recv_exit_status(self) -> int:
        return self.process.wait(timeout=10)

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream
            with suppress(BrokenPipeError):
                stream.close()
        self.process.wait(timeout=10)


@pytest.fixture
def logger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Pipe]]:
    """A host whose logger does this; at first it has none."""
    pipe = Pipe(tmp_path)
    monkeypatch.setattr(audit, "transport_of", lambda _host: pipe)

    def write(script: str) -> Pipe:
        program = tmp_path / "logger"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return pipe

    yield write
    pipe.close()


def test_each_line_is_there_as_soon_as_it_is_written(
    logger: Callable[[str], Pipe], host: Host, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    logger(f'echo "$@" > {journal}; while read -r line; do echo "$line" >> {journal}; echo taken; done')
    found = HostJournal(host)
    found.write("a=1")
    assert found._channel.makefile("r").readline() == b"taken\n"
    assert journal.read_text() == "--tag cascade\na=1\n"
    found.write("b=2")
    found.close()
    assert journal.read_text() == "--tag cascade\na=1\nb=2\n"


@pytest.mark.usefixtures("logger")
def test_a_host_without_a_logger_is_told_before_anything_is_changed(host: Host) -> None:
    with pytest.raises(WorkFailed, match=r"mainpc: changes cannot be written down in the journal: .*logger"):
        HostJournal(host)


@pytest.mark.parametrize("connected", [True, False])
def test_a_logger_that_died_is_told_apart_from_a_lost_connection(
    connected: bool, logger: Callable[[str], Pipe], host: Host
) -> None:
    pipe = logger("exit 1")
    journal = HostJournal(host)
    pipe.process.wait(timeout=10)
    pipe.alive = connected
    with pytest.raises(WorkFailed if connected else OSError, match="Socket is closed"):
        journal.write("a=1")


def test_a_host_that_never_takes_the_last_line_holds_up_nobody_for_ever(
    logger: Callable[[str], Pipe], host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = logger("exit 0")
    journal = HostJournal(host)
    monkeypatch.setattr(audit, "PATIENCE_S", 0.05)
    monkeypatch.setattr(pipe, "recv_exit_status", lambda: gevent.sleep(60))
    with pytest.raises(WorkFailed, match="not taken within"):
        journal.close()


def test_by_hand_a_thing_that_is_done_is_noted(trail: Trail, sheets: Sheets, host: Host) -> None:
    trail.note(host, Deed("acquire", "lock", "new disk"))
    assert sheets["mainpc"] == [f'{BY} action=acquire kind=lock name="new disk" result=done']
