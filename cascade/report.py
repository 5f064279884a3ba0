"""What Cascade says to people and to machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from cascade.model.fleet import Fleet
from cascade.model.strict import printable
from cascade.planning.addresses import addresses
from cascade.planning.gpu import Vram
from cascade.planning.resource import Unknown
from cascade.planning.steps import AgentStatus
from cascade.vram_report import gpu_document, show_gpus

Document = dict[str, Any]


def status_document(
    fleet: Fleet, agents: Iterable[AgentStatus], unknown: Iterable[Unknown] = (), gpus: Iterable[Vram] = ()
) -> Document:
    """How every agent stands, by group, in the order of the phases.

    Nothing is known of any where the manager or its engine was not read.
    """
    agents, unknown = tuple(agents), tuple(unknown)
    known = not any((one.host, one.what) in _silent(fleet) for one in unknown)
    groups = [
        {
            "name": group,
            "phase": fleet.phase_of(group),
            "agents": [_agent(status, known) for status in agents if status.member.group == group],
        }
        for group in fleet.chosen_groups
    ]
    return {
        "healthy": not unknown and all(status.up for status in agents),
        "groups": groups,
        "gpus": [gpu_document(vram) for vram in gpus],
        "addresses": [asdict(address) for address in addresses(fleet)],
        "unknown": [asdict(one) for one in unknown],
    }


def _silent(fleet: Fleet) -> set[tuple[str, str]]:
    """What is unknown of the manager when it cannot say how the agents are."""
    return {(fleet.manager.name, what) for what in ("host", "Docker engine")}


def _agent(status: AgentStatus, known: bool) -> Document:
    return {
        "name": status.member.agent,
        "workload": status.member.kind,
        "nodes": list(status.nodes),
        "desired": status.desired,
        "healthy": status.healthy if known else None,
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
            _of(_count(map(_up, agents), agents), len(agents)),
            _of(_count(map(_healthy, agents), agents), sum(agent["desired"] for agent in agents)),
            ", ".join(sorted({node for agent in agents for node in agent["nodes"]})),
        )
    console.print(table)
    show_gpus(document["gpus"], console)
    for line in (*_down(document), *_unknown(document)):
        console.print(line, style="red", highlight=False)
    agents = [agent for group in document["groups"] for agent in group["agents"]]
    healthy, desired = _count(map(_healthy, agents), agents), sum(agent["desired"] for agent in agents)
    for address in document["addresses"]:
        reached = "{agent} answers on {address}:{port}/{protocol}".format_map(address)
        console.print(reached, highlight=False)
    up = _count(map(_up, agents), agents)
    console.print(
        f"{up} of {len(agents)} agents and {healthy} of {desired} replicas healthy",
        style="green" if document["healthy"] else "red",
        highlight=False,
    )


def _up(agent: Document) -> bool:
    return bool(_healthy(agent) >= agent["desired"])


def _healthy(agent: Document) -> int:
    return agent["healthy"] or 0


def _count(counted: Iterable[int], agents: Iterable[Document]) -> int | str:
    """The sum, unless nobody knows how these agents are."""
    return "?" if any(agent["healthy"] is None for agent in agents) else sum(counted)


def _of(part: int | str, whole: int) -> str:
    return f"{part}/{whole}"


def _down(document: Document) -> Iterator[str]:
    for group in document["groups"]:
        for agent in group["agents"]:
            if agent["healthy"] is not None and not _up(agent):
                healthy = _of(agent["healthy"], agent["desired"])
                yield f"down: {group['name']} {agent['name']}: {healthy} healthy"


def _unknown(document: Document) -> Iterator[str]:
    for unknown in document["unknown"]:
        yield printable("unknown: {host}: {what}: {reason}".format_map(unknown))
