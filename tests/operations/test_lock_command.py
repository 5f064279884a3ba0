"""`cascade lock`: what a person and a program get to read, and the exit codes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from pyinfra.api.host import Host

from cascade.documents import LockAcquireDocument, LockReleaseDocument, LockStatusDocument
from cascade.exit_codes import ATTENTION, ERROR, INVALID, LOCKED, UNREACHABLE
from operations.operator import operator
from tests.fleets import ROOT
from tests.operations.conftest import LocalRun
from tests.operations.lock_folder import LockFolder
from tests.operations.sheets import Sheets

Lock = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> LockFolder:
    return LockFolder(tmp_path)


@pytest.fixture
def sheets(run: LocalRun) -> Sheets:
    """What is written down on the hosts."""
    sheets = Sheets()
    run.trail = sheets.trail()
    return sheets


@pytest.fixture
def lock(
    run: LocalRun,
    host: Host,
    folder: LockFolder,
    sheets: Sheets,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Lock:
    """`cascade lock` with a manager whose script runs in a folder of this test."""
    assert sheets == {}
    (tmp_path / "home.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(click.UsageError, "exit_code", INVALID)
    monkeypatch.setattr(host, "run_shell_command", folder.answer)

    @contextmanager
    def with_manager(_inventory: Path) -> Iterator[tuple[LocalRun, Host]]:
        yield run, host

    # The real one's import patches the standard library, which would come too late here.
    monkeypatch.setitem(sys.modules, "operations.session", SimpleNamespace(with_manager=with_manager))
    spec = spec_from_file_location("lock_command", ROOT / "cascade/commands/lock.py")
    assert spec
    assert spec.loader
    command = module_from_spec(spec)
    spec.loader.exec_module(command)
    return lambda *argv: CliRunner().invoke(command.command, [argv[0], "home.py", *argv[1:]])


def test_a_free_lock_is_exit_code_0(lock: Lock) -> None:
    done = lock("status")
    assert (done.exit_code, done.output) == (0, "mainpc: free\n")
    as_json = lock("status", "--json")
    assert json.loads(as_json.output) == {"held": False, "holder": None}


def test_a_held_lock_is_exit_code_2(lock: Lock, folder: LockFolder) -> None:
    folder.acquire("other")
    done, as_json = lock("status"), lock("status", "--json")
    assert (done.exit_code, as_json.exit_code) == (ATTENTION, ATTENTION)
    assert done.output.startswith("mainpc: held by other@desk since 20")
    heard = r"for: work of other; last heard of \d+ s ago; expires after \d+ s of silence\n$"
    assert re.search(heard, done.output)
    document = LockStatusDocument.model_validate_json(as_json.output)
    assert document.holder
    assert (document.held, document.holder.kind, document.holder.owner) == (True, "run", "other@desk")
    assert document.holder.since.endswith("+00:00")


def test_an_expired_lock_is_free_to_be_taken_over(lock: Lock, folder: LockFolder) -> None:
    folder.acquire("other")
    folder.pass_by(100)
    done = lock("status")
    assert done.exit_code == 0
    assert "mainpc: expired, the next one takes it over: other@desk since 20" in done.output
    assert re.search(r"not heard of for 1\d\d s", done.output)
    document = LockStatusDocument.model_validate_json(lock("status", "--json").output)
    assert document.holder
    assert (document.held, document.holder.expired) == (False, True)


def test_a_person_holds_it_and_releases_it(lock: Lock, folder: LockFolder, sheets: Sheets) -> None:
    held = lock("acquire", "-m", "new disk in pc2")
    assert held.exit_code == 0
    assert held.output.startswith(f"mainpc: held by {operator()} since 20")
    assert "for: new disk in pc2; it does not expire; `cascade lock release home.py` ends it" in held.output
    assert (folder.record["holder"], folder.record["expires_s"]) == ("person", None)
    released = lock("release")
    assert released.exit_code == 0
    assert released.output.startswith(f"mainpc: released; it was held by {operator()}")
    assert not folder.lock.exists()
    assert [line.partition(" action=")[2] for line in sheets["mainpc"] if "action" in line] == [
        'acquire kind=lock name="new disk in pc2" result=done',
        'release kind=lock name="by its owner" result=done',
    ]


def test_a_program_gets_who_holds_it_and_who_was_taken_over_from(lock: Lock, folder: LockFolder) -> None:
    folder.acquire("other")
    folder.pass_by(100)
    document = LockAcquireDocument.model_validate_json(lock("acquire", "-m", "disk", "--json").output)
    assert document.acquired
    assert document.holder
    assert document.taken_from
    assert (document.holder.purpose, document.taken_from.owner) == ("disk", "other@desk")


def test_who_was_taken_over_from_is_said(lock: Lock, folder: LockFolder) -> None:
    folder.acquire("other")
    folder.pass_by(100)
    assert "; taken over from other@desk since 20" in lock("acquire", "-m", "disk").output


def test_one_that_somebody_holds_is_exit_code_5_and_untouched(
    lock: Lock, folder: LockFolder, sheets: Sheets
) -> None:
    folder.acquire("other")
    before = folder.record
    done, as_json = lock("acquire", "-m", "disk"), lock("acquire", "-m", "disk", "--json")
    assert (done.exit_code, as_json.exit_code) == (LOCKED, LOCKED)
    assert "Error: mainpc: locked by other@desk since 20" in done.output
    document = LockAcquireDocument.model_validate_json(as_json.stdout)
    assert document.holder
    assert (document.acquired, document.holder.owner) == (False, "other@desk")
    assert folder.record == before
    assert not any("action" in line for line in sheets["mainpc"])


@pytest.mark.parametrize(("said", "seconds"), [("2h", 7200), ("90", 90), ("1h30m", 5400)])
def test_it_ends_by_itself_after_a_time(said: str, seconds: float, lock: Lock, folder: LockFolder) -> None:
    told = re.search(r"it expires in (\d+) s", lock("acquire", "-m", "disk", "--for", said).output)
    assert told
    assert seconds / 2 < float(told[1]) <= seconds
    assert folder.record["expires_s"] == seconds


WRONG = {
    "nothing said": (),
    "nothing to say": ("-m", "  "),
    "no time": ("-m", "disk", "--for", "soon"),
    "a time that is over": ("-m", "disk", "--for", "0"),
    "a time that never ends": ("-m", "disk", "--for", f"{'9' * 400}h"),
}


@pytest.mark.parametrize("argv", WRONG.values(), ids=WRONG.keys())
def test_wrong_usage_is_exit_code_64_and_takes_nothing(
    argv: tuple[str, ...], lock: Lock, folder: LockFolder
) -> None:
    assert lock("acquire", *argv).exit_code == INVALID
    assert not folder.folder.exists()


@pytest.mark.parametrize("holder", ["run", "person"])
def test_what_is_not_ones_own_is_released_by_force_only(
    holder: str, lock: Lock, folder: LockFolder, sheets: Sheets
) -> None:
    folder.acquire("other", holder=holder)
    refused = lock("release")
    assert refused.exit_code == ERROR
    assert "`cascade lock release home.py --force` ends it all the same" in refused.output
    assert folder.record["token"] == "other"
    forced = lock("release", "--force")
    assert forced.exit_code == 0
    assert not folder.lock.exists()
    assert 'action=release kind=lock name="by force" result=done' in "".join(sheets["mainpc"])


def test_releasing_what_nobody_holds_is_no_mistake_and_no_change(lock: Lock, sheets: Sheets) -> None:
    done = lock("release")
    assert (done.exit_code, done.output) == (0, "mainpc: nobody held it\n")
    document = LockReleaseDocument.model_validate_json(lock("release", "--json").output)
    assert document == LockReleaseDocument(released=False, holder=None)
    assert sheets == {}


def test_one_that_cannot_be_understood_is_exit_code_1_until_it_is_removed_by_force(
    lock: Lock, folder: LockFolder
) -> None:
    folder.acquire()
    folder.lock.write_text("?")
    for argv in (("status", "--json"), ("acquire", "-m", "disk"), ("release",)):
        done = lock(*argv)
        assert done.exit_code == ERROR
        assert done.stdout == ""
        assert f"Error: mainpc: the lock is unknown: {folder.lock} cannot be understood" in done.stderr
    forced = lock("release", "--force")
    assert (forced.exit_code, forced.output) == (0, "mainpc: released; it was unreadable\n")
    assert lock("status").exit_code == 0


def test_a_lost_connection_is_exit_code_6(lock: Lock, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any, **__: Any) -> Any:
        raise OSError("Socket is closed")

    monkeypatch.setattr(host, "run_shell_command", lost)
    done = lock("status")
    assert done.exit_code == UNREACHABLE
    assert "Error: mainpc: the connection was lost: Socket is closed" in done.output
