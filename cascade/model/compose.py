"""The part of the Compose Specification that a group file may use.

A key that stands here is honoured; any other is an error. Source: the Compose Specification.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from cascade.model.quantities import Cpus, MemoryBytes, Seconds, Whole
from cascade.model.strict import Strict, twice

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


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
    if repeated := twice(key for key, _, _ in pairs):
        raise ValueError(f"{', '.join(repeated)} stands twice")
    return {key: text for key, _, text in pairs}


def untemplated(text: str) -> str:
    """Swarm expands templates in environments, mounts and host names."""
    if "{{" in text:
        raise ValueError("Swarm would expand {{ as a template of its own, so the container would not get it")
    return text


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is no absolute path")
    return path


def _mount_point(path: str) -> str:
    if not path.strip("/"):
        raise ValueError("nothing can be mounted on / itself")
    return path


Text = Annotated[str, BeforeValidator(_string)]
TextMap = Annotated[dict[Annotated[str, Field(min_length=1)], Text], BeforeValidator(_mapping)]
Untemplated = Annotated[Text, AfterValidator(untemplated)]
Environment = Annotated[
    dict[Annotated[str, Field(pattern=r"^[^=]+$")], Untemplated], BeforeValidator(_mapping)
]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
MountPoint = Annotated[AbsolutePath, AfterValidator(_mount_point), AfterValidator(untemplated)]


class HealthCheck(Strict):
    """How the engine asks a container whether it is well; times in seconds."""

    test: tuple[str, ...]
    interval: Seconds = 10
    timeout: Seconds = 5
    retries: Whole = Field(5, ge=1)
    start_period: Seconds = 30
    start_interval: Seconds = 1

    @field_validator("test", mode="before")
    @classmethod
    def _shell_form(cls, value: object) -> object:
        return ("CMD-SHELL", value) if isinstance(value, str) else value

    @field_validator("test")
    @classmethod
    def _known_form(cls, test: tuple[str, ...]) -> tuple[str, ...]:
        kind, *words = test or ("",)
        fits = {"CMD": bool(words), "CMD-SHELL": len(words) == 1, "NONE": not words}
        if not fits.get(kind) or "" in words[:1]:
            raise ValueError("a test is CMD and a command, CMD-SHELL and one line, or only NONE")
        return test

    @property
    def asks(self) -> bool:
        """Not so when all it says is that the image's own check is not wanted."""
        return self.test != ("NONE",)


class HealthTiming(Strict):
    """The rhythm of the health check that an agent gets when it declares none; seconds."""

    interval: Seconds = 10
    timeout: Seconds = 5
    retries: Whole = Field(5, ge=1)
    start_period: Seconds = 30
    start_interval: Seconds = 1

    def checking(self, health_port: int) -> HealthCheck:
        """The seed's own check, on this port."""
        test = ("CMD", "curl", "-f", f"http://localhost:{health_port}/health")
        return HealthCheck(test=test, **self.model_dump())


class Mount(Strict):
    """A named volume or a bind in short syntax: `source:/target[:ro]`."""

    type: Literal["volume", "bind"]
    source: Untemplated
    target: MountPoint
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

    @model_validator(mode="after")
    def _source_fits(self) -> Mount:
        if self.type == "bind":
            _absolute(self.source)
        elif _NAME.fullmatch(self.source) is None:
            raise ValueError(f"{self.source!r} is no name of a volume; a folder of the host starts with /")
        return self


def _octal(value: object) -> object:
    return int(value, 8) if isinstance(value, str) else value


class Tmpfs(Strict):
    """A file system in memory: `/target[:size=64M,mode=1770]`."""

    target: MountPoint
    size: MemoryBytes | None = None
    mode: Annotated[int, BeforeValidator(_octal), Field(ge=0, le=0o7777)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_syntax(cls, value: object) -> object:
        if not isinstance(value, str):
            raise ValueError("write it like /run or /run:size=64M,mode=1770")
        target, colon, options = value.partition(":")
        pairs = [("target", "", target), *(option.partition("=") for option in options.split(",") if colon)]
        if repeated := twice(name for name, _, _ in pairs):
            raise ValueError(f"{', '.join(repeated)} stands twice")
        return {name: text for name, _, text in pairs}


class Port(Strict):
    """A published port; short syntax `published:target[/protocol]`."""

    target: Whole = Field(ge=1, le=65535)
    published: Whole = Field(ge=1, le=65535)
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

    source: AbsolutePath
    target: AbsolutePath
    permissions: str = "rwm"

    @model_validator(mode="before")
    @classmethod
    def _short_syntax(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = value.split(":")
        if len(parts) > 3:
            raise ValueError(f"{value!r} is not `/dev/host[:/dev/container[:rwm]]`")
        return {"target": parts[0], **dict(zip(("source", "target", "permissions"), parts, strict=False))}

    @field_validator("permissions")
    @classmethod
    def _some_of_rwm(cls, permissions: str) -> str:
        if not permissions or twice(permissions) or set(permissions) - set("rwm"):
            raise ValueError(f"{permissions!r} are no permissions: write some of r, w and m")
        return permissions


class Attachment(Strict):
    """How a service joins a network."""

    aliases: tuple[str, ...] = ()


def _attachments(value: object) -> object:
    """Compose writes networks as a list of names or as a map."""
    if isinstance(value, list):
        if odd := [name for name in value if not isinstance(name, str)]:
            raise ValueError(f"{odd[0]!r} is no name of a network")
        return {name: {} for name in value}
    if isinstance(value, Mapping):
        return {name: {} if attachment is None else attachment for name, attachment in value.items()}
    return value


Attachments = Annotated[dict[str, Attachment], BeforeValidator(_attachments)]


def _extra_host(entry: str) -> str:
    name, _, address = entry.partition(":")
    try:
        ip_address(address)
    except ValueError:
        raise ValueError(f"{entry!r} is not `name:address` with an IP address") from None
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{entry!r} does not begin with a host name")
    return entry


ExtraHost = Annotated[str, AfterValidator(_extra_host)]


class Ulimit(Strict):
    """A resource limit of the process; one number sets both."""

    soft: Whole
    hard: Whole

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
    max_attempts: Whole | None = Field(None, ge=0)
    window: Seconds = 0


class UpdateConfig(Strict):
    """How replicas are exchanged. Going back is Cascade's, for the whole group, so the engine only pauses."""

    parallelism: Whole = Field(1, ge=1)
    delay: Seconds = 0
    order: Literal["start-first", "stop-first"] = "start-first"
    monitor: Seconds = 5
    failure_action: Literal["pause"] = "pause"


class Placement(Strict):
    constraints: tuple[str, ...] = ()


class Deploy(Strict):
    replicas: Whole = Field(1, ge=0)
    placement: Placement = Placement()
    resources: ResourceBudget = ResourceBudget()
    restart_policy: RestartPolicy = RestartPolicy()
    update_config: UpdateConfig = UpdateConfig()


class Logging(Strict):
    driver: str = "json-file"
    options: TextMap = {}
