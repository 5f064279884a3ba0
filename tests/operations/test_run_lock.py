"""When a run takes the lock, and what it does when others were at work before it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cascade.exit_codes import ERROR
from cascade.planning.desired import LOCK_FILE
from cascade.planning.preflight import Finding
from cascade.planning.specs import LABEL_RELEASE
from operations.lock import Stopwatch
from operations.process import identity
from operations.run import Stopped
from tests.operations.conftest import LocalRun, Snapshots


@pytest.fixture
def done(run: LocalRun, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a run that is going to change something did, in order; nobody else is at work."""
    done: list[str] = []

    def take_lock(purpose: str, _since: Stopwatch) -> bool:
        done.append(f"locks to {purpose}")
        return True

    def preflight(*_: Any) -> tuple[Finding, ...]:
        done.append("preflight")
        return ()

    monkeypatch.setattr(run, "changing", True)
    monkeypatch.setattr(run, "take_lock", take_lock)
    monkeypatch.setattr(run, "let_go", lambda: done.append("lets go"))
    monkeypatch.setattr(run, "preflight", preflight)
    return done


def sees(run: LocalRun, done: list[str], monkeypatch: pytest.MonkeyPatch, *seen: Snapshots) -> None:
    """The run sees these, one after the other."""
    looks = iter(seen)

    def snapshots(*_: Any) -> Snapshots:
        done.append("looks")
        return next(looks)

    monkeypatch.setattr(run, "snapshots", snapshots)


def differing(converged: Snapshots) -> Snapshots:
    """The same with one thing to do."""
    pc2 = converged["pc2"]
    sysctls = {**pc2["sysctls"], "net.core.somaxconn": "128"}
    return {**converged, "pc2": {**pc2, "sysctls": sysctls}}


def test_the_lock_comes_before_the_preflight(
    run: LocalRun, done: list[str], converged: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    sees(run, done, monkeypatch, differing(converged))
    assert [change.key.name for change in run.plan().changes] == ["net.core.somaxconn"]
    assert done == ["looks", "locks to deploy", "preflight"]


def test_a_run_with_nothing_to_do_takes_none(
    run: LocalRun, done: list[str], converged: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    sees(run, done, monkeypatch, converged)
    assert run.plan().changes == ()
    assert done == ["looks"]


def test_a_run_that_only_looks_takes_none(
    run: LocalRun, done: list[str], converged: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "changing", False)
    sees(run, done, monkeypatch, differing(converged))
    assert run.plan().changes
    assert done == ["looks", "preflight"]


def test_a_run_that_only_waits_for_agents_takes_it(
    run: LocalRun, done: list[str], converged: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    for task in converged["mainpc"]["docker"]["tasks"]:
        task["Status"]["State"] = "starting"
    sees(run, done, monkeypatch, converged)
    assert any(run.plan().steps.values())
    assert done == ["looks", "locks to deploy"]


@pytest.fixture
def others_were_at_work(run: LocalRun, done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody held the lock after the run began to look."""
    take_lock = run.take_lock
    monkeypatch.setattr(run, "take_lock", lambda *told: not take_lock(*told))
    assert done == []


@pytest.mark.usefixtures("others_were_at_work")
def test_where_others_were_at_work_the_plan_is_made_of_what_they_left(
    run: LocalRun, done: list[str], converged: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = differing(converged), differing(converged)
    second["pc2"]["sysctls"]["net.ipv4.tcp_keepalive_time"] = "7"
    sees(run, done, monkeypatch, first, second)
    assert {change.key.name for change in run.plan().changes} == {
        "net.core.somaxconn",
        "net.ipv4.tcp_keepalive_time",
    }
    assert done == ["looks", "locks to deploy", "looks", "preflight"]


@pytest.mark.usefixtures("others_were_at_work")
def test_where_others_left_nothing_to_do_the_lock_goes_back_at_once(
    run: LocalRun, done: list[str], converged: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    sees(run, done, monkeypatch, differing(converged), converged)
    assert run.plan().changes == ()
    assert done == ["looks", "locks to deploy", "looks", "lets go"]


def test_the_lines_of_a_run_name_the_release_that_it_makes(
    run: LocalRun, done: list[str], converged: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    sees(run, done, monkeypatch, differing(converged))
    assert run.plan().release_number > 0
    assert run.trail.release == run.plan().release_number


def test_a_plan_that_is_refused_takes_no_lock(
    run: LocalRun, done: list[str], converged: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    converged["pc2"]["docker"] = {"error": "TimeoutError: timed out"}
    sees(run, done, monkeypatch, converged)
    with pytest.raises(Stopped) as stopped:
        run.plan()
    assert stopped.value.code == ERROR
    assert done == ["looks"]


def test_a_run_with_nothing_to_do_takes_away_what_one_that_was_killed_left(
    run: LocalRun, done: list[str], converged: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {**(identity() or {}), "started": "1"}
    record = json.dumps({"holder": "run", "process": gone})
    converged["mainpc"]["files"][LOCK_FILE] = {"content": record}
    sees(run, done, monkeypatch, converged)
    assert run.plan().changes == ()
    assert done == ["looks", "locks to deploy", "lets go"]


def test_a_run_that_was_killed_before_it_wrote_its_release_down_leaves_that_to_the_next(
    run: LocalRun, done: list[str], converged: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = converged["mainpc"]["docker"]
    engine["configs"] = [config for config in engine["configs"] if LABEL_RELEASE not in config["Labels"]]
    sees(run, done, monkeypatch, converged)
    assert run.plan().changes == ()
    assert [step.name for steps in run.plan().steps.values() for step in steps] == ["record release 1"]
    assert done == ["looks", "locks to deploy"]
