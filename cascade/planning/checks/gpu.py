"""Checks of a host's GPUs: that their driver answers, and that nobody else has the memory that is shared."""

from __future__ import annotations

import json
from collections.abc import Iterator

from cascade.model.gpu import HostGpu
from cascade.planning.checks.subject import Level, Said, Subject, Unread
from cascade.planning.desired import DAEMON_SETTINGS
from cascade.planning.gpu import Vram, fault_of, lost_in, next_step, vram_of

NONE_DECLARED = "no GPU is declared: nothing of NVIDIA is installed"

LEFT_BEHIND = (
    "no GPU is declared, and daemon.json still has nvidia as the default runtime: every container whose image"
    " asks for GPUs sees all of them"
)


def gpus(subject: Subject) -> Iterator[Said]:
    """What the driver says, and what stands in the way of those who are to share its GPUs."""
    host = subject.host
    if not host.has_gpu and _left_behind(subject):
        yield Said(
            "warning", LEFT_BEHIND, subject.setting('daemon_settings = {…, "default-runtime": "runc"}')
        )
    elif host.gpu is None:
        yield Said("ok", NONE_DECLARED)
    elif not host.has_gpu:
        yield Said("ok", "group_data says there is none, its workloads do without")
    else:
        yield from _declared(subject, host.gpu)


def _declared(subject: Subject, wanted: HostGpu) -> Iterator[Said]:
    host = subject.host
    snapshot = subject.facts.snapshots[host.name]
    part = snapshot.get("gpu") or {"error": "nothing was said of them"}
    if "error" in part:
        raise Unread(part["error"])
    if fault := fault_of(part):
        yield Said("error", fault, next_step(part))
        return
    yield from _split(subject)
    yield from _unset(subject, wanted)
    yield from _blind(subject)
    for vram in vram_on(subject):
        yield from _taken(vram)
    yield Said("ok", f"driver {part['driver']}, CUDA {part['cuda']}: {_named(subject)}")


def _left_behind(subject: Subject) -> bool:
    """Whether the engine gives GPUs to whoever asks, since nobody says any more who is to have none."""
    if "default-runtime" in subject.host.daemon_settings:
        return False
    found = subject.facts.snapshots[subject.host.name]["files"].get(DAEMON_SETTINGS) or {}
    try:
        settings = json.loads(found.get("content") or "{}")
    except ValueError:
        return False
    return isinstance(settings, dict) and settings.get("default-runtime") == "nvidia"


def vram_on(subject: Subject) -> tuple[Vram, ...]:
    """How the memory of this host's GPUs stands."""
    facts = subject.facts
    found = vram_of(facts.plan.target.wanted, facts.fleet.manager.name, facts.snapshots)
    return tuple(vram for vram in found if vram.host == subject.host.name)


def _named(subject: Subject) -> str:
    found = (
        f"GPU {vram.gpu.index} is {vram.gpu.name}, {vram.gpu.memory_mib} MiB" for vram in vram_on(subject)
    )
    return ", ".join(found)


def _split(subject: Subject) -> Iterator[Said]:
    """A GPU in MIG mode has instances with names of their own, and nothing for whoever asks for the whole."""
    for found in subject.facts.snapshots[subject.host.name]["gpu"]["gpus"]:
        if found["mig"]:
            step = f"`sudo nvidia-smi -i {found['index']} -mig 0` there"
            yield Said("error", f"GPU {found['index']} is split into instances (MIG)", step)


def _unset(subject: Subject, wanted: HostGpu) -> Iterator[Said]:
    """Settings of group_data that a card does not know: nothing differs, and nothing is set."""
    for found in subject.facts.snapshots[subject.host.name]["gpu"]["gpus"]:
        place = f"GPU {found['index']}"
        if wanted.power_limit and found["power_limit"] is None:
            message = f"{place} knows no power limit: {wanted.power_limit} W of group_data are not set"
            yield Said("warning", message, "remove power_limit from gpu in group_data")
        if wanted.persistence and found["persistence"] is None:
            yield Said("note", f"{place} knows no persistence mode: it is not set")


def _blind(subject: Subject) -> Iterator[Said]:
    name = subject.host.name
    if lost := lost_in({name: subject.facts.snapshots[name]}):
        said = next(iter(lost.values()))
        message = f"{len(lost)} containers have lost their GPU: {said}"
        yield Said("warning", message, "`cascade drift --repair` makes new ones in their place")


def _taken(vram: Vram) -> Iterator[Said]:
    """Others who have memory of a GPU: in the way where too little is left for those that share it."""
    place = f"GPU {vram.gpu.index}"
    if vram.foreign is None:
        level: Level = "warning" if vram.missing_mib is None else "note"
        yield Said(level, f"{place}: {vram.untold}", "`nvidia-smi` there")
        return
    if not vram.foreign:
        return
    who = ", ".join(map(str, vram.foreign))
    if vram.missing_mib:
        step = f"end them, or lower vram_budget by {vram.missing_mib} MiB"
        yield Said("warning", f"{place}: {vram.missing_mib} MiB of the budget are not free: {who}", step)
    else:
        yield Said("note", f"{place}: {who}, beside what is shared")
