"""What workloads need before they start: networks, volumes, images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from docker.types import IPAMConfig, IPAMPool
from pyinfra.api.host import Host

from cascade.planning.diff import Change
from cascade.planning.specs import LABEL_SYSTEM
from operations.polling import poll
from operations.run import Run, WorkFailed

CHUNK_BYTES = 1 << 20
ALLOCATION_DEADLINE_S = 15.0
_MILESTONES = ("Pull complete", "Already exists")


def create_network(run: Run, host: Host, change: Change) -> None:
    """Creates an overlay and looks at what came of it: one that collides is made, but without a driver."""
    wanted, name = change.desired, change.key.name
    pools = [IPAMPool(subnet=wanted["subnet"])] if "subnet" in wanted else []
    client = run.client(host.name)
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
    """A named volume on its host; a volume of that name that is there is kept."""
    labels = {LABEL_SYSTEM: run.fleet.settings.system}
    run.client(host.name).create_volume(change.key.name, driver=change.desired["driver"], labels=labels)


def deliver_image(run: Run, host: Host, change: Change) -> None:
    """Loads an archive from here over SSH, or has the host pull a digest."""
    client, image = run.client(host.name), change.desired["present"]
    archive = change.desired.get("archive")
    if archive:
        told = client.load_image(_with_progress(host, Path(archive)))
    else:
        told = client.pull(image, stream=True, decode=True)
    for message in told:
        if "error" in message:
            raise WorkFailed(f"{image} did not arrive: {message['error']}")
        if message.get("status") in _MILESTONES:
            host.log(f"{message['status']}: {message.get('id', image)}")
    client.inspect_image(image)


def _with_progress(host: Host, archive: Path) -> Iterator[bytes]:
    """The archive in pieces; says how far it is at each quarter."""
    size, sent, told = archive.stat().st_size, 0, 0
    with archive.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            yield piece
            sent += len(piece)
            if (quarter := 4 * sent // size) > told:
                told = quarter
                host.log(f"{archive.name}: {sent / 1e6:.1f} of {size / 1e6:.1f} MB")
