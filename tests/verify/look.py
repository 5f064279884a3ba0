"""What the controls look at: one host's engine, files and processes, read and never changed."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from shlex import quote
from typing import Any

from testinfra.host import Host as Machine

PATHS = (
    "/etc/containerd/config.toml",
    "/etc/default/docker",
    "/etc/docker",
    "/etc/docker/daemon.json",
    "/etc/sysconfig/docker",
    "/run/containerd",
    "/run/containerd/containerd.sock",
    "/run/docker.sock",
    "/usr/bin/containerd",
    "/usr/bin/containerd-shim",
    "/usr/bin/containerd-shim-runc-v1",
    "/usr/bin/containerd-shim-runc-v2",
    "/usr/bin/dockerd",
    "/usr/bin/runc",
    "/usr/sbin/dockerd",
    "/usr/sbin/runc",
)
UNITS = ("docker.service", "docker.socket")
# The files of large images are many.
ENDS_WITHIN_S = 300
# Source: timeout(1).
ENDED_BY_TIMEOUT = 124
_UNIT_FILE = "systemctl show --value --property FragmentPath"
# Source: getent(1): 2 where there is no such group.
_MEMBERS = "getent group docker || test $? = 2"
_CERTIFICATES = "find /etc/docker/certs.d -type f 2>/dev/null || test ! -e /etc/docker/certs.d"
_MOUNT = "if test -e %s; then findmnt --noheadings --output TARGET --target %s; fi"
# One that ends meanwhile is of nobody any more.
_GROUPS_OF_SSHD = "for pid in $(pgrep -x sshd); do if grep -sH . /proc/$pid/cgroup; then :; fi; done"


class Unread(Exception):
    """What a host does not tell: no test can pass on it."""


@dataclass(frozen=True)
class File:
    """Who owns a file, and what others may do with it."""

    owner: str
    group: str
    mode: int


@dataclass(frozen=True)
class Look:
    """One host as it was seen."""

    info: Mapping[str, Any]
    daemon: Mapping[str, Any]
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    files: Mapping[str, File]
    unit_files: Mapping[str, str]
    registry_certificates: tuple[str, ...]
    docker_group: tuple[str, ...]
    data: str
    mount_of_data: str
    audit_rules: str
    listening: tuple[str, ...]
    containers: tuple[Mapping[str, Any], ...]
    statuses: Mapping[str, Mapping[str, str]]
    set_id_files: Mapping[str, tuple[str, ...]]
    images: tuple[Mapping[str, Any], ...]
    history: Mapping[str, tuple[str, ...]]
    networks: tuple[Mapping[str, Any], ...]
    services: tuple[Mapping[str, Any], ...]
    sshd_in_containers: tuple[str, ...]

    @property
    def swarm(self) -> Mapping[str, Any]:
        """What the engine says of its Swarm."""
        found: Mapping[str, Any] = self.info.get("Swarm") or {}
        return found

    @property
    def cluster(self) -> Mapping[str, Any] | None:
        """The Swarm's own settings, which only a manager tells."""
        return self.swarm.get("Cluster") or None if self.swarm.get("ControlAvailable") else None


def look_at(machine: Machine, data: str) -> Look:
    """Read everything at once from a host, as root; `data` is where its engine is to keep its data."""

    def lines(command: str) -> tuple[str, ...]:
        return tuple(output(machine, command).splitlines())

    def inspected(what: str, listing: str) -> tuple[Mapping[str, Any], ...]:
        ids = " ".join(sorted(set(lines(listing))))
        return tuple(json.loads(output(machine, f"docker {what} inspect {ids}"))) if ids else ()

    info = json.loads(output(machine, "docker info --format '{{json .}}'"))
    manager = bool((info.get("Swarm") or {}).get("ControlAvailable"))
    containers = inspected("container", "docker ps --quiet --no-trunc")
    pids = {name_of(item): item["State"]["Pid"] for item in containers}
    images = inspected(
        "image", "docker ps --no-trunc --format '{{.ID}}' | xargs -r docker inspect -f '{{.Image}}'"
    )
    main = output(machine, "systemctl show --value --property MainPID docker.service")
    unit_files = {unit: output(machine, f"{_UNIT_FILE} {unit}") for unit in UNITS}
    certificates = lines(_CERTIFICATES)
    return Look(
        info=info,
        daemon=json.loads(output(machine, "cat /etc/docker/daemon.json 2>/dev/null || echo '{}'")),
        arguments=_separated(output(machine, f"tr '\\0' '\\n' </proc/{main}/cmdline")),
        environment=_variables(output(machine, f"tr '\\0' '\\n' </proc/{main}/environ")),
        files=files_at(machine, (*PATHS, data, *filter(None, unit_files.values()), *certificates)),
        unit_files=unit_files,
        registry_certificates=certificates,
        docker_group=members_of(output(machine, _MEMBERS)),
        data=data,
        mount_of_data=output(machine, _MOUNT % (quote(data), quote(data))),
        audit_rules=output(machine, "if command -v auditctl >/dev/null; then auditctl -l; fi"),
        listening=lines("ss --no-header --listening --tcp --numeric | awk '{print $4}'"),
        containers=containers,
        statuses=_statuses(machine, pids),
        set_id_files={image["Id"]: _set_id_files(machine, image["Id"], containers) for image in images},
        images=images,
        history={
            image["Id"]: lines(f"docker history --no-trunc --format '{{{{.CreatedBy}}}}' {image['Id']}")
            for image in images
        },
        networks=inspected("network", "docker network ls --quiet --no-trunc"),
        services=inspected("service", "docker service ls --quiet") if manager else (),
        sshd_in_containers=inside(lines(_GROUPS_OF_SSHD), [item["Id"] for item in containers]),
    )


def output(machine: Machine, command: str) -> str:
    """What a command prints; of one that fails only what went wrong, for what it printed may be secret."""
    done = machine.run(f"timeout {ENDS_WITHIN_S} sh -c {quote(command)}")
    if done.rc:
        late = f"it did not end within {ENDS_WITHIN_S} s" if done.rc == ENDED_BY_TIMEOUT else ""
        wrong = late or done.stderr.strip() or f"exit code {done.rc}"
        raise Unread(f"{' '.join(command.split()[:3])}: {wrong}")
    printed: bytes = done.stdout_bytes
    return printed.decode(errors="replace").rstrip("\r\n")


def name_of(container: Mapping[str, Any]) -> str:
    """What the engine calls a container, without the slot and the ID of a task."""
    name: str = container["Name"].lstrip("/")
    return name.split(".")[0]


def inside(lines: Iterable[str], containers: Collection[str]) -> tuple[str, ...]:
    """The processes, as lines of /proc/PID/cgroup, whose control group is that of one of these containers.

    A host may be a container itself, of an engine that is not its own.
    """
    within = (line for line in lines if any(one in line for one in containers))
    return tuple(sorted({line.split("/")[2] for line in within}, key=int))


def _separated(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split("\n")))


def _variables(text: str) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in _separated(text))}


def files_at(machine: Machine, paths: tuple[str, ...]) -> dict[str, File]:
    """Those of these files that are there."""
    command = 'for path in %s; do if test -e "$path"; then stat -L -c \'%%U %%G %%a %%n\' "$path"; fi; done'
    lines = output(machine, command % " ".join(map(quote, paths))).splitlines()
    rows = (line.split(maxsplit=3) for line in lines)
    return {path: File(owner, group, int(mode, 8)) for owner, group, mode, path in rows}


def members_of(line: str) -> tuple[str, ...]:
    """The names in a line of the group database."""
    return tuple(filter(None, line.strip().rpartition(":")[2].split(",")))


def _statuses(machine: Machine, pids: Mapping[str, int]) -> dict[str, dict[str, str]]:
    """What the kernel says of the first process of each container."""
    if not pids:
        return {}
    paths = " ".join(f"/proc/{pid}/status" for pid in pids.values())
    found: dict[str, dict[str, str]] = {str(pid): {} for pid in pids.values()}
    for line in output(machine, f"grep --text --with-filename . {paths}").splitlines():
        path, key, value = line.split(":", 2)
        found[path.split("/")[2]][key] = value.strip()
    return {name: found[str(pid)] for name, pid in pids.items()}


def _set_id_files(machine: Machine, image: str, containers: tuple[Mapping[str, Any], ...]) -> tuple[str, ...]:
    """The programs in an image that run as somebody else, seen in one container of it."""
    pid = next(item["State"]["Pid"] for item in containers if item["Image"] == image)
    found = output(machine, f"find /proc/{pid}/root/ -xdev -type f -perm /6000 -printf '/%P\\n'")
    return tuple(found.splitlines())
