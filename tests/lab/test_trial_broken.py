"""Deployments that cannot succeed, each broken in one way, and what becomes of all the others.

Every row changes all agents, and breaks one. Groups before it run their new specs, its own group has again
what it had, and groups after it have not been touched.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from cascade.exit_codes import ATTENTION, ERROR, GATE_FAILED, INVALID, ROLLED_BACK
from cascade.planning.verdict import WORDS, Cause
from lab.errors import LabError
from lab.polling import until
from tests.lab.conftest import OTHER_IMAGE, Checkout, Finished, look, on_host, trail
from tests.lab.trial_system import (
    GROUPS,
    Seen,
    add_agent,
    change_agent,
    counts,
    digests,
    name_of,
    of_group,
    seen,
    touch,
)

LAB, REPORT = "inventories/lab.py", "report.json"
STRANGER = "docker run -d --name stranger --entrypoint sleep"

Said = dict[str, Any]


@dataclass(frozen=True)
class ByHand:
    """What somebody does on a host, past Cascade, and how it is undone."""

    host: str
    do: str
    undo: str = "true"


@dataclass(frozen=True)
class Row:
    """One broken deployment: what the files say of one agent, and what must come of it.

    `before` is done by hand before the deployment, `meanwhile` once its first agent has been updated, when
    all checks are over. `others` is what the files say of further agents; a `first` deployment is of a group
    that was not there. `shown` is what the next command tells of, where it does not name the agent.
    """

    group: str
    agent: str
    said: Said
    cause: Cause | None = None
    words: tuple[str, ...] = ()
    code: int = ROLLED_BACK
    first: bool = False
    added: str = ""
    others: tuple[tuple[str, str, Said], ...] = ()
    before: ByHand | None = None
    meanwhile: ByHand | None = None
    shown: str = ""
    everyday: bool = False

    @property
    def name(self) -> str:
        return name_of(self.group, self.added or self.agent)


def shell(script: str, **more: Any) -> Said:
    """A service that runs a script in place of its agent."""
    return {"entrypoint": ["sh", "-c", script], **more}


def env(**variables: object) -> Said:
    return {"environment": {name: str(value) for name, value in variables.items()}}


def check(script: str, **rhythm: Any) -> Said:
    """A service with another health check."""
    return {"healthcheck": {"test": ["CMD", "sh", "-c", script], **rhythm}}


def bind(source: str) -> Said:
    return {"volumes": [f"{source}:/data"]}


def reserving(**amounts: Any) -> Said:
    return {"deploy": {"resources": {"limits": amounts, "reservations": amounts}}}


def publishing(port: int) -> Said:
    """A worker that publishes a port of its host."""
    ports = [{"target": 8200, "published": port, "mode": "host"}]
    return {"ports": ports, "networks": ["trial-internal", "trial-external"]}


# Nothing but its own first process.
ALONE: Said = {"init": False, "x-security": {"exceptions": {"init": "It shows what the engine says of it."}}}
LISTENER = "import socket, time; s = socket.create_server((str(), 18201)); time.sleep(1000)"
CRASH = env(STANDIN_CRASH_AFTER_S=0, STANDIN_EXIT_CODE=7)
SLOW_FIRST = (("first", "Twin", env(STANDIN_START_DELAY_S=4)),)
ON_SSD = ["node.labels.system == pc2", "node.labels.disk == ssd"]

ROWS = {
    "crash at once": Row("middle", "web", CRASH, "repeated_crash", ("exit code 7",), everyday=True),
    "crash after 20 s": Row(
        "middle",
        "worker",
        {**shell("echo waiting in vain; sleep 20; exit 9"), "healthcheck": {"start_period": "40s"}},
        "repeated_crash",
        ("exit code 9",),
    ),
    "never healthy": Row("middle", "web", check("echo no luck; exit 1"), "repeated_unhealthy", ("no luck",)),
    "healthy, then unhealthy": Row(
        "middle",
        "web",
        {**env(STANDIN_UNHEALTHY_AFTER_S=4), "deploy": {"update_config": {"delay": "15s"}}},
        "repeated_unhealthy",
        ("the server answered with an error",),
    ),
    "out of memory": Row("middle", "worker", env(STANDIN_EAT_MEMORY_MB=200), "repeated_crash", ("memory",)),
    "no such program": Row(
        "middle", "worker", {"entrypoint": ["/no/such"], **ALONE}, "not_executable", ("/no/such",)
    ),
    "no such program behind init": Row(
        "middle", "worker", {"entrypoint": ["/no/such"]}, "not_executable", ("/no/such",)
    ),
    "no such user": Row("middle", "worker", {"user": "nemo"}, "repeated_rejection", ("nemo",)),
    "image missing on one node": Row(
        "middle",
        "worker",
        {"image": "trial/other"},
        "image_missing",
        ("No such image", "pc2"),
        meanwhile=ByHand("pc2", f"docker rmi -f {OTHER_IMAGE}"),
        others=SLOW_FIRST,
    ),
    "port taken after the checks": Row(
        "middle",
        "worker",
        publishing(18200),
        "port_taken",
        ("18200",),
        meanwhile=ByHand("pc2", f"{STRANGER} -p 18200:80 cascade/stand-in:lab 1000", "docker rm -f stranger"),
        others=SLOW_FIRST,
    ),
    "folder gone after the checks": Row(
        "middle",
        "worker",
        bind("/srv/trial"),
        "bad_mount",
        ("/srv/trial",),
        before=ByHand("pc2", "mkdir /srv/trial"),
        meanwhile=ByHand("pc2", "rmdir /srv/trial"),
        others=SLOW_FIRST,
    ),
    "folder of a host container gone after the checks": Row(
        "middle",
        "tool",
        bind("/srv/trial"),
        "bad_mount",
        ("/srv/trial",),
        before=ByHand("mainpc", "mkdir /srv/trial"),
        meanwhile=ByHand("mainpc", "rmdir /srv/trial"),
        others=SLOW_FIRST,
    ),
    "label gone after the checks": Row(
        "middle",
        "worker",
        {"deploy": {"placement": {"constraints": ON_SSD}}},
        "constraints_not_satisfied",
        ("disk",),
        meanwhile=ByHand("mainpc", "docker node update --label-rm disk pc2"),
        others=SLOW_FIRST,
    ),
    "CPUs given away after the checks": Row(
        "middle",
        "worker",
        reserving(cpus=0.4),
        "insufficient_resources",
        ("pc2", "0.4"),
        meanwhile=ByHand(
            "mainpc",
            "docker service create -d --no-resolve-image --name stranger --reserve-cpu 1.7"
            " --constraint node.hostname==pc2 --entrypoint sleep cascade/stand-in:lab 1000",
            "docker service rm stranger",
        ),
        others=SLOW_FIRST,
    ),
    "a network of the host in the overlay's place": Row(
        "middle",
        "worker",
        {"networks": ["trial-internal", "trial-extra"]},
        "network_overlap",
        ("overlaps", "10.99.0.0/16"),
        meanwhile=ByHand(
            "pc2",
            "docker network create --subnet 10.99.0.0/16 stranger",
            "docker network rm stranger",
        ),
        others=SLOW_FIRST,
        shown="stranger",
    ),
    "first wave": Row("first", "Registry", CRASH, "repeated_crash", ("exit code 7",)),
    "last wave, host container and all": Row(
        "middle", "worker", CRASH, "repeated_crash", ("exit code 7",), everyday=True
    ),
    "last group": Row("last", "Reporter", CRASH, "repeated_crash", ("exit code 7",)),
    "host container crashes": Row("middle", "tool", CRASH, "repeated_crash", ("exit code 7",)),
    "host container never healthy": Row("middle", "tool", check("exit 1"), "repeated_unhealthy"),
    "host container without its program": Row(
        "middle", "tool", {"entrypoint": ["/no/such"], **ALONE}, "not_executable", ("/no/such",)
    ),
    "both hosts": Row(
        "middle", "web", CRASH, "repeated_crash", ("exit code 7",), others=(("middle", "tool", CRASH),)
    ),
    "an agent that is new": Row(
        "last", "Reporter", {**CRASH, "port": 9004, "health_port": 9005}, "repeated_crash", added="Newcomer"
    ),
    "first deployment crashes": Row(
        "middle", "web", CRASH, "repeated_crash", ("exit code 7",), GATE_FAILED, first=True, everyday=True
    ),
    "first deployment never healthy": Row(
        "last",
        "Reporter",
        {"health_check": {"test": ["CMD", "sh", "-c", "echo no luck; exit 1"]}},
        "repeated_unhealthy",
        ("no luck",),
        GATE_FAILED,
        first=True,
    ),
    "first deployment of the first group": Row(
        "first", "Twin", CRASH, "repeated_crash", ("exit code 7",), GATE_FAILED, first=True
    ),
    "first deployment of a host container": Row(
        "middle", "tool", CRASH, "repeated_crash", ("exit code 7",), GATE_FAILED, first=True
    ),
}

REFUSED = {
    "folder missing": Row(
        "middle",
        "web",
        bind("/srv/is-not-there"),
        words=("mainpc: mounts", "pc2: mounts", "/srv/is-not-there", "middle_web", "mkdir -p"),
        code=ERROR,
        everyday=True,
    ),
    "folder missing on one host": Row(
        "middle",
        "web",
        bind("/srv/trial"),
        words=("pc2: mounts: there is no /srv/trial, which middle_web mounts",),
        code=ERROR,
        before=ByHand("mainpc", "mkdir /srv/trial", "rmdir /srv/trial"),
    ),
    "folder of a host container missing": Row(
        "middle",
        "tool",
        bind("/srv/is-not-there"),
        words=("mainpc: mounts", "/srv/is-not-there", "middle_tool"),
        code=ERROR,
    ),
    "port taken by somebody's container": Row(
        "middle",
        "worker",
        publishing(18200),
        words=("pc2: published-ports", "18200/tcp", "middle_worker", "stranger"),
        code=ERROR,
        before=ByHand("pc2", f"{STRANGER} -p 18200:80 cascade/stand-in:lab 1000", "docker rm -f stranger"),
    ),
    "port taken by a program": Row(
        "middle",
        "worker",
        publishing(18201),
        words=("pc2: published-ports", "18201/tcp", "middle_worker", "python3"),
        code=ERROR,
        before=ByHand(
            "pc2",
            f"systemd-run --unit stranger python3 -c '{LISTENER}'"
            " && timeout 20 sh -c 'until ss -ltn | grep -q :18201; do sleep 0.1; done'",
            "systemctl stop stranger",
        ),
    ),
    "more CPUs than there are": Row(
        "middle", "worker", reserving(cpus=200), words=("pc2: reservations", "CPU"), code=ERROR
    ),
    "more memory than there is": Row(
        "middle", "worker", reserving(memory="9000G"), words=("pc2: reservations", "GB"), code=ERROR
    ),
    "no room beside the old one": Row(
        "middle",
        "worker",
        reserving(cpus=0.4),
        words=("pc2: room", "middle_worker", "0.40 CPU"),
        code=ERROR,
        before=ByHand(
            "mainpc",
            "docker service create --quiet --no-resolve-image --name stranger --reserve-cpu 1.7"
            " --constraint node.hostname==pc2 --entrypoint sleep cascade/stand-in:lab 1000",
            "docker service rm stranger",
        ),
    ),
    "a constraint that nobody meets": Row(
        "middle",
        "worker",
        {"deploy": {"placement": {"constraints": ["node.labels.system == mars"]}}},
        words=("middle.yaml", "mars"),
        code=INVALID,
        everyday=True,
    ),
    "a secret that there is not": Row(
        "middle", "worker", {"secrets": ["password"]}, words=("middle.yaml", "secrets"), code=INVALID
    ),
    "a config that there is not": Row(
        "middle", "worker", {"configs": ["routes"]}, words=("middle.yaml", "routes"), code=INVALID
    ),
}


def params(rows: dict[str, Row]) -> list[Any]:
    """A sample for every day; the others are long."""
    return [
        pytest.param(row, id=what, marks=() if row.everyday else pytest.mark.long)
        for what, row in rows.items()
    ]


def write(checkout: Checkout, row: Row) -> None:
    """Changes every agent, and breaks what the row says."""
    touch(checkout, *GROUPS)
    if row.added:
        add_agent(checkout, row.group, row.added, row.agent, **row.said)
    else:
        change_agent(checkout, row.group, row.agent, **row.said)
    for group, agent, said in row.others:
        change_agent(checkout, group, agent, **said)


@contextmanager
def by_hand(deed: ByHand | None) -> Iterator[None]:
    """The block while somebody has done this, and not yet undone it."""
    if deed:
        on_host(deed.host, deed.do)
    try:
        yield
    finally:
        if deed:
            look(deed.host, deed.undo)


@contextmanager
def meddling(deed: ByHand | None, before: dict[str, Seen]) -> Iterator[None]:
    """The block, in which somebody does this as soon as the first agent has its new spec."""
    if deed is None:
        yield
        return

    def begun() -> None:
        if seen()["first_registry"].digest == before["first_registry"].digest:
            raise LabError("first_registry", "has its old spec", "look at the deployment")

    def meddle() -> None:
        until("the deployment", begun, timeout_s=60, next_step="look at the deployment")
        on_host(deed.host, deed.do)

    with ThreadPoolExecutor() as pool:
        done = pool.submit(meddle)
        try:
            yield
            done.result()
        finally:
            look(deed.host, deed.undo)


@pytest.mark.parametrize("row", params(ROWS))
def test_what_cannot_succeed_ends_by_certainty_and_harms_nobody_else(
    row: Row, trial_variant: Checkout
) -> None:
    if row.first:
        trial_variant.run("cascade", "down", LAB, "--group", row.group, "--yes").ok()
    write(trial_variant, row)
    before = seen()
    with by_hand(row.before), meddling(row.meanwhile, before):
        done = trial_variant.deploy("--data", f"report={REPORT}")
        after = seen()
        assert done.code == row.code, f"exit code {done.code}\n{done.err[-6000:]}"
        assert_diagnosed(row, done, json.loads((trial_variant.path / REPORT).read_text()))
        assert_helped(row, done, trial_variant)
    assert_others_unharmed(row, before, after)
    if row.code == ROLLED_BACK:
        assert_back(row, before, after)
    else:
        assert_left_standing(row, after)


def assert_diagnosed(row: Row, done: Finished, report: Any) -> None:
    """The agent, the cause and the rest are named; a fault of a host is no fault of the program."""
    said = done.out + done.err
    assert {found["cause"] for found in report["diagnoses"]} == {row.cause}, said[-6000:]
    named = {found["name"] for found in report["diagnoses"]}
    broken = {row.name, *(name_of(group, agent) for group, agent, _ in row.others if group == row.group)}
    assert named
    assert named <= broken
    for word in (
        *(f": {name}: " for name in named),
        f"  reason: {WORDS[row.cause or 'not_in_time']}",
        *row.words,
    ):
        assert word in said, f"{word!r} is not said\n{said[-6000:]}"
    assert "Traceback" not in said


def assert_helped(row: Row, done: Finished, checkout: Checkout) -> None:
    """Every command that is to come next runs, and tells something of the agent or its fault."""
    commands = [line.partition(" next: ")[2] for line in done.err.splitlines() if " next: " in line]
    assert commands
    others = (agent for group, agent, _ in row.others if group == row.group)
    telling = {row.name, row.agent, row.shown or row.name, *row.words, *others}
    for command in commands:
        next_one = checkout.run_alone(*shlex.split(command))
        said = next_one.out + next_one.err
        assert next_one.code != INVALID, f"{command}: {said[-3000:]}"
        assert "Traceback" not in said
        assert any(word in said for word in telling), f"{command}: {said[-3000:]}"


def assert_others_unharmed(row: Row, before: dict[str, Seen], after: dict[str, Seen]) -> None:
    """Groups before have their new specs and are healthy; groups after have the same tasks."""
    order = list(GROUPS)
    at = order.index(row.group)
    for group in order[:at]:
        old, new = of_group(before, group), of_group(after, group)
        assert counts(new) == counts(old)
        assert not set(digests(new).values()) & set(digests(old).values())
    for group in order[at + 1 :]:
        assert of_group(after, group) == of_group(before, group)


def assert_back(row: Row, before: dict[str, Seen], after: dict[str, Seen]) -> None:
    """The group has the specs that it had, is healthy, and has nobody new; later waves were not begun."""
    old, new = of_group(before, row.group), of_group(after, row.group)
    assert digests(new) == digests(old)
    assert counts(new) == counts(old)
    for agent in later(row):
        assert new[agent] == old[agent]


def assert_left_standing(row: Row, after: dict[str, Seen]) -> None:
    """What failed is there to look at; later waves were not begun."""
    assert row.name in after
    assert not set(later(row)) & after.keys()


def later(row: Row) -> list[str]:
    """The agents of the waves after the broken one."""
    waves = GROUPS[row.group]
    at = next(number for number, wave in enumerate(waves) if row.agent in wave)
    return [name_of(row.group, agent) for wave in waves[at + 1 :] for agent in wave]


@pytest.mark.parametrize("row", params(REFUSED))
def test_what_could_not_start_is_refused_before_anything_is_touched(
    row: Row, trial_variant: Checkout
) -> None:
    write(trial_variant, row)
    before = seen()
    with by_hand(row.before):
        since = time.time()
        done = trial_variant.deploy()
    assert done.code == row.code, f"exit code {done.code}\n{done.err[-6000:]}"
    assert done.writes == 0
    assert list(trail(since)) == []
    assert seen() == before
    for word in row.words:
        assert word in done.err, f"{word!r} is not said\n{done.err[-6000:]}"
    assert "Traceback" not in done.out + done.err


def test_all_that_could_not_start_is_named_at_once(trial_variant: Checkout) -> None:
    change_agent(trial_variant, "first", "Registry", volumes=["records:/data", "/srv/one:/one"])
    change_agent(trial_variant, "middle", "tool", **bind("/srv/two"))
    change_agent(trial_variant, "last", "Reporter", volumes=["/srv/three:/data"])
    done = trial_variant.deploy()
    assert done.code == ERROR
    for said in (
        "mainpc: mounts: there is no /srv/one, which first_registry mounts",
        "mainpc: mounts: there is no /srv/two, which middle_tool mounts",
        "pc2: mounts: there is no /srv/three, which last_reporter mounts",
    ):
        assert said in done.err


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(CRASH, id="crashes"),
        pytest.param(
            {"health_check": {"test": ["CMD", "sh", "-c", "exit 1"]}},
            id="is never healthy",
            marks=pytest.mark.long,
        ),
    ],
)
def test_an_optional_agent_that_is_broken_is_warned_of_and_holds_up_nobody(
    said: Said, trial_variant: Checkout
) -> None:
    touch(trial_variant, *GROUPS)
    change_agent(trial_variant, "last", "Extra", **said)
    before = seen()
    done = trial_variant.deploy()
    after = seen()
    assert done.code == ATTENTION
    assert "last_extra" in done.err
    assert "Traceback" not in done.out + done.err
    assert not set(digests(after).values()) & set(digests(before).values())
    well = {name: count for name, count in counts(before).items() if name != "last_extra"}
    assert {name: counts(after)[name] for name in well} == well


@pytest.mark.long
def test_an_agent_that_does_not_hear_its_end_is_killed_after_its_grace_period(
    trial_variant: Checkout,
) -> None:
    for group, agent in (("middle", "worker"), ("middle", "tool"), ("first", "Registry")):
        change_agent(trial_variant, group, agent, **env(STANDIN_IGNORE_SIGTERM=1))
    trial_variant.deploy().ok()
    deaf = seen()
    touch(trial_variant, *GROUPS)
    trial_variant.deploy().ok()
    after = seen()
    assert counts(after) == counts(deaf)
    assert not set(digests(after).values()) & set(digests(deaf).values())
