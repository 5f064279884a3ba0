"""The rollout of a group, which happens as a whole: when it fails, the group gets back what it had."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import docker.errors
import requests
from pyinfra.api.host import Host

from cascade.exit_codes import GATE_FAILED, ROLLED_BACK
from cascade.planning.diff import Action, Change
from cascade.planning.specs import LABEL_RELEASE
from cascade.planning.steps import SETTLE_S, Gate
from cascade.planning.waves import Wave
from operations.failed import WorkFailed
from operations.lock import CONNECTION_LOST, Lost
from operations.run import Run
from operations.swarm.diagnosis import NotHealthy, diagnose_refusal
from operations.swarm.gate import hold, warn
from operations.swarm.removal import remove
from operations.swarm.workloads import apply_container, apply_service

# An engine that answers too late, or nonsense, leaves a group as half updated as one that refuses.
_FAULTS = (WorkFailed, docker.errors.DockerException, requests.RequestException)

Apply = Callable[[Run, Host, Change], None]


def roll_out_service(run: Run, host: Host, change: Change) -> None:
    """Creates or updates a service; raises WorkFailed, ROLLED_BACK where its group had to go back."""
    _roll_out(run, host, change, apply_service)


def roll_out_container(run: Run, host: Host, change: Change) -> None:
    """Creates, starts or replaces a host container; raises WorkFailed as for a service."""
    _roll_out(run, host, change, apply_container)


def pass_gate(run: Run, host: Host, gate: Gate) -> None:
    """Waits for a wave; raises WorkFailed, ROLLED_BACK where its group had to go back."""
    try:
        hold(run, host, gate)
    except _FAULTS as failure:
        raise _ended(run, gate.wave.group, failure) from failure


def _roll_out(run: Run, host: Host, change: Change, apply: Apply) -> None:
    run.rolled_out.append(change)
    try:
        with run.on_record(host, change):
            apply(run, host, _numbered(run, change))
    except _FAULTS as failure:
        refused = _refused(run, change, failure)
        if isinstance(refused, NotHealthy) and all(one.outcome == "warned" for one in refused.diagnoses):
            warn(run, host, refused.diagnoses)
            return
        group = next(member.group for member in run.plan().target.members if member.key == change.key)
        raise _ended(run, group, refused) from failure


def _refused(run: Run, change: Change, failure: Exception) -> Exception:
    """With a diagnosis, where it was the engine that did not take what it was given."""
    if not isinstance(failure, docker.errors.APIError):
        return failure
    steps = run.plan().steps["rollout"]
    for gate in (work for step in steps for work in step.work.values() if isinstance(work, Gate)):
        for member in gate.wave.members:
            if member.key == change.key:
                said = str(failure.explanation or failure)
                return NotHealthy([diagnose_refusal(run, gate, member, said)])
    return WorkFailed(str(failure))


def _ended(run: Run, group: str, failure: Exception) -> Exception:
    """What is to be raised after the group has gone back, if it could; its diagnoses are kept."""
    raised = _gone_back(run, group, failure)
    if isinstance(raised, NotHealthy):
        run.diagnoses += raised.diagnoses
    return raised


def _numbered(run: Run, change: Change) -> Change:
    """With the label of the release in which the agent was last changed."""
    labels = {**change.desired["Labels"], LABEL_RELEASE: str(run.plan().release_number)}
    return replace(change, desired={**change.desired, "Labels": labels})


def _gone_back(run: Run, group: str, failure: Exception) -> Exception:
    """What is to be raised after a group was returned to the specs that it had, if it had any.

    Whoever has lost the lock touches nothing more, and whoever has lost the connection cannot.
    """
    if isinstance(failure, Lost) or (run.cut_off and not isinstance(failure, WorkFailed)):
        return failure
    plan = run.plan()
    waves = [wave for wave in plan.target.waves if wave.group == group]
    keys = {member.key for wave in waves for member in wave.members}
    new = {change.key for change in plan.changes if change.action == "create"}
    done = [change for change in run.rolled_out if change.key in keys and not _only_started(change)]
    if keys <= new or not done:
        return failure
    try:
        _return(run, waves, done)
    except (WorkFailed, docker.errors.DockerException, *CONNECTION_LOST) as second:
        if isinstance(second, NotHealthy):
            run.diagnoses += second.diagnoses
        more = f"\n  going back failed too: {second}"
        return _after(failure, GATE_FAILED, more, outcome="going_back_failed")
    removed = tuple(change.key.name for change in done if change.observed is None)
    gone = f"; removed again: {', '.join(removed)}" if removed else ""
    back = len(done) - len(removed)
    more = f"\n  {group} went back: {back} agents are healthy with the specs they had{gone}"
    return _after(failure, ROLLED_BACK, more, outcome="went_back", removed=removed)


def _after(failure: Exception, code: int, more: str, **done: Any) -> WorkFailed:
    """The failure, with what was done about it."""
    if isinstance(failure, NotHealthy):
        return failure.ending(code, more, **done)
    return WorkFailed(f"{failure}{more}", code)


def _return(run: Run, waves: Iterable[Wave], done: Iterable[Change]) -> None:
    """Undoes the changes, the last first, and proves by the gates that the group is as it was."""
    before: dict[Any, Any] = {}
    for change in reversed(list(done)):
        _undo(run, change)
        if change.observed is not None:
            before[change.key] = change.observed
    for wave in waves:
        if members := tuple(member for member in wave.members if member.key in before):
            replicas = {member.name: _replicas(before[member.key]) for member in members}
            gate = Gate(replace(wave, members=members), replicas, SETTLE_S)
            hold(run, run.state.inventory.get_host(run.fleet.manager.name), gate)


def _only_started(change: Change) -> bool:
    """A host container that stood still has the spec that it had."""
    return change.key.kind == "container" and change.action == "update"


def _undo(run: Run, change: Change) -> None:
    host = run.state.inventory.get_host(change.key.host)
    undone = _reverse(change)
    with run.on_record(host, undone):
        if undone.action == "remove":
            remove(run, host, (undone,))
        elif change.key.kind == "service":
            _put_back(run, host, undone)
        else:
            apply_container(run, host, undone)


def _put_back(run: Run, host: Host, change: Change) -> None:
    """A service that had to be removed for its update, and could not be made again, is not there."""
    try:
        apply_service(run, host, change)
    except docker.errors.NotFound:
        apply_service(run, host, replace(change, action="create"))


def _reverse(change: Change) -> Change:
    if change.observed is None:
        return replace(change, action="remove")
    action: Action = "update" if change.key.kind == "service" else "replace"
    return replace(change, action=action, desired=change.observed)


def _replicas(observed: Any) -> int:
    return int(observed.get("Mode", {}).get("Replicated", {}).get("Replicas", 1))
