"""A plan as `cascade plan` says it: a document for programs, and lines for people made from the document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict

from cascade.documents import (
    Counts,
    DifferingField,
    HostFinding,
    PlanDocument,
    PlannedChange,
    PlannedRestart,
    PlannedWave,
    Thing,
    UnknownThing,
)
from cascade.exit_codes import ATTENTION, ERROR, UNREACHABLE
from cascade.model.strict import one_line, printable
from cascade.planning.diff import Change, FieldChange
from cascade.planning.drift import counts, members_by_key, restarts
from cascade.planning.naming import line_of, readable
from cascade.planning.plan import Plan
from cascade.planning.preflight import Finding, errors, worth_saying
from cascade.planning.resource import Key, Kind, Unknown
from cascade.planning.shown import shown_fields, text_diff
from cascade.planning.specs import LABEL_DIGEST
from cascade.planning.steps import Gate

ON_HOSTS: tuple[Kind, ...] = (
    "package",
    "file",
    "sysctl",
    "unit",
    "apparmor",
    "permissions",
    "signing-key",
    "gpu",
    "daemon-settings",
    "volume",
    "secret-file",
    "image",
)
OF_SWARM: tuple[Kind, ...] = ("swarm", "node", "network", "config", "secret")
DIGEST_LABEL = f"Labels.{LABEL_DIGEST}"
SIGNS = {"create": "+", "update": "~", "remove": "-", "replace": "-/+"}


def plan_document(
    plan: Plan, inventory: str, findings: Iterable[Finding] = (), unreachable: bool = False
) -> PlanDocument:
    """Everything that there is to say of a plan, always in the same order."""
    findings = worth_saying(findings)
    changes = tuple(_changes(plan))
    return PlanDocument(
        inventory=inventory,
        target=plan.target.origin,
        exit_code=_exit_code(plan, findings, unreachable),
        counts=Counts(**counts(plan.changes)),
        changes=changes,
        restarts=tuple(_restarts(plan)),
        waves=tuple(_waves(plan)),
        unwanted=tuple(thing(change.key) for change in plan.unwanted),
        unknown=tuple(map(unknown_thing, sorted(plan.unknown, key=str))),
        refused=plan.refused,
        findings=tuple(HostFinding(**asdict(finding)) for finding in findings),
        notes=(*plan.notes, *plan.unconfined_notes, *map(str, plan.skipped), *_record_notes(plan)),
        release=plan.release.number if plan.release else None,
    )


def _exit_code(plan: Plan, findings: Iterable[Finding], unreachable: bool) -> int:
    """6 before 1 before 2. A release that is only to be written down changes nothing on any host."""
    if unreachable:
        return UNREACHABLE
    if plan.unknown or plan.refused or errors(findings):
        return ERROR
    return ATTENTION if plan.changes or plan.unwanted or plan.skipped else 0


def thing(key: Key) -> Thing:
    """A key as documents have it."""
    return Thing(host=key.host, kind=key.kind, name=key.name)


def unknown_thing(unknown: Unknown) -> UnknownThing:
    """Something unknown as documents have it."""
    return UnknownThing(host=unknown.host, what=unknown.what, reason=unknown.reason)


def differing(change: Change) -> tuple[DifferingField, ...]:
    """The fields of a change, fit to be shown."""
    return tuple(
        DifferingField(field=field.path, observed=field.observed, desired=field.desired)
        for field in shown_fields(change)
    )


def _changes(plan: Plan) -> Iterator[PlannedChange]:
    members, restarted = members_by_key(plan.target), {found.member.key for found in restarts(plan)}
    for change in sorted(plan.changes, key=_Order(plan).of):
        member = members.get(change.key)
        yield PlannedChange(
            host=change.key.host,
            kind=change.key.kind,
            name=change.key.name,
            group=member.group if member else None,
            agent=member.agent if member else None,
            action=change.action,
            restarts=change.key in restarted,
            fields=differing(change),
            diff=text_diff(change),
        )


class _Order:
    """What lies on hosts by host and kind, then the Swarm's things, then the agents as they roll out."""

    def __init__(self, plan: Plan) -> None:
        self.hosts = {host: number for number, host in enumerate(plan.target.hosts)}
        members = (member.key for wave in plan.target.order for member in wave.members)
        self.agents = {key: number for number, key in enumerate(members)}

    def of(self, change: Change) -> tuple[int, int, int, str, str]:
        key = change.key
        if key.kind in ON_HOSTS:
            return 0, self.hosts.get(key.host, len(self.hosts)), ON_HOSTS.index(key.kind), key.name, key.host
        if key.kind in OF_SWARM:
            return 1, 0, OF_SWARM.index(key.kind), key.name, key.host
        leaving = change.action == "remove"
        return (2 if leaving else 3), 0, self.agents.get(key, -1), key.name, key.host


def _restarts(plan: Plan) -> Iterator[PlannedRestart]:
    for found in restarts(plan):
        member = found.member
        yield PlannedRestart(group=member.group, agent=member.agent, why=found.why, precious=member.precious)


def _waves(plan: Plan) -> Iterator[PlannedWave]:
    """Those of which an agent changes, and those whose gate is waited for."""
    changed = {change.key for change in plan.changes if change.action != "remove"}
    gates = {
        (work.wave.group, work.wave.number)
        for step in plan.steps.get("rollout", ())
        for work in step.work.values()
        if isinstance(work, Gate)
    }
    for wave in plan.target.waves:
        gate = (wave.group, wave.number) in gates
        if gate or any(member.key in changed for member in wave.members):
            agents = tuple(member.agent for member in wave.members)
            yield PlannedWave(group=wave.group, wave=wave.number, of=wave.of, agents=agents, gate=gate)


def _record_notes(plan: Plan) -> Iterator[str]:
    down = [status.member.name for status in plan.agents if not status.up]
    doubled = [status.member.name for status in plan.agents if status.doubled]
    if plan.changes or plan.unknown:
        return
    if down:
        yield f"not healthy now, so a deployment would wait for their gates: {', '.join(down)}"
    if doubled:
        yield f"run a replica twice, which a deployment would end: {', '.join(doubled)}"
    if plan.release:
        yield f"nothing differs; a deployment would only record this as release {plan.release.number}"


def plan_lines(document: PlanDocument) -> Iterator[str]:
    """The document for people, without colours; it ends in the counts."""
    for title, changes in _sections(document):
        yield title
        for change in changes:
            yield from _change_lines(change)
    yield from listed("restarts", _restart_lines(document.restarts))
    unwanted = (f"- {item.host} {item.kind} {item.name}" for item in document.unwanted)
    yield from listed("no longer wanted; removed only with --prune", unwanted)
    unknown = (f"{item.host}: {item.what}: {item.reason}" for item in document.unknown)
    yield from listed("unknown", unknown)
    yield from listed("this plan would be refused", _refusals(document))
    warnings = (_finding(found) for found in document.findings if found.level != "error")
    yield from listed("warnings", warnings)
    yield from listed("notes", document.notes)
    if document.release and document.changes:
        yield f"afterwards: release {document.release}"
    yield total(document.counts)


def _sections(document: PlanDocument) -> Iterator[tuple[str, list[PlannedChange]]]:
    """Hosts, the Swarm, what goes, and each wave with its gate."""
    on_hosts: dict[str, list[PlannedChange]] = {}
    for change in document.changes:
        if change.kind in ON_HOSTS:
            on_hosts.setdefault(change.host, []).append(change)
    yield from on_hosts.items()
    if swarm := [change for change in document.changes if change.kind in OF_SWARM]:
        yield "Swarm", swarm
    agents = [change for change in document.changes if change.kind in ("service", "container")]
    if leaving := [change for change in agents if change.action == "remove"]:
        yield "agents that go", leaving
    for wave in document.waves:
        found = [
            change
            for change in agents
            if change.action != "remove" and change.group == wave.group and change.agent in wave.agents
        ]
        yield _wave_title(wave), found


def _wave_title(wave: PlannedWave) -> str:
    count = len(wave.agents)
    gate = f", then its gate: {count} {'agent' if count == 1 else 'agents'} healthy" if wave.gate else ""
    return f"{wave.group} wave {wave.wave}/{wave.of}{gate}"


def _change_lines(change: PlannedChange) -> Iterator[str]:
    said = f"  {SIGNS[change.action]} {change.kind} {change.name}"
    if change.action == "replace":
        said += f": cannot be changed in place: {', '.join(readable(item.field) for item in change.fields)}"
    yield one_line(f"{said} (restarts)" if change.restarts else said)
    yield from (f"      {line}" for line in field_lines(change.fields))
    yield from (one_line(f"        {line}") for line in change.diff)


def field_lines(fields: Iterable[DifferingField]) -> Iterator[str]:
    """Each field on its line; a spec's own digest only where nothing else differs."""
    fields = tuple(fields)
    for field in fields:
        if field.field != DIGEST_LABEL or len(fields) == 1:
            yield one_line(line_of(FieldChange(field.field, field.observed, field.desired)))


def _restart_lines(restarted: Iterable[PlannedRestart]) -> Iterator[str]:
    """One line a group and reason, however many agents it concerns."""
    agents: dict[tuple[str, str], list[str]] = {}
    for item in restarted:
        named = item.agent + (f" ({item.precious})" if item.precious else "")
        agents.setdefault((item.group, item.why), []).append(named)
    for (group, why), names in agents.items():
        yield f"{group}: {', '.join(names)}: {why}"


def _refusals(document: PlanDocument) -> Iterator[str]:
    yield from document.refused
    yield from (_finding(found) for found in document.findings if found.level == "error")


def _finding(found: HostFinding) -> str:
    step = f"; {found.next_step}" if found.next_step else ""
    return f"{found.host}: {found.check}: {found.message}{step}"


def listed(title: str, lines: Iterable[str]) -> Iterator[str]:
    """The lines under their title; nothing where there are none."""
    found = [f"  {printable(line)}" for line in lines]
    if found:
        yield title
        yield from found


def total(counted: Counts) -> str:
    """The counts in words."""
    return (
        f"{counted.add} to add, {counted.change} to change, {counted.replace} to replace,"
        f" {counted.remove} to remove"
    )
