"""A group file: one Compose service whose `x-agents` each become a workload."""

from __future__ import annotations

import shlex
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from cascade.model.agent import Agent
from cascade.model.compose import (
    Attachments,
    Deploy,
    Device,
    HealthCheck,
    Logging,
    Mount,
    Port,
    Text,
    TextMap,
    Ulimit,
)
from cascade.model.quantities import MemoryBytes, Seconds
from cascade.model.strict import Strict


class Scale(Strict):
    """A range inside which a replica count is not drift."""

    min: int = Field(ge=0)
    max: int = Field(ge=1)


def _words(value: object) -> object:
    return tuple(shlex.split(value)) if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]


class Service(Strict):
    """What the agents of a group share."""

    image: str
    command: Words = ()
    entrypoint: Words = ()
    environment: TextMap = {}
    networks: Attachments = {}
    volumes: tuple[Mount, ...] = ()
    ports: tuple[Port, ...] = ()
    healthcheck: HealthCheck | None = None
    deploy: Deploy = Deploy()
    init: bool = True
    stop_grace_period: Seconds = 10
    stop_signal: str = "SIGTERM"
    user: Text = ""
    working_dir: str = ""
    hostname: str = ""
    read_only: bool = False
    tmpfs: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    devices: tuple[Device, ...] = ()
    shm_size: MemoryBytes | None = None
    ulimits: dict[str, Ulimit] = {}
    sysctls: TextMap = {}
    labels: TextMap = {}
    logging: Logging | None = None
    extra_hosts: tuple[str, ...] = ()
    runtime: Literal["nvidia"] | None = None
    agents: tuple[Agent, ...] = Field((), alias="x-agents")
    scale: Scale | None = Field(None, alias="x-scale")

    @model_validator(mode="after")
    def _agents_and_scale_fit(self) -> Service:
        names = [agent.name.lower() for agent in self.agents]
        if twice := sorted({agent.name for agent in self.agents if names.count(agent.name.lower()) > 1}):
            raise ValueError(f"x-agents names {', '.join(twice)} more than once")
        if self.scale and not self.scale.min <= self.deploy.replicas <= self.scale.max:
            raise ValueError(
                f"deploy.replicas {self.deploy.replicas} is outside x-scale {self.scale.min}-{self.scale.max}"
            )
        return self


class ExternalNetwork(Strict):
    """Networks are the fleet's, declared in group_data; a group file only names them."""

    external: Literal[True]


class NamedVolume(Strict):
    name: str | None = None


class GroupFile(Strict):
    """One service group, as a person writes it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    services: dict[str, Service]
    networks: dict[str, ExternalNetwork] = {}
    volumes: dict[str, NamedVolume | None] = {}

    @model_validator(mode="after")
    def _names_are_declared(self) -> GroupFile:
        for service_name, service in self.services.items():
            parts: tuple[Service | Agent, ...] = (service, *service.agents)
            networks = {name for part in parts for name in part.networks}
            volumes = {m.source for part in parts for m in part.volumes if m.type == "volume"}
            for word, used, declared in (
                ("network", networks, self.networks),
                ("volume", volumes, self.volumes),
            ):
                if missing := sorted(used - declared.keys()):
                    raise ValueError(
                        f"services.{service_name} uses the {word} {', '.join(missing)}, "
                        f"which {word}s: does not declare"
                    )
        return self
