"""The preflight: what stands in the way of a deployment, from readings of the hosts. Nothing is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cascade.planning.checks import capacity, engine, gpu, machine, network, replacement, toolkit
from cascade.planning.checks.subject import Facts, Level, Said, Subject, Unread
from cascade.planning.gpu import GPU
from cascade.planning.plan import Plan
from cascade.planning.specs import LABEL_SYSTEM

CHECKS: dict[str, Callable[[Subject], Iterable[Said]]] = {
    "system": machine.system,
    "packages": machine.packages,
    "clock": machine.clock,
    "disk": capacity.disk,
    "reservations": capacity.reservations,
    "vram": capacity.vram,
    "kernel": machine.kernel,
    "devices": machine.devices,
    "gpu": gpu.gpus,
    "gpu-toolkit": toolkit.sources,
    "address": machine.address,
    "swarm-ports": network.between_hosts,
    "published-ports": network.published_free,
    "docker": engine.docker,
    "docker-restart": engine.restart,
    "images": engine.images,
    "mounts": replacement.mounts,
    "room": replacement.room,
    "secrets": replacement.secrets,
}
_FATAL, _WORTH_SAYING = ("error",), ("error", "warning")


@dataclass(frozen=True)
class Finding:
    """What one check found on one host."""

    host: str
    check: str
    level: Level
    message: str
    next_step: str = ""

    def __str__(self) -> str:
        step = f"; {self.next_step}" if self.next_step else ""
        return f"{self.host}: {self.check}: {self.message}{step}"


def examine(facts: Facts) -> tuple[Finding, ...]:
    """Every check of every host that was read, in the order of the hosts and of the table above."""
    return tuple(
        Finding(name, check, said.level, said.message, said.next_step)
        for name, host in facts.fleet.hosts.items()
        if name in facts.readings
        for check, look in CHECKS.items()
        for said in _said(look, Subject(host, facts))
    )


def _said(look: Callable[[Subject], Iterable[Said]], subject: Subject) -> Iterator[Said]:
    """What a check says, and that all is well only where nothing is wrong; unknown is an error."""
    try:
        found = list(look(subject))
    except Unread as error:
        yield Said("error", f"could not be read: {error}", "look at this on the host, and run it again")
        return
    if wrong := [said for said in found if said.level != "ok"]:
        yield from wrong
    else:
        yield Said("ok", "; ".join(said.message for said in found))


def errors(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(finding for finding in findings if finding.level in _FATAL)


def worth_saying(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors and warnings."""
    return tuple(finding for finding in findings if finding.level in _WORTH_SAYING)


def of_plan(plan: Plan) -> Iterator[Finding]:
    """What the plan itself stumbles over, but for GPUs, of which the check of their name says more."""
    for unknown in (unknown for unknown in plan.unknown if unknown.what != GPU):
        step = "look at this on the host, and run it again"
        yield Finding(unknown.host, "state", "error", f"{unknown.what}: {unknown.reason}", step)
    for refusal in plan.refused:
        host, _, rest = refusal.partition(": ")
        what, _, step = rest.partition("; ")
        yield Finding(host, "state", "error", what, step)


def query_for(facts: Facts, host: str, word: str) -> dict[str, Any]:
    """What to read on a host, and what to try with the others; `word` tells this run's messages apart."""
    subject = Subject(facts.fleet.hosts[host], facts)
    published = network.published(facts.fleet, subject.host)
    ports = {*network.swarm_ports(facts.fleet, subject.host), *published}
    return {
        "probes": {"me": host, "address": subject.host.swarm_address, "word": word, **_probes(facts, host)},
        "address": subject.host.swarm_address,
        "ports": sorted(ports),
        "devices": sorted(machine.wanted_devices(facts.fleet, subject.host)),
        "paths": sorted(
            {*replacement.bind_sources(facts.plan, host), *replacement.sealing(facts.plan, host)}
        ),
        "roots": [capacity.data_root(subject.host), capacity.CONTAINERD_ROOT],
        "registries": sorted(engine.registries_of(subject)),
        "labels": [LABEL_SYSTEM],
    }


def _probes(facts: Facts, host: str) -> dict[str, list[Any]]:
    calls, address = facts.calls or (), {name: each.swarm_address for name, each in facts.fleet.hosts.items()}
    offering = not facts.in_swarm(host)
    return {
        "send": [
            (call.callee, address[call.callee], call.port, call.protocol)
            for call in calls
            if call.caller == host
        ],
        "offer": [
            (call.caller, call.port, call.protocol) for call in calls if call.callee == host and offering
        ],
    }


def look_of(answer: Iterable[str]) -> Mapping[str, str]:
    """The first look's lines of `name value`."""
    pairs = (line.partition(" ") for line in answer)
    return {name: value for name, _, value in pairs}


def first_findings(host: str, look: Mapping[str, str], bootstrap: str) -> tuple[Finding, ...]:
    """Whether a host can be asked at all; `bootstrap` is the command that mends it."""
    if "user" not in look:
        return (Finding(host, "state", "error", "could not be read", "log in and look at it"),)
    found = []
    if look.get("sudo") != "yes":
        message = f"{look['user']} may not use sudo without a password: {look.get('sudo') or 'no answer'}"
        found.append(Finding(host, "sudo", "error", message, f"`{bootstrap}`"))
    if not look.get("python3"):
        found.append(Finding(host, "python3", "error", "there is no python3", f"`{bootstrap}`"))
    if found:
        message = f"{', '.join(CHECKS)}: not checked"
        return (*found, Finding(host, "others", "unchecked", message))
    return (
        Finding(host, "sudo", "ok", f"{look.get('user')} needs no password"),
        Finding(host, "python3", "ok", look["python3"]),
    )
