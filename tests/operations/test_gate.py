"""How workloads stand by what the engine says, and how long a gate believes in them."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pyinfra.api.host import Host

from cascade.exit_codes import GATE_FAILED
from cascade.model.fleet import Fleet
from cascade.planning.steps import Gate
from cascade.planning.waves import Member, rollout_order
from operations.polling import poll
from operations.run import WorkFailed
from operations.swarm import gate as gates
from operations.swarm.logs import last_words
from operations.swarm.standing import Standing, Task, _of_tasks, container_standing, describe
from tests.operations.conftest import LocalRun, Snapshots
from tests.operations.engine import Engine

COORDINATOR = "cascade-request-handler_request-coordinator"
WAKE_WORD = "cascade-audio-realtime_wake-word-detector"
NO_IMAGE = "No such image: sha256:0"


@pytest.fixture
def tasks(converged: Snapshots) -> list[Task]:
    """The three tasks of a service in which all is well, the oldest first."""
    return tasks_of(converged, COORDINATOR)


def tasks_of(snapshots: Snapshots, name: str) -> list[Task]:
    manager = snapshots["mainpc"]["docker"]
    (wanted,) = (item["ID"] for item in manager["services"] if item["Spec"]["Name"] == name)
    found = [task for task in manager["tasks"] if task["ServiceID"] == wanted]
    return [
        {**task, "CreatedAt": f"2026-01-01T00:00:0{place}Z"}
        for place, task in enumerate(sorted(found, key=lambda task: task["Slot"]))
    ]


@pytest.fixture
def ready(converged: Snapshots) -> set[str]:
    return {node["ID"] for node in converged["mainpc"]["docker"]["nodes"]}


def became(task: Task, state: str, **status: Any) -> dict[str, Any]:
    """The same task in another state."""
    desired = "shutdown" if state in ("failed", "rejected", "shutdown") else "running"
    return {**task, "DesiredState": desired, "Status": {"State": state, **status}}


def test_running_tasks_of_every_slot_are_healthy(tasks: list[Task], ready: set[str]) -> None:
    assert _of_tasks(tasks, ready) == Standing(3, "running")


def test_without_a_task_nothing_is_known_yet() -> None:
    assert _of_tasks([], {"node"}) == Standing(0, "no task yet")


def test_two_tasks_of_one_slot_are_one_replica(tasks: list[Task], ready: set[str]) -> None:
    assert _of_tasks([*tasks, {**tasks[0], "ID": "other"}], ready).healthy == 3


@pytest.mark.parametrize("state", ["new", "pending", "assigned", "preparing", "starting", "complete"])
def test_a_task_counts_only_when_it_runs(state: str, tasks: list[Task], ready: set[str]) -> None:
    standing = _of_tasks([became(tasks[0], state), *tasks[1:]], ready)
    assert standing == Standing(2, state)


def test_a_task_that_is_to_stop_counts_no_more(tasks: list[Task], ready: set[str]) -> None:
    stopping = {**tasks[0], "DesiredState": "shutdown"}
    assert _of_tasks([stopping, *tasks[1:]], ready).healthy == 2


def test_what_ran_on_a_node_that_is_down_counts_no_more(tasks: list[Task]) -> None:
    assert _of_tasks(tasks, set()).healthy == 0


def test_a_task_without_a_node_says_why(tasks: list[Task], ready: set[str]) -> None:
    waiting = became(tasks[2], "pending", Err="no suitable node (insufficient resources on 2 nodes)")
    del waiting["NodeID"]
    standing = _of_tasks([*tasks[:2], waiting], ready)
    assert standing.state == "pending, no suitable node (insufficient resources on 2 nodes)"
    assert standing.hopeless


def test_the_last_failure_is_told_while_its_successor_only_waits(tasks: list[Task], ready: set[str]) -> None:
    first, second = (
        became(tasks[0], "failed", Err="task: non-zero exit (3)", ContainerStatus={"ExitCode": code})
        for code in (2, 3)
    )
    standing = _of_tasks([*tasks[1:], first, second, became(tasks[0], "ready")], ready)
    assert standing == Standing(
        2, "failed, task: non-zero exit (3), exit code 3", frozenset({(1, first["ID"])})
    )


@pytest.mark.parametrize(
    ("error", "hopeless"),
    [
        (NO_IMAGE, True),
        ('invalid mount config for type "bind": bind source path does not exist: /srv', True),
        ("no suitable node (scheduling constraints not satisfied on 2 nodes)", True),
        ("task: non-zero exit (1)", False),
        ("starting container failed: network not found", False),
    ],
)
def test_only_what_stays_is_hopeless(error: str, hopeless: bool, tasks: list[Task], ready: set[str]) -> None:
    assert _of_tasks([became(tasks[0], "rejected", Err=error)], ready).hopeless is hopeless


def test_an_error_that_has_passed_is_not_hopeless(tasks: list[Task], ready: set[str]) -> None:
    assert not _of_tasks(
        [became(tasks[0], "rejected", Err=NO_IMAGE), became(tasks[0], "starting")], ready
    ).hopeless


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"State": "running"}, "running"),
        ({"State": "failed", "Err": "a reason"}, "failed, a reason"),
        ({"State": "failed", "ContainerStatus": {"ExitCode": 137}}, "failed, exit code 137"),
        ({"State": "complete", "ContainerStatus": {"ExitCode": 0}}, "complete"),
    ],
)
def test_a_task_is_described_by_state_error_and_exit_code(status: Any, words: str) -> None:
    assert describe({"Status": status}) == words


def member(fleet: Fleet, name: str) -> Member:
    (found,) = (one for wave in rollout_order(fleet) for one in wave.members if one.name == name)
    return found


def captured_container(snapshots: Snapshots, name: str) -> Any:
    containers = snapshots["mainpc"]["docker"]["containers"]
    (found,) = (item["container"] for item in containers if item["container"]["Name"] == f"/{name}")
    return copy.deepcopy(found)


CONTAINERS: dict[str, tuple[dict[str, Any], int, Standing]] = {
    "well": ({}, 0, Standing(1, "running, healthy")),
    "starting": ({"Health": {"Status": "starting"}}, 0, Standing(0, "running, starting")),
    "unhealthy": (
        {"Health": {"Status": "unhealthy"}},
        0,
        Standing(0, "running, unhealthy", hopeless=True),
    ),
    "restarting": (
        {"Running": False, "Status": "restarting", "ExitCode": 3, "Health": {"Status": "starting"}},
        4,
        Standing(0, "restarting, starting, exit code 3", frozenset((1, str(n)) for n in range(4))),
    ),
    "stopped while it was well": (
        {"Running": False, "Status": "exited"},
        0,
        Standing(0, "exited, healthy"),
    ),
    "not to be started": (
        {"Running": False, "Status": "created", "Error": "no such device", "Health": {"Status": ""}},
        0,
        Standing(0, "created, no such device"),
    ),
}


@pytest.mark.parametrize(("state", "restarts", "standing"), CONTAINERS.values(), ids=CONTAINERS.keys())
def test_a_host_container_stands_as_its_engine_says(
    state: dict[str, Any],
    restarts: int,
    standing: Standing,
    converged: Snapshots,
    engine: Engine,
    client: Any,
) -> None:
    container = captured_container(converged, WAKE_WORD)
    container["State"] |= state
    container["RestartCount"] = restarts
    engine.answers = {f"/v1.44/containers/{WAKE_WORD}/json": container}
    assert container_standing(client, WAKE_WORD) == standing


def test_a_host_container_without_a_health_check_is_well_when_it_runs(
    converged: Snapshots, engine: Engine, client: Any
) -> None:
    container = captured_container(converged, WAKE_WORD)
    del container["State"]["Health"]
    engine.answers = {f"/v1.44/containers/{WAKE_WORD}/json": container}
    assert container_standing(client, WAKE_WORD).healthy == 1


def test_a_host_container_that_is_gone_is_no_error(client: Any) -> None:
    assert container_standing(client, WAKE_WORD) == Standing(0, "no such container")


def frame(content: bytes, stream: int = 1) -> bytes:
    return struct.pack(">B3xI", stream, len(content)) + content


LOGS = {
    "lines of both streams": (frame(b"one\n") + frame(b"two\n", 2), ["one", "two"]),
    "a line in two frames": (frame(b"one and ") + frame(b"a half\n"), ["one and a half"]),
    "a letter in two frames": (frame("Grü".encode()[:3]) + frame("Grü\n".encode()[3:]), ["Grü"]),
    "no frame": (b"", []),
    "a frame that was cut off": (frame(b"one\ntwo\n")[:-2], ["one", "tw"]),
    "a header that was cut off": (frame(b"one\n") + b"\1\0\0", ["one"]),
    "colours": (frame(b"\x1b[31mred\x1b[0m \x1b[1;32mgreen\n"), ["red green"]),
    "a cursor that moves": (frame(b"\x1b[2J\x1b[?25lgone\x1b[1A\n"), ["gone"]),
    "a window's title": (frame(b"\x1b]0;title\x07text\n"), ["]0;titletext"]),
    "a bell and a backspace": (frame(b"a\x07b\x08\x00c\x7fd\n"), ["abcd"]),
    "eight-bit controls": (frame("a\u009b31mb\n".encode()), ["a31mb"]),
    "no text": (frame(b"\xff\xfe\n"), ["\ufffd\ufffd"]),
    "a tab": (frame(b"a\tb\n"), ["a\tb"]),
    "too many lines": (
        frame(b"".join(b"%d\n" % number for number in range(50))),
        [str(number) for number in range(30, 50)],
    ),
}


@pytest.mark.parametrize(("log", "words"), LOGS.values(), ids=LOGS.keys())
@pytest.mark.parametrize("name", [COORDINATOR, WAKE_WORD])
def test_the_last_words_are_plain_lines(
    name: str, log: bytes, words: list[str], engine: Engine, run: LocalRun, fleet: Fleet
) -> None:
    one = member(fleet, name)
    answer = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(log), log)
    engine.answers = {f"/v1.44/{one.kind}s/{name}/logs": answer}
    assert last_words(run, one.key) == words


@pytest.fixture
def swarm(converged: Snapshots, engine: Engine, tasks: list[Task]) -> Callable[[list[Task]], None]:
    """Has the engine say that the service has these tasks."""
    manager = converged["mainpc"]["docker"]

    def say(found: list[Task]) -> None:
        log = frame(b"\x1b[31mlast words\n")
        engine.answers = {
            "/v1.44/services": manager["services"],
            "/v1.44/nodes": manager["nodes"],
            "/v1.44/tasks": found,
            f"/v1.44/services/{COORDINATOR}/logs": b"HTTP/1.0 200 OK\r\n\r\n" + log,
        }

    say(tasks)
    return say


@pytest.fixture
def gate_of(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Gate]:
    """A gate for the coordinator alone; what is certain is certain at once."""
    monkeypatch.setattr(gates, "SETTLE_S", 0.0)
    (wave,) = (wave for wave in rollout_order(fleet) if wave.group == "cascade-request-handler")

    def build(deadline_s: float = 5.0, hold_s: float = 0.0, **agent: Any) -> Gate:
        alone = replace(wave, members=(replace(member(fleet, COORDINATOR), **agent),))
        return Gate(alone, {COORDINATOR: 3}, hold_s, deadline_s)

    return build


@pytest.mark.usefixtures("swarm")
def test_a_gate_opens_when_all_is_well(
    run: LocalRun, host: Host, gate_of: Callable[..., Gate], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    gates.hold(run, host, gate_of())
    assert "cascade-request-handler wave 1/1: 1 healthy after" in caplog.text
    assert run.writes == 0


@pytest.mark.usefixtures("swarm")
def test_a_gate_that_holds_looks_twice(
    run: LocalRun, host: Host, engine: Engine, gate_of: Callable[..., Gate]
) -> None:
    gates.hold(run, host, gate_of(hold_s=0.01))
    assert [str(asked) for asked in engine.asked].count("GET /v1.44/tasks") == 2


def test_only_up_to_date_tasks_are_asked_for(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    engine: Engine,
    gate_of: Callable[..., Gate],
) -> None:
    swarm(tasks)
    gates.hold(run, host, gate_of())
    (asked,) = (asked for asked in engine.asked if str(asked) == "GET /v1.44/tasks")
    assert "_up-to-date" in asked.path


def test_a_gate_that_fails_says_where_what_and_what_next(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    gate_of: Callable[..., Gate],
) -> None:
    swarm([*tasks[:2], became(tasks[2], "rejected", Err=NO_IMAGE)])
    with pytest.raises(WorkFailed) as failed:
        gates.hold(run, host, gate_of())
    assert failed.value.code == GATE_FAILED
    assert str(failed.value).splitlines() == [
        f"cascade-request-handler wave 1/1: {COORDINATOR}: 2 of 3 replicas healthy",
        f"  state: rejected, {NO_IMAGE}",
        "  last log lines:",
        "    last words",
        "  groups after cascade-request-handler were not touched",
        f"  more on mainpc: docker service ps --no-trunc {COORDINATOR}",
    ]


def test_a_gate_fails_at_its_deadline(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    gate_of: Callable[..., Gate],
) -> None:
    swarm([became(task, "starting") for task in tasks])
    with pytest.raises(WorkFailed, match=r"0 of 3 replicas healthy\n  state: starting"):
        gates.hold(run, host, gate_of(deadline_s=0.0))


def failed(task: Task, first: int, last: int) -> list[Task]:
    """The failed attempts of one slot that the engine still keeps: it forgets the oldest."""
    return [
        {**became(task, "failed", Err="task: non-zero exit (1)"), "ID": f"attempt-{number}"}
        for number in range(first, last)
    ]


def test_one_failure_of_every_replica_is_no_certainty(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    gate_of: Callable[..., Gate],
) -> None:
    watch = gates._Watch(run, host, gate_of())
    swarm([became(task, "starting") for task in tasks])
    assert not gates._passed(watch)
    swarm([item for task in tasks for item in (*failed(task, 0, 1), became(task, "starting"))])
    assert not gates._passed(watch)


def test_failures_from_before_the_gate_are_not_counted(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    gate_of: Callable[..., Gate],
) -> None:
    watch = gates._Watch(run, host, gate_of())
    waiting = [became(tasks[0], "starting"), *tasks[1:]]
    swarm([*failed(tasks[0], 0, 4), *waiting])
    assert not gates._passed(watch)
    swarm([*failed(tasks[0], 2, 6), *waiting])
    assert not gates._passed(watch)
    swarm([*failed(tasks[0], 3, 7), *waiting])
    with pytest.raises(WorkFailed, match=r"2 of 3 replicas healthy\n  state: failed, task: non-zero exit"):
        gates._passed(watch)


def test_an_agent_that_was_well_and_is_not_any_more_starts_the_wait_again(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    gate_of: Callable[..., Gate],
) -> None:
    watch = gates._Watch(run, host, gate_of(hold_s=60.0))
    assert not gates._passed(watch)
    assert watch.well_since is not None
    swarm([became(tasks[0], "starting"), *tasks[1:]])
    assert not gates._passed(watch)
    assert watch.well_since is None


def test_a_certain_failure_is_believed_only_when_it_stays(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    gate_of: Callable[..., Gate],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = gates._Watch(run, host, gate_of(hold_s=60.0))
    monkeypatch.setattr(gates, "SETTLE_S", 60.0)
    rejected = [*tasks[:2], became(tasks[2], "rejected", Err=NO_IMAGE)]
    swarm(rejected)
    assert not gates._passed(watch)
    swarm([*tasks[:2], became(tasks[2], "starting")])
    assert not gates._passed(watch)
    assert watch.hopeless_since == {}
    monkeypatch.setattr(gates, "SETTLE_S", 0.0)
    swarm(rejected)
    with pytest.raises(WorkFailed, match=NO_IMAGE):
        gates._passed(watch)


def test_an_optional_agent_warns_and_does_not_block(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    gate_of: Callable[..., Gate],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    swarm([*tasks[:2], became(tasks[2], "rejected", Err=NO_IMAGE)])
    gates.hold(run, host, gate_of(optional=True))
    assert f"{COORDINATOR} is optional and not healthy: rejected, {NO_IMAGE}" in caplog.text
    assert [record.levelname for record in caplog.records if "optional" in record.message] == ["WARNING"]


def test_an_agent_that_said_nothing_is_said_to_have_said_nothing(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    engine: Engine,
    gate_of: Callable[..., Gate],
) -> None:
    swarm([became(tasks[0], "rejected", Err=NO_IMAGE)])
    engine.answers[f"/v1.44/services/{COORDINATOR}/logs"] = b"HTTP/1.0 200 OK\r\n\r\n"
    with pytest.raises(WorkFailed, match=r"last log lines:\n    none\n"):
        gates.hold(run, host, gate_of())


def test_logs_that_cannot_be_read_hide_nothing_else(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    engine: Engine,
    gate_of: Callable[..., Gate],
) -> None:
    swarm([became(tasks[0], "rejected", Err=NO_IMAGE)])
    engine.answers[f"/v1.44/services/{COORDINATOR}/logs"] = b""
    with pytest.raises(WorkFailed, match=NO_IMAGE) as failed:
        gates.hold(run, host, gate_of())
    assert "could not be read: " in str(failed.value)


def test_a_gate_names_a_few_that_it_waits_for_and_counts_the_rest() -> None:
    pending = {f"group_agent-{number}": Standing(0, "starting") for number in range(5)}
    assert gates._waiting(pending) == (
        "; waiting for agent-0 (starting), agent-1 (starting), agent-2 (starting) and 2 more"
    )
    assert gates._waiting({}) == ""


def test_waiting_ends_with_the_first_success() -> None:
    left = [WorkFailed("not yet"), WorkFailed("nearly")]

    def attempt() -> str:
        if left:
            raise left.pop()
        return "done"

    assert poll("a thing", attempt, deadline_s=60.0) == "done"
    assert left == []


def test_at_the_deadline_the_last_reason_is_told() -> None:
    reasons = iter(f"reason {number}" for number in range(99))
    last = ""

    def attempt() -> None:
        nonlocal last
        last = next(reasons)
        raise WorkFailed(last)

    with pytest.raises(WorkFailed) as late:
        poll("node pc2 in the Swarm", attempt, deadline_s=0.0)
    assert str(late.value) == f"node pc2 in the Swarm: not within 0 s: {last}"


def test_another_error_is_not_waited_for() -> None:
    def attempt() -> None:
        raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        poll("a thing", attempt, deadline_s=60.0)
