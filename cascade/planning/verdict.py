"""Whether an agent that is not healthy can still become so, by what its engine says of it.

An agent is certainly lost when what ended its attempts stays as it is, or when they ended again and again.
Sources: SwarmKit, states of a task and the scheduler's filters; moby, errors of a container's start.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from cascade.planning.placement import Cluster, why_unplaced

Task = Mapping[str, Any]
Cause = Literal[
    "image_missing",
    "insufficient_resources",
    "constraints_not_satisfied",
    "host_port_in_use",
    "no_suitable_node",
    "port_taken",
    "bad_mount",
    "network_overlap",
    "bad_seccomp",
    "not_executable",
    "repeated_crash",
    "repeated_unhealthy",
    "repeated_rejection",
    "ended",
    "refused",
    "gpu_fault",
    "gpu_taken",
    "gpu_lost",
    "vram_exceeded",
    "not_in_time",
]
WORDS: Mapping[Cause, str] = {
    "image_missing": "image missing on a node",
    "insufficient_resources": "insufficient resources",
    "constraints_not_satisfied": "constraints not satisfied",
    "host_port_in_use": "host-mode port in use",
    "no_suitable_node": "no suitable node",
    "port_taken": "port taken",
    "bad_mount": "bad mount",
    "network_overlap": "network pool overlap",
    "bad_seccomp": "bad seccomp profile",
    "not_executable": "executable not found or not permitted",
    "repeated_crash": "repeated crash",
    "repeated_unhealthy": "repeated unhealthy",
    "repeated_rejection": "repeated rejection",
    "ended": "ended for good",
    "refused": "refused by the engine",
    "gpu_fault": "GPU not to be relied on",
    "gpu_taken": "GPU taken by others",
    "gpu_lost": "GPU not seen",
    "vram_exceeded": "more memory of the GPU than the budget",
    "not_in_time": "not in time",
}
CRASHES_ARE_CERTAIN = 3
UNHEALTHY_ENDS_ARE_CERTAIN = 2
# Swarm reports some errors that are gone a moment later; a port may be let go by what is just stopping.
_STAYS_S = 3.0
_PORT_STAYS_S = 15.0
_UNPLACED_STAYS_S: Mapping[Cause, float] = {"no_suitable_node": 15.0}

_SIGNS: tuple[tuple[Cause, float, re.Pattern[str]], ...] = (
    ("image_missing", _STAYS_S, re.compile("No such image|manifest unknown")),
    (
        "bad_mount",
        _STAYS_S,
        re.compile("invalid mount config|invalid bind mount|while mounting volume|error mounting"),
    ),
    ("network_overlap", _STAYS_S, re.compile("Pool overlaps")),
    ("bad_seccomp", _STAYS_S, re.compile("seccomp")),
    (
        "port_taken",
        _PORT_STAYS_S,
        re.compile("address already in use|already allocated|is already in use by"),
    ),
    ("not_executable", _STAYS_S, re.compile('exec: "')),
)
ENDED = ("failed", "rejected", "complete")
# How far a successor must have come to show that what ended the one before it is gone: one that is ready
# has its image and its container, and waits for the delay of its restart policy.
_REFUTED_BY = {"rejected": ("ready", "starting", "running"), "failed": ("starting", "running")}
_UNPLACED = "no suitable node"
UNHEALTHY = "unhealthy container"
_BY_ITSELF = "task: "


@dataclass(frozen=True)
class Reason:
    """Why an agent will not become healthy.

    `settle_s` is how long this must be so before it is believed; `attempt` is the ID of the task that says
    it, empty for a host container.
    """

    cause: Cause
    detail: str
    settle_s: float = 0.0
    attempt: str = ""

    def __str__(self) -> str:
        return f"{WORDS[self.cause]}: {self.detail}"


def of_error(error: str) -> Reason:
    """What an engine says that did not take a spec, or did not start a container."""
    cause, settle_s = _sign(error) or ("refused", _STAYS_S)
    return Reason(cause, error, settle_s)


def of_tasks(tasks: Iterable[Task], known: Collection[str], cluster: Cluster | None) -> Reason | None:
    """Why a service will not become healthy, by the tasks of its newest spec; None while it is or may.

    The ends that are `known` were there before anything was waited for. The `cluster` tells why a task finds
    no node; without it that is not judged.
    """
    ordered = sorted(tasks, key=lambda task: (task.get("Slot", 0), task["CreatedAt"]))
    found = (
        _of_slot(list(slot), known, cluster)
        for _, slot in groupby(ordered, key=lambda task: task.get("Slot", 0))
    )
    return min((reason for reason in found if reason), key=lambda reason: reason.settle_s, default=None)


def of_container(container: Mapping[str, Any] | None, restarts_before: int) -> Reason | None:
    """Why a host container will not become healthy, by its inspection; None while it is or may."""
    if container is None:
        return Reason("ended", "there is no such container", _STAYS_S)
    state, restarts = container["State"], container["RestartCount"] - restarts_before
    if restarts >= CRASHES_ARE_CERTAIN:
        return Reason("repeated_crash", f"exit code {state['ExitCode']}, restarted {restarts} times")
    if state["Status"] == "created" and state["Error"]:
        return of_error(state["Error"])
    if state["Status"] in ("exited", "dead"):
        return Reason("ended", f"exit code {state['ExitCode']}", _STAYS_S)
    health = state.get("Health", {})
    if health.get("Status") == "unhealthy":
        failed = health.get("FailingStreak", 0)
        return Reason("repeated_unhealthy", f"{failed} checks in a row have failed", _STAYS_S)
    return None


def unplaced(tasks: Iterable[Task]) -> bool:
    """Whether one of them waits for a node, so that the whole cluster must be looked at."""
    return any(_waits_for_a_node(task) for task in tasks)


def error_of(task: Task) -> str:
    return str(task["Status"].get("Err", ""))


def _waits_for_a_node(task: Task) -> bool:
    return task["Status"]["State"] == "pending" and error_of(task).startswith(_UNPLACED)


def _of_slot(tasks: list[Task], known: Collection[str], cluster: Cluster | None) -> Reason | None:
    """Why one replica will not come up, by its attempts, the oldest first."""
    newest = tasks[-1]
    if newest["Status"]["State"] == newest["DesiredState"] == "running":
        return None
    ended = [task for task in tasks if task["Status"]["State"] in ENDED and task["ID"] not in known]
    return (
        _repeated(ended)
        or _standing(ended, newest)
        or (_without_node(newest, cluster) if cluster and _waits_for_a_node(newest) else None)
        or _ended_for_good(ended, newest)
    )


def _repeated(ended: list[Task]) -> Reason | None:
    unhealthy = [task for task in ended if UNHEALTHY in error_of(task)]
    if len(unhealthy) >= UNHEALTHY_ENDS_ARE_CERTAIN:
        detail = f"{len(unhealthy)} times in replica {unhealthy[-1].get('Slot', 1)}"
        return Reason("repeated_unhealthy", detail, attempt=unhealthy[-1]["ID"])
    if len(ended) < CRASHES_ARE_CERTAIN:
        return None
    last = ended[-1]
    if (error := error_of(last)) and not error.startswith(_BY_ITSELF):
        cause, settle_s = _sign(error) or ("repeated_rejection", 0.0)
        return Reason(cause, error, settle_s, last["ID"])
    detail = f"{len(ended)} times in replica {last.get('Slot', 1)}, last with exit code {_exit_code(last)}"
    return Reason("repeated_crash", detail, attempt=last["ID"])


def _standing(ended: list[Task], newest: Task) -> Reason | None:
    """A telling error that nothing since has shown to be gone."""
    if not ended or not (found := _sign(error_of(ended[-1]))):
        return None
    cause, settle_s = found
    last = ended[-1]
    again = sum((_sign(error_of(task)) or ("",))[0] == cause for task in ended) > 1
    refuted = newest is not last and newest["Status"]["State"] in _REFUTED_BY[last["Status"]["State"]]
    if refuted and not again:
        return None
    return Reason(cause, error_of(last), settle_s, last["ID"])


def _without_node(task: Task, cluster: Cluster) -> Reason | None:
    why = why_unplaced(task, cluster)
    return (
        Reason(why.cause, why.detail, _UNPLACED_STAYS_S.get(why.cause, _STAYS_S), task["ID"]) if why else None
    )


def _ended_for_good(ended: list[Task], newest: Task) -> Reason | None:
    """Swarm makes a successor in the moment in which it hears of an end."""
    if newest not in ended or newest["DesiredState"] != "shutdown":
        return None
    detail = f"exit code {_exit_code(newest)}, and its restart policy does not start it again"
    return Reason("ended", detail, _STAYS_S, newest["ID"])


def _exit_code(task: Task) -> int:
    return int(task["Status"].get("ContainerStatus", {}).get("ExitCode", 0))


def _sign(error: str) -> tuple[Cause, float] | None:
    return next(((cause, settle_s) for cause, settle_s, words in _SIGNS if words.search(error)), None)
