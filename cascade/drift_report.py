"""What `cascade drift` says: a document for programs, and lines for people made from the document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import groupby

from cascade.documents import (
    DifferingField,
    DriftDocument,
    DriftFinding,
    FileChange,
    Files,
    ReleaseInfo,
)
from cascade.exit_codes import ATTENTION, ERROR, UNREACHABLE
from cascade.model.strict import one_line
from cascade.plan_report import SIGNS, field_lines, listed, thing, unknown_thing
from cascade.planning.comparison import between
from cascade.planning.drift import differences
from cascade.planning.plan import Plan
from cascade.planning.release import ROLLBACK, Release
from cascade.planning.resource import Unknown
from cascade.planning.target import Target

_MOST_FILE_CHANGES = 20


def drift_document(
    inventory: str,
    checked_at: str,
    files: Target,
    plan: Plan | None,
    release: Release | None,
    unknown: Iterable[Unknown],
    unreachable: bool,
) -> DriftDocument:
    """What a check found; without a plan the release is not known, and nothing could be compared."""
    found = differences(plan) if plan else ()
    unwanted = tuple(thing(change.key) for change in plan.unwanted) if plan else ()
    not_known = tuple(map(unknown_thing, sorted({*unknown, *(plan.unknown if plan else ())}, key=str)))
    drifted = bool(found or unwanted)
    changed = tuple(_file_changes(plan.target, files)) if plan else ()
    differ = plan is not None and plan.target.digest != files.digest
    return DriftDocument(
        inventory=inventory,
        checked_at=checked_at,
        release=ReleaseInfo(**release.document()) if release else None,
        in_sync=not (drifted or not_known),
        exit_code=UNREACHABLE if unreachable else ERROR if not_known else ATTENTION if drifted else 0,
        findings=tuple(DriftFinding(**asdict(difference)) for difference in found),
        unwanted=unwanted,
        files=Files(differ=differ, changes=changed),
        unknown=not_known,
        notes=(*(plan.notes if plan else ()), *(_file_notes(release) if release and differ else ())),
    )


def _file_changes(release: Target, files: Target) -> Iterator[FileChange]:
    for change in between(release, files):
        key = change.key
        yield FileChange(host=key.host, kind=key.kind, name=key.name, action=change.action)


def _file_notes(release: Release) -> Iterator[str]:
    yield f"the files differ from release {release.number}: a deployment would apply them"
    if release.purpose.startswith(ROLLBACK):
        yield (
            f"release {release.number} is a {release.purpose}, made by {release.operator}: a deployment would"
            " apply the newer files again"
        )


def drift_lines(document: DriftDocument) -> Iterator[str]:
    """The document for people, without colours."""
    things = [
        (finding, [finding, *rest])
        for finding, *rest in (list(found) for _, found in groupby(document.findings, key=_thing))
    ]
    for host, found in groupby(things, key=lambda item: item[0].host):
        yield host
        for first, fields in found:
            yield from _finding_lines(first, fields)
    unwanted = (f"- {item.host} {item.kind} {item.name}" for item in document.unwanted)
    yield from listed("no longer wanted; removed only with --prune", unwanted)
    unknown = (f"{item.host}: {item.what}: {item.reason}" for item in document.unknown)
    yield from listed("unknown", unknown)
    yield from listed("the files say something else than the release of", _changed(document.files))
    yield from listed("notes", document.notes)
    yield _verdict(document, len(things))


def _thing(finding: DriftFinding) -> tuple[str, str, str]:
    return finding.host, finding.kind, finding.name


def _finding_lines(first: DriftFinding, findings: Iterable[DriftFinding]) -> Iterator[str]:
    consent = {
        "automatic": "",
        "approval": " (its repair restarts what is persistent or has a GPU: approve it)",
        "none": " (Cascade does not repair it: see `cascade plan`)",
    }[first.repair]
    yield one_line(f"  {SIGNS[first.action]} {first.kind} {first.name}{consent}")
    fields = (
        DifferingField(field=finding.field, observed=finding.observed, desired=finding.desired)
        for finding in findings
        if finding.field
    )
    yield from (f"      {line}" for line in field_lines(fields))


def _changed(files: Files) -> Iterator[str]:
    for change in files.changes[:_MOST_FILE_CHANGES]:
        yield f"{SIGNS[change.action]} {change.host} {change.kind} {change.name}"
    if (more := len(files.changes) - _MOST_FILE_CHANGES) > 0:
        yield f"… and {more} more; --json has them all"


def _verdict(document: DriftDocument, things: int) -> str:
    release = f"release {document.release.number}" if document.release else "no known release"
    parts = [
        f"{count} {words}"
        for count, words in (
            (things, "differ from it" if things != 1 else "differs from it"),
            (len(document.unwanted), "no longer wanted"),
            (len(document.unknown), "unknown"),
        )
        if count
    ]
    return f"{release}: {', '.join(parts) or 'in sync'}"
