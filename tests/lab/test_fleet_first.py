"""The first deployment: bare hosts, the demo, and the order in which everything came up."""

from __future__ import annotations

import json
from itertools import pairwise

from cascade.planning.waves import rollout_order
from tests.fleets import lab_fleet
from tests.lab.conftest import Checkout, Evidence, on_host


def test_a_dry_run_on_bare_hosts_succeeds_and_names_everything_that_will_be_made(evidence: Evidence) -> None:
    planned = "\n".join(evidence.bare_dry_run.planned)
    fleet = lab_fleet()
    for wave in rollout_order(fleet):
        assert f"{wave}: gate" in planned
        for workload in wave.members:
            assert f"{wave}: create {workload.kind} {workload.name}" in planned
    for thing in (
        "docker.io",
        "create file /etc/sysctl.d/90-cascade.conf",
        "create daemon-settings /etc/docker/daemon.json",
        "create unit docker.service",
        "create swarm mainpc",
        "create swarm pc2",
        "create node pc2",
        "create network cascade-internal",
        "create network cascade-external",
        "create volume cascade-core_redis_data",
        "create image sha256:",
    ):
        assert thing in planned
    assert evidence.bare_dry_run.writes == 0
    # The snapshot, and the preflight because there is something to change.
    assert set(evidence.bare_dry_run.execs.values()) == {2}


def test_the_first_deployment_does_what_the_plan_for_bare_hosts_says(evidence: Evidence) -> None:
    assert evidence.unlike_plan == ""


def test_the_demo_ends_with_all_agents_and_replicas_healthy(evidence: Evidence) -> None:
    assert "69 of 69 agents and 114 of 114 replicas healthy" in evidence.demo.ok().out


def test_the_first_deployment_is_the_first_release(evidence: Evidence) -> None:
    assert "release 1 recorded" in evidence.demo.err


def test_the_status_document_counts_every_agent(fleet: Checkout) -> None:
    document = json.loads(fleet.status().ok().out)
    assert document["healthy"] is True
    assert [(group["name"], group["phase"]) for group in document["groups"]] == [
        ("cascade-core", 1),
        ("cascade-ai-engine", 1),
        ("cascade-request-handler", 2),
        ("cascade-memory-learning", 2),
        ("cascade-audio-realtime", 3),
        ("cascade-personality", 3),
        ("cascade-auxiliary", 3),
        ("cascade-pc2-core", 4),
        ("cascade-pc2-apps", 4),
    ]
    agents = [agent for group in document["groups"] for agent in group["agents"]]
    assert len(agents) == 69
    assert sum(agent["healthy"] for agent in agents) == sum(agent["desired"] for agent in agents) == 114
    assert sum(agent["workload"] == "container" for agent in agents) == 7
    assert all(set(agent) == {"name", "workload", "nodes", "desired", "healthy"} for agent in agents)
    on_pc2 = {group["name"] for group in document["groups"] for a in group["agents"] if a["nodes"] == ["pc2"]}
    assert on_pc2 == {"cascade-pc2-core", "cascade-pc2-apps"}


def test_an_agent_that_is_down_is_named(fleet: Checkout) -> None:
    on_host("mainpc", "docker stop cascade-audio-realtime_wake-word-detector")
    status = fleet.status()
    people = fleet.run("cascade", "status", "inventories/lab.py")
    on_host("mainpc", "docker start cascade-audio-realtime_wake-word-detector")
    document = json.loads(status.out)
    down = [
        agent["name"]
        for group in document["groups"]
        for agent in group["agents"]
        if agent["healthy"] < agent["desired"]
    ]
    assert (status.code, people.code) == (2, 2)
    assert document["healthy"] is False
    assert down == ["WakeWordDetector"]
    assert "down: cascade-audio-realtime WakeWordDetector: 0/1 healthy" in people.out
    fleet.deploy().ok()


def test_no_agent_was_created_before_the_wave_before_it_was_healthy(evidence: Evidence) -> None:
    created, healthy = evidence.created, evidence.healthy
    for before, after in pairwise(rollout_order(lab_fleet())):
        latest = max(healthy[workload.name] for workload in before.members)
        earliest = min(created[workload.name] for workload in after.members)
        assert latest <= earliest, f"{after} began {latest - earliest} before {before} was healthy"


def test_the_agents_of_a_wave_start_together(evidence: Evidence) -> None:
    """All of the largest wave was created before any of it was healthy."""
    names = [w.name for w in max((wave.members for wave in rollout_order(lab_fleet())), key=len)]
    assert max(evidence.created[name] for name in names) < min(evidence.healthy[name] for name in names)
