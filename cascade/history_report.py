"""What `cascade history` says: documents for programs, and lines for people made from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from cascade.documents import (
    Counts,
    HistoryDocument,
    KeptRelease,
    ReleaseDiffDocument,
    ReleaseDifference,
    ReleaseInfo,
)
from cascade.model.strict import one_line
from cascade.plan_report import SIGNS, differing, field_lines, total
from cascade.planning.comparison import between
from cascade.planning.drift import counts, members_by_key
from cascade.planning.release import Kept, Release
from cascade.planning.shown import text_diff
from cascade.planning.target import Target

_TITLES = ("release", "time", "operator", "revision", "purpose", "agents", "changes")
_REVISION = 12


def history_document(inventory: str, releases: Iterable[Kept]) -> HistoryDocument:
    """Every release that is kept, the oldest first."""
    found = tuple(releases)
    before = [None, *(kept.target for kept in found)]
    return HistoryDocument(
        inventory=inventory,
        releases=tuple(_kept(kept, earlier) for kept, earlier in zip(found, before, strict=False)),
    )


def _kept(kept: Kept, before: Target | None) -> KeptRelease:
    target = kept.target
    return KeptRelease(
        **kept.release.document(),
        agents=sum(1 for _ in target.members) if target else None,
        changes=len(between(before, target)) if before and target else None,
        problem=kept.problem,
    )


def history_lines(document: HistoryDocument) -> Iterator[str]:
    """A table, the newest last; what cannot be read says so beneath."""
    if not document.releases:
        yield "no release is recorded: a deployment that comes to its end records one"
        return
    rows = [_TITLES, *(_row(release) for release in document.releases)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
    for release in document.releases:
        if release.problem:
            yield one_line(f"release {release.number} {release.problem}")


def _row(release: KeptRelease) -> tuple[str, ...]:
    revision = release.revision[:_REVISION] + (" + changes" if release.dirty else "")
    counted = ("" if count is None else str(count) for count in (release.agents, release.changes))
    words = (release.time, release.operator, revision or "none", release.purpose)
    return (str(release.number), *map(one_line, words), *counted)


def release_diff_document(
    inventory: str, before: tuple[Release, Target], after: tuple[Release, Target]
) -> ReleaseDiffDocument:
    """What differs between two releases, field by field."""
    (earlier, then), (later, now) = before, after
    changes, members = between(then, now), {**members_by_key(then), **members_by_key(now)}
    return ReleaseDiffDocument(
        inventory=inventory,
        before=ReleaseInfo(**earlier.document()),
        after=ReleaseInfo(**later.document()),
        counts=Counts(**counts(changes)),
        changes=tuple(
            ReleaseDifference(
                host=change.key.host,
                kind=change.key.kind,
                name=change.key.name,
                group=member.group if (member := members.get(change.key)) else None,
                agent=member.agent if member else None,
                action=change.action,
                fields=differing(change),
                diff=text_diff(change),
            )
            for change in changes
        ),
    )


def release_diff_lines(document: ReleaseDiffDocument) -> Iterator[str]:
    """The differences by host, then the counts."""
    for host, changes in groupby(document.changes, key=lambda change: change.host):
        yield host
        for change in changes:
            yield one_line(f"  {SIGNS[change.action]} {change.kind} {change.name}")
            yield from (f"      {line}" for line in field_lines(change.fields))
            yield from (one_line(f"        {line}") for line in change.diff)
    yield f"from release {document.before.number} to {document.after.number}: {total(document.counts)}"
