"""Images that Cascade brought to a host and that nothing needs any more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import docker.errors
from pyinfra.api.host import Host

from cascade.planning.audit import Deed
from cascade.planning.observed import needs_in
from cascade.planning.specs import LABEL_RELEASE, LABEL_SYSTEM
from operations.engine_client import API_VERSION, EngineClient
from operations.run import Run, WorkFailed
from operations.swarm.delivery import ask

_TASK = "com.docker.swarm.task.id"
_ENDED = ("exited", "dead")

Item = Mapping[str, Any]


@dataclass(frozen=True)
class Leftover:
    """An image on a host, or what an interrupted delivery left of one (`part`).

    `names` are Cascade's for it. `ended` are containers of replaced tasks that hold it and can go with it;
    `stays` says what keeps it.
    """

    host: str
    image: str
    names: tuple[str, ...]
    bytes: int
    part: bool = False
    ended: tuple[str, ...] = ()
    stays: str = ""


def leftovers(run: Run, with_ended: bool) -> Iterator[Leftover]:
    """What every connected host has of these; the manager must be one of them. Raises WorkFailed."""
    hosts = {host.name: host for host in run.state.inventory.get_active_hosts()}
    if run.fleet.manager.name not in hosts:
        raise WorkFailed(f"what runs is known to {run.fleet.manager.name} alone: do not leave it out")
    manager = run.client(run.fleet.manager.name)
    specs = {service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] for service in manager.services()}
    wanted = specs.union(run.fleet.pinned_images.values(), _released(manager))
    for host in hosts.values():
        yield from _on_host(run, host, wanted, with_ended)


def _released(manager: EngineClient) -> Iterator[str]:
    """The images that a kept release would be gone back to with, whichever system's it is."""
    for config in manager.configs({"label": LABEL_RELEASE}):
        yield from (key.name for key in needs_in(config["Spec"]["Labels"]) if key.kind == "image")


def _on_host(run: Run, host: Host, wanted: set[str], with_ended: bool) -> Iterator[Leftover]:
    known = ask(host, {"do": "list"}, "delivered")
    client = run.client(host.name)
    containers = client.containers(all=True)
    for image in _images(client):
        ours, others = _names(image, known["delivered"])
        if not ours or wanted & {image["Id"], *ours, *others}:
            continue
        users = [item for item in containers if item["ImageID"] == image["Id"]]
        ended = [item for item in users if _is_ended_task(item, run.fleet.settings.system)]
        stays = _why_it_stays(others, users, ended, with_ended)
        shared = max(0, image.get("SharedSize", 0))
        yield Leftover(
            host.name,
            image["Id"],
            tuple(ours),
            image["Size"] - shared,
            ended=tuple(item["Id"] for item in ended),
            stays=stays,
        )
    for image_id, size in sorted(known["parts"].items()):
        if image_id not in wanted:
            yield Leftover(host.name, image_id, (), size, part=True)


def _images(client: EngineClient) -> list[Item]:
    """With what each shares with others, which docker-py does not ask for."""
    answer = client.get(f"{client.base_url}/v{API_VERSION}/images/json", params={"shared-size": 1})
    client._raise_for_status(answer)
    found: list[Item] = answer.json()
    return found


def _names(image: Item, delivered: Mapping[str, Item]) -> tuple[list[str], list[str]]:
    """Which of an image's names came with a delivery, its ID last, and which did not."""
    names = [*(image.get("RepoTags") or ()), *(image.get("RepoDigests") or ())]
    names = [name for name in names if not name.startswith("<none>")]
    records = [delivered[name] for name in (image["Id"], *names) if name in delivered]
    brought = {*delivered, *(tag for record in records for tag in record["tags"])}
    ours = [name for name in names if name in brought]
    if image["Id"] in delivered:
        ours.append(image["Id"])
    return ours, [name for name in names if name not in ours]


def _is_ended_task(container: Item, system: str) -> bool:
    labels = container["Labels"] or {}
    return container["State"] in _ENDED and _TASK in labels and labels.get(LABEL_SYSTEM) == system


def _why_it_stays(others: Iterable[str], users: list[Item], ended: list[Item], with_ended: bool) -> str:
    if named := ", ".join(others):
        return f"its owner calls it {named} too"
    using = [item["Names"][0].lstrip("/") for item in users if item not in ended]
    if using:
        return f"used by {', '.join(sorted(using))}"
    if ended and not with_ended:
        return (
            f"held by {len(ended)} ended containers of replaced tasks: --ended removes them, and their logs"
        )
    return ""


def prune(run: Run, leftover: Leftover) -> None:
    """Removes one leftover and forgets it; raises WorkFailed when the engine will not."""
    host = run.state.inventory.get_host(leftover.host)
    with run.on_record(host, Deed("remove", "image", leftover.image)):
        _prune(run.client(leftover.host), host, leftover)


def _prune(client: EngineClient, host: Host, leftover: Leftover) -> None:
    try:
        for container in leftover.ended:
            client.remove_container(container)
        for name in leftover.names:
            _remove(client, name)
    except docker.errors.APIError as error:
        raise WorkFailed(f"{leftover.host}: {leftover.image}: {error.explanation}") from error
    parts = [leftover.image] if leftover.part else []
    ask(host, {"do": "forget", "images": list(leftover.names), "parts": parts})


def _remove(client: EngineClient, name: str) -> None:
    """Never by force; the last name takes the image with it."""
    try:
        client.remove_image(name, noprune=False)
    except docker.errors.ImageNotFound:
        return
