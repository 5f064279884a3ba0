"""Releases: a finished rollout as it is kept on the manager, and as a target to go back to."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from posixpath import basename
from typing import Any, get_args

from cascade.model.options import Options
from cascade.model.secrets import UNKNOWN_DIGITS, swarm_prefix
from cascade.planning.desired import Desired, Stage
from cascade.planning.observed import Labels, Observed, in_config_folder
from cascade.planning.removal import REMOVABLE, held_by, waiting
from cascade.planning.resource import Key, Kind
from cascade.planning.specs import LABEL_DIGEST, LABEL_GPU, LABEL_NEEDS, LABEL_RELEASE, LABEL_SYSTEM
from cascade.planning.target import Target, recorded
from cascade.planning.waves import Member, Wave

FORMAT = 1
LABEL_TIME = "cascade.time"
LABEL_OPERATOR = "cascade.operator"
LABEL_REVISION = "cascade.revision"
LABEL_DIRTY = "cascade.dirty"
LABEL_PURPOSE = "cascade.purpose"
ROLLBACK = "rollback"
NEEDED: frozenset[Kind] = frozenset(("network", "volume", "config", "secret", "secret-file", "image"))

Last = Target | None
Document = dict[str, Any]


class NoRelease(ValueError):
    """What was read is no release; the message says why."""


@dataclass(frozen=True)
class Release:
    """Who made a release of what, when and why; `revision` is empty outside of a git working tree."""

    number: int
    time: str
    operator: str
    revision: str
    dirty: bool
    purpose: str
    digest: str

    def document(self) -> Document:
        """The release as it is shown."""
        return asdict(self)

    def labels(self, target: Target) -> dict[str, str]:
        """The labels of its config on the manager: all that a list of releases needs."""
        return {
            LABEL_SYSTEM: target.system,
            LABEL_RELEASE: str(self.number),
            LABEL_TIME: self.time,
            LABEL_OPERATOR: self.operator,
            LABEL_REVISION: self.revision,
            LABEL_DIRTY: "yes" if self.dirty else "no",
            LABEL_PURPOSE: self.purpose,
            LABEL_DIGEST: self.digest,
            **_gpu_label(target),
            LABEL_NEEDS: " ".join(f"{key.host}/{key.kind}/{key.name}" for key in sorted(needs(target))),
        }


@dataclass(frozen=True)
class Kept:
    """A release on the manager; `target` is None where it cannot be read, and `problem` says why."""

    release: Release
    target: Target | None
    problem: str = ""


def _gpu_label(target: Target) -> dict[str, str]:
    """Which agents have the GPU that they can do without, for the plans that come."""
    decisions = {
        item.key.name: decided
        for item in target.resources
        if item.key.kind in REMOVABLE and (decided := item.fields.get("Labels", {}).get(LABEL_GPU))
    }
    said = " ".join(f"{name}={decided}" for name, decided in sorted(decisions.items()))
    return {LABEL_GPU: said} if said else {}


def decisions_in(labels: Labels) -> dict[str, str]:
    """What a release decided of the agents that can do without their GPU, by their names."""
    pairs = (item.partition("=") for item in labels.get(LABEL_GPU, "").split())
    return {name: decided for name, _, decided in pairs}


def purpose_of(options: Options, aim: Release | None) -> str:
    """What a run is for, as its release says it."""
    if options.rollback and aim:
        return f"{ROLLBACK} to {aim.number}"
    return "repair" if options.repair else "deploy"


def release_in(labels: Labels) -> Release:
    """The release that a config's labels tell of."""
    return Release(
        number=int(labels[LABEL_RELEASE]),
        time=labels.get(LABEL_TIME, ""),
        operator=labels.get(LABEL_OPERATOR, ""),
        revision=labels.get(LABEL_REVISION, ""),
        dirty=labels.get(LABEL_DIRTY) == "yes",
        purpose=labels.get(LABEL_PURPOSE, ""),
        digest=labels.get(LABEL_DIGEST, ""),
    )


def config_name(system: str, number: int) -> str:
    """The name of a release's config; names sort as their numbers do."""
    return f"cascade-release-{system}-{number:06}"


def next_number(releases: Iterable[Labels]) -> int:
    """The number after the newest."""
    return max((int(labels[LABEL_RELEASE]) for labels in releases), default=0) + 1


def needs(target: Target) -> Iterator[Key]:
    """The objects without which a release cannot be gone back to."""
    return (item.key for item in target.resources if item.key.kind in NEEDED)


def encoded(target: Target, audit: Iterable[Mapping[str, Any]] = ()) -> bytes:
    """A target as a release or a saved plan holds it: JSON, compressed."""
    return zlib.compress(json.dumps(target_document(target) | {"audit": list(audit)}).encode(), 9)


def target_document(target: Target) -> Document:
    """A target in plain data."""
    return {
        "format": FORMAT,
        "system": target.system,
        "manager": target.manager,
        "hosts": list(target.hosts),
        "resources": [
            [item.stage, item.key.host, item.key.kind, item.key.name, recorded(item.fields)]
            for item in target.resources
        ],
        "waves": [asdict(wave) for wave in target.waves],
    }


NOTHING = Target(
    origin="nothing",
    system="",
    manager="",
    hosts=(),
    resources=(),
    waves=(),
    order=(),
    known=frozenset(),
)


def decoded(data: str) -> Document:
    """The document of a release as the engine gives it, in base64; raises NoRelease."""
    try:
        document = json.loads(zlib.decompress(base64.b64decode(data)))
    except (ValueError, RecursionError, zlib.error) as error:
        raise NoRelease(f"cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise NoRelease("cannot be read: it is no JSON object")
    return document


def target_in(document: Document, origin: str, files: Target) -> Target:
    """The target of a document; raises NoRelease.

    What means something on the deploying machine only, like the place of an image's archive, is the files'.
    """
    if document.get("format") != FORMAT:
        raise NoRelease(f"is of format {document.get('format')}, and this Cascade reads {FORMAT}")
    try:
        resources = tuple(_resource(item, files) for item in document["resources"])
        waves = tuple(map(wave_in, document["waves"]))
        system, manager, hosts = document["system"], document["manager"], tuple(map(str, document["hosts"]))
        groups = {wave.group for wave in waves}
    except (KeyError, TypeError, ValueError) as error:
        raise NoRelease(f"is damaged: {type(error).__name__}: {error}") from error
    named = {key for key in files.known if key.kind in NEEDED}
    return Target(
        origin=origin,
        system=system,
        manager=manager,
        hosts=hosts,
        resources=resources,
        waves=waves,
        order=(*waves, *(wave for wave in files.order if wave.group not in groups)),
        known=frozenset({item.key for item in resources} | named),
        exact=True,
    )


def target_of_release(document: Document, release: Release, files: Target = NOTHING) -> Target:
    """The target of a release's document; raises NoRelease, also where it is not what was recorded.

    Without the files it can be read and compared only.
    """
    target = target_in(document, f"release {release.number}", files)
    try:
        whole = target.digest == release.digest
    except (AttributeError, TypeError, ValueError):
        whole = False
    if not whole:
        raise NoRelease("is damaged: it does not hold what its digest says")
    return target


def older_values(release: Target, files: Target) -> Iterator[str]:
    """A note of the values of a release that the files have replaced, as far as those of today are open."""
    then, today = _digits(release), _digits(files)
    older = [name for name in sorted(then.keys() & today.keys()) if then[name] != today[name]]
    if named := [name for name in older if today[name] != UNKNOWN_DIGITS]:
        yield f"brings back older values of: {', '.join(named)}"


def _digits(target: Target) -> dict[str, str]:
    """What the names of a target's secrets end in, by the names of their values."""
    names = {basename(key.name) for key in target.wanted if key.kind in ("secret", "secret-file")}
    parted = (name.removeprefix(swarm_prefix(target.system, "")).rpartition("-") for name in names)
    return {name: digits for name, _, digits in parted}


def _resource(item: list[Any], files: Target) -> Desired:
    stage, host, kind, name, fields = item
    if stage not in get_args(Stage) or kind not in get_args(Kind):
        raise ValueError(f"there is no {kind} in {stage}")
    key = Key(host, kind, name)
    local = {
        name: value for name, value in files.wanted.get(key, {}).items() if name not in recorded({name: 0})
    }
    return Desired(stage, key, {**fields, **local})


def wave_in(document: Document) -> Wave:
    """A wave as a document has it; raises KeyError or TypeError."""
    return Wave(**{**document, "members": tuple(map(_member, document["members"]))})


def _member(document: Document) -> Member:
    scale = document["scale"]
    plain = {"key": Key(**document["key"]), "hosts": tuple(document["hosts"])}
    return Member(**{**document, **plain, "scale": tuple(scale) if scale else None})


def merged(target: Target, observed: Observed, last: Last) -> Target:
    """What the whole fleet is after a run about a part of it: the rest is as the last release says."""
    about = [item for item in target.resources if item.key.host not in observed.unread]
    if last is None or (len(about) == len(target.resources) and not target.partial):
        return replace(target, resources=tuple(about), waves=_waves_of(target, about))
    ours, leaving = {item.key for item in about}, set(_leaving(target, observed))
    stages = list(get_args(Stage))
    rest = [
        item
        for item in last.resources
        if item.key not in ours | leaving and _stays(target, observed, item.key)
    ]
    missing = {key for item in rest for key in _held(target, item)} - {item.key for item in (*about, *rest)}
    rest += [item for item in last.resources if item.key in missing]
    resources = sorted([*about, *rest], key=lambda item: stages.index(item.stage))
    whole = replace(target, order=tuple(_order(target, last, ours)))
    return replace(whole, resources=tuple(resources), waves=_waves_of(whole, resources))


def _order(target: Target, last: Target, ours: Collection[Key]) -> list[Wave]:
    """The waves of the target; agents that the run is not about are in them as the last release has them."""
    theirs = {member.key: member for member in last.members}
    order = [
        replace(wave, members=tuple(m if m.key in ours else theirs.get(m.key, m) for m in wave.members))
        for wave in target.order
    ]
    known = {member.key for wave in order for member in wave.members}
    for wave in last.waves:
        if members := tuple(member for member in wave.members if member.key not in known):
            order.append(replace(wave, members=members))
    groups = list(dict.fromkeys(wave.group for wave in order))
    return sorted(order, key=lambda wave: groups.index(wave.group))


def _stays(target: Target, observed: Observed, key: Key) -> bool:
    """Whether a run leaves alone what it is not about: hosts it did not read, groups it did not choose."""
    if key.host in observed.unread:
        return key.host in target.hosts
    if key.kind in REMOVABLE:
        return key in target.known or target.partial
    return target.partial and (key.kind in NEEDED or in_config_folder(key))


def _held(target: Target, item: Desired) -> Iterator[Key]:
    """The Swarm's things that an agent holds which stays as it is, or that a file is made from."""
    yield from held_by(target.manager, item.fields)
    if "config" in item.fields:
        yield Key(target.manager, "config", item.fields["config"])


def _leaving(target: Target, observed: Observed) -> Iterator[Key]:
    """The agents of groups that are not to run any more, but for those that nobody can remove now."""
    kept = waiting(target, observed)
    for wave in target.order:
        if wave.group in target.stopped_groups:
            yield from (member.key for member in wave.members if member.name not in kept)


def _waves_of(target: Target, resources: Iterable[Desired]) -> tuple[Wave, ...]:
    """The waves of the agents that are among these resources."""
    keys = {item.key for item in resources}
    found = []
    for wave in target.order:
        if members := tuple(member for member in wave.members if member.key in keys):
            found.append(replace(wave, members=members))
    return tuple(found)
