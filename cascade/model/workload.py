"""What runs: an agent with everything it inherits from its group, and its share of the group's budget."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from cascade.model.agent import Agent, kebab_case
from cascade.model.compose import Attachment, HealthCheck, HealthTiming, Mount, Port
from cascade.model.service import GroupFile, Service

Kind = Literal["service", "container"]


@dataclass(frozen=True)
class Share:
    """One workload's part of its group's budget; None means unlimited."""

    cpu_limit: Decimal | None
    memory_limit: int | None
    cpu_reservation: Decimal | None
    memory_reservation: int | None

    @property
    def reserves_too_much(self) -> bool:
        """The engine would only find out when it starts the task."""
        cpu = self.cpu_limit is not None and (self.cpu_reservation or 0) > self.cpu_limit
        memory = self.memory_limit is not None and (self.memory_reservation or 0) > self.memory_limit
        return cpu or memory


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

    @property
    def name(self) -> str:
        return f"{self.group}_{kebab_case(self.agent)}"

    @property
    def kind(self) -> Kind:
        return "container" if self.why_container else "service"

    @property
    def why_container(self) -> str:
        """What Swarm cannot give this workload, or an empty string."""
        if self.service.devices:
            return "devices " + ", ".join(device.source for device in self.service.devices)
        return "shm_size" if self.service.shm_size else ""

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

    def networks(self, system: str) -> dict[str, tuple[str, ...]]:
        """The aliases this workload answers to, by network."""
        discovery = f"{self.agent}.{self.group}.{system}".lower()
        attachments: dict[str, Attachment] = {**self.service.networks}
        for name, attachment in (self.declared.networks if self.declared else {}).items():
            inherited = attachments.get(name, Attachment()).aliases
            attachments[name] = Attachment(aliases=(*inherited, *attachment.aliases))
        return {name: (discovery, *attachments[name].aliases) for name in sorted(attachments)}


def workloads_of(group: GroupFile, timing: HealthTiming) -> tuple[Workload, ...]:
    """The workloads of a group in the order of its file.

    Raises ValueError when the agents' explicit shares exceed the group's budget.
    """
    return tuple(
        workload
        for name, service in group.services.items()
        for workload in (
            _of_agents(group, service, timing) if service.agents else [_alone(group, name, service)]
        )
    )


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
        share=Share(limits.cpus, limits.memory, reservations.cpus, reservations.memory),
        health=service.healthcheck,
        ports=service.ports,
        volume_names=_volume_names(group),
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
    budget = service.deploy.resources
    cpu = _limits("cpus", budget.limits.cpus, {agent.name: agent.cpus for agent in service.agents})
    memory = _limits(
        "memory_limit",
        _decimal(budget.limits.memory),
        {agent.name: _decimal(agent.memory_limit) for agent in service.agents},
    )
    reserved_cpu = _proportional(budget.reservations.cpus, cpu)
    reserved_memory = _proportional(_decimal(budget.reservations.memory), memory)
    shares = {
        name: Share(cpu[name], _whole(memory[name]), reserved_cpu[name], _whole(reserved_memory[name]))
        for name in cpu
    }
    if greedy := sorted(name for name, share in shares.items() if share.reserves_too_much):
        raise ValueError(f"the group's reservations give {', '.join(greedy)} more than their limits allow")
    return shares


def _limits(
    what: str, budget: Decimal | None, explicit: dict[str, Decimal | None]
) -> dict[str, Decimal | None]:
    if budget is None:
        return explicit
    asked = sum((share for share in explicit.values() if share is not None), Decimal(0))
    sharing = sum(share is None for share in explicit.values())
    if asked > budget or (sharing and asked == budget):
        raise ValueError(
            f"the agents' {what} sum up to {asked}, which leaves nothing of the group's {budget}"
        )
    rest = (budget - asked) / sharing if sharing else None
    return {name: rest if share is None else share for name, share in explicit.items()}


def _proportional(budget: Decimal | None, limits: dict[str, Decimal | None]) -> dict[str, Decimal | None]:
    if budget is None:
        return dict.fromkeys(limits)
    weights = {name: Decimal(1) if limit is None else limit for name, limit in limits.items()}
    total = sum(weights.values())
    return {name: budget * weight / total for name, weight in weights.items()}


def _decimal(value: int | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def _whole(value: Decimal | None) -> int | None:
    return None if value is None else int(value)
