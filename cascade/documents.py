"""What the commands print with `--json`. The schemas in docs/reference/schemas are made from these models:

`python -m cascade.documents docs/reference/schemas` writes them anew.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from cascade.files import write_whole
from cascade.model.strict import Strict
from cascade.planning.diff import Action
from cascade.planning.drift import Repair
from cascade.planning.resource import Kind
from cascade.planning.verdict import Cause

ExitCode = Literal[0, 1, 2, 6]
Outcome = Literal["passed", "failed", "unknown", "not there", "not asked", "excepted"]
Level = Literal["error", "warning", "unchecked", "note", "ok"]


class Part(Strict):
    """A document or a part of one; every field is always there."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)


class Thing(Part):
    """One thing on a host, or of the Swarm as a whole, which belongs to its manager."""

    host: str
    kind: Kind
    name: str


class UnknownThing(Part):
    """What could not be read: never absent, and never in sync."""

    host: str
    what: str
    reason: str


class DifferingField(Part):
    """One field that differs; null stands for one that is not there."""

    field: str
    observed: Any
    desired: Any


class PlannedChange(Thing):
    """One change. `diff` is of a text file's lines; `restarts` says that an agent stops and starts again."""

    group: str | None
    agent: str | None
    action: Action
    restarts: bool
    fields: tuple[DifferingField, ...]
    diff: tuple[str, ...]


class PlannedRestart(Part):
    """An agent that runs and is stopped and started again; `precious` is why that may matter, or empty."""

    group: str
    agent: str
    why: str
    precious: str


class PlannedWave(Part):
    """A wave of the rollout in which something changes, or whose gate is waited for."""

    group: str
    wave: int
    of: int
    agents: tuple[str, ...]
    gate: bool


class Counts(Part):
    """How many things are added, changed in place, replaced and removed."""

    add: int
    change: int
    replace: int
    remove: int


class HostFinding(Part):
    """What the preflight found on a host that is not well, and what to do about it."""

    host: str
    check: str
    level: Level
    message: str
    next_step: str


class PlanDocument(Part):
    """`cascade plan --json`: what a deployment would do. `release` is the number that it would record."""

    inventory: str
    target: str
    exit_code: ExitCode
    counts: Counts
    changes: tuple[PlannedChange, ...]
    restarts: tuple[PlannedRestart, ...]
    waves: tuple[PlannedWave, ...]
    unwanted: tuple[Thing, ...]
    unknown: tuple[UnknownThing, ...]
    refused: tuple[str, ...]
    findings: tuple[HostFinding, ...]
    notes: tuple[str, ...]
    release: int | None


class ReleaseInfo(Part):
    """Who made a release of what, when and why; `revision` is empty outside of a git working tree."""

    number: int
    time: str
    operator: str
    revision: str
    dirty: bool
    purpose: str
    digest: str


class DriftFinding(Thing):
    """One field that differs; a thing that is missing has one with an empty field."""

    group: str | None
    agent: str | None
    action: Action
    field: str
    desired: Any
    observed: Any
    repair: Repair


class FileChange(Thing):
    """A thing that the files say something else of than the last release."""

    action: Action


class Files(Part):
    """Whether the files differ from the last release, and in what."""

    differ: bool
    changes: tuple[FileChange, ...]


class DriftDocument(Part):
    """`cascade drift --json`: the hosts against the last release.

    Exit code 64, mistakes in the files, stands only in what a timer's check leaves behind.
    """

    inventory: str
    checked_at: str
    release: ReleaseInfo | None
    in_sync: bool
    exit_code: Literal[0, 1, 2, 6, 64]
    findings: tuple[DriftFinding, ...]
    unwanted: tuple[Thing, ...]
    files: Files
    unknown: tuple[UnknownThing, ...]
    notes: tuple[str, ...]


class KeptRelease(ReleaseInfo):
    """A release that can be gone back to.

    `agents` is how many it has; `changes` how many things it changed since the release before, null where
    that is not kept; `problem` why it cannot be read, else empty.
    """

    agents: int | None
    changes: int | None
    problem: str


class HistoryDocument(Part):
    """`cascade history --json`: the releases that the manager keeps, the oldest first."""

    inventory: str
    releases: tuple[KeptRelease, ...]


class ReleaseDifference(Thing):
    """One thing that differs between two releases."""

    group: str | None
    agent: str | None
    action: Action
    fields: tuple[DifferingField, ...]
    diff: tuple[str, ...]


class ReleaseDiffDocument(Part):
    """`cascade history --diff A B --json`: what changes from A, which is `observed`, to B."""

    inventory: str
    before: ReleaseInfo
    after: ReleaseInfo
    counts: Counts
    changes: tuple[ReleaseDifference, ...]


class AgentState(Part):
    """How one agent stands; `healthy` is null where the manager, which alone knows, was not read."""

    name: str
    workload: Literal["service", "container"]
    nodes: tuple[str, ...]
    desired: int
    healthy: int | None


class GroupState(Part):
    """How the agents of a group stand."""

    name: str
    phase: int
    agents: tuple[AgentState, ...]


class PublishedPort(Part):
    """Where an agent is reached from outside."""

    group: str
    agent: str
    host: str
    address: str
    port: int
    protocol: str


class GpuSharer(Part):
    """What an agent reserves of a GPU's memory, and what its processes have of it; MiB.

    `used` is null where the driver does not say.
    """

    name: str
    reserved: int
    used: int | None


class GpuProcess(Part):
    """A process that has memory of a GPU and is of no agent; `used` is null where the driver does not say."""

    pid: int
    name: str
    used: int | None


class GpuState(Part):
    """How the memory of one GPU stands, in MiB; `offered` is what the groups' budgets come to.

    `others` is null where the driver does not tell whose processes have how much.
    """

    host: str
    index: int
    uuid: str
    name: str
    memory: int
    used: int
    offered: int
    agents: tuple[GpuSharer, ...]
    others: tuple[GpuProcess, ...] | None


class StatusDocument(Part):
    """`cascade status --json`: how every agent stands, and the memory of every GPU that could be read."""

    healthy: bool
    groups: tuple[GroupState, ...]
    gpus: tuple[GpuState, ...]
    addresses: tuple[PublishedPort, ...]
    unknown: tuple[UnknownThing, ...]


class DoctorDocument(Part):
    """`cascade doctor --json`: the worst level of each check of each host, and what is not well.

    `gpus` has the memory of every GPU that could be read.
    """

    ready: bool
    hosts: dict[str, dict[str, Level]]
    gpus: tuple[GpuState, ...]
    findings: tuple[HostFinding, ...]


class Judgement(Part):
    """One claim about one subject, as a test found it; `test` is a sentence.

    `unknown` is what could not be looked at, `not there` what this machine or kernel does not have, `not
    asked` what the files do not ask for of this subject, `excepted` a control that is not met for a written
    reason.
    """

    area: str
    test: str
    subject: str
    outcome: Outcome
    reason: str


class VerifyDocument(Part):
    """`cascade verify --json`: what every test found, and how many of each outcome there are."""

    inventory: str
    exit_code: int
    counts: dict[Outcome, int]
    results: tuple[Judgement, ...]


class FileProblem(Part):
    """One mistake in a file: where it stands, what is wrong with it, and what to write instead."""

    file: str
    path: str
    reason: str
    fix: str


class ValidateDocument(Part):
    """`cascade validate --json`: every mistake of all files."""

    valid: bool
    problems: tuple[FileProblem, ...]


class Image(Part):
    """One mapped image; of each host whether it is there, null where that is unknown."""

    name: str
    source: str
    place: str = Field(alias="from")
    pinned: str | None
    problem: str | None
    bytes: int | None
    hosts: dict[str, bool | None]
    moved: str | None
    unknown: str | None


class ImagesDocument(Part):
    """`cascade images list --json`: every image, its source and where it is."""

    images: tuple[Image, ...]


class PinnedTag(Part):
    """What a tag meant when it was recorded, and what it means now; `fault` says why that is unknown."""

    reference: str
    was: str | None
    now: str | None
    fault: str


class PinsDocument(Part):
    """`cascade images pin --json`: what the tags mean."""

    tags: tuple[PinnedTag, ...]


class LeftoverImage(Part):
    """An image that nothing wants any more; `stays` says what keeps it all the same."""

    host: str
    image: str
    names: tuple[str, ...]
    bytes: int
    part: bool
    ended: tuple[str, ...]
    stays: str


class PruneDocument(Part):
    """`cascade images prune --json`: what was found, and whether it was removed."""

    leftovers: tuple[LeftoverImage, ...]
    removed: bool


class RenderedWorkload(Part):
    """The Engine API's spec of a workload."""

    name: str
    kind: Literal["service", "container"]
    why_container: str
    hosts: tuple[str, ...]
    spec: dict[str, Any]


class RenderDocument(RootModel[tuple[RenderedWorkload, ...]]):
    """`cascade render INVENTORY --json`: the specs of all workloads."""


class ExplainedLine(Part):
    """What becomes of one value of a Compose file."""

    line: int
    path: str
    becomes: Literal["honoured", "no effect", "refused"]
    text: str
    fix: str


class ForeignWorkload(Part):
    """The spec that a service of a Compose file becomes."""

    name: str
    kind: Literal["service", "container"]
    why_container: str
    spec: dict[str, Any]


class ExplanationDocument(Part):
    """`cascade render FILE --json`: what becomes of a Compose file."""

    file: str
    name: str
    lines: tuple[ExplainedLine, ...]
    problems: tuple[FileProblem, ...]
    needs: dict[str, tuple[str, ...]]
    workloads: tuple[ForeignWorkload, ...]
    refused: bool


class StoredSecret(Part):
    """A secret of the store or of the group files, and the agents that read it, as GROUP/AGENT."""

    name: str
    state: Literal["set", "missing", "unused"]
    generated: bool
    users: tuple[str, ...]


class SecretsListDocument(Part):
    """`cascade secrets list --json`: every secret, without its value."""

    secrets: tuple[StoredSecret, ...]


class StoreFinding(FileProblem):
    """What is wrong with the store: an error stops a deployment."""

    level: Literal["error", "warning"]


class SecretsCheckDocument(Part):
    """`cascade secrets check --json`: all that is wrong with values, identity and recipients."""

    ok: bool
    findings: tuple[StoreFinding, ...]


class LockHolder(Part):
    """Who holds the lock, since when and what for; an `expired` one is taken over by the next one.

    `silent_s` are the seconds since a run's last heartbeat, or since a person took the lock.
    """

    kind: Literal["run", "person"]
    owner: str
    purpose: str
    since: str
    silent_s: float
    expires_s: float | None
    expired: bool


class LockStatusDocument(Part):
    """`cascade lock status --json`."""

    held: bool
    holder: LockHolder | None


class LockAcquireDocument(Part):
    """`cascade lock acquire --json`: who holds it now, and who was taken over from."""

    acquired: bool
    holder: LockHolder | None
    taken_from: LockHolder | None


class LockReleaseDocument(Part):
    """`cascade lock release --json`: whether there was anything to release, and who held it."""

    released: bool
    holder: LockHolder | None


class Waiting(Part):
    """Who waits for an agent: those that depend on it, later agents of its group, later groups."""

    dependents: tuple[str, ...]
    agents: tuple[str, ...]
    groups: tuple[str, ...]


class Diagnosis(Part):
    """Why an agent did not become healthy, and what was done about it.

    `hosts` are those that ran it, or may. `exit_code` and `oom`, whether it ran out of memory, are null where
    nothing ended or nobody could be asked. `health` has the last outputs of its health check, `log` its last
    lines. `removed` are the agents that went again with a group that went back.
    """

    wave: str
    group: str
    agent: str
    name: str
    workload: Literal["service", "container"]
    hosts: tuple[str, ...]
    healthy: int
    desired: int
    cause: Cause
    reason: str
    state: str
    error: str
    exit_code: int | None
    oom: bool | None
    health: tuple[str, ...]
    log: tuple[str, ...]
    waiting: Waiting
    outcome: Literal["left", "went_back", "going_back_failed", "warned"]
    removed: tuple[str, ...]
    next_commands: tuple[str, ...]


class ReportedChange(Part):
    """A change that a run made, or began: `result` is `done` or `failed`, then with a `reason`."""

    time: str
    host: str
    action: str
    kind: str
    name: str
    result: str
    reason: str


class ReportDocument(Part):
    """`cascade apply --report FILE`: what a deployment did, and what did not become healthy.

    `release` is the one that the hosts are at, null before the first one and where that was not read.
    """

    inventory: str
    run: str
    operator: str
    purpose: str
    exit_code: int
    release: int | None
    changes: tuple[ReportedChange, ...]
    diagnoses: tuple[Diagnosis, ...]


DOCUMENTS: dict[str, type[BaseModel]] = {
    "plan": PlanDocument,
    "drift": DriftDocument,
    "history": HistoryDocument,
    "history-diff": ReleaseDiffDocument,
    "status": StatusDocument,
    "doctor": DoctorDocument,
    "verify": VerifyDocument,
    "validate": ValidateDocument,
    "images-list": ImagesDocument,
    "images-pin": PinsDocument,
    "images-prune": PruneDocument,
    "render": RenderDocument,
    "render-file": ExplanationDocument,
    "secrets-list": SecretsListDocument,
    "secrets-check": SecretsCheckDocument,
    "lock-status": LockStatusDocument,
    "lock-acquire": LockAcquireDocument,
    "lock-release": LockReleaseDocument,
    "report": ReportDocument,
}
_NOT_ASCII = re.compile("[^ -~]+")


def json_of(model: type[BaseModel], document: BaseModel | Mapping[str, Any] | list[Any]) -> str:
    """The JSON of a document, in one line that any terminal can show, which is as its schema says."""
    return _NOT_ASCII.sub(_escaped, model.model_validate(document).model_dump_json(by_alias=True))


def _escaped(found: re.Match[str]) -> str:
    """Signs that steer a terminal, as JSON writes them where they stand in a text."""
    return "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in found[0])


def schema_of(name: str) -> str:
    """The published schema of a document."""
    schema = DOCUMENTS[name].model_json_schema(mode="serialization")
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(dialect | schema, indent=2, ensure_ascii=False) + "\n"


def publish(folder: Path) -> None:
    """Writes the schema of every document into a folder."""
    for name in DOCUMENTS:
        write_whole(folder / f"{name}.json", schema_of(name))


if __name__ == "__main__":
    publish(Path(sys.argv[1]))
