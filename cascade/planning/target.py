"""What a fleet is to be, wherever that is written: in the files, in a release, in a saved plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from cascade.model.fleet import Fleet
from cascade.planning.desired import DAEMON_SETTINGS, Desired, desired, things_of
from cascade.planning.resource import Fields, Key, Resources
from cascade.planning.specs import digest
from cascade.planning.vram import gpu_faults
from cascade.planning.waves import Member, Wave, rollout_order

# What only the deploying machine has: where an image's archive is, what configs hold, and secrets.
_LOCAL = ("archive", "data", "stored")


@dataclass(frozen=True)
class Target:
    """Every resource, in the order in which a bare fleet is built, and the waves of the rollout.

    `origin` says where it is written. `order` has the waves of every group that is known, whether it is to
    run or not, and `known` every resource; `stopped_groups` are those that are not to run any more.
    An `exact` target is of one moment: a release. `unclear` names what rests on GPUs of `unread_gpus`, hosts
    that nobody has read yet, so that it is in no `resources`; `faults` are why what is asked of GPUs cannot
    be.
    """

    origin: str
    system: str
    manager: str
    hosts: tuple[str, ...]
    resources: tuple[Desired, ...]
    waves: tuple[Wave, ...]
    order: tuple[Wave, ...]
    known: frozenset[Key]
    stopped_groups: tuple[str, ...] = ()
    partial: bool = False
    exact: bool = False
    notes: tuple[str, ...] = field(default=())
    unclear: tuple[Desired, ...] = ()
    unread_gpus: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def named(self) -> tuple[Desired, ...]:
        """Everything that is to be read, whether it is known already what it is to be or not."""
        return (*self.resources, *self.unclear)

    @cached_property
    def wanted(self) -> Resources:
        """What every resource is to be, by its key."""
        return {item.key: item.fields for item in self.resources}

    @property
    def members(self) -> Iterator[Member]:
        """Every agent that is to run, in the order of the rollout."""
        return (member for wave in self.waves for member in wave.members)

    @cached_property
    def digest(self) -> str:
        """A short name for exactly these resources and agents, in whatever order they are made."""
        agents = {_name(member.key): asdict(member) for member in self.members}
        resources = {_name(key): recorded(fields) for key, fields in self.wanted.items()}
        return digest({"agents": agents, "resources": resources})


def _name(key: Key) -> str:
    return " ".join((key.host, key.kind, key.name))


def recorded(fields: Fields) -> dict[str, Any]:
    """A resource's fields without what only the deploying machine has."""
    return {name: value for name, value in fields.items() if name not in _LOCAL}


def target_of(fleet: Fleet) -> Target:
    """What the files say, for the groups that the run is about."""
    waves, order = rollout_order(fleet), rollout_order(fleet, fleet.group_order)
    resources, unread = desired(fleet, waves), _unread_gpus(fleet)
    resting = {*_resting_on_gpus(fleet, order)}
    return Target(
        origin="the files",
        system=fleet.settings.system,
        manager=fleet.manager.name,
        hosts=tuple(fleet.hosts),
        resources=tuple(item for item in resources if item.key not in resting),
        waves=waves,
        order=order,
        known=frozenset(things_of(fleet, order)),
        stopped_groups=() if fleet.partial else fleet.disabled_groups,
        partial=fleet.partial,
        notes=tuple(_unpublished(fleet)),
        unclear=tuple(replace(item, fields={}) for item in resources if item.key in resting),
        unread_gpus=unread,
        faults=tuple(gpu_faults(fleet)),
    )


def _unread_gpus(fleet: Fleet) -> tuple[str, ...]:
    return tuple(host.name for host in fleet.hosts.values() if host.has_gpu and host.name not in fleet.gpus)


def _resting_on_gpus(fleet: Fleet, order: tuple[Wave, ...]) -> Iterator[Key]:
    """What nobody can say before the GPUs of its host are read."""
    yield from map(_settings, _unread_gpus(fleet))
    for member in (member for wave in order for member in wave.members):
        if (shared := fleet.sharing.get(member.name)) and shared.gpu is None:
            yield member.key


def _settings(host: str) -> Key:
    return Key(host, "daemon-settings", DAEMON_SETTINGS)


def _unpublished(fleet: Fleet) -> Iterator[str]:
    for workload in (workload for workloads in fleet.workloads.values() for workload in workloads):
        without = sorted({port.published for port in workload.ports if port.mode == "ingress"})
        if without and any("ipvs" in host.absent for host in fleet.eligible(workload)):
            ports = ", ".join(map(str, without))
            yield f"{workload.name}: port {ports} is not published: group_data says there is no IPVS"
