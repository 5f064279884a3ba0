"""A group file: one Compose service whose `x-agents` each become a workload, or plain Compose services."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from posixpath import normpath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, field_validator, model_validator

from cascade.model.agent import Agent, GpuAccess, kebab_case
from cascade.model.capability import Capability
from cascade.model.compose import (
    Addresses,
    Attachments,
    Dependencies,
    Deploy,
    Device,
    Environment,
    ExtraHosts,
    HealthCheck,
    Labels,
    Mount,
    Pids,
    Port,
    Restart,
    RestartPolicy,
    Sysctls,
    Text,
    Texts,
    Tmpfs,
    Tmpfses,
    Untemplated,
)
from cascade.model.configs import (
    LONGEST_PREFIX,
    Config,
    ConfigName,
    ConfigSource,
    ConfigUse,
    FileUse,
    configs_of,
)
from cascade.model.gpu import GpuUse
from cascade.model.hardening import (
    DEFAULT_PROCESSES,
    DEFAULT_USER,
    DROPPED,
    LIMITS,
    LOGS,
    Limits,
    Logs,
    Security,
)
from cascade.model.names import fits
from cascade.model.networks import NetworkName, check_network
from cascade.model.order import agent_order, waves
from cascade.model.process import HostName, ImageName, StopSignal, User, WorkingDir
from cascade.model.quantities import MemoryBytes, Seconds, SomeSeconds, Whole
from cascade.model.secrets import FOLDER, Secret, SecretName, SecretSource, SecretUse, secrets_of
from cascade.model.security import SecurityOptions
from cascade.model.strict import Problem, Strict, path_of, twice
from cascade.model.wording import shown

_check_volume = fits(r"[A-Za-z0-9][A-Za-z0-9_.-]+", "is no name of a volume", "data")
# By which NVIDIA's runtime knows what a container may see.
VISIBLE_DEVICES = "NVIDIA_VISIBLE_DEVICES"

_check_group = fits(r"[a-z0-9][a-z0-9_-]*", "is no name of a group", "cascade-core")


class Scale(Strict):
    """A range inside which a replica count is not drift."""

    min: Whole = Field(ge=0)
    max: Whole = Field(ge=1)


def _words(value: object) -> object:
    """A line is split as a shell would; nothing at all means the image's own."""
    if value is None:
        return ()
    try:
        words = tuple(shlex.split(value)) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(
            f"{shown(value)} is no line of a shell: write the closing quotation mark, or a list of words"
        ) from None
    if words in ((), []):
        raise ValueError(
            "it is empty, by which Compose takes away the image's own, and the engine does not: remove it"
        )
    return words


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]


class Service(Strict):
    """What the agents of a group share, or one workload by itself.

    `attach` and `expose` have no effect, as in a Compose that runs in the background. What confines it is
    in force unless the file says otherwise; what is weaker needs a reason under `x-security`.
    """

    image: ImageName
    attach: bool = True
    depends_on: Dependencies = {}
    dns: Addresses = ()
    dns_opt: tuple[Text, ...] = ()
    dns_search: Texts = ()
    expose: tuple[Text, ...] = ()
    group_add: tuple[Text, ...] = ()
    pids_limit: Pids | None = None
    restart: Restart | None = None
    stdin_open: bool = False
    tty: bool = False
    command: Words = ()
    entrypoint: Words = ()
    environment: Environment = {}
    networks: Attachments = {}
    volumes: tuple[Mount, ...] = ()
    configs: tuple[ConfigUse, ...] = ()
    secrets: tuple[SecretUse, ...] = ()
    ports: tuple[Port, ...] = ()
    healthcheck: HealthCheck | None = None
    deploy: Deploy = Deploy()
    init: bool = True
    stop_grace_period: Seconds = 10
    stop_signal: StopSignal = "SIGTERM"
    user: Annotated[Text, User] = DEFAULT_USER
    working_dir: WorkingDir = ""
    hostname: Annotated[Untemplated, HostName] = ""
    read_only: bool = True
    tmpfs: Tmpfses = ()
    cap_add: tuple[Capability, ...] = ()
    cap_drop: tuple[Capability, ...] = DROPPED
    security_opt: SecurityOptions = ()
    devices: tuple[Device, ...] = ()
    shm_size: MemoryBytes | None = None
    ulimits: Limits = LIMITS
    sysctls: Sysctls = {}
    labels: Labels = {}
    logging: Logs = LOGS
    extra_hosts: ExtraHosts = ()
    runtime: Literal["nvidia"] | None = None
    agents: tuple[Agent, ...] = Field((), alias="x-agents")
    security: Security = Field(Security(), alias="x-security")
    gpu: GpuUse | None = Field(None, alias="x-gpu")
    scale: Scale | None = Field(None, alias="x-scale")
    deadline: SomeSeconds | None = Field(None, alias="x-deadline")

    @model_validator(mode="after")
    def _scale_fits(self) -> Service:
        if self.scale and not self.scale.min <= self.deploy.replicas <= self.scale.max:
            raise ValueError(
                f"deploy.replicas {self.deploy.replicas} is outside x-scale"
                f" {self.scale.min}-{self.scale.max}: write a number inside it"
            )
        return self

    @property
    def restart_policy(self) -> RestartPolicy:
        """What `restart` or `deploy.restart_policy` says."""
        return self.restart or self.deploy.restart_policy

    @property
    def pids(self) -> int:
        """How many processes and threads a container may have; 0 for any number."""
        said = (self.pids_limit, self.deploy.resources.limits.pids, DEFAULT_PROCESSES)
        return max(0, next(limit for limit in said if limit is not None))

    def gpu_access(self, agent: Agent | None) -> GpuAccess | None:
        """Whether an agent needs the service's GPU, or can do without; None has no business with it.

        Without an agent it is about a plain service.
        """
        if self.gpu is None:
            return None
        said = agent.gpu_access if agent else "required"
        return said or ("required" if self.runtime == "nvidia" else None)

    @property
    def why_container(self) -> str:
        """What Swarm cannot give this service, or an empty string."""
        if self.devices:
            return "devices " + ", ".join(device.source for device in self.devices)
        return "shm_size" if self.shm_size else ""


def least_vram(service: Service) -> int:
    """MiB that all replicas of those take that need the service's GPU: 1 for one that names no share."""
    needing = [agent for agent in service.agents if service.gpu_access(agent) == "required"]
    each = sum(agent.vram or 1 for agent in needing) if service.agents else 1
    return each * service.deploy.replicas


class ExternalNetwork(Strict):
    """Networks are the fleet's, declared in group_data; a group file only names them."""

    external: Literal[True]
    name: NetworkName | None = None


class NamedVolume(Strict):
    driver: Literal["local"] = "local"
    name: Annotated[str, AfterValidator(_check_volume)] | None = None


class GroupFile(Strict):
    """One service group, as a person writes it.

    A group that is not `enabled` is checked like any other, and does not run. `version` has no effect.
    """

    version: Text = ""

    name: Annotated[str, AfterValidator(_check_group)]
    services: dict[str, Service]
    networks: dict[str, ExternalNetwork] = {}
    volumes: dict[str, NamedVolume | None] = {}
    configs: dict[ConfigName, ConfigSource] = {}
    secrets: dict[SecretName, SecretSource] = {}
    enabled: bool = Field(True, alias="x-enabled")

    _file: str = PrivateAttr("")

    @field_validator("networks")
    @classmethod
    def _named(cls, networks: dict[str, ExternalNetwork]) -> dict[str, ExternalNetwork]:
        for key, network in networks.items():
            check_network(network.name or key)
        return networks

    def model_post_init(self, context: Any) -> None:
        self._file = (context or {}).get("file", f"{self.name}.yaml")

    @property
    def file(self) -> str:
        """Where it was read from."""
        return self._file

    @property
    def waves(self) -> tuple[tuple[str, ...], ...]:
        """The names of what starts together; raises ValueError for a cycle."""
        agents = [agent for service in self.services.values() for agent in service.agents]
        return waves(agent_order(agents) if agents else self._dependencies())

    def _dependencies(self) -> dict[str, set[str]]:
        """For each service those that must be healthy before it."""
        return {
            name: service.depends_on.keys() & self.services.keys() for name, service in self.services.items()
        }

    def dependents(self, name: str) -> tuple[str, ...]:
        """Those that say that they depend on an agent, or on a plain service."""
        agents = [agent for service in self.services.values() for agent in service.agents]
        said = {agent.name: {*agent.depends_on} for agent in agents} or self._dependencies()
        return tuple(other for other, needed in said.items() if name in needed)

    def network_names(self) -> dict[str, str]:
        """What group_data calls the networks that the file names."""
        return {key: network.name or key for key, network in self.networks.items()}

    @property
    def swarm_configs(self) -> dict[str, Config]:
        """The configs by the keys that the file gives them."""
        return configs_of(self.name, self.configs)

    @property
    def stored_secrets(self) -> dict[str, Secret]:
        """The secrets by the keys that the file gives them."""
        return secrets_of(self.secrets)

    def problems(self) -> Iterator[Problem]:
        """What does not fit together inside the file."""
        if not self.services:
            yield self._problem("services", "there is no service", "add one, like web: {image: cascade/web}")
        for name, service in self.services.items():
            yield from self._agent_problems(f"services.{name}", name, service)
            yield from self._mount_problems(f"services.{name}", service)
            yield from self._said_twice(f"services.{name}", service)
            yield from self._gpu_problems(f"services.{name}", service)
            for missing in sorted(service.depends_on.keys() - self.services.keys()):
                others = [other for other in self.services if other != name]
                yield self._missing(f"services.{name}.depends_on", "file has no service", missing, others)
        yield from self._cycle()
        for network in twice(self.network_names().values()):
            yield self._problem(
                "networks", f"more than one key stands for the network {network}", "remove one"
            )
        for path, part in self._parts():
            yield from self._undeclared(path, part)
        yield from self._config_problems()
        yield from self._secret_problems()
        names = [agent.name for service in self.services.values() for agent in service.agents]
        for same in _clashes(names or list(self.services)):
            yield self._problem("services", f"{', '.join(same)} would have the same name", "rename one")

    def _problem(self, path: str, reason: str, fix: str) -> Problem:
        return Problem(self.file, path, reason, fix)

    def _missing(self, path: str, what: str, name: str, known: Sequence[str]) -> Problem:
        fix = f"write one of {', '.join(known)}, or remove it" if known else "remove it"
        return self._problem(path, f"the {what} {name}", fix)

    def _parts(self) -> Iterator[tuple[str, Service | Agent]]:
        for name, service in self.services.items():
            yield f"services.{name}", service
            for number, agent in enumerate(service.agents):
                yield f"services.{name}.x-agents[{number}]", agent

    def names_on_networks(self) -> Iterator[tuple[str, str, str, bool]]:
        """Path, network, name of what answers there besides `<agent>.<group>.<system>`; and if it is bare."""
        networks = self.network_names()
        for path, part in self._parts():
            for key, attachment in part.networks.items():
                if isinstance(part, Service) and not part.agents:
                    yield path, networks.get(key, key), path.removeprefix("services."), True
                for alias in attachment.aliases:
                    yield path, networks.get(key, key), alias, False

    def _agent_problems(self, path: str, name: str, service: Service) -> Iterator[Problem]:
        if service.agents and len(self.services) > 1:
            fix = "move it to a file of its own"
            yield self._problem(path, "a service with x-agents must be the only one of its file", fix)
        elif service.agents and name != self.name:
            reason = f"a service with x-agents must have the name of its group, {self.name}"
            yield self._problem(path, reason, f"write {self.name}:")
        known = [agent.name for agent in service.agents]
        for number, agent in enumerate(service.agents):
            for missing in sorted(set(agent.depends_on).difference(known)):
                where = f"{path}.x-agents[{number}].depends_on"
                yield self._missing(
                    where, "group has no agent", missing, [other for other in known if other != agent.name]
                )
        try:
            waves(agent_order(service.agents))
        except ValueError as error:
            yield self._problem(
                f"{path}.x-agents", str(error), "remove one depends_on or startup_order of it"
            )

    def _mount_problems(self, path: str, service: Service) -> Iterator[Problem]:
        shared = _targets((*service.volumes, *service.tmpfs))
        parts = {path: shared}
        for number, agent in enumerate(service.agents):
            parts[f"{path}.x-agents[{number}]"] = [*set(shared), *_targets(agent.volumes)]
        for where, targets in parts.items():
            for target in twice(targets):
                yield self._problem(
                    f"{where}.volumes", f"more than one thing is mounted on {target}", "remove one"
                )

    def _config_problems(self) -> Iterator[Problem]:
        for key, source in self.configs.items():
            path, prefix = path_of(["configs", key]), self.swarm_configs[key].prefix
            if source.file is None and source.content is None:
                fix = "add file: with a path beside this file, or content:"
                yield self._problem(f"{path}.file", "is missing", fix)
            if source.file is not None and source.content is not None:
                yield self._problem(f"{path}.content", "stands beside file", "give one of the two")
            if len(prefix) > LONGEST_PREFIX:
                reason = f"{prefix} is too long for a name in the Swarm, where a digest follows it"
                fix = f"write name: with at most {LONGEST_PREFIX} characters, or a shorter key"
                yield self._problem(f"{path}.name", reason, fix)
        for name, service in self.services.items():
            path = f"{path_of(['services', name])}.configs"
            for missing in sorted({use.source for use in service.configs} - self.configs.keys()):
                fix = f"add {missing}: {{file: ./{missing}}} there"
                yield self._problem(path, f"{missing} is not declared under configs:", fix)
            yield from self._kept_problems(path, [(use.source, use) for use in service.configs])
            agents = (mount for agent in service.agents for mount in agent.volumes)
            mounted = {*_targets((*service.volumes, *service.tmpfs)), *_targets(agents)}
            yield from self._place_problems(path, service.configs, mounted)

    def _secret_problems(self) -> Iterator[Problem]:
        for key, source in self.secrets.items():
            path = path_of(["secrets", key])
            if source.external is None and source.generate is None:
                fix = "add external: true, or x-generate: {bytes: 32}"
                yield self._problem(f"{path}.external", "is missing", fix)
            if source.external is not None and source.generate is not None:
                reason = "stands beside external: a value is given by somebody, or generated"
                yield self._problem(f"{path}.x-generate", reason, "give one of the two")
        for name, service in self.services.items():
            path = path_of(["services", name])
            yield from self._delivery_problems(path, service.secrets, (), service, service.agents)
            for number, agent in enumerate(service.agents):
                where = f"{path}.x-agents[{number}]"
                yield from self._delivery_problems(where, agent.secrets, service.secrets, service, (agent,))
            yield from self._variable_problems(path, service)

    def _delivery_problems(
        self,
        path: str,
        uses: Sequence[SecretUse],
        inherited: Sequence[SecretUse],
        service: Service,
        agents: Iterable[Agent],
    ) -> Iterator[Problem]:
        """What is wrong with the secrets of one part of the file, beside all that its containers get."""
        if not uses:
            return
        for missing in sorted({use.source for use in uses} - self.secrets.keys()):
            fix = f"add {missing}: {{external: true}} there"
            yield self._problem(f"{path}.secrets", f"{missing} is not declared under secrets:", fix)
        stored = self.stored_secrets
        kept = [(stored[use.source].name, use) for use in (*inherited, *uses) if use.source in stored]
        yield from self._kept_problems(f"{path}.secrets", kept)
        mounts = (mount for agent in agents for mount in agent.volumes)
        beside: tuple[FileUse, ...] = (*service.configs, *inherited)
        files = (normpath(use.path) for use in beside)
        mounted = {*_targets((*service.volumes, *service.tmpfs)), *_targets(mounts), *files}
        yield from self._place_problems(f"{path}.secrets", uses, mounted)

    def _kept_problems(self, path: str, uses: Iterable[tuple[str, FileUse]]) -> Iterator[Problem]:
        """A container has one file of what is kept under one name, however often it is mounted."""
        for name in twice(name for name, *_ in {(name, use.uid, use.gid, use.mode) for name, use in uses}):
            reason = (
                f"{name} stands twice with different owners or modes, and the engine keeps one file of it"
            )
            yield self._problem(path, reason, "write the same for both, or declare it twice")

    def _place_problems(self, path: str, uses: Sequence[FileUse], mounted: set[str]) -> Iterator[Problem]:
        """What lies on or around something else that is mounted."""
        own = [normpath(use.path) for use in uses]
        for target in sorted({*twice(own), *mounted.intersection(own)}):
            reason = f"more than one thing is mounted on {target}"
            yield self._problem(path, reason, "write another target")
        for target in sorted(set(own)):
            if below := sorted(other for other in {*own, *mounted} if other.startswith(f"{target}/")):
                reason = f"{target} is a file, and {below[0]} is mounted below it"
                yield self._problem(path, reason, "write another target")

    def _variable_problems(self, path: str, service: Service) -> Iterator[Problem]:
        """A variable that says where a secret lies names one that is delivered there."""
        parts: list[tuple[str, Service | Agent]] = [
            (f"{path}.x-agents[{number}]", agent) for number, agent in enumerate(service.agents)
        ]
        told = set()
        for where, part in parts or [(path, service)]:
            there = _mounted_in(service, part)
            for variable, file in (service.environment | part.environment).items():
                at = f"{where if variable in part.environment else path}.environment"
                if _says_where(variable, file) and not _reaches(file, there) and (at, variable) not in told:
                    told.add((at, variable))
                    fix = "write the name of a secret of its secrets:, or add the secret there"
                    yield self._problem(at, f"{variable} names {file}, and no secret is delivered there", fix)

    def _said_twice(self, path: str, service: Service) -> Iterator[Problem]:
        """Two places for one thing, or two things that exclude each other."""
        deploy = service.deploy
        if service.restart and "restart_policy" in deploy.model_fields_set:
            yield self._problem(
                f"{path}.restart", "stands beside deploy.restart_policy", "give one of the two"
            )
        pids = {service.pids_limit, deploy.resources.limits.pids} - {None}
        if len(pids) > 1:
            reason = f"says something else than deploy.resources.limits.pids, {deploy.resources.limits.pids}"
            yield self._problem(f"{path}.pids_limit", reason, "give one of the two")
        if deploy.endpoint_mode and any(port.mode == "ingress" for port in service.ports):
            reason = "dnsrr has no virtual IP, which a port in ingress mode needs"
            fix = "remove it, or write mode: host at the ports"
            yield self._problem(f"{path}.deploy.endpoint_mode", reason, fix)

    def _gpu_problems(self, path: str, service: Service) -> Iterator[Problem]:
        for number, agent in enumerate(service.agents):
            yield from self._vram_problems(f"{path}.x-agents[{number}]", service, agent)
        if service.gpu is None:
            return
        device = str(service.gpu.device)
        parts: list[tuple[str, Service | Agent]] = [(path, service)]
        parts += [(f"{path}.x-agents[{number}]", agent) for number, agent in enumerate(service.agents)]
        for where, part in parts:
            if (said := part.environment.get(VISIBLE_DEVICES, device)) != device:
                reason = f"{VISIBLE_DEVICES} is {shown(said)}, and x-gpu is about device {device}"
                fix = f'write "{device}", which becomes the GPU\'s own name, or remove it'
                yield self._problem(f"{where}.environment", reason, fix)
        budget, needed = service.gpu.vram_budget.mib, least_vram(service)
        if budget is not None and needed > budget:
            reason = f"the agents need {needed} MiB of it, replicas counted, and it has {budget}"
            yield self._problem(f"{path}.x-gpu.vram_budget", reason, "write more here, or a lower vram")

    def _vram_problems(self, path: str, service: Service, agent: Agent) -> Iterator[Problem]:
        """What an agent says of a GPU that its service does not share, or that it does not use."""
        said = [name for name in ("gpu_access", "vram") if getattr(agent, name) is not None]
        if service.gpu is None:
            for name in said:
                fix = "write x-gpu: {vram_budget: 80%} for the service, or remove it"
                yield self._problem(f"{path}.{name}", "the service shares no GPU among its agents", fix)
        elif agent.vram is not None and service.gpu_access(agent) is None:
            fix = "write gpu_access: required or optional beside it, or remove it"
            yield self._problem(f"{path}.vram", f"{agent.name} uses no GPU", fix)
        elif agent.gpu_access == "optional" and agent.vram is None:
            fix = "write how much it takes where there is room, like vram: 1G"
            yield self._problem(f"{path}.vram", "is missing for an agent whose GPU is optional", fix)

    def _cycle(self) -> Iterator[Problem]:
        try:
            waves(self._dependencies())
        except ValueError as error:
            yield self._problem("services", str(error), "remove one depends_on of it")

    def _undeclared(self, path: str, part: Service | Agent) -> Iterator[Problem]:
        for name in sorted(part.networks.keys() - self.networks.keys()):
            fix = f"add {name}: {{external: true}} there"
            yield self._problem(f"{path}.networks", f"{name} is not declared under networks:", fix)
        volumes = {mount.source for mount in part.volumes if mount.type == "volume"}
        for name in sorted(volumes - self.volumes.keys()):
            fix = f"add {name}: {{}} there"
            yield self._problem(f"{path}.volumes", f"{name} is not declared under volumes:", fix)


def _targets(mounts: Iterable[Mount | Tmpfs]) -> list[str]:
    return [normpath(mount.target) for mount in mounts]


def _mounted_in(service: Service, part: Service | Agent) -> set[str]:
    """Where the containers of a service, or of one of its agents, have something of their own."""
    uses: tuple[FileUse, ...] = (*service.configs, *service.secrets, *part.secrets)
    mounts = {*_targets((*service.volumes, *service.tmpfs)), *_targets(part.volumes)}
    return mounts | {normpath(use.path) for use in uses}


def _says_where(variable: str, file: str) -> bool:
    return variable.endswith("_FILE") and normpath(file).startswith(f"{FOLDER}/")


def _reaches(file: str, mounted: set[str]) -> bool:
    """Whether it is what is mounted somewhere, or lies below it."""
    return any(f"{normpath(file)}/".startswith(f"{target}/") for target in mounted)


def _clashes(names: list[str]) -> list[tuple[str, ...]]:
    """Names that are one in the Swarm, in kebab case, or on the network, in lower case."""
    clashes = {
        tuple(name for name in names if spelt(name) == same)
        for spelt in (kebab_case, str.lower)
        for same in twice(map(spelt, names))
    }
    return sorted(clashes)
