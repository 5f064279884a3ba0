"""The gate behind each wave: on only when every workload is healthy at its spec, and stays so."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from shutil import get_terminal_size

import click
import docker.errors
import requests
from pyinfra import logger
from pyinfra.api.host import Host

from cascade.diagnosis_report import diagnosis_lines
from cascade.documents import Diagnosis
from cascade.model.strict import printable_lines
from cascade.planning.audit import Deed
from cascade.planning.placement import Cluster
from cascade.planning.steps import SETTLE_S, Gate
from cascade.planning.verdict import Cause, Reason, Task
from cascade.planning.waves import Member
from operations.run import Run
from operations.signals import SIGNALS
from operations.swarm.diagnosis import NotHealthy, diagnose
from operations.swarm.halted import WHY, go_on
from operations.swarm.standing import Past, Standing, as_it_ended, cluster_for, look, reason_of

MANY = 3
INTERVAL_S = 0.15
CLEAR_LINE = "\r\033[K"


@dataclass
class _Watch:
    """What a gate has seen so far."""

    run: Run
    host: Host
    gate: Gate
    began: float = field(default_factory=time.monotonic)
    well_since: float | None = None
    before: dict[str, Past] = field(default_factory=dict)
    ended: dict[str, dict[str, Task]] = field(default_factory=dict)
    told_since: dict[str, tuple[Cause, float]] = field(default_factory=dict)
    halted_since: dict[str, float] = field(default_factory=dict)
    abandoned: set[str] = field(default_factory=set)
    up: set[str] = field(default_factory=set)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


def hold(run: Run, host: Host, gate: Gate) -> int:
    """Waits for the wave; how many are healthy. Raises NotHealthy when it cannot succeed, or not in time."""
    warned = {diagnosis.name for diagnosis in run.diagnoses if diagnosis.outcome == "warned"}
    watch = _Watch(run, host, gate, abandoned=warned & {member.name for member in gate.wave.members})
    try:
        while not _passed(watch):
            SIGNALS.pause_point()
            time.sleep(INTERVAL_S)
    finally:
        _clear_live_line()
    healthy = len(gate.wave.members) - len(watch.abandoned)
    host.log(f"{gate.wave}: {healthy} healthy after {watch.seconds:.1f} s")
    return healthy


def _passed(watch: _Watch) -> bool:
    """One look; not yet while an engine that restarts does not answer, until the deadline."""
    try:
        return _looked(watch)
    except (docker.errors.APIError, requests.ConnectionError, requests.Timeout) as error:
        refused = isinstance(error, docker.errors.APIError) and error.is_client_error()
        if refused or watch.run.cut_off or watch.seconds > watch.gate.deadline_s:
            raise
        for name in watch.run.fleet.hosts:
            watch.run.forget_client(name)
        return False


def _looked(watch: _Watch) -> bool:
    standings = look(watch.run, watch.gate.wave.members)
    pending = {
        name: standing
        for name, standing in standings.items()
        if (standing.healthy < watch.gate.replicas[name] or standing.twice or standing.halt == "stranded")
        and name not in watch.abandoned
    }
    _tell(watch, pending)
    _lose(watch, pending)
    _let_go_on(watch, pending)
    watch.well_since = None if pending else watch.well_since or time.monotonic()
    return watch.well_since is not None and time.monotonic() - watch.well_since >= watch.gate.hold_s


def _lose(watch: _Watch, pending: Mapping[str, Standing]) -> None:
    """Ends the wait for those who will not come up: optional ones alone, any other with the whole wave."""
    cluster = cluster_for(watch.run, pending.values())
    lost = {
        member: reason
        for member in watch.gate.wave.members
        if member.name in pending and (reason := _lost(watch, member, pending[member.name], cluster))
    }
    found = [
        diagnose(watch.run, watch.gate, member, pending[member.name], reason)
        for member, reason in lost.items()
    ]
    if not all(member.optional for member in lost):
        raise NotHealthy(found)
    watch.abandoned |= {diagnosis.name for diagnosis in found}
    _clear_live_line()
    warn(watch.run, watch.host, found)


def warn(run: Run, host: Host, diagnoses: Iterable[Diagnosis]) -> None:
    """Says of optional agents that they are not healthy; nobody waits for them any more."""
    for diagnosis in diagnoses:
        run.warned = True
        run.diagnoses.append(diagnosis)
        said = "\n".join((f"{diagnosis.name} is optional and not healthy", *diagnosis_lines(diagnosis)))
        host.log(printable_lines(said), logger.warning)


def _let_go_on(watch: _Watch, pending: Mapping[str, Standing]) -> None:
    """What Swarm leaves in the middle of an update is updated to its end."""
    halted = {name: standing.halt for name, standing in pending.items() if standing.halt}
    watch.halted_since = {name: watch.halted_since.get(name, time.monotonic()) for name in halted}
    for name, halt in halted.items():
        if time.monotonic() - watch.halted_since[name] < SETTLE_S:
            continue
        with watch.run.on_record(watch.host, Deed("update", "service", name)):
            go_on(watch.run.client(watch.host.name), name, halt)
        watch.halted_since[name] = time.monotonic()
        watch.host.log(f"{name}: Swarm {WHY[halt]}; it is updated to its end")


def _lost(watch: _Watch, member: Member, standing: Standing, cluster: Cluster | None) -> Reason | None:
    """Why an agent is not waited for any more: for a reason that has held long enough, or it is too late."""
    reason = reason_of(
        member, _remembered(watch, member, standing), _before(watch, member, standing), cluster
    )
    if reason is None:
        watch.told_since.pop(member.name, None)
    elif _has_held(watch, member, reason):
        return reason
    if watch.seconds <= member.deadline_s:
        return None
    return Reason("not_in_time", f"{standing.state} after {member.deadline_s:g} s")


def _has_held(watch: _Watch, member: Member, reason: Reason) -> bool:
    now = time.monotonic()
    cause, since = watch.told_since.get(member.name, (reason.cause, now))
    if cause != reason.cause:
        since = now
    watch.told_since[member.name] = (reason.cause, since)
    return now - since >= reason.settle_s


def _remembered(watch: _Watch, member: Member, standing: Standing) -> Standing:
    """With the attempts that have ended since the gate stands: Swarm forgets the oldest."""
    ended = watch.ended.setdefault(member.name, {})
    for task in standing.tasks:
        if task["ID"] in standing.ended and task["ID"] not in ended:
            ended[task["ID"]] = as_it_ended(watch.run, task)
    tasks = ended | {task["ID"]: task for task in standing.tasks} | ended
    return replace(standing, tasks=tuple(tasks.values()))


def _before(watch: _Watch, member: Member, standing: Standing) -> Past:
    """What does not count: all before this run changed the agent, or before the gate began."""
    if any(change.key == member.key for change in watch.run.rolled_out):
        return Past(watch.run.ended_before.get(member.key, frozenset()))
    return watch.before.setdefault(member.name, standing.past)


def _tell(watch: _Watch, pending: Mapping[str, Standing]) -> None:
    """A live line on a terminal; in a pipe a line whenever a workload has come up."""
    names = [member.name for member in watch.gate.wave.members]
    up = [name for name in names if name not in pending]
    line = f"{watch.gate.wave}: {len(up)} of {len(names)} up after {watch.seconds:.1f} s{_waiting(pending)}"
    if sys.stderr.isatty():
        width = get_terminal_size().columns
        click.echo(CLEAR_LINE + f"    {line}"[: width - 1], err=True, nl=False)
    elif pending and (fresh := [name for name in up if name not in watch.up]):
        watch.host.log(f"{line}; now up: {', '.join(map(_short, fresh))}")
    watch.up = set(up)


def _clear_live_line() -> None:
    if sys.stderr.isatty():
        click.echo(CLEAR_LINE, err=True, nl=False)


def _waiting(pending: Mapping[str, Standing]) -> str:
    """Who is waited for, by the part of the name that tells them apart inside the group."""
    names = [f"{_short(name)} ({standing.state})" for name, standing in pending.items()]
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    return f"; waiting for {', '.join(names[:MANY])}{more}" if names else ""


def _short(name: str) -> str:
    """The part of a workload's name that tells it apart inside its group."""
    return name.partition("_")[2]
