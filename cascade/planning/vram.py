"""What engines and containers are told of GPUs, and what is wrong where a GPU is asked for too much.

Source: Docker Engine API 1.44, generic resources: a discrete one is an amount that Swarm counts by its kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cascade.model.fleet import Fleet
from cascade.model.gpu import GPU_KIND, GPU_SETTINGS
from cascade.model.host import Host
from cascade.model.service import VISIBLE_DEVICES
from cascade.model.vram import Decision, SharedGpu, Unfit
from cascade.model.workload import Workload

# Of no device at all; without a word an image may ask for every one.
NO_DEVICE = "void"
_CAPABILITIES = "NVIDIA_DRIVER_CAPABILITIES"
_RUNTIME = {"path": "nvidia-container-runtime", "args": []}


def gpu_environment(workload: Workload, fleet: Fleet) -> dict[str, str]:
    """What NVIDIA's runtime is to give a container on a host with GPUs; empty on others.

    While a GPU is not read, its number stands for its name.
    """
    shared = fleet.sharing.get(workload.name)
    if shared and (shared.gpu is None or _share(workload, shared)):
        visible = shared.gpu.uuid if shared.gpu else str(shared.use.device)
        return {_CAPABILITIES: "compute,utility", **workload.environment, VISIBLE_DEVICES: visible}
    if not any(host.has_gpu for host in fleet.eligible(workload)) or _sees_its_own(workload):
        return workload.environment
    return {**workload.environment, VISIBLE_DEVICES: NO_DEVICE}


def _sees_its_own(workload: Workload) -> bool:
    """Whether its file says itself which GPUs it sees, or leaves that to its image."""
    said = workload.service.runtime == "nvidia" or VISIBLE_DEVICES in workload.environment
    return said and workload.service.gpu is None


def has_gpu(workload: Workload, fleet: Fleet) -> bool:
    """Whether a workload has a part of a GPU that was read."""
    shared = fleet.sharing.get(workload.name)
    return shared is not None and bool(_share(workload, shared))


def _share(workload: Workload, shared: SharedGpu) -> int:
    """MiB of each of its replicas; 0 for one that does without."""
    return shared.division.shares.get(workload.name, 0) if shared.division else 0


def reserved_vram(workload: Workload, fleet: Fleet) -> dict[str, Any]:
    """Its share as Swarm reserves it; empty for a workload that has none."""
    shared = fleet.sharing.get(workload.name)
    if not shared or not (mib := _share(workload, shared)):
        return {}
    return {"GenericResources": [{"DiscreteResourceSpec": {"Kind": shared.use.kind, "Value": mib}}]}


def decision(workload: Workload, fleet: Fleet) -> Decision | None:
    """Whether a workload that can do without has its GPU; None where there was nothing to decide."""
    shared = fleet.sharing.get(workload.name)
    return shared.division.decisions.get(workload.name) if shared and shared.division else None


def daemon_settings(fleet: Fleet, host: Host) -> Mapping[str, Any]:
    """What a host's daemon.json is to say: on one with GPUs also their names, and what is offered of them."""
    if not host.has_gpu:
        return host.daemon_settings
    gpus = [f"{GPU_KIND}={gpu.uuid}" for gpu in fleet.gpus.get(host.name, ())]
    offered = [f"{offer.kind}={offer.mib}" for offer in offers(fleet, host)]
    said = ("nvidia", {"nvidia": _RUNTIME}, [*gpus, *offered])
    return {**host.daemon_settings, **dict(zip(GPU_SETTINGS, said, strict=True))}


@dataclass(frozen=True)
class Offer:
    """What a host offers of one GPU: the sum of the budgets of those that share it; MiB."""

    kind: str
    memory_mib: int
    shared: tuple[SharedGpu, ...]

    @property
    def mib(self) -> int:
        return sum(each.division.budget for each in self.shared if each.division)

    def requested(self) -> dict[str, int]:
        """What the replicas of each agent take, by the agents' names."""
        return {
            workload.agent: share * workload.replicas
            for each in self.shared
            for workload in each.workloads
            if (share := _share(workload, each))
        }


def offers(fleet: Fleet, host: Host) -> Iterator[Offer]:
    """What a host offers of each GPU that somebody shares, of all groups that are enabled."""
    for gpu in fleet.gpus.get(host.name, ()):
        sharing = [each for each in fleet.shared_gpus if (each.host, each.gpu) == (host, gpu)]
        if found := tuple(each for each in sharing if each.group.enabled):
            yield Offer(found[0].use.kind, gpu.memory_mib, found)


def gpu_faults(fleet: Fleet) -> Iterator[str]:
    """Why what the files ask of a host's GPUs cannot be, with what a person can do."""
    for shared in fleet.shared_gpus:
        host, use = shared.host.name, shared.use
        if shared.group.enabled and shared.gpu is None and host in fleet.gpus:
            yield f"{host}: {shared.group.name} shares GPU {use.device}: {_those_of(fleet, host)}"
        for unfit in shared.division.unfit if shared.division and shared.group.enabled else ():
            yield _no_room(host, unfit)
    for each in fleet.hosts.values():
        for offer in offers(fleet, each):
            if offer.mib > offer.memory_mib:
                yield f"{each.name}: {_too_much(offer)}"


def _those_of(fleet: Fleet, host: str) -> str:
    indexes = [str(gpu.index) for gpu in fleet.gpus[host]]
    if not indexes:
        return 'it has none; put one in, or write absent = {"gpu"} in group_data'
    return f"it has {', '.join(indexes)}; write one of these as x-gpu.device"


def _no_room(host: str, unfit: Unfit) -> str:
    return (
        f"{host}: {unfit.workload.name} has the GPU since an earlier release and needs {unfit.needed} MiB,"
        f" {unfit.left} are left; lower vram, raise vram_budget, or decide anew with --reschedule"
    )


def _too_much(offer: Offer) -> str:
    budgets = ", ".join(f"{each.group.name} {each.division.budget}" for each in offer.shared if each.division)
    return (
        f"budgets of {offer.mib} MiB on a GPU of {offer.memory_mib}: {budgets};"
        " lower vram_budget in one of these"
    )
