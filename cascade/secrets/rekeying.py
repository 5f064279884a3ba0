"""Another list of recipients: every value is encrypted anew, for exactly those who are on it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from cascade.model.secrets import NAME_KEY
from cascade.model.strict import InvalidFiles, Problem
from cascade.secrets.identity import Identity
from cascade.secrets.recipients import MOST_RECIPIENTS, RECIPIENTS, read_recipients, write_recipients
from cascade.secrets.sealing import digest_of, seal, unseal
from cascade.secrets.store import Store, new_name_key
from cascade.secrets.value import Value


@dataclass(frozen=True)
class Rekeyed:
    """What was done: values that were encrypted anew, and those that who left still knows.

    `by_hand` is who is on a list that was changed by hand, where nobody knows who left.
    """

    written: tuple[str, ...]
    left: bool
    known: tuple[str, ...]
    by_hand: tuple[str, ...] = ()


def unchanged_list(store: Store, identity: Identity) -> tuple[str, ...]:
    """The list, if the values are encrypted for it; raises InvalidFiles: a line by hand lets somebody in."""
    recipients, problems = read_recipients(store.folder), list[Problem]()
    opened = store.open([NAME_KEY], identity, problems)
    if opened and opened[NAME_KEY].recipients != digest_of(recipients):
        problems = list(_changed(str(store.folder / RECIPIENTS), recipients))
    if problems:
        raise InvalidFiles(problems)
    return recipients


def _changed(file: str, recipients: tuple[str, ...]) -> Iterator[Problem]:
    reason = "has changed since the values were encrypted"
    yield Problem(file, "", reason, "look at it, then run `cascade secrets rekey INVENTORY`")
    for recipient in recipients:
        yield Problem(file, "", f"lets open what is encrypted now: {recipient}")


def rekey(
    store: Store,
    identity: Identity,
    added: Collection[str],
    removed: Collection[str],
    fresh: Callable[[], Mapping[str, Value]],
) -> Rekeyed:
    """Encrypts all values for the list as it is to be; `fresh` makes those that are replaced at once.

    Raises InvalidFiles, before anything is written, for a value that cannot be opened and a list that
    cannot be. The list is written last: what broke off is finished by the same command.
    """
    current = read_recipients(store.folder)
    wanted = _wanted(store, current, added, removed)
    _refuse_to_lock_out(store, identity, wanted)
    problems: list[Problem] = []
    opened = store.open((NAME_KEY, *store.names()), identity, problems)
    if problems:
        raise InvalidFiles(problems)
    by_hand = opened[NAME_KEY].recipients not in (digest_of(current), digest_of(wanted))
    left = bool(removed) or by_hand
    new = dict(fresh())
    values = {name: found.value for name, found in opened.items() if found.recipients != digest_of(wanted)}
    values |= {NAME_KEY: new_name_key()} if left else {}
    for name, value in (values | new).items():
        store.write(name, value, wanted)
    if added or removed:
        write_recipients(store.folder, [one for one in wanted if one not in current], removed)
    known = sorted(opened.keys() - new.keys() - {NAME_KEY}) if left else []
    return Rekeyed(tuple(sorted(values | new)), left, tuple(known), wanted if by_hand else ())


def _wanted(
    store: Store, current: tuple[str, ...], added: Collection[str], removed: Collection[str]
) -> tuple[str, ...]:
    file = str(store.folder / RECIPIENTS)
    if strangers := sorted(set(removed) - set(current)):
        raise InvalidFiles(
            Problem(file, "", f"{one} is not on the list, and cannot be removed", "give one that is")
            for one in strangers
        )
    wanted = tuple(one for one in dict.fromkeys((*current, *added)) if one not in removed)
    if len(wanted) > MOST_RECIPIENTS:
        reason = f"would have {len(wanted)} recipients, more than {MOST_RECIPIENTS}"
        raise InvalidFiles([Problem(file, "", reason, "remove somebody first")])
    return wanted


def _refuse_to_lock_out(store: Store, identity: Identity, wanted: tuple[str, ...]) -> None:
    """A list without whoever works here would leave them unable to go on, and maybe everybody."""
    try:
        probe = seal(Value(b"probe"), store.system, NAME_KEY, wanted) if wanted else ""
        unseal(probe.encode(), store.system, NAME_KEY, identity)
    except ValueError:
        reason = "would be left without your own identity, which opens the values"
        fix = "have another recipient remove you, or add yourself first"
        raise InvalidFiles([Problem(str(store.folder / RECIPIENTS), "", reason, fix)]) from None
