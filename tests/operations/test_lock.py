"""The lock as a run holds it: taken, kept alive, noticed when it is lost, given back."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.host import Host
from pyinfra.connectors.util import CommandOutput, OutputLine

from cascade.exit_codes import ATTENTION, ERROR, GATE_FAILED, LOCKED, UNREACHABLE
from operations import lock as locking
from operations.failed import WorkFailed
from operations.lock import (
    Acquired,
    Held,
    Holder,
    Lock,
    Lost,
    Stopwatch,
    acquire_by_hand,
    left_behind,
    standing,
)
from operations.process import identity, is_gone
from operations.run import Stopped
from operations.signals import ENDING, Interrupted
from tests.fleets import ROOT
from tests.operations.conftest import LocalRun
from tests.operations.lock_folder import LockFolder

LAB = "inventories/lab.py"
WHO = """
import json, time
from operations.process import identity
print(json.dumps(identity()), flush=True)
time.sleep(1000)
"""


@pytest.fixture
def folder(tmp_path: Path) -> LockFolder:
    return LockFolder(tmp_path)


@pytest.fixture
def manager(host: Host, folder: LockFolder, monkeypatch: pytest.MonkeyPatch) -> Host:
    """The manager, whose script runs in a folder of this test."""
    monkeypatch.setattr(host, "run_shell_command", folder.answer)
    monkeypatch.setattr(host, "connected", True)
    return host


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """What a run does to signals ends with the test."""
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def held(manager: Host) -> Iterator[Lock]:
    """A lock that a run holds."""
    lock = Lock("mine", "me@desk")
    lock.acquire(manager, "deploy", LAB)
    yield lock
    if lock._beating:
        lock._beating.kill()


def sleeps(lock: Lock, seconds: float) -> None:
    """As if this machine had slept for so long: its wall clock has gone on."""
    lock._heard._wall -= seconds


def test_a_run_takes_the_lock_and_gives_it_back(manager: Host, folder: LockFolder) -> None:
    lock = Lock("mine", "me@desk")
    assert lock.acquire(manager, "deploy", LAB) == Acquired()
    record = folder.record
    assert (record["owner"], record["purpose"], record["holder"], record["expires_s"]) == (
        "me@desk",
        "deploy",
        "run",
        locking.EXPIRES_S,
    )
    lock.release()
    assert standing(manager) is None
    lock.release()


def test_who_finds_it_held_is_told_by_whom_and_what_to_do(manager: Host, folder: LockFolder) -> None:
    folder.acquire("other")
    lock, told = Lock("mine", "me@desk"), list[str]()
    with pytest.raises(Held) as refused:
        lock.acquire(manager, "deploy", LAB, 0, told.append)
    assert told == []
    assert refused.value.code == LOCKED
    said = str(refused.value)
    assert said.startswith("mainpc: locked by other@desk since 20")
    assert re.search(
        r" UTC, for: work of other; last heard of \d+ s ago; expires after \d+ s of silence", said
    )
    for part in (
        "Nothing was",
        "--lock-wait 600",
        "--data lock_wait=600",
        f"`cascade lock status {LAB}`",
        f"`cascade lock release {LAB} --force`",
    ):
        assert part in said
    sleeps(lock, 500)
    lock.check()
    lock.release()
    assert folder.record["token"] == "other"


def test_who_waits_gets_it_when_it_is_free_and_says_for_whom(
    manager: Host, folder: LockFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.acquire("other")
    monkeypatch.setattr(locking, "RETRY_S", 0.01)
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        folder.do(do="release", token="other", force=False)

    acquired = Lock("mine", "me@desk").acquire(manager, "deploy", LAB, 30, tell)
    assert acquired.waited
    (line,) = told
    assert line.startswith("mainpc: waiting for other@desk since 20")
    assert folder.record["token"] == "mine"


def test_who_waits_in_vain_learns_who_holds_it(
    manager: Host, folder: LockFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.acquire("other")
    monkeypatch.setattr(locking, "RETRY_S", 0.01)
    told: list[str] = []
    with pytest.raises(Held):
        Lock("mine", "me@desk").acquire(manager, "deploy", LAB, 0.2, told.append)
    assert len(told) == 1


@pytest.fixture
def killed(folder: LockFolder) -> Any:
    """A process of this machine that took the lock and was killed."""
    process = subprocess.Popen([sys.executable, "-c", WHO], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    who = json.loads(process.stdout.readline())
    folder.acquire("killed", process=who)
    process.kill()
    process.communicate()
    return who


@pytest.mark.usefixtures("killed")
def test_the_lock_of_a_run_that_was_killed_here_is_taken_over_at_once(
    manager: Host, folder: LockFolder
) -> None:
    told: list[str] = []
    acquired = Lock("mine", "me@desk").acquire(manager, "deploy", LAB, 0, told.append)
    assert acquired.taken_from
    (line,) = told
    assert line.startswith("mainpc: took the lock over from killed@desk since 20")
    assert line.endswith("for: work of killed, whose process is gone")
    assert folder.record["process"]["pid"] == os.getpid()


def test_a_run_that_is_at_work_here_keeps_its_lock(manager: Host, folder: LockFolder) -> None:
    folder.acquire("other", process=identity())
    with pytest.raises(Held):
        Lock("mine", "me@desk").acquire(manager, "deploy", LAB)
    assert folder.record["token"] == "other"


@pytest.mark.usefixtures("killed")
def test_what_was_left_behind_shows_in_the_file(folder: LockFolder) -> None:
    def content(**more: Any) -> dict[str, str]:
        return {"content": json.dumps({**folder.record, **more})}

    assert left_behind(content())
    for reading in (content(process=identity()), content(process=None), content(holder="person")):
        assert not left_behind(reading)
    for unread in (None, {"error": "PermissionError"}, {"content": None}, {"content": "{"}):
        assert not left_behind(unread)


def test_only_a_process_that_is_certainly_gone_is_gone(killed: Any) -> None:
    mine = identity()
    assert mine
    assert is_gone(killed)
    assert is_gone({**mine, "started": "1"})
    for seen in (
        mine,
        None,
        {},
        {**killed, "machine": "another"},
        {**killed, "pid": "7"},
        {**killed, "pid": 1 << 80},
        {"machine": killed["machine"], "pid": killed["pid"]},
    ):
        assert not is_gone(seen)


def test_who_takes_over_says_from_whom(manager: Host, folder: LockFolder) -> None:
    folder.acquire("dead")
    folder.pass_by(500)
    told: list[str] = []
    acquired = Lock("mine", "me@desk").acquire(manager, "deploy", LAB, 0, told.append)
    assert acquired.taken_from
    (line,) = told
    assert line.startswith("mainpc: took the lock over from dead@desk since 20")
    assert re.search(r"for: work of dead, not heard of for 5\d\d s$", line)


def holder(**seen: Any) -> Holder:
    return Holder.of(
        {
            "holder": "run",
            "owner": "a@b",
            "purpose": "p",
            "acquired": 0,
            "silent_s": 3.2,
            "expires_s": 90,
            "expired": False,
        }
        | seen
    )


ALONE = [
    (Acquired(), 5.0, True),
    (Acquired(idle_s=6.0), 5.0, True),
    (Acquired(idle_s=4.0), 5.0, False),
    (Acquired(idle_s=100.0, waited=True), 5.0, False),
    (Acquired(idle_s=100.0, taken_from=holder()), 5.0, False),
]


@pytest.mark.parametrize(("acquired", "seconds", "alone"), ALONE)
def test_a_plan_is_kept_only_if_nobody_held_the_lock_since_it_was_begun(
    acquired: Acquired, seconds: float, alone: bool
) -> None:
    assert acquired.alone_for(seconds) is alone


def test_a_machine_that_slept_counts_the_time() -> None:
    watch = Stopwatch()
    watch._wall -= 600
    assert 600 <= watch.seconds < 660


def test_a_clock_that_was_set_back_hides_no_time() -> None:
    watch = Stopwatch()
    watch._wall += 600
    watch._monotonic -= 30
    assert 30 <= watch.seconds < 60


SIGNS = [
    ({}, "last heard of 3 s ago; expires after 87 s of silence"),
    ({"silent_s": 200.0}, "last heard of 200 s ago; expires after 0 s of silence"),
    ({"holder": "person", "expires_s": None}, "it does not expire"),
    ({"holder": "person", "expires_s": 7200, "silent_s": 200.0}, "it expires in 7000 s"),
]


@pytest.mark.parametrize(("seen", "said"), SIGNS)
def test_what_can_be_said_of_its_end(seen: dict[str, Any], said: str) -> None:
    assert holder(**seen).signs == said


def test_what_others_wrote_into_the_lock_obeys_no_terminal() -> None:
    said = str(holder(owner="a\x1b[31m", purpose="b\nmainpc: free" + "c" * 5000))
    assert said.isprintable()
    assert len(said) < 500


def test_a_heart_that_beats_is_not_asked(held: Lock, manager: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "run_shell_command", None)
    held.check()


def test_after_a_short_silence_it_is_asked_and_goes_on(held: Lock, folder: LockFolder) -> None:
    folder.pass_by(500)
    sleeps(held, 500)
    held.check()
    assert folder.do(do="read")["holder"]["silent_s"] < 60


def taken_over(folder: LockFolder) -> None:
    folder.pass_by(500)
    folder.acquire("other")


LOSSES: dict[str, tuple[Callable[[LockFolder], object], str]] = {
    "another has it": (
        taken_over,
        "other@desk since 20",
    ),
    "it was released": (
        lambda folder: folder.do(do="release", owner="x", force=True),
        "nobody has it, and others may have had it",
    ),
}


@pytest.mark.parametrize(("happens", "said"), LOSSES.values(), ids=LOSSES.keys())
def test_a_run_that_lost_it_stops_before_its_next_operation(
    happens: Callable[[LockFolder], object], said: str, held: Lock, folder: LockFolder
) -> None:
    happens(folder)
    sleeps(held, 60)
    for _ in range(2):
        with pytest.raises(Lost, match=f"mainpc: this run's lock is gone: {said}") as lost:
            held.check()
        assert lost.value.code == ERROR
    before = folder.lock.read_bytes() if folder.lock.exists() else None
    held.release()
    assert (folder.lock.read_bytes() if folder.lock.exists() else None) == before


@pytest.mark.parametrize("happens", [loss for loss, _ in LOSSES.values()], ids=LOSSES.keys())
def test_a_run_that_lost_it_during_its_last_operation_is_told_at_its_end(
    happens: Callable[[LockFolder], object], held: Lock, folder: LockFolder
) -> None:
    happens(folder)
    with pytest.raises(Lost):
        held.release()


def test_a_run_that_cannot_ask_does_not_go_on(
    held: Lock, manager: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "run_shell_command", unreachable)
    sleeps(held, 60)
    with pytest.raises(OSError, match="Socket is closed"):
        held.check()


def unreachable(*_: Any, **__: Any) -> Any:
    raise OSError("Socket is closed")


def test_a_missed_heartbeat_is_tried_again(
    held: Lock, manager: Host, folder: LockFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([unreachable, folder.answer])
    monkeypatch.setattr(manager, "run_shell_command", lambda *a, **k: next(answers)(*a, **k))
    monkeypatch.setattr(locking, "BEAT_S", 0.01)
    sleeps(held, 30)
    held._beating.kill()
    held._beating = None
    with pytest.raises(StopIteration):
        held._beat_on()
    assert held._heard.seconds < 30


def test_an_answer_that_is_lost_may_have_been_a_yes(
    manager: Host, folder: LockFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks_off(*arguments: Any, **more: Any) -> Any:
        folder.answer(*arguments, **more)
        raise OSError("Socket is closed")

    lock = Lock("mine", "me@desk")
    monkeypatch.setattr(manager, "run_shell_command", breaks_off)
    with pytest.raises(OSError, match="Socket is closed"):
        lock.acquire(manager, "deploy", LAB)
    assert folder.record["token"] == "mine"
    monkeypatch.setattr(manager, "run_shell_command", folder.answer)
    lock.release()
    assert not folder.lock.exists()


def test_whoever_could_not_ask_lost_nothing(
    manager: Host, folder: LockFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.acquire("other")
    lock = Lock("mine", "me@desk")
    monkeypatch.setattr(manager, "run_shell_command", unreachable)
    with pytest.raises(OSError, match="Socket is closed"):
        lock.acquire(manager, "deploy", LAB)
    monkeypatch.setattr(manager, "run_shell_command", folder.answer)
    lock.release()
    assert folder.record["token"] == "other"


def test_a_manager_that_cannot_answer_is_named_with_its_words(
    manager: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = CommandOutput(
        [OutputLine("stderr", "warning"), OutputLine("stderr", "sudo: a password\x1b is required")]
    )
    monkeypatch.setattr(manager, "run_shell_command", lambda *_, **__: (False, said))
    with pytest.raises(WorkFailed) as failed:
        standing(manager)
    assert str(failed.value) == ("mainpc: the lock could not be asked for: sudo: a password\\x1b is required")


@pytest.mark.parametrize("answer", ["", "Welcome to mainpc", "7", "{"])
def test_a_manager_that_answers_nonsense_is_told_and_no_traceback(
    answer: str, manager: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = CommandOutput([OutputLine("stdout", line) for line in answer.splitlines()])
    monkeypatch.setattr(manager, "run_shell_command", lambda *_, **__: (True, output))
    with pytest.raises(WorkFailed) as failed:
        standing(manager)
    assert str(failed.value) == f"mainpc: the lock could not be asked for: {answer or 'no answer'}"


@pytest.mark.parametrize("acquired", [-1e10, 1e11])
def test_a_time_that_is_nonsense_is_shown_all_the_same(
    acquired: float, manager: Host, folder: LockFolder
) -> None:
    folder.acquire()
    folder.lock.write_text(json.dumps({**folder.record, "acquired": acquired}))
    found = standing(manager)
    assert found
    assert found.acquired.year in (1970, 5138)


def test_a_lock_that_cannot_be_understood_is_unknown(manager: Host, folder: LockFolder) -> None:
    folder.acquire()
    folder.lock.write_text("{")
    for attempt in (
        lambda: standing(manager),
        lambda: Lock("mine", "me@desk").acquire(manager, "deploy", LAB),
        lambda: acquire_by_hand(manager, "t", "me@desk", "disk", None, LAB),
    ):
        with pytest.raises(WorkFailed, match=r"mainpc: the lock is unknown: .*lock cannot be understood"):
            attempt()


def test_a_persons_words_reach_the_manager_as_they_are(manager: Host, folder: LockFolder) -> None:
    words = 'a\'; touch x; \'"$(touch x)" \\n {"a": 1}'
    acquire_by_hand(manager, "t", "me@desk", words, 7200, LAB)
    assert folder.record["purpose"] == words
    assert json.loads(folder.lock.read_text())["expires_s"] == 7200
    found = standing(manager)
    assert found
    assert found.holder == "person"


@pytest.fixture
def deploying(run: LocalRun, manager: Host, monkeypatch: pytest.MonkeyPatch) -> LocalRun:
    """A run that is about to change something, with its manager."""
    run.inventory_file = LAB
    monkeypatch.setattr(run.state.inventory, "get_host", lambda _name: manager)
    return run


def test_a_run_that_finds_it_held_ends_with_its_own_code(
    deploying: LocalRun, folder: LockFolder, caplog: pytest.LogCaptureFixture
) -> None:
    folder.acquire("other")
    with pytest.raises(Stopped) as stopped:
        deploying.take_lock("deploy", Stopwatch())
    assert (stopped.value.code, deploying.code) == (LOCKED, LOCKED)
    assert "mainpc: locked by other@desk" in caplog.text


def test_a_run_that_cannot_ask_ends_as_unreachable(
    deploying: LocalRun, manager: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "run_shell_command", unreachable)
    with pytest.raises(Stopped) as stopped:
        deploying.take_lock("deploy", Stopwatch())
    assert stopped.value.code == UNREACHABLE


def test_a_command_holds_it_for_as_long_as_it_changes_something(
    deploying: LocalRun, folder: LockFolder
) -> None:
    with deploying.locked("down"):
        assert folder.record["purpose"] == f"down, {LAB}"
    assert not folder.lock.exists()
    with pytest.raises(WorkFailed, match="a reason"), deploying.locked("down"):
        raise WorkFailed("a reason")
    assert not folder.lock.exists()


def test_a_command_that_a_signal_ends_gives_it_back_and_fails(
    deploying: LocalRun, folder: LockFolder
) -> None:
    at_work = []

    def change() -> None:
        at_work.append(deploying.at_work)
        raise Interrupted("interrupted by SIGTERM")

    with pytest.raises(WorkFailed, match="interrupted by SIGTERM"), deploying.locked("down"):
        change()
    assert [*at_work, deploying.at_work] == [True, False]
    assert not folder.lock.exists()


def test_a_command_that_lost_it_does_not_end_well(deploying: LocalRun, folder: LockFolder) -> None:
    with pytest.raises(Stopped) as stopped, deploying.locked("down"):
        folder.do(do="release", owner="x", force=True)
    assert stopped.value.code == ERROR


@pytest.mark.parametrize(("before", "after"), [(ATTENTION, ERROR), (GATE_FAILED, GATE_FAILED)])
def test_a_loss_that_shows_at_the_end_is_worse_than_a_warning(
    before: int, after: int, deploying: LocalRun, folder: LockFolder
) -> None:
    deploying.take_lock("deploy", Stopwatch())
    folder.do(do="release", owner="x", force=True)
    deploying.code = before
    deploying.let_go()
    assert deploying.code == after


def test_nothing_is_changed_by_a_run_that_lost_it(
    deploying: LocalRun, folder: LockFolder, manager: Host
) -> None:
    done: list[str] = []
    deploying.take_lock("down", Stopwatch())
    folder.do(do="release", owner="x", force=True)
    sleeps(deploying.lock, 60)
    with pytest.raises(Lost), deploying.on_record(manager, object()):
        done.append("changed")
    assert done == []


def test_a_lock_that_cannot_be_given_back_is_told_and_expires(
    deploying: LocalRun, manager: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    deploying.take_lock("deploy", Stopwatch())
    monkeypatch.setattr(manager, "run_shell_command", unreachable)
    deploying.let_go()
    assert "the lock stays for 90 s and then expires: Socket is closed" in caplog.text
    assert deploying.code is None
