"""The status of agents where not everything could be read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rich.console import Console

from cascade.documents import StatusDocument, json_of
from cascade.model.fleet import Fleet
from cascade.planning.plan import make_plan
from cascade.planning.resource import Unknown
from cascade.planning.target import target_of
from cascade.report import Document, status_document, status_table
from tests.schemas import valid
from tests.unit.test_gpu_facts import process, vram

Snapshots = dict[str, Any]


def document_of(fleet: Fleet, snapshots: Snapshots, *lost: str) -> Document:
    unknown = [Unknown(host, "host", "does not answer") for host in lost]
    read = {host: snapshot for host, snapshot in snapshots.items() if host not in lost}
    plan = make_plan(target_of(fleet), read, lost=unknown)
    document = status_document(fleet, plan.agents, plan.unknown)
    assert valid("status", json_of(StatusDocument, document)) == json.loads(json.dumps(document))
    return document


def agents(document: Document) -> list[Document]:
    return [agent for group in document["groups"] for agent in group["agents"]]


def lines(document: Document, capsys: pytest.CaptureFixture[str]) -> list[str]:
    status_table(document, Console(width=200))
    return capsys.readouterr().out.splitlines()


def test_a_healthy_fleet_is_all_known(
    fleet: Fleet, converged: Snapshots, capsys: pytest.CaptureFixture[str]
) -> None:
    document = document_of(fleet, converged)
    assert (document["healthy"], document["unknown"]) == (True, [])
    assert lines(document, capsys)[-1] == "69 of 69 agents and 114 of 114 replicas healthy"


def test_the_manager_tells_of_the_agents_of_a_host_that_cannot_be_reached(
    fleet: Fleet, converged: Snapshots, capsys: pytest.CaptureFixture[str]
) -> None:
    document = document_of(fleet, converged, "pc2")
    assert len(agents(document)) == 69
    assert all(agent["healthy"] == agent["desired"] for agent in agents(document))
    assert {node for agent in agents(document) for node in agent["nodes"]} == {"mainpc", "pc2"}
    assert not document["healthy"]
    assert "unknown: pc2: host: does not answer" in lines(document, capsys)


def test_without_the_manager_nobody_knows_how_the_agents_are(
    fleet: Fleet, converged: Snapshots, capsys: pytest.CaptureFixture[str]
) -> None:
    document = document_of(fleet, converged, "mainpc")
    assert len(agents(document)) == 69
    assert {agent["healthy"] for agent in agents(document)} == {None}
    shown = lines(document, capsys)
    assert "unknown: mainpc: host: does not answer" in shown
    assert not any(line.startswith("down:") for line in shown)
    assert shown[-1] == "? of 69 agents and ? of 114 replicas healthy"


def test_an_engine_of_the_manager_that_cannot_be_read_leaves_the_agents_unknown(
    fleet: Fleet, converged: Snapshots
) -> None:
    converged["mainpc"]["docker"] = {"error": "TimeoutError: timed out"}
    document = document_of(fleet, converged)
    assert {agent["healthy"] for agent in agents(document)} == {None}
    assert [item["what"] for item in document["unknown"]] == ["Docker engine"]


def test_the_memory_of_a_gpu_is_shown_and_told(
    fleet: Fleet, converged: Snapshots, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(target_of(fleet), converged)
    document = status_document(fleet, plan.agents, plan.unknown, [vram(process(9, 614))])
    assert valid("status", json_of(StatusDocument, document)) == json.loads(json.dumps(document))
    assert [gpu["others"] for gpu in document["gpus"]] == [[{"pid": 9, "name": "python3", "used": 614}]]
    assert "mainpc GPU 0, NVIDIA GeForce RTX 4090" in lines(document, capsys)
