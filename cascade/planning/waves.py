"""The order inside a group: waves of agents that start together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from cascade.model.fleet import Fleet
from cascade.model.strict import InvalidFiles, Problem
from cascade.model.workload import Workload


def waves(workloads: Iterable[Workload]) -> tuple[tuple[str, ...], ...]:
    """The agents of a group by wave, each wave in the order of the file.

    Agents come by ascending `startup_order`, those without one after all of them; `depends_on` splits
    further. Raises ValueError for a dependency that is not in the group, and for a cycle, naming it.
    """
    agents = {workload.agent: workload for workload in workloads}
    sorter = TopologicalSorter(_predecessors(agents))
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValueError("cycle in the start order: " + " → ".join(reversed(error.args[1]))) from None
    found = []
    while sorter.is_active():
        ready = set(sorter.get_ready())
        found.append(tuple(name for name in agents if name in ready))
        sorter.done(*ready)
    return tuple(found)


def _predecessors(agents: Mapping[str, Workload]) -> dict[str, set[str]]:
    return {
        name: _declared(agents, workload) | _ordered_before(agents, workload)
        for name, workload in agents.items()
    }


def _declared(agents: Mapping[str, Workload], workload: Workload) -> set[str]:
    names = set(workload.declared.depends_on) if workload.declared else set()
    if missing := sorted(names - agents.keys()):
        raise ValueError(f"{workload.agent} depends on {', '.join(missing)}, which the group does not have")
    return names


def _ordered_before(agents: Mapping[str, Workload], workload: Workload) -> set[str]:
    own = _order(workload)
    return {name for name, other in agents.items() if _order(other) < own}


def _order(workload: Workload) -> float:
    order = workload.declared.startup_order if workload.declared else None
    return float("inf") if order is None else order


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


def rollout_order(fleet: Fleet) -> tuple[Wave, ...]:
    """Every wave of every group, in the order of the rollout; raises InvalidFiles."""
    problems, order = [], []
    for group, workloads in fleet.workloads.items():
        by_agent = {workload.agent: workload for workload in workloads}
        try:
            found = waves(workloads)
        except ValueError as error:
            problems.append(Problem(f"{group}.yaml", "services", str(error)))
            continue
        order += [
            Wave(group, fleet.phase_of(group), number, len(found), tuple(by_agent[name] for name in names))
            for number, names in enumerate(found, 1)
        ]
    if problems:
        raise InvalidFiles(problems)
    return tuple(order)
