"""What runs and is to run no longer: the removal of agents, in the reverse of the order they start in."""

from __future__ import annotations

from collections.abc import Collection

from cascade.model.fleet import Fleet
from cascade.planning.diff import Change
from cascade.planning.observed import Observed
from cascade.planning.resource import Fields, Key
from cascade.planning.specs import LABEL_GROUP, LABEL_SYSTEM
from cascade.planning.waves import rollout_order

REMOVABLE = ("service", "container")


def removals(fleet: Fleet, observed: Observed, groups: Collection[str]) -> tuple[Change, ...]:
    """The removal of every service and host container of these groups, the last to start first.

    What lies on hosts that were not read stays, and so do services that only such hosts may run. What no
    file names any more goes before the rest of its group.
    """
    kept = waiting(fleet, observed)
    found = [
        key
        for key, fields in observed.resources.items()
        if key.kind in REMOVABLE and group_of(fleet, fields) in groups and key.name not in kept
    ]
    waves = rollout_order(fleet, fleet.group_order)
    rank = {workload.name: number for number, wave in enumerate(waves) for workload in wave.workloads}
    last = {wave.group: number for number, wave in enumerate(waves)}

    def order(key: Key) -> tuple[int, str, int, Key]:
        group = str(group_of(fleet, observed.resources[key]))
        return -last.get(group, len(waves)), group, -rank.get(key.name, len(waves)), key

    return tuple(Change(key, "remove", (), {}) for key in sorted(found, key=order))


def group_of(fleet: Fleet, fields: Fields) -> str | None:
    """The group in the labels of a service or container of this system; None for anybody else's."""
    labels = fields.get("Labels") or {}
    return labels.get(LABEL_GROUP) if labels.get(LABEL_SYSTEM) == fleet.settings.system else None


def waiting(fleet: Fleet, observed: Observed) -> dict[str, tuple[str, ...]]:
    """The workloads that wait for hosts which were not read, with those hosts."""
    return {
        workload.name: hosts
        for workloads in fleet.all_workloads.values()
        for workload in workloads
        if (hosts := tuple(host.name for host in fleet.eligible(workload)))
        and observed.unread.issuperset(hosts)
    }
