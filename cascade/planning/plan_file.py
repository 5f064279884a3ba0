"""A saved plan: what it is to bring about, and what had to be changed for it when it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from cascade.model.strict import Strict, problems_of
from cascade.planning.diff import Action, Change
from cascade.planning.plan import Plan
from cascade.planning.redaction import masked, secrets_of
from cascade.planning.release import Document, NoRelease, target_document, target_in, wave_in
from cascade.planning.resource import Key, Kind
from cascade.planning.shown import name_in
from cascade.planning.target import Target

FORMAT = 1


class NoPlan(ValueError):
    """What was read is no plan that can be carried out; the message says why."""


class SavedField(Strict):
    """One field that differed when the plan was made."""

    path: str
    observed: Any
    desired: Any


class SavedChange(Strict):
    """One change, with all that tells whether it would still be the same."""

    host: str
    kind: Kind
    name: str
    action: Action
    fields: tuple[SavedField, ...]

    @property
    def key(self) -> tuple[str, str, str]:
        return self.host, self.kind, self.name

    def __str__(self) -> str:
        return f"{self.host}: {self.action} {self.kind} {self.name}"


class SavedOptions(Strict):
    """What was asked of the plan beside the inventory."""

    group: tuple[str, ...] = ()
    from_group: str | None = None
    limit: tuple[str, ...] = ()
    prune: bool = False
    stand_ins: bool = False
    rollback: str | None = None


class PlanFile(Strict):
    """A plan as a file holds it. `digest` is of all the rest."""

    format: Literal[1]
    inventory: str
    options: SavedOptions
    target: Document
    changes: tuple[SavedChange, ...]
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def saved(inventory: str, options: SavedOptions, plan: Plan) -> PlanFile:
    """A plan to be carried out later; `inventory` is an absolute path."""
    content = {
        "format": FORMAT,
        "inventory": inventory,
        "options": options.model_dump(),
        "target": target_document(plan.target) | _beside(plan.target),
        "changes": [change.model_dump() for change in saved_changes(plan.changes)],
    }
    whole = json.loads(json.dumps(content))
    return PlanFile.model_validate(whole | {"digest": _digest(whole)})


def saved_changes(changes: Iterable[Change]) -> tuple[SavedChange, ...]:
    """Changes in a form in which the same ones are equal, whenever they were found and in whatever order."""
    return tuple(_saved_change(change) for change in sorted(changes, key=lambda change: change.key))


def written(plan_file: PlanFile) -> str:
    """The text of a plan file."""
    return json.dumps(plan_file.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"


def read(text: str) -> PlanFile:
    """The plan file of a text; raises NoPlan when it is none, or is not as it was written."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NoPlan(f"is no plan file: {error}: make it anew with `cascade plan --out`") from error
    if not isinstance(document, dict) or "format" not in document:
        raise NoPlan("is no plan file: make one with `cascade plan --out`")
    if document["format"] != FORMAT:
        raise NoPlan(f"is of format {document['format']!r}, and this Cascade reads {FORMAT}: make it anew")
    content = {name: value for name, value in document.items() if name != "digest"}
    if document.get("digest") != _digest(content):
        raise NoPlan("was damaged or edited after it was made, its digest says so: make it anew")
    try:
        return PlanFile.model_validate(document)
    except ValidationError as error:
        problem = problems_of(error, "")[0]
        raise NoPlan(f"is no plan file: {problem.path}: {problem.reason}: make it anew") from error


def target_of_plan(plan_file: PlanFile, files: Target) -> Target:
    """What the plan is to bring about; raises NoPlan where the files are of another system."""
    try:
        target = _whole(target_in(plan_file.target, "the plan", files), plan_file.target)
    except NoRelease as error:
        raise NoPlan(str(error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise NoPlan(f"is damaged: {type(error).__name__}: {error}: make it anew") from error
    strangers = sorted(set(target.hosts) ^ set(files.hosts))
    if strangers or (target.system, target.manager) != (files.system, files.manager):
        raise NoPlan(
            f"is for system {target.system} on {', '.join(target.hosts)} with the manager {target.manager},"
            f" and {plan_file.inventory} now says something else: make it anew"
        )
    return target


def _beside(target: Target) -> Document:
    """What a plan needs to know of its target beyond what a release keeps."""
    return {
        "order": [asdict(wave) for wave in target.order],
        "known": sorted([key.host, key.kind, key.name] for key in target.known),
        "stopped_groups": list(target.stopped_groups),
        "partial": target.partial,
        "notes": list(target.notes),
    }


def _whole(target: Target, document: Document) -> Target:
    return replace(
        target,
        order=tuple(map(wave_in, document["order"])),
        known=frozenset(Key(host, kind, name) for host, kind, name in document["known"]),
        stopped_groups=tuple(document["stopped_groups"]),
        partial=document["partial"],
        exact=False,
        notes=tuple(document["notes"]),
    )


def moved(before: Iterable[SavedChange], now: Iterable[SavedChange]) -> list[str]:
    """What is no longer as it was when the plan was made, a line each; nothing when all is as it was."""
    then, today = {change.key: change for change in before}, {change.key: change for change in now}
    return [line for key in sorted({*then, *today}) for line in _moved(then.get(key), today.get(key))]


def _moved(before: SavedChange | None, now: SavedChange | None) -> Iterator[str]:
    if before is None:
        yield f"{now}: is to be done now, and was not when the plan was made"
    elif now is None:
        yield f"{before}: is in the plan, and there is nothing to do any more"
    elif before.action != now.action:
        yield f"{before}: would be {now.action} now"
    else:
        yield from _moved_fields(before, now)


def _moved_fields(before: SavedChange, now: SavedChange) -> Iterator[str]:
    then, today = _values(before), _values(now)
    secrets = secrets_of([_named(then), _named(today)])
    for path in sorted(then.keys() | today.keys()):
        if then.get(path) != today.get(path):
            was, is_now = (_said(path, values, secrets) for values in (then, today))
            yield f"{before}: {path} {was} when the plan was made, and {is_now} now"


def _values(change: SavedChange) -> dict[str, list[Any]]:
    return {field.path: [field.observed, field.desired] for field in change.fields}


def _named(values: Mapping[str, list[Any]]) -> dict[str, Any]:
    return {name_in(path): found for path, found in values.items()}


def _said(path: str, values: Mapping[str, list[Any]], secrets: list[str]) -> str:
    if path not in values:
        return "did not differ"
    observed, desired = (masked(value, secrets, name_in(path)) for value in values[path])
    return f"{_text(observed)} → {_text(desired)}"


def _text(value: Any) -> str:
    return "unset" if value is None else str(value)


def _saved_change(change: Change) -> SavedChange:
    return SavedChange(
        host=change.key.host,
        kind=change.key.kind,
        name=change.key.name,
        action=change.action,
        fields=tuple(
            SavedField(path=field.path, observed=_plain(field.observed), desired=_plain(field.desired))
            for field in change.fields
        ),
    )


def _plain(value: Any) -> Any:
    """The value as JSON gives it back."""
    return json.loads(json.dumps(value))


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
