"""A run that is about a part of the fleet: some hosts, some groups, groups that are not to run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pyinfra.api.host import Host

from cascade.model.fleet import Fleet, assemble
from cascade.model.options import Options
from cascade.model.strict import InvalidFiles
from cascade.planning.diff import Change
from cascade.planning.plan import Plan, make_plan
from cascade.planning.resource import Key
from cascade.planning.steps import Gate
from cascade.planning.target import target_of
from operations.run import WorkFailed
from operations.swarm import removal
from operations.swarm.removal import remove
from tests.operations.conftest import LocalRun, Snapshots
from tests.operations.engine import Engine
from tests.operations.test_plan import container_spec, setting, stopped

CORE, AUDIO, PERSONALITY = "cascade-core", "cascade-audio-realtime", "cascade-personality"
PC2_APPS = "cascade-pc2-apps"
REGISTRY = "cascade-core_service-registry"
EVERYWHERE = ("package", "sysctl", "file", "daemon-settings", "unit", "swarm", "node", "network")


def choosing(fleet: Fleet, **options: Any) -> Fleet:
    """The fleet of a run with these options."""
    return assemble(fleet.settings, fleet.hosts, fleet.groups, Options.model_validate(options))


def disabling(fleet: Fleet, *names: str) -> Fleet:
    """The fleet with `x-enabled: false` in the files of these groups."""
    disabled = {name: fleet.groups[name].model_copy(update={"enabled": False}) for name in names}
    return replace(fleet, groups=fleet.groups | disabled)


def groups(plan: Plan) -> set[str]:
    """The groups whose workloads or gates a plan touches."""
    gated = {
        work.wave.group
        for steps in plan.steps.values()
        for step in steps
        for work in step.work.values()
        if isinstance(work, Gate)
    }
    return gated | {
        change.key.name.partition("_")[0]
        for change in plan.changes
        if change.key.kind in ("service", "container")
    }


def test_with_chosen_groups_only_they_are_rolled_out_on_hosts_that_are_set_up_whole(
    bare: Snapshots, fleet: Fleet
) -> None:
    plan = make_plan(target_of(choosing(fleet, group=f"{CORE},{AUDIO}")), bare)
    whole = make_plan(target_of(fleet), bare)
    assert groups(plan) == {CORE, AUDIO}
    base = [change.key for change in whole.changes if change.key.kind in EVERYWHERE]
    assert [change.key for change in plan.changes if change.key.kind in EVERYWHERE] == base
    assert {change.key.host for change in plan.changes if change.key.kind == "image"} == {"mainpc"}


def test_from_a_group_on_the_later_ones_are_rolled_out_too(bare: Snapshots, fleet: Fleet) -> None:
    order = fleet.group_order
    chosen = choosing(fleet, from_group=PERSONALITY)
    assert chosen.chosen_groups == order[order.index(PERSONALITY) :]
    assert groups(make_plan(target_of(chosen), bare)) == set(chosen.chosen_groups)


def test_a_difference_in_another_group_is_left_alone(converged: Snapshots, fleet: Fleet) -> None:
    setting([], *container_spec(REGISTRY, "Env"))(converged)
    assert make_plan(target_of(choosing(fleet, group=AUDIO)), converged).changes == ()
    assert groups(make_plan(target_of(choosing(fleet, group=CORE)), converged)) == {CORE}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"group": "nobody"}, "options: group: there is no group nobody; the groups are cascade-core, "),
        ({"from_group": "nobody"}, "options: from_group: there is no group nobody; the groups are "),
        ({"group": AUDIO}, f"options: group: {AUDIO} is not enabled, or in no phase; take x-enabled: false"),
        (
            {"group": CORE, "from_group": CORE},
            "options: from_group: stands beside group; give one of the two",
        ),
    ],
)
def test_a_choice_that_cannot_be_met_is_a_mistake(
    options: dict[str, str], problem: str, fleet: Fleet
) -> None:
    with pytest.raises(InvalidFiles) as invalid:
        choosing(disabling(fleet, AUDIO), **options)
    (found,) = invalid.value.problems
    assert str(found).startswith(problem)


@pytest.mark.parametrize(("group", "agents", "hosts"), [(PC2_APPS, 17, {"mainpc"}), (AUDIO, 7, {"mainpc"})])
def test_a_group_that_is_no_longer_enabled_is_removed_alone(
    group: str, agents: int, hosts: set[str], converged: Snapshots, fleet: Fleet
) -> None:
    plan = make_plan(target_of(disabling(fleet, group)), converged)
    assert {change.action for change in plan.changes} == {"remove"}
    assert groups(plan) == {group}
    assert len(plan.changes) == agents
    (step,) = plan.steps["rollout"]
    assert step.name == f"{group}: remove {agents} agents, which are not enabled"
    assert step.work.keys() == hosts
    assert {status.member.group for status in plan.agents} == set(fleet.group_order) - {group}


def test_what_started_last_is_removed_first(converged: Snapshots, fleet: Fleet) -> None:
    plan = make_plan(target_of(disabling(fleet, CORE, PC2_APPS)), converged)
    names = [change.key.name for change in plan.changes]
    assert {name.partition("_")[0] for name in names[:17]} == {PC2_APPS}
    assert names[17:] == [
        "cascade-core_unified-system-agent",
        "cascade-core_observability-hub",
        "cascade-core_system-digital-twin",
        REGISTRY,
    ]


def test_a_group_that_never_ran_needs_no_removal(bare: Snapshots, fleet: Fleet) -> None:
    plan = make_plan(target_of(disabling(fleet, AUDIO)), bare)
    assert "remove" not in {change.action for change in plan.changes}
    assert AUDIO not in groups(plan)


def test_a_service_of_somebody_else_is_not_removed_with_a_group(converged: Snapshots, fleet: Fleet) -> None:
    services = converged["mainpc"]["docker"]["services"]
    (theirs,) = (service for service in services if service["Spec"]["Name"] == REGISTRY)
    theirs["Spec"]["Labels"]["cascade.system"] = "another"
    plan = make_plan(target_of(disabling(fleet, CORE)), converged)
    assert REGISTRY not in {change.key.name for change in plan.changes}
    assert len(plan.changes) == 3


def test_nothing_is_removed_while_other_groups_are_chosen(converged: Snapshots, fleet: Fleet) -> None:
    chosen = replace(disabling(fleet, AUDIO), options=Options(group=(CORE,)))
    assert make_plan(target_of(chosen), converged).changes == ()


def test_what_only_runs_on_a_host_that_was_left_out_is_not_removed(
    converged: Snapshots, fleet: Fleet
) -> None:
    del converged["pc2"]
    plan = make_plan(target_of(disabling(fleet, AUDIO, PC2_APPS)), converged)
    assert groups(plan) == {AUDIO}


def test_containers_of_a_stopped_engine_are_not_called_removed(converged: Snapshots, fleet: Fleet) -> None:
    stopped("mainpc")(converged)
    plan = make_plan(target_of(disabling(fleet, AUDIO)), converged)
    assert "remove" not in {change.action for change in plan.changes}


SERVICE, CONTAINER = Key("mainpc", "service", REGISTRY), Key("mainpc", "container", "mic")
NODES = [
    {"ID": "up", "Status": {"State": "ready"}},
    {"ID": "off", "Status": {"State": "down"}},
]


def removing(*keys: Key) -> tuple[Change, ...]:
    return tuple(Change(key, "remove", (), {}) for key in keys)


def service(id_: str, **container: Any) -> dict[str, Any]:
    """What the engine says of a service."""
    return {"ID": id_, "Spec": {"TaskTemplate": {"ContainerSpec": container}}}


def writes(engine: Engine) -> list[str]:
    said = [str(asked).replace("/v1.44", "") for asked in engine.asked]
    return [call for call in said if not call.startswith("GET")]


@pytest.fixture
def there(engine: Engine) -> Engine:
    """An engine that has the service, with one task left on a node that is off."""
    engine.answers = {
        f"/v1.44/services/{REGISTRY}": service("s1"),
        "/v1.44/containers/mic/json": {"Config": {"StopTimeout": 90}},
        "/v1.44/nodes": NODES,
        "/v1.44/tasks": [{"ServiceID": "s1", "NodeID": "off"}, {"ServiceID": "s2", "NodeID": "up"}],
    }
    return engine


def test_services_and_containers_are_removed_and_no_volume(there: Engine, run: LocalRun, host: Host) -> None:
    remove(run, host, removing(SERVICE, CONTAINER))
    assert writes(there) == ["DELETE /services/s1", "POST /containers/mic/stop", "DELETE /containers/mic"]
    (removal_of_container,) = (
        asked for asked in there.asked if asked.path.startswith("/v1.44/containers/mic?")
    )
    assert "v=False" in removal_of_container.path
    assert any(asked.path.endswith("/containers/mic/stop?t=90") for asked in there.asked)


@pytest.mark.parametrize(
    ("container", "deadline_s"),
    [({}, 120), ({"StopGracePeriod": 3 * 10**9}, 113), ({"StopGracePeriod": 300 * 10**9}, 410)],
)
def test_removed_services_may_take_as_long_to_stop_as_they_ask_for(
    container: dict[str, Any],
    deadline_s: float,
    there: Engine,
    run: LocalRun,
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(removal, "poll", lambda _what, _attempt, deadline_s: waited.append(deadline_s))
    other = "cascade-core_redis"
    there.answers |= {
        f"/v1.44/services/{REGISTRY}": service("s1", **container),
        f"/v1.44/services/{other}": service("s2", StopGracePeriod=10**9),
    }
    remove(run, host, removing(SERVICE, Key("mainpc", "service", other)))
    assert waited == [deadline_s]


def test_what_is_gone_already_needs_no_removal(engine: Engine, run: LocalRun, host: Host) -> None:
    remove(run, host, removing(SERVICE))
    assert writes(engine) == []


def test_a_removal_has_not_ended_while_a_node_that_is_there_still_runs_a_task(
    there: Engine, run: LocalRun, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "STOPPING_MARGIN_S", -10.0)
    there.answers["/v1.44/tasks"] = [{"ServiceID": "s1", "NodeID": node} for node in ("up", "off")]
    with pytest.raises(WorkFailed, match="1 of their tasks are still there"):
        remove(run, host, removing(SERVICE))


CACHE = "cascade-pc2-core_cache-manager"


def without_pc2(converged: Snapshots) -> Snapshots:
    """What is known of a healthy fleet when only the manager is asked."""
    del converged["pc2"]
    return converged


def test_a_host_that_is_left_out_of_a_healthy_fleet_skips_nothing(converged: Snapshots, fleet: Fleet) -> None:
    assert make_plan(target_of(fleet), without_pc2(converged)).skipped == ()


def test_who_can_only_run_on_the_missing_host_and_differs_is_skipped(
    converged: Snapshots, fleet: Fleet
) -> None:
    setting([], *container_spec(CACHE, "Env"))(converged)
    setting([], *container_spec(REGISTRY, "Env"))(converged)
    plan = make_plan(target_of(fleet), without_pc2(converged))
    assert [change.key.name for change in plan.changes] == [REGISTRY]
    assert list(map(str, plan.skipped)) == [
        f"{CACHE} is skipped: it can only run on pc2, left out by --limit"
    ]


def test_who_is_down_with_the_missing_host_is_skipped(converged: Snapshots, fleet: Fleet) -> None:
    services = {item["ID"]: item["Spec"]["Name"] for item in converged["mainpc"]["docker"]["services"]}
    for task in converged["mainpc"]["docker"]["tasks"]:
        if services[task["ServiceID"]] == CACHE:
            task["Status"]["State"] = "orphaned"
    (skipped,) = make_plan(target_of(fleet), without_pc2(converged)).skipped
    assert skipped.name == CACHE


def test_who_comes_after_a_skipped_one_waits_with_it(converged: Snapshots, fleet: Fleet) -> None:
    """Here the later groups of the phase may run on MainPC."""
    target = target_of(fleet)
    waves = [
        replace(wave, members=tuple(replace(member, hosts=("mainpc",)) for member in wave.members))
        if wave.group == PC2_APPS
        else wave
        for wave in target.waves
    ]
    here = replace(target, waves=tuple(waves), order=tuple(waves))
    (other, *_) = (member.name for wave in waves if wave.group == PC2_APPS for member in wave.members)
    for name in (CACHE, other, REGISTRY):
        setting([], *container_spec(name, "Env"))(converged)
    plan = make_plan(here, without_pc2(converged), last=here)
    assert [change.key.name for change in plan.changes] == [REGISTRY]
    assert [str(agent) for agent in plan.skipped] == [
        f"{CACHE} is skipped: it can only run on pc2, left out by --limit",
        f"{other} is skipped: it comes after {CACHE}",
    ]
    assert plan.release
    assert plan.release.target.digest == here.digest
