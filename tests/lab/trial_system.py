"""A small system on the lab's hosts, for tests of deployments that fail; it stands in tests/lab/trial.

Group first: Registry (persistent), then Twin, on MainPC. Group middle: web (three replicas on both hosts)
beside tool (a host container on MainPC), then worker on PC2. Group last: Reporter beside Extra (optional),
on PC2.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import yaml

from cascade.model.agent import kebab_case
from lab.errors import LabError
from lab.hosts import HOSTS
from lab.polling import until
from tests.lab.conftest import Checkout, look, on_host

STACKS = "group_data/stacks/trial"
GROUPS = {"first": ("Registry", "Twin"), "middle": ("web", "tool", "worker"), "last": ("Reporter", "Extra")}
SETTLED_S = 60
# The digest of a service stands on the service, that of a host container on the container.
_CONTAINERS = "--filter label=cascade.group={} --filter label=cascade.digest"

Document = dict[str, Any]


def name_of(group: str, agent: str) -> str:
    """What the engines call an agent."""
    return f"{group}_{kebab_case(agent)}"


def edit(checkout: Checkout, group: str, change: Callable[[Document], None]) -> None:
    """Changes a group's file by what it says."""
    file = checkout.path / STACKS / f"{group}.yaml"
    document = yaml.safe_load(file.read_text())
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


def tasks_of(group: str) -> dict[str, set[str]]:
    """The running tasks and host containers of a group, by agent."""
    ids = look("mainpc", f"docker service ls -q --filter label=cascade.group={group}").split()
    found: dict[str, set[str]] = {}
    if ids:
        wanted = "--filter desired-state=running --format '{{.Name}} {{.ID}} {{.CurrentState}}'"
        for line in on_host("mainpc", f"docker service ps --no-trunc {wanted} {' '.join(ids)}").splitlines():
            name, id_, state = line.split(" ", 2)
            if state.startswith("Running"):
                found.setdefault(name.rpartition(".")[0], set()).add(id_)
    for host in HOSTS:
        listed = f"docker ps --no-trunc --filter health=healthy {_CONTAINERS.format(group)}"
        for line in on_host(host.name, f"{listed} --format '{{{{.Names}}}} {{{{.ID}}}}'").splitlines():
            name, id_ = line.split()
            found.setdefault(name, set()).add(id_)
    return found


def digests_of(group: str) -> dict[str, str]:
    """The digest of the spec that each agent of a group has, running or not."""
    listed = f"docker service ls -q --filter label=cascade.group={group}"
    show = "--format '{{.Spec.Name}} {{index .Spec.Labels \"cascade.digest\"}}'"
    lines = look("mainpc", f"docker service inspect {show} $({listed}) 2>/dev/null").splitlines()
    for host in HOSTS:
        shown = "--format '{{.Names}} {{.Label \"cascade.digest\"}}'"
        lines += on_host(host.name, f"docker ps -a {_CONTAINERS.format(group)} {shown}").splitlines()
    return dict(line.split() for line in lines if " " in line)


def await_tasks(group: str, wanted: dict[str, int]) -> dict[str, set[str]]:
    """The running tasks of a group once there are as many as wanted of each agent, and no more."""

    def attempt() -> dict[str, set[str]]:
        found = tasks_of(group)
        if {name: len(ids) for name, ids in found.items()} != wanted:
            raise LabError(f"group {group}", f"runs {found}, not {wanted}", "look at the tasks")
        return found

    return until(f"group {group}", attempt, timeout_s=SETTLED_S, next_step="look at the tasks")
