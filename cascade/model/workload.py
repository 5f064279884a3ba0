"""What runs: an agent with everything it inherits from its group, and its share of the group's budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from posixpath import normpath
from typing import Literal

from cascade.model.agent import Agent, GpuAccess, kebab_case
from cascade.model.compose import Attachment, HealthCheck, HealthTiming, Mount, Port, Tmpfs
from cascade.model.configs import Config, ConfigUse
from cascade.model.hardening import TMP, Security, numeric_user
from cascade.model.quantities import nano_cpus
from cascade.model.secrets import Secret, SecretUse
from cascade.model.service import GroupFile, Service

Kind = Literal["service", "container"]
Amount = Decimal | int
Exact = Amount | Fraction
Portions = dict[str, Fraction | None]

# Swarm refuses to reserve less than the one, the kernel to limit to less than the next, the engine the last.
LEAST_NANO_CPUS = 1_000_000
LEAST_CPU_LIMIT = 10_000_000
LEAST_MEMORY = 6 * 2**20


@dataclass(frozen=True)
class Share:
    """One workload's part of its group's budget, in nano-CPUs and bytes; None means unlimited."""

    cpu_limit: int | None
    memory_limit: int | None
    cpu_reservation: int | None
    memory_reservation: int | None

    @property
    def reserves_too_much(self) -> bool:
        """The engine would only find out when it starts the task."""
        cpu = self.cpu_limit is not None and (self.cpu_reservation or 0) > self.cpu_limit
        memory = self.memory_limit is not None and (self.memory_reservation or 0) > self.memory_limit
        return cpu or memory

    @property
    def too_small(self) -> bool:
        """The engine refuses less, and takes 0 for unlimited."""
        amounts = (
            (self.cpu_limit, LEAST_CPU_LIMIT),
            (self.cpu_reservation, LEAST_NANO_CPUS),
            (self.memory_limit, LEAST_MEMORY),
            (self.memory_reservation, LEAST_MEMORY),
        )
        return any(amount is not None and amount < least for amount, least in amounts)


@dataclass(frozen=True)
class Workload:
    """One agent as it is to run, before placement on hosts."""

    group: str
    agent: str
    service: Service
    declared: Agent | None
    share: Share
    health: HealthCheck | None
    ports: tuple[Port, ...]
    volume_names: dict[str, str]
    network_names: dict[str, str]
    configs: dict[str, Config]
    secrets: dict[str, Secret]

    @property
    def name(self) -> str:
        return f"{self.group}_{kebab_case(self.agent)}"

    @property
    def kind(self) -> Kind:
        return "container" if self.why_container else "service"

    @property
    def why_container(self) -> str:
        """What Swarm cannot give this workload, or an empty string."""
        return self.service.why_container

    @property
    def checked(self) -> bool:
        """Whether the file has a health check for it; without one, running is all there is to see."""
        return self.health is not None and self.health.asks

    @property
    def replicas(self) -> int:
        return self.service.deploy.replicas

    @property
    def constraints(self) -> tuple[str, ...]:
        return self.service.deploy.placement.constraints

    @property
    def optional(self) -> bool:
        return self.declared is not None and self.declared.optional

    @property
    def deadline(self) -> float | None:
        """How long its gate waits for it in seconds; None for as long as an update of it may take."""
        own = self.declared.deadline if self.declared else None
        return self.service.deadline if own is None else own

    @property
    def keeps_data(self) -> bool:
        return self.declared is not None and self.declared.persistent

    @property
    def gpu_access(self) -> GpuAccess | None:
        """Whether it needs its service's GPU, or can do without; None has no business with it."""
        return self.service.gpu_access(self.declared)

    @property
    def vram(self) -> int:
        """MiB of a GPU that its file names as its share; 0 where it names none."""
        return (self.declared.vram if self.declared else None) or 0

    @property
    def uses_gpu(self) -> bool:
        return self.service.runtime == "nvidia" or self.gpu_access is not None

    @property
    def at_once(self) -> int:
        """How many replicas an update exchanges at a time: one, where each has something of its own."""
        return 1 if self.keeps_data or self.uses_gpu else self.service.deploy.update_config.parallelism

    @property
    def stops_first(self) -> bool:
        """Whether a replica must go before its successor comes, which could not have what it holds."""
        on_host = any(port.mode == "host" for port in self.ports)
        exclusive = self.keeps_data or self.uses_gpu or on_host
        return exclusive or self.service.deploy.update_config.order == "stop-first"

    @property
    def realtime(self) -> bool:
        return self.declared is not None and self.declared.realtime_priority

    @property
    def environment(self) -> dict[str, str]:
        if self.declared is None:
            return self.service.environment
        return self.service.environment | self.declared.environment | self.declared.contract()

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """Mounts with the volumes' names on the host."""
        own = self.declared.volumes if self.declared else ()
        return tuple(
            mount.model_copy(update={"source": self.volume_names.get(mount.source, mount.source)})
            if mount.type == "volume"
            else mount
            for mount in (*self.service.volumes, *own)
        )

    @property
    def tmpfs(self) -> tuple[Tmpfs, ...]:
        """File systems in memory: /tmp too, where the root can only be read and nothing else is there."""
        said = self.service.tmpfs
        taken = [mount.target for mount in self.mounts] + [mount.target for mount in said]
        free = TMP.target not in map(normpath, taken)
        return (*said, TMP) if self.service.read_only and free else said

    @property
    def owner(self) -> str:
        """Whom the files that it writes belong to, `1000:1000`; empty for a user that is told by name."""
        numbers = numeric_user(self.service.user)
        return f"{numbers[0]}:{numbers[1]}" if numbers else ""

    @property
    def security(self) -> Security:
        own = self.declared.security if self.declared else None
        return own or self.service.security

    @property
    def config_files(self) -> tuple[tuple[Config, ConfigUse], ...]:
        """The configs that it reads as files, each with where and how."""
        return tuple((self.configs[use.source], use) for use in self.service.configs)

    @property
    def secret_files(self) -> tuple[tuple[Secret, SecretUse], ...]:
        """The secrets that it reads as files, each with where and how."""
        own = self.declared.secrets if self.declared else ()
        return tuple((self.secrets[use.source], use) for use in (*self.service.secrets, *own))

    def networks(self, system: str) -> dict[str, tuple[str, ...]]:
        """The names this workload answers to, by network."""
        own = (f"{self.agent}.{self.group}.{system}".lower(), *self.bare_name)
        attachments: dict[str, Attachment] = {**self.service.networks}
        for name, attachment in (self.declared.networks if self.declared else {}).items():
            inherited = attachments.get(name, Attachment()).aliases
            attachments[name] = Attachment(aliases=(*inherited, *attachment.aliases))
        by_name = {self.network_names.get(key, key): attachments[key].aliases for key in attachments}
        return {name: tuple(dict.fromkeys((*own, *by_name[name]))) for name in sorted(by_name)}

    @property
    def bare_name(self) -> tuple[str, ...]:
        """The name by which its siblings know a plain Compose service, as in Compose."""
        return () if self.declared else (self.agent,)


def workloads_of(group: GroupFile, timing: HealthTiming) -> tuple[Workload, ...]:
    """The workloads of a group in the order of its file; raises ValueError for a budget that does not fit."""
    return tuple(
        workload for name in group.services for workload in workloads_of_service(group, name, timing)
    )


def workloads_of_service(group: GroupFile, name: str, timing: HealthTiming) -> list[Workload]:
    """The workloads of one service; raises ValueError for a budget that does not fit."""
    service = group.services[name]
    found = _of_agents(group, service, timing) if service.agents else [_alone(group, name, service)]
    if greedy := sorted(workload.agent for workload in found if workload.share.reserves_too_much):
        raise ValueError(
            f"the reservations give {', '.join(greedy)} more than their limits allow:"
            " write less under reservations, or more under limits"
        )
    if poor := sorted(workload.agent for workload in found if workload.share.too_small):
        raise ValueError(
            f"the budget leaves {', '.join(poor)} less than 0.01 CPUs, 0.001 reserved CPUs or 6M of memory:"
            " write more"
        )
    return found


def _of_agents(group: GroupFile, service: Service, timing: HealthTiming) -> list[Workload]:
    shares = divide(service)
    return [
        Workload(
            group=group.name,
            agent=agent.name,
            service=service,
            declared=agent,
            share=shares[agent.name],
            health=agent.health_check or service.healthcheck or timing.checking(agent.health_port),
            ports=tuple(port for port in service.ports if port.target == agent.port),
            volume_names=_volume_names(group),
            network_names=group.network_names(),
            configs=group.swarm_configs,
            secrets=group.stored_secrets,
        )
        for agent in service.agents
    ]


def _alone(group: GroupFile, name: str, service: Service) -> Workload:
    limits = service.deploy.resources.limits
    reservations = service.deploy.resources.reservations
    return Workload(
        group=group.name,
        agent=name,
        service=service,
        declared=None,
        share=_share(limits.cpus, limits.memory, reservations.cpus, reservations.memory),
        health=service.healthcheck,
        ports=service.ports,
        volume_names=_volume_names(group),
        network_names=group.network_names(),
        configs=group.swarm_configs,
        secrets=group.stored_secrets,
    )


def _volume_names(group: GroupFile) -> dict[str, str]:
    return {
        key: volume.name if volume and volume.name else f"{group.name}_{key}"
        for key, volume in group.volumes.items()
    }


def divide(service: Service) -> dict[str, Share]:
    """The group's budget among its agents.

    Explicit shares first, the rest of the limits equally; reservations in proportion to limits.
    """
    agents = service.agents
    limits, reservations = service.deploy.resources.limits, service.deploy.resources.reservations
    cpus = _limits("cpus", limits.cpus, {agent.name: agent.cpus for agent in agents})
    memory = _limits("memory_limit", limits.memory, {agent.name: agent.memory_limit for agent in agents})
    reserved_cpus = _reservations(reservations.cpus, cpus)
    reserved_memory = _reservations(reservations.memory, memory)
    return {
        name: _share(cpus[name], memory[name], reserved_cpus[name], reserved_memory[name]) for name in cpus
    }


def _limits(what: str, budget: Amount | None, explicit: Mapping[str, Amount | None]) -> Portions:
    asked = sum((share for share in explicit.values() if share is not None), Decimal(0))
    sharing = sum(share is None for share in explicit.values())
    if budget is not None and (asked > budget or (sharing and asked == budget)):
        raise ValueError(
            f"the agents' {what} sum up to {asked}, which leaves nothing of the group's {budget}:"
            " write more under limits, or less at the agents"
        )
    rest = Fraction(budget - asked) / sharing if sharing and budget is not None else None
    return {name: rest if share is None else Fraction(share) for name, share in explicit.items()}


def _reservations(budget: Amount | None, limits: Portions) -> Portions:
    """In proportion to the limits; equally if any is unlimited, which is in no proportion to the others."""
    if budget is None:
        return dict.fromkeys(limits)
    known = {name: limit for name, limit in limits.items() if limit is not None}
    weights = known if len(known) == len(limits) else dict.fromkeys(limits, Fraction(1))
    total = sum(weights.values())
    return {name: Fraction(budget) * weight / total for name, weight in weights.items()}


def _share(
    cpus: Exact | None, memory: Exact | None, reserved_cpus: Exact | None, reserved_memory: Exact | None
) -> Share:
    """Whole units of the engine, rounded only here, so that equal parts stay equal."""
    return Share(
        None if cpus is None else nano_cpus(cpus),
        None if memory is None else int(memory),
        None if reserved_cpus is None else nano_cpus(reserved_cpus),
        None if reserved_memory is None else int(reserved_memory),
    )
