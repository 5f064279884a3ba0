"""How workloads stand, one look at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import docker.errors

from cascade.planning.placement import Cluster
from cascade.planning.verdict import (
    ENDED,
    UNHEALTHY,
    Reason,
    Task,
    error_of,
    of_container,
    of_tasks,
    unplaced,
)
from cascade.planning.waves import Member
from operations.engine_client import EngineClient
from operations.run import Run
from operations.ssh import CONNECTION_LOST
from operations.swarm.halted import Halt
from operations.swarm.logs import plain

Container = Mapping[str, Any]

_BEFORE_RUNNING = ("assigned", "accepted", "preparing", "ready", "starting")


@dataclass(frozen=True)
class Past:
    """What became of an agent before it was waited for: attempts that ended, restarts of a host container."""

    ended: frozenset[str] = frozenset()
    restarts: int = 0


@dataclass(frozen=True)
class Standing:
    """One workload at one look: healthy replicas, and what there is to say of one that is not.

    `tasks` are those of a service's newest spec, the oldest first, and `telling` the one that says most;
    `container` is the inspection of a host container, None where there is none. `halt` says how the Swarm has
    left an update in the middle: paused, though every replica which was begun is healthy; with a replica that
    runs `twice`, which happens when a restart meets the way back; or waiting for a replica on a lost node.
    """

    healthy: int
    state: str
    tasks: tuple[Task, ...] = ()
    telling: Task | None = None
    container: Container | None = None
    twice: bool = False
    halt: Halt | None = None

    @property
    def ended(self) -> frozenset[str]:
        """The attempts of a service that have ended."""
        return frozenset(task["ID"] for task in self.tasks if task["Status"]["State"] in ENDED)

    @property
    def all_begun_are_up(self) -> bool:
        begun = {task["Slot"] for task in self.tasks if task["DesiredState"] in ("ready", "running")}
        return self.healthy == len(begun) > 0

    def halted(self, update: str | None, ready: Collection[str]) -> Halt | None:
        """How the Swarm has left an update that is in this state; `ready` are the nodes that answer."""
        if update == "paused" and self.all_begun_are_up:
            return "paused"
        if update == "updating":
            return "stranded" if any(_given_up(task, ready) for task in self.tasks) else None
        if not self.twice:
            return None
        return "doubled" if _runs_twice(self.tasks) else "outlived"

    @property
    def past(self) -> Past:
        """All that has become of it so far."""
        return Past(self.ended, int(self.container["RestartCount"]) if self.container else 0)


def reason_of(member: Member, standing: Standing, past: Past, cluster: Cluster | None) -> Reason | None:
    """Why an agent will not become healthy, by what is not past; None while it may."""
    if member.kind == "container":
        return of_container(standing.container, past.restarts)
    return of_tasks(standing.tasks, past.ended, cluster)


def ended_so_far(run: Run, name: str) -> frozenset[str]:
    """The attempts of a service that have ended, of any spec: Swarm tells specs apart, and not their age."""
    try:
        tasks = run.client(run.fleet.manager.name).tasks({"service": name})
    except docker.errors.NotFound:
        return frozenset()
    return frozenset(task["ID"] for task in tasks if task["Status"]["State"] in ENDED)


def cluster_for(run: Run, standings: Iterable[Standing]) -> Cluster | None:
    """The whole Swarm where one of these services finds no node; None where nobody needs to look."""
    if not any(unplaced(standing.tasks) for standing in standings):
        return None
    manager = run.client(run.fleet.manager.name)
    services = {service["ID"]: service for service in manager.services()}
    return Cluster(tuple(manager.nodes()), tuple(manager.tasks()), services)


def host_of(run: Run, task: Task) -> str:
    """The host of this run that a task was given to, empty for none."""
    nodes = run.client(run.fleet.manager.name).nodes()
    names = {node["ID"]: str(node["Description"]["Hostname"]) for node in nodes}
    name = names.get(task.get("NodeID", ""), "")
    return name if name in run.chosen_hosts else ""


def as_it_ended(run: Run, task: Task) -> Task:
    """With what Swarm leaves out: whoever is stopped for being unhealthy may end well."""
    container = task["Status"].get("ContainerStatus", {}).get("ContainerID")
    if task["Status"]["State"] != "complete" or not container or not (host := host_of(run, task)):
        return task
    try:
        state = run.client(host).inspect_container(container)["State"]
    except (docker.errors.DockerException, *CONNECTION_LOST):
        return task
    if (state.get("Health") or {}).get("Status") != "unhealthy":
        return task
    return {**task, "Status": {**task["Status"], "Err": f"task: {UNHEALTHY}"}}


def services_standing(run: Run, names: list[str]) -> dict[str, Standing]:
    """How services stand by the tasks of their newest spec; what an older spec still runs does not count."""
    if not names:
        return {}
    manager = run.client(run.fleet.manager.name)
    found_services = manager.services({"name": names})
    services = {service["ID"]: service["Spec"]["Name"] for service in found_services}
    updates = {
        service["Spec"]["Name"]: service.get("UpdateStatus", {}).get("State") for service in found_services
    }
    ready = {node["ID"] for node in manager.nodes() if node["Status"]["State"] == "ready"}
    tasks = _by_service(manager.tasks({"service": sorted(services), "_up-to-date": ["true"]}), services)
    running = _by_service(
        manager.tasks({"service": sorted(services), "desired-state": ["running"]}), services
    )
    found = {name: _of_tasks(tasks.get(name, []), ready) for name in names}
    for name, one in found.items():
        twice = _runs_twice(task for task in running.get(name, ()) if _counts(task, ready))
        one = replace(one, twice=twice, state=f"{one.state}, a replica twice" if twice else one.state)
        found[name] = replace(one, halt=one.halted(updates.get(name), ready))
    return found


def _by_service(tasks: list[Task], services: Mapping[str, str]) -> dict[str, list[Task]]:
    """Tasks by the names of their services, the oldest first."""
    tasks = sorted(tasks, key=lambda task: (task["ServiceID"], task["CreatedAt"]))
    grouped = groupby(tasks, key=lambda task: task["ServiceID"])
    return {services[id_]: list(found) for id_, found in grouped}


def _runs_twice(tasks: Iterable[Task]) -> bool:
    slots = [task["Slot"] for task in tasks if _runs(task)]
    return len(slots) > len(set(slots))


def _of_tasks(tasks: list[Task], ready: set[str]) -> Standing:
    up = {task["Slot"] for task in tasks if _counts(task, ready)}
    if not tasks:
        return Standing(0, "no task yet")
    failures = [task for task in tasks if task["Status"]["State"] in ENDED]
    newest = next((task for task in reversed(tasks) if not _counts(task, ready)), tasks[-1])
    waiting_again = newest["Status"]["State"] not in ENDED and not error_of(newest)
    telling = failures[-1] if failures and waiting_again else newest
    return Standing(len(up), describe(telling), tuple(tasks), telling)


def _counts(task: Task, ready: set[str]) -> bool:
    return _runs(task) and task.get("NodeID") in ready


def _runs(task: Task) -> bool:
    return bool(task["DesiredState"] == task["Status"]["State"] == "running")


def _given_up(task: Task, ready: Collection[str]) -> bool:
    """Whether it has been replaced before it ran, and its node cannot say that it is gone."""
    began = task["Status"]["State"] in _BEFORE_RUNNING
    return began and task["DesiredState"] == "shutdown" and task.get("NodeID") not in ready


def describe(task: Task) -> str:
    """A task's state with the engine's error and exit code, where there are any."""
    exit_code = task["Status"].get("ContainerStatus", {}).get("ExitCode")
    parts = [task["Status"]["State"], error_of(task), f"exit code {exit_code}" if exit_code else ""]
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
    return Standing(int(well), plain(", ".join(filter(None, parts))), container=container)


def look(run: Run, members: Iterable[Member]) -> dict[str, Standing]:
    """How agents of both kinds stand, by name."""
    members = list(members)
    services = [member.name for member in members if member.kind == "service"]
    containers = [member for member in members if member.kind == "container"]
    return services_standing(run, services) | {
        member.name: container_standing(run.client(member.key.host), member.name) for member in containers
    }
