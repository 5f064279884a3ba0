"""GPUs around a rollout: free before a group begins, seen and kept to by its agents behind each wave."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from pyinfra import logger
from pyinfra.api.host import Host

from cascade.documents import Diagnosis
from cascade.model.strict import printable
from cascade.planning.diff import Change
from cascade.planning.gpu import gpu_given, vram_reserved
from cascade.planning.gpu_gate import before, behind, not_known, with_gpu
from cascade.planning.resource import Key
from cascade.planning.steps import Gate
from cascade.planning.target import Target
from cascade.planning.verdict import Reason
from cascade.planning.waves import Member
from operations.failed import WorkFailed
from operations.run import Run
from operations.swarm.diagnosis import NotHealthy, diagnose_gpu
from operations.swarm.gate import warn


def gate_of(run: Run, key: Key) -> tuple[Gate, Member] | None:
    """The gate of this run that an agent waits at, and the agent."""
    steps = run.plan().steps["rollout"]
    for gate in (work for step in steps for work in step.work.values() if isinstance(work, Gate)):
        for member in gate.wave.members:
            if member.key == key:
                return gate, member
    return None


def refuse_without_gpu(run: Run, change: Change) -> None:
    """Before the first change of a group: raises NotHealthy where its agents cannot have their GPUs."""
    target, waits_at = run.plan().target, gate_of(run, change.key)
    if waits_at is None or (group := waits_at[1].group) in run.gpus_free:
        return
    run.gpus_free.add(group)
    gate, members = waits_at[0], _of_group(target, group)
    if not members:
        return
    reasons = before(target, members, _read(run, members))
    if found := [_refused(run, gate, *refused) for refused in reasons]:
        raise NotHealthy(found)


def _refused(run: Run, gate: Gate, member: Member, reason: Reason) -> Diagnosis:
    """Of an agent that may wait at another gate of its group than the one that is changed first."""
    own, _ = gate_of(run, member.key) or (gate, member)
    if member.name not in own.replicas:
        own = replace(own, replicas={**own.replicas, member.name: member.replicas})
    return diagnose_gpu(run, own, member, 0, reason)


def prove_gpus(run: Run, host: Host, gate: Gate) -> None:
    """Behind a wave: raises NotHealthy where an agent does not see its GPU, or its group has too much of it.

    Optional agents of which that is true are warned of.
    """
    target = run.plan().target
    members = with_gpu(target, gate.wave.members)
    if not members:
        return
    snapshots = _read(run, members)
    budgets = _budgets(run, gate.wave.group)
    for member, said in not_known(target, members, budgets, snapshots):
        host.log(printable(f"{member.name}: nobody can say {said}"), logger.warning)
    reasons = dict(behind(target, members, budgets, snapshots))
    found = [
        diagnose_gpu(run, gate, member, gate.replicas[member.name], reason)
        for member, reason in reasons.items()
    ]
    if not all(member.optional for member in reasons):
        raise NotHealthy(found)
    warn(run, host, found)


def _of_group(target: Target, group: str) -> tuple[Member, ...]:
    return with_gpu(target, (member for member in target.members if member.group == group))


def _budgets(run: Run, group: str) -> dict[str, int]:
    """What a group may have of each GPU by its file, and never less than its agents reserve; MiB."""
    target, budgets = run.plan().target, defaultdict[str, int](int)
    for member in _of_group(target, group):
        fields = target.wanted[member.key]
        budgets[gpu_given(fields)] += vram_reserved(fields)
    for shared in run.fleet.shared_gpus:
        if shared.group.name == group and shared.gpu and shared.division:
            uuid = shared.gpu.uuid
            budgets[uuid] = max(budgets[uuid], shared.division.budget)
    return dict(budgets)


def _read(run: Run, members: Iterable[Member]) -> dict[str, Any]:
    """What the hosts of these agents, and the manager, say now."""
    names = {run.fleet.manager.name, *(host for member in members for host in member.hosts)}
    hosts = [host for host in run.state.inventory if host.name in names and host.connected]
    gpus = (item for item in run.plan().target.resources if item.key.kind == "gpu")
    found = run.read_snapshots(hosts, gpus)
    if unread := sorted(name for name, snapshot in found.items() if snapshot is None):
        raise WorkFailed(f"{', '.join(unread)} could not be read")
    return found
