"""Images on a host: archives sent from here, digests pulled from a registry."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import docker.errors
from pyinfra.api.host import Host

from cascade.model.reference import parse_reference
from cascade.planning.diff import Change
from operations.credentials import NoCredentials, login_for
from operations.registry import advice
from operations.run import Run, WorkFailed
from operations.signals import SIGNALS
from operations.swarm.delivery import ask, send_archive

_MILESTONES = ("Pull complete", "Already exists")


def deliver_image(run: Run, host: Host, change: Change) -> None:
    """Brings an image to a host and records there that it came from Cascade; raises WorkFailed."""
    image = change.desired["present"]
    if archive := change.desired.get("archive"):
        run.writes += 1
        said = _send(host, image, Path(archive))
    else:
        said = _pull(run, host, image, change.desired.get("login"))
        ask(host, {"do": "record", "image": image})
    try:
        run.client(host.name).inspect_image(image)
    except docker.errors.ImageNotFound:
        raise WorkFailed(
            f"{image} arrived under another ID ({said}): this engine keeps images in containerd's store;"
            ' set "features": {"containerd-snapshotter": False} in daemon_settings of group_data'
        ) from None


def _send(host: Host, image: str, archive: Path) -> str:
    try:
        return send_archive(host, image, archive)
    except ValueError as error:
        raise WorkFailed(str(error)) from None


def _pull(run: Run, host: Host, image: str, registry: str | None) -> str:
    """The login travels in a header of the one call, over the SSH connection."""
    try:
        login = login_for(registry) if registry else None
        told = run.client(host.name).pull(image, stream=True, decode=True, auth_config=login)
        _follow(host, image, told)
    except NoCredentials as error:
        raise WorkFailed(str(error)) from None
    except docker.errors.APIError as error:
        raise _not_arrived(image, error.explanation) from None
    return "it was pulled"


def _follow(host: Host, image: str, told: Iterable[dict[str, Any]]) -> None:
    """Says which layer is there and how large it was; raises WorkFailed with what to do."""
    bytes_of: dict[str, int] = {}
    for message in told:
        SIGNALS.pause_point()
        layer, status = message.get("id", image), message.get("status")
        if "error" in message:
            raise _not_arrived(image, message["error"])
        bytes_of[layer] = message.get("progressDetail", {}).get("total") or bytes_of.get(layer, 0)
        if status in _MILESTONES:
            size = f", {bytes_of[layer] / 1e6:.1f} MB" if bytes_of[layer] else ""
            host.log(f"{status}: {layer}{size}")


def _not_arrived(image: str, said: object) -> WorkFailed:
    return WorkFailed(f"{image} did not arrive: {advice(said, parse_reference(image).registry)}")
