"""The whole system: machines, networks, groups and their order; checked as one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Network

from cascade.model.compose import HealthTiming
from cascade.model.host import Host, constraint_fault
from cascade.model.image import ImageSource, pin_each
from cascade.model.options import Options
from cascade.model.quantities import Whole
from cascade.model.service import GroupFile
from cascade.model.strict import InvalidFiles, Problem, Strict, twice
from cascade.model.workload import Workload, workloads_of, workloads_of_service

_SERVICE_NAME = re.compile(r"(?=.{1,63}$)[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?")


class Overlay(Strict):
    """A network across all hosts."""

    name: str
    subnet: IPv4Network | None = None
    internal: bool = False
    attachable: bool = True
    mtu: Whole | None = None


class SwarmPool(Strict):
    """Where the Swarm takes the subnets of networks that name none."""

    pool: IPv4Network
    subnet_size: Whole = 24


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
    options: Options = field(default_factory=Options)
    scaled: Mapping[str, int] = field(default_factory=dict)

    def replicas(self, workload: Workload) -> int:
        """How many replicas are wanted: the file's, or those that somebody scaled to within `x-scale`."""
        return self.scaled.get(workload.name, workload.replicas)

    @property
    def manager(self) -> Host:
        return next(host for host in self.hosts.values() if host.swarm_role == "manager")

    @property
    def group_order(self) -> tuple[str, ...]:
        return tuple(name for phase in self.settings.phases for name in phase)

    @property
    def disabled_groups(self) -> tuple[str, ...]:
        """Groups whose file says that they are not to run."""
        return tuple(name for name in self.group_order if not self.groups[name].enabled)

    @property
    def chosen_groups(self) -> tuple[str, ...]:
        """The groups that this run is about, in the order of the phases: all, unless its options say less."""
        enabled = [name for name in self.group_order if self.groups[name].enabled]
        if self.options.from_group:
            enabled = enabled[enabled.index(self.options.from_group) :]
        return tuple(name for name in enabled if name in (self.options.group or enabled))

    @property
    def partial(self) -> bool:
        """Whether the run's options choose among the groups."""
        return bool(self.options.group or self.options.from_group)

    @cached_property
    def workloads(self) -> dict[str, tuple[Workload, ...]]:
        """Those of the chosen groups, by group, in the order of the phases."""
        return {name: self.all_workloads[name] for name in self.chosen_groups}

    @cached_property
    def all_workloads(self) -> dict[str, tuple[Workload, ...]]:
        """Those of every group in a phase, whether it is to run or not."""
        return {
            name: workloads_of(self.groups[name], self.settings.health_timing) for name in self.group_order
        }

    @cached_property
    def pinned_images(self) -> dict[str, str]:
        """The exact image behind each name that a group file uses."""
        return {name: pin for name, pin in self.images.items() if isinstance(pin, str)}

    @cached_property
    def images(self) -> dict[str, str | ValueError]:
        """What each mapped image that a group file names is pinned to, or why it is not."""
        named = {service.image for group in self.groups.values() for service in group.services.values()}
        return pin_each({name: source for name, source in self.settings.images.items() if name in named})

    def phase_of(self, group: str) -> int:
        """The phase's number, from 1."""
        return next(n for n, phase in enumerate(self.settings.phases, 1) if group in phase)

    def eligible(self, workload: Workload) -> tuple[Host, ...]:
        """The hosts that a workload's constraints admit."""
        return self.meeting(workload.constraints)

    def meeting(self, constraints: Iterable[str]) -> tuple[Host, ...]:
        """The hosts that all of these constraints admit."""
        return tuple(host for host in self.hosts.values() if all(map(host.meets, constraints)))


def assemble(
    settings: FleetSettings,
    hosts: dict[str, Host],
    groups: dict[str, GroupFile],
    options: Options | None = None,
    check_images: bool = True,
) -> Fleet:
    """The fleet, if everything fits together; raises InvalidFiles with every problem.

    `check_images` is False for those who are about to pin or build them.
    """
    fleet = Fleet(settings, hosts, groups, options or Options())
    if problems := [
        *_option_problems(fleet),
        *_order_problems(fleet),
        *_host_problems(fleet),
        *(_image_problems(fleet) if check_images else ()),
        *_group_problems(fleet),
        *_port_problems(fleet),
        *_name_problems(fleet),
    ]:
        raise InvalidFiles(problems)
    return fleet


def _option_problems(fleet: Fleet) -> Iterator[Problem]:
    if fleet.options.group and fleet.options.from_group:
        yield Problem("options", "from_group", "stands beside group", "give one of the two")
    asked = {"group": fleet.options.group, "from_group": (fleet.options.from_group,)}
    enabled = [name for name in fleet.group_order if name in fleet.groups and fleet.groups[name].enabled]
    for option, names in asked.items():
        for name in filter(None, names):
            if name not in fleet.groups:
                yield Problem(
                    "options", option, f"there is no group {name}", f"the groups are {', '.join(enabled)}"
                )
            elif name not in enabled:
                fix = f"take x-enabled: false out of {fleet.groups[name].file}"
                yield Problem("options", option, f"{name} is not enabled, or in no phase", fix)


def _order_problems(fleet: Fleet) -> Iterator[Problem]:
    order = fleet.group_order
    for name in twice(order):
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
    for address in twice(addresses):
        yield Problem("inventory", "swarm_address", f"{address} belongs to more than one host")


def _group_problems(fleet: Fleet) -> Iterator[Problem]:
    known = {overlay.name for overlay in fleet.settings.networks}
    for group in fleet.groups.values():
        for name in group.services:
            yield from _service_problems(fleet, group, name)
        for key, name in sorted(group.network_names().items()):
            if name not in known:
                fix = f'add Overlay(name="{name}") to networks there'
                yield Problem(group.file, f"networks.{key}", "group_data declares no such network", fix)


def _service_problems(fleet: Fleet, group: GroupFile, name: str) -> Iterator[Problem]:
    service, path = group.services[name], f"services.{name}"
    for port in service.ports if service.agents else ():
        listening = [agent.name for agent in service.agents if agent.port == port.target]
        if len(listening) != 1:
            who = f"{', '.join(listening)} listen" if listening else "no agent listens"
            yield Problem(group.file, f"{path}.ports", f"{who} on {port.target}")
    if not service.networks and not (service.agents and all(agent.networks for agent in service.agents)):
        some = fleet.settings.networks[0].name if fleet.settings.networks else "NAME"
        fix = f"write networks: [{some}], and {some}: {{external: true}} under networks: at the top"
        yield Problem(group.file, f"{path}.networks", "it joins no network, and there is no default one", fix)
    for fault in filter(None, map(constraint_fault, service.deploy.placement.constraints)):
        yield Problem(group.file, f"{path}.deploy.placement.constraints", fault)
    try:
        workloads = workloads_of_service(group, name, fleet.settings.health_timing)
    except ValueError as error:
        yield Problem(group.file, f"{path}.deploy.resources", str(error))
        return
    for workload in workloads:
        yield from _workload_problems(fleet, group.file, workload)


def _port_problems(fleet: Fleet) -> Iterator[Problem]:
    """An ingress port is taken on every host, any other on the hosts of its service."""
    taken: dict[tuple[str, int, str], str] = {}
    for group in filter(lambda group: group.enabled, fleet.groups.values()):
        for name, service in group.services.items():
            constraints = service.deploy.placement.constraints
            if any(map(constraint_fault, constraints)):
                continue
            for number, port in enumerate(service.ports):
                ingress = port.mode == "ingress" and not service.why_container
                hosts = fleet.hosts.values() if ingress else fleet.meeting(constraints)
                spots = [(host.name, port.published, port.protocol) for host in hosts]
                for other in sorted({taken[spot] for spot in spots if spot in taken}):
                    path = f"services.{name}.ports[{number}]"
                    yield Problem(group.file, path, f"{other} publishes {port.published}/{port.protocol} too")
                taken |= dict.fromkeys(spots, f"{name} of {group.name}")


def _name_problems(fleet: Fleet) -> Iterator[Problem]:
    """A plain service answers to its bare name, so on a network that groups share only one may have it."""
    answering: dict[tuple[str, str], list[tuple[GroupFile, str, bool]]] = {}
    for group in filter(lambda group: group.enabled, fleet.groups.values()):
        for path, network, name, bare in group.names_on_networks():
            answering.setdefault((network, name.lower()), []).append((group, path, bare))
    for (network, name), found in answering.items():
        first, first_path, _ = found[0]
        for group, path, _ in found[1:]:
            if group is not first and any(bare for *_, bare in found):
                who = f"{first_path} of {first.name}"
                fix = "rename one of the two, or give one of the groups a network of its own"
                yield Problem(group.file, path, f"{who} answers to {name} on {network} too", fix)


def _image_problems(fleet: Fleet) -> Iterator[Problem]:
    """A group that is not enabled needs no images yet."""
    used = set()
    for group in filter(lambda group: group.enabled, fleet.groups.values()):
        for name, service in group.services.items():
            used.add(service.image)
            if service.image not in fleet.settings.images:
                reason = f"{service.image} is mapped to no image: see `images` in group_data"
                yield Problem(group.file, f"services.{name}.image", reason)
    for name, pin in fleet.images.items():
        if name in used and isinstance(pin, ValueError):
            yield Problem("group_data", f"images[{name!r}]", str(pin))


def _workload_problems(fleet: Fleet, file: str, workload: Workload) -> Iterator[Problem]:
    path = f"services.{workload.agent}"
    if _SERVICE_NAME.fullmatch(workload.name) is None:
        rule = "is not up to 63 letters, digits, - and _ that end in a letter or digit"
        yield Problem(file, path, f"the name {workload.name} {rule}")
    if any(map(constraint_fault, workload.constraints)):
        return
    hosts = fleet.eligible(workload)
    if fleet.hosts and not hosts:
        yield Problem(file, path, f"no host meets {', '.join(workload.constraints)}")
    most = workload.service.deploy.placement.max_replicas_per_node * len(hosts)
    if most and workload.replicas > most:
        where, fits = f"{path}.deploy.placement.max_replicas_per_node", f"its {len(hosts)} hosts"
        reason = f"{workload.replicas} replicas do not fit on {fits}, which take {most}"
        yield Problem(file, where, reason, "write more, or fewer replicas")
    if workload.kind == "container" and (len(hosts) > 1 or workload.replicas != 1):
        yield Problem(file, path, f"needs {workload.why_container}, so exactly one host and one replica")
