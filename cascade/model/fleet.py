"""The whole system: machines, networks, groups and their order; checked as one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

from pydantic import AfterValidator, Field

from cascade.model.agent import Agent
from cascade.model.compose import HealthTiming
from cascade.model.daemon import daemon_faults
from cascade.model.gpu import GPU_SETTINGS, Gpu, Gpus, GpuUse
from cascade.model.host import CODENAMES, Host, constraint_fault
from cascade.model.image import ImageSource, pin_each
from cascade.model.loader import Reading
from cascade.model.names import check_dns_name, fits
from cascade.model.networks import SETTINGS, name_problems, size_problems, subnet_problems
from cascade.model.networks import Overlay as Overlay
from cascade.model.networks import SwarmPool as SwarmPool
from cascade.model.options import Options
from cascade.model.secrets import UNKNOWN_DIGITS, Secret, longest_name, swarm_prefix
from cascade.model.service import GroupFile, Service
from cascade.model.strict import InvalidFiles, Problem, Strict, path_of, twice
from cascade.model.vram import SharedGpu
from cascade.model.weaker import hardening_problems
from cascade.model.wording import shown
from cascade.model.workload import Workload, workloads_of, workloads_of_service

_SERVICE_NAME = re.compile(r"(?=.{1,63}$)[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?")
_BESIDE = {"codename": ("distribution",)}
_SWARMS_OWN = ((2377, "tcp"), (7946, "tcp"), (7946, "udp"), (4789, "udp"))
_check_system = fits(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", "is no part of a DNS name", "cascade")


def _check_command(argv: tuple[str, ...]) -> tuple[str, ...]:
    if argv and (not argv[0] or any("\0" in word for word in argv)):
        raise ValueError(f'{shown(argv[0])} is no command: write one like ("hooks/notify", "--drift")')
    return argv


class FleetSettings(Strict):
    """What group_data says about the system as a whole.

    `monitoring` names the agent that reads the `/metrics` of the others; it changes nothing that is deployed.
    """

    system: Annotated[str, AfterValidator(_check_system)]
    phases: tuple[tuple[str, ...], ...]
    networks: tuple[Overlay, ...]
    swarm_pool: SwarmPool
    images: dict[str, ImageSource]
    health_timing: HealthTiming = HealthTiming()
    monitoring: str | None = None
    releases_kept: Annotated[int, Field(ge=2, le=1000)] = 10
    on_drift: Annotated[tuple[str, ...], AfterValidator(_check_command)] = ()
    secrets: Annotated[str, Field(min_length=1)] = "group_data/secrets"
    identity: Annotated[str, Field(min_length=1)] = "~/.config/cascade/identity"


@dataclass(frozen=True)
class Fleet:
    """Settings, hosts and groups that fit together; made by `assemble`.

    `digits` are those of the secrets whose values are open, by their names in the store; `gpus` those that
    each host with GPUs was read to have; `decided` which optional agents have the GPU (taken) and which do
    not (left), by their workloads' names, as the last release has it.
    """

    settings: FleetSettings
    hosts: dict[str, Host]
    groups: dict[str, GroupFile]
    options: Options = field(default_factory=Options)
    digits: Mapping[str, str] = field(default_factory=dict)
    gpus: Gpus = field(default_factory=dict)
    decided: Mapping[str, str] = field(default_factory=dict)

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
    def shared_gpus(self) -> tuple[SharedGpu, ...]:
        """Every service that shares a GPU of a host, in the order of the phases."""
        return tuple(
            SharedGpu(self.groups[name], service.gpu, host, self._gpu(host, service.gpu), workloads, decided)
            for name, found in self.all_workloads.items()
            for service in self.groups[name].services.values()
            if service.gpu
            for workloads in (tuple(one for one in found if one.service is service),)
            for host in self.meeting(service.deploy.placement.constraints)
            if host.has_gpu
            for decided in ({} if self.options.reschedule else self.decided,)
        )

    def _gpu(self, host: Host, use: GpuUse) -> Gpu | None:
        gpus = self.gpus.get(host.name, ())
        return next((gpu for gpu in gpus if gpu.index == use.device), None)

    @cached_property
    def sharing(self) -> dict[str, SharedGpu]:
        """The GPU that a workload shares, by its name, for those that need one or could use one."""
        return {one.name: shared for shared in self.shared_gpus for one in shared.workloads if one.gpu_access}

    @cached_property
    def secrets(self) -> dict[str, Secret]:
        """Every secret that a group file declares, by its name in the store."""
        found: dict[str, Secret] = {}
        for group in self.groups.values():
            for secret in group.stored_secrets.values():
                if secret.generate or secret.name not in found:
                    found[secret.name] = secret
        return found

    def swarm_secret(self, name: str) -> str:
        """The name in the Swarm of a value of the store, with asterisks while it is not open."""
        digits = self.digits.get(name, UNKNOWN_DIGITS)
        return f"{swarm_prefix(self.settings.system, name)}-{digits}"

    @property
    def services(self) -> Iterator[tuple[GroupFile, str, Service]]:
        """Every service with its group and its key."""
        for group in self.groups.values():
            for name, service in group.services.items():
                yield group, name, service

    @cached_property
    def readable_workloads(self) -> list[tuple[GroupFile, str, Workload]]:
        """Those of every service whose budget fits, with its group and its key."""
        found = []
        for group, name, _ in self.services:
            with suppress(ValueError):
                timing = self.settings.health_timing
                found += [(group, name, workload) for workload in workloads_of_service(group, name, timing)]
        return found

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

    def written_volumes(self, workload: Workload) -> list[tuple[str, str]]:
        """The hosts and names of the volumes that a workload may write, if its user is told by number."""
        names = [mount.source for mount in workload.mounts if mount.type == "volume" and not mount.read_only]
        return [(host.name, name) for host in self.eligible(workload) for name in names if workload.owner]

    @cached_property
    def volume_owners(self) -> dict[tuple[str, str], str]:
        """Who writes each volume, by host and name; none where nobody does, or nobody knows."""
        workloads = (workload for found in self.all_workloads.values() for workload in found)
        return {place: one.owner for one in workloads for place in self.written_volumes(one)}

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
    if problems := list(misfits(fleet, Doubts(frozenset() if check_images else frozenset({"images"})))):
        raise InvalidFiles(problems)
    return fleet


@dataclass(frozen=True)
class Doubts:
    """What could not be read: names of group_data, keys of group files, and names of single hosts."""

    names: frozenset[str] = frozenset()
    readings: Mapping[str, Reading] = field(default_factory=dict)
    hosts: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def cover(self, problem: Problem) -> bool:
        """Whether a problem may only follow from what could not be read, and is reported already."""
        if problem.file == SETTINGS:
            return any(_about(problem.path, host, names) for host, names in self.hosts.items())
        reading = self.readings.get(problem.file)
        return reading is not None and reading.doubts(problem.path)


def _about(path: str, host: str, names: Set[str]) -> bool:
    """Whether a place is one of these of a host, or rests on one."""
    key = path.removeprefix(f"{host}.").partition(".")[0].partition("[")[0]
    return path.startswith(f"{host}.") and bool({key, *_BESIDE.get(key, ())} & names)


def misfits(fleet: Fleet, doubts: Doubts) -> Iterator[Problem]:
    """Everything that is right alone and does not fit together, as far as it could be read."""
    for check, rests_on in _CHECKS:
        if not doubts.names & set(rests_on.split()):
            yield from (problem for problem in check(fleet) if not doubts.cover(problem))


def _option_problems(fleet: Fleet) -> Iterator[Problem]:
    if fleet.options.group and fleet.options.from_group:
        yield Problem("options", "from_group", "stands beside group", "give one of the two")
    asked = {"group": fleet.options.group, "from_group": (fleet.options.from_group,)}
    enabled = [name for name in fleet.group_order if name in fleet.groups and fleet.groups[name].enabled]
    for option, names in asked.items():
        for name in filter(None, names):
            if name not in fleet.groups:
                fix = f"the groups are {', '.join(enabled)}"
                yield Problem("options", option, f"there is no group {name}", fix)
            elif name not in enabled:
                fix = f"take x-enabled: false out of {fleet.groups[name].file}"
                yield Problem("options", option, f"{name} is not enabled, or in no phase", fix)


def _order_problems(fleet: Fleet) -> Iterator[Problem]:
    order = fleet.group_order
    for name in twice(order):
        yield Problem(SETTINGS, "phases", f"{name} stands twice", "remove one of the two")
    for name in sorted(fleet.groups.keys() - set(order)):
        reason = f"the group {name} has a file, {fleet.groups[name].file}, but stands in no phase"
        yield Problem(SETTINGS, "phases", reason, f'add "{name}" to a phase, or remove the file')


def _missing_groups(fleet: Fleet) -> Iterator[Problem]:
    for name in sorted(set(fleet.group_order) - fleet.groups.keys()):
        fix = f"remove it, or write a file with name: {name}"
        yield Problem(SETTINGS, "phases", f"there is no group file for {name}", fix)


def _manager_problems(fleet: Fleet) -> Iterator[Problem]:
    managers = [host.name for host in fleet.hosts.values() if host.swarm_role == "manager"]
    if not fleet.hosts:
        fix = 'write mainpc = [("mainpc", {"ssh_hostname": "192.0.2.11", "swarm_address": "192.0.2.11"})]'
        yield Problem("inventory", "", "there is no host in it", fix)
    elif not managers:
        first = next(iter(fleet.hosts))
        fix = 'write swarm_role = "manager" for one host'
        yield Problem(SETTINGS, f"{first}.swarm_role", "no host is the manager", fix)
    for name in managers[1:]:
        reason = f"exactly one host is the manager, and {managers[0]} is one already"
        yield Problem(SETTINGS, f"{name}.swarm_role", reason, 'write swarm_role = "worker"')


def _address_problems(fleet: Fleet) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for host in fleet.hosts.values():
        if host.swarm_address in first:
            reason = f"{host.swarm_address} is the address of {first[host.swarm_address]} too"
            yield Problem(SETTINGS, f"{host.name}.swarm_address", reason, "write each host's own address")
        first.setdefault(host.swarm_address, host.name)


def _host_name_problems(fleet: Fleet) -> Iterator[Problem]:
    for name in fleet.hosts:
        try:
            check_dns_name(name)
        except ValueError as error:
            yield Problem.saying("inventory", path_of([name]), str(error))


def _release_problems(fleet: Fleet) -> Iterator[Problem]:
    for host in fleet.hosts.values():
        for distribution, codenames in CODENAMES.items():
            if distribution != host.distribution and host.codename in codenames:
                reason = (
                    f"{host.codename} is a release of {distribution}, and distribution is {host.distribution}"
                )
                fix = f"write one of {', '.join(CODENAMES[host.distribution])}, or the other distribution"
                yield Problem(SETTINGS, f"{host.name}.codename", reason, fix)


def _engine_problems(fleet: Fleet) -> Iterator[Problem]:
    for host in fleet.hosts.values():
        for key, (reason, fix) in daemon_faults(host.daemon_settings):
            yield Problem(SETTINGS, path_of(["daemon_settings", key], host.name), reason, fix)


def _gpu_settings_problems(fleet: Fleet) -> Iterator[Problem]:
    """Where a host has GPUs, what its engine is told of them follows from them and from the groups."""
    for host in fleet.hosts.values():
        for key in filter(host.daemon_settings.__contains__, GPU_SETTINGS if host.has_gpu else ()):
            path = path_of(["daemon_settings", key], host.name)
            reason = f"the host has GPUs, so Cascade itself writes {key}"
            yield Problem(SETTINGS, path, reason, "remove it, or remove gpu of this host")


def _gpu_problems(fleet: Fleet) -> Iterator[Problem]:
    """A GPU's name belongs to one host, and who cannot do without one runs where there is one."""
    for group, name, service in fleet.services:
        constraints = service.deploy.placement.constraints
        hosts = () if any(map(constraint_fault, constraints)) else fleet.meeting(constraints)
        if service.gpu and len(hosts) > 1:
            names = ", ".join(host.name for host in hosts)
            reason = f"a GPU is of one host, and {names} meet the constraints"
            fix = f"write a constraint that one meets, like node.hostname == {hosts[0].name}"
            yield Problem(group.file, f"services.{name}.deploy.placement.constraints", reason, fix)
        without = [host.name for host in hosts if host.gpu is None and "gpu" not in host.absent]
        if without and _needs_gpu(service):
            key = "x-gpu" if service.gpu else "runtime"
            reason = f"it needs a GPU, and {', '.join(without)} declares none"
            fix = f"write gpu = HostGpu() in group_data/{without[0]}.py"
            yield Problem(group.file, f"services.{name}.{key}", reason, f'{fix}, or absent = {{"gpu"}}')


def _needs_gpu(service: Service) -> bool:
    """Whether one of its workloads cannot do without."""
    workloads: tuple[Agent | None, ...] = service.agents or (None,)
    return service.runtime == "nvidia" or any(service.gpu_access(one) == "required" for one in workloads)


def _subnet_problems(fleet: Fleet) -> Iterator[Problem]:
    settings = fleet.settings
    yield from name_problems(settings.networks)
    yield from subnet_problems(settings.networks, settings.swarm_pool, fleet.hosts)


def _size_problems(fleet: Fleet) -> Iterator[Problem]:
    """A network has an address for every replica that joins it, and one for every host."""
    joining = dict.fromkeys((overlay.name for overlay in fleet.settings.networks), len(fleet.hosts))
    for _, _, workload in fleet.readable_workloads:
        for name in workload.networks(fleet.settings.system):
            if name in joining:
                joining[name] += workload.replicas
    yield from size_problems(fleet.settings.networks, fleet.settings.swarm_pool, joining)


def _network_problems(fleet: Fleet) -> Iterator[Problem]:
    known = {overlay.name for overlay in fleet.settings.networks}
    for group in fleet.groups.values():
        for key, name in sorted(group.network_names().items()):
            if name not in known:
                others = f", or write one of {', '.join(sorted(known))}" if known else ""
                fix = f'add Overlay(name="{name}") to networks there{others}'
                yield Problem(group.file, f"networks.{key}", "group_data declares no such network", fix)


def _attachment_problems(fleet: Fleet) -> Iterator[Problem]:
    """What the engine refuses to connect, or connects to nowhere."""
    overlays = {overlay.name: overlay for overlay in fleet.settings.networks}
    for group, name, service in fleet.services:
        if not service.networks and not (service.agents and all(agent.networks for agent in service.agents)):
            some = fleet.settings.networks[0].name if fleet.settings.networks else "NAME"
            fix = f"write networks: [{some}], and {some}: {{external: true}} under networks: at the top"
            reason = "it joins no network, and there is no default one"
            yield Problem(group.file, f"services.{name}.networks", reason, fix)
    for group, name, workload in fleet.readable_workloads:
        joined = [overlays[key] for key in workload.networks(fleet.settings.system) if key in overlays]
        closed = [overlay.name for overlay in joined if not overlay.attachable]
        if closed and workload.why_container:
            reason = f"needs {workload.why_container}, and {closed[0]} takes no host containers"
            fix = f"write attachable=True at {closed[0]} in group_data"
            yield Problem(group.file, f"services.{name}.networks", reason, fix)
        direct = workload.why_container or any(port.mode == "host" for port in workload.ports)
        if workload.ports and direct and joined and all(overlay.internal for overlay in joined):
            reason = f"{workload.agent} publishes a port and joins only networks that are internal"
            fix = "join a network that is not internal too"
            yield Problem(group.file, f"services.{name}.ports", reason, fix)


def _listening_problems(fleet: Fleet) -> Iterator[Problem]:
    for group, name, service in fleet.services:
        for number, port in enumerate(service.ports if service.agents else ()):
            listening = [agent.name for agent in service.agents if agent.port == port.target]
            if len(listening) != 1:
                who = f"{', '.join(listening)} listen" if listening else "no agent listens"
                ports = ", ".join(str(agent.port) for agent in service.agents)
                fix = f"write the port of one agent as the target, one of {ports}"
                path = f"services.{name}.ports[{number}]"
                yield Problem(group.file, path, f"{who} on {port.target}", fix)


def _constraint_problems(fleet: Fleet) -> Iterator[Problem]:
    for group, name, service in fleet.services:
        for fault in filter(None, map(constraint_fault, service.deploy.placement.constraints)):
            yield Problem.saying(group.file, f"services.{name}.deploy.placement.constraints", fault)


def _budget_problems(fleet: Fleet) -> Iterator[Problem]:
    for group, name, _ in fleet.services:
        try:
            workloads_of_service(group, name, fleet.settings.health_timing)
        except ValueError as error:
            yield Problem.saying(group.file, f"services.{name}.deploy.resources", str(error))


def _service_name_problems(fleet: Fleet) -> Iterator[Problem]:
    for group, name, workload in fleet.readable_workloads:
        if _SERVICE_NAME.fullmatch(workload.name) is None:
            path = path_of(["services", name])
            if workload.declared:
                path += f".x-agents[{group.services[name].agents.index(workload.declared)}].name"
            reason = f"Swarm would call it {workload.name}, which is no name there"
            fix = (
                "write up to 63 letters, digits, - and _, group and agent together, with a letter at the end"
            )
            yield Problem(group.file, path, reason, fix)


def _placement_problems(fleet: Fleet) -> Iterator[Problem]:
    for group, name, service in fleet.services:
        placement, path = service.deploy.placement, f"services.{name}.deploy.placement"
        if any(map(constraint_fault, placement.constraints)) or not fleet.hosts:
            continue
        hosts = fleet.meeting(placement.constraints)
        if not hosts:
            reason = f"no host meets {' and '.join(placement.constraints)}"
            yield Problem(
                group.file, f"{path}.constraints", reason, f"write what a host has: {_offers(fleet)}"
            )
        most = placement.max_replicas_per_node * len(hosts)
        if most and service.deploy.replicas > most:
            reason = (
                f"{service.deploy.replicas} replicas do not fit on its {len(hosts)} hosts, which take {most}"
            )
            where = f"{path}.max_replicas_per_node"
            yield Problem(group.file, where, reason, "write more, or fewer replicas")
        if service.why_container and len(hosts) > 1:
            names = ", ".join(host.name for host in hosts)
            reason = f"needs {service.why_container}, so one host must meet this, and {names} do"
            fix = f"write a constraint that one meets, like node.hostname == {hosts[0].name}"
            yield Problem(group.file, f"{path}.constraints", reason, fix)
        if service.why_container and service.deploy.replicas != 1:
            reason = f"needs {service.why_container}, and there is one of it"
            yield Problem(group.file, f"services.{name}.deploy.replicas", reason, "write replicas: 1")


def _offers(fleet: Fleet) -> str:
    labels = {
        f"node.labels.{key} == {value}"
        for host in fleet.hosts.values()
        for key, value in host.node_labels.items()
    }
    return ", ".join(sorted(labels) or [f"node.hostname == {name}" for name in fleet.hosts])


def _port_problems(fleet: Fleet) -> Iterator[Problem]:
    """An ingress port is taken on every host, any other on the hosts of its service."""
    taken: dict[tuple[str, int, str], str] = {}
    for host in fleet.hosts.values():
        taken |= {(host.name, port, protocol): "Swarm itself" for port, protocol in _SWARMS_OWN}
        taken[host.name, host.ssh_port, "tcp"] = "the SSH server"
    for group, name, service in fleet.services:
        constraints = service.deploy.placement.constraints
        if not group.enabled or any(map(constraint_fault, constraints)):
            continue
        for number, port in enumerate(service.ports):
            ingress = port.mode == "ingress" and not service.why_container
            hosts = fleet.hosts.values() if ingress else fleet.meeting(constraints)
            spots = [(host.name, port.published, port.protocol) for host in hosts]
            for other in sorted({taken[spot] for spot in spots if spot in taken}):
                path = f"services.{name}.ports[{number}]"
                reason = f"{other} uses {port.published}/{port.protocol} already"
                yield Problem(group.file, path, reason, "write another published port")
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


def _hardening_problems(fleet: Fleet) -> Iterator[Problem]:
    for group, name, service in fleet.services:
        yield from hardening_problems(group.file, f"services.{name}", service)


def _owner_problems(fleet: Fleet) -> Iterator[Problem]:
    """A volume has one owner, so its writers are one user."""
    first: dict[tuple[str, str], tuple[str, Workload]] = {}
    told = set()
    for group, name, workload in fleet.readable_workloads:
        faulty = any(map(constraint_fault, workload.constraints))
        for place in () if faulty else fleet.written_volumes(workload):
            user, other = first.setdefault(place, (workload.owner, workload))
            path = f"services.{name}.volumes"
            if workload.owner != user and (group.file, path, place[1]) not in told:
                told.add((group.file, path, place[1]))
                reason = f"{workload.agent} writes {place[1]} as {workload.owner}, {other.agent} as {user}"
                fix = "give both the same user, or mount it read-only in one"
                yield Problem(group.file, path, reason, fix)


def _config_problems(fleet: Fleet) -> Iterator[Problem]:
    """The Swarm does not tell names of configs apart by letter case."""
    taken: dict[str, str] = {}
    for group in fleet.groups.values():
        for key, config in group.swarm_configs.items():
            name, path = config.prefix.lower(), path_of(["configs", key])
            if name in taken:
                reason = f"{taken[name]} has the name {config.prefix} in the Swarm too"
                yield Problem(group.file, path, reason, "write another name:")
            taken.setdefault(name, f"{path} of {group.name}")


def _secret_problems(fleet: Fleet) -> Iterator[Problem]:
    """What holds for the store as a whole; the Swarm does not tell names apart by letter case."""
    longest = longest_name(fleet.settings.system)
    taken: dict[str, tuple[Secret, str]] = {}
    for group in fleet.groups.values():
        for key, secret in group.stored_secrets.items():
            path = path_of(["secrets", key])
            other, where = taken.setdefault(secret.name.lower(), (secret, f"{path} of {group.name}"))
            if len(secret.name) > longest:
                reason = (
                    f"{secret.name} is too long for a name in the Swarm, beside the system's and a digest"
                )
                yield Problem(group.file, f"{path}.name", reason, f"write at most {longest} characters")
            if other.name != secret.name:
                reason = f"{where} has the name {other.name} in the Swarm too"
                yield Problem(group.file, path, reason, "write another name:")
            elif secret.generate and other.generate and secret.generate != other.generate:
                reason = f"{where} generates {secret.name} in another way"
                yield Problem(group.file, f"{path}.x-generate", reason, "write the same in both")


def _image_problems(fleet: Fleet) -> Iterator[Problem]:
    """A group that is not enabled needs no images yet."""
    used = set()
    for group in filter(lambda group: group.enabled, fleet.groups.values()):
        for name, service in group.services.items():
            used.add(service.image)
            if service.image not in fleet.settings.images:
                fix = f'add "{service.image}": RegistryImage(reference="…") to images in group_data'
                reason = f"{service.image} is mapped to no image"
                yield Problem(group.file, f"services.{name}.image", reason, fix)
    for name, pin in fleet.images.items():
        if name in used and isinstance(pin, ValueError):
            yield Problem.saying(SETTINGS, path_of(["images", name]), str(pin))


# What is checked, and the names of group_data without which there is nothing to check.
_CHECKS: tuple[tuple[Callable[[Fleet], Iterator[Problem]], str], ...] = (
    (_option_problems, "phases groups"),
    (_order_problems, "phases"),
    (_missing_groups, "phases groups"),
    (_manager_problems, "swarm_role hosts"),
    (_address_problems, ""),
    (_host_name_problems, ""),
    (_release_problems, ""),
    (_engine_problems, ""),
    (_gpu_settings_problems, "gpu absent"),
    (_gpu_problems, "gpu absent hosts node_labels swarm_role"),
    (_subnet_problems, "networks swarm_pool"),
    (_size_problems, "networks swarm_pool hosts"),
    (_network_problems, "networks"),
    (_attachment_problems, "networks"),
    (_listening_problems, ""),
    (_constraint_problems, ""),
    (_budget_problems, ""),
    (_service_name_problems, ""),
    (_placement_problems, "hosts node_labels swarm_role"),
    (_port_problems, "node_labels swarm_role ssh_port"),
    (_name_problems, ""),
    (_hardening_problems, ""),
    (_owner_problems, "hosts node_labels swarm_role"),
    (_config_problems, ""),
    (_secret_problems, "system"),
    (_image_problems, "images"),
)
