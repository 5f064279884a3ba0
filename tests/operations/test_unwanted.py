"""What carries the system's labels and is no longer wanted: shown, and removed only when a person says so."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pyinfra.api.host import Host

from cascade.model.fleet import Fleet
from cascade.planning.diff import Change
from cascade.planning.plan import Plan, make_plan
from cascade.planning.removal import PRUNABLE, REMOVABLE
from cascade.planning.resource import Key, Kind
from cascade.planning.steps import Step
from cascade.planning.target import target_of
from operations.run import WorkFailed
from operations.swarm import removal
from operations.swarm.removal import remove
from tests.operations.conftest import LocalRun, Snapshots
from tests.operations.engine import Engine
from tests.operations.test_part_of_the_fleet import CORE, choosing, writes
from tests.operations.test_plan import REGISTRY, WAKE_WORD, planned

OURS = {"cascade.system": "cascade", "cascade.group": "left-behind"}
LEFT_BEHIND = {
    Key("mainpc", "config", "left-behind_settings-0"),
    Key("mainpc", "container", "left-behind_mic"),
    Key("mainpc", "network", "left-behind"),
    Key("mainpc", "service", "left-behind_fox"),
    Key("pc2", "container", "left-behind_mic"),
    Key("pc2", "volume", "left-behind_data"),
}


def leave_behind(snapshots: Snapshots, labels: dict[str, str]) -> None:
    """One more thing of every kind, with these labels, as a group leaves them that no file describes."""
    manager, worker = snapshots["mainpc"]["docker"], snapshots["pc2"]["docker"]
    fox = like(manager["services"], lambda item: item["Spec"]["Name"] == REGISTRY)
    fox["ID"], fox["Spec"] = "fox", {**fox["Spec"], "Name": "left-behind_fox", "Labels": labels}
    mic = like(manager["containers"], lambda item: item["container"]["Name"] == f"/{WAKE_WORD}")
    mic["container"]["Name"], mic["container"]["Config"]["Labels"] = "/left-behind_mic", labels
    network = like(manager["networks"], lambda item: item["Name"] == "cascade-external")
    network |= {"Name": "left-behind", "Id": "left-behind", "Labels": labels}
    manager["services"].append(fox)
    manager["networks"].append(network)
    settings = {"ID": "settings", "Name": "left-behind_settings-0", "Labels": labels, "sha256": "0" * 64}
    manager["configs"].append(settings)
    for engine in (manager, worker):
        engine["containers"].append(copy.deepcopy(mic))
    worker["volumes"].append({"Name": "left-behind_data", "Driver": "local", "Labels": labels})


def like(items: list[Any], chosen: Any) -> Any:
    return copy.deepcopy(one(items, chosen))


def one(items: list[Any], chosen: Callable[[Any], bool]) -> Any:
    (found,) = filter(chosen, items)
    return found


def of(changes: tuple[Change, ...]) -> set[Key]:
    assert {change.action for change in changes} <= {"remove"}
    return {change.key for change in changes}


def changes_of(step: Step) -> list[Change]:
    return [change for work in step.work.values() if isinstance(work, tuple) for change in work]


def removing(plan: Plan) -> list[Key]:
    """What the steps remove, in order."""
    steps = (*plan.steps.get("rollout", ()), *plan.steps.get("prune", ()))
    return [change.key for step in steps for change in changes_of(step)]


def make_reach_outside(snapshots: Snapshots) -> None:
    """Somebody made the network anew, in another way."""
    network = one(snapshots["mainpc"]["docker"]["networks"], lambda item: item["Name"] == "cascade-internal")
    network["Internal"] = False


def test_on_converged_hosts_nothing_is_unwanted(converged: Snapshots, fleet: Fleet) -> None:
    assert make_plan(target_of(fleet), converged, PRUNABLE).unwanted == ()


def test_what_no_file_names_is_shown_and_stays(converged: Snapshots, fleet: Fleet) -> None:
    leave_behind(converged, OURS)
    plan = make_plan(target_of(fleet), converged)
    assert of(plan.unwanted) == LEFT_BEHIND
    assert list(plan.unwanted) == sorted(plan.unwanted, key=lambda change: change.key)
    assert (plan.changes, removing(plan), plan.refused) == ((), [], ())


@pytest.mark.parametrize(
    "labels", [{}, {"cascade.system": "another", "cascade.group": "left-behind"}, {"cascade.group": CORE}]
)
def test_what_belongs_to_others_is_neither_shown_nor_removed(
    labels: dict[str, str], converged: Snapshots, fleet: Fleet
) -> None:
    leave_behind(converged, labels)
    plan = make_plan(target_of(fleet), converged, PRUNABLE)
    assert (plan.unwanted, plan.changes, removing(plan)) == ((), (), [])


def test_it_goes_when_a_person_says_so_agents_first(converged: Snapshots, fleet: Fleet) -> None:
    leave_behind(converged, OURS)
    plan = make_plan(target_of(fleet), converged, PRUNABLE)
    assert of(plan.changes) == LEFT_BEHIND
    assert plan.unwanted == ()
    gone = removing(plan)
    assert set(gone) == LEFT_BEHIND
    assert len(gone) == len(LEFT_BEHIND)
    kinds = [key.kind for key in gone]
    assert set(kinds[:3]) == {"service", "container"}
    assert set(kinds[3:]) == {"network", "volume", "config"}
    (agents,) = plan.steps["rollout"]
    assert agents.name == "left-behind: remove 3 agents, which are not in the files"
    assert [step.name for step in plan.steps["prune"]] == [
        "remove config left-behind_settings-0",
        "remove network left-behind",
        "remove volume left-behind_data",
    ]
    assert {change.key for change in planned(plan)} == LEFT_BEHIND


def test_only_the_kinds_that_are_named_go(converged: Snapshots, fleet: Fleet) -> None:
    leave_behind(converged, OURS)
    plan = make_plan(target_of(fleet), converged, REMOVABLE)
    agents = {key for key in LEFT_BEHIND if key.kind in REMOVABLE}
    assert (of(plan.changes), of(plan.unwanted)) == (agents, LEFT_BEHIND - agents)


def test_what_a_kept_release_needs_is_not_unwanted(converged: Snapshots, fleet: Fleet) -> None:
    leave_behind(converged, OURS)
    configs = converged["mainpc"]["docker"]["configs"]
    release = one(configs, lambda config: "cascade.release" in config["Labels"])
    kept = {key for key in LEFT_BEHIND if key.kind in ("network", "volume", "config")}
    needs = " ".join(f"{key.host}/{key.kind}/{key.name}" for key in sorted(kept))
    earlier = {**release["Labels"], "cascade.release": "0", "cascade.needs": needs}
    configs.insert(0, {**release, "Labels": earlier})
    plan = make_plan(target_of(fleet), converged, PRUNABLE)
    assert of(plan.changes) == LEFT_BEHIND - kept
    assert plan.unwanted == ()


def test_a_run_about_some_groups_calls_nothing_unwanted(converged: Snapshots, fleet: Fleet) -> None:
    leave_behind(converged, OURS)
    plan = make_plan(target_of(choosing(fleet, group=CORE)), converged, PRUNABLE)
    assert (plan.unwanted, removing(plan)) == ((), [])


def test_what_a_disabled_group_keeps_is_not_unwanted(converged: Snapshots, fleet: Fleet) -> None:
    """Its file is there, so its data are; only its agents stop."""
    off = fleet.groups[CORE].model_copy(update={"enabled": False})
    plan = make_plan(target_of(replace(fleet, groups=fleet.groups | {CORE: off})), converged, PRUNABLE)
    assert {key.kind for key in of(plan.changes)} == {"service"}
    assert plan.unwanted == ()


def test_what_lies_on_a_host_that_was_left_out_stays(converged: Snapshots, fleet: Fleet) -> None:
    leave_behind(converged, OURS)
    del converged["pc2"]
    plan = make_plan(target_of(fleet), converged, PRUNABLE, target_of(fleet))
    assert of(plan.changes) == {key for key in LEFT_BEHIND if key.host == "mainpc"}


@pytest.mark.parametrize("needs", ["rubbish", "a/b", "/ //"])
def test_what_a_release_needs_may_be_nonsense(needs: str, converged: Snapshots, fleet: Fleet) -> None:
    """Anybody can label a config by hand."""
    for config in converged["mainpc"]["docker"]["configs"]:
        config["Labels"]["cascade.needs"] = needs
    assert make_plan(target_of(fleet), converged, PRUNABLE).unwanted == ()


def leave_the_manager_out(snapshots: Snapshots) -> None:
    del snapshots["mainpc"]


def stop_the_managers_engine(snapshots: Snapshots) -> None:
    snapshots["mainpc"]["docker"] = {"stopped": True}


@pytest.mark.parametrize("silence", [leave_the_manager_out, stop_the_managers_engine])
def test_while_nobody_knows_what_releases_need_nothing_is_unwanted(
    silence: Callable[[Snapshots], None], converged: Snapshots, fleet: Fleet
) -> None:
    """A volume that a kept release needs would be lost with its data."""
    leave_behind(converged, OURS)
    silence(converged)
    plan = make_plan(target_of(fleet), converged, PRUNABLE)
    assert [change.key for change in plan.changes if change.action == "remove"] == []
    assert (plan.unwanted, removing(plan)) == ((), [])


def take(snapshots: Snapshots, kind: Kind, labels: dict[str, str]) -> Key:
    """Something that the files name has these labels, and is another than they want."""
    manager = snapshots["mainpc"]["docker"]
    if kind == "service":
        item = one(manager["services"], lambda item: item["Spec"]["Name"] == REGISTRY)
        item["Spec"]["Labels"] = labels
        return Key("mainpc", kind, REGISTRY)
    if kind == "container":
        item = one(manager["containers"], lambda item: item["container"]["Name"] == f"/{WAKE_WORD}")
        item["container"]["Config"]["Labels"] = labels
        return Key("mainpc", kind, WAKE_WORD)
    item = one(manager["networks"], lambda item: item["Name"] == "cascade-external")
    item |= {"Labels": labels, "Internal": True}
    return Key("mainpc", kind, "cascade-external")


@pytest.mark.parametrize("kind", ["service", "container", "network"])
def test_what_another_system_has_under_a_name_of_this_one_is_not_taken_from_it(
    kind: Kind, converged: Snapshots, fleet: Fleet
) -> None:
    key = take(converged, kind, {"cascade.system": "another"})
    plan = make_plan(target_of(fleet), converged)
    assert plan.refusals[key] == f"{key} is of the system another: choose another name for this one"


@pytest.mark.parametrize("kind", ["service", "container", "network"])
def test_what_lost_its_labels_is_mended(kind: Kind, converged: Snapshots, fleet: Fleet) -> None:
    key = take(converged, kind, {})
    plan = make_plan(target_of(fleet), converged)
    assert key in {change.key for change in plan.changes}
    assert plan.refused == ()


def test_a_disabled_group_lets_go_of_a_network_before_that_is_replaced(
    converged: Snapshots, fleet: Fleet
) -> None:
    make_reach_outside(converged)
    off = fleet.groups[CORE].model_copy(update={"enabled": False})
    plan = make_plan(target_of(replace(fleet, groups=fleet.groups | {CORE: off})), converged)
    first, _ = plan.steps["networks"]
    freed = {change.key.name for change in changes_of(first)}
    assert REGISTRY in freed
    assert len(freed) == 69
    assert not any(": remove " in step.name for step in plan.steps["rollout"])
    assert plan.refused == ()


@pytest.mark.parametrize("who", ["a group that is not chosen", "somebody else"])
def test_a_network_that_others_hold_is_not_taken_from_them(
    who: str, converged: Snapshots, fleet: Fleet
) -> None:
    make_reach_outside(converged)
    if who == "somebody else":
        leave_behind(converged, {})
        plan, names = make_plan(target_of(fleet), converged), ["left-behind_fox", "left-behind_mic"]
    else:
        plan = make_plan(target_of(choosing(fleet, group=CORE)), converged)
        names = [WAKE_WORD]
        assert REGISTRY not in plan.refused[0]
    (refused,) = plan.refused
    assert refused.startswith("mainpc: network cascade-internal: internal False → True; ")
    assert refused.endswith(" hold it: deploy the whole fleet, or remove what is not of it")
    assert all(name in refused for name in names)


def test_a_refusal_gives_no_secret_away(converged: Snapshots, fleet: Fleet) -> None:
    volume = converged["mainpc"]["docker"]["volumes"][0]
    volume["Options"] = {"type": "cifs", "o": "username=fox,password=hunter22"}
    (refused,) = make_plan(target_of(fleet), converged).refused
    assert "options.o username=fox,password=*** → unset" in refused


GONE = b'HTTP/1.0 404 Not Found\r\n\r\n{"message": "gone"}'
IN_USE = b'HTTP/1.0 403 Forbidden\r\n\r\n{"message": "it has active endpoints"}'


@pytest.mark.parametrize(
    ("kind", "path"), [("network", "networks"), ("volume", "volumes"), ("config", "configs")]
)
def test_a_thing_that_is_gone_already_is_removed(
    kind: Kind, path: str, engine: Engine, run: LocalRun, host: Host
) -> None:
    engine.answers[f"/v1.44/{path}/old"] = GONE
    remove(run, host, (Change(Key("mainpc", kind, "old"), "remove", (), {}),))
    assert writes(engine) == [f"DELETE /{path}/old"]


def test_a_thing_that_stays_in_use_is_told(
    engine: Engine, run: LocalRun, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "IN_USE_DEADLINE_S", 0.0)
    engine.answers["/v1.44/networks/old"] = IN_USE
    with pytest.raises(WorkFailed, match=r"network old.*it has active endpoints"):
        remove(run, host, (Change(Key("mainpc", "network", "old"), "remove", (), {}),))
