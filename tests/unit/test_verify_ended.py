"""What ends while a verification runs is left out, and what cannot be read of the rest is no answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.verify import remote_witness
from tests.verify.remote_witness import Gone, alive, answers_of, processes, running

ASKED = {"questions": [["names", "fox"], ["names", "hen"]]}


@pytest.fixture
def ended() -> Iterator[int]:
    """A process that has ended, and that its parent has not asked about."""
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {})
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    yield child
    os.waitpid(child, 0)


@pytest.fixture
def failed() -> subprocess.Popen[bytes]:
    """A network that could not be entered."""
    return subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"], stdout=subprocess.PIPE)


def test_a_process_is_alive_until_it_ends(ended: int) -> None:
    assert alive(os.getpid())
    assert not alive(ended)
    assert not alive(2**22 + 1)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_process_that_has_ended_is_left_out(when: str, ended: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(pid: int) -> int:
        if pid == ended and when == "before":
            raise FileNotFoundError
        return pid

    monkeypatch.setattr(remote_witness, "process", read)
    assert processes({"mine": {"pid": os.getpid()}, "ended": {"pid": ended}}) == {"mine": os.getpid()}


def test_a_process_that_lives_and_cannot_be_read_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(**_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(remote_witness, "process", read)
    with pytest.raises(PermissionError):
        processes({"mine": {"pid": os.getpid()}})


def test_the_network_of_a_process_that_has_ended_answers_nothing(
    ended: int, failed: subprocess.Popen[bytes]
) -> None:
    assert answers_of(failed, {**ASKED, "pid": ended}) == [{"error": "it has ended before it was asked"}] * 2


def test_the_network_of_a_process_that_lives_and_cannot_be_entered_is_no_answer(
    failed: subprocess.Popen[bytes],
) -> None:
    with pytest.raises(OSError, match="entered"):
        answers_of(failed, {**ASKED, "pid": os.getpid()})


def test_networks_that_do_not_answer_are_left_and_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = [subprocess.Popen(["tail", "-f", "/dev/null"], stdout=subprocess.PIPE) for _ in range(2)]
    started = iter(asking)
    monkeypatch.setattr(remote_witness, "in_network", lambda _: next(started))
    for patience in ("ANSWERS_WITHIN_S", "RESOLVED_WITHIN_S", "TIMEOUT_S"):
        monkeypatch.setattr(remote_witness, patience, 0)
    with pytest.raises(TimeoutError, match=f"2 questions .* {os.getpid()}: no answer"):
        remote_witness.probes([{**ASKED, "pid": os.getpid()}] * 2)
    for each in asking:
        each.communicate()
    assert [each.returncode for each in asking] == [-signal.SIGKILL] * 2


def test_a_container_that_is_gone_or_ended_since_it_was_listed_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = {"there": {"State": {"Pid": 7}}, "ended": {"State": {"Pid": 0}}}

    def get(path: str) -> object:
        name = path.split("/")[2]
        if name not in said:
            raise Gone
        return said[name]

    monkeypatch.setattr(remote_witness, "get", get)
    assert [running(name) for name in ("there", "ended", "gone")] == [[said["there"]], [], []]
