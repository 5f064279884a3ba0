"""What differs on the hosts from what they are to be, and whether it may be repaired without a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cascade.planning.diff import GPU_LOST, Action, Change
from cascade.planning.plan import Plan
from cascade.planning.removal import REMOVABLE, held_by
from cascade.planning.resource import Key
from cascade.planning.shown import shown_fields
from cascade.planning.target import Target
from cascade.planning.waves import Member

Repair = Literal["automatic", "approval", "none"]

ENGINE_UNIT = "docker.service"
# Their installation starts the engine anew; the command line and its plugins do not.
ENGINE_PROGRAMS = frozenset({"docker.io", "docker-ce", "containerd.io"})
# Swarm changes these of a service while its tasks run on.
_BESIDE_THE_TASKS = ("Mode", "UpdateConfig", "RollbackConfig", "Labels", "Name")


@dataclass(frozen=True)
class Difference:
    """One field that differs. A thing that is missing, or not to be there, has one with an empty field.

    `repair` is automatic, or takes a person's approval because it restarts a persistent agent or one with a
    GPU, or is none because Cascade does not do it by itself.
    """

    host: str
    kind: str
    name: str
    group: str | None
    agent: str | None
    action: Action
    field: str
    desired: Any
    observed: Any
    repair: Repair


@dataclass(frozen=True)
class Restart:
    """An agent that runs and is going to be stopped and started again, and why."""

    member: Member
    why: str


def differences(plan: Plan) -> tuple[Difference, ...]:
    """Every difference that a plan found, what it spares included, by host, kind and name."""
    found = sorted((*plan.changes, *plan.spared), key=lambda change: change.key)
    repair, members = repairs(plan), members_by_key(plan.target)
    return tuple(
        Difference(
            host=change.key.host,
            kind=change.key.kind,
            name=change.key.name,
            group=member.group if (member := members.get(change.key)) else None,
            agent=member.agent if member else None,
            action=change.action,
            field=field,
            desired=desired,
            observed=observed,
            repair=repair[change.key],
        )
        for change in found
        for field, desired, observed in _values(change)
    )


def members_by_key(target: Target) -> dict[Key, Member]:
    """Every agent that the target knows, to run or not."""
    return {member.key: member for wave in target.order for member in wave.members}


def _values(change: Change) -> Iterator[tuple[str, Any, Any]]:
    """Each field with what is desired and what is there."""
    if change.action == "create":
        yield "", "present", None
    elif change.action == "remove":
        yield "", None, "present"
    for field in shown_fields(change):
        yield field.path, field.desired, field.observed


def repairs(plan: Plan) -> dict[Key, Repair]:
    """For each change of a plan, what it spares included, whether it may be made without a person.

    What has to be replaced takes as much as the agents that hold it.
    """
    changes, members = (*plan.changes, *plan.spared), members_by_key(plan.target)
    found = {change.key: _repair(plan, change, members) for change in changes}
    held = {
        key
        for change in changes
        if found[change.key] == "approval" and change.action == "replace"
        for key in held_by(plan.target.manager, change.observed or {})
    }
    return {key: "approval" if key in held and found[key] == "automatic" else found[key] for key in found}


def _repair(plan: Plan, change: Change, members: Mapping[Key, Member]) -> Repair:
    if change.key in plan.refusals:
        return "none"
    member = members.get(change.key)
    if member and member.precious and restarts_agent(change) and not _without_its_gpu(member, change):
        return "approval"
    shaken = restarts_engine(change) and _precious_on(plan, change.key.host)
    return "approval" if shaken else "automatic"


def _without_its_gpu(member: Member, change: Change) -> bool:
    """Whether an agent is asked for only because of a GPU that it has lost, so that it loses nothing more."""
    return member.precious == "GPU" and [field.path for field in change.fields] == [GPU_LOST]


def spared_by(plan: Plan, consent: Literal["automatic", "all"]) -> frozenset[Key]:
    """What a repair leaves as it is: what Cascade does not do, and without `all` what takes a person.

    What an agent holds that is left as it is stays too.
    """
    allowed = ("automatic",) if consent == "automatic" else ("automatic", "approval")
    spared = {key for key, repair in repairs(plan).items() if repair not in allowed}
    held = {
        key
        for change in plan.changes
        if change.key in spared and change.observed
        for key in held_by(plan.target.manager, change.observed)
    }
    replaced = {change.key for change in plan.changes if change.action == "replace"}
    return frozenset(spared | (held & replaced))


def _precious_on(plan: Plan, host: str) -> bool:
    return any(member.precious and host in member.hosts for member in plan.target.members)


def restarts_engine(change: Change) -> bool:
    """Whether this change stops or starts a Docker engine, and all its containers with it."""
    kind, name = change.key.kind, change.key.name
    if kind == "unit":
        return name == ENGINE_UNIT and _says(change, "active")
    return kind == "daemon-settings" or (kind == "package" and name in ENGINE_PROGRAMS)


def _says(change: Change, field: str) -> bool:
    """Whether a change is about this field, or about all of a thing."""
    return not change.fields or any(found.path == field for found in change.fields)


def restarts_agent(change: Change) -> bool:
    """Whether an agent that runs is stopped by a change of itself; one that is only started is not."""
    if change.action == "replace":
        return change.key.kind in REMOVABLE
    return change.key.kind == "service" and change.action == "update" and any(_of_tasks(change))


def _of_tasks(change: Change) -> Iterator[str]:
    """The fields for which Swarm puts new tasks in the place of those that run."""
    for field in change.fields:
        if field.path.partition(".")[0] not in _BESIDE_THE_TASKS:
            yield field.path


def restarts(plan: Plan) -> tuple[Restart, ...]:
    """Every agent that is running and that a plan restarts, in the order of the rollout."""
    changes = {change.key: change for change in plan.changes}
    engines = set(_restarted_engines(plan.changes))
    found = []
    for status in plan.agents:
        own = changes.get(status.member.key)
        shaken = sorted(engines.intersection(status.nodes))
        if own and restarts_agent(own):
            why = "it is replaced" if own.action == "replace" else "its tasks change"
            found.append(Restart(status.member, why))
        elif shaken:
            found.append(Restart(status.member, f"the engine of {', '.join(shaken)} restarts"))
    return tuple(found)


def _restarted_engines(changes: Iterable[Change]) -> Iterator[str]:
    return (change.key.host for change in changes if restarts_engine(change))


def counts(changes: Iterable[Change]) -> dict[str, int]:
    """How many things a plan adds, changes, replaces and removes."""
    actions = [change.action for change in changes]
    words = {"add": "create", "change": "update", "replace": "replace", "remove": "remove"}
    return {word: actions.count(action) for word, action in words.items()}  # type: ignore[arg-type]
