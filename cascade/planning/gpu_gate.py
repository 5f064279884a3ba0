"""Whether agents may have their GPUs, and whether they keep to them, by what hosts say at that moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from cascade.model.strict import one_line
from cascade.planning.gpu import (
    Snapshot,
    Vram,
    faults_in,
    gpu_given,
    lost_in,
    vram_of,
    workloads_by_container,
)
from cascade.planning.target import Target
from cascade.planning.verdict import Reason
from cascade.planning.waves import Member

Snapshots = Mapping[str, Snapshot]
_UNKNOWN = "unknown: "


def with_gpu(target: Target, members: Iterable[Member]) -> tuple[Member, ...]:
    """Those of these agents that are given a GPU."""
    return tuple(member for member in members if gpu_given(target.wanted.get(member.key, {})))


def before(
    target: Target, members: Iterable[Member], snapshots: Snapshots
) -> Iterator[tuple[Member, Reason]]:
    """The agents of a group that must not be begun, because the driver fails or others have the memory.

    Those of hosts that the run leaves out are not begun anyway.
    """
    states = {vram.gpu.uuid: vram for vram in vram_of(target.wanted, target.manager, snapshots)}
    for member in (member for member in members if not snapshots.keys().isdisjoint(member.hosts)):
        uuid = gpu_given(target.wanted[member.key])
        if fault := next(_faults(member, snapshots), None):
            yield member, fault
        elif uuid not in states:
            yield member, Reason("gpu_fault", f"{', '.join(member.hosts)} has no {uuid}")
        elif states[uuid].missing_mib is None:
            yield member, Reason("gpu_fault", _untold(states[uuid]))
        elif states[uuid].missing_mib:
            yield member, Reason("gpu_taken", _taken(states[uuid]))


def behind(
    target: Target, members: Iterable[Member], budgets: Mapping[str, int], snapshots: Snapshots
) -> Iterator[tuple[Member, Reason]]:
    """The agents of a wave that do not see their GPU, or with whom their group has more of it than it may.

    `budgets` are the group's, in MiB, by the GPUs' UUIDs.
    """
    members = tuple(members)
    names, lost = workloads_by_container(target.manager, snapshots), lost_in(snapshots)
    said = {names[container]: words for container, words in lost.items() if container in names}
    for member in members:
        if fault := next(_faults(member, snapshots), None):
            yield member, fault
        elif member.key in said:
            yield member, Reason("gpu_lost", said[member.key])
    for vram in vram_of(target.wanted, target.manager, snapshots):
        if vram.gpu.uuid in budgets:
            yield from _too_much(target, members, vram, budgets[vram.gpu.uuid])


def not_known(
    target: Target, members: Iterable[Member], budgets: Mapping[str, int], snapshots: Snapshots
) -> Iterator[tuple[Member, str]]:
    """The agents of which nobody can say what they see, or have, of their GPU: what that is, and why."""
    members = tuple(members)
    for member, said in _not_asked(members, target.manager, snapshots):
        yield member, f"what it sees of its GPU: {said}"
    for vram in vram_of(target.wanted, target.manager, snapshots):
        if vram.used_mib > budgets.get(vram.gpu.uuid, vram.used_mib):
            untold = {sharer.name for sharer in vram.sharers if sharer.used_mib is None}
            for member in (member for member in members if member.name in untold):
                yield member, f"what it has of GPU {vram.gpu.index}: {vram.untold}"


def _not_asked(members: Iterable[Member], manager: str, snapshots: Snapshots) -> Iterator[tuple[Member, str]]:
    names = workloads_by_container(manager, snapshots)
    for snapshot in snapshots.values():
        for container, said in ((snapshot.get("gpu") or {}).get("containers") or {}).items():
            yield from (
                (member, one_line(said.removeprefix(_UNKNOWN)))
                for member in members
                if said.startswith(_UNKNOWN) and names.get(container) == member.key
            )


def _faults(member: Member, snapshots: Snapshots) -> Iterator[Reason]:
    for host in filter(snapshots.__contains__, member.hosts):
        yield from (Reason("gpu_fault", f"{host}: {fault}") for fault in faults_in(snapshots[host]))


def _taken(vram: Vram) -> str:
    who = ", ".join(map(str, vram.foreign or ()))
    return (
        f"{vram.host} is to share {vram.offered_mib} MiB of GPU {vram.gpu.index}, of which {vram.missing_mib}"
        f" are not free: {who}"
    )


def _untold(vram: Vram) -> str:
    return (
        f"{vram.host} is to share {vram.offered_mib} of {vram.gpu.memory_mib} MiB of GPU {vram.gpu.index},"
        f" and {vram.untold}: end it, agents by `cascade down --group`, then run again"
    )


def _too_much(
    target: Target, members: Iterable[Member], vram: Vram, budget: int
) -> Iterator[tuple[Member, Reason]]:
    """Whoever of the wave is furthest above its share stands for the group."""
    here = {member.name: member for member in members}
    groups = {member.group for member in here.values()}
    own = {member.name for member in target.members if member.group in groups}
    sharers = [sharer for sharer in vram.sharers if sharer.name in own]
    used = sum(sharer.used_mib or 0 for sharer in sharers)
    worst = max(
        (sharer for sharer in sharers if sharer.name in here),
        key=lambda sharer: (sharer.used_mib or 0) - sharer.reserved_mib,
        default=None,
    )
    if used > budget and worst:
        each = ", ".join(f"{sharer.name} {sharer.used_mib} of {sharer.reserved_mib}" for sharer in sharers)
        message = f"{used} MiB of GPU {vram.gpu.index} of {vram.host}, the budget is {budget}: {each}"
        yield here[worst.name], Reason("vram_exceeded", message)
