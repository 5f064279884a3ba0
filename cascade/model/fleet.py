"""The whole system: machines, networks, groups and their order; checked as one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network

from cascade.model.compose import HealthTiming
from cascade.model.host import Host, constraint_fault
from cascade.model.image import ImageSource
from cascade.model.service import GroupFile
from cascade.model.strict import InvalidFiles, Problem, Strict
from cascade.model.workload import Workload, workloads_of


class Overlay(Strict):
    """A network across all hosts."""

    name: str
    subnet: IPv4Network | None = None
    internal: bool = False
    attachable: bool = True
    mtu: int | None = None


class SwarmPool(Strict):
    """Where the Swarm takes the subnets of networks that name none."""

    pool: IPv4Network
    subnet_size: int = 24


class FleetSettings(Strict):
    """What group_data says about the system as a whole."""

    system: str
    phases: tuple[tuple[str, ...], ...]
    networks: tuple[Overlay, ...]
    swarm_pool: SwarmPool
    images: dict[str, ImageSource]
    health_timing: HealthTiming = HealthTiming()


@dataclass(frozen=True)
class Fleet:
    """Settings, hosts and groups that fit together; made by `assemble`."""

    settings: FleetSettings
    hosts: dict[str, Host]
    groups: dict[str, GroupFile]

    @property
    def manager(self) -> Host:
        return next(host for host in self.hosts.values() if host.swarm_role == "manager")

    @property
    def group_order(self) -> tuple[str, ...]:
        return tuple(name for phase in self.settings.phases for name in phase)

    @cached_property
    def workloads(self) -> dict[str, tuple[Workload, ...]]:
        """By group, in the order of the phases."""
        return {
            name: workloads_of(self.groups[name], self.settings.health_timing) for name in self.group_order
        }

    @cached_property
    def pinned_images(self) -> dict[str, str]:
        """The exact image behind each name that a group file uses."""
        return {name: source.pinned for name, source in self.settings.images.items()}

    def phase_of(self, group: str) -> int:
        """The phase's number, from 1."""
        return next(n for n, phase in enumerate(self.settings.phases, 1) if group in phase)

    def eligible(self, workload: Workload) -> tuple[Host, ...]:
        """The hosts that a workload's constraints admit."""
        return tuple(host for host in self.hosts.values() if all(map(host.meets, workload.constraints)))


def assemble(settings: FleetSettings, hosts: dict[str, Host], groups: dict[str, GroupFile]) -> Fleet:
    """The fleet, if everything fits together; raises InvalidFiles with every problem."""
    fleet = Fleet(settings, hosts, groups)
    problems = [*_order_problems(fleet), *_host_problems(fleet)]
    if not problems:
        problems = list(_group_problems(fleet))
    if problems:
        raise InvalidFiles(problems)
    return fleet


def _order_problems(fleet: Fleet) -> Iterator[Problem]:
    order = fleet.group_order
    for name in sorted({name for name in order if order.count(name) > 1}):
        yield Problem("group_data", "phases", f"{name} stands twice")
    for name in sorted(set(order) - fleet.groups.keys()):
        yield Problem("group_data", "phases", f"there is no group file for {name}")
    for name in sorted(fleet.groups.keys() - set(order)):
        yield Problem("group_data", "phases", f"the group {name} has a file but stands in no phase")


def _host_problems(fleet: Fleet) -> Iterator[Problem]:
    managers = [host.name for host in fleet.hosts.values() if host.swarm_role == "manager"]
    if len(managers) != 1:
        yield Problem(
            "group_data", "swarm_role", f"exactly one host is the manager, here {managers or 'none'}"
        )
    addresses = [host.swarm_address for host in fleet.hosts.values()]
    for address in sorted({address for address in addresses if addresses.count(address) > 1}):
        yield Problem("inventory", "swarm_address", f"{address} belongs to more than one host")


def _group_problems(fleet: Fleet) -> Iterator[Problem]:
    for group in fleet.groups.values():
        file = f"{group.name}.yaml"
        for service_name, service in group.services.items():
            path = f"services.{service_name}"
            yield from _image_problems(fleet, file, path, service.image)
            for fault in filter(None, map(constraint_fault, service.deploy.placement.constraints)):
                yield Problem(file, f"{path}.deploy.placement.constraints", fault)
            listening = {agent.port for agent in service.agents}
            for port in service.ports if service.agents else ():
                if port.target not in listening:
                    yield Problem(file, f"{path}.ports", f"no agent listens on {port.target}")
        known = {overlay.name for overlay in fleet.settings.networks}
        for name in sorted(group.networks.keys() - known):
            yield Problem(file, f"networks.{name}", "group_data declares no such network")
        yield from _workload_problems(fleet, group)


def _image_problems(fleet: Fleet, file: str, path: str, image: str) -> Iterator[Problem]:
    source = fleet.settings.images.get(image)
    if source is None:
        yield Problem(file, f"{path}.image", f"{image} is mapped to no image: see `images` in group_data")
        return
    try:
        assert source.pinned
    except ValueError as error:
        yield Problem("group_data", f"images[{image!r}]", str(error))


def _workload_problems(fleet: Fleet, group: GroupFile) -> Iterator[Problem]:
    file = f"{group.name}.yaml"
    try:
        workloads = workloads_of(group, fleet.settings.health_timing)
    except ValueError as error:
        yield Problem(file, "services", str(error))
        return
    for workload in workloads:
        path = f"services.{workload.agent}"
        if any(map(constraint_fault, workload.constraints)):
            continue
        hosts = fleet.eligible(workload)
        if not hosts:
            yield Problem(file, path, f"no host meets {', '.join(workload.constraints)}")
        if workload.kind == "container" and (len(hosts) > 1 or workload.replicas != 1):
            yield Problem(file, path, f"needs {workload.why_container}, so exactly one host and one replica")
