"""What ends a wait, by what real engines said of agents that were broken on purpose.

Captured from two hosts of the lab; `full` is a moment later than `drained`, `failing` is one by itself.
"""

from __future__ import annotations

import copy
import gzip
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cascade.planning.placement import Cluster
from cascade.planning.verdict import WORDS, Cause, Reason, of_container, of_error, of_tasks, unplaced
from tests.fleets import ROOT

SCENES = Path(__file__).with_name("endings")
Tasks = list[dict[str, Any]]


@cache
def captured(name: str) -> str:
    return gzip.decompress((SCENES / f"{name}.json.gz").read_bytes()).decode()


def scene(name: str) -> Any:
    return json.loads(captured(name))


def cluster_of(scene: Any) -> Cluster:
    services = {service["ID"]: service for service in scene["services"]}
    return Cluster(tuple(scene["nodes"]), tuple(scene["tasks"]), services)


def tasks_of(scene: Any, name: str) -> Tasks:
    (wanted,) = (item["ID"] for item in scene["services"] if item["Spec"]["Name"] == name)
    found = [task for task in scene["tasks"] if task["ServiceID"] == wanted]
    return sorted(found, key=lambda task: task["CreatedAt"])


def judged(name: str, scene_name: str = "failing") -> Reason | None:
    seen = scene(scene_name)
    return of_tasks(tasks_of(seen, name), (), cluster_of(seen))


SERVICES: dict[str, tuple[str, Cause, str]] = {
    "t_no-image": ("failing", "image_missing", "No such image: sha256:0000"),
    "t_bind": ("failing", "bad_mount", "bind source path does not exist: /no/such/folder"),
    "t_relmount": ("failing", "bad_mount", "must be an absolute path: rel/path"),
    "t_voldev": ("failing", "bad_mount", "failed to mount local volume"),
    "t_pool": ("failing", "network_overlap", "Pool overlaps with other one"),
    "t_seccomp": ("failing", "bad_seccomp", "Decoding seccomp profile failed"),
    "t_seccomp2": ("failing", "bad_seccomp", "SCMP_ACT_NOPE is not a valid action"),
    "t_port22": ("full", "port_taken", "0.0.0.0:22: bind: address already in use"),
    "t_wrong": ("failing", "not_executable", "/no/such: no such file or directory"),
    "t_notexec": ("failing", "not_executable", "permission denied"),
    "t_crash": ("failing", "repeated_crash", "4 times in replica 1, last with exit code 3"),
    "t_exit0": ("failing", "repeated_crash", "4 times in replica 1, last with exit code 0"),
    "t_tries": ("failing", "repeated_crash", "3 times in replica 1, last with exit code 5"),
    "t_unhealthy": ("failing", "repeated_unhealthy", "2 times in replica 1"),
    "t_cap": ("failing", "repeated_rejection", "unknown capability"),
    "t_workdir": ("failing", "repeated_rejection", "/etc/passwd is not a directory"),
    "t_user": ("failing", "repeated_rejection", "unable to find user nosuch"),
    "t_sysctl": ("failing", "repeated_rejection", "open /proc/sys/net/no/such"),
    "t_once": ("failing", "ended", "exit code 4, and its restart policy does not start it again"),
    "t_constraint": (
        "failing",
        "constraints_not_satisfied",
        "node.labels.shelf==top is not met by mainpc, pc2",
    ),
    "t_hostport": ("failing", "host_port_in_use", "7777/tcp on mainpc is held by t_holder"),
    "t_cpu": (
        "failing",
        "insufficient_resources",
        "mainpc offers 1.52 CPU, 100.0 requested; pc2 offers 2.0 CPU, 100.0 requested",
    ),
    "t_cpu-mainpc": ("failing", "insufficient_resources", "mainpc offers 1.52 CPU, 100.0 requested"),
    "t_memory": ("failing", "insufficient_resources", "mainpc offers 22.581 GB memory, 4000.0 requested"),
    "t_cpus": ("full", "insufficient_resources", "pc2 offers 0.37 CPU, 0.8 requested"),
    "t_drained": ("drained", "no_suitable_node", "pc2 is set to drain"),
}


@pytest.mark.parametrize("name", SERVICES)
def test_what_broke_an_agent_for_good_has_its_cause_and_its_words(name: str) -> None:
    scene_name, cause, words = SERVICES[name]
    reason = judged(name, scene_name)
    assert reason is not None
    assert reason.cause == cause
    assert words in reason.detail
    assert str(reason).startswith(WORDS[cause])


@pytest.mark.parametrize(
    ("name", "of"), [("t_holder", "failing"), ("t_ing1", "failing"), ("t_drained", "full")]
)
def test_what_runs_is_not_judged(name: str, of: str) -> None:
    assert judged(name, of) is None


def ended(scene_name: str, name: str, *, then: str = "", attempts: int = 1) -> Tasks:
    """So many attempts that ended, and a successor in this state."""
    tasks = tasks_of(scene(scene_name), name)
    found = [task for task in tasks if task["Status"]["State"] in ("failed", "rejected", "complete")]
    successor = {**found[-1], "ID": "next", "CreatedAt": "2100", "DesiredState": "running"}
    successor["Status"] = {"State": then}
    return [*found[:attempts], *([successor] if then else [])]


@pytest.mark.parametrize(
    ("name", "certain"), [("t_crash", 3), ("t_exit0", 3), ("t_cap", 3), ("t_sysctl", 3), ("t_unhealthy", 2)]
)
def test_what_may_pass_is_certain_only_when_it_is_repeated(name: str, certain: int) -> None:
    verdicts = [
        of_tasks(ended("failing", name, then="starting", attempts=attempts), (), None)
        for attempts in range(1, certain + 1)
    ]
    assert [verdict is not None for verdict in verdicts] == [False] * (certain - 1) + [True]


def test_failures_of_different_replicas_are_not_added_up() -> None:
    tasks = ended("failing", "t_crash", attempts=3)
    spread = [{**task, "Slot": slot} for slot, task in enumerate(tasks)]
    waiting = [{**task, "ID": f"{slot}", "CreatedAt": "2100"} for slot, task in enumerate(spread)]
    for task in waiting:
        task["Status"], task["DesiredState"] = {"State": "ready"}, "ready"
    assert of_tasks([*spread, *waiting], (), None) is None


def test_what_ended_before_the_wait_does_not_count() -> None:
    tasks = ended("failing", "t_crash", then="ready", attempts=4)
    assert of_tasks(tasks, {task["ID"] for task in tasks[:2]}, None) is None
    assert of_tasks(tasks, {tasks[0]["ID"]}, None) is not None


@pytest.mark.parametrize(
    ("of", "name", "waiting"),
    [
        *(("failing", "t_bind", state) for state in ("new", "preparing")),
        *(("failing", "t_wrong", state) for state in ("new", "preparing", "ready")),
        *(("full", "t_port22", state) for state in ("new", "preparing", "ready")),
    ],
)
def test_a_telling_error_stands_while_its_successor_only_waits(of: str, name: str, waiting: str) -> None:
    assert of_tasks(ended(of, name, then=waiting), (), None) is not None


@pytest.mark.parametrize(
    ("name", "further"),
    [("t_bind", "starting"), ("t_wrong", "starting"), ("t_no-image", "starting"), ("t_no-image", "ready")],
)
def test_a_telling_error_is_gone_when_its_successor_came_further(name: str, further: str) -> None:
    assert of_tasks(ended("failing", name, then=further), (), None) is None


def test_a_telling_error_that_came_twice_is_believed_while_it_is_tried_again() -> None:
    reason = of_tasks(ended("failing", "t_wrong", then="starting", attempts=2), (), None)
    assert reason
    assert reason.cause == "not_executable"


def test_reasons_that_may_be_of_the_moment_must_hold_and_repeated_ones_need_not() -> None:
    settle_s = {name: reason.settle_s for name in SERVICES if (reason := judged(name, SERVICES[name][0]))}
    assert settle_s["t_crash"] == settle_s["t_unhealthy"] == settle_s["t_cap"] == 0
    assert 0 < settle_s["t_bind"] == settle_s["t_cpu"] == settle_s["t_once"] < settle_s["t_port22"]


def test_a_replica_that_ended_with_a_successor_has_not_ended_for_good() -> None:
    assert of_tasks(ended("failing", "t_once"), (), None) is not None
    assert of_tasks(ended("failing", "t_once", then="ready"), (), None) is None


def test_an_end_of_which_swarm_has_not_heard_yet_is_not_the_last() -> None:
    (task,) = ended("failing", "t_once")
    assert of_tasks([{**task, "DesiredState": "running"}], (), None) is None


def test_of_several_replicas_the_most_certain_one_speaks() -> None:
    bind, crash = ended("failing", "t_bind"), ended("failing", "t_crash", attempts=3)
    both = [*bind, *({**task, "Slot": 2} for task in crash)]
    reason = of_tasks(both, (), None)
    assert reason
    assert reason.cause == "repeated_crash"


def test_without_the_cluster_nothing_is_said_of_a_task_without_a_node() -> None:
    tasks = tasks_of(scene("failing"), "t_cpu")
    assert unplaced(tasks)
    assert of_tasks(tasks, (), None) is None
    assert not unplaced(tasks_of(scene("failing"), "t_crash"))


@pytest.mark.parametrize("name", ["t_cpu-mainpc", "t_hostport"])
def test_a_node_that_is_away_may_come_back(name: str) -> None:
    seen = scene("failing")
    for node in seen["nodes"]:
        node["Status"]["State"] = "down"
    assert of_tasks(tasks_of(seen, name), (), cluster_of(seen)) is None


def test_what_stops_first_makes_room_for_its_successor_and_what_starts_first_does_not() -> None:
    seen = scene("full")
    (waiting,) = (task for task in tasks_of(seen, "t_cpus") if task["Status"]["State"] == "pending")
    old = next(task for task in tasks_of(seen, "t_cpus") if task["Status"]["State"] == "running")
    waiting["Slot"] = old["Slot"]
    cluster = cluster_of(seen)
    assert of_tasks([waiting], (), cluster) is None
    services = copy.deepcopy(dict(cluster.services))
    services[waiting["ServiceID"]]["Spec"]["UpdateConfig"] = {"Order": "start-first"}
    assert of_tasks([waiting], (), replace(cluster, services=services)) is not None


@pytest.mark.parametrize(
    ("of", "name", "holder"), [("failing", "t_hostport", "t_holder"), ("full", "t_cpus", "t_cpus")]
)
def test_what_is_about_to_stop_makes_room(of: str, name: str, holder: str) -> None:
    seen = scene(of)
    waiting = [task for task in tasks_of(seen, name) if task["Status"]["State"] == "pending"]
    assert of_tasks(waiting, (), cluster_of(seen)) is not None
    wanted = {task["ID"] for task in tasks_of(seen, holder)} - {task["ID"] for task in waiting}
    for task in seen["tasks"]:
        task["DesiredState"] = "shutdown" if task["ID"] in wanted else task["DesiredState"]
    assert of_tasks(waiting, (), cluster_of(seen)) is None


def test_what_an_update_of_another_service_is_about_to_replace_makes_room_unless_it_waits_itself() -> None:
    seen = scene("failing")
    (waiting,) = (task for task in tasks_of(seen, "t_hostport") if task["Status"]["State"] == "pending")
    (holder,) = (service for service in seen["services"] if service["Spec"]["Name"] == "t_holder")
    assert of_tasks([waiting], (), cluster_of(seen)) is not None
    holder["UpdateStatus"] = {"State": "updating"}
    assert of_tasks([waiting], (), cluster_of(seen)) is None
    seen["tasks"].append({**waiting, "ID": "next", "ServiceID": holder["ID"]})
    assert of_tasks([waiting], (), cluster_of(seen)) is not None


def test_generic_resources_are_part_of_the_arithmetic() -> None:
    seen = scene("failing")
    (task,) = tasks_of(seen, "t_cpu")
    task["Spec"]["Resources"]["Reservations"] = {
        "GenericResources": [{"DiscreteResourceSpec": {"Kind": "vram", "Value": 4096}}]
    }
    for node in seen["nodes"]:
        node["Description"]["Resources"]["GenericResources"] = [
            {"DiscreteResourceSpec": {"Kind": "vram", "Value": 2048}}
        ]
    reason = of_tasks([task], (), cluster_of(seen))
    assert reason
    assert "mainpc offers 2048 MiB, 4096 requested" in reason.detail


CONTAINERS: dict[str, tuple[Cause, str]] = {
    "port": ("port_taken", "0.0.0.0:22: bind: address already in use"),
    "cmd": ("not_executable", "/no/such"),
    "perm": ("not_executable", "permission denied"),
    "sec": ("bad_seccomp", "Decoding seccomp profile failed"),
    "dev": ("refused", "/dev/nope"),
    "crash": ("repeated_crash", "exit code 3, restarted 7 times"),
    "oom": ("repeated_crash", "exit code 137"),
    "once": ("ended", "exit code 3"),
    "unh": ("repeated_unhealthy", "12 checks in a row have failed"),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_host_container_is_told_equally_well(name: str) -> None:
    cause, words = CONTAINERS[name]
    reason = of_container(scene("failing")["containers"][name], 0)
    assert reason
    assert reason.cause == cause
    assert words in reason.detail


def test_a_host_container_that_runs_is_not_judged_and_one_that_is_gone_is() -> None:
    assert of_container(scene("failing")["containers"]["port2"], 0) is None
    gone = of_container(None, 0)
    assert gone
    assert gone.cause == "ended"


def test_restarts_from_before_the_wait_do_not_count() -> None:
    crashing = scene("failing")["containers"]["crash"]
    assert of_container(crashing, 5) is None
    assert of_container(crashing, 4) is not None


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        ("port '7801' is already in use by service 't_ing1' (hh3f) as an ingress port", "port_taken"),
        ('invalid mount config for type "bind": bind source path does not exist: /no/such', "bad_mount"),
        ("No such image: sha256:01", "image_missing"),
        ("rpc error: code = InvalidArgument desc = secret not found: nope", "refused"),
    ],
)
def test_what_an_engine_refuses_at_once_has_a_cause_too(error: str, cause: Cause) -> None:
    assert of_error(error).cause == cause


def test_every_cause_stands_in_the_reference_with_its_words() -> None:
    page = (ROOT / "docs" / "reference" / "gates.md").read_text()
    assert [cause for cause, words in WORDS.items() if f"| `{cause}` | {words} |" not in page] == []
