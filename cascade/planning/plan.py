"""The plan: made once per run from one diff; everything that will happen, in order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import ceil

from cascade.model.fleet import Fleet
from cascade.model.workload import Workload
from cascade.planning.comparable import comparable
from cascade.planning.desired import Desired, Stage, desired
from cascade.planning.diff import Change, FieldChange, diff
from cascade.planning.observed import Observed, Snapshot, observe
from cascade.planning.removal import group_of, removals, waiting
from cascade.planning.resource import Key, Resources, Unknown
from cascade.planning.waves import Wave, rollout_order

GATE_NAME = ": gate"


@dataclass(frozen=True)
class Gate:
    """The rollout goes on when every workload of the wave is healthy at its spec, and stays so."""

    wave: Wave
    replicas: Mapping[str, int]
    hold_s: float
    deadline_s: float


@dataclass(frozen=True)
class Recheck:
    """Engines that had to be started before they could be read must turn out to hold what is wanted."""

    hosts: tuple[str, ...]


Work = tuple[Change, ...] | Gate | Recheck


@dataclass(frozen=True)
class Step:
    """One operation: the same thing on each of its hosts, at the same time."""

    name: str
    work: Mapping[str, Work]


@dataclass(frozen=True)
class AgentStatus:
    """How one workload stands."""

    workload: Workload
    nodes: tuple[str, ...]
    desired: int
    healthy: int

    @property
    def up(self) -> bool:
        return self.healthy >= self.desired


@dataclass(frozen=True)
class Plan:
    """Every difference between files and hosts, and the steps that remove it."""

    steps: Mapping[Stage, tuple[Step, ...]]
    changes: tuple[Change, ...]
    unknown: tuple[Unknown, ...]
    refused: tuple[str, ...]
    notes: tuple[str, ...]
    agents: tuple[AgentStatus, ...] = field(default=())
    stopped: frozenset[str] = frozenset()

    def differences(self) -> Iterator[str]:
        """What differs of things that are there, field by field; what is not there at all names itself."""
        for change in self.changes:
            for difference in change.fields:
                yield f"{change.key.host}: {change.key.kind} {change.key.name}: {difference}"


def make_plan(fleet: Fleet, snapshots: Mapping[str, Snapshot]) -> Plan:
    """Compares the fleet's files with its hosts. Pure: the same input gives the same plan.

    Hosts of the fleet without a snapshot are left out, with everything that lies on them or waits for them.
    """
    order = rollout_order(fleet)
    wanted = desired(fleet, order)
    resources: Resources = {item.key: item.fields for item in wanted}
    observed = observe(fleet, snapshots, resources)
    left_out, scaled = waiting(fleet, observed), _scaled(fleet, order, observed)
    if left_out or scaled:
        fleet = replace(fleet, scaled=scaled)
        order = tuple(_without(order, left_out))
        wanted = desired(fleet, order)
    changes = _changes(fleet, wanted, observed)
    removed = removals(fleet, observed, () if fleet.partial else fleet.disabled_groups)
    agents = {status.workload.name: status for wave in order for status in _statuses(fleet, wave, observed)}
    return Plan(
        steps=_steps(fleet, order, wanted, changes, removed, observed, agents),
        changes=(*removed, *changes.values()),
        unknown=tuple(observed.unknown),
        refused=tuple(_refused(changes.values())),
        notes=tuple(_notes(fleet, observed)),
        agents=tuple(agents.values()),
        stopped=frozenset(observed.stopped),
    )


def _without(order: Iterable[Wave], left_out: Container[str]) -> Iterator[Wave]:
    for wave in order:
        if members := tuple(workload for workload in wave.workloads if workload.name not in left_out):
            yield replace(wave, workloads=members)


def _changes(fleet: Fleet, wanted: Iterable[Desired], observed: Observed) -> dict[Key, Change]:
    manager = fleet.manager.name
    readable = {item.key: item for item in wanted if not observed.unreadable(item.key, manager)}
    found = diff(
        {key: comparable(key.kind, item.fields) for key, item in readable.items()},
        {key: comparable(key.kind, fields) for key, fields in observed.resources.items()},
    )
    changes = {}
    for key, item in readable.items():
        if key in found:
            changes[key] = replace(found[key], desired=item.fields)
        elif key in observed.paused:
            paused = FieldChange("UpdateStatus", "paused", None)
            changes[key] = Change(key, "update", (paused,), item.fields)
        elif key.kind == "daemon-settings" and key.host in observed.stale_settings:
            changes[key] = Change(key, "update", (), item.fields)
    return changes


def _scaled(fleet: Fleet, order: Iterable[Wave], observed: Observed) -> dict[str, int]:
    """The services that somebody scaled within their range: their count is no drift."""
    found = {}
    for workload in (workload for wave in order for workload in wave.workloads):
        spec = observed.resources.get(workload_key(fleet, workload), {})
        count = spec.get("Mode", {}).get("Replicated", {}).get("Replicas", 0)
        scale = workload.service.scale
        if scale and spec and count != workload.replicas and scale.min <= count <= scale.max:
            found[workload.name] = count
    return found


def _statuses(fleet: Fleet, wave: Wave, observed: Observed) -> Iterator[AgentStatus]:
    for workload in wave.workloads:
        key = workload_key(fleet, workload)
        healthy = observed.health.get(key, 0)
        yield AgentStatus(workload, observed.placed.get(key, ()), fleet.replicas(workload), healthy)


def workload_key(fleet: Fleet, workload: Workload) -> Key:
    """Where a workload lives: services with the manager, containers on their host."""
    if workload.kind == "service":
        return Key(fleet.manager.name, "service", workload.name)
    (host,) = fleet.eligible(workload)
    return Key(host.name, "container", workload.name)


def _steps(
    fleet: Fleet,
    order: Iterable[Wave],
    wanted: Iterable[Desired],
    changes: Mapping[Key, Change],
    removed: Iterable[Change],
    observed: Observed,
    agents: Mapping[str, AgentStatus],
) -> dict[Stage, tuple[Step, ...]]:
    steps: dict[Stage, list[Step]] = defaultdict(list)
    by_stage: dict[Stage, list[Change]] = defaultdict(list)
    for item in wanted:
        if item.stage != "rollout" and item.key in changes:
            by_stage[item.stage].append(changes[item.key])
    for stage, found in by_stage.items():
        steps[stage] = list(_host_steps(found))
    if observed.stopped:
        started = tuple(sorted(observed.stopped))
        recheck = Step(
            f"compare what the engine holds on {', '.join(started)}", {fleet.manager.name: Recheck(started)}
        )
        steps["engine"].append(recheck)
    disturbed = observed.stopped | {
        change.key.host
        for change in changes.values()
        if change.key.kind == "daemon-settings"
        and Key(change.key.host, "swarm", change.key.host) in observed.resources
    }
    if fleet.manager.name not in observed.unread:
        steps["rollout"] = [
            *_removal_steps(fleet, removed, observed),
            *_rollout(fleet, order, changes, disturbed, agents),
        ]
    return {stage: tuple(found) for stage, found in steps.items()}


def _removal_steps(fleet: Fleet, removed: Iterable[Change], observed: Observed) -> Iterator[Step]:
    """One step per group, on all hosts at once."""
    by_group: dict[str | None, dict[str, list[Change]]] = {}
    for change in removed:
        group = group_of(fleet, observed.resources[change.key])
        by_group.setdefault(group, defaultdict(list))[change.key.host].append(change)
    for group, work in by_group.items():
        name = f"{group}: remove {sum(map(len, work.values()))} agents, which are not enabled"
        yield Step(name, {host: tuple(found) for host, found in work.items()})


def _host_steps(changes: Iterable[Change]) -> Iterator[Step]:
    """One step per thing, for all hosts at once; the packages of a stage are one thing."""
    merged: dict[str, dict[str, list[Change]]] = {}
    for change in changes:
        packages = change.key.kind == "package"
        name = "install packages" if packages else str(change)
        merged.setdefault(name, defaultdict(list))[change.key.host].append(change)
    for name, work in merged.items():
        listed = sorted({change.key.name for found in work.values() for change in found})
        full = f"install {', '.join(listed)}" if name == "install packages" else name
        yield Step(full, {host: tuple(found) for host, found in work.items()})


def _rollout(
    fleet: Fleet,
    order: Iterable[Wave],
    changes: Mapping[Key, Change],
    disturbed: set[str],
    agents: Mapping[str, AgentStatus],
) -> Iterator[Step]:
    """Each wave's changes and the gate behind them.

    A gate stands too where an agent is not healthy, and where an engine restarts under the agents. The
    first of those waits a while: just after a restart the manager still reports what ran before it.
    """
    settled = False
    for wave in order:
        keys = {workload.name: workload_key(fleet, workload) for workload in wave.workloads}
        found = [changes[key] for key in keys.values() if key in changes]
        for change in found:
            yield Step(f"{wave}: {change}", {change.key.host: (change,)})
        shaken = any(host.name in disturbed for w in wave.workloads for host in fleet.eligible(w))
        if found or shaken or not all(agents[name].up for name in keys):
            hold_s = _hold_s(wave, shaken and not settled)
            settled = settled or shaken
            replicas = {workload.name: fleet.replicas(workload) for workload in wave.workloads}
            gate = Gate(wave, replicas, hold_s, _deadline_s(wave))
            yield Step(f"{wave}{GATE_NAME}", {fleet.manager.name: gate})


SETTLE_S = 5.0
SCHEDULING_S = 60.0


def _hold_s(wave: Wave, shaken: bool) -> float:
    """With a health check, running is healthy; without one a crash loop looks well for a while."""
    return SETTLE_S if shaken or not all(workload.checked for workload in wave.workloads) else 0.0


def _deadline_s(wave: Wave) -> float:
    return max(map(_update_s, wave.workloads)) + SCHEDULING_S


def _update_s(workload: Workload) -> float:
    """The longest that an update of all replicas may take, round by round."""
    check, update = workload.health, workload.service.deploy.update_config
    asks = check if check and check.asks else None
    becoming_healthy = asks.start_period + asks.retries * (asks.interval + asks.timeout) if asks else 0.0
    rounds = max(1, ceil(workload.replicas / update.parallelism))
    return rounds * (becoming_healthy + workload.service.stop_grace_period + update.delay)


def _refused(changes: Iterable[Change]) -> Iterator[str]:
    """What Cascade does not do by itself, with what a person can do."""
    for change in changes:
        kind, name = change.key.kind, change.key.name
        where = f"{change.key.host}: {kind} {name}: {', '.join(map(str, change.fields))}"
        if kind == "swarm" and change.action == "update":
            yield f"{where}; if nothing there is needed, `docker swarm leave --force` there and run again"
        elif change.action == "replace" and kind in ("network", "volume"):
            yield f"{where}; it cannot be changed in place: `docker {kind} rm {name}` there and run again"


def _notes(fleet: Fleet, observed: Observed) -> Iterator[str]:
    for host in sorted(observed.stopped):
        yield f"{host}: its engine does not run; what is in it cannot be read before it is started"
    yield from _waiting_notes(fleet, observed)
    for workload in (workload for workloads in fleet.workloads.values() for workload in workloads):
        hosts = fleet.eligible(workload)
        without = sorted({port.published for port in workload.ports if port.mode == "ingress"})
        if without and any("ipvs" in host.absent for host in hosts):
            ports = ", ".join(map(str, without))
            yield f"{workload.name}: port {ports} is not published: group_data says there is no IPVS"


def _waiting_notes(fleet: Fleet, observed: Observed) -> Iterator[str]:
    """For each host that was left out, what waits for it."""
    left_out = waiting(fleet, observed)
    for host in sorted(observed.unread):
        if host == fleet.manager.name:
            yield f"{host}: left out by --limit; it is the manager, so the Swarm and all groups wait for it"
            continue
        groups = Counter(
            workload.group
            for workloads in fleet.workloads.values()
            for workload in workloads
            if host in left_out.get(workload.name, ())
        )
        said = ", ".join(f"{group} ({count} agents)" for group, count in groups.items())
        yield f"{host}: left out by --limit; {f'waiting for it: {said}' if said else 'nothing waits for it'}"
