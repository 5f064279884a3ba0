"""Taking agents away; their volumes stay."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from http import HTTPStatus
from typing import Any

import docker.errors
from pyinfra.api.host import Host

from cascade.planning.diff import Change
from operations.engine_client import EngineClient
from operations.polling import poll
from operations.run import Run, WorkFailed
from operations.swarm.workloads import take_away

STOPPING_MARGIN_S = 110.0
IN_USE_DEADLINE_S = 30.0
# What the engine gives a task whose service asks for nothing.
_STOPPING_S = 10.0
_IN_USE = (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT)


def remove(run: Run, host: Host, changes: Iterable[Change]) -> None:
    """Removes things of an engine; of agents it returns when none of their processes is left."""
    client = run.client(host.name)
    changes = tuple(changes)
    for change in changes:
        if change.key.kind in _OBJECTS:
            _remove_object(client, change)
    removed = (_removed(client, change) for change in changes if change.key.kind == "service")
    services = {service["ID"]: _stopping_s(service) for service in removed if service}
    for change in changes:
        if change.key.kind == "container":
            take_away(client, change.key.name)
    if services:
        deadline_s = max(services.values()) + STOPPING_MARGIN_S
        poll("the removed agents", lambda: _all_gone(client, services), deadline_s)
    host.log(f"removed {', '.join(change.key.name for change in changes)}")


_OBJECTS: dict[str, Callable[[EngineClient, str], None]] = {
    "network": EngineClient.remove_network,
    "volume": EngineClient.remove_volume,
    "config": EngineClient.remove_config,
    "secret": EngineClient.remove_secret,
}


def _remove_object(client: EngineClient, change: Change) -> None:
    """Tried until nobody uses it any more, and it is gone."""
    kind, name = change.key.kind, change.key.name

    def gone() -> None:
        try:
            _OBJECTS[kind](client, name)
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            if error.status_code not in _IN_USE:
                raise
            raise WorkFailed(str(error.explanation)) from error
        raise WorkFailed("it is still there")

    poll(f"{kind} {name}", gone, IN_USE_DEADLINE_S)


def _removed(client: EngineClient, change: Change) -> Mapping[str, Any] | None:
    """A service that was there and is now being removed."""
    try:
        service: Mapping[str, Any] = client.inspect_service(change.key.name)
        client.remove_service(service["ID"])
    except docker.errors.NotFound:
        return None
    return service


def _stopping_s(service: Mapping[str, Any]) -> float:
    """How long its tasks may take to stop; they stop at the same time."""
    container = service["Spec"]["TaskTemplate"]["ContainerSpec"]
    asked = container.get("StopGracePeriod")
    return _STOPPING_S if asked is None else float(asked / 1e9)


def _all_gone(client: EngineClient, services: Collection[str]) -> None:
    """Raises WorkFailed while a node that answers still runs one; one that is down cannot say.

    All tasks are asked for, because the engine finds no task by a service that is gone.
    """
    ready = {node["ID"] for node in client.nodes() if node["Status"]["State"] == "ready"}
    left = [task for task in client.tasks() if task["ServiceID"] in services and task.get("NodeID") in ready]
    if left:
        raise WorkFailed(f"{len(left)} of their tasks are still there")
