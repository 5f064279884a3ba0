"""One at a time: deployments at once, holders that die, a person's own lock, and what is written down."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from lab.errors import LabError
from lab.polling import until
from tests.lab.conftest import Checkout, Finished, on_host
from tests.terminal import Answer, at_terminal

LAB = "inventories/lab.py"
FILE = "group_data/stacks/cascade/cascade-auxiliary.yaml"
AGENT = "      - name: CodeGenerator\n"
SERVICE = "cascade-auxiliary_code-generator"
FOLDER = "/var/lib/cascade"
PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)')

Start = Callable[..., "Running"]


class Running:
    """A command that is at work."""

    def __init__(self, checkout: Checkout, *argv: str) -> None:
        self.checkout = checkout
        environment = {**os.environ, "PATH": f"{checkout.venv}/bin:{os.environ['PATH']}"}
        self.process = subprocess.Popen(
            argv,
            cwd=checkout.path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(self) -> Finished:
        out, err = self.process.communicate(timeout=300)
        return Finished(self.process.returncode, out, err)


@pytest.fixture
def start(fleet: Checkout, tmp_path: Path) -> Iterator[Start]:
    """Starts a deployment that gives one agent this value; the fleet is as before when the test is over."""
    begun = []
    with ExitStack() as ends:

        def begin(value: str, *options: str) -> Running:
            variant = fleet.variant(tmp_path / value)
            variant.change(FILE, AGENT, f"{AGENT}        environment: {{CHANGED: '{value}'}}\n")
            running = Running(variant, "pyinfra", "-y", *options, LAB, "deploy.py")
            ends.callback(running.process.kill)
            begun.append(running)
            return running

        yield begin
    for running in begun:
        running.process.wait()
        for stream in (running.process.stdout, running.process.stderr):
            assert stream
            stream.close()
    fleet.run("cascade", "lock", "release", LAB, "--force").ok()
    fleet.deploy().ok()


@pytest.fixture
def mine(fleet: Checkout) -> Iterator[None]:
    """A person's lock for the length of a test."""
    fleet.run("cascade", "lock", "acquire", LAB, "-m", "new disk in pc2").ok()
    yield
    fleet.run("cascade", "lock", "release", LAB, "--force").ok()


def status(checkout: Checkout) -> Any:
    """Who holds the lock, as a program gets it."""
    done = checkout.run("cascade", "lock", "status", LAB, "--json")
    document = json.loads(done.out)
    assert done.code == (2 if document["held"] else 0)
    return document


def count() -> int:
    """How often the lock has changed hands."""
    return int(json.loads(on_host("mainpc", f"cat {FOLDER}/lock-count"))["count"])


def held_by(running: Running) -> dict[str, Any]:
    """The lock's record, once a run has it that was started."""

    def attempt() -> dict[str, Any]:
        content = on_host("mainpc", f"cat {FOLDER}/lock 2>/dev/null; true")
        if not content:
            raise LabError("mainpc", "nobody holds the lock", "look at the deployment")
        return dict(json.loads(content))

    assert running.process.poll() is None
    return until("mainpc", attempt, timeout_s=30, next_step="look at the deployment", interval_s=0.05)


def lines(host: str = "mainpc") -> list[dict[str, str]]:
    """What is written down on a host, as the reference says that it can be read."""
    journal = on_host(host, "journalctl --sync; journalctl -t cascade _UID=0 -o cat --no-pager")
    return [
        {key: json.loads(value) if value.startswith('"') else value for key, value in PAIR.findall(line)}
        for line in journal.splitlines()
    ]


def value_of_the_agent() -> str:
    spec = on_host("mainpc", f"docker service inspect {SERVICE} --format '{{{{json .Spec}}}}'")
    found = re.search(r"CHANGED=(\w+)", spec)
    return found[1] if found else ""


def test_five_that_wait_come_one_after_the_other(start: Start) -> None:
    before, turns = len(lines()), count()
    started = {f"v{number}": start(f"v{number}", "--data", "lock_wait=240") for number in range(5)}
    for running in started.values():
        running.ended().ok()
    written = [line for line in lines()[before:] if line["kind"] == "service"]
    assert [(line["action"], line["name"], line["result"]) for line in written] == [
        ("update", SERVICE, "done")
    ] * 5
    runs = [run for run, _ in groupby(line["run"] for line in lines()[before:])]
    assert len(runs) == len(set(runs)) == 5
    assert count() - turns == 2 * 5
    (last,) = [running for value, running in started.items() if value == value_of_the_agent()]
    assert last.checkout.dry().ok().planned == []


def test_five_that_do_not_wait_are_told_who_is_at_work(start: Start) -> None:
    before = len(lines())
    ended = [running.ended() for running in [start(f"n{number}") for number in range(5)]]
    done = [finished for finished in ended if finished.code == 0]
    locked = [finished for finished in ended if finished.code == 5]
    assert done
    assert len(done) + len(locked) == 5
    for finished in locked:
        assert re.search(
            r"mainpc: locked by \S+@\S+ since .* UTC, for: deploy, inventories/lab.py", finished.err
        )
        assert "cascade lock status inventories/lab.py" in finished.err
        assert "Traceback" not in finished.err
        assert finished.writes == 0
    assert len([line for line in lines()[before:] if line["kind"] == "service"]) == len(done)


def killed_by_a_lack_of_memory(start: Start) -> dict[str, Any]:
    """The lock that a run leaves behind."""
    killed = start("killed")
    record = held_by(killed)
    killed.process.kill()
    assert killed.ended().code == -signal.SIGKILL
    return record


def test_the_one_after_a_run_that_was_killed_here_takes_the_lock_over(start: Start, fleet: Checkout) -> None:
    record = killed_by_a_lack_of_memory(start)
    left = status(fleet)
    assert (left["held"], left["holder"]["owner"]) == (False, record["owner"])
    after = start("after").ended().ok()
    assert re.search(
        rf"took the lock over from {record['owner']} since .*, for: deploy, {LAB}, whose process is gone",
        after.err,
    )
    assert value_of_the_agent() == "after"
    assert status(fleet) == {"held": False, "holder": None}


def test_the_one_after_a_run_that_was_killed_elsewhere_waits_until_it_expires(
    start: Start, fleet: Checkout
) -> None:
    record = killed_by_a_lack_of_memory(start)
    changed_by_hand("r['process']['machine'] = 'another'")
    assert start("early").ended().code == 5
    assert status(fleet)["holder"]["owner"] == record["owner"]
    changed_by_hand("r['uptime_s'] -= 91")
    assert status(fleet)["holder"]["expired"]
    after = start("after").ended().ok()
    assert re.search(
        rf"took the lock over from {record['owner']} since .*, for: deploy, {LAB}, not heard of for \d+ s",
        after.err,
    )
    assert "others were at work since the hosts were read" in after.err
    assert value_of_the_agent() == "after"
    assert status(fleet) == {"held": False, "holder": None}


def changed_by_hand(how: str) -> None:
    """Changes the lock's record, r."""
    edit = f"import json; p = '{FOLDER}/lock'; r = json.load(open(p)); {how}; json.dump(r, open(p, 'w'))"
    on_host("mainpc", f'python3 -c "{edit}"')


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_ended_gives_the_lock_back(
    number: signal.Signals, start: Start, fleet: Checkout
) -> None:
    running = start(number.name)
    held_by(running)
    until_it_works(running)
    running.process.send_signal(number)
    ended = running.ended()
    assert ended.code == 1
    assert f"{number.name}: the run ends at its next safe point" in ended.err
    assert "next: pyinfra -y inventories/lab.py deploy.py" in ended.err
    assert "Traceback" not in ended.err
    assert status(fleet) == {"held": False, "holder": None}


def until_it_works(running: Running) -> None:
    """Returns when the first change is being made."""

    def attempt() -> None:
        if on_host("mainpc", "pgrep -x logger; true") == "":
            raise LabError("mainpc", "nothing is being changed", "look at the deployment")

    assert running.process.poll() is None
    until("mainpc", attempt, timeout_s=30, next_step="look at the deployment", interval_s=0.05)


def test_a_run_whose_lock_is_taken_away_does_not_call_itself_done(start: Start, fleet: Checkout) -> None:
    running = start("robbed")
    held_by(running)
    until_it_works(running)
    running.process.send_signal(signal.SIGSTOP)
    fleet.run("cascade", "lock", "release", LAB, "--force").ok()
    fleet.run("cascade", "lock", "acquire", LAB, "-m", "stop them").ok()
    running.process.send_signal(signal.SIGCONT)
    ended = running.ended()
    assert ended.code == 1
    assert "this run's lock is gone: " in ended.err
    assert "for: stop them has it" in ended.err
    assert status(fleet)["holder"]["purpose"] == "stop them"


@pytest.mark.usefixtures("mine")
def test_a_persons_lock_stops_every_change_also_their_own(start: Start, fleet: Checkout) -> None:
    turns, before = count(), value_of_the_agent()
    refused = start("refused").ended()
    down = fleet.run("cascade", "down", LAB, "--yes")
    again = fleet.run("cascade", "lock", "acquire", LAB, "-m", "me too")
    for finished in (refused, down, again):
        assert finished.code == 5
        assert re.search(r"mainpc: locked by .* for: new disk in pc2; it does not expire", finished.err)
        assert "--lock-wait 600" in finished.err
        assert "cascade lock release inventories/lab.py --force" in finished.err
        assert "Traceback" not in finished.err
    assert (count(), value_of_the_agent()) == (turns, before)
    assert fleet.status().code == 0


@pytest.mark.usefixtures("mine")
def test_whoever_waits_goes_on_when_the_lock_is_released(start: Start, fleet: Checkout) -> None:
    waiting = start("waited", "--data", "lock_wait=120")
    assert waiting.process.stderr
    told = next(line for line in waiting.process.stderr if "waiting for" in line)
    assert "for: new disk in pc2; it does not expire" in told
    fleet.run("cascade", "lock", "release", LAB).ok()
    assert "others were at work since the hosts were read" in waiting.ended().ok().err
    assert value_of_the_agent() == "waited"


@pytest.mark.usefixtures("mine")
def test_looking_needs_no_lock(fleet: Checkout) -> None:
    turns = count()
    fleet.status()
    assert fleet.deploy().ok().summary["verdict"] == "in sync"
    assert fleet.dry().ok().planned == []
    assert count() == turns


def test_a_lock_that_cannot_be_read_is_never_taken_for_free(start: Start, fleet: Checkout) -> None:
    on_host("mainpc", f"echo '{{' > {FOLDER}/lock")
    looked = fleet.run("cascade", "lock", "status", LAB)
    deployed = start("unknown").ended()
    for finished in (looked, deployed):
        assert finished.code == 1
        assert f"mainpc: the lock is unknown: {FOLDER}/lock cannot be understood" in finished.err
        assert "Traceback" not in finished.err
    assert value_of_the_agent() != "unknown"
    fleet.run("cascade", "lock", "release", LAB, "--force").ok()
    assert status(fleet) == {"held": False, "holder": None}


def test_each_change_leaves_a_line_where_it_was_made(start: Start) -> None:
    before = {host: len(lines(host)) for host in ("mainpc", "pc2")}
    on_host("pc2", "sysctl -q -w net.core.somaxconn=128")
    start("written").ended().ok()
    (on_pc2,) = lines("pc2")[before["pc2"] :]
    on_mainpc = lines()[before["mainpc"] :]
    assert (on_pc2["action"], on_pc2["kind"], on_pc2["name"], on_pc2["result"]) == (
        "update",
        "sysctl",
        "net.core.somaxconn",
        "done",
    )
    assert [(line["action"], line["kind"], line["name"]) for line in on_mainpc[:2]] == [
        ("update", "service", SERVICE),
        ("create", "release", on_pc2["release"]),
    ]
    assert len({line["run"] for line in (on_pc2, *on_mainpc)}) == 1
    assert "written" not in json.dumps(on_mainpc)


def test_what_fails_leaves_a_line_with_its_reason(fleet: Checkout) -> None:
    before = len(lines("pc2"))
    on_host("pc2", "sysctl -q -w net.core.somaxconn=128; mv /usr/sbin/sysctl /usr/sbin/sysctl.away")
    try:
        failed = fleet.deploy()
    finally:
        on_host("pc2", "mv /usr/sbin/sysctl.away /usr/sbin/sysctl")
    assert failed.code == 1
    assert [(line["name"], line["result"], line["reason"]) for line in lines("pc2")[before:]] == [
        (
            "net.core.somaxconn",
            "failed",
            "a command failed on the host; the run's output has its words",
        )
    ]
    assert status(fleet) == {"held": False, "holder": None}
    fleet.deploy().ok()


def test_nobodys_words_break_out_of_their_line(fleet: Checkout) -> None:
    words = 'a\nwho=nobody run=1\x1b[31m "quoted" \u202e'
    before = len(lines())
    held = fleet.run("cascade", "lock", "acquire", LAB, "-m", words, "--for", "1h")
    shown = fleet.run("cascade", "lock", "status", LAB)
    fleet.run("cascade", "lock", "release", LAB).ok()
    acquired, released = lines()[before:]
    assert (acquired["action"], released["action"]) == ("acquire", "release")
    assert acquired["name"].startswith("a\\nwho=nobody")
    for finished in (held, shown):
        assert "\x1b" not in finished.out
        assert len(finished.out.splitlines()) == 1
    assert "it expires in 3" in shown.out


@pytest.fixture
def asked(fleet: Checkout, tmp_path: Path) -> Callable[[Answer], tuple[int, str]]:
    """How a deployment that asks ends with this answer."""
    variant = fleet.variant(tmp_path / "asked")
    variant.change(FILE, AGENT, f"{AGENT}        environment: {{CHANGED: 'asked'}}\n")
    argv = [str(fleet.venv / "bin/pyinfra"), LAB, "deploy.py"]
    return lambda answer: at_terminal(argv, variant.path, ("Press enter to execute", answer))


def test_a_person_who_says_no_gives_the_lock_back(
    fleet: Checkout, asked: Callable[[Answer], tuple[int, str]]
) -> None:
    turns = count()
    code, shown = asked("no")
    assert code == 2
    assert "Unexpected user input: no" in shown
    assert count() == turns + 2
    assert status(fleet) == {"held": False, "holder": None}


@pytest.mark.long
def test_the_lock_is_kept_alive_while_a_person_thinks(
    fleet: Checkout, asked: Callable[[Answer], tuple[int, str]]
) -> None:
    def think() -> str:
        first = heartbeat()

        def attempt() -> None:
            if heartbeat() == first:
                raise LabError("mainpc", "no heartbeat came", "look at the lock")

        until("mainpc", attempt, timeout_s=40, next_step="look at the lock", interval_s=1)
        return "no"

    code, _ = asked(think)
    assert code == 2
    assert status(fleet) == {"held": False, "holder": None}


def heartbeat() -> float:
    return float(json.loads(on_host("mainpc", f"cat {FOLDER}/lock"))["heartbeat"])
