"""What a rollout does about GPUs: nothing begins without them, nothing stays that does not keep to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api.host import Host

from cascade.exit_codes import GATE_FAILED
from cascade.model.fleet import Fleet
from cascade.model.gpu import Gpu
from cascade.model.vram import Division
from cascade.planning.desired import DAEMON_SETTINGS, Desired
from cascade.planning.plan import make_plan
from cascade.planning.resource import Fields, Key
from cascade.planning.steps import Gate
from cascade.planning.target import Target, target_of
from cascade.planning.waves import Wave
from operations.swarm import rollout
from operations.swarm.diagnosis import NotHealthy
from operations.swarm.gpus import prove_gpus
from operations.swarm.rollout import pass_gate, roll_out_service
from tests.operations.conftest import LocalRun, Snapshots
from tests.operations.engine import Engine
from tests.operations.test_gpu_drift import container_of_service
from tests.unit.test_gpu_facts import UUID, gpu, part, process

GROUP = "cascade-request-handler"
SHARER = f"{GROUP}_request-coordinator"
KEY = Key("mainpc", "service", SHARER)
BUDGET = 8192

Say = Callable[..., None]


def sharing(target: Target, optional: bool) -> Target:
    """As if one agent were given a GPU, which lies on the manager."""

    def with_gpu(key: Key, fields: Fields) -> Fields:
        if key == Key("mainpc", "daemon-settings", DAEMON_SETTINGS):
            return {**fields, "node-generic-resources": [f"gpu={UUID}", f"vram={BUDGET}"]}
        if key != KEY:
            return fields
        template = fields["TaskTemplate"]
        container = template["ContainerSpec"]
        environment = [*container["Env"], f"NVIDIA_VISIBLE_DEVICES={UUID}"]
        reserved = [{"DiscreteResourceSpec": {"Kind": "vram", "Value": BUDGET}}]
        resources = {"Reservations": {"GenericResources": reserved}}
        container = {**container, "Env": environment}
        return {**fields, "TaskTemplate": {**template, "ContainerSpec": container, "Resources": resources}}

    def with_host(wave: Wave) -> Wave:
        members = (
            replace(one, hosts=("mainpc",), optional=optional) if one.key == KEY else one
            for one in wave.members
        )
        return replace(wave, members=tuple(members))

    resources = tuple(replace(item, fields=with_gpu(item.key, item.fields)) for item in target.resources)
    return replace(target, resources=resources, waves=tuple(map(with_host, target.waves)))


@pytest.fixture
def asked() -> list[list[str]]:
    """The hosts that were read, time by time."""
    return []


@pytest.fixture
def said(
    run: LocalRun, fleet: Fleet, converged: Snapshots, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> Say:
    """Has the manager say this of its GPU; the plan is to give one to an agent that had none."""

    def say(told: dict[str, Any], optional: bool = False) -> None:
        run.__dict__["_plan"] = make_plan(sharing(target_of(fleet), optional), converged)
        snapshots = {"mainpc": {**converged["mainpc"], "gpu": told}}

        def read(hosts: Any, *_: object) -> Any:
            asked.append([host.name for host in hosts])
            return snapshots

        monkeypatch.setattr(run, "read_snapshots", read)

    return say


def gate_of_sharer(run: LocalRun) -> Gate:
    gates = (work for step in run.plan().steps["rollout"] for work in step.work.values())
    return next(gate for gate in gates if isinstance(gate, Gate) and SHARER in gate.replicas)


def roll_out(run: LocalRun, host: Host) -> None:
    (change,) = (change for change in run.plan().changes if change.key == KEY)
    roll_out_service(run, host, change)


def test_a_group_is_not_begun_while_others_have_its_memory(
    run: LocalRun, host: Host, engine: Engine, said: Say
) -> None:
    said(part(gpus=[gpu(processes=[process(4711, 20000, name="blender")])]))
    with pytest.raises(NotHealthy) as refused:
        roll_out(run, host)
    assert refused.value.code == GATE_FAILED
    assert "blender (PID 4711) has 20000 MiB" in str(refused.value)
    (diagnosis,) = run.diagnoses
    assert (diagnosis.cause, diagnosis.state, diagnosis.healthy) == ("gpu_taken", "not started", 0)
    assert [call for call in engine.asked if call.method != "GET"] == []
    assert run.rolled_out == []


def test_a_group_is_not_begun_while_the_driver_fails(run: LocalRun, host: Host, said: Say) -> None:
    said(part(nvml="mismatch", library="550.90.07", driver=None, gpus=[]))
    with pytest.raises(NotHealthy, match=r"GPU not to be relied on: mainpc: .*; reboot the host"):
        roll_out(run, host)


def test_a_group_is_looked_at_once_and_one_without_a_gpu_never(
    run: LocalRun, host: Host, engine: Engine, said: Say, asked: list[list[str]], converged: Snapshots
) -> None:
    said(part())
    services = converged["mainpc"]["docker"]["services"]
    (service,) = (found for found in services if found["Spec"]["Name"] == SHARER)
    engine.answers = {
        f"/v1.44/services/{SHARER}": service,
        f"/v1.44/services/{service['ID']}/update": {"Warnings": None},
        "/v1.44/tasks": [],
    }
    roll_out(run, host)
    roll_out(run, host)
    assert len(asked) == 1
    run.__dict__["_plan"] = replace(run.plan(), target=replace(run.plan().target, resources=()))
    run.gpus_free.clear()
    roll_out(run, host)
    assert len(asked) == 1


def test_an_agent_that_sees_its_gpu_passes_its_gate(
    run: LocalRun, host: Host, said: Say, converged: Snapshots
) -> None:
    own = container_of_service(converged, SHARER)
    said(part(gpus=[gpu(processes=[process(7, BUDGET, own)])], containers={own: "ok"}))
    prove_gpus(run, host, gate_of_sharer(run))
    assert run.diagnoses == []


@pytest.mark.parametrize(
    ("used", "sees", "cause"),
    [(1, "lost: Unknown Error", "gpu_lost"), (BUDGET + 1, "ok", "vram_exceeded")],
)
def test_an_agent_that_does_not_keep_to_its_gpu_fails_its_gate(
    used: int, sees: str, cause: str, run: LocalRun, host: Host, said: Say, converged: Snapshots
) -> None:
    own = container_of_service(converged, SHARER)
    told = part(gpus=[gpu(processes=[process(7, used, own)])], containers={own: sees})
    said(told)
    with pytest.raises(NotHealthy) as failed:
        prove_gpus(run, host, gate_of_sharer(run))
    (diagnosis,) = failed.value.diagnoses
    assert (diagnosis.name, diagnosis.cause, diagnosis.state) == (SHARER, cause, "healthy")
    said(told, optional=True)
    prove_gpus(run, host, gate_of_sharer(run))
    assert run.warned
    assert [found.outcome for found in run.diagnoses] == ["warned"]


def test_a_healthy_wave_that_does_not_see_its_gpu_does_not_pass(
    run: LocalRun, host: Host, said: Say, converged: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "hold", lambda *_: 1)
    said(part(containers={container_of_service(converged, SHARER): "lost: Unknown Error"}))
    with pytest.raises(NotHealthy, match="GPU not seen: Unknown Error"):
        pass_gate(run, host, gate_of_sharer(run))
    assert [found.cause for found in run.diagnoses] == ["gpu_lost"]


def test_a_group_may_have_what_its_file_says_though_its_agents_reserve_less(
    run: LocalRun, host: Host, said: Say, converged: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = container_of_service(converged, SHARER)
    said(part(gpus=[gpu(processes=[process(7, BUDGET + 1000, own)])], containers={own: "ok"}))
    shared = SimpleNamespace(
        group=run.fleet.groups[GROUP],
        gpu=Gpu(0, UUID, "NVIDIA GeForce RTX 4090", 24564),
        division=Division(BUDGET + 1000, {}, {}),
    )
    monkeypatch.setitem(run.fleet.__dict__, "shared_gpus", (shared,))
    prove_gpus(run, host, gate_of_sharer(run))
    shared.division = Division(BUDGET + 999, {}, {})
    with pytest.raises(NotHealthy, match=f"the budget is {BUDGET + 999}"):
        prove_gpus(run, host, gate_of_sharer(run))


def test_the_gpus_of_a_release_are_asked_for_whatever_the_files_declare(
    run: LocalRun, host: Host, said: Say, converged: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(part())
    target, own = run.plan().target, Desired("gpu", Key("mainpc", "gpu", UUID), {})
    with_it = replace(target, resources=(*target.resources, own))
    run.__dict__["_plan"] = replace(run.plan(), target=with_it)
    wanted: list[Key] = []

    def read(_hosts: Any, items: Any) -> Any:
        wanted.extend(item.key for item in items)
        return {"mainpc": {**converged["mainpc"], "gpu": part()}}

    monkeypatch.setattr(run, "read_snapshots", read)
    prove_gpus(run, host, gate_of_sharer(run))
    assert wanted == [own.key]


def test_a_wave_without_a_gpu_is_not_asked(
    run: LocalRun, host: Host, said: Say, asked: list[list[str]]
) -> None:
    said(part())
    gate = gate_of_sharer(run)
    others = tuple(member for member in gate.wave.members if member.key != KEY)
    prove_gpus(run, host, replace(gate, wave=replace(gate.wave, members=others)))
    assert asked == []
