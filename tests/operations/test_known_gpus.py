"""From what hosts say of their GPUs to the target, and what was decided of them in earlier releases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cascade.model.fleet import Fleet
from cascade.model.gpu import HostGpu
from cascade.model.options import Options
from cascade.planning.checks.capacity import vram
from cascade.planning.checks.subject import Facts, Subject
from cascade.planning.desired import DAEMON_SETTINGS
from cascade.planning.observed import observe
from cascade.planning.plan import make_plan
from cascade.planning.release import Release, decisions_in, merged
from cascade.planning.resource import Key, Unknown
from cascade.planning.specs import LABEL_GPU, LABEL_RELEASE, LABEL_SYSTEM
from cascade.planning.target import target_of
from operations.look import Look, files_as_read, look
from tests.operations.conftest import LocalRun, Snapshots
from tests.unit.test_gpu_facts import UUID, gpu, part

TRAINER = "cascade-memory-learning_self-training-orchestrator"
TUNER = "cascade-memory-learning_local-fine-tuner-agent"
MANAGER = Key("mainpc", "service", "cascade-ai-engine_model-manager-suite")
SETTINGS = Key("mainpc", "daemon-settings", DAEMON_SETTINGS)
RELEASE = Release(3, "2026-01-02T03:04:05+00:00", "me@desk", "", False, "deploy", "0123456789ab")


@pytest.fixture
def gpu_fleet(fleet: Fleet) -> Fleet:
    """The lab's fleet as if MainPC had GPUs."""
    absent = fleet.manager.absent - {"gpu"}
    mainpc = fleet.manager.model_copy(update={"gpu": HostGpu(), "absent": absent})
    return replace(fleet, hosts={**fleet.hosts, "mainpc": mainpc})


@pytest.fixture
def looked(
    run: LocalRun, gpu_fleet: Fleet, converged: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Look]:
    """A look at hosts of which MainPC says this of its GPUs."""
    monkeypatch.setattr(run.state.inventory, "get_active_hosts", lambda: [*run.state.inventory])
    monkeypatch.setattr(run, "snapshots", lambda *_: converged)

    def do(said: Any, **options: Any) -> Look:
        converged["mainpc"]["gpu"] = said
        run.fleet = replace(gpu_fleet, options=Options.model_validate(options))
        return look(run)

    return do


def decide(converged: Snapshots, said: str) -> None:
    """Adds a newest release that decided so."""
    labels = {LABEL_SYSTEM: "cascade", LABEL_RELEASE: "99", LABEL_GPU: said}
    converged["mainpc"]["docker"]["configs"].append({"Name": "r", "Labels": labels})


def decisions(found: Look) -> dict[str, str]:
    fields = (found.target.wanted[Key("mainpc", "service", name)] for name in (TRAINER, TUNER))
    return {item["Name"]: item["Labels"][LABEL_GPU] for item in fields}


def test_everything_is_asked_for_before_anybody_knows_the_gpus(gpu_fleet: Fleet) -> None:
    before, lab = target_of(gpu_fleet), target_of(gpu_fleet).named
    assert SETTINGS not in before.wanted
    assert MANAGER not in before.wanted
    assert {SETTINGS, MANAGER} < {item.key for item in lab}
    assert "GPU-" not in str([item.fields for item in lab])


def test_what_a_host_says_of_its_gpus_is_in_what_it_is_to_be(looked: Callable[..., Look]) -> None:
    wanted = looked(part()).target.wanted
    settings, spec = wanted[SETTINGS], wanted[MANAGER]
    assert settings["node-generic-resources"] == [f"gpu={UUID}", "vram=23747"]
    assert f"NVIDIA_VISIBLE_DEVICES={UUID}" in spec["TaskTemplate"]["ContainerSpec"]["Env"]
    assert not looked(part()).target.unclear


def test_a_percentage_follows_the_memory_of_the_card_that_is_there(looked: Callable[..., Look]) -> None:
    settings = looked(part(gpus=[gpu(memory_total=20000 * 2**20)])).target.wanted[SETTINGS]
    assert settings["node-generic-resources"] == [f"gpu={UUID}", f"vram={16000 + 4096}"]


@pytest.mark.parametrize("said", [{"error": "no answer"}, part(nvml="mismatch", gpus=[])])
def test_gpus_that_cannot_be_read_are_unknown_and_nothing_follows_from_them(
    looked: Callable[..., Look], said: Any
) -> None:
    found = looked(said)
    plan = make_plan(found.target, found.snapshots)
    (unknown,) = plan.unknown
    assert (unknown.host, unknown.what) == ("mainpc", "GPU")
    assert not {SETTINGS, MANAGER} & {change.key for change in plan.changes}
    assert MANAGER.name in [agent.member.name for agent in plan.agents]
    assert MANAGER not in [change.key for change in plan.unwanted]


def test_no_gate_waits_for_agents_of_which_nobody_knows_what_they_are_to_be(
    gpu_fleet: Fleet, bare: Snapshots
) -> None:
    bare["mainpc"]["gpu"] = {"error": "no answer"}
    steps = [step.name for step in make_plan(target_of(gpu_fleet), bare).steps["rollout"]]
    assert any("cascade-core" in name for name in steps)
    assert not any("cascade-ai-engine" in name for name in steps)


def test_a_host_that_was_not_asked_for_its_gpus_is_unknown_too(
    looked: Callable[..., Look], converged: Snapshots
) -> None:
    found = looked(part(nvml="missing", gpus=[]))
    del converged["mainpc"]["gpu"]
    plan = make_plan(found.target, converged)
    assert plan.unknown == (Unknown("mainpc", "GPU", "they were not asked for"),)


def test_a_host_that_is_left_out_is_not_unknown(gpu_fleet: Fleet, converged: Snapshots) -> None:
    assert make_plan(target_of(gpu_fleet), {"pc2": converged["pc2"]}).unknown == ()


def test_the_first_plan_decides_and_later_ones_keep_it(
    looked: Callable[..., Look], converged: Snapshots
) -> None:
    assert decisions(looked(part())) == {TRAINER: "taken", TUNER: "taken"}
    decide(converged, f"{TRAINER}=left {TUNER}=taken")
    assert decisions(looked(part())) == {TRAINER: "left", TUNER: "taken"}


def test_only_a_person_decides_anew(looked: Callable[..., Look], converged: Snapshots) -> None:
    decide(converged, f"{TRAINER}=left {TUNER}=left")
    assert decisions(looked(part(), reschedule=True)) == {TRAINER: "taken", TUNER: "taken"}


def test_a_release_says_in_a_label_what_was_decided(looked: Callable[..., Look]) -> None:
    labels = RELEASE.labels(looked(part()).target)
    assert labels[LABEL_GPU] == f"{TUNER}=taken {TRAINER}=taken"
    assert decisions_in(labels) == {TRAINER: "taken", TUNER: "taken"}


def test_a_release_in_which_nothing_was_decided_says_nothing_of_it(fleet: Fleet) -> None:
    labels = RELEASE.labels(target_of(fleet))
    assert LABEL_GPU not in labels
    assert decisions_in(labels) == {}


def test_a_release_of_a_part_keeps_what_was_decided_of_the_rest(
    looked: Callable[..., Look], converged: Snapshots
) -> None:
    last = looked(part()).target
    found = looked(part(), group="cascade-core")
    assert LABEL_GPU not in RELEASE.labels(found.target)
    whole = merged(found.target, observe(found.target, converged), last)
    assert decisions_in(RELEASE.labels(whole)) == {TRAINER: "taken", TUNER: "taken"}


def test_what_no_longer_fits_refuses_the_plan(looked: Callable[..., Look], converged: Snapshots) -> None:
    decide(converged, f"{TRAINER}=taken {TUNER}=taken")
    found = looked(part(gpus=[gpu(index=1)]))
    assert make_plan(found.target, found.snapshots).refused == (
        "mainpc: cascade-ai-engine shares GPU 0: it has 1; write one of these as x-gpu.device",
        "mainpc: cascade-memory-learning shares GPU 0: it has 1; write one of these as x-gpu.device",
    )


def test_whoever_only_looks_knows_the_gpus_too(run: LocalRun, gpu_fleet: Fleet, converged: Snapshots) -> None:
    converged["mainpc"]["gpu"] = part()
    run.fleet = gpu_fleet
    assert SETTINGS in files_as_read(run, converged).wanted


def test_the_preflight_counts_what_is_requested_of_a_gpu(run: LocalRun, looked: Callable[..., Look]) -> None:
    def said(memory_mib: int) -> tuple[str, str, bool]:
        found = looked(part(gpus=[gpu(memory_total=memory_mib * 2**20)]))
        plan = make_plan(found.target, found.snapshots)
        facts = Facts(run.fleet, plan, found.snapshots, {}, {})
        (one,) = vram(Subject(run.fleet.manager, facts))
        return one.level, one.message.partition(":")[0], bool(one.next_step)

    assert said(24564) == ("ok", "mainpc offers 23747 MiB, 23747 requested", False)
    assert said(12288) == ("error", "mainpc offers 13926 MiB, 15873 requested", True)


def test_the_preflight_says_that_nobody_shares_a_gpu(fleet: Fleet) -> None:
    facts = Facts(fleet, make_plan(target_of(fleet), {}), {}, {}, {})
    (one,) = vram(Subject(fleet.manager, facts))
    assert (one.level, one.message) == ("ok", "no agent shares a GPU here")
