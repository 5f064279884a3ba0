"""Where each honoured key of a group file ends up: in a Swarm service, and in a host container.

A text with a capital letter is a path in the Engine API's spec. Others say what Cascade itself does with the
key; those that begin with NO_EFFECT say why nothing becomes of it. Keys are written as in refused.py.
"""

from __future__ import annotations

from typing import NamedTuple

NO_EFFECT = "no effect"

_CONTAINER = "TaskTemplate.ContainerSpec"
_HEALTH = f"{_CONTAINER}.Healthcheck"
_LIMITS = "TaskTemplate.Resources.Limits"
_RESERVATIONS = "TaskTemplate.Resources.Reservations"
_NEVER_UPDATED = f"{NO_EFFECT}: a host container is replaced, never updated"
_DOCKER_DECIDES = f"{NO_EFFECT}: Docker itself decides when a host container restarts"
_ONE_HOST = f"{NO_EFFECT}: a host container has one host and one replica"
_DEADLINE = "how long its gate waits"
_GPU = "which GPU it sees, and how much of its memory it reserves"
_GPU_OF_CONTAINER = "which GPU it sees"
_UNCOUNTED = f"{NO_EFFECT}: Swarm counts nothing of a host container; the budget does"
_FOR_READERS = f"{NO_EFFECT}: for those who read the file"


class Destination(NamedTuple):
    """What becomes of a key; in a host container the same if nothing else is said."""

    service: str
    container: str = ""

    def of(self, container: bool) -> str:
        return self.container if container and self.container else self.service


_CONFIG = Destination("a config in the Swarm, and a file on the hosts of host containers")

_SECRET = Destination("a secret in the Swarm; for host containers a file in their hosts' memory")
_SECRETS = Destination(f"{_CONTAINER}.Secrets", "HostConfig.Mounts")

_SECURITY = Destination(f"{_CONTAINER}.Privileges", "HostConfig.SecurityOpt")
_REASON = Destination(f"{NO_EFFECT} but that the weaker value beside it is taken")


def _health(prefix: str) -> dict[str, Destination]:
    return {
        f"{prefix}.disable": Destination(f"{_HEALTH}.Test", "Healthcheck.Test"),
        f"{prefix}.interval": Destination(f"{_HEALTH}.Interval", "Healthcheck.Interval"),
        f"{prefix}.retries": Destination(f"{_HEALTH}.Retries", "Healthcheck.Retries"),
        f"{prefix}.start_interval": Destination(f"{_HEALTH}.StartInterval", "Healthcheck.StartInterval"),
        f"{prefix}.start_period": Destination(f"{_HEALTH}.StartPeriod", "Healthcheck.StartPeriod"),
        f"{prefix}.test": Destination(f"{_HEALTH}.Test", "Healthcheck.Test"),
        f"{prefix}.timeout": Destination(f"{_HEALTH}.Timeout", "Healthcheck.Timeout"),
    }


def _mounts(prefix: str) -> dict[str, Destination]:
    return {
        prefix: Destination(f"{_CONTAINER}.Mounts", "HostConfig.Mounts"),
        f"{prefix}.bind.create_host_path": Destination(f"{NO_EFFECT}: a missing folder is never made"),
    }


DESTINATIONS: dict[str, Destination] = {
    "configs.*.content": _CONFIG,
    "configs.*.file": _CONFIG,
    "configs.*.name": Destination(f"{_CONTAINER}.Configs", "HostConfig.Mounts"),
    "name": Destination("Name", "Labels"),
    "networks.*.external": Destination("the network is the fleet's: group_data declares it"),
    "networks.*.name": Destination("TaskTemplate.Networks", "NetworkingConfig.EndpointsConfig"),
    "secrets.*.external": _SECRET,
    "secrets.*.name": _SECRETS,
    "secrets.*.x-generate": Destination("a value in the store, made once by `cascade secrets init`"),
    "version": Destination(f"{NO_EFFECT}, as in Compose"),
    "volumes.*": Destination("made as a volume on each host of its services"),
    "volumes.*.name": Destination(f"{_CONTAINER}.Mounts", "HostConfig.Mounts"),
    "x-enabled": Destination("whether the group runs"),
    "services.*.attach": Destination(f"{NO_EFFECT}: everything runs in the background"),
    "services.*.cap_add": Destination(f"{_CONTAINER}.CapabilityAdd", "HostConfig.CapAdd"),
    "services.*.cap_drop": Destination(f"{_CONTAINER}.CapabilityDrop", "HostConfig.CapDrop"),
    "services.*.command": Destination(f"{_CONTAINER}.Args", "Cmd"),
    "services.*.configs": Destination(f"{_CONTAINER}.Configs", "HostConfig.Mounts"),
    "services.*.depends_on": Destination("the order of the start, in waves"),
    "services.*.deploy.endpoint_mode": Destination("EndpointSpec.Mode", _ONE_HOST),
    "services.*.deploy.labels": Destination("Labels"),
    "services.*.deploy.mode": Destination("Mode.Replicated", _ONE_HOST),
    "services.*.deploy.placement.constraints": Destination(
        "TaskTemplate.Placement.Constraints", "which host it runs on"
    ),
    "services.*.deploy.placement.max_replicas_per_node": Destination(
        "TaskTemplate.Placement.MaxReplicas", _ONE_HOST
    ),
    "services.*.deploy.placement.preferences": Destination("TaskTemplate.Placement.Preferences", _ONE_HOST),
    "services.*.deploy.replicas": Destination("Mode.Replicated.Replicas", _ONE_HOST),
    "services.*.deploy.resources.limits.cpus": Destination(f"{_LIMITS}.NanoCPUs", "HostConfig.NanoCpus"),
    "services.*.deploy.resources.limits.memory": Destination(f"{_LIMITS}.MemoryBytes", "HostConfig.Memory"),
    "services.*.deploy.resources.limits.pids": Destination(f"{_LIMITS}.Pids", "HostConfig.PidsLimit"),
    "services.*.deploy.resources.reservations.cpus": Destination(
        f"{_RESERVATIONS}.NanoCPUs", f"{NO_EFFECT}: the Swarm's scheduler does not see a host container"
    ),
    "services.*.deploy.resources.reservations.memory": Destination(
        f"{_RESERVATIONS}.MemoryBytes", "HostConfig.MemoryReservation"
    ),
    "services.*.deploy.restart_policy.condition": Destination(
        "TaskTemplate.RestartPolicy.Condition", "HostConfig.RestartPolicy.Name"
    ),
    "services.*.deploy.restart_policy.delay": Destination(
        "TaskTemplate.RestartPolicy.Delay", _DOCKER_DECIDES
    ),
    "services.*.deploy.restart_policy.max_attempts": Destination(
        "TaskTemplate.RestartPolicy.MaxAttempts", "HostConfig.RestartPolicy.MaximumRetryCount"
    ),
    "services.*.deploy.restart_policy.window": Destination(
        "TaskTemplate.RestartPolicy.Window", _DOCKER_DECIDES
    ),
    "services.*.deploy.update_config.delay": Destination("UpdateConfig.Delay", _NEVER_UPDATED),
    "services.*.deploy.update_config.failure_action": Destination(
        "UpdateConfig.FailureAction", _NEVER_UPDATED
    ),
    "services.*.deploy.update_config.monitor": Destination("UpdateConfig.Monitor", _NEVER_UPDATED),
    "services.*.deploy.update_config.order": Destination("UpdateConfig.Order", _NEVER_UPDATED),
    "services.*.deploy.update_config.parallelism": Destination("UpdateConfig.Parallelism", _NEVER_UPDATED),
    "services.*.devices": Destination("HostConfig.Devices"),
    "services.*.dns": Destination(f"{_CONTAINER}.DNSConfig.Nameservers", "HostConfig.Dns"),
    "services.*.dns_opt": Destination(f"{_CONTAINER}.DNSConfig.Options", "HostConfig.DnsOptions"),
    "services.*.dns_search": Destination(f"{_CONTAINER}.DNSConfig.Search", "HostConfig.DnsSearch"),
    "services.*.entrypoint": Destination(f"{_CONTAINER}.Command", "Entrypoint"),
    "services.*.environment": Destination(f"{_CONTAINER}.Env", "Env"),
    "services.*.expose": Destination(f"{NO_EFFECT}, as in Compose: services of a network reach every port"),
    "services.*.extra_hosts": Destination(f"{_CONTAINER}.Hosts", "HostConfig.ExtraHosts"),
    "services.*.group_add": Destination(f"{_CONTAINER}.Groups", "HostConfig.GroupAdd"),
    **_health("services.*.healthcheck"),
    "services.*.hostname": Destination(f"{_CONTAINER}.Hostname", "Hostname"),
    "services.*.image": Destination(f"{_CONTAINER}.Image", "Image"),
    "services.*.init": Destination(f"{_CONTAINER}.Init", "HostConfig.Init"),
    "services.*.labels": Destination(f"{_CONTAINER}.Labels", "Labels"),
    "services.*.logging.driver": Destination("TaskTemplate.LogDriver.Name", "HostConfig.LogConfig.Type"),
    "services.*.logging.options": Destination(
        "TaskTemplate.LogDriver.Options", "HostConfig.LogConfig.Config"
    ),
    "services.*.networks": Destination("TaskTemplate.Networks", "NetworkingConfig.EndpointsConfig"),
    "services.*.pids_limit": Destination(f"{_LIMITS}.Pids", "HostConfig.PidsLimit"),
    "services.*.ports": Destination("EndpointSpec.Ports", "HostConfig.PortBindings"),
    "services.*.ports.app_protocol": Destination(_FOR_READERS),
    "services.*.ports.mode": Destination(
        "EndpointSpec.Ports", f"{NO_EFFECT}: it is the port of its one host"
    ),
    "services.*.ports.name": Destination(_FOR_READERS),
    "services.*.read_only": Destination(f"{_CONTAINER}.ReadOnly", "HostConfig.ReadonlyRootfs"),
    "services.*.restart": Destination("TaskTemplate.RestartPolicy", "HostConfig.RestartPolicy"),
    "services.*.runtime": Destination("met by the host's default runtime"),
    "services.*.secrets": _SECRETS,
    "services.*.security_opt": _SECURITY,
    "services.*.shm_size": Destination("HostConfig.ShmSize"),
    "services.*.stdin_open": Destination(f"{_CONTAINER}.OpenStdin", "OpenStdin"),
    "services.*.stop_grace_period": Destination(f"{_CONTAINER}.StopGracePeriod", "StopTimeout"),
    "services.*.stop_signal": Destination(f"{_CONTAINER}.StopSignal", "StopSignal"),
    "services.*.sysctls": Destination(f"{_CONTAINER}.Sysctls", "HostConfig.Sysctls"),
    "services.*.tmpfs": Destination(f"{_CONTAINER}.Mounts", "HostConfig.Mounts"),
    "services.*.tty": Destination(f"{_CONTAINER}.TTY", "Tty"),
    "services.*.ulimits": Destination(f"{_CONTAINER}.Ulimits", "HostConfig.Ulimits"),
    "services.*.user": Destination(f"{_CONTAINER}.User", "User"),
    **_mounts("services.*.volumes"),
    "services.*.working_dir": Destination(f"{_CONTAINER}.Dir", "WorkingDir"),
    "services.*.x-agents.config": Destination(f"{_CONTAINER}.Env", "Env"),
    "services.*.x-agents.cpus": Destination(f"{_LIMITS}.NanoCPUs", "HostConfig.NanoCpus"),
    "services.*.x-agents.deadline": Destination(_DEADLINE),
    "services.*.x-agents.depends_on": Destination("the order of the start, in waves"),
    "services.*.x-agents.environment": Destination(f"{_CONTAINER}.Env", "Env"),
    "services.*.x-agents.gpu_access": Destination(_GPU, _GPU_OF_CONTAINER),
    **_health("services.*.x-agents.health_check"),
    "services.*.x-agents.health_port": Destination(f"{_CONTAINER}.Env", "Env"),
    "services.*.x-agents.load_balanced": Destination(_FOR_READERS),
    "services.*.x-agents.memory_limit": Destination(f"{_LIMITS}.MemoryBytes", "HostConfig.Memory"),
    "services.*.x-agents.name": Destination("Name", "Labels"),
    "services.*.x-agents.networks": Destination("TaskTemplate.Networks", "NetworkingConfig.EndpointsConfig"),
    "services.*.x-agents.optional": Destination("its gate warns and goes on"),
    "services.*.x-agents.persistent": Destination("UpdateConfig.Order", _NEVER_UPDATED),
    "services.*.x-agents.port": Destination(f"{_CONTAINER}.Env", "Env"),
    "services.*.x-agents.realtime_priority": Destination(f"{_CONTAINER}.Ulimits", "HostConfig.Ulimits"),
    "services.*.x-agents.secrets": _SECRETS,
    "services.*.x-agents.security": _SECURITY,
    "services.*.x-agents.security.exceptions": _REASON,
    "services.*.x-agents.startup_order": Destination("the order of the start, in waves"),
    "services.*.x-agents.state_sync": Destination(f"{_CONTAINER}.Env", "Env"),
    **_mounts("services.*.x-agents.volumes"),
    "services.*.x-agents.vram": Destination(f"{_RESERVATIONS}.GenericResources", _UNCOUNTED),
    "services.*.x-deadline": Destination(_DEADLINE),
    "services.*.x-gpu": Destination(_GPU, _GPU_OF_CONTAINER),
    "services.*.x-gpu.device": Destination(f"{_CONTAINER}.Env", "Env"),
    "services.*.x-gpu.vram_budget": Destination("what its host's engine offers: node-generic-resources"),
    "services.*.x-security": _SECURITY,
    "services.*.x-security.exceptions": _REASON,
    "services.*.x-scale": Destination("a range inside which a replica count is no drift", _ONE_HOST),
}


def destination(key: str) -> Destination | None:
    """What becomes of a key, or of the one that it is part of; None for one that only holds others."""
    while key:
        if key in DESTINATIONS:
            return DESTINATIONS[key]
        key = key.rpartition(".")[0]
    return None
