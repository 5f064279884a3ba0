"""A group is rolled out as a whole: what fails leaves it with what it had, or, new, as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import requests
from paramiko import SSHException
from pyinfra.api.host import Host

from cascade.exit_codes import ERROR, GATE_FAILED, ROLLED_BACK
from cascade.model.fleet import Fleet
from cascade.planning.diff import Change
from cascade.planning.plan import Plan, make_plan
from cascade.planning.resource import Key
from cascade.planning.steps import Gate
from cascade.planning.target import target_of
from operations.lock import Lost
from operations.run import WorkFailed
from operations.signals import Interrupted
from operations.swarm import rollout
from operations.swarm.diagnosis import NotHealthy, diagnose_refusal
from operations.swarm.rollout import pass_gate, roll_out_service
from tests.operations.conftest import LocalRun, Snapshots
from tests.operations.engine import Engine

GROUP = "cascade-request-handler"
COORDINATOR = f"{GROUP}_request-coordinator"
CODE = "/v1.44/services"


@pytest.fixture
def planned(run: LocalRun, fleet: Fleet, converged: Snapshots) -> Callable[..., Plan]:
    """A plan, as the run's own, for hosts on which this was done to services by hand."""

    def plan(by_hand: Callable[[list[Any]], None]) -> Plan:
        snapshots = copy.deepcopy(converged)
        by_hand(snapshots["mainpc"]["docker"]["services"])
        run.__dict__["_plan"] = make_plan(target_of(fleet), snapshots)
        return run.plan()

    return plan


@pytest.fixture
def engine_has(engine: Engine, converged: Snapshots) -> None:
    """The engine knows the group's service, its nodes and networks."""
    manager = converged["mainpc"]["docker"]
    (service,) = (item for item in manager["services"] if item["Spec"]["Name"] == COORDINATOR)
    engine.answers = {
        f"{CODE}/{COORDINATOR}": service,
        f"{CODE}/{service['ID']}/update": {"Warnings": None},
        f"{CODE}/create": {"ID": "made"},
        "/v1.44/services": manager["services"],
        "/v1.44/nodes": manager["nodes"],
        "/v1.44/tasks": [],
        "/v1.44/networks": manager["networks"],
    }


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> list[Gate]:
    """The gates that were held; the first one fails, those after it open."""
    held: list[Gate] = []

    def hold(_run: object, _host: object, gate: Gate) -> int:
        held.append(gate)
        if len(held) == 1:
            raise WorkFailed("the coordinator is not healthy", GATE_FAILED)
        return len(gate.wave.members)

    monkeypatch.setattr(rollout, "hold", hold)
    return held


def other_environment(services: list[Any]) -> None:
    (service,) = (item for item in services if item["Spec"]["Name"] == COORDINATOR)
    container = service["Spec"]["TaskTemplate"]["ContainerSpec"]
    container["Env"] = [*container["Env"], "HAND=made"]


def one_gone(services: list[Any]) -> None:
    services[:] = [item for item in services if item["Spec"]["Name"] != COORDINATOR]


def all_gone(services: list[Any]) -> None:
    services[:] = [item for item in services if not item["Spec"]["Name"].startswith(GROUP)]


def rolled_out(run: LocalRun, host: Host, plan: Plan) -> Gate:
    """The changes of a plan, made; the gate behind them."""
    for change in plan.changes:
        roll_out_service(run, host, change)
    *_, last = plan.steps["rollout"]
    (gate,) = last.work.values()
    assert isinstance(gate, Gate)
    return gate


def updates(engine: Engine) -> list[Any]:
    return [
        asked.body
        for asked in engine.asked
        if asked.method == "POST" and asked.path.partition("?")[0].endswith("/update")
    ]


@pytest.mark.usefixtures("engine_has")
def test_a_failed_update_gets_back_what_it_had_and_proves_it(
    run: LocalRun, host: Host, engine: Engine, planned: Callable[..., Plan], gates: list[Gate]
) -> None:
    gate = rolled_out(run, host, planned(other_environment))
    with pytest.raises(WorkFailed) as failed:
        pass_gate(run, host, gate)
    assert failed.value.code == ROLLED_BACK
    assert "the coordinator is not healthy" in str(failed.value)
    assert f"{GROUP} went back: 1 agents are healthy" in str(failed.value)
    wanted, restored = (body["TaskTemplate"]["ContainerSpec"]["Env"] for body in updates(engine))
    assert "HAND=made" not in wanted
    assert "HAND=made" in restored
    assert [dict(held.replicas)[COORDINATOR] for held in gates] == [3, 3]
    assert [len(held.wave.members) for held in gates] == [6, 1]


@pytest.mark.usefixtures("engine_has", "gates")
def test_an_agent_that_the_update_added_goes_again(
    run: LocalRun, host: Host, engine: Engine, planned: Callable[..., Plan]
) -> None:
    gate = rolled_out(run, host, planned(one_gone))
    with pytest.raises(WorkFailed, match=f"removed again: {COORDINATOR}") as failed:
        pass_gate(run, host, gate)
    assert failed.value.code == ROLLED_BACK
    assert [asked.method for asked in engine.asked if asked.method not in ("GET", "POST")] == ["DELETE"]


@pytest.mark.usefixtures("engine_has", "gates")
def test_a_group_that_is_new_stays_as_it_is_for_inspection(
    run: LocalRun, host: Host, engine: Engine, planned: Callable[..., Plan]
) -> None:
    gate = rolled_out(run, host, planned(all_gone))
    asked = len(engine.asked)
    with pytest.raises(WorkFailed) as failed:
        pass_gate(run, host, gate)
    assert (failed.value.code, str(failed.value)) == (GATE_FAILED, "the coordinator is not healthy")
    assert len(engine.asked) == asked


@pytest.mark.usefixtures("engine_has")
def test_an_update_that_the_engine_refuses_is_undone_too(
    run: LocalRun,
    host: Host,
    engine: Engine,
    planned: Callable[..., Plan],
    gates: list[Gate],
) -> None:
    gates.append(gates)  # type: ignore[arg-type] # every gate opens
    (change,) = planned(other_environment).changes
    (service,) = (item for path, item in engine.answers.items() if path == f"{CODE}/{COORDINATOR}")
    refused = b'{"message":"rpc error: bad spec"}'
    answers = [b"HTTP/1.0 400 Bad\r\nContent-Length: %d\r\n\r\n%b" % (len(refused), refused)]
    engine.answers = Once(engine.answers, f"{CODE}/{service['ID']}/update", answers)
    with pytest.raises(WorkFailed) as failed:
        roll_out_service(run, host, change)
    assert failed.value.code == ROLLED_BACK
    assert "  reason: refused by the engine: rpc error: bad spec" in str(failed.value).splitlines()
    assert [(found.cause, found.outcome) for found in run.diagnoses] == [("refused", "went_back")]
    assert len(updates(engine)) == 2


@pytest.mark.usefixtures("engine_has")
def test_an_optional_agent_that_the_engine_refuses_warns_and_is_not_waited_for(
    run: LocalRun, host: Host, engine: Engine, planned: Callable[..., Plan], caplog: pytest.LogCaptureFixture
) -> None:
    plan = planned(one_gone)
    steps = plan.steps["rollout"]
    gates = {id(work): work for step in steps for work in step.work.values() if isinstance(work, Gate)}
    (gate,) = gates.values()
    only = tuple(replace(one, optional=True) for one in gate.wave.members if one.name == COORDINATOR)
    alone = replace(gate, wave=replace(gate.wave, members=only))
    step = replace(steps[-1], work={"mainpc": alone})
    run.__dict__["_plan"] = replace(plan, steps={**plan.steps, "rollout": (*steps[:-1], step)})
    refused = b'{"message":"driver failed: port is already allocated"}'
    engine.answers[f"{CODE}/create"] = b"HTTP/1.0 500 No\r\nContent-Length: %d\r\n\r\n%b" % (
        len(refused),
        refused,
    )
    (change,) = plan.changes
    roll_out_service(run, host, change)
    pass_gate(run, host, alone)
    assert [(found.cause, found.outcome) for found in run.diagnoses] == [("port_taken", "warned")]
    assert run.warned
    assert "it is optional: the rollout goes on without it" in caplog.text


@pytest.mark.parametrize(
    ("by_hand", "outcome", "logs"),
    [(other_environment, "went_back", True), (one_gone, "went_back", False), (all_gone, "left", True)],
)
@pytest.mark.usefixtures("engine_has")
def test_a_diagnosis_says_what_was_done_about_it_and_what_helps_then(
    by_hand: Callable[[list[Any]], None],
    outcome: str,
    logs: bool,
    run: LocalRun,
    host: Host,
    planned: Callable[..., Plan],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = rolled_out(run, host, planned(by_hand))
    (coordinator,) = (one for one in gate.wave.members if one.name == COORDINATOR)
    found = diagnose_refusal(run, gate, coordinator, "no")
    found = found.model_copy(update={"next_commands": ("cascade logs x y", "cascade status x")})
    failures = iter([NotHealthy([found])])

    def hold(*_: object) -> int:
        for failure in failures:
            raise failure
        return 1

    monkeypatch.setattr(rollout, "hold", hold)
    with pytest.raises(NotHealthy):
        pass_gate(run, host, gate)
    (kept,) = run.diagnoses
    assert kept.outcome == outcome
    assert kept.removed == ((COORDINATOR,) if by_hand is one_gone else ())
    assert ("cascade logs x y" in kept.next_commands) is logs


class Once(dict[str, Any]):
    """Answers of an engine of which one path has other answers first."""

    def __init__(self, answers: dict[str, Any], path: str, first: list[bytes]) -> None:
        super().__init__(answers)
        self._path, self._first = path, first

    def get(self, key: str, default: Any = None) -> Any:
        return self._first.pop() if key == self._path and self._first else super().get(key, default)


@pytest.mark.parametrize("error", [WorkFailed, requests.ReadTimeout, SSHException, EOFError])
@pytest.mark.usefixtures("engine_has")
def test_going_back_that_fails_is_told_beside_what_failed_first(
    error: type[Exception],
    run: LocalRun,
    host: Host,
    planned: Callable[..., Plan],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures = iter([WorkFailed("it is down", GATE_FAILED), error("still not healthy")])

    def hold(*_: object) -> None:
        raise next(failures)

    monkeypatch.setattr(rollout, "hold", hold)
    gate = rolled_out(run, host, planned(other_environment))
    with pytest.raises(WorkFailed, match="it is down\n  going back failed too: still not healthy") as failed:
        pass_gate(run, host, gate)
    assert failed.value.code == GATE_FAILED


@pytest.mark.usefixtures("engine_has")
def test_a_signal_that_ends_going_back_hides_nothing_of_what_failed_first(
    run: LocalRun, host: Host, planned: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = rolled_out(run, host, planned(other_environment))
    (coordinator,) = (one for one in gate.wave.members if one.name == COORDINATOR)
    ends = iter([NotHealthy([diagnose_refusal(run, gate, coordinator, "no")]), Interrupted("SIGINT")])

    def hold(*_: object) -> int:
        raise next(ends)

    monkeypatch.setattr(rollout, "hold", hold)
    with pytest.raises(WorkFailed, match=f"{GROUP} had not gone back whole") as failed:
        pass_gate(run, host, gate)
    assert failed.value.code == ERROR
    assert [found.outcome for found in run.diagnoses] == ["going_back_failed"]


@pytest.mark.usefixtures("engine_has", "gates")
def test_what_did_not_stand_before_is_not_gone_back_to(
    run: LocalRun, host: Host, engine: Engine, planned: Callable[..., Plan]
) -> None:
    plan = planned(other_environment)
    down = tuple(replace(agent, healthy=0) for agent in plan.agents)
    run.__dict__["_plan"] = replace(plan, agents=down)
    gate = rolled_out(run, host, run.plan())
    with pytest.raises(WorkFailed) as failed:
        pass_gate(run, host, gate)
    assert (failed.value.code, len(updates(engine))) == (GATE_FAILED, 1)


@pytest.mark.usefixtures("engine_has")
def test_what_had_ended_before_a_change_is_known_and_not_held_against_it(
    run: LocalRun, host: Host, engine: Engine, planned: Callable[..., Plan]
) -> None:
    states = {"old": "failed", "older": "rejected", "now": "running"}
    engine.answers["/v1.44/tasks"] = [{"ID": id_, "Status": {"State": said}} for id_, said in states.items()]
    rolled_out(run, host, planned(other_environment))
    assert {key.name: ended for key, ended in run.ended_before.items()} == {COORDINATOR: {"old", "older"}}


@pytest.mark.usefixtures("engine_has")
def test_who_has_lost_the_lock_touches_nothing_more(
    run: LocalRun, host: Host, engine: Engine, planned: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    def check() -> None:
        raise Lost("the lock is in other hands")

    (change,) = planned(other_environment).changes
    monkeypatch.setattr(run.lock, "check", check)
    with pytest.raises(Lost):
        roll_out_service(run, host, change)
    assert engine.asked == []


@pytest.mark.usefixtures("engine_has")
def test_an_agent_carries_the_release_in_which_it_was_last_changed(
    run: LocalRun, host: Host, engine: Engine, planned: Callable[..., Plan]
) -> None:
    plan = planned(other_environment)
    rolled_out(run, host, replace(plan, release=None))
    (body,) = updates(engine)
    assert body["Labels"]["cascade.release"] == str(plan.release_number)


def test_a_change_is_undone_by_its_reverse() -> None:
    before: dict[str, Any] = {"Labels": {}}
    made = Change(rollout_key("service"), "create", (), {"Labels": {"a": "b"}})
    changed = Change(rollout_key("container"), "replace", (), {"Labels": {"a": "b"}}, before)
    assert rollout._reverse(made).action == "remove"
    assert (rollout._reverse(changed).action, rollout._reverse(changed).desired) == ("replace", before)


def rollout_key(kind: Any) -> Key:
    return Key("mainpc", kind, COORDINATOR)


def test_a_host_container_goes_back_to_all_that_it_had(fleet: Fleet, converged: Snapshots) -> None:
    """Also to what the newer spec says nothing about."""
    snapshots = copy.deepcopy(converged)
    item, *_ = snapshots["mainpc"]["docker"]["containers"]
    container = item["container"]
    container["Config"]["Env"] = [*container["Config"]["Env"], "HAND=made"]
    container["HostConfig"]["ShmSize"] = 12345678
    (change,) = make_plan(target_of(fleet), snapshots).changes
    assert rollout._reverse(change).desired["HostConfig"]["ShmSize"] == 12345678
    assert "HAND=made" in rollout._reverse(change).desired["Env"]


@pytest.mark.usefixtures("engine_has")
def test_an_engine_that_answers_too_late_is_gone_back_from_too(
    run: LocalRun, host: Host, planned: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = iter([requests.ReadTimeout("nobody answered")])

    def hold(*_: object) -> int:
        for fault in faults:
            raise fault
        return 1

    monkeypatch.setattr(rollout, "hold", hold)
    gate = rolled_out(run, host, planned(other_environment))
    with pytest.raises(WorkFailed, match="nobody answered") as failed:
        pass_gate(run, host, gate)
    assert failed.value.code == ROLLED_BACK


@pytest.mark.parametrize(
    ("kind", "action", "started"),
    [
        ("container", "update", True),
        ("container", "replace", False),
        ("service", "update", False),
    ],
)
def test_what_was_only_started_has_nothing_to_go_back_to(kind: Any, action: Any, started: bool) -> None:
    change = Change(rollout_key(kind), action, (), {"Labels": {}}, {"Labels": {}})
    assert rollout._only_started(change) is started


@pytest.mark.parametrize(
    ("name", "logs"), [(COORDINATOR, True), ("cascade-audio-realtime_audio-capture", False)]
)
def test_the_log_of_a_host_container_is_gone_with_it_when_its_group_goes_back(
    name: str, logs: bool, run: LocalRun, fleet: Fleet
) -> None:
    wave = next(wave for wave in target_of(fleet).waves if name in {one.name for one in wave.members})
    member = next(one for one in wave.members if one.name == name)
    found = diagnose_refusal(run, Gate(wave, {name: 1}, 0.0), member, "no")
    found = found.model_copy(update={"next_commands": ("cascade logs x y", "cascade render x")})
    (kept,) = NotHealthy([found]).ending(ROLLED_BACK, "", outcome="went_back").diagnoses
    assert kept.next_commands == (("cascade logs x y",) if logs else ()) + ("cascade render x",)
