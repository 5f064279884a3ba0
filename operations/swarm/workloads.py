"""Services and host containers, by the Engine API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import docker.errors
from pyinfra.api.host import Host

from cascade.planning.diff import LOSSES, Change
from operations.engine_client import EngineClient
from operations.run import Run, WorkFailed
from operations.swarm.versions import update_latest

# What the engine gives a container that asks for nothing.
_STOPPING_S = 10


def apply_service(run: Run, host: Host, change: Change) -> None:
    """Posts the complete spec; an update keeps the counter of restarts that were forced by hand.

    It forces one itself where a container has lost its GPU or its profile, of which the spec says nothing.
    """
    client, spec = run.client(host.name), dict(change.desired)
    template = _with_ids(client, spec["TaskTemplate"])
    parts = {
        "name": spec["Name"],
        "labels": spec["Labels"],
        "mode": spec["Mode"],
        "update_config": spec["UpdateConfig"],
        "rollback_config": spec["RollbackConfig"],
        "endpoint_spec": spec["EndpointSpec"],
    }
    if change.action in ("create", "replace"):
        client.create_service(template, **parts)
        return

    lost = any(field.path in LOSSES for field in change.fields)

    def update(current: Mapping[str, Any]) -> None:
        forced = current["Spec"]["TaskTemplate"].get("ForceUpdate", 0) + lost
        latest = {"task_template": {**template, "ForceUpdate": forced}, **parts}
        client.update_service(current["ID"], current["Version"]["Index"], **latest)

    update_latest(change.key.name, lambda: client.inspect_service(change.key.name), update)


def _with_ids(client: EngineClient, template: Mapping[str, Any]) -> dict[str, Any]:
    """The engine knows a config or secret by its ID; names are looked up when the spec is posted."""
    container = template["ContainerSpec"]
    listed = {"Config": client.configs, "Secret": client.secrets}
    named = {
        f"{kind}s": _numbered(kind, container[f"{kind}s"], list_named)
        for kind, list_named in listed.items()
        if container.get(f"{kind}s")
    }
    return {**template, "ContainerSpec": {**container, **named}}


def _numbered(kind: str, items: list[dict[str, Any]], list_named: Callable[..., Any]) -> list[dict[str, Any]]:
    names = sorted({item[f"{kind}Name"] for item in items})
    ids = {found["Spec"]["Name"]: found["ID"] for found in list_named({"name": names})}
    if missing := sorted(set(names) - ids.keys()):
        raise WorkFailed(f"there is no {kind.lower()} {', '.join(missing)} any more: run again")
    return [{**item, f"{kind}ID": ids[item[f"{kind}Name"]]} for item in items]


def apply_container(run: Run, host: Host, change: Change) -> None:
    """Starts a host container, in place of the one it replaces."""
    client, name = run.client(host.name), change.key.name
    if change.action == "replace":
        take_away(client, name)
    if change.action != "update":
        body = {key: value for key, value in change.desired.items() if key != "running"}
        client.create_container_from_config(body, name)
    if change.action == "update" and (there := client.inspect_container(name))["State"]["Paused"]:
        # It was unhealthy while it stood still, and would say so until its next check.
        client.unpause(name)
        client.restart(name, timeout=_stopping_s(there))
    else:
        client.start(name)


def take_away(client: EngineClient, name: str) -> None:
    """Stops and removes a host container, if it is there."""
    with suppress(docker.errors.NotFound):
        client.stop(name, timeout=_stopping_s(client.inspect_container(name)))
        client.remove_container(name)


def _stopping_s(container: Mapping[str, Any]) -> int:
    """What it asks for; docker-py waits for an answer that much longer, if it is told."""
    asked = container["Config"].get("StopTimeout")
    return _STOPPING_S if asked is None else int(asked)
