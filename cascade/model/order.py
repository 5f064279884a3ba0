"""The order inside a group: waves of what starts together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from graphlib import CycleError, TopologicalSorter

from cascade.model.agent import Agent


def agent_order(agents: Iterable[Agent]) -> dict[str, set[str]]:
    """For each of a group's agents, by name, those that come before it.

    Agents come by ascending `startup_order`, those without one after all of them; `depends_on` splits
    further.
    """
    by_name = {agent.name: agent for agent in agents}
    return {
        name: (set(agent.depends_on) & by_name.keys()) | _ordered_before(agent, by_name.values())
        for name, agent in by_name.items()
    }


def waves(before: Mapping[str, Set[str]]) -> tuple[tuple[str, ...], ...]:
    """The names by wave, each wave in the order of `before`, which says what comes before each name.

    Raises ValueError for a cycle, naming it.
    """
    sorter = TopologicalSorter(before)
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValueError("cycle in the start order: " + " → ".join(reversed(error.args[1]))) from None
    found = []
    while sorter.is_active():
        ready = set(sorter.get_ready())
        found.append(tuple(name for name in before if name in ready))
        sorter.done(*ready)
    return tuple(found)


def _ordered_before(agent: Agent, others: Iterable[Agent]) -> set[str]:
    return {other.name for other in others if _order(other) < _order(agent)}


def _order(agent: Agent) -> float:
    return float("inf") if agent.startup_order is None else agent.startup_order
