"""Secrets on the small system: they arrive to the byte, are nowhere else, and change without harm."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyrage
import pytest

from cascade.exit_codes import ATTENTION, ERROR, INVALID, ROLLED_BACK
from lab.hosts import HOSTS, open_lab
from tests.lab.conftest import ROOT, Checkout, look
from tests.lab.leaks import Hunted
from tests.lab.releases import forget_all_but_the_last
from tests.lab.secret_trial import (
    BREAKING,
    GENERATED,
    LAB,
    MAINPC,
    STORE,
    all_held,
    fresh,
    held,
    in_swarm,
    sealed,
    set_values,
    value_of,
    wanted,
    with_secrets,
)
from tests.lab.trial_system import change_agent, seen, settled, touch

Given = tuple[Hunted, dict[str, bytes]]

DIGITS = r"[0-9a-f]{12}"
LOCAL_PLACES = (Path.home() / ".config", Path.home() / ".cache", Path("/dev/shm"), Path("/var/tmp"))
# Some of them, on hosts where values are about to change: what a run would show of a change.
COMMANDS = {
    "validate": "cascade validate {lab} --json",
    "render": "cascade render {lab} --json",
    "plan": "cascade plan {lab}",
    "plan for programs": "cascade plan {lab} --json --prune",
    "drift": "cascade drift {lab} --json",
    "status": "cascade status {lab} --json",
    "doctor": "cascade doctor {lab} --json",
    "history": "cascade history {lab} --json",
    "logs": "cascade logs {lab} web",
    "lock": "cascade lock status {lab}",
    "images": "cascade images list {lab}",
    "verify": "cascade verify {lab} --json --area data",
    "secrets list": "cascade secrets list {lab}",
    "secrets list for programs": "cascade secrets list {lab} --json",
    "secrets check": "cascade secrets check {lab}",
    "dry": "pyinfra --dry {lab} deploy.py",
    "dry -v": "pyinfra -v --dry {lab} deploy.py",
    "dry -vv": "pyinfra -vv --dry {lab} deploy.py",
    "dry -vvv --diff": "pyinfra -vvv --dry --diff {lab} deploy.py",
    "dry --debug": "pyinfra --debug -vvv --dry {lab} deploy.py",
    "dry --debug-operations": "pyinfra --debug-operations --dry {lab} deploy.py",
    "dry --debug-operations for programs": "pyinfra --debug-operations --dry --json {lab} deploy.py",
    "dry --debug-facts": "pyinfra --debug-facts --dry {lab} deploy.py",
    "dry --debug-all": "pyinfra --debug-all --dry {lab} deploy.py",
}


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the identity is, and what programs write for a moment."""
    return tmp_path_factory.mktemp("outside")


@pytest.fixture(scope="module", autouse=True)
def temporary(outside: Path) -> Iterator[Path]:
    """A folder for temporary files that is looked through."""
    folder = outside / "tmp"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        yield folder


@pytest.fixture(scope="module")
def given(
    trial: Checkout, outside: Path, temporary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Given]:
    """The small system with secrets, deployed while everything was watched; without them afterwards."""
    settled()
    folder = tmp_path_factory.mktemp("secrets") / "trial"
    checkout, values = with_secrets(trial.variant(folder), outside / "identity")
    with checkout.hunter.watching(folder, temporary):
        checkout.deploy().ok()
    yield checkout, values
    trial.deploy().ok()


@pytest.fixture
def secretive(given: Given, tmp_path: Path) -> Iterator[Hunted]:
    """A copy of these files to change and deploy; afterwards everything runs as before."""
    checkout, _ = given
    settled()
    yield checkout.variant(tmp_path / "variant")
    checkout.deploy().ok()


def nowhere(checkout: Hunted, *folders: Path) -> list[str]:
    """Where values are, beside their places."""
    here = checkout.hunter.here(checkout.path, *folders, *LOCAL_PLACES)
    return [*here, *(found for host in HOSTS for found in checkout.hunter.host(host.name))]


def exchanged(checkout: Hunted, values: dict[str, bytes]) -> Hunted:
    """The same files with these values, which are looked for from now on, too."""
    hunting = checkout.hunting(values)
    set_values(hunting, values)
    return hunting


def rotated(checkout: Hunted) -> tuple[Hunted, bytes]:
    """The same files with another generated value."""
    checkout.run("cascade", "secrets", "rotate", LAB, GENERATED).ok()
    value = value_of(checkout, GENERATED)
    return checkout.hunting({GENERATED: value}), value


def unlike(before: dict[str, frozenset[str]]) -> set[str]:
    """The agents that run in other replicas than before."""
    after = replicas()
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def replicas() -> dict[str, frozenset[str]]:
    """The replicas of every agent once the last ones have stopped."""
    settled()
    return {name: agent.replicas for name, agent in seen().items()}


def named(name: str) -> set[str]:
    """What the Swarm calls the values of this name."""
    return {called for called, stored in in_swarm().items() if stored == name}


def read_by(service: str) -> set[str]:
    """What the Swarm calls the values that a service has."""
    each = "{{range .Spec.TaskTemplate.ContainerSpec.Secrets}}{{.SecretName}} {{end}}"
    return set(look(MAINPC.name, f"docker service inspect {service} --format '{each}'").split())


def test_values_arrive_to_the_byte_at_their_mode_and_owner_and_are_nowhere_else(
    given: Given, outside: Path
) -> None:
    checkout, values = given
    assert all_held() == wanted(values)
    assert nowhere(checkout, outside) == []
    assert checkout.dry().ok().planned == []
    assert checkout.drift().ok().document["in_sync"]


def test_names_in_the_swarm_say_nothing_of_values(given: Given, tmp_path: Path) -> None:
    checkout, values = given
    there = in_swarm()
    assert sorted(there.values()) == sorted(values)
    assert all(re.fullmatch(f"trial_{re.escape(name)}-{DIGITS}", called) for called, name in there.items())
    (same,), (twin,) = named("same"), named("twin")
    assert values["same"] == values["twin"]
    assert same[-12:] != twin[-12:]

    # With another key, the same values have other names: without the key nobody can make these.
    other = checkout.variant(tmp_path / "other")
    for file in (other.path / STORE).iterdir():
        file.unlink()
    other.run("cascade", "secrets", "init", LAB).ok()
    set_values(other, values)
    changes = other.plan().document["changes"]
    made = {
        change["name"] for change in changes if (change["kind"], change["action"]) == ("secret", "create")
    }
    assert len(made) == len(values)
    assert not made & there.keys()


def test_a_file_that_is_wrong_ends_every_run_before_a_connection(given: Given, tmp_path: Path) -> None:
    wrong = given[0].variant(tmp_path / "wrong")
    store = wrong.path / STORE
    (store / "twin.age").write_bytes((store / "same.age").read_bytes())
    (store / "large.age").write_bytes((store / "large.age").read_bytes()[:-200])
    since = look(MAINPC.name, "date +%s.%N")
    for argv in (
        ("cascade", "plan", LAB),
        ("cascade", "drift", LAB),
        ("cascade", "apply", LAB, "--yes"),
        ("pyinfra", "-y", LAB, "deploy.py"),
    ):
        done = wrong.run_alone(*argv)
        assert done.code == INVALID, (argv, done.err)
        assert all(f"{name}.age" in done.err for name in ("twin", "large")), argv
        assert "Traceback" not in done.err
    logins = f"journalctl --sync; journalctl -q -o cat --since @{since} | grep 'Accepted publickey'"
    assert [look(host.name, logins) for host in HOSTS] == ["", ""]
    given[0].run_alone("cascade", "status", LAB).ok()
    assert all(look(host.name, logins) for host in HOSTS), "this is how a connection looks"


@pytest.fixture(scope="module")
def pending(given: Given, tmp_path_factory: pytest.TempPathFactory) -> Hunted:
    """The same files with other values, which nobody deploys."""
    checkout, _ = given
    return exchanged(checkout.variant(tmp_path_factory.mktemp("pending") / "variant"), fresh())


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_shows_a_value(name: str, pending: Hunted, temporary: Path) -> None:
    argv = COMMANDS[name].format(lab=LAB).split()
    with pending.hunter.watching(pending.path, temporary):
        done = pending.run_alone(*argv)
    assert done.code in (0, ATTENTION), done.err
    assert "Traceback" not in done.err
    assert pending.hunter.here(pending.path, temporary, *LOCAL_PLACES) == []


def test_a_value_that_was_edited_lies_in_no_file(
    given: Given, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout, values = given
    edited = checkout.variant(tmp_path / "edited")
    monkeypatch.setenv("VISUAL", "sed -i 1s/^/begins-otherwise/")
    with edited.hunter.watching(edited.path, temporary):
        edited.run("cascade", "secrets", "edit", LAB, "text").ok()
    assert value_of(edited, "text") == b"begins-otherwise" + values["text"]
    assert edited.hunter.here(edited.path, temporary, *LOCAL_PLACES) == []


FORCED = """
from {place} import {holder} as place
def broken(*args, **kwargs):
    raise RuntimeError("forced")
place.{name} = broken
from pyinfra_cli.cli import cli
cli()
"""
IN_A_CALL = FORCED.format(place="docker", holder="APIClient", name="create_secret")
ON_A_HOST = FORCED.format(place="operations.host", holder="secrets", name="shell")
OPENED = """
import json, traceback
from pathlib import Path
from operations.session import load
def look(run, opened):
    values = list(opened.values.values())
    print(vars(run), vars(run.fleet))
    print(opened, vars(opened), values, str(values[0]), f"{values[0]!r:>9}", sep="\\n")
    raise RuntimeError("forced")
try:
    run = load(Path("inventories/lab.py"), secrets="open")
    look(run, run.opened)
except RuntimeError as error:
    print(*traceback.TracebackException.from_exception(error, capture_locals=True).format())
"""


def assert_breaks(checkout: Hunted, script: str, temporary: Path) -> None:
    """A deployment ends with an exception that nobody expected; no traceback and no file says more."""
    with checkout.hunter.watching(checkout.path, temporary):
        done = checkout.run_alone("python", "-c", script, "-y", "-vvv", "--debug", LAB, "deploy.py")
    assert done.code == ERROR, done.err
    assert "RuntimeError: forced" in done.err + done.out
    assert checkout.hunter.here(checkout.path, temporary, *LOCAL_PLACES) == []


def test_an_exception_in_the_midst_of_a_secret_shows_no_value(pending: Hunted, temporary: Path) -> None:
    assert_breaks(pending, IN_A_CALL, temporary)


def test_no_object_that_holds_values_shows_them(pending: Hunted) -> None:
    done = pending.run_alone("python", "-c", OPENED).ok()
    assert "RuntimeError: forced" in done.out
    assert "opened = Opened(" in done.out


def test_a_process_that_opened_values_leaves_no_core_dump(pending: Hunted) -> None:
    crash = "import os; from pathlib import Path; from operations.session import load; {}; os.abort()"
    opened = crash.format("load(Path('inventories/lab.py'), secrets='open')")
    limits = "print(open('/proc/self/limits').read(), flush=True); os.abort()"
    for script in (crash.format("pass"), opened, opened.replace("os.abort()", limits)):
        done = pending.run_alone("sh", "-c", f'ulimit -c unlimited; exec python -c "{script}"')
        dumps = [path for path in pending.path.glob("core*") if path.is_file()]
        assert done.code < 0 or done.code > 128
        assert script == crash.format("pass") or not dumps
        for dump in dumps:
            dump.unlink()
    assert re.search(r"Max core file size +[01] ", done.out)


def test_a_rotation_reaches_those_alone_who_read_the_value_and_can_be_taken_back(
    secretive: Hunted, given: Given, temporary: Path, tmp_path: Path
) -> None:
    _, old = given
    before, there = replicas(), in_swarm()
    new = {name: value for name, value in fresh().items() if name == "binary"}
    checkout, made = rotated(exchanged(secretive, new))
    values = {**old, **new, GENERATED: made}
    plan, report = str(tmp_path / "plan"), str(tmp_path / "report.json")
    assert checkout.run("cascade", "plan", LAB, "--out", plan).code == ATTENTION
    with checkout.hunter.watching(checkout.path, temporary, tmp_path):
        checkout.run("cascade", "apply", plan, "--yes", "--report", report).ok()
    assert all_held() == wanted(values)
    assert unlike(before) == {"first_twin", "middle_web", "middle_tool"}
    assert sorted(there.items()) == sorted(item for item in in_swarm().items() if item[0] in there), (
        "a way back"
    )
    assert checkout.dry().ok().planned == []
    assert nowhere(checkout, temporary, tmp_path) == []

    between = replicas()
    with checkout.hunter.watching(checkout.path, temporary):
        checkout.run("cascade", "rollback", LAB, "--yes").ok()
    assert all_held() == wanted(old)
    assert unlike(between) == {"first_twin", "middle_web", "middle_tool"}
    assert nowhere(checkout, temporary) == []


def test_a_value_that_breaks_an_agent_is_taken_back(secretive: Hunted, given: Given, temporary: Path) -> None:
    _, old = given
    before = replicas()
    broken = {"text": BREAKING.encode() + b" " + fresh()["text"]}
    checkout = exchanged(secretive, broken)
    with checkout.hunter.watching(checkout.path, temporary):
        done = checkout.deploy()
    assert done.code == ROLLED_BACK, done.err[-3000:]
    assert "middle" in done.err
    new = wanted({**old, **broken})
    assert all_held() == {name: new[name] if name.startswith("first_") else wanted(old)[name] for name in new}
    assert not unlike(before) & {"middle_worker", "last_reporter", "last_extra"}
    assert nowhere(checkout, temporary) == []


def test_an_old_value_goes_when_nothing_needs_it(secretive: Hunted) -> None:
    before = named("binary")
    (old,) = before & read_by("middle_web")
    checkout = exchanged(secretive, {"binary": fresh()["binary"]})
    checkout.run_alone("pyinfra", "-y", "-vvv", "--debug", "--diff", LAB, "deploy.py").ok()
    (new,) = named("binary") - before
    assert {old, new} <= sealed()

    forget_all_but_the_last()
    change_agent(checkout, "last", "Reporter", environment={"NEW": "1"})
    checkout.run_alone("pyinfra", "-y", "--json", LAB, "deploy.py").ok()
    assert named("binary") == {old, new}, "the spec before is what the engine goes back to"

    forget_all_but_the_last()
    touch(checkout, "middle")
    checkout.deploy().ok()
    assert named("binary") == {new}
    assert (old in sealed(), new in sealed()) == (False, True)


@pytest.mark.long
def test_what_hands_do_to_a_host_containers_values_is_found_and_undone(given: Given) -> None:
    checkout, values = given
    (called,) = named("web.key")
    before = replicas()
    path, sealed_copy = (f"{folder}/cascade/secrets/middle_tool/{called}" for folder in ("/run", "/var/lib"))
    for hands in (
        f"echo other > {path}",
        f"chmod 666 {path}",
        f"chown 1000 {path}",
        f"rm {sealed_copy}",
        f"echo broken > {sealed_copy}",
        f"cp /var/lib/cascade/secrets/middle_tool/trial_text-* {sealed_copy}",
    ):
        look(MAINPC.name, hands)
        assert checkout.dry().planned, hands
        checkout.deploy().ok()
        assert checkout.dry().planned == [], hands
        assert held("middle_tool") == wanted(values)["middle_tool"], hands
    assert unlike(before) == set()


def test_verification_catches_a_value_that_everybody_can_read(given: Given) -> None:
    checkout, _ = given
    (called,) = named("web.key")
    path = f"/run/cascade/secrets/middle_tool/{called}"
    assert faults(checkout) == set()
    look(MAINPC.name, f"chmod 644 {path}")
    try:
        assert faults(checkout) == {
            ("secrets of agents on the host have the owner and mode of their file", MAINPC.name)
        }
    finally:
        look(MAINPC.name, f"chmod 440 {path}")


def faults(checkout: Hunted) -> set[tuple[str, str]]:
    """The tests of secrets and volumes that did not pass, each with its subject."""
    done = checkout.run("cascade", "verify", LAB, "--json", "--area", "data")
    assert done.code in (0, ATTENTION), done.err
    return {(one["test"], one["subject"]) for one in done.document["results"] if one["outcome"] == "failed"}


def test_a_host_container_has_its_values_after_a_reboot(given: Given, temporary: Path) -> None:
    checkout, values = given
    settled()
    lab = open_lab(lambda _: None, ROOT)
    lab.engine.run("restart", MAINPC.container)
    lab.up()
    settled()
    assert all_held() == wanted(values)
    assert checkout.dry().ok().planned == []
    assert nowhere(checkout, temporary) == []


def test_who_leaves_opens_nothing_any_more_and_all_runs_with_other_values(
    secretive: Hunted, given: Given, temporary: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other identity"
    leaver = pyrage.x25519.Identity.generate()
    other.write_text(f"{leaver}\n")
    other.chmod(0o600)
    secretive.run("cascade", "secrets", "rekey", LAB, "--add", str(leaver.to_public())).ok()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CASCADE_IDENTITY", str(other))
        secretive.run("cascade", "secrets", "check", LAB).ok()
    secretive.deploy().ok()
    before = in_swarm()

    left = secretive.run("cascade", "secrets", "rekey", LAB, "--remove", str(leaver.to_public())).ok()
    assert all(name in left.out for name in given[1]), left.out
    new = fresh()
    checkout, made = rotated(exchanged(secretive, new))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CASCADE_IDENTITY", str(other))
        assert checkout.run("cascade", "plan", LAB).code == INVALID
    with checkout.hunter.watching(checkout.path, temporary):
        checkout.deploy().ok()
    assert all_held() == wanted({**new, GENERATED: made})
    assert all(named(name) - before.keys() for name in given[1])
    assert checkout.run("cascade", "secrets", "check", LAB).ok()
    assert nowhere(checkout, temporary) == []


def test_an_exception_in_the_midst_of_a_host_containers_secret_shows_no_value(
    pending: Hunted, temporary: Path
) -> None:
    """The last one: what it has put into the Swarm goes with the next release."""
    assert_breaks(pending, ON_A_HOST, temporary)
