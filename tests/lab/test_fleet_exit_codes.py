"""Every exit code, through the real command lines, with a terminal and without; and each failure as told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cascade.exit_codes import ATTENTION, ERROR, GATE_FAILED, INVALID, LOCKED, ROLLED_BACK, UNREACHABLE
from tests.lab.conftest import Checkout, Finished, on_host
from tests.terminal import at_terminal

LAB = "inventories/lab.py"
PYINFRA = f"pyinfra -y {LAB} deploy.py"
DRY = f"pyinfra --dry {LAB} deploy.py"
GROUP = "cascade-auxiliary"
FILE = f"group_data/stacks/cascade/{GROUP}.yaml"
AGENT = "      - name: Executor\n"
SERVICE = f"{GROUP}_executor"
CRASHING = f'{AGENT}        environment: {{STANDIN_CRASH_AFTER_S: "0"}}\n'
REASON = "reason: repeated crash"


def words(command: str) -> list[str]:
    return command.format(inventory=LAB).split()


def in_a_pipe(checkout: Checkout, command: str) -> Finished:
    return checkout.run(*words(command))


def on_a_terminal(checkout: Checkout, command: str) -> Finished:
    """All that a terminal shows is one text."""
    program, *rest = words(command)
    code, shown = at_terminal([str(checkout.venv / "bin" / program), *rest], checkout.path)
    return Finished(code, shown, shown)


WAYS = {"pipe": in_a_pipe, "terminal": on_a_terminal}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Callable[[Checkout, str], Finished]:
    return WAYS[request.param]


def ends_with(code: int, done: Finished) -> None:
    assert done.code == code, f"exit code {done.code}, not {code}\n{done.out[-3000:]}\n{done.err[-3000:]}"
    assert "Traceback" not in done.out + done.err


def test_0_when_all_is_as_it_is_to_be(fleet: Checkout, way: Callable[[Checkout, str], Finished]) -> None:
    for command in [
        PYINFRA,
        DRY,
        "cascade plan {inventory}",
        "cascade apply {inventory} --yes",
        "cascade drift {inventory}",
        "cascade status {inventory}",
        "cascade history {inventory}",
        "cascade lock status {inventory}",
    ]:
        ends_with(0, way(fleet, command))


@pytest.fixture
def slow_hands(fleet: Checkout) -> Iterator[Checkout]:
    """A kernel setting that somebody changed by hand."""
    on_host("mainpc", "sysctl -q -w net.core.somaxconn=128")
    yield fleet
    fleet.restore()


def test_2_when_something_differs(slow_hands: Checkout, way: Callable[[Checkout, str], Finished]) -> None:
    for command in [DRY, "cascade plan {inventory}", "cascade drift {inventory}"]:
        done = way(slow_hands, command)
        ends_with(ATTENTION, done)
        assert "net.core.somaxconn" in done.out + done.err


def test_1_for_a_release_that_is_not_there(fleet: Checkout, way: Callable[[Checkout, str], Finished]) -> None:
    for command in [
        f"pyinfra -y --data rollback=999 {LAB} deploy.py",
        "cascade rollback {inventory} 999 --yes",
        "cascade history {inventory} --diff 999 1",
    ]:
        done = way(fleet, command)
        ends_with(ERROR, done)
        assert "no release 999" in done.out + done.err


@pytest.fixture
def unreadable(fleet: Checkout) -> Iterator[Checkout]:
    """Settings of an engine that nobody can understand."""
    path = "/etc/docker/daemon.json"
    on_host("pc2", f"cp -p {path} {path}.good && echo '{{' >> {path}")
    yield fleet
    on_host("pc2", f"mv {path}.good {path}")
    assert fleet.drift().code == 0


def test_1_for_what_cannot_be_read(unreadable: Checkout, way: Callable[[Checkout, str], Finished]) -> None:
    for command in [PYINFRA, "cascade plan {inventory}", "cascade drift {inventory}"]:
        done = way(unreadable, command)
        ends_with(ERROR, done)
        assert "daemon.json" in done.out + done.err


@pytest.fixture
def broken(variant: Checkout) -> Checkout:
    """An update after which one agent ends as soon as it starts."""
    variant.change(FILE, AGENT, CRASHING)
    return variant


DEPLOYMENTS = [
    pytest.param(PYINFRA, "pipe", id="pyinfra-pipe"),
    pytest.param("cascade apply {inventory} --yes", "terminal", id="apply-terminal"),
    pytest.param(PYINFRA, "terminal", id="pyinfra-terminal", marks=pytest.mark.long),
    pytest.param("cascade apply {inventory} --yes", "pipe", id="apply-pipe", marks=pytest.mark.long),
]


@pytest.mark.parametrize(("command", "how"), DEPLOYMENTS)
def test_3_when_an_update_had_to_go_back(broken: Checkout, command: str, how: str) -> None:
    before = on_host("mainpc", f"docker service inspect --format '{{{{json .Spec.TaskTemplate}}}}' {SERVICE}")
    done = WAYS[how](broken, command)
    ends_with(ROLLED_BACK, done)
    said = done.out + done.err
    assert REASON in said
    assert f"{GROUP} went back" in said
    after = on_host("mainpc", f"docker service inspect --format '{{{{json .Spec.TaskTemplate}}}}' {SERVICE}")
    assert after == before


@pytest.mark.parametrize(("command", "how"), DEPLOYMENTS)
def test_4_when_a_first_deployment_fails(fleet: Checkout, broken: Checkout, command: str, how: str) -> None:
    fleet.run("cascade", "down", LAB, "--group", GROUP, "--yes").ok()
    done = WAYS[how](broken, command)
    ends_with(GATE_FAILED, done)
    assert REASON in done.out + done.err
    assert on_host("mainpc", f"docker service ls -q --filter name={SERVICE}")


@pytest.fixture
def held(variant: Checkout) -> Iterator[Checkout]:
    """A lock that a person holds, and an update that is not made meanwhile."""
    variant.change(FILE, AGENT, f"{AGENT}        environment: {{CHANGED: 'yes'}}\n")
    variant.run("cascade", "lock", "acquire", LAB, "-m", "new power supply").ok()
    yield variant
    variant.run("cascade", "lock", "release", LAB).ok()


@pytest.mark.parametrize("how", WAYS)
def test_5_when_somebody_holds_the_lock(held: Checkout, how: str) -> None:
    for command in (PYINFRA, "cascade apply {inventory} --yes"):
        done = WAYS[how](held, command)
        ends_with(LOCKED, done)
        assert "new power supply" in done.out + done.err


@pytest.fixture
def silent(fleet: Checkout, tmp_path: Path) -> Checkout:
    """The same fleet, of which one host does not answer where it is looked for."""
    variant = fleet.variant(tmp_path / "silent")
    variant.change(LAB, '"ssh_port": 22042', '"ssh_port": 1')
    return variant


def test_6_when_a_host_does_not_answer(silent: Checkout, way: Callable[[Checkout, str], Finished]) -> None:
    for command in [
        PYINFRA,
        DRY,
        "cascade plan {inventory}",
        "cascade apply {inventory} --yes",
        "cascade drift {inventory}",
        "cascade status {inventory}",
    ]:
        done = way(silent, command)
        ends_with(UNREACHABLE, done)
        assert "pc2" in done.out + done.err


def test_64_for_what_cannot_be_meant(fleet: Checkout, way: Callable[[Checkout, str], Finished]) -> None:
    for command in [
        f"pyinfra -y --data group=nobody {LAB} deploy.py",
        "cascade plan {inventory} --group nobody",
        "cascade apply {inventory} --yes --group nobody",
        "cascade rollback {inventory} yesterday --yes",
        "cascade drift {inventory} --nonsense",
        "cascade nonsense {inventory}",
        "cascade plan inventories/nobody.py",
    ]:
        ends_with(INVALID, way(fleet, command))


@pytest.mark.parametrize(
    "command",
    [f"pyinfra {LAB} deploy.py", "cascade apply {inventory}", "cascade rollback {inventory}"],
)
def test_64_when_there_is_nobody_to_ask(fleet: Checkout, command: str) -> None:
    done = in_a_pipe(fleet, command)
    ends_with(INVALID, done)
    assert "--yes" in done.err


def test_a_person_who_says_no_changes_nothing_and_is_told_that_something_differs(variant: Checkout) -> None:
    variant.change(FILE, AGENT, f"{AGENT}        environment: {{CHANGED: 'yes'}}\n")
    argv = [str(variant.venv / "bin" / "cascade"), "apply", LAB]
    code, shown = at_terminal(argv, variant.path, ("Apply this?", "n"))
    assert code == ATTENTION
    assert "CHANGED" in shown
    assert variant.plan().code == ATTENTION


def test_what_is_shown_in_a_pipe_has_no_colours(fleet: Checkout) -> None:
    for command in (PYINFRA, "cascade plan {inventory}", "cascade drift {inventory}"):
        done = in_a_pipe(fleet, command)
        assert "\x1b" not in done.out + done.err
