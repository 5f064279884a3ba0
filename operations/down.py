"""Stopping a system: its agents go, in the reverse of their order; data and cluster only on demand."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from itertools import groupby
from typing import Any

import docker.errors
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.host import Host

from cascade.exit_codes import ERROR
from cascade.model.strict import printable
from cascade.planning.audit import Deed
from cascade.planning.diff import Change
from cascade.planning.gpu import GPU
from cascade.planning.observed import Observed, in_config_folder, observe
from cascade.planning.removal import agents_of, group_of, removals, waiting
from cascade.planning.specs import LABEL_SYSTEM
from cascade.planning.target import Target, target_of
from operations.host.secrets import forget_secret
from operations.polling import poll
from operations.run import Run, WorkFailed
from operations.swarm.removal import remove

IN_USE_DEADLINE_S = 30.0


@dataclass(frozen=True)
class Standing:
    """What there is of a system on the hosts that were read; `others` share its Swarm."""

    agents: Mapping[str, tuple[Change, ...]]
    waiting: Mapping[str, tuple[str, ...]]
    volumes: tuple[tuple[str, str], ...]
    networks: tuple[str, ...]
    configs: tuple[str, ...]
    secrets: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    secret_files: tuple[tuple[str, str], ...]
    members: tuple[str, ...]
    others: tuple[str, ...]


def what_stands(run: Run) -> Standing:
    """Reads the hosts; ends the run where one cannot be read. Agents by group, the last to start first."""
    fleet, target = run.fleet, target_of(run.fleet)
    snapshots = run.snapshots(target.named)
    run.refuse_without_manager(snapshots)
    observed = observe(target, snapshots)
    run.refuse(unknown for unknown in observed.unknown if unknown.what != GPU)
    if observed.stopped:
        stopped = ", ".join(sorted(observed.stopped))
        run.fail(
            ERROR, f"{stopped}: Docker does not run, so nobody can say what it holds: start it and run again"
        )
    engines = {name: snapshot["docker"] or {} for name, snapshot in snapshots.items()}
    manager = engines[fleet.manager.name]
    nodes = {node["ID"]: node for node in manager.get("nodes", ())}
    return Standing(
        agents=dict(_by_group(run, target, observed)),
        waiting=waiting(target, observed),
        volumes=tuple(sorted(_volumes(engines, fleet.settings.system))),
        networks=tuple(item["Name"] for item in manager.get("networks", ()) if _ours(item, run)),
        configs=tuple(item["Name"] for item in manager.get("configs", ()) if _ours(item, run)),
        secrets=tuple(item["Name"] for item in manager.get("secrets", ()) if _ours(item, run)),
        files=tuple((key.host, key.name) for key in observed.owned if in_config_folder(key)),
        secret_files=tuple((key.host, key.name) for key in observed.owned if key.kind == "secret-file"),
        members=tuple(name for name, engine in engines.items() if _node_id(engine) in nodes),
        others=tuple(_others(run, manager, nodes.keys() - set(map(_node_id, engines.values())))),
    )


def _node_id(engine: Mapping[str, Any]) -> str | None:
    """The node that an engine is; it may be one of another Swarm than the system's."""
    found: str | None = engine["swarm"]["NodeID"] if engine else None
    return found


def _others(run: Run, manager: Mapping[str, Any], strangers: Collection[str]) -> Iterator[str]:
    """What would lose its Swarm with this one; a node that is down may be the trace of an earlier member."""
    for service in manager.get("services", ()):
        if not _ours(service["Spec"], run):
            yield f"the service {service['Spec']['Name']}"
    for network in manager.get("networks", ()):
        if not (_ours(network, run) or network.get("Ingress")):
            yield f"the network {network['Name']}"
    for node in manager.get("nodes", ()):
        if node["ID"] in strangers and node["Status"]["State"] != "down":
            yield f"the node {node['Description']['Hostname']}"
    if "nodes" in manager:
        client = run.client(run.fleet.manager.name)
        for kind, values in (("secret", client.secrets()), ("config", client.configs())):
            yield from (
                f"the {kind} {value['Spec']['Name']}" for value in values if not _ours(value["Spec"], run)
            )


def _by_group(run: Run, target: Target, observed: Observed) -> Iterator[tuple[str, tuple[Change, ...]]]:
    present = {group for key in observed.owned if (group := group_of(observed, key))}
    asked = run.fleet.chosen_groups if run.fleet.partial else present
    found = removals(target, observed, agents_of(target, observed, asked))
    for group, changes in groupby(found, key=lambda change: group_of(observed, change.key)):
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
            _stop(run, run.state.inventory.get_host(host), tuple(found))
        yield f"{group}: {len(changes)} agents stopped"


def _stop(run: Run, host: Host, changes: tuple[Change, ...]) -> None:
    with run.on_record(host, changes):
        remove(run, host, changes)


def purge(run: Run, standing: Standing) -> Iterator[str]:
    """Destroys the volumes and networks, and dissolves the Swarm unless others use it."""
    for host, volume in standing.volumes:
        _remove_volume(run, host, volume)
        yield f"{host}: volume {volume} destroyed"
    for network in standing.networks:
        _remove_network(run, network)
        yield f"network {network} removed"
    for config in standing.configs:
        with _removing(run, run.fleet.manager.name, "config", config):
            run.client(run.fleet.manager.name).remove_config(config)
    if standing.configs:
        yield f"{len(standing.configs)} configs removed, the releases among them"
    for secret in standing.secrets:
        with _removing(run, run.fleet.manager.name, "secret", secret):
            run.client(run.fleet.manager.name).remove_secret(secret)
    if standing.secrets:
        yield f"{len(standing.secrets)} secrets removed"
    for host, path in standing.files:
        _remove_file(run, host, path)
        yield f"{host}: {path} removed"
    for host, place in standing.secret_files:
        with _removing(run, host, "secret-file", place):
            forget_secret(run.state.inventory.get_host(host), place)
        yield f"{host}: the secret {place} removed"
    if standing.others:
        yield the_swarm_stays(standing)
        return
    manager = run.fleet.manager.name
    for host in sorted(standing.members, key=lambda name: name == manager):
        with _removing(run, host, "swarm", host):
            run.client(host).leave_swarm(force=True)
        yield f"{host}: has left the Swarm"


def the_swarm_stays(standing: Standing) -> str:
    """Why the Swarm is not dissolved."""
    return f"the Swarm stays: not of this system are {', '.join(standing.others)}"


def _remove_volume(run: Run, host: str, name: str) -> None:
    """An engine keeps the containers of a removed service, and thus its volumes, a moment longer."""

    def gone() -> None:
        try:
            run.client(host).remove_volume(name)
        except docker.errors.APIError as error:
            if error.status_code != HTTPStatus.CONFLICT:
                raise
            raise WorkFailed(str(error.explanation)) from error

    with _removing(run, host, "volume", name):
        poll(f"{host}: volume {name}", gone, IN_USE_DEADLINE_S)


def _remove_network(run: Run, name: str) -> None:
    """Removal of an overlay takes effect after it was granted."""
    manager = run.fleet.manager.name
    client = run.client(manager)

    def gone() -> None:
        with suppress(docker.errors.NotFound):
            client.remove_network(name)
            raise WorkFailed("it is still there")

    with _removing(run, manager, "network", name):
        poll(f"network {name}", gone, IN_USE_DEADLINE_S)


def _remove_file(run: Run, name: str, path: str) -> None:
    host = run.state.inventory.get_host(name)
    with _removing(run, name, "file", path):
        done, output = host.run_shell_command(StringCommand("rm", "-f", "--", QuoteString(path)), _sudo=True)
        if not done:
            raise WorkFailed(f"{name}: {path} could not be removed: {printable(output.stderr)}")


def _removing(run: Run, host: str, kind: str, name: str) -> AbstractContextManager[None]:
    return run.on_record(run.state.inventory.get_host(host), Deed("remove", kind, name))
