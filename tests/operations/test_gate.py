"""How workloads stand by what the engine says, and how long a gate believes in them."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import requests
from pyinfra.api.host import Host

from cascade.diagnosis_report import diagnosis_lines
from cascade.documents import Diagnosis
from cascade.exit_codes import GATE_FAILED
from cascade.model.fleet import Fleet
from cascade.planning import verdict
from cascade.planning.diff import Change
from cascade.planning.steps import Gate
from cascade.planning.verdict import Task
from cascade.planning.waves import SCHEDULING_S, Member, rollout_order
from operations.polling import poll
from operations.run import WorkFailed
from operations.swarm import gate as gates
from operations.swarm.diagnosis import NotHealthy, diagnose_refusal
from operations.swarm.logs import last_words
from operations.swarm.standing import Standing, _of_tasks, container_standing, describe
from tests.operations.conftest import LocalRun, Snapshots
from tests.operations.engine import Engine

COORDINATOR = "cascade-request-handler_request-coordinator"
WAKE_WORD = "cascade-audio-realtime_wake-word-detector"
NO_IMAGE = "No such image: sha256:0"
CRASHED = {"Err": "task: non-zero exit (137)", "ContainerStatus": {"ContainerID": "c1", "ExitCode": 137}}
HEALTH = {"Log": [{"Output": f"\x1b[31mcheck {number}\x1b[0m\n"} for number in range(5)]}


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


def shown(standing: Standing) -> tuple[int, str]:
    return standing.healthy, standing.state


def test_running_tasks_of_every_slot_are_healthy(tasks: list[Task], ready: set[str]) -> None:
    assert shown(_of_tasks(tasks, ready)) == (3, "running")


def test_without_a_task_nothing_is_known_yet() -> None:
    assert shown(_of_tasks([], {"node"})) == (0, "no task yet")


def test_two_tasks_of_one_slot_are_one_replica(tasks: list[Task], ready: set[str]) -> None:
    assert _of_tasks([*tasks, {**tasks[0], "ID": "other"}], ready).healthy == 3


@pytest.mark.parametrize("state", ["new", "pending", "assigned", "preparing", "starting", "complete"])
def test_a_task_counts_only_when_it_runs(state: str, tasks: list[Task], ready: set[str]) -> None:
    assert shown(_of_tasks([became(tasks[0], state), *tasks[1:]], ready)) == (2, state)


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


def test_the_last_failure_is_told_while_its_successor_only_waits(tasks: list[Task], ready: set[str]) -> None:
    first, second = (
        became(tasks[0], "failed", Err="task: non-zero exit (3)", ContainerStatus={"ExitCode": code})
        for code in (2, 3)
    )
    standing = _of_tasks([*tasks[1:], first, second, became(tasks[0], "ready")], ready)
    assert shown(standing) == (2, "failed, task: non-zero exit (3), exit code 3")
    assert standing.telling == second
    assert {*standing.ended} == {first["ID"]}


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


CONTAINERS: dict[str, tuple[dict[str, Any], tuple[int, str]]] = {
    "well": ({}, (1, "running, healthy")),
    "starting": ({"Health": {"Status": "starting"}}, (0, "running, starting")),
    "unhealthy": ({"Health": {"Status": "unhealthy"}}, (0, "running, unhealthy")),
    "restarting": (
        {"Running": False, "Status": "restarting", "ExitCode": 3, "Health": {"Status": "starting"}},
        (0, "restarting, starting, exit code 3"),
    ),
    "stopped while it was well": ({"Running": False, "Status": "exited"}, (0, "exited, healthy")),
    "not to be started": (
        {"Running": False, "Status": "created", "Error": "no such device", "Health": {"Status": ""}},
        (0, "created, no such device"),
    ),
}


@pytest.mark.parametrize(("state", "stands"), CONTAINERS.values(), ids=CONTAINERS.keys())
def test_a_host_container_stands_as_its_engine_says(
    state: dict[str, Any],
    stands: tuple[int, str],
    converged: Snapshots,
    engine: Engine,
    client: Any,
) -> None:
    container = captured_container(converged, WAKE_WORD)
    container["State"] |= state
    container["RestartCount"] = 4
    engine.answers = {f"/v1.44/containers/{WAKE_WORD}/json": container}
    standing = container_standing(client, WAKE_WORD)
    assert (shown(standing), standing.past.restarts) == (stands, 4)


def test_a_host_container_without_a_health_check_is_well_when_it_runs(
    converged: Snapshots, engine: Engine, client: Any
) -> None:
    container = captured_container(converged, WAKE_WORD)
    del container["State"]["Health"]
    engine.answers = {f"/v1.44/containers/{WAKE_WORD}/json": container}
    assert container_standing(client, WAKE_WORD).healthy == 1


def test_a_host_container_that_is_gone_is_no_error(client: Any) -> None:
    assert shown(container_standing(client, WAKE_WORD)) == (0, "no such container")


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
        ran = {"State": {"ExitCode": 137, "OOMKilled": True, "Error": "", "Health": HEALTH}}
        containers = {
            task["Status"]["ContainerStatus"]["ContainerID"]
            for task in found
            if task["Status"].get("ContainerStatus")
        }
        engine.answers = {
            **{f"/v1.44/containers/{name}/json": ran for name in containers},
            **{f"/v1.44/containers/{name}/logs": b"HTTP/1.0 200 OK\r\n\r\n" + log for name in containers},
            "/v1.44/services": manager["services"],
            "/v1.44/nodes": manager["nodes"],
            "/v1.44/tasks": found,
        }

    say(tasks)
    return say


@pytest.fixture
def gate_of(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Gate]:
    """A gate for the coordinator alone; what is told is believed at once."""
    monkeypatch.setattr(verdict, "_STAYS_S", 0.0)
    signs = tuple((cause, 0.0, words) for cause, _, words in verdict._SIGNS)
    monkeypatch.setattr(verdict, "_SIGNS", signs)
    order = rollout_order(fleet)
    (place,) = (place for place, wave in enumerate(order) if wave.group == "cascade-request-handler")

    def build(deadline_s: float = 5.0, hold_s: float = 0.0, **agent: Any) -> Gate:
        one = replace(member(fleet, COORDINATOR), update_s=deadline_s - SCHEDULING_S, **agent)
        alone = replace(order[place], members=(one,))
        return Gate(alone, {COORDINATOR: 3}, hold_s, order[place + 1 :])

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
    assert [str(asked) for asked in engine.asked].count("GET /v1.44/nodes") == 2


def test_what_is_up_to_date_and_what_runs_is_asked_for(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    engine: Engine,
    gate_of: Callable[..., Gate],
) -> None:
    swarm(tasks)
    gates.hold(run, host, gate_of())
    newest, running = (asked.path for asked in engine.asked if str(asked) == "GET /v1.44/tasks")
    assert "_up-to-date" in newest
    assert "desired-state" in running


def just_changed(run: LocalRun) -> None:
    """So that nothing of what its engine says is from before."""
    run.rolled_out.append(Change(member(run.fleet, COORDINATOR).key, "update", (), {}, {}))


def rejected(task: Task) -> Task:
    return {**became(task, "rejected", Err=NO_IMAGE), "ID": "rejected"}


def test_a_gate_that_fails_says_where_what_and_what_next(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    gate_of: Callable[..., Gate],
) -> None:
    run.inventory_file, gate = "inventories/my lab.py", gate_of()
    later = dict.fromkeys(wave.group for wave in gate.later)
    just_changed(run)
    swarm([*tasks[:2], rejected(tasks[2])])
    with pytest.raises(NotHealthy) as failed:
        gates.hold(run, host, gate)
    assert failed.value.code == GATE_FAILED
    assert str(failed.value).splitlines() == [
        f"cascade-request-handler wave 1/1: {COORDINATOR}: 2 of 3 replicas healthy",
        f"  reason: image missing on a node: {NO_IMAGE}",
        "  host: mainpc",
        f"  state: rejected, {NO_IMAGE}",
        "  last log lines:",
        "    none",
        f"  groups not touched: {', '.join(later)}",
        "  it stays as it is, for inspection",
        "  next: cascade images list 'inventories/my lab.py'",
    ]


def attempts(task: Task, first: int, last: int, **status: Any) -> list[Task]:
    """The failed attempts of one slot that the engine still keeps: it forgets the oldest."""
    return [
        {**became(task, "failed", **{**CRASHED, **status}), "ID": f"attempt-{number}"}
        for number in range(first, last)
    ]


Crashed = Callable[..., Diagnosis]


@pytest.fixture
def crashed(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    engine: Engine,
    gate_of: Callable[..., Gate],
) -> Crashed:
    """Has the third replica crash three times, with these words, and gives the diagnosis."""

    def diagnosed(words: bytes = b"\x1b[31mlast words\n") -> Diagnosis:
        just_changed(run)
        swarm([*tasks[:2], *attempts(tasks[2], 0, 3), became(tasks[2], "ready")])
        engine.answers["/v1.44/containers/c1/logs"] = b"HTTP/1.0 200 OK\r\n\r\n" + frame(words)
        with pytest.raises(NotHealthy) as failed:
            gates.hold(run, host, gate_of())
        (diagnosis,) = failed.value.diagnoses
        return diagnosis

    return diagnosed


def test_a_diagnosis_has_what_is_left_of_the_attempt_that_ended_it(crashed: Crashed) -> None:
    found = crashed()
    assert (found.cause, found.exit_code, found.oom) == ("repeated_crash", 137, True)
    assert found.reason == ("repeated crash: 3 times in replica 3, last with exit code 137, out of memory")
    assert found.health == ("check 2", "check 3", "check 4")
    assert found.log == ("last words",)
    assert (found.hosts, found.healthy, found.desired) == (("mainpc",), 2, 3)
    assert found.next_commands == (
        f"cascade logs '' {found.group}/{found.agent}",
        f"cascade render '' --group {found.group}",
    )


def test_the_lines_of_a_diagnosis_are_fit_for_any_terminal(crashed: Crashed) -> None:
    lines = [*diagnosis_lines(crashed())]
    assert "  exit code: 137, out of memory" in lines
    assert lines[lines.index("  last health checks:") + 1] == "    check 2"
    assert all(line.isprintable() for line in lines)


def test_networks_that_overlap_are_named_with_their_subnets(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    gate_of: Callable[..., Gate],
) -> None:
    just_changed(run)
    inner = {"Spec": {"Name": "inner"}, "IPAMOptions": {"Configs": [{"Subnet": "10.99.0.0/16"}]}}
    bare = {"Spec": {"Name": "bare"}}
    attached = {"NetworksAttachments": [{"Network": inner}, {"Network": bare}], "ID": "rejected"}
    overlapping = became(tasks[2], "rejected", Err="Pool overlaps with other one on this address space")
    swarm([*tasks[:2], {**overlapping, **attached}])
    with pytest.raises(NotHealthy, match=r"network pool overlap: Pool .* space: inner 10.99.0.0/16, bare\n"):
        gates.hold(run, host, gate_of())


def test_an_init_that_finds_nothing_to_execute_does_not_hide_it(crashed: Crashed) -> None:
    found = crashed(b"[FATAL tini (7)] exec /no/such failed: No such file or directory\n")
    assert found.cause == "not_executable"
    assert found.reason.startswith("executable not found or not permitted: /no/such: No such file")


def test_where_nothing_of_cascade_helps_the_next_command_logs_in_on_the_host(
    run: LocalRun, fleet: Fleet
) -> None:
    (wave, *_) = rollout_order(fleet)
    (one, *_) = wave.members
    data = run.state.inventory.get_host(one.key.host).data
    data.ssh_port, data.ssh_key, data.ssh_user, data.ssh_hostname = 2222, "my key", "me", "192.0.2.9"
    found = diagnose_refusal(run, Gate(wave, {one.name: 1}, 0.0), one, "Pool overlaps with other one")
    assert found.next_commands == (
        "ssh -p 2222 -i 'my key' me@192.0.2.9 'sudo docker network inspect $(sudo docker network ls -q)'",
    )


def test_who_waits_for_an_agent_is_told_by_need_group_and_order(run: LocalRun, fleet: Fleet) -> None:
    order = rollout_order(fleet)
    registry = order[0].members[0]
    gate = Gate(order[0], {registry.name: 1}, 0.0, order[1:])
    found = diagnose_refusal(run, gate, registry, "no").waiting
    assert found.dependents == fleet.groups["cascade-core"].dependents("ServiceRegistry") != ()
    assert found.agents == tuple(one.agent for wave in order[1:4] for one in wave.members)
    assert found.groups[0] == next(wave.group for wave in order if wave.group != "cascade-core")
    assert len(found.groups) == len({wave.group for wave in order}) - 1


def test_a_gate_fails_at_the_deadline_of_the_agent_and_says_so(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    gate_of: Callable[..., Gate],
) -> None:
    swarm([became(task, "starting") for task in tasks])
    with pytest.raises(NotHealthy) as failed:
        gates.hold(run, host, gate_of(deadline_s=0.0))
    assert "0 of 3 replicas healthy\n  reason: not in time: starting after 0 s" in str(failed.value)
    assert failed.value.diagnoses[0].cause == "not_in_time"


def test_an_agent_whose_own_deadline_has_not_come_is_not_lost_with_another(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    gate_of: Callable[..., Gate],
) -> None:
    swarm([became(task, "starting") for task in tasks])
    gate = gate_of(deadline_s=60.0)
    (patient,) = gate.wave.members
    hasty = replace(patient, key=replace(patient.key, name="other"), update_s=-SCHEDULING_S, optional=True)
    both = replace(
        gate, wave=replace(gate.wave, members=(patient, hasty)), replicas={COORDINATOR: 3, "other": 1}
    )
    watch = gates._Watch(run, host, both)
    assert not gates._passed(watch)
    assert watch.abandoned == {"other"}


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
    swarm([item for task in tasks for item in (*attempts(task, 0, 1), became(task, "starting"))])
    assert not gates._passed(watch)


def test_failures_from_before_the_gate_are_not_counted_and_those_since_are_remembered(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    gate_of: Callable[..., Gate],
) -> None:
    watch = gates._Watch(run, host, gate_of())
    waiting = [became(tasks[0], "starting"), *tasks[1:]]
    for first, last in ((0, 4), (4, 5), (5, 6)):
        swarm([*attempts(tasks[0], first, last), *waiting])
        assert not gates._passed(watch)
    swarm([*attempts(tasks[0], 6, 7), *waiting])
    with pytest.raises(NotHealthy, match=r"2 of 3 replicas healthy\n  reason: repeated crash: 3 times"):
        gates._passed(watch)


def test_whoever_was_changed_by_this_run_began_anew(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    gate_of: Callable[..., Gate],
) -> None:
    gate = gate_of()
    swarm([*attempts(tasks[0], 0, 3), became(tasks[0], "starting"), *tasks[1:]])
    assert not gates._passed(gates._Watch(run, host, gate))
    just_changed(run)
    with pytest.raises(NotHealthy):
        gates._passed(gates._Watch(run, host, gate))


def test_what_had_ended_before_an_agent_was_changed_is_not_counted_though_its_spec_is_back(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    gate_of: Callable[..., Gate],
) -> None:
    gate, ended = gate_of(), attempts(tasks[0], 0, 3)
    just_changed(run)
    run.ended_before = {change.key: frozenset(task["ID"] for task in ended) for change in run.rolled_out}
    swarm([*ended, became(tasks[0], "starting"), *tasks[1:]])
    assert not gates._passed(gates._Watch(run, host, gate))


@pytest.mark.usefixtures("swarm")
def test_an_engine_that_does_not_answer_for_a_moment_is_waited_for(
    run: LocalRun, host: Host, gate_of: Callable[..., Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(*_: object) -> None:
        raise requests.ReadTimeout("nobody answered")

    watch = gates._Watch(run, host, gate_of())
    monkeypatch.setattr(gates, "cluster_for", nobody)
    assert not gates._passed(watch)
    watch.began -= 10_000
    with pytest.raises(requests.ReadTimeout):
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


def test_a_reason_is_believed_only_when_it_stays(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    gate_of: Callable[..., Gate],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, certain = gate_of(), verdict._SIGNS
    monkeypatch.setattr(verdict, "_SIGNS", tuple((cause, 60.0, words) for cause, _, words in certain))
    watch = gates._Watch(run, host, gate)
    just_changed(run)
    swarm([*tasks[:2], rejected(tasks[2])])
    assert not gates._passed(watch)
    told = dict(watch.told_since)
    assert told[COORDINATOR][0] == "image_missing"
    assert not gates._passed(watch)
    assert watch.told_since == told
    swarm([*tasks[:2], became(tasks[2], "starting")])
    assert not gates._passed(watch)
    assert watch.told_since == {}
    monkeypatch.setattr(verdict, "_SIGNS", certain)
    swarm([*tasks[:2], rejected(tasks[2])])
    with pytest.raises(NotHealthy, match=NO_IMAGE):
        gates._passed(watch)


def test_a_task_without_a_node_is_explained_from_the_whole_swarm(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    engine: Engine,
    gate_of: Callable[..., Gate],
) -> None:
    waiting = became(tasks[2], "pending", Err="no suitable node (insufficient resources on 2 nodes)")
    del waiting["NodeID"]
    asking = {"Resources": {"Reservations": {"NanoCPUs": 99 * 10**9}}}
    tasks = [{**task, "Spec": {}} for task in tasks]
    swarm([*tasks[:2], {**waiting, "Spec": asking}])
    with pytest.raises(NotHealthy, match=r"mainpc offers \d+\.\d+ CPU, 99\.0 requested") as failed:
        gates.hold(run, host, gate_of())
    assert failed.value.diagnoses[0].hosts == ("mainpc",)
    looked = [asked.path for asked in engine.asked if str(asked) == "GET /v1.44/tasks"]
    assert [path for path in looked if "up-to-date" not in path]


def test_an_optional_agent_warns_with_its_diagnosis_and_does_not_block(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    gate_of: Callable[..., Gate],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    just_changed(run)
    swarm([*tasks[:2], rejected(tasks[2])])
    gates.hold(run, host, gate_of(optional=True))
    (warning,) = (record for record in caplog.records if "optional and not healthy" in record.message)
    assert warning.levelname == "WARNING"
    assert f"reason: image missing on a node: {NO_IMAGE}" in warning.message
    assert [(found.cause, found.outcome) for found in run.diagnoses] == [("image_missing", "warned")]


def updated(engine: Engine, state: str) -> Any:
    """The service, whose update is in this state and which takes another one."""
    (service,) = (one for one in engine.answers["/v1.44/services"] if one["Spec"]["Name"] == COORDINATOR)
    service["UpdateStatus"] = {"State": state}
    engine.answers[f"/v1.44/services/{COORDINATOR}"] = service
    engine.answers[f"/v1.44/services/{service['ID']}/update"] = {"Warnings": None}
    return service


@pytest.mark.parametrize(
    ("state", "slots", "goes_on"),
    [("paused", 2, True), ("paused", 0, False), ("updating", 2, False), ("paused", 3, False)],
)
def test_an_update_that_one_failed_task_paused_goes_on_once_the_task_is_replaced(
    state: str,
    slots: int,
    goes_on: bool,
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    engine: Engine,
    gate_of: Callable[..., Gate],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gates, "SETTLE_S", 0.0)
    swarm(tasks[:slots])
    service = updated(engine, state)
    gates._passed(gates._Watch(run, host, gate_of(hold_s=60.0)))
    posted = [asked.body for asked in engine.asked if asked.method == "POST"]
    assert [body["TaskTemplate"] for body in posted] == [service["Spec"]["TaskTemplate"]] * goes_on


@pytest.mark.parametrize(("state", "forced"), [("completed", 1), ("updating", 0)])
def test_a_replica_that_runs_twice_after_its_update_is_updated_once_more(
    state: str,
    forced: int,
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    engine: Engine,
    gate_of: Callable[..., Gate],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gates, "SETTLE_S", 0.0)
    swarm([*tasks, {**tasks[0], "ID": "again"}])
    updated(engine, state)
    assert not gates._passed(gates._Watch(run, host, gate_of()))
    posted = [asked.body["TaskTemplate"]["ForceUpdate"] for asked in engine.asked if asked.method == "POST"]
    assert posted == [1] * forced


@pytest.mark.parametrize(("node", "goes_on"), [("lost", True), (None, False)])
def test_an_update_that_waits_for_a_replica_on_a_lost_node_is_begun_anew(
    node: str | None,
    goes_on: bool,
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    engine: Engine,
    gate_of: Callable[..., Gate],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gates, "SETTLE_S", 0.0)
    given_up = {**tasks[0], "ID": "given-up", "DesiredState": "shutdown", "Status": {"State": "assigned"}}
    swarm([*tasks, given_up | ({"NodeID": node} if node else {})])
    service = updated(engine, "updating")
    assert gates._passed(gates._Watch(run, host, gate_of())) is not goes_on
    posted = [asked.body for asked in engine.asked if asked.method == "POST"]
    monitor = service["Spec"]["UpdateConfig"]["Monitor"]
    assert [body["UpdateConfig"]["Monitor"] for body in posted] == [monitor + 1, monitor] * goes_on
    assert [body["TaskTemplate"] for body in posted] == [service["Spec"]["TaskTemplate"]] * 2 * goes_on


@pytest.mark.parametrize(("state", "goes_on"), [("completed", True), ("updating", False)])
def test_an_old_replica_beside_its_successor_holds_the_gate_and_goes_with_the_next_update(
    state: str,
    goes_on: bool,
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    engine: Engine,
    gate_of: Callable[..., Gate],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gates, "SETTLE_S", 0.0)
    swarm(tasks)
    assert gates._passed(gates._Watch(run, host, gate_of()))
    asking_for_running = engine.asked[-1].path
    assert "desired-state" in asking_for_running
    engine.answers[asking_for_running] = [*tasks, {**tasks[0], "ID": "old"}]
    service = updated(engine, state)
    assert not gates._passed(gates._Watch(run, host, gate_of()))
    posted = [asked.body for asked in engine.asked if asked.method == "POST"]
    monitor = service["Spec"]["UpdateConfig"]["Monitor"]
    assert [body["UpdateConfig"]["Monitor"] for body in posted] == [monitor + 1, monitor] * goes_on
    assert [body["TaskTemplate"] for body in posted] == [service["Spec"]["TaskTemplate"]] * 2 * goes_on


def test_a_pause_is_believed_only_when_it_stays(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    engine: Engine,
    gate_of: Callable[..., Gate],
) -> None:
    swarm(tasks[:2])
    (service,) = (one for one in engine.answers["/v1.44/services"] if one["Spec"]["Name"] == COORDINATOR)
    service["UpdateStatus"] = {"State": "paused"}
    watch = gates._Watch(run, host, gate_of())
    assert not gates._passed(watch)
    assert run.writes == 0
    assert COORDINATOR in watch.halted_since
    service["UpdateStatus"] = {"State": "updating"}
    assert not gates._passed(watch)
    assert watch.halted_since == {}


@pytest.mark.parametrize(("health", "cause"), [("unhealthy", "repeated_unhealthy"), ("healthy", None)])
def test_who_ends_well_because_it_was_unhealthy_counts_as_unhealthy(
    health: str,
    cause: str | None,
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    engine: Engine,
    gate_of: Callable[..., Gate],
) -> None:
    just_changed(run)
    ended = attempts(tasks[0], 0, 2, State="complete", Err="")
    swarm([*ended, became(tasks[0], "starting"), *tasks[1:]])
    engine.answers["/v1.44/containers/c1/json"]["State"]["Health"] = {"Status": health}
    watch = gates._Watch(run, host, gate_of())
    if cause is None:
        assert not gates._passed(watch)
    else:
        with pytest.raises(NotHealthy) as failed:
            gates._passed(watch)
        assert failed.value.diagnoses[0].cause == cause


def test_logs_that_cannot_be_read_hide_nothing_else(
    swarm: Callable[[list[Task]], None],
    tasks: list[Task],
    run: LocalRun,
    host: Host,
    engine: Engine,
    gate_of: Callable[..., Gate],
) -> None:
    just_changed(run)
    swarm([*attempts(tasks[0], 0, 3), *tasks[1:]])
    engine.answers["/v1.44/containers/c1/logs"] = b""
    with pytest.raises(NotHealthy, match="3 times in replica 1") as failed:
        gates.hold(run, host, gate_of())
    (found,) = failed.value.diagnoses
    assert "could not be read: " in found.log[0]
    assert (found.exit_code, found.health) == (137, ("check 2", "check 3", "check 4"))


def test_a_diagnosis_shows_no_secret_of_its_agent(crashed: Crashed, run: LocalRun) -> None:
    (item,) = (item for item in run.plan().target.resources if item.key.name == COORDINATOR)
    environment = item.fields["TaskTemplate"]["ContainerSpec"]["Env"]
    environment.append("DB_PASSWORD=hunter22")
    assert crashed(b"cannot log in with hunter22\n").log == ("cannot log in with ***",)


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
