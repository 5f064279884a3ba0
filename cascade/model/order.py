"""The order inside a group: waves of agents that start together."""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter

from cascade.model.agent import Agent


def waves(agents: Iterable[Agent]) -> tuple[tuple[str, ...], ...]:
    """The names of a group's agents by wave, each wave in the order of the file.

    Agents come by ascending `startup_order`, those without one after all of them; `depends_on` splits
    further. Raises ValueError for a cycle, naming it.
    """
    by_name = {agent.name: agent for agent in agents}
    sorter = TopologicalSorter(
        {
            name: (set(agent.depends_on) & by_name.keys()) | _ordered_before(agent, by_name.values())
            for name, agent in by_name.items()
        }
    )
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValueError("cycle in the start order: " + " → ".join(reversed(error.args[1]))) from None
    found = []
    while sorter.is_active():
        ready = set(sorter.get_ready())
        found.append(tuple(name for name in by_name if name in ready))
        sorter.done(*ready)
    return tuple(found)


def _ordered_before(agent: Agent, others: Iterable[Agent]) -> set[str]:
    return {other.name for other in others if _order(other) < _order(agent)}


def _order(agent: Agent) -> float:
    return float("inf") if agent.startup_order is None else agent.startup_order
