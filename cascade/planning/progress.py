"""How far a run came that ended early."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from cascade.planning.plan import Plan
from cascade.planning.resource import Key
from cascade.planning.steps import Gate, Step


def where_it_stands(plan: Plan, ended: Collection[str], begun: Collection[Key]) -> Iterator[str]:
    """Which groups are done, which are not, and which agents were changed of those in between.

    `ended` names the steps that came to their end, `begun` the agents whose change was begun.
    """
    yield from _beside_the_groups(plan, ended)
    groups = _by_group(plan)
    done = [group for group, steps in groups.items() if all(step.name in ended for step in steps)]
    if done:
        yield f"done: {', '.join(done)}"
    untouched = []
    for group, steps in groups.items():
        changed = [name for name, key in _agents(steps) if key in begun]
        waiting = [name for name, key in _agents(steps) if key not in begun]
        if group in done:
            continue
        if not changed and not any(step.name in ended for step in steps):
            untouched.append(group)
            continue
        rest = f"; not touched yet: {', '.join(waiting)}" if waiting else ""
        yield f"not finished: {group}: changed: {', '.join(changed) or 'nothing'}{rest}"
    if untouched:
        yield f"not begun: {', '.join(untouched)}"


def _beside_the_groups(plan: Plan, ended: Collection[str]) -> Iterator[str]:
    """The hosts before the groups, and what comes when they are done."""
    steps = [step for stage, found in plan.steps.items() if stage != "rollout" for step in found]
    left = [step.name for step in steps if step.name not in ended]
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        ended_steps = f"{len(steps) - len(left)} of {len(steps)}"
        yield f"{ended_steps} steps beside the groups are done; left: {left[0]}{more}"


def _by_group(plan: Plan) -> dict[str, list[Step]]:
    """The steps of the rollout, which all begin with the name of their group."""
    found: dict[str, list[Step]] = {}
    for step in plan.steps.get("rollout", ()):
        work = next(iter(step.work.values()))
        group = work.wave.group if isinstance(work, Gate) else step.name.partition(":")[0].partition(" ")[0]
        found.setdefault(group, []).append(step)
    return found


def _agents(steps: Collection[Step]) -> Iterator[tuple[str, Key]]:
    """The agents that these steps change, by the part of their names that tells them apart."""
    for step in steps:
        for work in step.work.values():
            for change in work if isinstance(work, tuple) else ():
                yield change.key.name.partition("_")[2] or change.key.name, change.key
