"""The steps that carry out a plan: each is one operation, the same thing on each of its hosts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cascade.planning.desired import Stage
from cascade.planning.diff import Change
from cascade.planning.observed import Observed
from cascade.planning.removal import REMOVABLE, group_of
from cascade.planning.resource import Key
from cascade.planning.target import Target
from cascade.planning.waves import Member, Wave

GATE_NAME = ": gate"
SETTLE_S = 5.0


@dataclass(frozen=True)
class Gate:
    """The rollout goes on when every member of the wave is healthy at its spec, and stays so.

    `later` are the waves of the same rollout that wait for it.
    """

    wave: Wave
    replicas: Mapping[str, int]
    hold_s: float
    later: tuple[Wave, ...] = ()

    @property
    def deadline_s(self) -> float:
        """When the last of its members must be healthy."""
        return max(member.deadline_s for member in self.wave.members)


@dataclass(frozen=True)
class Recheck:
    """Engines that had to be started before they could be read must turn out to hold what is wanted."""

    hosts: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """Everything is as the target says: a release is written down."""

    number: int
    target: Target


Work = tuple[Change, ...] | Gate | Recheck | Record


@dataclass(frozen=True)
class Step:
    """One operation: the same thing on each of its hosts, at the same time."""

    name: str
    work: Mapping[str, Work]


@dataclass(frozen=True)
class AgentStatus:
    """How one agent stands."""

    member: Member
    nodes: tuple[str, ...]
    desired: int
    healthy: int
    doubled: bool = False

    @property
    def up(self) -> bool:
        return self.healthy >= self.desired

    @property
    def at_rest(self) -> bool:
        """Whether all its replicas are up, and none of them twice."""
        return self.up and not self.doubled


def steps_of(
    target: Target,
    changes: Mapping[Key, Change],
    removed: Iterable[Change],
    freeing: Iterable[Change],
    observed: Observed,
    agents: Mapping[str, AgentStatus],
) -> dict[Stage, tuple[Step, ...]]:
    """Every step by its stage, but for the record of the release.

    `freeing` removes the agents that hold what has to be replaced; the rollout creates again what is wanted.
    """
    steps: dict[Stage, list[Step]] = defaultdict(list)
    by_stage: dict[Stage, list[Change]] = defaultdict(list)
    freeing = tuple(freeing)
    freed = {change.key for change in freeing}
    removed = [change for change in removed if change.key not in freed]
    for item in target.resources:
        if item.stage != "rollout" and item.key in changes:
            by_stage[item.stage].append(changes[item.key])
    by_stage["prune"] = [change for change in removed if change.key.kind not in REMOVABLE]
    for stage, found in by_stage.items():
        steps[stage] = list(_host_steps(found))
    if held := _by_host(freeing):
        steps["networks"].insert(0, Step("remove the agents that hold what is replaced", held))
    if observed.stopped:
        steps["engine"].append(_recheck(target, observed))
    if target.manager not in observed.unread:
        disturbed = observed.stopped | set(_restarted(changes.values(), observed))
        agents_removed = [change for change in removed if change.key.kind in REMOVABLE]
        steps["rollout"] = [
            *_removal_steps(target, agents_removed, observed),
            *_rollout(target, changes, disturbed, agents),
        ]
    return {stage: tuple(found) for stage, found in steps.items()}


def _by_host(changes: Iterable[Change]) -> dict[str, Work]:
    found: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        found[change.key.host].append(change)
    return {host: tuple(of_host) for host, of_host in found.items()}


def _recheck(target: Target, observed: Observed) -> Step:
    started = tuple(sorted(observed.stopped))
    name = f"compare what the engine holds on {', '.join(started)}"
    return Step(name, {target.manager: Recheck(started)})


def _restarted(changes: Iterable[Change], observed: Observed) -> Iterator[str]:
    """The members of the Swarm whose engine new settings restart."""
    for change in changes:
        host = change.key.host
        if change.key.kind == "daemon-settings" and Key(host, "swarm", host) in observed.resources:
            yield host


def _removal_steps(target: Target, removed: Iterable[Change], observed: Observed) -> Iterator[Step]:
    """One step per group, on all hosts at once."""
    by_group: dict[str | None, dict[str, list[Change]]] = {}
    for change in removed:
        group = group_of(observed, change.key)
        by_group.setdefault(group, defaultdict(list))[change.key.host].append(change)
    for group, work in by_group.items():
        why = "not enabled" if group in target.stopped_groups else f"not in {target.origin}"
        name = f"{group}: remove {sum(map(len, work.values()))} agents, which are {why}"
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
    target: Target,
    changes: Mapping[Key, Change],
    disturbed: set[str],
    agents: Mapping[str, AgentStatus],
) -> Iterator[Step]:
    """Each wave's changes and the gate behind them.

    A gate stands too where an agent is not healthy or runs twice, and where an engine restarts under the
    agents. The first of those waits a while: just after a restart the manager still reports what ran before.
    """
    settled = False
    shaken = {wave for wave in target.waves for member in wave.members if disturbed & {*member.hosts}}
    waves = [
        wave
        for wave in target.waves
        if wave in shaken
        or any(member.key in changes or not agents[member.name].at_rest for member in wave.members)
    ]
    for place, wave in enumerate(waves, 1):
        for change in (changes[member.key] for member in wave.members if member.key in changes):
            yield Step(f"{wave}: {change}", {change.key.host: (change,)})
        gate = Gate(
            wave,
            replicas={member.name: agents[member.name].desired for member in wave.members},
            hold_s=_hold_s(wave, wave in shaken and not settled),
            later=tuple(waves[place:]),
        )
        settled = settled or wave in shaken
        yield Step(f"{wave}{GATE_NAME}", {target.manager: gate})


def _hold_s(wave: Wave, shaken: bool) -> float:
    """With a health check, running is healthy; without one a crash loop looks well for a while."""
    return SETTLE_S if shaken or not all(member.checked for member in wave.members) else 0.0


def record_step(number: int, target: Target) -> Step:
    """The last step of a rollout that came to its end."""
    return Step(f"record release {number}", {target.manager: Record(number, target)})
