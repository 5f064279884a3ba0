"""Checks that whoever takes an agent's place can start: what it mounts is there, and room for it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cascade.planning.checks.subject import Facts, Said, Subject
from cascade.planning.diff import Change
from cascade.planning.plan import Plan
from cascade.planning.resource import Kind
from cascade.planning.specs import CONFIG_FOLDER, SECRET_FOLDER
from cascade.planning.waves import Member

# What such a change brings to a host may bring the folder too.
_BRINGING: tuple[Kind, ...] = ("package", "unit", "file", "daemon-settings")

# Part of systemd since 250.
_SEALING = "/usr/bin/systemd-creds"
_OWN = (f"{CONFIG_FOLDER}/", f"{SECRET_FOLDER}/")


def bind_sources(plan: Plan, host: str) -> dict[str, list[Member]]:
    """The paths of a host that agents mount there, or may have to, each with these agents.

    What an agent is to be that rests on a GPU which could not be read, nobody knows.
    """
    found: dict[str, list[Member]] = {}
    for member in plan.target.members:
        spec = plan.target.wanted.get(member.key)
        for source in _bound(spec) if spec and host in member.hosts else ():
            found.setdefault(source, []).append(member)
    return found


def _bound(spec: Any) -> Iterator[str]:
    """The bind sources of a service or host container that are not of Cascade's own making."""
    holder = spec["TaskTemplate"]["ContainerSpec"] if "TaskTemplate" in spec else spec["HostConfig"]
    for mount in holder.get("Mounts", ()):
        if mount["Type"] == "bind" and not mount["Source"].startswith(_OWN):
            yield mount["Source"]


def sealing(plan: Plan, host: str) -> tuple[str, ...]:
    """The program with which a host keeps the secrets of its host containers; none where it has none."""
    keeps = any(key.kind == "secret-file" and key.host == host for key in plan.target.wanted)
    return (_SEALING,) if keeps else ()


def secrets(subject: Subject) -> Iterator[Said]:
    """A host that keeps secrets through its next start can seal them."""
    for program in sealing(subject.facts.plan, subject.host.name):
        if not subject.part("paths")[program]:
            yield Said(
                "error",
                f"there is no {program}, with which the secrets of its host containers are sealed",
                "install systemd 250 or newer there, or run these containers on another host",
            )
    yield Said("ok", "secrets can be kept")


def mounts(subject: Subject) -> Iterator[Said]:
    """Every path that an agent mounts is there wherever the agent may run.

    Its absence is an error for an agent that this run starts, and a warning for one that is optional or
    only runs on.
    """
    plan, host = subject.facts.plan, subject.host.name
    wanted, there = bind_sources(plan, host), subject.part("paths")
    started = {change.key for change in plan.changes if change.action != "remove"}
    growing = any(change.key.host == host and change.key.kind in _BRINGING for change in plan.changes)
    for source, members in wanted.items():
        if not there[source]:
            starting = any(member.key in started and not member.optional for member in members)
            names = ", ".join(member.name for member in members)
            yield Said(
                "error" if starting and not growing else "warning",
                f"there is no {source}, which {names} mounts",
                f"make it on {host}, as `sudo mkdir -p {shlex.quote(source)}` makes a folder, or mount"
                " something else in the group file",
            )
    yield Said("ok", f"{', '.join(wanted)} there" if wanted else "nothing of the host is mounted")


@dataclass(frozen=True)
class Amount:
    """What a replica reserves, or a node has."""

    nano_cpus: int = 0
    memory: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.nano_cpus + other.nano_cpus, self.memory + other.memory)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.nano_cpus - other.nano_cpus, self.memory - other.memory)

    def __mul__(self, count: int) -> Amount:
        return Amount(self.nano_cpus * count, self.memory * count)

    def holds(self, other: Amount) -> bool:
        return other.nano_cpus <= self.nano_cpus and other.memory <= self.memory

    def __str__(self) -> str:
        return f"{self.nano_cpus / 1e9:.2f} CPU and {self.memory / 2**20:.0f} MB"


def amount_of(resources: Mapping[str, Any] | None) -> Amount:
    """Of what the engine calls resources: of a node, or those that a spec reserves."""
    said = resources or {}
    return Amount(said.get("NanoCPUs") or 0, said.get("MemoryBytes") or 0)


def room(subject: Subject) -> Iterator[Said]:
    """The next replica of each service has room on the one host where it may run.

    Only what is certain is an error: waves before have done what they will, and siblings of its own wave
    have given back all that they will give back.
    """
    facts, host = subject.facts, subject.host.name
    if not facts.ready(host):
        yield Said("ok", "not tried: the manager does not see it ready")
        return
    changes = {change.key: change for change in facts.plan.changes if change.key.kind == "service"}
    free, running = _free(facts, host)
    for wave in facts.plan.target.waves:
        steps = [
            _Step(member, changes[member.key], running.get(member.name, 0))
            for member in wave.members
            if member.key in changes and member.hosts == (host,)
        ]
        if lacking := list(_lacking(steps, free)):
            yield from lacking
            return
        free = free - sum((step.growth for step in steps), Amount())
    yield Said("ok", f"{free} not reserved when all is done")


def _lacking(steps: list[_Step], free: Amount) -> Iterator[Said]:
    """Those of a wave that could not start, in what is free before it."""
    for step in steps:
        given_back = (other.growth for other in steps if other is not step)
        here = free - sum((growth for growth in given_back if Amount().holds(growth)), Amount())
        if step.starts and not here.holds(step.first):
            yield _no_room(step, here)


@dataclass(frozen=True)
class _Step:
    """A change of a service on the one host where it may run, and how many replicas run there now."""

    member: Member
    change: Change
    running: int

    @property
    def old(self) -> Amount:
        return _reserved(self.change.observed) * self.running

    @property
    def new(self) -> Amount:
        return _reserved(self.change.desired)

    @property
    def growth(self) -> Amount:
        """What it reserves more when it is done."""
        return self.new * self.replicas - self.old

    @property
    def replicas(self) -> int:
        return int(self.change.desired["Mode"]["Replicated"]["Replicas"])

    @property
    def first(self) -> Amount:
        """What its first new replica takes of what is free."""
        beside = self.start_first or not self.replaces
        return self.new if beside else self.new - _reserved(self.change.observed)

    @property
    def starts(self) -> bool:
        """Whether there is to be a replica that does not run yet."""
        return self.replaces or self.replicas > self.running

    @property
    def replaces(self) -> bool:
        """Whether a replica that runs has to go for a new one."""
        another = any(field.path.startswith("TaskTemplate") for field in self.change.fields)
        return bool(self.running) and (another or self.change.action == "replace")

    @property
    def start_first(self) -> bool:
        return (
            self.change.action == "update" and self.change.desired["UpdateConfig"]["Order"] == "start-first"
        )


def _reserved(spec: Any) -> Amount:
    return amount_of(spec["TaskTemplate"].get("Resources", {}).get("Reservations")) if spec else Amount()


def _free(facts: Facts, host: str) -> tuple[Amount, dict[str, int]]:
    """What the Swarm's scheduler has left to give on a host, and how many tasks of each service it counts."""
    engine, id_ = facts.engine(facts.fleet.manager.name), facts.engine(host)["swarm"]["NodeID"]
    leaving = {change.key.name for change in facts.plan.changes if change.action == "remove"}
    found = {service["ID"]: service["Spec"] for service in engine["services"]}
    services = {service: spec for service, spec in found.items() if spec["Name"] not in leaving}
    (node,) = (node for node in engine["nodes"] if node["ID"] == id_)
    on_node = (task["ServiceID"] for task in engine["tasks"] if task["NodeID"] == id_)
    here = [services[service] for service in on_node if service in services]
    free = amount_of(node["Description"]["Resources"]) - sum(map(_reserved, here), Amount())
    names = [spec["Name"] for spec in here]
    return free, {name: names.count(name) for name in names}


def _no_room(step: _Step, free: Amount) -> Said:
    beside = step.replaces and step.start_first
    return Said(
        "warning" if step.member.optional else "error",
        f"{step.member.name} reserves {step.new}{' beside the replica it replaces' if beside else ''},"
        f" and {free} are free",
        "reserve less" + (", or say `order: stop-first` under its update_config" if beside else ""),
    )
