"""Everything that is wrong with a store, in one report."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cascade.model.secrets import NAME_KEY
from cascade.model.strict import InvalidFiles, Problem
from cascade.secrets.identity import Identity, read_identity
from cascade.secrets.recipients import read_recipients
from cascade.secrets.sealing import digest_of
from cascade.secrets.store import Store, missing
from cascade.secrets.tracking import unlike_git

REKEY = "run `cascade secrets rekey INVENTORY`"


@dataclass(frozen=True)
class Finding:
    """A problem, which stops a deployment, or what only ought to be looked at."""

    level: Literal["error", "warning"]
    problem: Problem


def check_store(
    store: Store, identity: Path, declared: Collection[str], generated: Collection[str] = ()
) -> Iterator[Finding]:
    """Opens everything that is there; says what is wrong with identity, list, values, and what git lacks."""
    if not declared and not store.folder.exists():
        return
    yield from _errors(missing(store.folder, declared, generated))
    recipients: tuple[str, ...] = ()
    try:
        recipients = read_recipients(store.folder)
    except InvalidFiles as invalid:
        yield from _errors(invalid.problems)
    for name in store.names():
        if name not in declared:
            yield _warning(
                store, name, "no group file declares it", "remove it, or declare it under secrets:"
            )
    for path, ignored in unlike_git(store.folder):
        yield Finding("warning", _unlike_git(path, ignored))
    try:
        key = read_identity(identity, store.folder)
    except ValueError as error:
        yield Finding("error", Problem.saying(str(identity), "", str(error)))
        return
    for name in (*store.names(), NAME_KEY):
        yield from _of_value(store, name, key, recipients)


def _of_value(store: Store, name: str, key: Identity, recipients: tuple[str, ...]) -> Iterator[Finding]:
    if not store.has(name):
        return
    problems: list[Problem] = []
    found = store.open([name], key, problems)
    yield from _errors(problems)
    if found and recipients and found[name].recipients != digest_of(recipients):
        yield _warning(store, name, "is encrypted for others than the list says", REKEY)


def _unlike_git(path: Path, ignored: bool) -> Problem:
    if ignored:
        return Problem(
            str(path), "", "is ignored by git, and nobody else gets it", "take it out of .gitignore"
        )
    fix = "commit it, or take it from git again"
    return Problem(str(path), "", "is not as it is in the last commit", fix)


def _errors(problems: Iterable[Problem]) -> Iterator[Finding]:
    for problem in problems:
        yield Finding("error", problem)


def _warning(store: Store, name: str, reason: str, fix: str) -> Finding:
    return Finding("warning", Problem(str(store.path(name)), "", reason, fix))
