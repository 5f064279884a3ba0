"""Why an agent did not become healthy: what its engine still knows, gathered once the wait has ended."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import docker.errors
from pyinfra.api.host import Host
from urllib3.exceptions import HTTPError

from cascade.diagnosis_report import diagnosis_lines
from cascade.documents import Diagnosis, Waiting
from cascade.exit_codes import GATE_FAILED
from cascade.planning.redaction import masked, secrets_of
from cascade.planning.resource import Key
from cascade.planning.steps import Gate
from cascade.planning.verdict import ENDED, Cause, Reason, Task, error_of, of_error
from cascade.planning.waves import Member
from operations.failed import WorkFailed
from operations.run import Run
from operations.ssh import CONNECTION_LOST
from operations.swarm.logs import last_words, plain
from operations.swarm.standing import Standing, host_of

CHECKS = 3
_INIT_FAILED = re.compile(r"^\[FATAL tini .*\] exec (?P<what>.+) failed: (?P<why>.+)")
# A log that ends in its midst is an error of the library below the engine's client.
_UNREAD = (docker.errors.DockerException, WorkFailed, HTTPError, *CONNECTION_LOST)
_DOCTOR = "cascade doctor {inventory}{rehearsal}"
_PLAN = "cascade plan {inventory}{rehearsal}"
_STATUS = "cascade status {inventory}{rehearsal}"
_LOGS = "cascade logs {inventory} {agent}"
_RENDER = "cascade render {inventory} --group {group}"
# What shows more of a cause than the agent's spec does.
_LOOK: Mapping[Cause, str] = {
    "image_missing": "cascade images list {inventory}",
    "insufficient_resources": _DOCTOR,
    "constraints_not_satisfied": _PLAN,
    "host_port_in_use": _DOCTOR,
    "gpu_fault": _DOCTOR,
    "gpu_taken": _DOCTOR,
    "gpu_lost": _DOCTOR,
    "vram_exceeded": _STATUS,
    "no_suitable_node": _PLAN,
    "port_taken": _DOCTOR,
    "bad_mount": _DOCTOR,
    "network_overlap": "{ssh} 'sudo docker network inspect $(sudo docker network ls -q)'",
}


class NotHealthy(WorkFailed):
    """Agents that will not become healthy, each with its diagnosis."""

    def __init__(self, diagnoses: Iterable[Diagnosis], code: int = GATE_FAILED, more: str = "") -> None:
        self.diagnoses = tuple(diagnoses)
        lines = [line for diagnosis in self.diagnoses for line in diagnosis_lines(diagnosis)]
        super().__init__("\n".join(lines) + more, code)

    def ending(self, code: int, more: str, **done: Any) -> NotHealthy:
        """The same after something was done about it, which `more` says and `done` records."""
        found = (
            diagnosis.model_copy(update=done | _still_useful(diagnosis, done.get("removed", ())))
            for diagnosis in self.diagnoses
        )
        return NotHealthy(found, code, more)


def _still_useful(diagnosis: Diagnosis, removed: Iterable[str]) -> dict[str, Any]:
    """The next commands; there is no log any more of what was removed again, or replaced."""
    gone = diagnosis.name in removed or diagnosis.workload == "container"
    commands = (
        command for command in diagnosis.next_commands if not (gone and command.startswith("cascade logs "))
    )
    return {"next_commands": tuple(commands)}


@dataclass(frozen=True)
class _Attempt:
    """What is left of the attempt that says most about an agent."""

    hosts: tuple[str, ...]
    state: str = ""
    error: str = ""
    exit_code: int | None = None
    oom: bool | None = None
    health: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


def diagnose(run: Run, gate: Gate, member: Member, standing: Standing, reason: Reason) -> Diagnosis:
    """Why the gate does not wait for an agent any more."""
    if member.kind == "container":
        attempt = _of_container(run, member, standing)
    else:
        attempt = _of_task(run, member, standing, reason)
    return _diagnosis(run, gate, member, standing.healthy, reason, attempt)


def diagnose_refusal(run: Run, gate: Gate, member: Member, error: str) -> Diagnosis:
    """Why an engine did not take an agent's spec, or did not start its container."""
    attempt = _Attempt((member.key.host,), "not started", plain(error))
    return _diagnosis(run, gate, member, 0, of_error(error), attempt)


def diagnose_gpu(run: Run, gate: Gate, member: Member, healthy: int, reason: Reason) -> Diagnosis:
    """Why an agent is not rolled out, or not left running, on account of its GPU."""
    state = "healthy" if healthy else "not started"
    return _diagnosis(run, gate, member, healthy, reason, _Attempt(member.hosts, state))


def _diagnosis(
    run: Run, gate: Gate, member: Member, healthy: int, reason: Reason, attempt: _Attempt
) -> Diagnosis:
    reason = _seen_through(reason, attempt)
    secrets = secrets_of(run.plan().target.wanted.get(member.key))

    def hidden(lines: Iterable[str]) -> tuple[str, ...]:
        return tuple(masked(line, secrets) for line in lines)

    (told, state, error) = hidden((plain(str(reason)), attempt.state, attempt.error))
    return Diagnosis(
        wave=str(gate.wave),
        group=member.group,
        agent=member.agent,
        name=member.name,
        workload="container" if member.kind == "container" else "service",
        hosts=attempt.hosts,
        healthy=healthy,
        desired=gate.replicas[member.name],
        cause=reason.cause,
        reason=told + (", out of memory" if attempt.oom else ""),
        state=state,
        error=error,
        exit_code=attempt.exit_code,
        oom=attempt.oom,
        health=hidden(attempt.health),
        log=hidden(attempt.log),
        waiting=_waiting(run, gate, member),
        outcome="warned" if member.optional else "left",
        removed=(),
        next_commands=tuple(
            _next(run, member, next(iter(attempt.hosts), member.key.host), reason.cause, bool(attempt.log))
        ),
    )


def _seen_through(reason: Reason, attempt: _Attempt) -> Reason:
    """A first process of Docker's own starts, and crashes, where there is nothing to execute."""
    if reason.cause == "repeated_crash":
        for found in filter(None, map(_INIT_FAILED.search, reversed(attempt.log))):
            return replace(reason, cause="not_executable", detail=f"{found['what']}: {found['why']}")
    if attempt.networks:
        return replace(reason, detail=f"{reason.detail}: {', '.join(attempt.networks)}")
    return reason


def _of_task(run: Run, member: Member, standing: Standing, reason: Reason) -> _Attempt:
    named = (task for task in standing.tasks if task["ID"] == reason.attempt)
    task = next(named, standing.telling)
    if task is None:
        return _Attempt(member.hosts, standing.state)
    container = task["Status"].get("ContainerStatus", {}).get("ContainerID")
    try:
        host = host_of(run, task)
    except _UNREAD as error:
        return _Attempt(member.hosts, standing.state, error_of(task), log=(_could_not(error),))
    networks = tuple(_overlays(task)) if reason.cause == "network_overlap" else ()
    hosts = (host,) if host else member.hosts
    found = _Attempt(hosts, standing.state, plain(error_of(task)), networks=networks)
    if not (host and container):
        return found
    return _inspected(run, Key(host, "container", container), found, task["Status"]["State"] in ENDED)


def _overlays(task: Task) -> Iterator[str]:
    """The networks of a task with their subnets, one of which the host has given to somebody else."""
    for attachment in task.get("NetworksAttachments") or ():
        spec = attachment["Network"]["Spec"]
        configs = (attachment["Network"].get("IPAMOptions") or {}).get("Configs") or ()
        yield " ".join((spec["Name"], *(config["Subnet"] for config in configs if "Subnet" in config)))


def _of_container(run: Run, member: Member, standing: Standing) -> _Attempt:
    found = _Attempt((member.key.host,), standing.state)
    if standing.container is None:
        return found
    ended = not standing.container["State"]["Running"] or standing.container["State"]["Restarting"]
    return _inspected(run, member.key, found, ended)


def _inspected(run: Run, container: Key, known: _Attempt, ended: bool) -> _Attempt:
    """The same with what the engine that ran it still has of its container, which it may have removed."""
    try:
        state = run.client(container.host).inspect_container(container.name)["State"]
    except _UNREAD as error:
        return replace(known, log=(_could_not(error),))
    health = (_in_a_line(one["Output"]) for one in (state.get("Health") or {}).get("Log") or ())
    return replace(
        known,
        error=known.error or plain(state["Error"]),
        exit_code=int(state["ExitCode"]) if ended else None,
        oom=bool(state["OOMKilled"]) if ended else None,
        health=tuple(health)[-CHECKS:],
        log=_log_of(run, container),
    )


def _in_a_line(output: str) -> str:
    return " ".join(plain(line) for line in output.split())


def _log_of(run: Run, container: Key) -> tuple[str, ...]:
    try:
        return tuple(last_words(run, container))
    except _UNREAD as error:
        return (_could_not(error),)


def _could_not(error: Exception) -> str:
    return plain(f"could not be read: {error}")


def _waiting(run: Run, gate: Gate, member: Member) -> Waiting:
    file = run.fleet.groups.get(member.group)
    later = {wave.group: None for wave in gate.later if wave.group != member.group}
    return Waiting(
        dependents=file.dependents(member.agent) if file else (),
        agents=tuple(one.agent for wave in gate.later if wave.group == member.group for one in wave.members),
        groups=tuple(later),
    )


def _next(run: Run, member: Member, host: str, cause: Cause, spoke: bool) -> Iterator[str]:
    said = {
        "inventory": shlex.quote(run.inventory_file),
        "agent": shlex.quote(f"{member.group}/{member.agent}"),
        "group": shlex.quote(member.group),
        "rehearsal": " --stand-ins" if run.fleet.options.stand_ins else "",
        "ssh": _ssh(run.state.inventory.get_host(host)),
    }
    commands = [_LOGS] if spoke else []
    yield from (command.format(**said) for command in (*commands, _LOOK.get(cause, _RENDER)))


def _ssh(host: Host) -> str:
    """How a person logs in there, with what the inventory says of it."""
    known_hosts = host.data.get("ssh_known_hosts_file")
    options = {
        "-p": host.data.get("ssh_port"),
        "-i": host.data.get("ssh_key"),
        "-o": f"UserKnownHostsFile={known_hosts}" if known_hosts else None,
    }
    said = [word for name, value in options.items() if value for word in (name, str(value))]
    user = host.data.get("ssh_user")
    address = host.data.get("ssh_hostname") or host.name
    return shlex.join(["ssh", *said, f"{user}@{address}" if user else str(address)])
