"""What workloads need before they start: networks, volumes, configs and secrets."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from docker import APIClient
from docker.types import IPAMConfig, IPAMPool
from pyinfra.api.host import Host

from cascade.planning.diff import Change
from cascade.planning.specs import LABEL_SYSTEM
from operations.host.shell import shell
from operations.polling import poll
from operations.run import Run, WorkFailed
from operations.swarm.removal import remove

ALLOCATION_DEADLINE_S = 15.0


def create_network(run: Run, host: Host, change: Change) -> None:
    """Creates an overlay and looks at what came of it: one that collides is made, but without a driver."""
    wanted, name = change.desired, change.key.name
    pools = [IPAMPool(subnet=wanted["subnet"])] if "subnet" in wanted else []
    client = run.client(host.name)
    if change.action == "replace":
        remove(run, host, (replace(change, action="remove"),))
    client.create_network(
        name,
        driver=wanted["driver"],
        internal=wanted["internal"],
        attachable=wanted["attachable"],
        scope="swarm",
        options=wanted["options"],
        ipam=IPAMConfig(pool_configs=pools) if pools else None,
        labels={LABEL_SYSTEM: run.fleet.settings.system},
    )

    def allocated() -> None:
        network = client.inspect_network(name)
        if not (network["Driver"] and network["IPAM"]["Config"]):
            subnet = wanted.get("subnet", "its pool")
            raise WorkFailed(f"no driver or subnet: does {subnet} collide with another network?")

    poll(f"network {name}", allocated, ALLOCATION_DEADLINE_S)


def create_volume(run: Run, host: Host, change: Change) -> None:
    """A named volume on its host that belongs to who writes it; one of that name that is there is kept."""
    client, name = run.client(host.name), change.key.name
    if change.action == "create":
        labels = {LABEL_SYSTEM: run.fleet.settings.system}
        client.create_volume(name, driver=change.desired["driver"], labels=labels)
    if owner := change.desired.get("owner"):
        folder = client.inspect_volume(name)["Mountpoint"]
        shell(host, f"chown -Rh -- {shlex.quote(owner)} {shlex.quote(folder)}")


def create_config(run: Run, host: Host, change: Change) -> None:
    """A config with its content; one that is there gets its labels, or goes if it holds something else."""
    client, name, labels = run.client(host.name), change.key.name, change.desired["labels"]
    if change.action == "update":
        _label(client, "configs", client.inspect_config(name), labels)
        return
    if change.action == "replace":
        remove(run, host, (replace(change, action="remove"),))
    client.create_config(name, base64.b64decode(change.desired["data"]), labels)


def create_secret(run: Run, host: Host, change: Change) -> None:
    """A secret with its value, which goes into the body of one call and nowhere else."""
    client, name, labels = run.client(host.name), change.key.name, change.desired["labels"]
    if change.action == "update":
        _label(client, "secrets", client.inspect_secret(name), labels)
        return
    client.create_secret(name, run.opened.values[change.desired["stored"]].data, labels)


def _label(client: APIClient, kind: str, found: Mapping[str, Any], labels: Mapping[str, str]) -> None:
    """Labels are all that can be changed of a config or secret; docker-py has no call for it."""
    spec = {**found["Spec"], "Labels": dict(labels)}
    path = client._url(f"/{kind}/{{0}}/update", found["ID"])
    version = {"version": found["Version"]["Index"]}
    client._raise_for_status(client._post_json(path, data=spec, params=version))
