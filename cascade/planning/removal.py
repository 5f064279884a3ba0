"""What runs and is to run no longer: the removal of agents, in the reverse of the order they start in."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from cascade.planning.diff import Change
from cascade.planning.observed import Observed
from cascade.planning.resource import Fields, Key, Kind
from cascade.planning.specs import LABEL_GROUP
from cascade.planning.target import Target

REMOVABLE: tuple[Kind, ...] = ("service", "container")
HELD: tuple[Kind, ...] = ("network", "config")
PRUNABLE: tuple[Kind, ...] = (*REMOVABLE, "network", "volume", "config", "secret")


def agents_of(target: Target, observed: Observed, groups: Collection[str]) -> tuple[Key, ...]:
    """Every service and host container of these groups that can be removed now.

    What lies on hosts that were not read stays, and so do services that only such hosts may run.
    """
    kept = waiting(target, observed)
    return tuple(
        key
        for key in observed.owned
        if key.kind in REMOVABLE and group_of(observed, key) in groups and key.name not in kept
    )


def removals(target: Target, observed: Observed, keys: Iterable[Key]) -> tuple[Change, ...]:
    """The removal of these agents, the last to start first.

    What the target does not name goes before the rest of its group.
    """
    waves = target.order
    rank = {member.name: number for number, wave in enumerate(waves) for member in wave.members}
    last = {wave.group: number for number, wave in enumerate(waves)}

    def order(key: Key) -> tuple[int, str, int, Key]:
        group = str(group_of(observed, key))
        return -last.get(group, len(waves)), group, -rank.get(key.name, len(waves)), key

    return tuple(removal(observed, key) for key in sorted(keys, key=order))


def held_by(manager: str, fields: Fields) -> Iterator[Key]:
    """The networks, configs and secrets that an agent holds, so that they cannot go while it is there."""
    template = fields.get("TaskTemplate", {})
    networks = [item["Target"] for item in template.get("Networks") or ()]
    networks += fields.get("NetworkingConfig", {}).get("EndpointsConfig", {})
    yield from (Key(manager, "network", name) for name in networks)
    configs = template.get("ContainerSpec", {}).get("Configs") or ()
    yield from (Key(manager, "config", config["ConfigName"]) for config in configs)
    secrets = template.get("ContainerSpec", {}).get("Secrets") or ()
    yield from (Key(manager, "secret", secret["SecretName"]) for secret in secrets)


def removal(observed: Observed, key: Key) -> Change:
    """The removal of one thing."""
    return Change(key, "remove", (), {}, observed.resources[key])


def group_of(observed: Observed, key: Key) -> str | None:
    """The group in the labels of a thing of this system; None for anybody else's."""
    return observed.owned.get(key, {}).get(LABEL_GROUP)


def unwanted(target: Target, observed: Observed) -> Iterator[Key]:
    """What carries the labels of this system and no file, and no release that is kept, names.

    Nothing while the manager, which keeps the releases, cannot say what they need.
    """
    if target.partial or observed.silent(target.manager):
        return
    named = target.known | observed.needed | observed.previous
    yield from (key for key in observed.owned if key not in named)


def waiting(target: Target, observed: Observed) -> dict[str, tuple[str, ...]]:
    """The workloads that wait for hosts which were not read, with those hosts."""
    return {
        member.name: member.hosts
        for wave in target.order
        for member in wave.members
        if member.hosts and observed.left_out.issuperset(member.hosts)
    }
