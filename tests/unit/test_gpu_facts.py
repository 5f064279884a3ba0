"""What follows from what a host says of its GPUs."""

from __future__ import annotations

from typing import Any

import pytest

from cascade.model.gpu import Gpu
from cascade.planning.desired import DAEMON_SETTINGS
from cascade.planning.gpu import (
    Sharer,
    Vram,
    fault_of,
    faults_in,
    gpu_given,
    gpus_in,
    lost_in,
    vram_of,
    why_unknown,
)
from cascade.planning.resource import Key

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
    fault, _, step = why_unknown(snapshot).partition("; ")
    assert fault == words
    assert step or not snapshot


def test_a_module_of_another_version_than_the_library_is_a_fault_though_it_still_answers() -> None:
    """Until the last of those that loaded the old library ends."""
    told = part(driver="550.90.07", library="550.90.07")
    assert fault_of(told) == "the kernel has the driver's module 550.54.14, the library is of 550.90.07"
    assert gpus_in({"gpu": told}) is not None
    (reason,) = faults_in({"gpu": told})
    assert reason.endswith(
        "; reboot the host, so that the kernel loads the module that belongs to the library"
    )


def test_a_host_that_was_not_asked_has_no_fault() -> None:
    assert list(faults_in({})) == []
    assert list(faults_in({"gpu": part()})) == []


CONTAINER, OTHER = "c" * 64, "d" * 64
AGENT = Key("mainpc", "service", "ai_vision")
SETTINGS = Key("mainpc", "daemon-settings", DAEMON_SETTINGS)


def service(mib: int, uuid: str = UUID) -> dict[str, Any]:
    """The spec of a service that is given a GPU."""
    reserved = [{"DiscreteResourceSpec": {"Kind": "vram", "Value": mib}}]
    return {
        "TaskTemplate": {
            "ContainerSpec": {"Env": ["A=1", f"NVIDIA_VISIBLE_DEVICES={uuid}"]},
            "Resources": {"Reservations": {"GenericResources": reserved}},
        }
    }


def process(pid: int, mib: int | None, container: str = "", name: str = "python3") -> dict[str, Any]:
    memory = None if mib is None else mib * 2**20
    return {"pid": pid, "memory": memory, "name": name, "container": container}


def host_with(*processes: dict[str, Any], seen: str = "ok") -> dict[str, Any]:
    """The manager, on which one agent runs, with these processes on its GPU."""
    task = {
        "ServiceID": "s1",
        "Status": {"State": "running", "ContainerStatus": {"ContainerID": CONTAINER}},
    }
    used = sum(each["memory"] or 0 for each in processes) + 300 * 2**20
    told = part(gpus=[gpu(processes=[*processes], memory_used=used)], containers={CONTAINER: seen})
    services = [{"ID": "s1", "Spec": {"Name": AGENT.name}}]
    engine = {"api": "1.45", "services": services, "tasks": [task], "running": [task], "containers": []}
    return {"gpu": told, "docker": engine}


def vram(*processes: dict[str, Any], budget: int = 19651) -> Vram:
    wanted = {AGENT: service(6144), SETTINGS: {"node-generic-resources": [f"gpu={UUID}", f"vram={budget}"]}}
    (found,) = vram_of(wanted, "mainpc", {"mainpc": host_with(*processes)})
    return found


def test_memory_is_told_by_agent_and_what_nobody_of_the_system_has_is_foreign() -> None:
    found = vram(process(7, 1000, CONTAINER), process(8, 500, CONTAINER), process(9, 200, OTHER, "blender"))
    assert (found.used_mib, found.offered_mib) == (2000, 19651)
    assert found.sharers == (Sharer("ai_vision", 6144, 1500),)
    assert [str(one) for one in found.foreign or ()] == ["blender (PID 9) has 200 MiB"]


def test_foreign_memory_is_missing_only_where_it_is_of_what_is_offered() -> None:
    free = 24564 - 19651
    assert vram(process(9, free)).missing_mib == 0
    assert vram(process(9, free), process(10, 2)).missing_mib == 2
    assert vram(process(7, 20000, CONTAINER)).missing_mib == 0


def test_memory_of_an_unknown_amount_is_all_that_is_nobodys() -> None:
    found = vram(process(7, 4000, CONTAINER), process(9, None, name=""))
    assert found.foreign
    assert str(found.foreign[0]) == "a process (PID 9) has an unknown amount"
    assert found.foreign_mib == 300


def test_an_agents_memory_of_an_unknown_amount_is_unknown() -> None:
    found = vram(process(7, 4000, CONTAINER), process(8, None, CONTAINER))
    assert found.sharers == (Sharer("ai_vision", 6144, None),)


def test_a_second_gpu_has_memory_of_its_own() -> None:
    second = gpu(index=1, uuid="GPU-b", processes=[process(9, 64)])
    snapshot = {"gpu": part(gpus=[gpu(), second]), "docker": None}
    settings = {"node-generic-resources": [f"gpu={UUID}", "gpu=GPU-b", "vram=10", "vram-1=20"]}
    wanted = {SETTINGS: settings, AGENT: service(20, "GPU-b")}
    first, other = vram_of(wanted, "mainpc", {"mainpc": snapshot})
    assert (first.offered_mib, first.sharers, first.foreign) == (10, (), ())
    assert (other.offered_mib, other.sharers) == (20, (Sharer("ai_vision", 20, 0),))
    assert [one.pid for one in other.foreign or ()] == [9]


def test_only_what_names_a_gpu_is_given_one() -> None:
    assert gpu_given(service(1)) == UUID
    assert gpu_given({"Env": [f"NVIDIA_VISIBLE_DEVICES={UUID}"]}) == UUID
    assert gpu_given({"Env": ["NVIDIA_VISIBLE_DEVICES=void"]}) == ""
    assert gpu_given({"TaskTemplate": {"ContainerSpec": {}}}) == ""


def test_containers_that_lost_their_gpu_are_told_apart_from_those_nobody_could_ask() -> None:
    assert lost_in({"mainpc": host_with(seen="lost: Unknown Error")}) == {CONTAINER: "Unknown Error"}
    (long,) = lost_in({"mainpc": host_with(seen=f"lost: {'x' * 9999}\x1b[2J")}).values()
    assert len(long) < 1000
    assert long.isprintable()
    assert lost_in({"mainpc": host_with(seen="unknown: no nvidia-smi"), "pc2": {"docker": None}}) == {}
    assert lost_in({"mainpc": {"gpu": {"error": "no answer"}, "docker": None}}) == {}
