"""Whether agents may have their GPUs, and whether they keep to them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cascade.planning.desired import Desired
from cascade.planning.gpu_gate import before, behind, not_known, with_gpu
from cascade.planning.resource import Key
from cascade.planning.target import Target
from cascade.planning.waves import Member, Wave
from tests.unit.test_gpu_facts import (
    AGENT,
    CONTAINER,
    OTHER,
    SETTINGS,
    UUID,
    gpu,
    host_with,
    part,
    process,
    service,
)

LATER = Key("mainpc", "service", "ai_voice")
PLAIN = Key("mainpc", "service", "ai_web")
BUDGET = 8192


def member(key: Key) -> Member:
    group, _, agent = key.name.partition("_")
    return Member(key, group, agent, ("mainpc",), 1, None, False, True, 10.0, "GPU")


VISION, VOICE, WEB = map(member, (AGENT, LATER, PLAIN))


def target(*gone: Key) -> Target:
    """Two agents that share a GPU, and one that has none."""
    wanted: dict[Key, Any] = {
        SETTINGS: {"node-generic-resources": [f"gpu={UUID}", f"vram={BUDGET}"]},
        AGENT: service(6144),
        LATER: service(2048),
        PLAIN: service(1, "void"),
    }
    wave = Wave("ai", 1, 1, 1, (VISION, VOICE, WEB))
    resources = tuple(Desired("rollout", key, fields) for key, fields in wanted.items() if key not in gone)
    return Target(
        "the files", "cascade", "mainpc", ("mainpc",), resources, (wave,), (wave,), frozenset(wanted)
    )


def causes(found: Any) -> dict[str, str]:
    return {member.name: reason.cause for member, reason in found}


def test_agents_are_told_apart_by_whether_they_are_given_a_gpu() -> None:
    assert with_gpu(target(), (VISION, VOICE, WEB)) == (VISION, VOICE)
    assert with_gpu(target(AGENT), (VISION, VOICE)) == (VOICE,)


def test_nobody_is_refused_a_gpu_of_which_the_budget_is_free() -> None:
    free = 24564 - BUDGET
    snapshots = {"mainpc": host_with(process(7, 20000, CONTAINER), process(9, free, OTHER))}
    assert causes(before(target(), (VISION, VOICE), snapshots)) == {}


def test_foreign_processes_in_the_budget_are_named_with_what_they_have() -> None:
    free = 24564 - BUDGET
    snapshots = {"mainpc": host_with(process(9, free, OTHER, "blender"), process(10, 100, name="Xorg"))}
    found = dict(before(target(), (VISION, VOICE), snapshots))
    assert causes(found.items()) == {"ai_vision": "gpu_taken", "ai_voice": "gpu_taken"}
    assert found[VISION].detail == (
        f"mainpc is to share {BUDGET} MiB of GPU 0, of which 100 are not free:"
        f" blender (PID 9) has {free} MiB, Xorg (PID 10) has 100 MiB"
    )


def test_a_driver_that_fails_refuses_every_agent_with_its_next_step() -> None:
    broken = {**host_with(), "gpu": part(nvml="no-driver", module=None, said="Driver Not Loaded", gpus=[])}
    found = dict(before(target(), (VISION,), {"mainpc": broken}))
    assert found[VISION].cause == "gpu_fault"
    assert found[VISION].detail.startswith(
        "mainpc: the driver's module is not loaded: Driver Not Loaded; `sudo"
    )
    behind_it = behind(target(), (VISION,), {UUID: BUDGET}, {"mainpc": broken})
    assert causes(behind_it) == {"ai_vision": "gpu_fault"}


def test_a_gpu_that_is_there_no_more_is_refused_by_its_name() -> None:
    other = {**host_with(), "gpu": part(gpus=[gpu(uuid="GPU-b")])}
    (reason,) = dict(before(target(), (VISION,), {"mainpc": other})).values()
    assert (reason.cause, reason.detail) == ("gpu_fault", f"mainpc has no {UUID}")


def test_an_agent_of_a_host_that_the_run_leaves_out_is_not_refused() -> None:
    elsewhere = replace(VOICE, hosts=("pc2",))
    assert causes(before(target(), (VISION, elsewhere), {"mainpc": host_with()})) == {}
    other = {**host_with(), "gpu": part(gpus=[gpu(uuid="GPU-b")])}
    assert causes(before(target(), (VISION, elsewhere), {"mainpc": other})) == {"ai_vision": "gpu_fault"}


def test_an_agent_that_sees_its_gpu_and_keeps_to_its_budget_passes() -> None:
    snapshots = {"mainpc": host_with(process(7, BUDGET, CONTAINER), process(9, 9000, OTHER))}
    assert causes(behind(target(), (VISION, VOICE), {UUID: BUDGET}, snapshots)) == {}


def test_an_agent_that_does_not_see_its_gpu_fails_with_what_it_was_told() -> None:
    snapshots = {"mainpc": host_with(seen="lost: No devices were found")}
    (found,) = behind(target(), (VISION, VOICE), {UUID: BUDGET}, snapshots)
    assert (found[0], found[1].cause, found[1].detail) == (VISION, "gpu_lost", "No devices were found")
    assert causes(behind(target(), (VOICE,), {UUID: BUDGET}, snapshots)) == {}


def test_a_group_above_its_budget_fails_with_whoever_is_furthest_above_its_share() -> None:
    snapshots = {"mainpc": host_with(process(7, BUDGET + 1, CONTAINER))}
    (found,) = behind(target(), (VOICE, VISION), {UUID: BUDGET}, snapshots)
    assert (found[0], found[1].cause) == (VISION, "vram_exceeded")
    assert found[1].detail == (
        f"{BUDGET + 1} MiB of GPU 0 of mainpc, the budget is {BUDGET}:"
        f" ai_vision {BUDGET + 1} of 6144, ai_voice 0 of 2048"
    )


def test_other_groups_on_the_gpu_do_not_count() -> None:
    other = replace(VISION, group="vision")
    found = replace(target(), waves=(Wave("vision", 1, 1, 1, (other,)), Wave("ai", 2, 1, 1, (VOICE,))))
    snapshots = {"mainpc": host_with(process(7, BUDGET + 1, CONTAINER))}
    assert causes(behind(found, (VOICE,), {UUID: BUDGET}, snapshots)) == {}


def test_an_agent_that_cannot_be_asked_is_named_and_does_not_fail() -> None:
    snapshots = {"mainpc": host_with(seen="unknown: no nvidia-smi\x1b[2J" + "x" * 9999)}
    ((asked, said),) = not_known(target(), (VISION, VOICE), {UUID: BUDGET}, snapshots)
    assert asked == VISION
    assert said.startswith(r"what it sees of its GPU: no nvidia-smi\x1b")
    assert len(said) < 1000
    assert causes(behind(target(), (VISION,), {UUID: BUDGET}, snapshots)) == {}


def untold(used: int) -> dict[str, Any]:
    """The manager, whose driver tells what is in use and not who has it."""
    told = part(gpus=[gpu(processes=None, memory_used=used * 2**20)], containers={CONTAINER: "ok"})
    return {"mainpc": {**host_with(), "gpu": told}}


def test_memory_of_which_nobody_knows_whose_it_is_is_free_only_beside_the_budget() -> None:
    free = 24564 - BUDGET
    assert causes(before(target(), (VISION,), untold(free))) == {}
    (reason,) = dict(before(target(), (VISION,), untold(free + 1))).values()
    assert reason.cause == "gpu_fault"
    assert reason.detail == (
        f"mainpc is to share {BUDGET} of 24564 MiB of GPU 0, and the driver does not tell who has the"
        f" {free + 1} MiB that are in use: end it, agents by `cascade down --group`, then run again"
    )


def test_an_agent_of_which_nobody_knows_what_it_has_is_named() -> None:
    budgets = {UUID: BUDGET}
    assert list(not_known(target(), (VISION,), budgets, untold(BUDGET))) == []
    assert list(not_known(target(), (VISION, WEB), budgets, untold(BUDGET + 1))) == [
        (
            VISION,
            f"what it has of GPU 0: the driver does not tell who has the {BUDGET + 1} MiB that are in use",
        )
    ]
    assert causes(behind(target(), (VISION,), budgets, untold(BUDGET + 1))) == {}
    assert list(not_known(target(), (VISION,), {}, untold(BUDGET + 1))) == []
