"""The Swarm itself: its nodes and their labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import docker.errors
from pyinfra.api.host import Host

from cascade.planning.diff import Change
from cascade.planning.observed import earlier_entries
from operations.polling import poll
from operations.run import Run, WorkFailed
from operations.swarm.versions import update_latest

MANAGEMENT_PORT = 2377
NODE_DEADLINE_S = 60.0


def join(run: Run, host: Host, change: Change) -> None:
    """Makes the manager found the Swarm, any other host join it. Tokens travel in API bodies only."""
    if host.name == run.fleet.manager.name:
        _found(run, host, change)
    else:
        _join(run, host, change)


def _found(run: Run, host: Host, change: Change) -> None:
    address = change.desired["address"]
    run.client(host.name).init_swarm(
        advertise_addr=address,
        listen_addr=f"{address}:{MANAGEMENT_PORT}",
        data_path_addr=address,
        default_addr_pool=change.desired["pool"],
        subnet_size=change.desired["subnet_size"],
    )


def _join(run: Run, host: Host, change: Change) -> None:
    manager, address = run.fleet.manager, change.desired["address"]
    token = run.client(manager.name).inspect_swarm()["JoinTokens"]["Worker"]
    run.client(host.name).join_swarm(
        remote_addrs=[f"{manager.swarm_address}:{MANAGEMENT_PORT}"],
        join_token=token,
        listen_addr=f"{address}:{MANAGEMENT_PORT}",
        advertise_addr=address,
        data_path_addr=address,
    )


def settle(run: Run, host: Host, change: Change) -> None:
    """Labels a node and makes it available, by its ID, the only name that rejoining does not confuse.

    The entries of earlier memberships go.
    """
    node_id = run.client(change.key.name).info()["Swarm"]["NodeID"]
    manager = run.client(host.name)
    node = poll(f"node {change.key.name} in the Swarm", lambda: _ready(manager, node_id), NODE_DEADLINE_S)

    def update(current: Mapping[str, Any]) -> None:
        labels = {**(current["Spec"].get("Labels") or {}), **change.desired["labels"]}
        spec = {**current["Spec"], "Labels": labels, "Availability": change.desired["availability"]}
        manager.update_node(node_id, current["Version"]["Index"], spec)

    update_latest(f"node {change.key.name}", lambda: manager.inspect_node(node_id), update)
    for entry in earlier_entries(node, manager.nodes()):
        manager.remove_node(entry)


def _ready(manager: docker.APIClient, node_id: str) -> dict[str, Any]:
    try:
        node: dict[str, Any] = manager.inspect_node(node_id)
    except docker.errors.NotFound as error:
        raise WorkFailed("the manager does not know it yet") from error
    if node["Status"]["State"] != "ready":
        raise WorkFailed(f"it is {node['Status']['State']}")
    return node
