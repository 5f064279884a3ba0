"""One agent of a group, as the seed writes it."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from pydantic import Field, field_validator

from cascade.model.compose import Attachments, HealthCheck, Mount, TextMap
from cascade.model.quantities import Cpus, MemoryBytes
from cascade.model.strict import Strict

_WORD_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_")


def kebab_case(name: str) -> str:
    """`VRAMOptimizerAgent` as `vram-optimizer-agent`."""
    return _WORD_BOUNDARY.sub("-", name).lower()


class Agent(Strict):
    """A workload's own settings; all else it inherits from its group's service."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")
    port: int = Field(ge=1, le=65535)
    health_port: int = Field(ge=1, le=65535)
    startup_order: int | None = None
    depends_on: tuple[str, ...] = ()
    health_check: HealthCheck | None = None
    environment: TextMap = {}
    volumes: tuple[Mount, ...] = ()
    networks: Attachments = {}
    memory_limit: MemoryBytes | None = None
    cpus: Cpus | None = None
    optional: bool = False
    gpu_access: Literal["required", "optional"] | None = None
    realtime_priority: bool = False
    load_balanced: bool = False
    persistent: bool = False
    state_sync: bool = False
    config: dict[str, Any] = {}

    @field_validator("health_port")
    @classmethod
    def _own_port(cls, health_port: int, info: Any) -> int:
        if info.data.get("port") == health_port:
            raise ValueError(f"health_port {health_port} is also the agent's port")
        return health_port

    def contract(self) -> dict[str, str]:
        """The environment that the image contract promises every agent."""
        environment = {
            "AGENT_NAME": self.name,
            "PORT": str(self.port),
            "HEALTH_PORT": str(self.health_port),
        }
        if self.config:
            environment["AGENT_CONFIG"] = json.dumps(self.config, sort_keys=True, separators=(",", ":"))
        if self.state_sync:
            environment["STATE_SYNC"] = "true"
        return environment
