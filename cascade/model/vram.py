"""A GPU's memory among the workloads that share it: who has how much, and who does without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from cascade.model.gpu import Gpu, GpuUse
from cascade.model.host import Host
from cascade.model.service import GroupFile
from cascade.model.workload import Workload

Decision = Literal["taken", "left"]


@dataclass(frozen=True)
class Unfit:
    """A workload that has the GPU by an earlier decision and finds too little of it now; MiB."""

    workload: Workload
    needed: int
    left: int


@dataclass(frozen=True)
class Division:
    """A budget in MiB, and of it the share of each replica, by the names of the workloads that have one.

    `decisions` are about those that can do without.
    """

    budget: int
    shares: Mapping[str, int]
    decisions: Mapping[str, Decision]
    unfit: tuple[Unfit, ...] = ()


def divide_vram(budget: int, workloads: Sequence[Workload], decided: Mapping[str, str]) -> Division:
    """Gives what is named first, what is left equally to those that need the GPU and name nothing.

    Those that can do without keep what was decided earlier; the others of them get what is left then, in the
    order of the file.
    """
    shares = _needed(budget, [one for one in workloads if one.gpu_access == "required"])
    left = budget - sum(shares.get(one.name, 0) * one.replicas for one in workloads)
    decisions: dict[str, Decision] = {}
    unfit = []
    optional = [one for one in workloads if one.gpu_access == "optional"]
    for one in sorted(optional, key=lambda one: one.name not in decided):
        needed = one.vram * one.replicas
        decisions[one.name] = "taken" if decided.get(one.name, _fits(needed, left)) == "taken" else "left"
        if decisions[one.name] == "left":
            continue
        if needed > left:
            unfit.append(Unfit(one, needed, max(left, 0)))
        shares[one.name] = one.vram
        left -= needed
    return Division(budget, shares, decisions, tuple(unfit))


def _needed(budget: int, workloads: Sequence[Workload]) -> dict[str, int]:
    """The shares of those that cannot do without: at least 1 MiB each, even where there is none left."""
    rest = budget - sum(one.vram * one.replicas for one in workloads)
    sharing = sum(one.replicas for one in workloads if not one.vram)
    equal = max(1, rest // sharing) if sharing else 0
    return {one.name: one.vram or equal for one in workloads}


def _fits(needed: int, left: int) -> Decision:
    return "taken" if needed <= left else "left"


@dataclass(frozen=True)
class SharedGpu:
    """One service's part of one GPU of one host; `gpu` is None where nobody has read it."""

    group: GroupFile
    use: GpuUse
    host: Host
    gpu: Gpu | None
    workloads: tuple[Workload, ...]
    decided: Mapping[str, str]

    @cached_property
    def division(self) -> Division | None:
        """Who has how much; None while nobody knows how large the GPU is."""
        if self.gpu is None:
            return None
        return divide_vram(self.use.vram_budget.of(self.gpu.memory_mib), self.workloads, self.decided)
