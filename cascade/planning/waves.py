"""The order of the rollout: the waves of the groups, one group after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cascade.model.fleet import Fleet
from cascade.model.workload import Workload


@dataclass(frozen=True)
class Wave:
    """Agents of one group that start together; `number` counts from 1."""

    group: str
    phase: int
    number: int
    of: int
    workloads: tuple[Workload, ...]

    def __str__(self) -> str:
        return f"{self.group} wave {self.number}/{self.of}"


def rollout_order(fleet: Fleet, groups: Iterable[str] | None = None) -> tuple[Wave, ...]:
    """Every wave of these groups, or of the run's, in the order of the rollout."""
    chosen = fleet.chosen_groups if groups is None else groups
    return tuple(wave for group in chosen for wave in _waves(fleet, group))


def _waves(fleet: Fleet, group: str) -> Iterator[Wave]:
    workloads = {workload.agent: workload for workload in fleet.all_workloads[group]}
    found = fleet.groups[group].waves
    for number, names in enumerate(found, 1):
        members = tuple(workloads[name] for name in names)
        yield Wave(group, fleet.phase_of(group), number, len(found), members)
