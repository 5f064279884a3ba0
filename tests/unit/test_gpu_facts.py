"""What follows from what a host says of its GPUs."""

from __future__ import annotations

from typing import Any

import pytest

from cascade.model.gpu import Gpu
from cascade.planning.gpu import fault_of, gpus_in, why_unknown

UUID = f"GPU-{'a' * 8}-0000-0000-0000-{'a' * 12}"


def gpu(**changed: Any) -> dict[str, Any]:
    """An RTX 4090 as its driver describes it."""
    return {
        "index": 0,
        "uuid": UUID,
        "name": "NVIDIA GeForce RTX 4090",
        "memory_total": 24564 * 2**20,
        "memory_used": 2**20,
        "mig": None,
        "persistence": True,
        "power_limit": 450_000,
        "lost": "",
        "processes": [],
        **changed,
    }


def part(**changed: Any) -> dict[str, Any]:
    """What a host with one GPU says, all well."""
    return {
        "module": "550.54.14",
        "nvml": "ok",
        "said": "",
        "library": "550.54.14",
        "driver": "550.54.14",
        "cuda": "12.4",
        "gpus": [gpu()],
        "dev_char": True,
        "toolkit": "1.19.0-1",
        "cdi": [],
        "containers": {},
        **changed,
    }


def test_a_host_tells_its_gpus_with_memory_in_whole_mebibytes() -> None:
    odd = gpu(index=1, uuid="GPU-b", name="b", memory_total=2**20 * 12288 - 1)
    assert gpus_in({"gpu": part(gpus=[gpu(), odd])}) == (
        Gpu(0, UUID, "NVIDIA GeForce RTX 4090", 24564),
        Gpu(1, "GPU-b", "b", 12287),
    )
    assert why_unknown({"gpu": part()}) == ""


LOST = gpu(uuid=None, name=None, memory_total=None, memory_used=None, lost="GPU is lost")
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "not asked": ({}, "they were not asked for"),
    "not read": ({"gpu": {"error": "TimeoutError:\nno answer"}}, r"TimeoutError:\nno answer"),
    "no driver": (
        {"gpu": part(nvml="missing", said="NVML Shared Library Not Found", gpus=[])},
        "the driver is not installed: there is no libnvidia-ml.so.1",
    ),
    "no module": (
        {"gpu": part(nvml="no-driver", module=None, said="Driver Not Loaded", gpus=[])},
        "the driver's module is not loaded: Driver Not Loaded",
    ),
    "no GPU": ({"gpu": part(nvml="no-gpu", gpus=[])}, "the driver finds no GPU"),
    "mismatch": (
        {"gpu": part(nvml="mismatch", library="550.90.07", driver=None, gpus=[])},
        "the kernel has the driver's module 550.54.14, the library is of 550.90.07",
    ),
    "mismatch of which little is known": (
        {"gpu": part(nvml="mismatch", module="", library=None, driver=None, gpus=[])},
        "the kernel has the driver's module another version, the library is of another version",
    ),
    "lost": ({"gpu": part(nvml="lost", said="GPU is lost", gpus=[LOST])}, "lost: GPU 0: GPU is lost"),
    "one of two lost": (
        {"gpu": part(nvml="lost", said="x", gpus=[gpu(), {**LOST, "index": 1}])},
        "lost: GPU 1: GPU is lost",
    ),
    "all lost": ({"gpu": part(nvml="lost", said="GPU is lost", gpus=[])}, "lost: GPU is lost"),
    "no ctypes": (
        {"gpu": part(nvml="no-ctypes", said="No module named 'ctypes'", gpus=[])},
        "python3 is incomplete there: No module named 'ctypes'",
    ),
    "failed": (
        {"gpu": part(nvml="failed", said="Unknown Error", gpus=[])},
        "the driver fails: Unknown Error",
    ),
    "what no version of the probe says": (
        {"gpu": part(nvml="?", said="", gpus=[])},
        "the driver fails: no more is said",
    ),
    "no UUID": ({"gpu": part(gpus=[gpu(uuid=None)])}, "GPU 0 has no UUID, name or memory"),
}


@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS)
def test_each_fault_leaves_the_gpus_unknown_in_its_own_words(case: tuple[dict[str, Any], str]) -> None:
    snapshot, words = case
    assert gpus_in(snapshot) is None
    assert why_unknown(snapshot) == words


def test_a_module_of_another_version_than_the_library_is_a_fault_though_it_still_answers() -> None:
    """Until the last of those that loaded the old library ends."""
    told = part(driver="550.90.07", library="550.90.07")
    assert fault_of(told) == "the kernel has the driver's module 550.54.14, the library is of 550.90.07"
    assert gpus_in({"gpu": told}) is not None
