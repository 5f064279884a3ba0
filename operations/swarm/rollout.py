"""The rollout of a group, which happens as a whole: when it fails, the group gets back what it had."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import docker.errors
import requests
from pyinfra import logger
from pyinfra.api.host import Host

from cascade.exit_codes import ERROR, GATE_FAILED, ROLLED_BACK, UNREACHABLE
from cascade.model.strict import printable
from cascade.planning.diff import Action, Change
from cascade.planning.specs import LABEL_RELEASE
from cascade.planning.steps import SETTLE_S, Gate
from cascade.planning.waves import Member, Wave
from operations.failed import WorkFailed
from operations.lock import CONNECTION_LOST, Lost
from operations.run import Run
from operations.signals import Interrupted
from operations.swarm.diagnosis import NotHealthy, diagnose_refusal
from operations.swarm.gate import hold, warn
from operations.swarm.gpus import gate_of, prove_gpus, refuse_without_gpu
from operations.swarm.removal import remove
from operations.swarm.standing import ended_so_far
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
        prove_gpus(run, host, gate)
    except _FAULTS as failure:
        raise _ended(run, gate.wave.group, failure) from failure


def _roll_out(run: Run, host: Host, change: Change, apply: Apply) -> None:
    try:
        refuse_without_gpu(run, change)
        with run.on_record(host, change):
            run.rolled_out.append(change)
            _begin_anew(run, change)
            apply(run, host, _numbered(run, change))
    except _FAULTS as failure:
        refused = _refused(run, change, failure)
        if isinstance(refused, NotHealthy) and all(one.outcome == "warned" for one in refused.diagnoses):
            warn(run, host, refused.diagnoses)
            return
        group = next(member.group for member in run.plan().target.members if member.key == change.key)
        raise _ended(run, group, refused) from failure


def _begin_anew(run: Run, change: Change) -> None:
    """What became of an agent before it is changed says nothing of it afterwards."""
    if change.key.kind == "service" and change.action == "update":
        run.ended_before[change.key] = ended_so_far(run, change.key.name)


def _refused(run: Run, change: Change, failure: Exception) -> Exception:
    """With a diagnosis, where it was the engine that did not take what it was given."""
    if not isinstance(failure, docker.errors.APIError):
        return failure
    if found := gate_of(run, change.key):
        said = str(failure.explanation or failure)
        return NotHealthy([diagnose_refusal(run, *found, said)])
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
    waves = [wave for wave in run.plan().target.waves if wave.group == group]
    keys = {member.key for wave in waves for member in wave.members}
    done = [change for change in run.rolled_out if change.key in keys and not _only_started(change)]
    if not done or not any(_was_up(run, member) for wave in waves for member in wave.members):
        return failure
    logger.warning(f"{group} goes back to what it had, because of {_headline(failure)}")
    try:
        back = _return(run, waves, done)
    except (WorkFailed, docker.errors.DockerException, *CONNECTION_LOST) as second:
        if run.cut_off:
            lost = f"the connection to {', '.join(run.cut_off)} was lost while {group} went back"
            return _after(failure, UNREACHABLE, f"\n  {lost}", outcome="going_back_failed")
        if isinstance(second, NotHealthy):
            run.diagnoses += second.diagnoses
        more = f"\n  going back failed too: {second}"
        return _after(failure, GATE_FAILED, more, outcome="going_back_failed")
    except Interrupted as interrupted:
        more = f"\n  {group} had not gone back whole when the run was ended: {interrupted}"
        return _after(failure, ERROR, more, outcome="going_back_failed")
    removed = tuple(change.key.name for change in done if change.observed is None)
    gone = f"; removed again: {', '.join(removed)}" if removed else ""
    more = f"\n  {group} went back: {back} agents are healthy with the specs they had{gone}"
    return _after(failure, ROLLED_BACK, more, outcome="went_back", removed=removed)


def _was_up(run: Run, member: Member) -> bool:
    """Whether there is something to go back to: an agent that did not stand then is not waited for."""
    of_member = (status for status in run.plan().agents if status.member.key == member.key)
    return any(status.desired > 0 and status.up for status in of_member)


def _headline(failure: Exception) -> str:
    return printable(str(failure).partition("\n")[0])


def _after(failure: Exception, code: int, more: str, **done: Any) -> WorkFailed:
    """The failure, with what was done about it."""
    if isinstance(failure, NotHealthy):
        return failure.ending(code, more, **done)
    return WorkFailed(f"{failure}{more}", code)


def _return(run: Run, waves: Iterable[Wave], done: Iterable[Change]) -> int:
    """Undoes the changes, the last first, and proves by the gates how many agents are as they were."""
    before: dict[Any, Any] = {}
    for change in reversed(list(done)):
        _undo(run, change)
        if change.observed is not None:
            before[change.key] = change.observed
    healthy = 0
    for wave in waves:
        well = (member for member in wave.members if member.key in before and _was_up(run, member))
        if members := tuple(well):
            replicas = {member.name: _replicas(before[member.key]) for member in members}
            gate = Gate(replace(wave, members=members), replicas, SETTLE_S)
            healthy += hold(run, run.state.inventory.get_host(run.fleet.manager.name), gate)
    return healthy


def _only_started(change: Change) -> bool:
    """A host container that stood still has the spec that it had."""
    return change.key.kind == "container" and change.action == "update"


def _undo(run: Run, change: Change) -> None:
    host = run.state.inventory.get_host(change.key.host)
    undone = _reverse(change)
    with run.on_record(host, undone):
        _begin_anew(run, undone)
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
