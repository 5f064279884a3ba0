"""The log of an agent, read from an engine."""

from __future__ import annotations

import struct

import docker.errors
import pytest

from cascade.model.fleet import Fleet
from cascade.planning.resource import Key
from cascade.planning.target import target_of
from operations.swarm.logs import log_lines
from tests.operations.conftest import LocalRun
from tests.operations.engine import Engine

REGISTRY, MIC = "cascade-core_service-registry", "cascade-audio-realtime_audio-capture"
DETAILS = "com.docker.swarm.node.id=n1,com.docker.swarm.service.id=s1,com.docker.swarm.task.id=t1"


def of(fleet: Fleet, name: str) -> Key:
    return next(member.key for member in target_of(fleet).members if member.name == name)


def answer(log: bytes, kind: str = "multiplexed") -> bytes:
    head = (
        f"HTTP/1.0 200 OK\r\nContent-Type: application/vnd.docker.{kind}-stream\r\nContent-Length: {len(log)}"
    )
    return head.encode() + b"\r\n\r\n" + log


def frame(content: str) -> bytes:
    return struct.pack(">B3xI", 1, len(content)) + content.encode()


def test_lines_of_a_service_begin_with_replica_and_node(engine: Engine, run: LocalRun, fleet: Fleet) -> None:
    engine.answers = {
        "/v1.44/nodes": [{"ID": "n1", "Description": {"Hostname": "mainpc"}}],
        "/v1.44/tasks/t1": {"Slot": 2, "NodeID": "n1"},
        f"/v1.44/services/{REGISTRY}/logs": answer(frame(f"{DETAILS} one two\n{DETAILS} \x1b[31mred\n")),
    }
    lines = list(log_lines(run, of(fleet, REGISTRY), tail=5))
    assert lines == ["2@mainpc | one two", "2@mainpc | red"]
    assert [str(asked) for asked in engine.asked].count("GET /v1.44/tasks/t1") == 1
    assert "tail=5&follow=0&details=1" in engine.asked[0].path


def test_lines_of_a_host_container_stand_alone(engine: Engine, run: LocalRun, fleet: Fleet) -> None:
    engine.answers = {f"/v1.44/containers/{MIC}/logs": answer(frame("a=b, c\n"))}
    assert list(log_lines(run, of(fleet, MIC), tail=5, follow=True)) == ["a=b, c"]
    assert "follow=1&details=0" in engine.asked[0].path


def test_a_terminals_log_has_no_frames(engine: Engine, run: LocalRun, fleet: Fleet) -> None:
    engine.answers = {f"/v1.44/containers/{MIC}/logs": answer(b"one\r\ntwo", "raw")}
    assert list(log_lines(run, of(fleet, MIC), tail=5)) == ["one", "two"]


def test_an_agent_that_does_not_run_has_no_log(engine: Engine, run: LocalRun, fleet: Fleet) -> None:
    assert engine.answers == {}
    with pytest.raises(docker.errors.NotFound):
        list(log_lines(run, of(fleet, MIC), tail=5))
