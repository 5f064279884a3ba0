"""What a person does on a host past Cascade, where one command is not enough."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from lab.errors import LabError
from lab.hosts import HOSTS
from lab.polling import until
from tests.lab.conftest import on_host

MANAGER = "mainpc"
OLD_API = "/v1.43"

Change = Callable[[dict[str, Any]], object]


def api(host: str, method: str, path: str, body: object = None, version: str = "") -> Any:
    """A call of a host's engine; `version` as a client of that age makes it."""
    call = f"curl -sS --fail-with-body --unix-socket /run/docker.sock -X {method}"
    if body is not None:
        text = base64.b64encode(json.dumps(body).encode()).decode()
        call = f"echo {text} | base64 -d | {call} -H 'Content-Type: application/json' -d @-"
    answer = on_host(host, f"{call} 'http://docker{version}/{path}'")
    return json.loads(answer) if answer else None


def update_service(name: str, change: Change, version: str = "") -> None:
    """Reads a service, changes its spec, and posts all of it, as a client of some age does."""
    service = api(MANAGER, "GET", f"services/{name}", version=version)
    change(service["Spec"])
    index = service["Version"]["Index"]
    api(MANAGER, "POST", f"services/{service['ID']}/update?version={index}", service["Spec"], version)


def fail_update(name: str) -> None:
    """Updates a service to an image that is nowhere, until the engine has paused the update."""
    image = "--no-resolve-image --image nobody.invalid/none:1"
    on_host(MANAGER, f"docker service update -q --detach {image} {name}")

    def paused() -> None:
        state = on_host(MANAGER, f"docker service inspect {name} --format '{{{{.UpdateStatus.State}}}}'")
        if state != "paused":
            raise LabError(name, f"its update is {state}", "look at the service's tasks")

    until(name, paused, timeout_s=120, next_step="look at the service's tasks")


def recreate_container(name: str, change: Change) -> None:
    """Puts a host container in the place of one, the same but for the change."""
    found = api(MANAGER, "GET", f"containers/{name}/json")
    endpoints = {
        network: {"Aliases": [alias for alias in endpoint["Aliases"] if not found["Id"].startswith(alias)]}
        for network, endpoint in found["NetworkSettings"]["Networks"].items()
    }
    body = {
        **found["Config"],
        "HostConfig": found["HostConfig"],
        "NetworkingConfig": {"EndpointsConfig": endpoints},
    }
    del body["Hostname"]
    change(body)
    on_host(MANAGER, f"docker rm -f {name}")
    api(MANAGER, "POST", f"containers/create?name={name}", body)
    on_host(MANAGER, f"docker start {name}")


def exchange_network(name: str, options: str) -> None:
    """Makes a network anew with other options, and the services that use it as they were."""
    network = api(MANAGER, "GET", f"networks/{name}")
    specs = [service["Spec"] for service in api(MANAGER, "GET", "services")]
    users = [spec for spec in specs if network["Id"] in _targets(spec)]
    for spec in users:
        on_host(MANAGER, f"docker service rm {spec['Name']}")
    remove_network(name)
    on_host(MANAGER, f"docker network create -d overlay {options} {name}")
    for spec in users:
        for attachment in spec["TaskTemplate"]["Networks"]:
            if attachment["Target"] == network["Id"]:
                attachment["Target"] = name
        api(MANAGER, "POST", "services/create", spec)


def _targets(spec: dict[str, Any]) -> list[str]:
    return [attachment["Target"] for attachment in spec["TaskTemplate"].get("Networks") or ()]


def remove_network(name: str) -> None:
    """Removes a network, which takes until the last task has left it."""

    def gone() -> None:
        there = f"docker network ls -q --filter name=^{name}$"
        if on_host(MANAGER, f"docker network rm {name} > /dev/null 2>&1; {there}"):
            raise LabError(name, "the network is still there", "look at what uses it")

    until(name, gone, timeout_s=30, next_step="look at what uses it")


def exchange_config(name: str, service: str, content: str) -> None:
    """Puts another content under a config's name, and the service that reads it back as it was."""
    config = api(MANAGER, "GET", f"configs/{name}")
    spec = api(MANAGER, "GET", f"services/{service}")["Spec"]
    on_host(MANAGER, f"docker service rm {service} && docker config rm {name}")
    data = base64.b64encode(content.encode()).decode()
    made = api(MANAGER, "POST", "configs/create", {**config["Spec"], "Data": data})
    for use in spec["TaskTemplate"]["ContainerSpec"]["Configs"]:
        if use["ConfigName"] == name:
            use["ConfigID"] = made["ID"]
    api(MANAGER, "POST", "services/create", spec)


def relabel_config(name: str, labels: dict[str, str]) -> None:
    """Gives a config other labels, which is all that can be changed of one."""
    config = api(MANAGER, "GET", f"configs/{name}")
    index = config["Version"]["Index"]
    api(
        MANAGER,
        "POST",
        f"configs/{config['ID']}/update?version={index}",
        {**config["Spec"], "Labels": labels},
    )


def leave() -> None:
    """Takes pc2 out of the Swarm, until the manager has noticed."""
    on_host("pc2", "docker swarm leave --force")

    def noticed() -> None:
        if "Down" not in on_host(MANAGER, "docker node ls --format '{{.Status}}'"):
            raise LabError(MANAGER, "pc2 is not down yet", "look at docker node ls")

    until(MANAGER, noticed, timeout_s=60, next_step="look at docker node ls")


def rejoin() -> None:
    """Takes pc2 out of the Swarm and in again, which leaves a second entry."""
    leave()
    addresses = {host.name: host.address for host in HOSTS}
    token = on_host(MANAGER, "docker swarm join-token -q worker")
    join = f"docker swarm join --token {token} --advertise-addr {addresses['pc2']}"
    on_host("pc2", f"{join} {addresses[MANAGER]}:2377")
