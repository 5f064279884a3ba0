"""What hosts say of their GPUs, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cascade.model.gpu import Gpu
from cascade.model.strict import one_line
from cascade.planning.observed import Snapshot

MIB = 2**20
GpuPart = Mapping[str, Any]


def gpus_in(snapshot: Snapshot) -> tuple[Gpu, ...] | None:
    """The GPUs of a host; None where it was not asked, or cannot say, as `why_unknown` explains."""
    if why_unknown(snapshot):
        return None
    return tuple(
        Gpu(found["index"], found["uuid"], found["name"], found["memory_total"] // MIB)
        for found in snapshot["gpu"]["gpus"]
    )


def why_unknown(snapshot: Snapshot) -> str:
    """Why nobody knows a host's GPUs, in words; empty where they are known."""
    part = snapshot.get("gpu")
    if part is None:
        return "they were not asked for"
    if "error" in part:
        return one_line(str(part["error"]))
    if part["nvml"] != "ok":
        return fault_of(part)
    nameless = [found["index"] for found in part["gpus"] if not _whole(found)]
    return f"GPU {nameless[0]} has no UUID, name or memory" if nameless else ""


def _whole(found: Mapping[str, Any]) -> bool:
    return None not in (found["uuid"], found["name"], found["memory_total"])


def fault_of(part: GpuPart) -> str:
    """What ails the driver or a GPU, in words; empty where nothing does."""
    said = one_line(part["said"]) or "no more is said"
    module, library = part["module"], part.get("library")
    if part["nvml"] == "mismatch" or (part["nvml"] == "ok" and _differ(module, part["driver"])):
        loaded, installed = module or "another version", library or part["driver"] or "another version"
        return f"the kernel has the driver's module {loaded}, the library is of {installed}"
    lost = [f"GPU {found['index']}: {one_line(found['lost'])}" for found in part["gpus"] if found["lost"]]
    words = {
        "ok": "",
        "missing": "the driver is not installed: there is no libnvidia-ml.so.1",
        "no-driver": f"the driver's module is not loaded: {said}",
        "no-gpu": "the driver finds no GPU",
        "lost": f"lost: {', '.join(lost) or said}",
        "no-ctypes": f"python3 is incomplete there: {said}",
    }
    return words.get(part["nvml"], f"the driver fails: {said}")


def _differ(module: str | None, driver: str | None) -> bool:
    return bool(module and driver and module != driver)
