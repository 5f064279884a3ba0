"""How workloads stand, one look at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import docker.errors

from cascade.planning.waves import Member
from operations.engine_client import EngineClient
from operations.run import Run
from operations.swarm.logs import plain

_HOPELESS = re.compile("No such image|bind source path does not exist|no suitable node|invalid mount config")
_FAILED = ("failed", "rejected")

Task = Mapping[str, Any]


@dataclass(frozen=True)
class Standing:
    """One workload at one look: healthy replicas, what the newest task says, which attempts have failed.

    `failures` are pairs of a slot and an attempt; `hopeless` is a reason that does not go away by itself.
    """

    healthy: int
    state: str
    failures: frozenset[tuple[int, str]] = frozenset()
    hopeless: bool = False


def services_standing(run: Run, names: list[str]) -> dict[str, Standing]:
    """How services stand by the tasks of their newest spec; what an older spec still runs does not count."""
    if not names:
        return {}
    manager = run.client(run.fleet.manager.name)
    services = {service["ID"]: service["Spec"]["Name"] for service in manager.services({"name": names})}
    ready = {node["ID"] for node in manager.nodes() if node["Status"]["State"] == "ready"}
    tasks = manager.tasks({"service": sorted(services), "_up-to-date": ["true"]})
    tasks.sort(key=lambda task: (task["ServiceID"], task["CreatedAt"]))
    by_service = {
        services[id_]: list(found) for id_, found in groupby(tasks, key=lambda task: task["ServiceID"])
    }
    return {name: _of_tasks(by_service.get(name, []), ready) for name in names}


def _of_tasks(tasks: list[Task], ready: set[str]) -> Standing:
    up = {task["Slot"] for task in tasks if _counts(task, ready)}
    if not tasks:
        return Standing(0, "no task yet")
    failures = [task for task in tasks if task["Status"]["State"] in _FAILED]
    newest = next((task for task in reversed(tasks) if not _counts(task, ready)), tasks[-1])
    waiting_again = newest["Status"]["State"] not in _FAILED and not _error(newest)
    telling = failures[-1] if failures and waiting_again else newest
    failed = frozenset((task["Slot"], task["ID"]) for task in failures)
    return Standing(len(up), describe(telling), failed, bool(_HOPELESS.search(_error(tasks[-1]))))


def _counts(task: Task, ready: set[str]) -> bool:
    return task["DesiredState"] == task["Status"]["State"] == "running" and task.get("NodeID") in ready


def _error(task: Task) -> str:
    return str(task["Status"].get("Err", ""))


def describe(task: Task) -> str:
    """A task's state with the engine's error and exit code, where there are any."""
    exit_code = task["Status"].get("ContainerStatus", {}).get("ExitCode")
    parts = [task["Status"]["State"], _error(task), f"exit code {exit_code}" if exit_code else ""]
    return plain(", ".join(filter(None, parts)))


def container_standing(client: EngineClient, name: str) -> Standing:
    """How a host container stands."""
    try:
        container = client.inspect_container(name)
    except docker.errors.NotFound:
        return Standing(0, "no such container")
    state = container["State"]
    health = state.get("Health", {}).get("Status", "healthy")
    parts = [
        state["Status"],
        health,
        state["Error"],
        f"exit code {state['ExitCode']}" if state["ExitCode"] else "",
    ]
    well = state["Running"] and health == "healthy"
    failed = frozenset((1, str(number)) for number in range(container["RestartCount"]))
    return Standing(int(well), ", ".join(filter(None, parts)), failed, health == "unhealthy")


def look(run: Run, members: Iterable[Member]) -> dict[str, Standing]:
    """How agents of both kinds stand, by name."""
    members = list(members)
    services = [member.name for member in members if member.kind == "service"]
    containers = [member for member in members if member.kind == "container"]
    return services_standing(run, services) | {
        member.name: container_standing(run.client(member.key.host), member.name) for member in containers
    }
