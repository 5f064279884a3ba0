"""Runs that are cut off, by signals, death, networks and hosts: the next plain run finishes their work."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cascade.exit_codes import ERROR, UNREACHABLE
from lab.hosts import host_named, open_lab
from tests.lab.conftest import Checkout, Finished, docker, look, on_host
from tests.lab.trial_system import AGENTS, Document, digests, edit, merge, seen, settled

LAB = "inventories/lab.py"
DEPLOY = ("pyinfra", "-y", LAB, "deploy.py")
FIRST_GATE = r"Starting operation: first wave 1/2: gate"
MIDDLE_GATE = r"Starting operation: middle wave 1/2: gate"
FOLDER = "/var/lib/cascade"
LEFT_BEHIND = "find /etc /var/lib/cascade -xdev -name '*.cascade-*'"


class Cut:
    """A deployment that is watched line by line, so that something can happen to it at a known moment."""

    def __init__(self, checkout: Checkout, *argv: str) -> None:
        environment = {**os.environ, "PATH": f"{checkout.venv}/bin:{os.environ['PATH']}"}
        self.seen: list[str] = []
        self.process = subprocess.Popen(
            argv or DEPLOY,
            cwd=checkout.path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def reaches(self, pattern: str, count: int = 1) -> bool:
        """Whether it says so many lines like this before its end; returns as soon as it has."""
        assert self.process.stderr
        for line in self.process.stderr:
            self.seen.append(line)
            count -= bool(re.search(pattern, line))
            if not count:
                return True
        return False

    def until(self, pattern: str, count: int = 1) -> None:
        assert self.reaches(pattern, count), "".join(self.seen)

    def ended(self) -> Finished:
        self.reaches("(?!)")
        return Finished(self.process.wait(), "", "".join(self.seen))

    def killed(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr
        self.process.stderr.close()


@pytest.fixture
def start(trial_variant: Checkout) -> Iterator[Callable[..., Cut]]:
    """Starts deployments; none of them outlives its test."""
    with ExitStack() as ends:

        def begin(*argv: str) -> Cut:
            cut = Cut(trial_variant, *argv)
            ends.callback(cut.killed)
            return cut

        yield begin


def renew(checkout: Checkout, value: str, *groups: str) -> None:
    """A change of every agent of these groups, another for each value."""

    def change(document: Document) -> None:
        for service in document["services"].values():
            merge(service, {"environment": {"NEW": value}})

    for group in groups:
        edit(checkout, group, change)


def assert_converges(checkout: Checkout, *argv: str) -> Finished:
    """One plain run, and all is as the files say: no orphan, no duplicate, no lock, nothing half written."""
    done = checkout.run_alone(*(argv or DEPLOY)).ok()
    again = checkout.run_alone(*DEPLOY).ok()
    assert again.summary["verdict"] == "in sync"
    assert again.writes == 0
    assert checkout.drift().code == 0
    assert look("mainpc", f"cat {FOLDER}/lock") == ""
    for host in ("mainpc", "pc2"):
        assert look(host, LEFT_BEHIND) == ""
    return done


def ends_cleanly(cut: Cut, *codes: int) -> Finished:
    ended = cut.ended()
    assert "Traceback" not in ended.err, ended.err
    assert ended.code in codes, f"exit code {ended.code}\n{ended.err}"
    return ended


def next_command(ended: Finished) -> list[str]:
    """What the run says is to be run next."""
    (line,) = re.findall(r"next: (pyinfra .*)", ended.err)
    return shlex.split(line)


SAMPLE = (1, 9, 17)
KILLS = [pytest.param(count, marks=[] if count in SAMPLE else pytest.mark.long) for count in range(1, 21)]


@pytest.mark.parametrize("count", KILLS)
def test_a_run_that_is_killed_at_any_line_is_finished_by_the_next(
    count: int, trial_variant: Checkout, start: Callable[..., Cut]
) -> None:
    renew(trial_variant, f"killed-{count}", "middle")
    before = digests(seen())
    cut = start()
    cut.until("Beginning operation run")
    cut.reaches("", count)
    cut.killed()
    done = assert_converges(trial_variant)
    assert "Traceback" not in done.err
    settled()
    after = digests(seen())
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {name for name in AGENTS if name.startswith("middle_")}


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, id="SIGTERM"),
        pytest.param(signal.SIGINT, id="SIGINT", marks=pytest.mark.long),
    ],
)
def test_a_signal_ends_a_run_that_says_where_things_stand_and_what_to_run(
    number: signal.Signals, trial_variant: Checkout, start: Callable[..., Cut]
) -> None:
    renew(trial_variant, number.name, "first", "middle", "last")
    cut = start()
    cut.until(MIDDLE_GATE)
    cut.process.send_signal(number)
    ended = ends_cleanly(cut, ERROR)
    assert f"{number.name}: the run ends at its next safe point; a second signal ends it at once" in ended.err
    assert "done: first\n" in ended.err
    assert "not finished: middle: changed: web, tool; not touched yet: worker\n" in ended.err
    assert "not begun: last\n" in ended.err
    assert look("mainpc", f"cat {FOLDER}/lock") == ""
    assert_converges(trial_variant, *next_command(ended))
    settled()


@pytest.mark.long
def test_a_second_signal_ends_it_at_once(trial_variant: Checkout, start: Callable[..., Cut]) -> None:
    renew(trial_variant, "twice", "middle")
    cut = start()
    cut.until(MIDDLE_GATE)
    cut.process.send_signal(signal.SIGTERM)
    cut.process.send_signal(signal.SIGINT)
    ends_cleanly(cut, ERROR)
    assert look("mainpc", f"cat {FOLDER}/lock") == ""
    assert_converges(trial_variant)
    settled()


def test_an_engine_that_restarts_in_the_middle_of_a_wave(
    trial_variant: Checkout, start: Callable[..., Cut]
) -> None:
    renew(trial_variant, "engine", "middle")
    cut = start()
    cut.until(MIDDLE_GATE)
    on_host("mainpc", "systemctl restart docker")
    ended = cut.ended().ok()
    assert "Traceback" not in ended.err, ended.err
    assert_converges(trial_variant)
    settled()


@pytest.mark.long
@pytest.mark.parametrize("name", ["mainpc", "pc2"])
def test_a_host_that_restarts_in_the_middle_of_a_wave(
    name: str, trial_variant: Checkout, start: Callable[..., Cut]
) -> None:
    renew(trial_variant, f"host-{name}", "middle", "last")
    cut = start()
    cut.until(MIDDLE_GATE)
    lab = open_lab(lambda _: None)
    lab.engine.run("restart", host_named(name).container)
    ended = cut.ended()
    lab.up()
    assert "Traceback" not in ended.err, ended.err
    assert_converges(trial_variant)
    settled()


def test_a_connection_that_is_lost_is_told_in_a_line(
    trial_variant: Checkout, start: Callable[..., Cut]
) -> None:
    renew(trial_variant, "lost", "middle")
    cut = start()
    cut.until(MIDDLE_GATE)
    on_host("mainpc", "pkill -KILL -u deploy sshd")
    ended = ends_cleanly(cut, UNREACHABLE)
    assert "the connection to mainpc was lost" in ended.err
    assert "not finished: middle: changed: web, tool; not touched yet: worker\n" in ended.err
    assert_converges(trial_variant, *next_command(ended))
    settled()


SSH = "INPUT -p tcp --dport 22 -j DROP", "OUTPUT -p tcp --sport 22 -j DROP"


@pytest.mark.long
def test_half_a_minute_without_a_network_is_survived(
    trial_variant: Checkout, start: Callable[..., Cut]
) -> None:
    renew(trial_variant, "cut", "middle")
    cut = start()
    cut.until(MIDDLE_GATE)
    away = "; ".join(f"iptables -I {rule}" for rule in SSH)
    back = "; ".join(f"iptables -D {rule}" for rule in SSH)
    # How long it lasts is what this is about.
    on_host("mainpc", f"{away}; sleep 30; {back}")
    assert ends_cleanly(cut, 0).summary["verdict"].endswith("changes made")
    assert_converges(trial_variant)
    settled()


SETTINGS = "/etc/sysctl.d"
FILE = f"{SETTINGS}/90-cascade.conf"


@contextmanager
def full_disk(host: str, folder: str, file: str) -> Iterator[str]:
    """A full disk in place of a folder, with one of its files on it, which has been changed by hand."""
    keep = f"cp -p {file} /run/kept && mount -t tmpfs -o size=16k none {folder} && cp -p /run/kept {file}"
    on_host(host, f"{keep} && echo '# by hand' >> {file}")
    look(host, f"cat /dev/zero > {folder}/filler 2> /dev/null")
    try:
        yield on_host(host, f"cat {file}")
    finally:
        on_host(host, f"umount {folder}")


def test_a_full_disk_is_told_and_leaves_the_old_file_whole(trial_variant: Checkout) -> None:
    with full_disk("pc2", SETTINGS, FILE) as before:
        done = trial_variant.run_alone(*DEPLOY)
        assert done.code == ERROR, done.err
        assert on_host("pc2", f"cat {FILE}") == before
    assert "No space left on device" in done.err
    assert f"{FILE} could not be written and is as it was" in done.err
    assert "Traceback" not in done.err
    assert_converges(trial_variant, *next_command(done))


MOMENTS = {
    "packages": "Starting operation: install docker",
    "engine": "Starting operation: create daemon-settings",
    "swarm": "Starting operation: create swarm",
    "images": "Starting operation: create image",
    "first wave": FIRST_GATE,
}


@pytest.mark.parametrize(
    "moment",
    [pytest.param(name, marks=[] if name == "packages" else pytest.mark.long) for name in MOMENTS],
)
def test_provisioning_that_is_killed_is_finished_by_the_next_run(
    moment: str, trial: Checkout, start: Callable[..., Cut]
) -> None:
    Checkout(Path(__file__).parents[2], trial.venv).run_alone("cascade", "lab", "reset").ok()
    cut = start()
    cut.until(MOMENTS[moment])
    cut.killed()
    assert_converges(trial)
    settled()


def test_a_host_that_is_missing_stops_all_and_left_out_only_what_needs_it(trial_variant: Checkout) -> None:
    renew(trial_variant, "missing", "first", "middle", "last")
    before = digests(seen())
    docker_ = docker()
    subprocess.run((*docker_, "stop", host_named("pc2").container), check=True, capture_output=True)
    try:
        refused = trial_variant.run_alone(*DEPLOY)
        assert refused.code == UNREACHABLE, refused.err
        assert look("mainpc", f"cat {FOLDER}/lock") == ""
        part = trial_variant.run_alone("pyinfra", "-y", "--limit", "mainpc", LAB, "deploy.py")
    finally:
        subprocess.run((*docker_, "start", host_named("pc2").container), check=True, capture_output=True)
        open_lab(lambda _: None).up()
    assert part.code == 2, part.err
    for name in ("middle_worker", "last_reporter", "last_extra"):
        assert f"{name} is skipped: it can only run on pc2, left out by --limit" in part.err
    after = digests(seen())
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"first_registry", "first_twin", "middle_web", "middle_tool"}, part.err
    for done in (refused, part):
        assert "Traceback" not in done.err
    assert_converges(trial_variant)
    settled()
