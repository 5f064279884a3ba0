"""The CIS Docker Benchmark, 1.6.0, as far as a program can look: each control by its number.

A control yields what is not as it asks: the subject and what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.verify.look import Look, name_of

Container = Mapping[str, Any]


@dataclass(frozen=True)
class Fault:
    """Something that is not as a control asks."""

    subject: str
    what: str


Check = Callable[[Look], Iterable[Fault]]


@dataclass(frozen=True)
class Control:
    """One control of the benchmark."""

    number: str
    title: str
    faults: Check


def _audited(*paths: str) -> Check:
    def faults(look: Look) -> Iterator[Fault]:
        for path in filter(look.files.__contains__, paths):
            if not re.search(rf"-w {re.escape(path)}/?(\s|$)|path={re.escape(path)}(\s|$)", look.audit_rules):
                yield Fault(path, "no audit rule watches it")

    return faults


def _unit_audited(unit: str) -> Check:
    return lambda look: _audited(look.unit_files[unit])(look)


def _owned(owner: str, group: str, *paths: str) -> Check:
    def faults(look: Look) -> Iterator[Fault]:
        for path in filter(look.files.__contains__, paths):
            file = look.files[path]
            if (file.owner, file.group) != (owner, group):
                yield Fault(path, f"belongs to {file.owner}:{file.group}, not {owner}:{group}")

    return faults


def _at_most(mode: int, *paths: str) -> Check:
    def faults(look: Look) -> Iterator[Fault]:
        for path in filter(look.files.__contains__, paths):
            if look.files[path].mode & ~mode:
                yield Fault(path, f"has mode {look.files[path].mode:o}, more than {mode:o}")

    return faults


def _of_unit(check: Callable[..., Check], unit: str, *expected: Any) -> Check:
    return lambda look: check(*expected, look.unit_files[unit])(look)


def _of_certificates(check: Callable[..., Check], *expected: Any) -> Check:
    return lambda look: check(*expected, *look.registry_certificates)(look)


def _of_tls(check: Callable[..., Check], key: str, *expected: Any) -> Check:
    return lambda look: check(*expected, *filter(None, [look.daemon.get(key)]))(look)


def _setting(key: str, right: Callable[[Any], bool], what: str) -> Check:
    """A key of daemon.json, None where it is not there; no argument of the daemon may take its place."""

    def faults(look: Look) -> Iterator[Fault]:
        if not right(look.daemon.get(key)):
            yield Fault("daemon.json", what)
        for argument in look.arguments:
            if argument.partition("=")[0] == f"--{key}":
                yield Fault("dockerd", f"is started with {argument}, which counts in place of daemon.json")

    return faults


def _each_container(wrong: Callable[[Container], str | None]) -> Check:
    def faults(look: Look) -> Iterator[Fault]:
        for container in look.containers:
            if what := wrong(container):
                yield Fault(name_of(container), what)

    return faults


def _own_partition(look: Look) -> Iterator[Fault]:
    if look.mount_of_data != look.data:
        lies = f"lies on the file system of {look.mount_of_data}" if look.mount_of_data else "is not there"
        yield Fault(look.data, lies)


def _trusted_users(look: Look) -> Iterator[Fault]:
    for user in look.docker_group:
        yield Fault(user, "is in the group docker, which is as powerful as root")


def _not_root(look: Look) -> Iterator[Fault]:
    if not any("rootless" in option for option in look.info["SecurityOptions"]):
        yield Fault("dockerd", "runs as root")


def _registries(look: Look) -> Iterator[Fault]:
    for network in look.info["RegistryConfig"]["InsecureRegistryCIDRs"]:
        if network not in ("127.0.0.0/8", "::1/128"):
            yield Fault(network, "may hold registries without TLS")
    for name, registry in look.info["RegistryConfig"]["IndexConfigs"].items():
        if not registry["Secure"]:
            yield Fault(name, "is a registry without TLS")


def _driver(look: Look) -> Iterator[Fault]:
    if look.info["Driver"] == "aufs":
        yield Fault("dockerd", "stores with aufs")


def _tcp_with_tls(look: Look) -> Iterator[Fault]:
    given = [*look.daemon.get("hosts", ()), *look.arguments]
    for address in given:
        if "tcp://" in address and not look.daemon.get("tlsverify"):
            yield Fault(address, "is open without certificates of clients")


def _user_namespaces(look: Look) -> Iterator[Fault]:
    if not any("userns" in option for option in look.info["SecurityOptions"]):
        yield Fault("dockerd", "does not remap users")


def _authorization(look: Look) -> Iterator[Fault]:
    if not look.info["Plugins"]["Authorization"]:
        yield Fault("dockerd", "has no plugin that decides on each command")


def _remote_logs(look: Look) -> Iterator[Fault]:
    if look.info["LoggingDriver"] in ("json-file", "local", "journald", "none"):
        yield Fault("dockerd", f"logs with {look.info['LoggingDriver']}, on the host alone")


def _seccomp_of_daemon(look: Look) -> Iterator[Fault]:
    if not any(
        option.startswith("name=seccomp") and "unconfined" not in option
        for option in look.info["SecurityOptions"]
    ):
        yield Fault("dockerd", "does not confine containers by seccomp")


def _experimental(look: Look) -> Iterator[Fault]:
    if look.info["ExperimentalBuild"]:
        yield Fault("dockerd", "has experimental features")


def _container_user(container: Container) -> str | None:
    user = container["Config"]["User"].partition(":")[0]
    return "runs as root" if user in ("", "0", "root") else None


def _content_trust(look: Look) -> Iterator[Fault]:
    if look.environment.get("DOCKER_CONTENT_TRUST") != "1":
        yield Fault("dockerd", "does not ask for signed images")


def _image_health(look: Look) -> Iterator[Fault]:
    for image in look.images:
        if not image["Config"].get("Healthcheck"):
            yield Fault(_tag(image), "declares no health check of its own")


def _set_ids(look: Look) -> Iterator[Fault]:
    for image in look.images:
        for path in look.set_id_files[image["Id"]]:
            yield Fault(_tag(image), f"{path} runs as its owner, whoever starts it")


def _added(look: Look) -> Iterator[Fault]:
    for image in look.images:
        if any(re.match(r"ADD (?!file:|dir:|rootfs)", line) for line in look.history[image["Id"]]):
            yield Fault(_tag(image), "was built with ADD")


def _tag(image: Mapping[str, Any]) -> str:
    return next(iter(image.get("RepoTags") or ()), str(image["Id"]))


def _swarm_on(look: Look) -> Iterator[Fault]:
    if look.swarm.get("LocalNodeState") == "active":
        yield Fault("dockerd", "is in a Swarm")


def _apparmor(container: Container) -> str | None:
    profile = container["AppArmorProfile"]
    return f"is confined by {profile or 'nothing'}" if profile in ("", "unconfined") else None


def _selinux(container: Container) -> str | None:
    labelled = any(option.startswith("label") for option in container["HostConfig"]["SecurityOpt"] or ())
    return None if labelled else "has no SELinux label"


def _capabilities(container: Container) -> str | None:
    host = container["HostConfig"]
    added = [name for name in host["CapAdd"] or () if name]
    if "ALL" not in [name.upper() for name in host["CapDrop"] or ()]:
        return "keeps capabilities"
    return f"has {', '.join(added)}" if added else None


def _sensitive_mount(container: Container) -> str | None:
    system = re.compile(r"/|/(boot|dev|etc|lib|proc|sys|usr)(/.*)?")
    found = [mount["Source"] for mount in container["Mounts"] if mount["Type"] == "bind"]
    wrong = [source for source in found if system.fullmatch(source)]
    return f"mounts {', '.join(wrong)}" if wrong else None


def _sshd(look: Look) -> Iterator[Fault]:
    for pid in look.sshd_in_containers:
        yield Fault(f"process {pid}", "is an SSH server inside of a container")


def _published(container: Container) -> Iterator[Mapping[str, str]]:
    for bindings in (container["NetworkSettings"]["Ports"] or {}).values():
        yield from bindings or ()


def _privileged_ports(container: Container) -> str | None:
    low = [entry["HostPort"] for entry in _published(container) if 0 < int(entry["HostPort"]) < 1024]
    return f"is published at {', '.join(low)}" if low else None


def _any_interface(container: Container) -> str | None:
    open_to_all = [
        entry["HostPort"] for entry in _published(container) if entry["HostIp"] in ("", "0.0.0.0", "::")
    ]
    return f"is published at {', '.join(open_to_all)} of every interface" if open_to_all else None


def _of_host(key: str, wrong: Callable[[Any], object], what: str) -> Check:
    return _each_container(lambda container: what if wrong(container["HostConfig"].get(key)) else None)


def _restarts(look: Look) -> Iterator[Fault]:
    for container in look.containers:
        policy = container["HostConfig"]["RestartPolicy"]
        if policy["Name"] not in ("", "no") and (policy["Name"], policy["MaximumRetryCount"]) != (
            "on-failure",
            5,
        ):
            yield Fault(name_of(container), f"is started again {policy['Name']}")
    for service in look.services:
        policy = service["Spec"]["TaskTemplate"].get("RestartPolicy") or {}
        if policy.get("Condition") != "on-failure" or policy.get("MaxAttempts") != 5:
            yield Fault(service["Spec"]["Name"], f"is started again on {policy.get('Condition', 'any')}")


def _devices(container: Container) -> str | None:
    found = [device["PathOnHost"] for device in container["HostConfig"]["Devices"] or ()]
    return f"has {', '.join(found)}" if found else None


def _ulimits(container: Container) -> str | None:
    return None if container["HostConfig"]["Ulimits"] else "has no limits of its own"


def _shared_mounts(container: Container) -> str | None:
    wrong = [
        mount["Destination"] for mount in container["Mounts"] if "shared" in mount.get("Propagation", "")
    ]
    return f"shares what is mounted in {', '.join(wrong)}" if wrong else None


def _seccomp(look: Look) -> Iterator[Fault]:
    for name, status in look.statuses.items():
        if status["Seccomp"] != "2":
            yield Fault(name, "has no seccomp filter")


def _new_privileges(look: Look) -> Iterator[Fault]:
    for name, status in look.statuses.items():
        if status["NoNewPrivs"] != "1":
            yield Fault(name, "may gain privileges")


def _health(container: Container) -> str | None:
    health = (container["State"].get("Health") or {}).get("Status")
    return None if health == "healthy" else f"health is {health or 'not checked'}"


def _pinned(container: Container) -> str | None:
    image = container["Config"]["Image"]
    return None if "sha256:" in image else f"runs {image}, which may move"


def _default_bridge(container: Container) -> str | None:
    return "is on docker0" if "bridge" in container["NetworkSettings"]["Networks"] else None


def _docker_socket(container: Container) -> str | None:
    sources = [mount.get("Source", "") for mount in container["Mounts"]]
    found = [
        source
        for source in sources
        if source.rstrip("/").endswith(("docker.sock", "/run", "containerd.sock"))
    ]
    return f"mounts {', '.join(found)}" if found else None


def _managers(look: Look) -> Iterator[Fault]:
    if look.cluster and look.swarm["Managers"] > 1 and look.swarm["Nodes"] < 3:
        yield Fault("the Swarm", f"has {look.swarm['Managers']} managers of {look.swarm['Nodes']} nodes")


def _swarm_interface(look: Look) -> Iterator[Fault]:
    for address in look.listening:
        if re.fullmatch(r"(\*|0\.0\.0\.0|\[::\]):(2377|7946)", address):
            yield Fault("the Swarm", f"listens at {address}, on every interface")


def _encrypted(look: Look) -> Iterator[Fault]:
    for network in look.networks:
        if network["Driver"] == "overlay" and "encrypted" not in (network["Options"] or {}):
            yield Fault(network["Name"], "is not encrypted")


def _secrets(look: Look) -> Iterator[Fault]:
    """A value of this name belongs in a secret; a path to a file does not."""
    named = re.compile(r"[^=]*(PASSWORD|PASSWD|SECRET|TOKEN|API_KEY|PRIVATE_KEY)=(?!/)\S")
    for container in look.containers:
        for variable in container["Config"]["Env"] or ():
            if named.match(variable):
                yield Fault(name_of(container), f"has {variable.partition('=')[0]} in its environment")


def _autolock(look: Look) -> Iterator[Fault]:
    if look.cluster and not look.cluster["Spec"]["EncryptionConfig"]["AutoLockManagers"]:
        yield Fault("the Swarm", "keeps its keys on the manager's disk as they are")


def _node_certificates(look: Look) -> Iterator[Fault]:
    days = look.cluster["Spec"]["CAConfig"]["NodeCertExpiry"] / 10**9 / 86400 if look.cluster else 0
    if days > 90:
        yield Fault("the Swarm", f"gives nodes certificates for {days:.0f} days")


_DOCKERD = ("/usr/bin/dockerd", "/usr/sbin/dockerd")
_RUNC = ("/usr/bin/runc", "/usr/sbin/runc")
_ENGINE_SOCKET, _CONTAINERD_SOCKET = "/run/docker.sock", "/run/containerd/containerd.sock"

CONTROLS = (
    Control("1.1.1", "The engine's data lie on a file system of their own", _own_partition),
    Control("1.1.2", "Only trusted users control the engine", _trusted_users),
    Control("1.1.3", "dockerd is audited", _audited(*_DOCKERD)),
    Control("1.1.4", "/run/containerd is audited", _audited("/run/containerd")),
    Control("1.1.5", "The engine's data are audited", lambda look: _audited(look.data)(look)),
    Control("1.1.6", "/etc/docker is audited", _audited("/etc/docker")),
    Control("1.1.7", "docker.service is audited", _unit_audited("docker.service")),
    Control("1.1.8", "containerd's socket is audited", _audited(_CONTAINERD_SOCKET)),
    Control("1.1.9", "docker.socket is audited", _unit_audited("docker.socket")),
    Control("1.1.10", "/etc/default/docker is audited", _audited("/etc/default/docker")),
    Control("1.1.11", "daemon.json is audited", _audited("/etc/docker/daemon.json")),
    Control("1.1.12", "containerd's settings are audited", _audited("/etc/containerd/config.toml")),
    Control("1.1.13", "/etc/sysconfig/docker is audited", _audited("/etc/sysconfig/docker")),
    Control("1.1.14", "containerd is audited", _audited("/usr/bin/containerd")),
    Control("1.1.15", "containerd-shim is audited", _audited("/usr/bin/containerd-shim")),
    Control("1.1.16", "containerd-shim-runc-v1 is audited", _audited("/usr/bin/containerd-shim-runc-v1")),
    Control("1.1.17", "containerd-shim-runc-v2 is audited", _audited("/usr/bin/containerd-shim-runc-v2")),
    Control("1.1.18", "runc is audited", _audited(*_RUNC)),
    Control("2.1", "The daemon runs as another user than root", _not_root),
    Control(
        "2.2",
        "Containers on the default bridge do not reach one another",
        _setting("icc", lambda value: value is False, "icc is not false"),
    ),
    Control(
        "2.3",
        "The daemon logs at the level info",
        _setting("log-level", lambda value: value in (None, "info"), "log-level is not info"),
    ),
    Control(
        "2.4",
        "The daemon may change iptables",
        _setting("iptables", lambda value: value is not False, "iptables is false"),
    ),
    Control("2.5", "No registry is used without TLS", _registries),
    Control("2.6", "aufs is not used", _driver),
    Control("2.7", "Clients over TCP show certificates", _tcp_with_tls),
    Control("2.8", "Limits have defaults", _setting("default-ulimits", bool, "there are no default-ulimits")),
    Control("2.9", "Users of containers are remapped", _user_namespaces),
    Control(
        "2.10",
        "Containers are in the engine's own cgroup",
        _setting("cgroup-parent", lambda value: not value, "cgroup-parent is set"),
    ),
    Control(
        "2.11",
        "The base size of devices is not changed",
        _setting("storage-opts", lambda value: "dm.basesize" not in str(value), "dm.basesize is set"),
    ),
    Control("2.12", "Commands are authorized one by one", _authorization),
    Control("2.13", "Logs are collected in one other place", _remote_logs),
    Control(
        "2.14",
        "Containers gain no privileges",
        _setting("no-new-privileges", lambda value: value is True, "no-new-privileges is not true"),
    ),
    Control(
        "2.15",
        "Containers outlive the daemon",
        _setting("live-restore", lambda value: value is True, "live-restore is not true"),
    ),
    Control(
        "2.16",
        "There is no userland proxy",
        _setting("userland-proxy", lambda value: value is False, "userland-proxy is not false"),
    ),
    Control("2.17", "The daemon confines by seccomp", _seccomp_of_daemon),
    Control("2.18", "Nothing experimental is on", _experimental),
    Control("3.1", "docker.service belongs to root", _of_unit(_owned, "docker.service", "root", "root")),
    Control("3.2", "docker.service is written by root alone", _of_unit(_at_most, "docker.service", 0o644)),
    Control("3.3", "docker.socket belongs to root", _of_unit(_owned, "docker.socket", "root", "root")),
    Control("3.4", "docker.socket is written by root alone", _of_unit(_at_most, "docker.socket", 0o644)),
    Control("3.5", "/etc/docker belongs to root", _owned("root", "root", "/etc/docker")),
    Control("3.6", "/etc/docker is written by root alone", _at_most(0o755, "/etc/docker")),
    Control("3.7", "Registries' certificates belong to root", _of_certificates(_owned, "root", "root")),
    Control("3.8", "Registries' certificates are only read", _of_certificates(_at_most, 0o444)),
    Control("3.9", "The clients' authority belongs to root", _of_tls(_owned, "tlscacert", "root", "root")),
    Control("3.10", "The clients' authority is only read", _of_tls(_at_most, "tlscacert", 0o444)),
    Control("3.11", "The daemon's certificate belongs to root", _of_tls(_owned, "tlscert", "root", "root")),
    Control("3.12", "The daemon's certificate is only read", _of_tls(_at_most, "tlscert", 0o444)),
    Control("3.13", "The daemon's key belongs to root", _of_tls(_owned, "tlskey", "root", "root")),
    Control("3.14", "The daemon's key is read by root alone", _of_tls(_at_most, "tlskey", 0o400)),
    Control(
        "3.15", "The engine's socket belongs to root and docker", _owned("root", "docker", _ENGINE_SOCKET)
    ),
    Control("3.16", "The engine's socket is closed to others", _at_most(0o660, _ENGINE_SOCKET)),
    Control("3.17", "daemon.json belongs to root", _owned("root", "root", "/etc/docker/daemon.json")),
    Control("3.18", "daemon.json is written by root alone", _at_most(0o644, "/etc/docker/daemon.json")),
    Control("3.19", "/etc/default/docker belongs to root", _owned("root", "root", "/etc/default/docker")),
    Control("3.20", "/etc/default/docker is written by root alone", _at_most(0o644, "/etc/default/docker")),
    Control(
        "3.21", "/etc/sysconfig/docker is written by root alone", _at_most(0o644, "/etc/sysconfig/docker")
    ),
    Control("3.22", "/etc/sysconfig/docker belongs to root", _owned("root", "root", "/etc/sysconfig/docker")),
    Control("3.23", "containerd's socket belongs to root", _owned("root", "root", _CONTAINERD_SOCKET)),
    Control("3.24", "containerd's socket is closed to others", _at_most(0o660, _CONTAINERD_SOCKET)),
    Control("4.1", "Containers run as another user than root", _each_container(_container_user)),
    Control("4.5", "Images are signed", _content_trust),
    Control("4.6", "Images declare health checks", _image_health),
    Control("4.8", "No program in an image runs as its owner", _set_ids),
    Control("4.9", "Images are built with COPY, not ADD", _added),
    Control("5.1", "There is no Swarm that is not needed", _swarm_on),
    Control("5.2", "AppArmor confines each container", _each_container(_apparmor)),
    Control("5.3", "SELinux confines each container", _each_container(_selinux)),
    Control("5.4", "Containers have no capabilities that they do not need", _each_container(_capabilities)),
    Control("5.5", "No container is privileged", _of_host("Privileged", bool, "is privileged")),
    Control("5.6", "No container mounts the system's folders", _each_container(_sensitive_mount)),
    Control("5.7", "No container has an SSH server", _sshd),
    Control("5.8", "No container is published at a port below 1024", _each_container(_privileged_ports)),
    Control(
        "5.10",
        "No container is on the host's network",
        _of_host("NetworkMode", "host".__eq__, "is on the host's network"),
    ),
    Control("5.11", "Memory is limited", _of_host("Memory", lambda value: not value, "has no limit")),
    Control(
        "5.12",
        "CPU time is limited",
        _each_container(
            lambda item: (
                None if item["HostConfig"]["NanoCpus"] or item["HostConfig"]["CpuShares"] else "has no limit"
            )
        ),
    ),
    Control(
        "5.13",
        "Root file systems are read-only",
        _of_host("ReadonlyRootfs", lambda value: not value, "is writable"),
    ),
    Control("5.14", "Published ports are bound to one interface", _each_container(_any_interface)),
    Control("5.15", "Failed containers are started again five times at most", _restarts),
    Control(
        "5.16",
        "No container sees the host's processes",
        _of_host("PidMode", "host".__eq__, "sees the host's processes"),
    ),
    Control(
        "5.17",
        "No container shares the host's memory segments",
        _of_host("IpcMode", "host".__eq__, "shares the host's memory segments"),
    ),
    Control("5.18", "No container has devices of the host", _each_container(_devices)),
    Control("5.19", "Containers have limits of their own", _each_container(_ulimits)),
    Control("5.20", "No mount is shared with the host", _each_container(_shared_mounts)),
    Control(
        "5.21",
        "No container shares the host's name",
        _of_host("UTSMode", "host".__eq__, "shares the host's name"),
    ),
    Control("5.22", "seccomp confines each container", _seccomp),
    Control(
        "5.25",
        "Containers are in the engine's own cgroup",
        _of_host("CgroupParent", bool, "is in another cgroup"),
    ),
    Control("5.26", "No container gains privileges", _new_privileges),
    Control("5.27", "Health is checked", _each_container(_health)),
    Control("5.28", "Containers run the image that was meant", _each_container(_pinned)),
    Control(
        "5.29",
        "The number of processes is limited",
        _of_host("PidsLimit", lambda value: not value or value < 0, "has no limit"),
    ),
    Control("5.30", "docker0 is not used", _each_container(_default_bridge)),
    Control(
        "5.31",
        "No container shares the host's users against the daemon's setting",
        _of_host("UsernsMode", "host".__eq__, "shares the host's users"),
    ),
    Control("5.32", "No container has the engine's socket", _each_container(_docker_socket)),
    Control("7.1", "The Swarm has as few managers as it needs", _managers),
    Control("7.2", "The Swarm listens on one interface", _swarm_interface),
    Control("7.3", "Networks between hosts are encrypted", _encrypted),
    Control("7.4", "Secrets are the Swarm's, not variables", _secrets),
    Control("7.5", "The manager is locked after a restart", _autolock),
    Control("7.7", "Nodes' certificates are renewed", _node_certificates),
)
