"""Documents with one place changed to what nobody would write there, for tests that leave nothing out."""

from __future__ import annotations

import copy
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

GONE = object()
# Long beside what it takes: the slowest on the slowest machine needs a few of these.
LONGEST_CPU_S = 20

Place = tuple[str | int, ...]


def nested(depth: int) -> list[Any]:
    """Lists within lists."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


VALUES: dict[str, Any] = {
    "nothing": None,
    "true": True,
    "less than none": -1,
    "more than all": 10**30,
    "no number": float("nan"),
    "without end": float("inf"),
    "empty": "",
    "escape sequences": "\x1b[2J\x1b]0;x\x07\n\r\u202e\u2028",
    "a zero byte and half a sign": "a\x00b\ud800",
    "long": "x" * 100_000,
    "many digits": "1" * 5000,
    "commands": "$(touch x); `x` | ${HOME} -rf ../../x",
    "digits of another script": "\u0663",
    "no list": [],
    "no map": {},
    "a list of a number": [1],
    "a list of nothing": [None],
    "a map": {"a": 1},
    "a map of escape sequences": {"\x1b[2J": "\x1b[2J"},
    "deep": nested(45),
    "gone": GONE,
}


def places(document: Any) -> list[Place]:
    """One place of each shape: of the items of a list, the first that has it."""
    found: dict[Place, Place] = {}
    for place in _all_places(document, ()):
        found.setdefault(tuple("*" if isinstance(part, int) else part for part in place), place)
    return [*found.values()]


def _all_places(value: Any, place: Place) -> Iterator[Place]:
    if place:
        yield place
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _all_places(item, (*place, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _all_places(item, (*place, number))


@contextmanager
def changed(document: Any, place: Place, value: Any) -> Iterator[None]:
    """The document with this value at a place, and afterwards as before."""
    parent = document
    for part in place[:-1]:
        parent = parent[part]
    before = copy.copy(parent)
    if value is GONE:
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    try:
        yield
    finally:
        parent.clear()
        parent.extend(before) if isinstance(parent, list) else parent.update(before)


@contextmanager
def bounded_time() -> Iterator[None]:
    """Fails whatever takes much longer than anything should, on any machine."""

    def too_long(_signal: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"no end within {LONGEST_CPU_S} s of the processor")

    before = signal.signal(signal.SIGVTALRM, too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
