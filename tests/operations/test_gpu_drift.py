"""A GPU that was lost: by a container, which is made anew, or by its host, which a person mends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cascade.model.fleet import Fleet
from cascade.planning.drift import repairs, restarts
from cascade.planning.plan import Plan, make_plan
from cascade.planning.resource import Key
from cascade.planning.target import Target, target_of
from cascade.planning.waves import Wave
from tests.unit.test_gpu_facts import gpu, part

Snapshots = dict[str, Any]

REGISTRY = "cascade-core_service-registry"
WAKE_WORD = "cascade-audio-realtime_wake-word-detector"
SAID = "Failed to initialize NVML: Unknown Error"


def container_of_service(snapshots: Snapshots, name: str) -> str:
    engine = snapshots["mainpc"]["docker"]
    (service,) = (found for found in engine["services"] if found["Spec"]["Name"] == name)
    task = next(found for found in engine["tasks"] if found["ServiceID"] == service["ID"])
    return str(task["Status"]["ContainerStatus"]["ContainerID"])


def container_of_host(snapshots: Snapshots, name: str) -> str:
    found = (item["container"] for item in snapshots["mainpc"]["docker"]["containers"])
    return str(next(item["Id"] for item in found if item["Name"] == f"/{name}"))


def with_precious(target: Target, key: Key, precious: str) -> Target:
    def changed(wave: Wave) -> Wave:
        members = (
            replace(member, precious=precious) if member.key == key else member for member in wave.members
        )
        return replace(wave, members=tuple(members))

    waves, order = (tuple(map(changed, waves)) for waves in (target.waves, target.order))
    return replace(target, waves=waves, order=order)


def plan_of(fleet: Fleet, snapshots: Snapshots, precious: str = "") -> Plan:
    """As if the registry were precious for this reason."""
    target = with_precious(target_of(fleet), Key("mainpc", "service", REGISTRY), precious)
    return make_plan(target, snapshots)


def test_a_service_that_lost_its_gpu_alone_is_made_anew(fleet: Fleet, converged: Snapshots) -> None:
    lost = container_of_service(converged, REGISTRY)
    converged["mainpc"]["gpu"] = part(containers={lost: f"lost: {SAID}", "f" * 64: "lost: of nobody"})
    plan = plan_of(fleet, converged)
    (change,) = plan.changes
    assert (change.key, change.action) == (Key("mainpc", "service", REGISTRY), "update")
    assert [str(field) for field in change.fields] == [f"GPU lost: {SAID} → seen"]
    assert [found.member.name for found in restarts(plan)] == [REGISTRY]
    assert not plan.unknown


def test_a_host_container_that_lost_its_gpu_is_replaced(fleet: Fleet, converged: Snapshots) -> None:
    lost = container_of_host(converged, WAKE_WORD)
    converged["mainpc"]["gpu"] = part(containers={lost: f"lost: {SAID}"})
    (change,) = plan_of(fleet, converged).changes
    assert (change.key, change.action) == (Key("mainpc", "container", WAKE_WORD), "replace")


@pytest.mark.parametrize("said", ["ok", "unknown: no nvidia-smi"])
def test_a_container_that_sees_its_gpu_or_cannot_say_is_left_alone(
    said: str, fleet: Fleet, converged: Snapshots
) -> None:
    converged["mainpc"]["gpu"] = part(containers={container_of_service(converged, REGISTRY): said})
    assert plan_of(fleet, converged).changes == ()


def test_what_else_differs_is_told_beside_the_lost_gpu(fleet: Fleet, converged: Snapshots) -> None:
    lost = container_of_service(converged, REGISTRY)
    converged["mainpc"]["gpu"] = part(containers={lost: f"lost: {SAID}"})
    services = converged["mainpc"]["docker"]["services"]
    (service,) = (found for found in services if found["Spec"]["Name"] == REGISTRY)
    service["Spec"]["Labels"]["cascade.agent"] = "other"
    (change,) = plan_of(fleet, converged).changes
    assert [field.path for field in change.fields] == ["Labels.cascade.agent", "GPU"]


@pytest.mark.parametrize(
    ("precious", "repair"), [("", "automatic"), ("GPU", "automatic"), ("persistent", "approval")]
)
def test_an_agent_that_has_lost_its_gpu_loses_nothing_more_unless_it_keeps_data(
    precious: str, repair: str, fleet: Fleet, converged: Snapshots
) -> None:
    lost = container_of_service(converged, REGISTRY)
    converged["mainpc"]["gpu"] = part(containers={lost: f"lost: {SAID}"})
    assert [*repairs(plan_of(fleet, converged, precious)).values()] == [repair]


def test_a_gpu_agent_that_differs_otherwise_too_takes_a_person(fleet: Fleet, converged: Snapshots) -> None:
    lost = container_of_service(converged, REGISTRY)
    converged["mainpc"]["gpu"] = part(containers={lost: f"lost: {SAID}"})
    services = converged["mainpc"]["docker"]["services"]
    (service,) = (found for found in services if found["Spec"]["Name"] == REGISTRY)
    service["Spec"]["TaskTemplate"]["ContainerSpec"]["User"] = "by-hand"
    assert [*repairs(plan_of(fleet, converged, "GPU")).values()] == ["approval"]


FAULTS = {
    "mismatch": part(nvml="mismatch", library="550.90.07", driver=None, gpus=[]),
    "lost": part(nvml="lost", said="GPU is lost", gpus=[gpu(uuid=None, lost="GPU is lost")]),
    "no driver": part(nvml="missing", module=None, driver=None, gpus=[]),
    "no answer": {"error": "TimeoutError: NVIDIA's library did not answer within 20 s"},
    "outlived": part(driver="550.90.07", library="550.90.07"),
}


@pytest.mark.parametrize("told", FAULTS.values(), ids=FAULTS)
def test_a_fault_of_a_hosts_gpus_is_unknown_and_nothing_that_is_repaired(
    told: dict[str, Any], fleet: Fleet, converged: Snapshots
) -> None:
    converged["mainpc"]["gpu"] = told
    plan = plan_of(fleet, converged)
    (unknown,) = plan.unknown
    assert (unknown.host, unknown.what) == ("mainpc", "GPU")
    assert "; " in unknown.reason
    assert plan.changes == ()
