"""Which tasks of a service, and which containers, keep failing, as the engines tell of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

Task = Mapping[str, Any]
FAILED = ("failed", "rejected", "orphaned")


def failing(
    tasks: Iterable[Task], template: Mapping[str, Any], now: str, engines: Mapping[str, float]
) -> list[Task]:
    """The failed tasks of this spec in whose place no other one proved itself since.

    Swarm replaces a task that fails, and then all is well. Of several that failed in one place, the one that
    runs now has to have run for longer than the shortest of them lived. `engines` says by the node's ID when
    its engine began, in seconds since 1970: what was there before ended with the engine, not by itself.
    """
    own = (task for task in tasks if _time(task["CreatedAt"]).timestamp() >= engines.get(_node(task), 0))
    current = sorted((task for task in own if _spec(task["Spec"]) == _spec(template)), key=_slot)
    places = (list(of_one) for _, of_one in groupby(current, key=_slot))
    return [task for place in places for task in _unreplaced(place, _time(now))]


def keeps_falling(container: Mapping[str, Any], now: str, engine: float) -> bool:
    """Whether its engine started it again and again, and what runs now has not proved itself since.

    The engine counts how often it did so since somebody else started it, and tells of the last time alone:
    after several, what runs now has to have run for as long as those before it lived on average. `engine`
    says when it began, in seconds since 1970, for then it counts anew.
    """
    fell: int = container["RestartCount"]
    state = container["State"]
    if fell < 2:
        return False
    began = max(_time(container["Created"]).timestamp(), engine)
    lived = (_time(state["FinishedAt"]).timestamp() - began) / fell
    runs = _time(now) - _time(state["StartedAt"])
    return runs.total_seconds() < lived


def _unreplaced(place: list[Task], now: datetime) -> list[Task]:
    failed = [task for task in place if task["Status"]["State"] in FAILED]
    if not failed:
        return []
    last = max(_time(task["CreatedAt"]) for task in failed)
    after = [task for task in place if _runs(task) and _time(task["CreatedAt"]) > last]
    proof = min(map(_lived, failed)) if len(failed) > 1 else timedelta()
    return [] if any(now - _time(task["Status"]["Timestamp"]) >= proof for task in after) else failed


def _spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A task's own copy does not say that it is a container."""
    return {key: value for key, value in spec.items() if key != "Runtime"}


def _slot(task: Task) -> int:
    slot: int = task.get("Slot", 0)
    return slot


def _node(task: Task) -> str:
    """Where it was put; a task that no node takes is nowhere."""
    node: str = task.get("NodeID", "")
    return node


def _runs(task: Task) -> bool:
    return bool(task["Status"]["State"] == "running")


def _lived(task: Task) -> timedelta:
    return _time(task["Status"]["Timestamp"]) - _time(task["CreatedAt"])


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
