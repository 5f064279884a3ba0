"""What `cascade doctor` and every preflight say of a host's GPUs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cascade.model.fleet import Fleet
from cascade.model.gpu import HostGpu
from cascade.planning.checks.gpu import NONE_DECLARED
from cascade.planning.desired import DAEMON_SETTINGS, Desired
from cascade.planning.plan import make_plan
from cascade.planning.preflight import Finding, examine, of_plan
from cascade.planning.target import target_of
from tests.unit.test_gpu_facts import CONTAINER, OTHER, SETTINGS, gpu, part, process
from tests.unit.test_preflight import Scene, scene_of


@pytest.fixture
def scene(lab_fleet: Fleet) -> Scene:
    """The lab's hosts, of which the manager has a GPU that is well."""
    scene = scene_of(lab_fleet, "converged")
    absent = scene.fleet.hosts["mainpc"].absent - {"gpu"}
    scene.change_host("mainpc", gpu=HostGpu(), absent=absent)
    scene.snapshots["mainpc"]["gpu"] = part()
    return scene


def said(scene: Scene, host: str = "mainpc") -> list[Finding]:
    """Only of the GPUs: what a plan with GPUs says of all else is told elsewhere."""
    return [each for each in examine(scene.facts) if (each.host, each.check) == (host, "gpu")]


def test_a_host_without_a_declared_gpu_says_that_it_needs_nothing_of_nvidia(scene: Scene) -> None:
    scene.change_host("pc2", gpu=None)
    assert [(each.level, each.message) for each in said(scene, "pc2")] == [("ok", NONE_DECLARED)]


def test_a_host_whose_gpu_is_absent_does_without(scene: Scene) -> None:
    scene.change_host("pc2", gpu=HostGpu(), absent=["gpu"])
    (found,) = said(scene, "pc2")
    assert (found.level, found.message) == ("ok", "group_data says there is none, its workloads do without")


LEFT: dict[str, tuple[str, dict[str, Any], bool]] = {
    "left": ('{"default-runtime": "nvidia"}', {}, True),
    "being taken away": ('{"default-runtime": "nvidia"}', {"default-runtime": "runc"}, False),
    "another": ('{"default-runtime": "kata"}', {}, False),
    "none": ("{}", {}, False),
    "no JSON": ("{", {}, False),
    "no map": ('["nvidia"]', {}, False),
}


@pytest.mark.parametrize("declared", [None, HostGpu()])
@pytest.mark.parametrize(("content", "wanted", "warned"), LEFT.values(), ids=LEFT)
def test_an_engine_that_still_gives_gpus_to_whoever_asks_is_told(
    content: str, wanted: dict[str, Any], warned: bool, declared: HostGpu | None, scene: Scene
) -> None:
    scene.change_host("pc2", gpu=declared, absent=["gpu"], daemon_settings=wanted)
    scene.snapshots["pc2"]["files"][DAEMON_SETTINGS]["content"] = content
    (found,) = said(scene, "pc2")
    assert found.level == ("warning" if warned else "ok")
    assert ('"default-runtime": "runc"' in found.next_step) == warned


def test_a_gpu_that_is_well_is_told_with_its_driver(scene: Scene) -> None:
    (found,) = said(scene)
    assert (found.level, found.message) == (
        "ok",
        "driver 550.54.14, CUDA 12.4: GPU 0 is NVIDIA GeForce RTX 4090, 24564 MiB",
    )


FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no driver": (
        part(nvml="missing", gpus=[]),
        "the driver is not installed",
        "sudo ubuntu-drivers install",
    ),
    "no module": (part(nvml="no-driver", gpus=[]), "module is not loaded", "sudo modprobe nvidia"),
    "no GPU": (part(nvml="no-gpu", gpus=[]), "finds no GPU", "lspci -d 10de:"),
    "mismatch": (part(nvml="mismatch", library="550.90.07", gpus=[]), "550.90.07", "reboot"),
    "outlived": (part(driver="550.90.07", library="550.90.07"), "550.90.07", "reboot"),
    "lost": (part(nvml="lost", said="GPU is lost", gpus=[gpu(lost="GPU is lost")]), "lost: GPU 0", "xid"),
    "no ctypes": (part(nvml="no-ctypes", gpus=[]), "python3 is incomplete", "sudo apt-get install python3"),
    "failed": (part(nvml="failed", said="Unknown Error", gpus=[]), "Unknown Error", "nvidia-smi"),
    "unread": ({"error": "TimeoutError: no answer"}, "TimeoutError: no answer", "look at this on the host"),
    "split": (part(gpus=[gpu(mig=True)]), "split into instances", "sudo nvidia-smi -i 0 -mig 0"),
}


@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS)
def test_each_fault_is_an_error_with_its_own_next_step(case: tuple[Any, str, str], scene: Scene) -> None:
    told, words, step = case
    scene.snapshots["mainpc"]["gpu"] = told
    (found,) = said(scene)
    assert found.level == "error"
    assert words in found.message
    assert step in found.next_step


@pytest.mark.parametrize(
    ("setting", "limit", "told"),
    [
        ("power_limit", 300, [("warning", "GPU 0 knows no power limit: 300 W of group_data are not set")]),
        ("power_limit", None, []),
        ("persistence", None, [("note", "GPU 0 knows no persistence mode: it is not set")]),
    ],
)
def test_a_setting_that_a_card_does_not_know_is_told(
    setting: str, limit: int | None, told: list[tuple[str, str]], scene: Scene
) -> None:
    scene.change_host("mainpc", gpu=HostGpu(power_limit=limit))
    scene.snapshots["mainpc"]["gpu"] = part(gpus=[gpu(**{setting: None})])
    assert [(each.level, each.message) for each in said(scene) if each.level != "ok"] == told


def test_a_host_that_was_not_asked_is_no_host_that_is_well(scene: Scene) -> None:
    del scene.snapshots["mainpc"]["gpu"]
    (found,) = said(scene)
    assert (found.level, found.message) == ("error", "could not be read: nothing was said of them")


def test_containers_that_lost_their_gpu_are_worth_a_warning(scene: Scene) -> None:
    scene.snapshots["mainpc"]["gpu"] = part(containers={CONTAINER: "lost: Unknown Error", OTHER: "ok"})
    (found,) = said(scene)
    assert (found.level, found.message) == ("warning", "1 containers have lost their GPU: Unknown Error")
    assert "--repair" in found.next_step


def offering(scene: Scene, mib: int) -> Any:
    """The facts of this scene where the engine is to offer so much of the GPU."""
    facts = scene.facts
    target = facts.plan.target
    others = tuple(item for item in target.resources if item.key != SETTINGS)
    settings = Desired("engine", SETTINGS, {"node-generic-resources": [f"vram={mib}"]})
    resources = (*others, settings)
    return replace(facts, plan=replace(facts.plan, target=replace(target, resources=resources)))


def test_foreign_processes_are_a_note_until_they_are_in_the_way(scene: Scene) -> None:
    scene.snapshots["mainpc"]["gpu"] = part(gpus=[gpu(processes=[process(9, 4564, name="blender")])])
    levels = {}
    for offered in (20000, 20001):
        found = [each for each in examine(offering(scene, offered)) if each.check == "gpu"]
        levels[offered] = [(each.level, each.message) for each in found if each.host == "mainpc"]
    assert levels == {
        20000: [("note", "GPU 0: blender (PID 9) has 4564 MiB, beside what is shared")],
        20001: [("warning", "GPU 0: 1 MiB of the budget are not free: blender (PID 9) has 4564 MiB")],
    }


def test_a_driver_that_does_not_tell_whose_memory_it_is_is_told(scene: Scene) -> None:
    used = 4564 * 2**20
    scene.snapshots["mainpc"]["gpu"] = part(gpus=[gpu(processes=None, memory_used=used)])
    words = "GPU 0: the driver does not tell who has the 4564 MiB that are in use"
    for offered, level in ((20000, "note"), (20001, "warning")):
        found = [each for each in examine(offering(scene, offered)) if each.check == "gpu"]
        said = [(each.level, each.message) for each in found if each.host == "mainpc"]
        assert said == [(level, words)]


def test_what_the_check_of_gpus_says_is_not_said_of_the_state_again(scene: Scene) -> None:
    scene.snapshots["mainpc"]["gpu"] = part(nvml="no-gpu", gpus=[])
    plan = make_plan(target_of(scene.fleet), scene.snapshots)
    assert "GPU" in {unknown.what for unknown in plan.unknown}
    assert [found for found in of_plan(plan) if "GPU" in found.message] == []
