"""The gate behind each wave: on only when every workload is healthy at its spec, and stays so."""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from shutil import get_terminal_size

import click
import docker.errors
import requests
from pyinfra import logger
from pyinfra.api.host import Host

from cascade.exit_codes import GATE_FAILED
from cascade.planning.steps import SETTLE_S, Gate
from cascade.planning.waves import Member
from operations.run import Run, WorkFailed
from operations.signals import SIGNALS
from operations.swarm.logs import last_words
from operations.swarm.standing import Standing, look

MANY = 3
FAILURES_ARE_CERTAIN = 3
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
    failures_before: dict[str, frozenset[tuple[int, str]]] = field(default_factory=dict)
    failures_seen: dict[str, set[tuple[int, str]]] = field(default_factory=lambda: defaultdict(set))
    hopeless_since: dict[str, float] = field(default_factory=dict)
    abandoned: set[str] = field(default_factory=set)
    up: set[str] = field(default_factory=set)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


def hold(run: Run, host: Host, gate: Gate) -> None:
    """Waits for the wave; raises WorkFailed when it cannot succeed, or not in time."""
    watch = _Watch(run, host, gate)
    try:
        while not _passed(watch):
            SIGNALS.pause_point()
            time.sleep(INTERVAL_S)
    finally:
        _clear_live_line()
    host.log(
        f"{gate.wave}: {len(gate.wave.members) - len(watch.abandoned)} healthy after {watch.seconds:.1f} s"
    )


def _passed(watch: _Watch) -> bool:
    members = {member.name: member for member in watch.gate.wave.members}
    standings = _standings(watch)
    if standings is None:
        return False
    pending = {
        name: standing
        for name, standing in standings.items()
        if standing.healthy < watch.gate.replicas[name] and name not in watch.abandoned
    }
    _tell(watch, pending)
    for name in (name for name in pending if _lost(watch, name, pending[name])):
        _lose(watch, members[name], pending)
    watch.well_since = None if pending else watch.well_since or time.monotonic()
    return watch.well_since is not None and time.monotonic() - watch.well_since >= watch.gate.hold_s


def _standings(watch: _Watch) -> dict[str, Standing] | None:
    """One look; None while an engine that restarts does not answer, until the deadline."""
    try:
        return look(watch.run, watch.gate.wave.members)
    except (docker.errors.APIError, requests.ConnectionError) as error:
        refused = isinstance(error, docker.errors.APIError) and error.is_client_error()
        if refused or watch.seconds > watch.gate.deadline_s:
            raise
        for name in watch.run.fleet.hosts:
            watch.run.forget_client(name)
        return None


def _lost(watch: _Watch, name: str, standing: Standing) -> bool:
    """Too late, or certain: a replica failed again and again since the gate stands, or for good reason."""
    before = watch.failures_before.setdefault(name, standing.failures)
    watch.failures_seen[name] |= standing.failures - before
    per_slot = Counter(slot for slot, _ in watch.failures_seen[name])
    if watch.seconds > watch.gate.deadline_s or max(per_slot.values(), default=0) >= FAILURES_ARE_CERTAIN:
        return True
    if not standing.hopeless:
        watch.hopeless_since.pop(name, None)
        return False
    since = watch.hopeless_since.setdefault(name, time.monotonic())
    return time.monotonic() - since >= SETTLE_S


def _lose(watch: _Watch, member: Member, pending: Mapping[str, Standing]) -> None:
    standing = pending[member.name]
    if not member.optional:
        raise WorkFailed(_diagnosis(watch.run, member, standing, watch.gate), GATE_FAILED)
    watch.abandoned.add(member.name)
    watch.run.warned = True
    _clear_live_line()
    watch.host.log(f"{member.name} is optional and not healthy: {standing.state}", logger.warning)


def _diagnosis(run: Run, member: Member, standing: Standing, gate: Gate) -> str:
    try:
        lines = last_words(run, member.key)
    except (docker.errors.DockerException, requests.RequestException) as error:
        lines = [f"could not be read: {error}"]
    healthy = f"{standing.healthy} of {gate.replicas[member.name]} replicas healthy"
    more = "service ps --no-trunc" if member.kind == "service" else "container inspect"
    return "\n".join(
        (
            f"{gate.wave}: {member.name}: {healthy}",
            f"  state: {standing.state}",
            "  last log lines:",
            *(f"    {line}" for line in lines or ["none"]),
            f"  groups after {member.group} were not touched",
            f"  more on {member.key.host}: docker {more} {member.name}",
        )
    )


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
