"""The part of the Compose Specification that a group file may use.

A key that stands here is honoured; what is refused stands in refused.py. Source: the Compose Specification.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from posixpath import normpath
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from cascade.model.log_driver import log_fault
from cascade.model.names import Alias
from cascade.model.process import OwnSysctl, check_variable
from cascade.model.quantities import Cpus, MemoryBytes, Seconds, Whole
from cascade.model.strict import Strict, twice
from cascade.model.wording import shown

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
    if repeated := twice(key for key, _, _ in pairs):
        raise ValueError(f"{', '.join(repeated)} stands twice: remove one of the two")
    return {key: text if equals else None for key, equals, text in pairs}


def _given(value: object) -> object:
    """Compose would take what is not given from the environment of the machine that deploys."""
    if value is None:
        raise ValueError("no value, and the deploying machine's environment is not passed on: write one")
    return value


def _with_bare_names(value: object) -> object:
    """A label may be a name alone, in a list or with nothing behind it."""
    if isinstance(value, list):
        return [item if "=" in str(item) else f"{item}=" for item in value]
    if isinstance(value, Mapping):
        return {key: "" if text is None else text for key, text in value.items()}
    return value


def _listed(value: object) -> object:
    """Where Compose writes a list it takes one text for a list of one."""
    return [value] if isinstance(value, str) else value


def untemplated(text: str) -> str:
    """Swarm expands templates in environments, mounts and host names."""
    if "{{" in text:
        raise ValueError(
            "Swarm would expand {{ as a template of its own, so the container would not get it: remove it"
        )
    return text


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is no absolute path: write one like /data")
    return path


def check_mount_point(path: str) -> str:
    """A path on which something can be mounted, as it stands; raises ValueError."""
    if normpath(path) in ("/", "//"):
        raise ValueError("nothing can be mounted on / itself: write one like /data")
    return untemplated(path)


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError(f"{text!r} is no IP address: write one like 192.0.2.53") from None


Text = Annotated[str, BeforeValidator(_string)]
Given = BeforeValidator(_given)
TextMap = Annotated[
    dict[Annotated[str, Field(min_length=1)], Annotated[Text, Given]], BeforeValidator(_mapping)
]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_listed)]
Addresses = Annotated[tuple[Annotated[str, AfterValidator(_address)], ...], BeforeValidator(_listed)]
Sysctls = Annotated[dict[OwnSysctl, Annotated[Text, Given]], BeforeValidator(_mapping)]
Labels = Annotated[TextMap, BeforeValidator(_with_bare_names)]
Untemplated = Annotated[Text, AfterValidator(untemplated)]
Environment = Annotated[
    dict[Annotated[str, AfterValidator(check_variable)], Annotated[Untemplated, Given]],
    BeforeValidator(_mapping),
]
Pids = Annotated[Whole, Field(ge=-1)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
MountPoint = Annotated[AbsolutePath, AfterValidator(check_mount_point)]


class HealthCheck(Strict):
    """How the engine asks a container whether it is well; times in seconds. `disable` is a test of NONE."""

    test: tuple[str, ...]
    interval: Seconds = 10
    timeout: Seconds = 5
    retries: Whole = Field(5, ge=1)
    start_period: Seconds = 30
    start_interval: Seconds = 1
    disable: bool = False

    @model_validator(mode="before")
    @classmethod
    def _disabled(cls, value: object) -> object:
        if not isinstance(value, Mapping) or value.get("disable") not in (True, "true"):
            return value
        if value.get("test", ["NONE"]) != ["NONE"]:
            raise ValueError("disable: true stands beside a test: give one of the two")
        return {**value, "test": ("NONE",)}

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
            raise ValueError(
                "a test is CMD and a command, CMD-SHELL and one line, or only NONE:"
                " write one like [CMD, curl, -f, http://localhost:8200/health]"
            )
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


def _octal(value: object) -> object:
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"(?:0o)?[0-7]+", value) is None:
        raise ValueError(f"{shown(value)} is no octal number: write one like 1770")
    return int(value, 8)


FileMode = Annotated[int, BeforeValidator(_octal), Field(ge=0, le=0o7777)]


class VolumeOptions(Strict):
    """`nocopy` leaves a new volume empty where the image has files."""

    nocopy: bool = False


class BindOptions(Strict):
    """How mounts below the folder pass between host and container. A missing folder is never made."""

    propagation: Literal["private", "rprivate", "shared", "rshared", "slave", "rslave"] | None = None
    create_host_path: Literal[False] = False


class TmpfsOptions(Strict):
    """How much a file system in memory may hold, and its permissions."""

    size: MemoryBytes | None = None
    mode: FileMode | None = None


class Mount(Strict):
    """A named volume or a bind in short syntax: `source:/target[:ro]`; in long syntax a tmpfs too."""

    type: Literal["volume", "bind", "tmpfs"]
    source: Untemplated = Field("", validate_default=True)
    target: MountPoint
    read_only: bool = False
    volume: VolumeOptions = VolumeOptions()
    bind: BindOptions = BindOptions()
    tmpfs: TmpfsOptions = TmpfsOptions()

    @model_validator(mode="before")
    @classmethod
    def _short_syntax(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        source, colon, rest = value.partition(":")
        target, _, mode = rest.partition(":")
        if source.startswith("/") and not colon:
            raise ValueError(
                f"{value!r} is a volume without a name, which nobody finds again: write it like data:{value}"
            )
        if source.startswith((".", "~")):
            raise ValueError(
                f"{source!r} is a path of the machine that deploys, and no folder is sent to the hosts:"
                " put it on the host and write its absolute path"
            )
        if odd := [option for option in mode.split(",") if option not in ("", "ro", "rw")]:
            raise ValueError(
                f"{value!r}: only ro and rw are honoured behind the target: take {', '.join(odd)} out"
            )
        if not target.startswith("/"):
            raise ValueError(
                f"{value!r} is not `volume:/target` or `/source:/target`: write one like data:/data:ro"
            )
        kind = "bind" if source.startswith("/") else "volume"
        return {"type": kind, "source": source, "target": target, "read_only": "ro" in mode.split(",")}

    @field_validator("source")
    @classmethod
    def _source_fits(cls, source: str, info: ValidationInfo) -> str:
        kind = info.data.get("type")
        if kind == "bind":
            _absolute(source)
        if kind == "tmpfs" and source:
            raise ValueError("a tmpfs has no source: remove it")
        if kind == "volume" and _NAME.fullmatch(source) is None:
            raise ValueError(f"{source!r} is no name of a volume: write one like data, or /srv for a folder")
        return source

    @model_validator(mode="after")
    def _options_fit(self) -> Mount:
        for kind in ("volume", "bind", "tmpfs"):
            if kind in self.model_fields_set and kind != self.type:
                raise ValueError(f"options of a {kind} stand at a mount of type {self.type}: remove {kind}")
        return self


# Source: moby, daemon/oci_linux.go: what the engine gives each such file system anyway.
_TMPFS_HAS = ("rw", "noexec", "nosuid", "nodev")


class Tmpfs(Strict):
    """A file system in memory: `/target[:size=64M,mode=1770]`."""

    target: MountPoint
    size: MemoryBytes | None = None
    mode: FileMode | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_syntax(cls, value: object) -> object:
        if not isinstance(value, str):
            raise ValueError(f"{shown(value)} is no text: write one like /run or /run:size=64M,mode=1770")
        target, colon, options = value.partition(":")
        said = [option for option in options.split(",") if colon and option not in _TMPFS_HAS]
        pairs = [("target", "", target), *(option.partition("=") for option in said)]
        if repeated := twice(name for name, _, _ in pairs):
            raise ValueError(f"{', '.join(repeated)} stands twice: remove one of the two")
        return {name: text for name, _, text in pairs}


Tmpfses = Annotated[tuple[Tmpfs, ...], BeforeValidator(_listed)]


class Port(Strict):
    """A published port; short syntax `published:target[/protocol]`.

    `name` and `app_protocol` are for readers, as in Compose.
    """

    target: Whole = Field(ge=1, le=65535)
    published: Whole = Field(ge=1, le=65535)
    protocol: Literal["tcp", "udp"] = "tcp"
    mode: Literal["ingress", "host"] = "ingress"
    name: Text = ""
    app_protocol: Text = ""

    @model_validator(mode="before")
    @classmethod
    def _short_syntax(cls, value: object) -> object:
        if isinstance(value, Mapping):
            return value
        ports, _, protocol = str(value).partition("/")
        published, _, target = ports.partition(":")
        if not (published.isdecimal() and target.isdecimal()):
            raise ValueError(f"{value!r} {_port_fault(ports)}")
        return {"published": int(published), "target": int(target), "protocol": protocol or "tcp"}


def _port_fault(ports: str) -> str:
    *address, last = ports.split(":")
    if "-" in ports and re.fullmatch(r"[\d:-]+", ports):
        return "is a range: write one line for each port, like '8080:80'"
    if not address and last.isdecimal():
        return f"says no port to publish it on, and Compose would take any: write it like '8080:{last}'"
    if len(address) > 1 and last.isdecimal():
        return f"names an address, and a port is published on all of a host: write '{address[-1]}:{last}'"
    return "is not `published:target`: write it like '8080:80'"


class Device(Strict):
    """A host's device in a container: `/dev/host[:/dev/container[:rwm]]`; a single path is both."""

    source: AbsolutePath
    target: AbsolutePath
    permissions: str = "rwm"

    @model_validator(mode="before")
    @classmethod
    def _short_syntax(cls, value: object) -> object:
        if isinstance(value, Mapping):
            return {"target": value.get("source"), **value}
        if not isinstance(value, str):
            return value
        parts = value.split(":")
        if len(parts) > 3:
            raise ValueError(f"{value!r} is no device: write one like /dev/snd:/dev/snd:rw")
        return {"target": parts[0], **dict(zip(("source", "target", "permissions"), parts, strict=False))}

    @field_validator("permissions")
    @classmethod
    def _some_of_rwm(cls, permissions: str) -> str:
        if not permissions or twice(permissions) or set(permissions) - set("rwm"):
            raise ValueError(f"{permissions!r} are no permissions: write some of r, w and m")
        return permissions


class Attachment(Strict):
    """How a service joins a network."""

    aliases: tuple[Alias, ...] = ()


def _attachments(value: object) -> object:
    """Compose writes networks as a list of names or as a map."""
    if isinstance(value, list):
        if odd := [name for name in value if not isinstance(name, str)]:
            raise ValueError(f"{odd[0]!r} is no name of a network: write one like cascade-internal")
        return {name: {} for name in value}
    if isinstance(value, Mapping):
        return {name: {} if attachment is None else attachment for name, attachment in value.items()}
    return value


Attachments = Annotated[dict[str, Attachment], BeforeValidator(_attachments)]


class Dependency(Strict):
    """One service that must be healthy before another starts: with a check that passes, or else running."""

    condition: Literal["service_started", "service_healthy"] = "service_started"
    restart: Literal[False] = False
    required: Literal[True] = True


def _dependencies(value: object) -> object:
    """Compose writes dependencies as a list of names or as a map."""
    if not isinstance(value, list):
        return value
    if odd := [name for name in value if not isinstance(name, str)]:
        raise ValueError(f"{odd[0]!r} is no name of a service: write one like db")
    if repeated := twice(value):
        raise ValueError(f"{', '.join(repeated)} stands twice: remove one of the two")
    return {name: {} for name in value}


Dependencies = Annotated[dict[str, Dependency], BeforeValidator(_dependencies)]


def _extra_hosts(value: object) -> object:
    """Compose writes them as a map, or as a list of `name:address` or `name=address`."""
    if not isinstance(value, Mapping):
        return value
    return [
        f"{name}:{address}"
        for name, addresses in value.items()
        for address in (addresses if isinstance(addresses, list) else [addresses])
    ]


def _extra_host(entry: str) -> str:
    name, _, address = entry.replace("=", ":", 1).partition(":")
    address = address.removeprefix("[").removesuffix("]")
    if address == "host-gateway":
        raise ValueError("host-gateway is another address on each host: write the one that is meant")
    try:
        ip_address(address)
    except ValueError:
        raise ValueError(f"{entry!r} is not `name:address`: write one like printer:192.0.2.9") from None
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{entry!r} does not begin with a host name: write one like printer:192.0.2.9")
    return f"{name}:{address}"


ExtraHosts = Annotated[tuple[Annotated[str, AfterValidator(_extra_host)], ...], BeforeValidator(_extra_hosts)]


class Ulimit(Strict):
    """A resource limit of the process; one number sets both, and -1 is any number."""

    soft: Annotated[Whole, Field(ge=-1)]
    hard: Annotated[Whole, Field(ge=-1)]

    @field_validator("hard")
    @classmethod
    def _above_the_soft_one(cls, hard: int, info: ValidationInfo) -> int:
        soft = info.data.get("soft", 0)
        if hard != -1 and not 0 <= soft <= hard:
            least = "-1" if soft == -1 else f"{soft} or more"
            raise ValueError(f"{hard} is below the soft limit, {soft}: write {least}")
        return hard

    @model_validator(mode="before")
    @classmethod
    def _one_number(cls, value: object) -> object:
        return {"soft": value, "hard": value} if isinstance(value, int | str) else value


class Resources(Strict):
    """CPUs and memory of one replica of the whole group."""

    cpus: Cpus | None = None
    memory: MemoryBytes | None = None


class Limits(Resources):
    """`pids` is each container's own: how many processes and threads it may have; -1 for any number."""

    pids: Pids | None = None


class ResourceBudget(Strict):
    limits: Limits = Limits()
    reservations: Resources = Resources()


class RestartPolicy(Strict):
    condition: Literal["any", "on-failure", "none"] = "any"
    delay: Seconds = 5
    max_attempts: Whole | None = Field(None, ge=0)
    window: Seconds = 0


def _restart(value: object) -> object:
    """Compose's short form, in which an unquoted `no` reaches us as false."""
    text = "no" if value is False else value
    name, colon, count = text.partition(":") if isinstance(text, str) else ("", "", "")
    conditions = {"no": "none", "always": "any", "unless-stopped": "any", "on-failure": "on-failure"}
    if name not in conditions or (colon and (name != "on-failure" or not count.isdecimal())):
        raise ValueError(
            f"{value!r} is no way to restart: write no, always, unless-stopped, on-failure or on-failure:3"
        )
    return {"condition": conditions[name], **({"max_attempts": int(count)} if colon else {})}


Restart = Annotated[RestartPolicy, BeforeValidator(_restart)]


class UpdateConfig(Strict):
    """How replicas are exchanged. Only pause: a service taken back alone leaves its group half old."""

    parallelism: Whole = Field(1, ge=1)
    delay: Seconds = 0
    order: Literal["start-first", "stop-first"] = "start-first"
    monitor: Seconds = 5
    failure_action: Literal["pause"] = "pause"


def _label(descriptor: str) -> str:
    """Swarm takes any text, and spreads over nothing."""
    if not re.match(r"(?:node|engine)\.labels\..", descriptor):
        raise ValueError(f"{shown(descriptor)} is no label of a node: write one like node.labels.zone")
    return descriptor


class Preference(Strict):
    """A node attribute over whose values replicas are spread evenly."""

    spread: Annotated[str, AfterValidator(_label)]


class Placement(Strict):
    constraints: tuple[str, ...] = ()
    preferences: tuple[Preference, ...] = ()
    max_replicas_per_node: Whole = Field(0, ge=0)


class Deploy(Strict):
    mode: Literal["replicated"] = "replicated"
    endpoint_mode: Literal["dnsrr"] | None = None
    labels: Labels = {}
    replicas: Whole = Field(1, ge=0)
    placement: Placement = Placement()
    resources: ResourceBudget = ResourceBudget()
    restart_policy: RestartPolicy = RestartPolicy()
    update_config: UpdateConfig = UpdateConfig()


class Logging(Strict):
    """Where the container's output goes; the engine checks neither before it starts one."""

    driver: str = "json-file"
    options: TextMap = {}

    @field_validator("driver")
    @classmethod
    def _known(cls, driver: str) -> str:
        if fault := log_fault(driver, {}):
            raise ValueError(": ".join(fault))
        return driver

    @field_validator("options")
    @classmethod
    def _fit_the_driver(cls, options: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if "driver" in info.data and (fault := log_fault(info.data["driver"], options)):
            raise ValueError(": ".join(fault))
        return options
