"""What Cascade says to people and to machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from cascade.model.fleet import Fleet
from cascade.planning.addresses import addresses
from cascade.planning.steps import AgentStatus

Document = dict[str, Any]


def status_document(fleet: Fleet, agents: Iterable[AgentStatus]) -> Document:
    """How every agent stands, by group, in the order of the phases."""
    agents = tuple(agents)
    groups = [
        {
            "name": group,
            "phase": fleet.phase_of(group),
            "agents": [_agent(status) for status in agents if status.member.group == group],
        }
        for group in fleet.chosen_groups
    ]
    return {
        "healthy": all(status.up for status in agents),
        "groups": groups,
        "addresses": [asdict(address) for address in addresses(fleet)],
    }


def _agent(status: AgentStatus) -> Document:
    return {
        "name": status.member.agent,
        "workload": status.member.kind,
        "nodes": list(status.nodes),
        "desired": status.desired,
        "healthy": status.healthy,
    }


def status_table(document: Document, console: Console | None = None) -> None:
    """Prints a status document: one line a group, every agent that is down, and the totals."""
    console = console or Console()
    table = Table("phase", "group", "agents", "replicas", "nodes", box=None, pad_edge=False)
    for group in document["groups"]:
        agents = group["agents"]
        table.add_row(
            str(group["phase"]),
            group["name"],
            _of(sum(map(_up, agents)), len(agents)),
            _of(sum(agent["healthy"] for agent in agents), sum(agent["desired"] for agent in agents)),
            ", ".join(sorted({node for agent in agents for node in agent["nodes"]})),
        )
    console.print(table)
    for line in _down(document):
        console.print(line, style="red", highlight=False)
    agents = [agent for group in document["groups"] for agent in group["agents"]]
    healthy, desired = sum(a["healthy"] for a in agents), sum(a["desired"] for a in agents)
    for address in document["addresses"]:
        reached = "{agent} answers on {address}:{port}/{protocol}".format_map(address)
        console.print(reached, highlight=False)
    console.print(
        f"{sum(map(_up, agents))} of {len(agents)} agents and {healthy} of {desired} replicas healthy",
        style="green" if document["healthy"] else "red",
        highlight=False,
    )


def _up(agent: Document) -> bool:
    return bool(agent["healthy"] >= agent["desired"])


def _of(part: int, whole: int) -> str:
    return f"{part}/{whole}"


def _down(document: Document) -> Iterator[str]:
    for group in document["groups"]:
        for agent in group["agents"]:
            if not _up(agent):
                healthy = _of(agent["healthy"], agent["desired"])
                yield f"down: {group['name']} {agent['name']}: {healthy} healthy"
