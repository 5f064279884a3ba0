"""Where a run stands that ended early."""

from __future__ import annotations

from cascade.closing import again
from cascade.model.fleet import Fleet
from cascade.planning.plan import Plan, make_plan
from cascade.planning.progress import where_it_stands
from cascade.planning.target import target_of
from tests.operations.conftest import Snapshots


def names(plan: Plan, *stages: str) -> list[str]:
    return [step.name for stage, steps in plan.steps.items() if stage in stages for step in steps]


def test_a_run_that_ended_before_the_groups_says_how_far_the_hosts_are(bare: Snapshots, fleet: Fleet) -> None:
    plan = make_plan(target_of(fleet), bare)
    first, second, *_ = names(plan, "system")
    count = sum(len(steps) for stage, steps in plan.steps.items() if stage != "rollout")
    hosts, groups = where_it_stands(plan, {first}, frozenset())
    assert hosts == f"1 of {count} steps beside the groups are done; left: {second} and {count - 2} more"
    assert groups == f"not begun: {', '.join(fleet.group_order)}"


def test_groups_are_done_or_half_changed_or_not_begun(bare: Snapshots, fleet: Fleet) -> None:
    plan = make_plan(target_of(fleet), bare)
    before = [stage for stage in plan.steps if stage not in ("rollout", "release")]
    rollout = plan.steps["rollout"]
    core, engine, *rest = fleet.group_order
    of_core = [step.name for step in rollout if step.name.startswith(f"{core} ")]
    first, second, *_ = [
        work[0].key
        for step in rollout
        if step.name.startswith(f"{engine} ")
        for work in step.work.values()
        if isinstance(work, tuple)
    ]
    ended = {*names(plan, *before), *of_core}
    release, done, half, untouched = where_it_stands(plan, ended, {first})
    assert release.endswith("steps beside the groups are done; left: record release 1")
    assert done == f"done: {core}"
    assert half.startswith(
        f"not finished: {engine}: changed: {first.name.partition('_')[2]}; not touched yet: "
    )
    assert second.name.partition("_")[2] in half
    assert untouched == f"not begun: {', '.join(rest)}"


def test_the_command_that_goes_on_is_about_the_same() -> None:
    assert again("inventories/lab.py", (), {}, asking=True) == "pyinfra inventories/lab.py deploy.py"
    options = {"group": ("a", "b"), "prune": True, "rollback": "3"}
    assert again("my lab.py", ["pc2"], options, asking=False) == (
        "pyinfra -y --limit pc2 --data group=a,b --data prune=True --data rollback=3 'my lab.py' deploy.py"
    )
