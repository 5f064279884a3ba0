"""What is written down of every change: one line of key=value, and the same as data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cascade.planning.diff import Change
from cascade.planning.redaction import redacted

DONE, FAILED = "done", "failed"
# A line stays below the 1024 bytes that logger takes in one piece.
ROOM = {
    "who": 130,
    "run": 24,
    "release": 8,
    "action": 16,
    "kind": 20,
    "name": 260,
    "result": 8,
    "reason": 360,
}
_BARE = re.compile(r"[A-Za-z0-9_./:@%+,-]+")
_CUT = "…"


@dataclass(frozen=True)
class Deed:
    """One change of one thing on a host."""

    action: str
    kind: str
    name: str


@dataclass(frozen=True)
class Entry:
    """A deed that was carried out, when, where, and what came of it."""

    time: str
    host: str
    action: str
    kind: str
    name: str
    result: str
    reason: str = ""

    def document(self) -> dict[str, str]:
        """As JSON has it; a reason only where something failed."""
        return {name: text for name, text in asdict(self).items() if text or name != "reason"}


def deeds_of(work: object) -> tuple[Deed, ...]:
    """What an operation is going to change; a gate changes nothing."""
    return tuple(_deeds(work if isinstance(work, tuple) else (work,)))


def _deeds(parts: Iterable[object]) -> Iterator[Deed]:
    for part in parts:
        if isinstance(part, Deed):
            yield part
        elif isinstance(part, Change):
            yield Deed(part.action, part.key.kind, part.key.name)


def reason_of(failure: str, work: object) -> str:
    """Why it failed, in one line, without any value that looks like a secret."""
    changes = work if isinstance(work, tuple) else (work,)
    specs = [dict(change.desired) for change in changes if isinstance(change, Change)]
    said: str = redacted({"said": " ".join(failure.split()), "specs": specs})["said"]
    return said


def line_of(entry: Entry, who: str, run: str, release: int | None) -> str:
    """`who=… run=… action=… kind=… name=… result=…`; a value is a bare word or a JSON string."""
    known = {"who": who, "run": run, "release": "" if release is None else str(release)}
    return " ".join(_pairs({**known, **entry.document()}))


def _pairs(values: Mapping[str, Any]) -> Iterator[str]:
    for name, room in ROOM.items():
        if text := values.get(name):
            yield f"{name}={_written(text, room)}"


def _written(text: str, room: int) -> str:
    if _BARE.fullmatch(text) and len(text) <= room:
        return text
    written = ""
    for sign in map(_escaped, text):
        if len(f"{written}{sign}".encode()) > room:
            return f'"{written}{_CUT}"'
        written += sign
    return f'"{written}"'


def _escaped(sign: str) -> str:
    """As in JSON; what a terminal would obey or not show is \\uXXXX."""
    if sign.isprintable():
        return json.dumps(sign, ensure_ascii=False)[1:-1]
    units = sign.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
