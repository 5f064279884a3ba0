"""Where every image comes from, what it is pinned to, and which hosts have it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pyinfra.api.host import Host
from pyinfra.context import ctx_host

from cascade.model.fleet import Fleet
from cascade.model.image import BuildImage, ImageSource, RegistryImage
from operations.pins import Resolved, resolve
from operations.run import Run
from operations.snapshot import query_for, take_snapshot

Document = dict[str, Any]


# The sizes of the images that a host holds, by every exact name; None where that is unknown.
Held = Mapping[str, int] | None


def overview(run: Run) -> Document:
    """Every mapped image; raises ValueError when the record of the tags cannot be read."""
    images = run.fleet.settings.images
    now = {item.reference: item for item in resolve(images, unrecorded=False)}
    held = {host.name: _held(run, host) for host in run.state.inventory.get_active_hosts()}
    wanted = _wanted(run.fleet)
    return {
        "images": [
            _image(name, source, run.fleet.images.get(name), now, held, wanted.get(name, set()))
            for name, source in sorted(images.items())
        ]
    }


def _wanted(fleet: Fleet) -> dict[str, set[str]]:
    """The hosts whose agents may need an image, by its name."""
    found: dict[str, set[str]] = {}
    for workload in (workload for workloads in fleet.workloads.values() for workload in workloads):
        hosts = found.setdefault(workload.service.image, set())
        hosts |= {host.name for host in fleet.eligible(workload)}
    return found


def _held(run: Run, host: Host) -> Held:
    with ctx_host.use(host):
        reading = take_snapshot(host, query_for(host.name, (), run.fleet.settings.system))
    if reading is None:
        return None
    engine = reading["docker"] or {"images": []}
    images = engine.get("images")
    if images is None:
        return None
    return {name: image["Size"] for image in images for name in (image["Id"], *image["RepoDigests"])}


def _image(
    name: str,
    source: ImageSource,
    pin: str | ValueError | None,
    now: Mapping[str, Resolved],
    held: Mapping[str, Held],
    hosts: Iterable[str],
) -> Document:
    tag = now.get(source.reference) if isinstance(source, RegistryImage) else None
    pinned = pin if isinstance(pin, str) else None
    presence = {host: _present(held[host], pinned) for host in sorted(hosts) if host in held}
    sizes = [found[pinned] for found in held.values() if pinned and found and pinned in found]
    return {
        "name": name,
        "source": _kind(source),
        "from": _place(source),
        "pinned": pinned,
        "problem": str(pin) if isinstance(pin, ValueError) else None,
        "bytes": max(sizes, default=_archive_bytes(source)),
        "hosts": presence,
        "moved": tag.now if tag and tag.moved else None,
        "unknown": (tag.fault or None) if tag else None,
    }


def _present(held: Held, pinned: str | None) -> bool | None:
    if pinned is None:
        return False
    return None if held is None else pinned in held


def _kind(source: ImageSource) -> str:
    return type(source).__name__.removesuffix("Image").lower()


def _place(source: ImageSource) -> str:
    if isinstance(source, RegistryImage):
        return source.reference
    return str(source.context if isinstance(source, BuildImage) else source.path)


def _archive_bytes(source: ImageSource) -> int | None:
    archive = source.archive
    return archive.stat().st_size if archive and archive.is_file() else None
