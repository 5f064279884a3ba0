"""The part of the Compose Specification that a group file may use.

A key that stands here is honoured; any other is an error. Source: the Compose Specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from cascade.model.quantities import Cpus, MemoryBytes, Seconds
from cascade.model.strict import Strict


def _string(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else value


def _mapping(value: object) -> object:
    """Compose writes maps as `KEY: value` or as a list of `KEY=value`."""
    if not isinstance(value, list):
        return value
    pairs = [str(item).partition("=") for item in value]
    bare = [key for key, equals, _ in pairs if not equals]
    if bare:
        raise ValueError(
            f"no value for {', '.join(bare)}: the deploying machine's environment is not passed on"
        )
    return {key: text for key, _, text in pairs}


Text = Annotated[str, BeforeValidator(_string)]
TextMap = Annotated[dict[str, Text], BeforeValidator(_mapping)]


class HealthCheck(Strict):
    """How the engine asks a container whether it is well; times in seconds."""

    test: tuple[str, ...]
    interval: Seconds = 10
    timeout: Seconds = 5
    retries: int = Field(5, ge=1)
    start_period: Seconds = 30
    start_interval: Seconds = 1

    @field_validator("test", mode="before")
    @classmethod
    def _shell_form(cls, value: object) -> object:
        return ("CMD-SHELL", value) if isinstance(value, str) else value


class HealthTiming(Strict):
    """The rhythm of the health check that an agent gets when it declares none; seconds."""

    interval: Seconds = 10
    timeout: Seconds = 5
    retries: int = Field(5, ge=1)
    start_period: Seconds = 30
    start_interval: Seconds = 1

    def checking(self, health_port: int) -> HealthCheck:
        """The seed's own check, on this port."""
        test = ("CMD", "curl", "-f", f"http://localhost:{health_port}/health")
        return HealthCheck(test=test, **self.model_dump())


class Mount(Strict):
    """A named volume or a bind in short syntax: `source:/target[:ro]`."""

    type: Literal["volume", "bind"]
    source: str
    target: str
    read_only: bool = False

    @model_validator(mode="before")
    @classmethod
    def _short_syntax(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        source, _, rest = value.partition(":")
        target, _, mode = rest.partition(":")
        if not target.startswith("/") or mode not in ("", "ro", "rw"):
            raise ValueError(f"{value!r} is not `volume:/target` or `/source:/target`, with `:ro` if need be")
        kind = "bind" if source.startswith("/") else "volume"
        return {"type": kind, "source": source, "target": target, "read_only": mode == "ro"}


class Port(Strict):
    """A published port; short syntax `published:target[/protocol]`."""

    target: int = Field(ge=1, le=65535)
    published: int = Field(ge=1, le=65535)
    protocol: Literal["tcp", "udp"] = "tcp"
    mode: Literal["ingress", "host"] = "ingress"

    @model_validator(mode="before")
    @classmethod
    def _short_syntax(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        ports, _, protocol = value.partition("/")
        published, _, target = ports.partition(":")
        if not (published.isdigit() and target.isdigit()):
            raise ValueError(f"{value!r} is not `published:target`; ranges and addresses are not honoured")
        return {"published": int(published), "target": int(target), "protocol": protocol or "tcp"}


class Device(Strict):
    """A host's device in a container: `/dev/host[:/dev/container[:rwm]]`."""

    source: str
    target: str
    permissions: str = "rwm"

    @model_validator(mode="before")
    @classmethod
    def _short_syntax(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        source, target, permissions = (*value.split(":"), "", "")[:3]
        return {"source": source, "target": target or source, "permissions": permissions or "rwm"}


class Attachment(Strict):
    """How a service joins a network."""

    aliases: tuple[str, ...] = ()


def _attachments(value: object) -> object:
    """Compose writes networks as a list of names or as a map."""
    if isinstance(value, list):
        return {name: {} for name in value}
    if isinstance(value, Mapping):
        return {name: {} if attachment is None else attachment for name, attachment in value.items()}
    return value


Attachments = Annotated[dict[str, Attachment], BeforeValidator(_attachments)]


class Ulimit(Strict):
    """A resource limit of the process; one number sets both."""

    soft: int
    hard: int

    @model_validator(mode="before")
    @classmethod
    def _one_number(cls, value: object) -> object:
        return {"soft": value, "hard": value} if isinstance(value, int) else value


class Resources(Strict):
    """CPUs and memory of one replica of the whole group."""

    cpus: Cpus | None = None
    memory: MemoryBytes | None = None


class ResourceBudget(Strict):
    limits: Resources = Resources()
    reservations: Resources = Resources()


class RestartPolicy(Strict):
    condition: Literal["any", "on-failure", "none"] = "any"
    delay: Seconds = 5
    max_attempts: int | None = Field(None, ge=0)
    window: Seconds = 0


class UpdateConfig(Strict):
    """How replicas are exchanged. Going back is Cascade's, for the whole group, so the engine only pauses."""

    parallelism: int = Field(1, ge=1)
    delay: Seconds = 0
    order: Literal["start-first", "stop-first"] = "start-first"
    monitor: Seconds = 5
    failure_action: Literal["pause"] = "pause"


class Placement(Strict):
    constraints: tuple[str, ...] = ()


class Deploy(Strict):
    replicas: int = Field(1, ge=0)
    placement: Placement = Placement()
    resources: ResourceBudget = ResourceBudget()
    restart_policy: RestartPolicy = RestartPolicy()
    update_config: UpdateConfig = UpdateConfig()


class Logging(Strict):
    driver: str = "json-file"
    options: TextMap = {}
