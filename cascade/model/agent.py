"""One agent of a group, as the seed writes it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from cascade.model.compose import Attachments, Environment, HealthCheck, Mount, untemplated
from cascade.model.gpu import Vram
from cascade.model.hardening import Security
from cascade.model.names import fits
from cascade.model.quantities import Cpus, MemoryBytes, SomeSeconds, Whole
from cascade.model.secrets import SecretUse
from cascade.model.strict import Strict, path_of

_WORD_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_")


GpuAccess = Literal["required", "optional"]

_check_name = fits(r"[A-Za-z][A-Za-z0-9_-]*", "is no name of an agent", "ServiceRegistry")


def kebab_case(name: str) -> str:
    """`VRAMOptimizerAgent` as `vram-optimizer-agent`."""
    return _WORD_BOUNDARY.sub("-", name).lower()


class Agent(Strict):
    """A workload's own settings; all else it inherits from its group's service."""

    name: Annotated[str, AfterValidator(_check_name)]
    port: Whole = Field(ge=1, le=65535)
    health_port: Whole = Field(ge=1, le=65535)
    startup_order: Whole | None = None
    depends_on: tuple[str, ...] = ()
    health_check: HealthCheck | None = None
    environment: Environment = {}
    volumes: tuple[Mount, ...] = ()
    secrets: tuple[SecretUse, ...] = ()
    networks: Attachments = {}
    security: Security | None = None
    memory_limit: MemoryBytes | None = None
    cpus: Cpus | None = None
    deadline: SomeSeconds | None = None
    optional: bool = False
    gpu_access: GpuAccess | None = None
    vram: Vram | None = None
    realtime_priority: bool = False
    load_balanced: bool = False
    persistent: bool = False
    state_sync: bool = False
    config: dict[str, Any] = {}

    @field_validator("health_port")
    @classmethod
    def _own_port(cls, health_port: int, info: Any) -> int:
        if info.data.get("port") == health_port:
            raise ValueError(f"health_port {health_port} is also the agent's port: write another one")
        return health_port

    @field_validator("config")
    @classmethod
    def _can_be_passed_on(cls, config: dict[str, Any]) -> dict[str, Any]:
        if faults := list(_not_json(config)):
            raise ValueError(f"{', '.join(faults)}: write it in quotes")
        untemplated(_json(config))
        return config

    def contract(self) -> dict[str, str]:
        """The environment that the image contract promises every agent."""
        environment = {
            "AGENT_NAME": self.name,
            "PORT": str(self.port),
            "HEALTH_PORT": str(self.health_port),
        }
        if self.config:
            environment["AGENT_CONFIG"] = _json(self.config)
        if self.state_sync:
            environment["STATE_SYNC"] = "true"
        return environment


def _json(config: dict[str, Any]) -> str:
    return json.dumps(config, sort_keys=True, separators=(",", ":"))


def _not_json(value: object, *location: int | str) -> Iterator[str]:
    """What JSON has no word for, each with its place."""
    if isinstance(value, dict):
        yield from (f"the key {name!r} is no text" for name in value if not isinstance(name, str))
        for name, item in value.items():
            yield from _not_json(item, *location, name)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _not_json(item, *location, number)
    elif not isinstance(value, str | int | float | None) or (
        isinstance(value, float) and not isfinite(value)
    ):
        yield f"{path_of(location)} is {value}, which JSON cannot say"
