"""What a signal does to a run: it ends between two changes, and a second one ends it at once."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from pyinfra.api.host import Host
from pyinfra.api.state import StateStage

from cascade.planning.steps import Gate
from cascade.planning.target import target_of
from operations.failed import WorkFailed
from operations.polling import poll
from operations.signals import SIGNALS, Interrupted
from operations.swarm import gate as gates
from tests.fleets import ROOT
from tests.operations.conftest import LocalRun

# In a process of its own, with the standard library patched as the command lines have it.
SCRIPT = """
import pyinfra_cli
import gevent, signal, sys
from operations.signals import SIGNALS, Interrupted

def stop(words):
    print(words, flush=True)
    if "stuck" in sys.argv:
        gevent.sleep(1000)
    raise SystemExit(7)

def bystander():
    try:
        while True:
            gevent.sleep(0)
    except SystemExit:
        print("a bystander was hit", flush=True)

if "nohup" in sys.argv:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
SIGNALS.take_over(lambda: "working" in sys.argv, stop)
gevent.spawn(bystander)
print("ready", flush=True)
try:
    while True:
        if "deaf" not in sys.argv:
            SIGNALS.pause_point()
        gevent.sleep(0.01)
except Interrupted as interrupted:
    print("paused:", interrupted, flush=True)
    raise SystemExit(1)
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process that obeys signals, and waits until it does."""
    begun: list[subprocess.Popen[str]] = []

    def begin(*how: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *how],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        begun.append(process)
        says(process, "ready")
        return process

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def says(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout
    line = process.stdout.readline()
    assert words in line, line + process.stdout.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_while_nothing_is_changed_a_signal_ends_the_run_at_once(number: signal.Signals, start: Start) -> None:
    process = start("deaf")
    process.send_signal(number)
    assert process.communicate(timeout=30)[0] == f"ended by {number.name}\n"
    assert process.returncode == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_ends_work_at_its_next_pause(number: signal.Signals, start: Start) -> None:
    process = start("working")
    process.send_signal(number)
    said = process.communicate(timeout=30)[0]
    assert said.endswith(f"paused: interrupted by {number.name}\n")
    assert "a bystander was hit" not in said
    assert process.returncode == 1


def test_the_second_signal_ends_it_at_once(start: Start) -> None:
    process = start("working", "deaf")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)
    assert process.returncode == 7


def test_the_third_is_the_systems_own(start: Start) -> None:
    process = start("deaf", "stuck")
    process.send_signal(signal.SIGTERM)
    says(process, "ended by SIGTERM")
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)
    assert process.returncode == -signal.SIGTERM


def test_a_terminal_that_closes_is_no_signal_to_who_asked_not_to_hear_it(start: Start) -> None:
    process = start("working", "nohup")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[0].endswith("paused: interrupted by SIGTERM\n")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal has come."""
    monkeypatch.setattr(SIGNALS, "asked", "SIGTERM")


@pytest.mark.usefixtures("asked")
def test_no_change_is_begun_once_a_signal_has_come(run: LocalRun, host: Host) -> None:
    done: list[str] = []
    with pytest.raises(Interrupted), run.on_record(host, object()):
        done.append("changed")
    assert done == []


@pytest.mark.usefixtures("asked")
def test_who_waits_for_something_waits_no_longer() -> None:
    def never() -> None:
        raise WorkFailed("not yet")

    with pytest.raises(Interrupted):
        poll("a thing", never, 1000)


def test_a_gate_ends_between_two_looks(run: LocalRun, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []

    def look(*_: object) -> bool:
        looks.append("looks")
        SIGNALS.asked = "SIGINT"
        return False

    monkeypatch.setattr(SIGNALS, "asked", "")
    monkeypatch.setattr(gates, "_passed", look)
    with pytest.raises(Interrupted, match="interrupted by SIGINT"):
        gates.hold(run, host, Gate(target_of(run.fleet).waves[0], {}, 0.0))
    assert looks == ["looks"]


def test_only_while_something_may_be_half_done_is_a_signal_put_off(run: LocalRun) -> None:
    for stage, working in ((StateStage.Prepare, False), (StateStage.Execute, True)):
        run.state.set_stage(stage)
        assert run.at_work is working
