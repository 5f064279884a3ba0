"""The plan: made once per run from one diff; everything that will happen, in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from cascade.model.secrets import UNKNOWN_DIGITS
from cascade.model.strict import one_line
from cascade.planning.comparable import comparable
from cascade.planning.desired import Desired, Stage
from cascade.planning.diff import Change, FieldChange, diff
from cascade.planning.gpu import GPU, why_unknown
from cascade.planning.observed import Labels, Observed, Snapshot, is_container_file, observe
from cascade.planning.release import LABEL_OPERATOR, LABEL_PURPOSE, ROLLBACK, Last, merged, next_number
from cascade.planning.removal import HELD, REMOVABLE, agents_of, held_by, removal, removals, unwanted, waiting
from cascade.planning.resource import Fields, Key, Kind, Unknown
from cascade.planning.shown import shown_fields
from cascade.planning.skipped import Skipped, skipped_of
from cascade.planning.specs import LABEL_DIGEST, LABEL_RELEASE
from cascade.planning.steps import AgentStatus, Record, Step, record_step, steps_of
from cascade.planning.target import Target
from cascade.planning.waves import Wave

_UNCONFINED = "its kernel has no AppArmor, so containers there are not confined by it"
_NO_APPARMOR = (
    "its kernel has no AppArmor, which group_data requires; boot a kernel that has it, or write"
    ' apparmor = "if-available"'
)


@dataclass(frozen=True)
class Plan:
    """Every difference between a target and the hosts, and the steps that remove it.

    `unwanted` is what carries the system's labels and is no longer wanted: it goes only when a person says
    so. `spared` is what this run leaves as it is, `skipped` the agents that it cannot see to without a host
    that it leaves out, `unconfined` the hosts whose kernel has no AppArmor. `release` is what will be written
    down when all is done, `latest` the labels of the last release.
    """

    target: Target
    steps: Mapping[Stage, tuple[Step, ...]]
    changes: tuple[Change, ...]
    unknown: tuple[Unknown, ...]
    refusals: Mapping[Key, str]
    notes: tuple[str, ...]
    agents: tuple[AgentStatus, ...] = field(default=())
    stopped: frozenset[str] = frozenset()
    unwanted: tuple[Change, ...] = ()
    spared: tuple[Change, ...] = ()
    release: Record | None = None
    latest: Labels | None = None
    skipped: tuple[Skipped, ...] = ()
    unconfined: tuple[str, ...] = ()

    @property
    def unconfined_notes(self) -> tuple[str, ...]:
        """Where containers run without AppArmor, in words."""
        return tuple(f"{host}: {_UNCONFINED}" for host in self.unconfined)

    @property
    def refused(self) -> tuple[str, ...]:
        """What Cascade does not do by itself, with what a person can do."""
        return (*self.target.faults, *self.refusals.values())

    @property
    def release_number(self) -> int:
        """The release that the hosts will be at."""
        return self.release.number if self.release else int((self.latest or {}).get(LABEL_RELEASE, 0))

    def differences(self) -> Iterator[str]:
        """What differs of things that are there, field by field; what is not there at all names itself."""
        for change in self.changes:
            for difference in shown_fields(change):
                yield f"{change.key.host}: {change.key.kind} {change.key.name}: {difference}"


def make_plan(
    target: Target,
    snapshots: Mapping[str, Snapshot],
    prune: Collection[Kind] = (),
    last: Last = None,
    spare: Collection[Key] = (),
    lost: Collection[Unknown] = (),
) -> Plan:
    """Compares a target with the hosts. Pure: the same input gives the same plan.

    Hosts of the target without a snapshot are left out, with everything that lies on them or waits for them.
    `prune` names the kinds of which goes what carries the system's labels and is not wanted; `last` is the
    last release, which says what a run that is not about the whole fleet leaves as it is. What `spare` names
    is left as it is too. `lost` says why hosts of the run have no snapshot: what the manager knows of them is
    compared all the same.
    """
    observed = observe(target, snapshots, lost)
    scaled = _as_scaled(target, observed)
    left_out, differing = waiting(target, observed), _changes(scaled, observed)
    skipped = tuple(skipped_of(target, left_out, set(_not_as_wanted(scaled, observed, differing))))
    held_back = left_out.keys() | {agent.name for agent in skipped}
    seen = _without(scaled, held_back)
    held_back |= {item.key.name for item in target.unclear}
    present, wanted = _without(target, held_back), _without(scaled, held_back)
    found = {item.key: differing[item.key] for item in wanted.resources if item.key in differing}
    changes = {key: change for key, change in found.items() if key not in spare}
    holders = _holders(target.manager, changes.values(), observed)
    changes |= _replacements(wanted, changes, holders, observed)
    not_wanted = sorted(unwanted(target, observed))
    gone = [key for key in not_wanted if key.kind in prune or is_container_file(key)]
    removed = _removed(target, observed, gone)
    going = changes.keys() | {change.key for change in removed}
    agents = {status.member.name: status for wave in seen.waves for status in _statuses(wave, seen, observed)}
    record = _record(present, observed, last)
    freeing = removals(target, observed, holders.keys() & going)
    steps = steps_of(wanted, changes, removed, freeing, observed, agents)
    if record:
        steps["release"] = (record_step(record.number, record.target),)
    return Plan(
        target=target,
        steps=steps,
        changes=(*removed, *changes.values()),
        unknown=(*observed.unknown, *_unread_gpus(target, snapshots)),
        refusals=dict(_refused(changes.values(), observed, holders, going)),
        notes=tuple(_notes(target, observed, bool(changes))),
        agents=tuple(agents.values()),
        stopped=frozenset(observed.stopped),
        unwanted=tuple(removal(observed, key) for key in not_wanted if key not in gone),
        spared=tuple(change for key, change in found.items() if key in spare),
        release=record,
        latest=observed.releases[-1] if observed.releases else None,
        skipped=skipped,
        unconfined=tuple(sorted(observed.unconfined)),
    )


def _unread_gpus(target: Target, snapshots: Mapping[str, Snapshot]) -> Iterator[Unknown]:
    """The hosts whose GPUs the target rests on, and which were not asked for them."""
    for host in target.unread_gpus:
        if host in snapshots and "gpu" not in snapshots[host]:
            yield Unknown(host, GPU, why_unknown(snapshots[host]))


def _not_as_wanted(target: Target, observed: Observed, changes: Mapping[Key, Change]) -> Iterator[str]:
    """The agents that differ from what is wanted, or are not up, as far as the manager knows."""
    for wave in target.waves:
        for status in _statuses(wave, target, observed):
            key = status.member.key
            if key in changes or not (status.at_rest or observed.unreadable(key, target.manager)):
                yield status.member.name


def _without(target: Target, left_out: Collection[str]) -> Target:
    """The target without the agents that wait for hosts which were not read."""
    gone = {member.key for member in target.members if member.name in left_out}
    return replace(
        target,
        resources=tuple(item for item in target.resources if item.key not in gone),
        waves=tuple(_remaining(target.waves, gone)),
    )


def _remaining(waves: Iterable[Wave], gone: Collection[Key]) -> Iterator[Wave]:
    for wave in waves:
        if members := tuple(member for member in wave.members if member.key not in gone):
            yield replace(wave, members=members)


def _as_scaled(target: Target, observed: Observed) -> Target:
    """The target with the count of each service that somebody scaled within its range: no drift."""
    scaled = dict(_scaled(target, observed))
    resources = (
        replace(item, fields=_with_replicas(item.fields, scaled[item.key])) if item.key in scaled else item
        for item in target.resources
    )
    return replace(target, resources=tuple(resources))


def _scaled(target: Target, observed: Observed) -> Iterator[tuple[Key, int]]:
    for member in target.members:
        spec = observed.resources.get(member.key, {})
        count = spec.get("Mode", {}).get("Replicated", {}).get("Replicas", 0)
        if member.scale and spec and member.scale[0] <= count <= member.scale[1]:
            yield member.key, count


def _with_replicas(fields: Fields, count: int) -> Fields:
    return {**fields, "Mode": {"Replicated": {"Replicas": count}}}


def _changes(target: Target, observed: Observed) -> dict[Key, Change]:
    readable = [
        item
        for item in target.resources
        if not (observed.unreadable(item.key, target.manager) or _beyond(target, observed, item))
    ]
    found = diff(
        {item.key: comparable(item.key.kind, item.fields) for item in readable},
        {key: comparable(key.kind, fields) for key, fields in observed.resources.items()},
    )
    changes = {}
    for item in readable:
        key, before = item.key, observed.before(item.key)
        if key in found:
            changes[key] = replace(found[key], desired=item.fields, observed=before)
        elif key in observed.paused:
            paused = FieldChange("UpdateStatus", "paused", None)
            changes[key] = Change(key, "update", (paused,), item.fields, before)
        elif key.kind == "daemon-settings" and (since := observed.stale_engines.get(key.host)):
            stale = FieldChange("running engine", f"started before {since}", None)
            changes[key] = Change(key, "update", (stale,), item.fields, before)
        if losses := observed.losses.get(key):
            changes[key] = _anew(changes.get(key) or Change(key, "update", (), item.fields, before), losses)
    return changes


def _anew(change: Change, losses: tuple[FieldChange, ...]) -> Change:
    """With a new container in the place of the one that lost something; nothing else gives it back."""
    action = "replace" if change.key.kind == "container" else change.action
    return replace(change, action=action, fields=(*change.fields, *losses))


def _beyond(target: Target, observed: Observed, item: Desired) -> bool:
    """Whether it is about AppArmor on a host that need not have it, and has not."""
    host = item.key.host
    return item.stage == "confinement" and host in observed.unconfined and host not in _confined(target)


def _confined(target: Target) -> set[str]:
    """The hosts that must have AppArmor."""
    profiles = (item for item in target.resources if item.key.kind == "apparmor")
    return {item.key.host for item in profiles if item.fields.get("required")}


def _holders(manager: str, changes: Iterable[Change], observed: Observed) -> dict[Key, tuple[Key, ...]]:
    """Every agent that holds a network or config which has to be replaced, with what it holds of these."""
    replaced = {change.key for change in changes if change.action == "replace" and change.key.kind in HELD}
    agents = sorted(key for key in observed.resources if key.kind in REMOVABLE)
    held = {key: replaced.intersection(held_by(manager, observed.resources[key])) for key in agents}
    return {key: tuple(sorted(found)) for key, found in held.items() if found}


def _replacements(
    target: Target, changes: Mapping[Key, Change], holders: Mapping[Key, tuple[Key, ...]], observed: Observed
) -> dict[Key, Change]:
    """The replacement of the agents that cannot keep what they hold."""
    found = {}
    for item in target.resources:
        if held := holders.get(item.key):
            reasons = [
                FieldChange(f"{key.kind} {key.name}", "the one that is replaced", "its replacement")
                for key in held
            ]
            known = changes[item.key].fields if item.key in changes else ()
            before = observed.resources[item.key]
            found[item.key] = Change(item.key, "replace", (*reasons, *known), item.fields, before)
    return found


def _removed(target: Target, observed: Observed, pruned: Iterable[Key]) -> tuple[Change, ...]:
    """Agents first, the last to start before the others; then what they used."""
    pruned = tuple(pruned)
    agents = {key for key in pruned if key.kind in REMOVABLE}
    agents |= set(agents_of(target, observed, target.stopped_groups))
    others = (removal(observed, key) for key in pruned if key.kind not in REMOVABLE)
    return (*removals(target, observed, agents), *others)


def _statuses(wave: Wave, target: Target, observed: Observed) -> Iterator[AgentStatus]:
    for member in wave.members:
        key = member.key
        mode = target.wanted.get(key, {}).get("Mode", {})
        replicas = mode.get("Replicated", {}).get("Replicas", member.replicas)
        nodes, healthy = observed.placed.get(key, ()), observed.health.get(key, 0)
        yield AgentStatus(member, nodes, replicas, healthy, key in observed.doubled)


def _record(target: Target, observed: Observed, last: Last) -> Record | None:
    """The release that follows from this plan, unless it would say the same as the last one.

    None either while nobody can say what the rest of the fleet is, because the manager cannot be asked.
    """
    if observed.lost or target.manager in observed.unread:
        return None
    if target.manager in observed.stopped and (target.partial or observed.unread):
        return None
    whole = merged(target, observed, last)
    latest = observed.releases[-1] if observed.releases else {}
    if latest.get(LABEL_DIGEST) == whole.digest:
        return None
    return Record(next_number(observed.releases), whole)


def _refused(
    changes: Iterable[Change],
    observed: Observed,
    holders: Mapping[Key, tuple[Key, ...]],
    going: Collection[Key],
) -> Iterator[tuple[Key, str]]:
    for change in changes:
        staying = [key.name for key, held in holders.items() if change.key in held and key not in going]
        if owner := observed.foreign.get(change.key):
            yield (
                change.key,
                f"{change.key} is of the system {one_line(owner)}: choose another name for this one",
            )
        elif change.key.kind == "apparmor" and change.key.host in observed.unconfined:
            yield change.key, f"{change.key.host}: {_NO_APPARMOR}"
        elif refusal := _refusal(change, staying):
            yield change.key, refusal


def _refusal(change: Change, staying: Collection[str]) -> str:
    """Why Cascade does not do this by itself, with what a person can do; else an empty string.

    `staying` are agents that hold what is to be replaced, and that this run leaves alone.
    """
    kind, name = change.key.kind, change.key.name
    where = f"{change.key.host}: {kind} {name}: {', '.join(map(str, shown_fields(change)))}"
    if kind == "swarm" and change.action == "update":
        return f"{where}; if nothing there is needed, `docker swarm leave --force` there and run again"
    if kind == "volume" and change.action == "replace":
        return f"{where}; its data would be lost: save them, `docker volume rm {name}` there and run again"
    if staying:
        return f"{where}; {', '.join(staying)} hold it: deploy the whole fleet, or remove what is not of it"
    if kind == "config" and change.action != "update" and "data" not in change.desired:
        return (
            f"{change.key.host}: config {name} is not there, and no file says what it holds: choose a"
            " release whose configs are there, or deploy the files"
        )
    if kind in ("secret", "secret-file") and not (name.endswith(UNKNOWN_DIGITS) or _is_at_hand(change)):
        return (
            f"{change.key} is not there, and the files have no such value: choose a release whose secrets are"
            " there, or deploy the files"
        )
    if kind == "image" and name.startswith("sha256:") and not change.desired.get("archive"):
        return (
            f"{change.key.host}: image {name} is not there, and no file says where it comes from: map"
            " it in images of group_data, or choose a release whose images are there"
        )
    return ""


def _is_at_hand(change: Change) -> bool:
    """Whether the files have this very value, the Swarm keeps it, or its host can unseal it."""
    there = change.observed or {}
    return "stored" in change.desired or bool(there.get("sealed", change.action == "update"))


def _notes(target: Target, observed: Observed, changing: bool) -> Iterator[str]:
    yield from _newer_files(target, observed, changing)
    for host in sorted(observed.stopped):
        yield f"{host}: its engine does not run; what is in it cannot be read before it is started"
    yield from _waiting_notes(target, observed)
    if changing or not target.exact:
        yield from target.notes


def _newer_files(target: Target, observed: Observed, changing: bool) -> Iterator[str]:
    """Somebody went back from what the files say."""
    latest = observed.releases[-1] if observed.releases else {}
    if changing and not target.exact and latest.get(LABEL_PURPOSE, "").startswith(ROLLBACK):
        yield (
            f"release {latest[LABEL_RELEASE]} is a {latest[LABEL_PURPOSE]}, made by"
            f" {latest.get(LABEL_OPERATOR, 'nobody known')}: this applies the newer files again"
        )


def _waiting_notes(target: Target, observed: Observed) -> Iterator[str]:
    """For each host that was left out, what waits for it."""
    left_out = waiting(target, observed)
    for host in sorted(observed.left_out):
        if host == target.manager:
            yield f"{host}: left out by --limit; it is the manager, so the Swarm and all groups wait for it"
            continue
        groups = Counter(member.group for member in target.members if host in left_out.get(member.name, ()))
        said = ", ".join(f"{group} ({count} agents)" for group, count in groups.items())
        yield f"{host}: left out by --limit; {f'waiting for it: {said}' if said else 'nothing waits for it'}"
