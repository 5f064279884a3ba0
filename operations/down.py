"""Stopping a system: its agents go, in the reverse of their order; data and cluster only on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from itertools import groupby
from typing import Any

import docker.errors

from cascade.planning.diff import Change
from cascade.planning.observed import Observed, observe
from cascade.planning.removal import group_of, removals, waiting
from cascade.planning.specs import LABEL_SYSTEM
from operations.polling import poll
from operations.run import Run, WorkFailed
from operations.swarm.removal import remove

IN_USE_DEADLINE_S = 30.0


@dataclass(frozen=True)
class Standing:
    """What there is of a system on the hosts that were read."""

    agents: Mapping[str, tuple[Change, ...]]
    waiting: Mapping[str, tuple[str, ...]]
    volumes: tuple[tuple[str, str], ...]
    networks: tuple[str, ...]
    members: tuple[str, ...]
    others: tuple[str, ...]


def what_stands(run: Run) -> Standing:
    """Reads the hosts; ends the run where one cannot be read. Agents by group, the last to start first."""
    fleet, snapshots = run.fleet, run.snapshots()
    observed = observe(fleet, snapshots, {})
    run.refuse(observed.unknown)
    if observed.stopped:
        stopped = ", ".join(sorted(observed.stopped))
        run.fail(
            1, f"{stopped}: Docker does not run, so nobody can say what it holds: start it and run again"
        )
    engines = {name: snapshot["docker"] or {} for name, snapshot in snapshots.items()}
    manager = engines.get(fleet.manager.name, {})
    return Standing(
        agents=dict(_by_group(run, observed)),
        waiting=waiting(fleet, observed),
        volumes=tuple(sorted(_volumes(engines, fleet.settings.system))),
        networks=tuple(item["Name"] for item in manager.get("networks", ()) if _ours(item, run)),
        members=tuple(
            name
            for name, engine in engines.items()
            if engine and engine["swarm"]["LocalNodeState"] == "active"
        ),
        others=tuple(
            item["Spec"]["Name"] for item in manager.get("services", ()) if not _ours(item["Spec"], run)
        ),
    )


def _by_group(run: Run, observed: Observed) -> Iterator[tuple[str, tuple[Change, ...]]]:
    present = {group for fields in observed.resources.values() if (group := group_of(run.fleet, fields))}
    asked = run.fleet.chosen_groups if run.fleet.partial else present
    found = removals(run.fleet, observed, asked)
    for group, changes in groupby(
        found, key=lambda change: group_of(run.fleet, observed.resources[change.key])
    ):
        yield str(group), tuple(changes)


def _volumes(engines: Mapping[str, Any], system: str) -> Iterator[tuple[str, str]]:
    for host, engine in engines.items():
        for volume in engine.get("volumes", ()):
            if (volume.get("Labels") or {}).get(LABEL_SYSTEM) == system:
                yield host, volume["Name"]


def _ours(item: Mapping[str, Any], run: Run) -> bool:
    return bool((item.get("Labels") or {}).get(LABEL_SYSTEM) == run.fleet.settings.system)


def stop_agents(run: Run, standing: Standing) -> Iterator[str]:
    """Removes group after group; yields what was done. Raises WorkFailed or what the engine said."""
    for group, changes in standing.agents.items():
        for host, found in groupby(sorted(changes, key=lambda change: change.key.host), lambda c: c.key.host):
            remove(run, run.state.inventory.get_host(host), tuple(found))
        yield f"{group}: {len(changes)} agents stopped"


def purge(run: Run, standing: Standing) -> Iterator[str]:
    """Destroys the volumes and networks, and dissolves the Swarm unless others use it."""
    for host, volume in standing.volumes:
        _remove_volume(run, host, volume)
        yield f"{host}: volume {volume} destroyed"
    for network in standing.networks:
        _remove_network(run, network)
        yield f"network {network} removed"
    if standing.others:
        yield f"the Swarm stays: {', '.join(standing.others)} run there too"
        return
    manager = run.fleet.manager.name
    for host in sorted(standing.members, key=lambda name: name == manager):
        run.client(host).leave_swarm(force=True)
        yield f"{host}: has left the Swarm"


def _remove_volume(run: Run, host: str, name: str) -> None:
    """An engine keeps the containers of a removed service, and thus its volumes, a moment longer."""

    def gone() -> None:
        try:
            run.client(host).remove_volume(name)
        except docker.errors.APIError as error:
            if error.status_code != HTTPStatus.CONFLICT:
                raise
            raise WorkFailed(str(error.explanation)) from error

    poll(f"{host}: volume {name}", gone, IN_USE_DEADLINE_S)


def _remove_network(run: Run, name: str) -> None:
    """Removal of an overlay takes effect after it was granted."""
    client = run.client(run.fleet.manager.name)

    def gone() -> None:
        with suppress(docker.errors.NotFound):
            client.remove_network(name)
            raise WorkFailed("it is still there")

    poll(f"network {name}", gone, IN_USE_DEADLINE_S)
