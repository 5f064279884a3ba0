"""Checks of what a machine holds: room on its disks, CPUs and memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cascade.model.compose import Logging
from cascade.model.fleet import Fleet
from cascade.model.host import Host
from cascade.model.image import ImageSource
from cascade.model.quantities import parse_bytes
from cascade.model.workload import LEAST_MEMORY, LEAST_NANO_CPUS, Workload
from cascade.planning.checks.subject import Said, Subject
from cascade.planning.vram import offers

GIB = 2**30
# An archive's copy while it is loaded, its layers unpacked, and as much again for layers that are packed.
ARCHIVE_FACTOR = 3
# Nobody knows the size of an image in a registry before it is here; those of GPU agents are large.
REGISTRY_IMAGE_BYTES = 4 * GIB
VOLUME_BYTES = 1 * GIB
SPARE_BYTES = 1 * GIB
UNBOUNDED = "-1"
CONTAINERD_STORE = "containerd-snapshotter"
DOCKER_ROOT, CONTAINERD_ROOT = "/var/lib/docker", "/var/lib/containerd"
_NANO = 1_000_000_000


@dataclass(frozen=True)
class Need:
    """An amount of room, how it was arrived at, and where it is needed."""

    where: str
    amount: int
    why: str


def disk(subject: Subject) -> Iterator[Said]:
    """Room for the images and volumes that are not there yet, and for full logs.

    Without the first nothing can be deployed; the second fills up with time.
    """
    rooms = subject.part("disk")
    engine = subject.part("engine") or {}
    data = engine.get("root") or data_root(subject.host)
    unpacked = CONTAINERD_ROOT if in_containerd(subject.host, engine) else data
    spare = Need(data, SPARE_BYTES, f"{_gb(SPARE_BYTES)} spare")
    needs = [*_images(subject, unpacked), *_volumes(subject, data), spare]
    logs = _logs(subject.fleet, subject.host, data)
    by_device: dict[int, list[Need]] = defaultdict(list)
    for need in needs:
        by_device[rooms[need.where]["device"]].append(need)
    for device, found in by_device.items():
        room = next(rooms[need.where]["free"] for need in found)
        places = ", ".join(sorted({need.where for need in found}))
        with_logs = [*found, logs] if logs and rooms[logs.where]["device"] == device else found
        yield _room(places, room, found, with_logs)


def data_root(host: Host) -> str:
    """Where the engine that Cascade installs keeps its data."""
    return str(host.daemon_settings.get("data-root", DOCKER_ROOT))


def _room(places: str, free: int, needs: list[Need], with_logs: list[Need]) -> Said:
    needed, at_worst = (sum(need.amount for need in each) for each in (needs, with_logs))
    sums = " + ".join(need.why for need in needs)
    message = f"{places}: {_gb(free)} free, {_gb(needed)} needed: {sums}"
    if at_worst > needed:
        message += f"; {_gb(at_worst)} once the logs of {with_logs[-1].why} are full"
    if needed > free:
        return Said("error", message, f"free {_gb(needed - free)} there, or mount a larger disk at {places}")
    if at_worst > free:
        return Said(
            "warning",
            message,
            "lower max-size or max-file of log-opts in daemon_settings, or keep an eye on the disk",
        )
    return Said("ok", message)


def _gb(amount: int) -> str:
    return f"{amount / GIB:.1f} GB" if amount >= GIB / 10 else f"{amount / 2**20:.1f} MB"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def in_containerd(host: Host, engine: Mapping[str, Any]) -> bool:
    """Whether the engine will keep images in containerd's store once it has its settings.

    Without a word about it Docker's own packages do, unless an older engine already keeps them itself.
    """
    features = host.daemon_settings.get("features")
    if isinstance(features, dict) and CONTAINERD_STORE in features:
        return bool(features[CONTAINERD_STORE])
    return bool(engine.get("images_in_containerd", host.docker_source == "docker"))


def _images(subject: Subject, where: str) -> Iterator[Need]:
    sources = missing_images(subject)
    archives = [source.archive.stat().st_size for source in sources.values() if source.archive]
    if archives:
        total = sum(archives)
        why = f"{_count(len(archives), 'archive')} of {_gb(total)} times {ARCHIVE_FACTOR} to unpack"
        yield Need(where, total * ARCHIVE_FACTOR, why)
    if pulled := len(sources) - len(archives):
        why = f"{_count(pulled, 'image')} from a registry at an assumed {_gb(REGISTRY_IMAGE_BYTES)}"
        yield Need(where, pulled * REGISTRY_IMAGE_BYTES, why)


def wanted_images(subject: Subject) -> dict[str, ImageSource]:
    """The images that this host is to have, pinned, with their sources."""
    fleet = subject.fleet
    names = {workload.service.image for workload in _placed(fleet, subject.host)}
    return {fleet.pinned_images[name]: fleet.settings.images[name] for name in sorted(names)}


def missing_images(subject: Subject) -> dict[str, ImageSource]:
    """Those of them that it lacks."""
    present = {
        name
        for image in subject.facts.engine(subject.host.name).get("images", ())
        for name in (image["Id"], *image["RepoDigests"])
    }
    return {name: source for name, source in wanted_images(subject).items() if name not in present}


def _placed(fleet: Fleet, host: Host) -> Iterator[Workload]:
    """The workloads that may run on this host."""
    for workloads in fleet.workloads.values():
        yield from (workload for workload in workloads if host in fleet.eligible(workload))


def _volumes(subject: Subject, where: str) -> Iterator[Need]:
    there = {volume["Name"] for volume in subject.facts.engine(subject.host.name).get("volumes", ())}
    wanted = {
        mount.source
        for workload in _placed(subject.fleet, subject.host)
        for mount in workload.mounts
        if mount.type == "volume"
    }
    if missing := len(wanted - there):
        yield Need(
            where, missing * VOLUME_BYTES, f"{_count(missing, 'volume')} at an assumed {_gb(VOLUME_BYTES)}"
        )


def _logs(fleet: Fleet, host: Host, where: str) -> Need | None:
    """What the logs of all replicas come to when every one is full; None where a log has no bound."""
    bounds = [
        (Fraction(workload.replicas, len(fleet.eligible(workload))), bound)
        for workload in _placed(fleet, host)
        if (bound := _log_bound(workload.service.logging)) is not None
    ]
    total = int(sum(count * bound for count, bound in bounds))
    replicas = sum(count for count, _ in bounds)
    return Need(where, total, f"{float(replicas):g} replicas") if total else None


def _log_bound(logs: Logging) -> int | None:
    if logs.options.get("max-size", UNBOUNDED) == UNBOUNDED:
        return None
    return parse_bytes(logs.options["max-size"]) * int(logs.options.get("max-file", 1))


def reservations(subject: Subject) -> Iterator[Said]:
    """What all replicas reserve here against what the machine has.

    A workload that may run on several hosts counts with an equal part on each.
    """
    fleet, host = subject.fleet, subject.host
    cpus, memory = subject.part("cpus"), subject.part("memory")
    reserved = _reserved(fleet, host, host.reservation_scale)
    message = (
        f"reservations {reserved[0] / _NANO:.1f} CPU / {reserved[1] / GIB:.1f} GB,"
        f" {host.name} has {cpus} / {memory / GIB:.1f}{_shared(fleet, host)}"
    )
    if _fits(reserved, cpus, memory):
        yield Said("ok", message)
        return
    fitting = (
        number / 100
        for number in range(round(host.reservation_scale * 100), 0, -1)
        if _fits(_reserved(fleet, host, number / 100), cpus, memory)
    )
    scale = next(fitting, None)
    fewer = "fewer replicas, or disable a group with `x-enabled: false`"
    step = f"{subject.setting(f'reservation_scale = {scale}')}, or {fewer}" if scale else fewer
    yield Said("error", message, step)


def _fits(reserved: tuple[float, float], cpus: int, memory: int) -> bool:
    return reserved[0] <= cpus * _NANO and reserved[1] <= memory


def _reserved(fleet: Fleet, host: Host, scale: float) -> tuple[float, float]:
    """Nano-CPUs and bytes that the replicas on this host reserve at this scale of the host's."""
    cpus = memory = Fraction(0)
    for workload in _placed(fleet, host):
        hosts = fleet.eligible(workload)
        least = min(scale if each is host else each.reservation_scale for each in hosts)
        here = Fraction(workload.replicas, len(hosts))
        cpus += here * _scaled(workload.share.cpu_reservation, least, LEAST_NANO_CPUS)
        memory += here * _scaled(workload.share.memory_reservation, least, LEAST_MEMORY)
    return float(cpus), float(memory)


def _scaled(amount: int | None, scale: float, least: int) -> int:
    return max(least, int(amount * scale)) if amount else 0


def vram(subject: Subject) -> Iterator[Said]:
    """What agents request of each GPU's memory against what the budgets let the host offer of it."""
    host = subject.host
    found = [*offers(subject.fleet, host)]
    for offer in found:
        requested = offer.requested()
        asked = sum(requested.values())
        agents = ", ".join(f"{agent} {mib}" for agent, mib in requested.items())
        message = f"{host.name} offers {offer.mib} MiB, {asked} requested{f': {agents}' if agents else ''}"
        if asked > offer.mib:
            yield Said("error", message, "raise vram_budget of their group, or lower vram of one of them")
        else:
            yield Said("ok", message)
    if not found:
        yield Said("ok", "no agent shares a GPU here")


def _shared(fleet: Fleet, host: Host) -> str:
    several = [workload for workload in _placed(fleet, host) if len(fleet.eligible(workload)) > 1]
    if not several:
        return ""
    return f"; {len(several)} agents may run on several hosts and count in equal parts"
