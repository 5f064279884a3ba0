"""The order of the rollout: the waves of the groups, one group after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil

from cascade.model.fleet import Fleet
from cascade.model.workload import Workload
from cascade.planning.resource import Key
from cascade.planning.vram import has_gpu

SCHEDULING_S = 60.0


@dataclass(frozen=True)
class Member:
    """One agent as the rollout sees it.

    `key` says where it lives: a service with the manager, a host container on its host; `hosts` are those
    that may run it. `scale` is the range inside which a count is not drift. `update_s` is the longest that
    an update of all replicas may take, or what a given deadline leaves of it. `precious` says why a restart
    needs a person's consent.
    """

    key: Key
    group: str
    agent: str
    hosts: tuple[str, ...]
    replicas: int
    scale: tuple[int, int] | None
    optional: bool
    checked: bool
    update_s: float
    precious: str

    @property
    def name(self) -> str:
        return self.key.name

    @property
    def deadline_s(self) -> float:
        """How long its gate waits for it."""
        return self.update_s + SCHEDULING_S

    @property
    def kind(self) -> str:
        """`service` or `container`."""
        return self.key.kind


@dataclass(frozen=True)
class Wave:
    """Agents of one group that start together; `number` counts from 1."""

    group: str
    phase: int
    number: int
    of: int
    members: tuple[Member, ...]

    def __str__(self) -> str:
        return f"{self.group} wave {self.number}/{self.of}"


def rollout_order(fleet: Fleet, groups: Iterable[str] | None = None) -> tuple[Wave, ...]:
    """Every wave of these groups, or of the run's, in the order of the rollout."""
    chosen = fleet.chosen_groups if groups is None else groups
    return tuple(wave for group in chosen for wave in _waves(fleet, group))


def _waves(fleet: Fleet, group: str) -> Iterator[Wave]:
    members = {workload.agent: member_of(fleet, workload) for workload in fleet.all_workloads[group]}
    found = fleet.groups[group].waves
    for number, names in enumerate(found, 1):
        yield Wave(group, fleet.phase_of(group), number, len(found), tuple(members[name] for name in names))


def member_of(fleet: Fleet, workload: Workload) -> Member:
    """A workload of the fleet as the rollout sees it."""
    hosts = tuple(host.name for host in fleet.eligible(workload))
    scale = workload.service.scale
    lives_on = hosts[0] if workload.kind == "container" and hosts else fleet.manager.name
    return Member(
        key=Key(lives_on, workload.kind, workload.name),
        group=workload.group,
        agent=workload.agent,
        hosts=hosts,
        replicas=workload.replicas,
        scale=(scale.min, scale.max) if scale else None,
        optional=workload.optional,
        checked=workload.checked,
        update_s=_update_s(workload),
        precious=_precious(workload, fleet),
    )


def _update_s(workload: Workload) -> float:
    """The longest that an update of all replicas may take, round by round, if there is no other deadline."""
    if workload.deadline is not None:
        return workload.deadline - SCHEDULING_S
    check, update = workload.health, workload.service.deploy.update_config
    asks = check if check and check.asks else None
    becoming_healthy = asks.start_period + asks.retries * (asks.interval + asks.timeout) if asks else 0.0
    rounds = max(1, ceil(workload.replicas / workload.at_once))
    return rounds * (becoming_healthy + workload.service.stop_grace_period + update.delay)


def _precious(workload: Workload, fleet: Fleet) -> str:
    """Why nobody but a person restarts this agent, or an empty string."""
    if workload.declared is not None and workload.declared.persistent:
        return "persistent"
    return "GPU" if workload.service.runtime == "nvidia" or has_gpu(workload, fleet) else ""
