"""A small system on the lab's hosts, for tests of deployments that fail; it stands in tests/lab/trial.

Group first: Registry (persistent), then Twin, on MainPC. Group middle: web (three replicas on both hosts)
beside tool (a host container on MainPC), then worker on PC2. Group last: Reporter beside Extra (optional),
on PC2.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from cascade.model.agent import kebab_case
from lab.errors import LabError
from lab.hosts import HOSTS
from lab.polling import until
from tests.lab.conftest import Checkout, look

STACKS = "group_data/stacks/trial"
# By the waves in which they start.
GROUPS = {
    "first": (("Registry",), ("Twin",)),
    "middle": (("web", "tool"), ("worker",)),
    "last": (("Reporter", "Extra"),),
}
_SERVICES = (
    "docker service inspect --format '{{.Spec.Name}} {{index .Spec.Labels \"cascade.digest\"}}'"
    " $(docker service ls -q --filter label=cascade.system=trial) 2>/dev/null"
)
_TASKS = (
    "docker service ps --no-trunc --filter desired-state=running"
    " --format '{{.Name}} {{.ID}} {{.CurrentState}}'"
    " $(docker service ls -q --filter label=cascade.system=trial) 2>/dev/null"
)
_CONTAINERS = (
    "docker ps -a --no-trunc --filter label=cascade.system=trial --filter label=cascade.digest"
    " --format '{{.Names}} {{.ID}} {{.Label \"cascade.digest\"}} {{.Status}}'"
)

Document = dict[str, Any]


def name_of(group: str, agent: str) -> str:
    """What the engines call an agent."""
    return f"{group}_{kebab_case(agent)}"


AGENTS = tuple(
    name_of(group, agent) for group, waves in GROUPS.items() for agents in waves for agent in agents
)


def edit(checkout: Checkout, group: str, change: Callable[[Document], None]) -> None:
    """Changes a group's file by what it says."""
    file = checkout.path / STACKS / f"{group}.yaml"
    # Without the anchors, so that what is shared is changed in one place only.
    document = json.loads(json.dumps(yaml.safe_load(file.read_text())))
    change(document)
    file.write_text(yaml.safe_dump(document, sort_keys=False))


def change_agent(checkout: Checkout, group: str, agent: str, **said: Any) -> None:
    """Lets the file say this of one agent, or of one service; None says it no more."""

    def change(document: Document) -> None:
        merge(_found(document, group, agent), said)

    edit(checkout, group, change)


def add_agent(checkout: Checkout, group: str, agent: str, like: str, **said: Any) -> None:
    """One more agent or service, which is like another but for this."""

    def change(document: Document) -> None:
        copied = json.loads(json.dumps(_found(document, group, like)))
        services = document["services"]
        if like in services:
            services[agent] = merge(copied, {"environment": {"AGENT_NAME": agent}, **said})
        else:
            services[group]["x-agents"].append(merge(copied, {"name": agent, **said}))

    edit(checkout, group, change)


def _found(document: Document, group: str, agent: str) -> Document:
    services: Document = document["services"]
    agents: list[Document] = services.get(group, {}).get("x-agents", [])
    found: Document = services.get(agent) or next(item for item in agents if item["name"] == agent)
    return found


def merge(into: Document, said: Document) -> Document:
    """Puts these values over those that are there, map by map."""
    for key, value in said.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value
    return into


def touch(checkout: Checkout, *groups: str) -> None:
    """A change of every agent of these groups that breaks nothing."""

    def change(document: Document) -> None:
        for service in document["services"].values():
            merge(service, {"environment": {"NEW": "1"}})

    for group in groups:
        edit(checkout, group, change)


@dataclass(frozen=True)
class Seen:
    """An agent as it stands: the digest of its spec, and its healthy replicas by ID."""

    digest: str
    replicas: frozenset[str]


def seen() -> dict[str, Seen]:
    """Every agent that there is, by name, whether it runs or not."""
    replicas: dict[str, set[str]] = {}
    for line in _lines("mainpc", _TASKS):
        task, id_, state = line.split(" ", 2)
        if state.startswith("Running"):
            replicas.setdefault(task.rpartition(".")[0], set()).add(id_)
    digests = dict(line.split() for line in _lines("mainpc", _SERVICES))
    for host in HOSTS:
        for line in _lines(host.name, _CONTAINERS):
            name, id_, digests[name], state = line.split(" ", 3)
            replicas[name] = {id_} if "(healthy)" in state else set()
    return {name: Seen(digest, frozenset(replicas.get(name, ()))) for name, digest in digests.items()}


def settled() -> dict[str, int]:
    """How many healthy replicas each agent has, once the engines have stopped what was replaced."""
    wanted = {**dict.fromkeys(AGENTS, 1), "middle_web": 3}

    def attempt() -> dict[str, int]:
        if (found := counts(seen())) != wanted:
            raise LabError("the small system", f"has {found}, not {wanted}", "look at the tasks")
        return found

    return until("the small system", attempt, timeout_s=120, next_step="look at the tasks")


def _lines(host: str, command: str) -> list[str]:
    return look(host, command).splitlines()


def of_group(found: dict[str, Seen], group: str) -> dict[str, Seen]:
    """The agents of one group among these."""
    return {name: agent for name, agent in found.items() if name.startswith(f"{group}_")}


def counts(found: dict[str, Seen]) -> dict[str, int]:
    """How many healthy replicas each agent has."""
    return {name: len(agent.replicas) for name, agent in found.items()}


def digests(found: dict[str, Seen]) -> dict[str, str]:
    """The spec of each agent, by its digest."""
    return {name: agent.digest for name, agent in found.items()}
