"""Workloads as the Engine API wants them: complete, explicit, canonical.

Source: Docker Engine API 1.44, `POST /services/create` and `POST /containers/create`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from math import ceil
from typing import Any

from cascade.model import seccomp
from cascade.model.apparmor import profile_of_group
from cascade.model.compose import HealthCheck, Mount, Placement, Port, RestartPolicy, Tmpfs, TmpfsOptions
from cascade.model.configs import Config, ConfigUse
from cascade.model.fleet import Fleet
from cascade.model.hardening import LIMITS
from cascade.model.host import Host
from cascade.model.quantities import nanoseconds
from cascade.model.secrets import Secret, SecretUse
from cascade.model.service import Service
from cascade.model.workload import LEAST_MEMORY, LEAST_NANO_CPUS, Workload
from cascade.planning.vram import decision, gpu_environment, reserved_vram

LABEL_SYSTEM = "cascade.system"
LABEL_GROUP = "cascade.group"
LABEL_AGENT = "cascade.agent"
LABEL_DIGEST = "cascade.digest"
LABEL_RELEASE = "cascade.release"
LABEL_NEEDS = "cascade.needs"
LABEL_CONFIG = "cascade.config"
LABEL_GPU = "cascade.gpu"
LABEL_SECRET = "cascade.secret"  # noqa: S105 - the name of a label
# Where host containers find their configs; each file has the name that its config has in the Swarm.
CONFIG_FOLDER = "/var/lib/cascade/configs"
# Where they find their secrets: in memory, one folder each.
SECRET_FOLDER = "/run/cascade/secrets"  # noqa: S105 - a path
REALTIME_PRIORITY = 95
# A replica may fail once in a good rollout; when more than half do, the engine pauses it.
TOLERATED_FAILURES = 0.5

Spec = dict[str, Any]


def digest(spec: Mapping[str, Any]) -> str:
    """A short name for exactly this spec."""
    canonical = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def service_spec(workload: Workload, fleet: Fleet) -> Spec:
    """The Swarm service of a workload; networks are named, not numbered."""
    hosts = fleet.eligible(workload)
    deploy, logs = workload.service.deploy, workload.service.logging
    spec = {
        "Name": workload.name,
        "TaskTemplate": {
            "ContainerSpec": _container(workload, fleet),
            "Resources": _resources(workload, fleet),
            "RestartPolicy": _restart(workload.service.restart_policy),
            "Placement": _placement(deploy.placement),
            "Networks": [
                {"Target": name, "Aliases": sorted(aliases)}
                for name, aliases in workload.networks(fleet.settings.system).items()
            ],
            "LogDriver": {"Name": logs.driver, "Options": dict(logs.options)},
            "ForceUpdate": 0,
            "Runtime": "container",
        },
        "Mode": {"Replicated": {"Replicas": workload.replicas}},
        "UpdateConfig": _update(workload),
        "RollbackConfig": {
            "Parallelism": 1,
            "FailureAction": "pause",
            "Monitor": nanoseconds(5),
            "MaxFailureRatio": 0,
            "Order": "stop-first",
        },
        "EndpointSpec": _endpoint(published_ports(workload, hosts)),
    }
    return {**spec, "Labels": _labels(workload, fleet, digest(spec))}


def _endpoint(ports: list[Spec]) -> Spec:
    """Only the ingress network needs a virtual IP."""
    ingress = any(port["PublishMode"] == "ingress" for port in ports)
    return {"Mode": "vip" if ingress else "dnsrr", **({"Ports": ports} if ports else {})}


def published_ports(workload: Workload, hosts: tuple[Host, ...]) -> list[Spec]:
    """The ports that the hosts' kernels can publish: ingress needs IPVS."""
    return [
        {
            "Protocol": port.protocol,
            "TargetPort": port.target,
            "PublishedPort": port.published,
            "PublishMode": port.mode,
        }
        for port in workload.ports
        if port.mode == "host" or not any("ipvs" in host.absent for host in hosts)
    ]


def _placement(placement: Placement) -> Spec:
    preferences = [{"Spread": {"SpreadDescriptor": item.spread}} for item in placement.preferences]
    said = {"Preferences": preferences, "MaxReplicas": placement.max_replicas_per_node}
    return {"Constraints": sorted(placement.constraints), **_said(said)}


def _said(fields: Spec) -> Spec:
    """Only what says something, so that a new key leaves the digests of specs without it as they were."""
    return {name: value for name, value in fields.items() if value}


def _labels(workload: Workload, fleet: Fleet, spec_digest: str) -> dict[str, str]:
    decided = _said({LABEL_GPU: decision(workload, fleet)})
    own = {**_identity(workload, fleet), **decided, LABEL_DIGEST: spec_digest}
    return workload.service.deploy.labels | own


def _identity(workload: Workload, fleet: Fleet) -> dict[str, str]:
    return {
        LABEL_SYSTEM: fleet.settings.system,
        LABEL_GROUP: workload.group,
        LABEL_AGENT: workload.agent,
    }


def _container(workload: Workload, fleet: Fleet) -> Spec:
    service = workload.service
    return {
        "Image": fleet.pinned_images[service.image],
        "Labels": service.labels | _identity(workload, fleet),
        "Command": list(service.entrypoint),
        "Args": list(service.command),
        "Hostname": service.hostname,
        "Env": _environment(gpu_environment(workload, fleet) | {"REPLICA_SLOT": "{{.Task.Slot}}"}),
        "Dir": service.working_dir,
        "User": service.user,
        "Mounts": [_mount(mount) for mount in workload.mounts] + [_tmpfs(mount) for mount in workload.tmpfs],
        "StopSignal": service.stop_signal,
        "StopGracePeriod": nanoseconds(service.stop_grace_period),
        "Healthcheck": _health(workload.health),
        "Hosts": [" ".join(reversed(entry.split(":", 1))) for entry in service.extra_hosts],
        "Init": service.init,
        "ReadOnly": service.read_only,
        "CapabilityAdd": sorted(set(service.cap_add)),
        "CapabilityDrop": sorted(set(service.cap_drop)),
        "Ulimits": _ulimits(workload, fleet.eligible(workload)),
        "Sysctls": dict(service.sysctls),
        "Isolation": "default",
        **_said(
            {
                "Groups": list(service.group_add),
                "TTY": service.tty,
                "OpenStdin": service.stdin_open,
                "DNSConfig": _dns(service, "Nameservers", "Search", "Options"),
                "Configs": [_config(*found) for found in workload.config_files],
                "Secrets": [_secret(fleet, *found) for found in workload.secret_files],
            }
        ),
        "Privileges": {"NoNewPrivileges": True, "Seccomp": _seccomp(system_calls(workload))},
    }


def _config(config: Config, use: ConfigUse) -> Spec:
    """By the name alone: the ID is looked up when the service is posted."""
    file = {"Name": use.path, "UID": use.uid, "GID": use.gid, "Mode": use.mode}
    return {"File": file, "ConfigName": config.name}


def _secret(fleet: Fleet, secret: Secret, use: SecretUse) -> Spec:
    """By the name alone, too."""
    file = {"Name": use.path, "UID": use.uid, "GID": use.gid, "Mode": use.mode}
    return {"File": file, "SecretName": fleet.swarm_secret(secret.name)}


def config_path(config: Config, use: ConfigUse) -> str:
    """Where a config lies on the host of a host container; one file for each owner and mode."""
    usual = (use.uid, use.gid, use.mode) == ("0", "0", 0o444)
    return f"{CONFIG_FOLDER}/{config.name}" + ("" if usual else f".{use.mode:o}.{use.uid}.{use.gid}")


def _config_mount(config: Config, use: ConfigUse) -> Spec:
    source = config_path(config, use)
    return {"Type": "bind", "Source": source, "Target": use.path, "ReadOnly": True}


def secret_place(workload: Workload, fleet: Fleet, secret: Secret) -> str:
    """Where a secret of a host container lies below the folder of its host."""
    return f"{workload.name}/{fleet.swarm_secret(secret.name)}"


def _secret_mount(place: str, use: SecretUse) -> Spec:
    return {"Type": "bind", "Source": f"{SECRET_FOLDER}/{place}", "Target": use.path, "ReadOnly": True}


def system_calls(workload: Workload) -> str:
    """The seccomp profile of a workload as JSON: the file's own, or that of its name; or `unconfined`."""
    said = {option.name: option.value for option in workload.service.security_opt}
    return said["seccomp"] if "seccomp" in said else seccomp.profile(workload.security.profile)


def _seccomp(profile: str) -> Spec:
    if profile == "unconfined":
        return {"Mode": profile}
    return {"Mode": "custom", "Profile": base64.b64encode(profile.encode()).decode()}


def _dns(service: Service, servers: str, search: str, options: str) -> Spec:
    """The engine calls the same three things differently in services and containers."""
    return _said(
        {
            servers: list(service.dns),
            search: list(service.dns_search),
            options: list(service.dns_opt),
        }
    )


def _environment(environment: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in sorted(environment.items())]


def _mount(mount: Mount) -> Spec:
    if mount.type == "tmpfs":
        read_only = {"ReadOnly": True} if mount.read_only else {}
        return {"Type": "tmpfs", "Target": mount.target, **read_only, **_tmpfs_options(mount.tmpfs)}
    options = {
        "VolumeOptions": {"NoCopy": True} if mount.volume.nocopy else {},
        "BindOptions": {"Propagation": mount.bind.propagation} if mount.bind.propagation else {},
    }
    return {
        "Type": mount.type,
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
        **_said(options),
    }


def _tmpfs(mount: Tmpfs) -> Spec:
    return {"Type": "tmpfs", "Target": mount.target, **_tmpfs_options(mount)}


def _tmpfs_options(mount: Tmpfs | TmpfsOptions) -> Spec:
    said = {"SizeBytes": mount.size, "Mode": mount.mode}
    options = {name: value for name, value in said.items() if value is not None}
    return {"TmpfsOptions": options} if options else {}


def _ulimits(workload: Workload, hosts: tuple[Host, ...]) -> list[Spec]:
    absent = frozenset[str]().union(*(host.absent for host in hosts))
    limits = {
        name: {"Name": name, "Soft": limit.soft, "Hard": limit.hard}
        for name, limit in workload.service.ulimits.items()
        if limit != LIMITS.get(name) or name != "nofile" or "open-files" not in absent
    }
    if workload.realtime and "realtime" not in absent:
        limits["rtprio"] = {"Name": "rtprio", "Soft": REALTIME_PRIORITY, "Hard": REALTIME_PRIORITY}
    return [limits[name] for name in sorted(limits)]


def _health(check: HealthCheck | None) -> Spec | None:
    if check is None:
        return None
    return {
        "Test": list(check.test),
        "Interval": nanoseconds(check.interval),
        "Timeout": nanoseconds(check.timeout),
        "Retries": check.retries,
        "StartPeriod": nanoseconds(check.start_period),
        "StartInterval": nanoseconds(check.start_interval),
    }


def _resources(workload: Workload, fleet: Fleet) -> Spec:
    """GPUs do not shrink with their host's scale: they are as large as they are."""
    share, scale = workload.share, min(host.reservation_scale for host in fleet.eligible(workload))
    return {
        "Limits": {
            **_amounts(share.cpu_limit, share.memory_limit),
            **_said({"Pids": workload.service.pids}),
        },
        "Reservations": {
            **_amounts(
                _scaled(share.cpu_reservation, scale, LEAST_NANO_CPUS),
                _scaled(share.memory_reservation, scale, LEAST_MEMORY),
            ),
            **reserved_vram(workload, fleet),
        },
    }


def _scaled(amount: int | None, scale: float, least: int) -> int | None:
    """A reservation on a smaller host, never less than the engine takes."""
    return None if amount is None else max(least, int(amount * scale))


def _amounts(nano_cpus: int | None, memory: int | None) -> Spec:
    amounts = {"NanoCPUs": nano_cpus, "MemoryBytes": memory}
    return {name: amount for name, amount in amounts.items() if amount}


def _restart(policy: RestartPolicy) -> Spec:
    return {
        "Condition": policy.condition,
        "Delay": nanoseconds(policy.delay),
        "MaxAttempts": policy.max_attempts or 0,
        "Window": nanoseconds(policy.window),
    }


def _update(workload: Workload) -> Spec:
    update = workload.service.deploy.update_config
    return {
        "Parallelism": workload.at_once,
        "Delay": nanoseconds(update.delay),
        "FailureAction": update.failure_action,
        "Monitor": nanoseconds(update.monitor),
        "MaxFailureRatio": TOLERATED_FAILURES,
        "Order": "stop-first" if workload.stops_first else "start-first",
    }


def container_body(workload: Workload, fleet: Fleet) -> Spec:
    """The host container of a workload: the body that creates it, under the workload's name."""
    (host,) = fleet.eligible(workload)
    service = workload.service
    in_swarm = _container(workload, fleet)
    share = workload.share
    body = {
        "Image": in_swarm["Image"],
        "Entrypoint": in_swarm["Command"],
        "Cmd": in_swarm["Args"],
        "Hostname": in_swarm["Hostname"],
        "Env": _environment(gpu_environment(workload, fleet) | {"REPLICA_SLOT": "1"}),
        "WorkingDir": in_swarm["Dir"],
        "User": in_swarm["User"],
        "StopSignal": in_swarm["StopSignal"],
        "StopTimeout": ceil(service.stop_grace_period),
        "Healthcheck": in_swarm["Healthcheck"],
        "HostConfig": {
            "NetworkMode": next(iter(workload.networks(fleet.settings.system))),
            "IpcMode": "private",
            "Mounts": [
                *in_swarm["Mounts"],
                *(_config_mount(*found) for found in workload.config_files),
                *(
                    _secret_mount(secret_place(workload, fleet, secret), use)
                    for secret, use in workload.secret_files
                ),
            ],
            "Devices": [
                {
                    "PathOnHost": device.source,
                    "PathInContainer": device.target,
                    "CgroupPermissions": device.permissions,
                }
                for device in service.devices
                if device.source not in host.absent
            ],
            "CapAdd": in_swarm["CapabilityAdd"],
            "CapDrop": in_swarm["CapabilityDrop"],
            "Ulimits": in_swarm["Ulimits"],
            "Sysctls": in_swarm["Sysctls"],
            "ExtraHosts": list(service.extra_hosts),
            "SecurityOpt": [
                "no-new-privileges=true",
                f"seccomp={system_calls(workload)}",
                f"apparmor={profile_of_group(workload.group)}",
            ],
            "Init": service.init,
            "ReadonlyRootfs": service.read_only,
            "NanoCpus": share.cpu_limit or 0,
            "Memory": share.memory_limit or 0,
            "MemoryReservation": _scaled(share.memory_reservation, host.reservation_scale, LEAST_MEMORY) or 0,
            "RestartPolicy": _container_restart(service.restart_policy),
            "PortBindings": _bindings(workload.ports),
            **_said({"PidsLimit": service.pids, "GroupAdd": list(service.group_add)}),
            **_dns(service, "Dns", "DnsSearch", "DnsOptions"),
            **({"ShmSize": service.shm_size} if service.shm_size else {}),
            "LogConfig": {"Type": service.logging.driver, "Config": dict(service.logging.options)},
        },
        "NetworkingConfig": {
            "EndpointsConfig": {
                name: {"Aliases": sorted(aliases)}
                for name, aliases in workload.networks(fleet.settings.system).items()
            }
        },
    }
    # The engine publishes no port that is not exposed too.
    exposed: Spec = {target: {} for target in body["HostConfig"]["PortBindings"]}
    body |= _said({"Tty": service.tty, "OpenStdin": service.stdin_open, "ExposedPorts": exposed})
    said = {name: value for name, value in body.items() if value not in ("", [], None)}
    return {**said, "Labels": service.labels | _labels(workload, fleet, digest(said))}


def _bindings(ports: tuple[Port, ...]) -> Spec:
    """The host's ports by the container's, which may be published more than once."""
    found: Spec = {}
    for port in ports:
        at = found.setdefault(f"{port.target}/{port.protocol}", [])
        at.append({"HostIp": "", "HostPort": str(port.published)})
    return found


def _container_restart(policy: RestartPolicy) -> Spec:
    """Only a container that restarts on failure may count."""
    if policy.condition == "on-failure":
        return {"Name": "on-failure", "MaximumRetryCount": policy.max_attempts or 0}
    return {"Name": "no" if policy.condition == "none" else "always", "MaximumRetryCount": 0}
