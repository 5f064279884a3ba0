"""Names and traffic across hosts, seen from inside the agents."""

from __future__ import annotations

import json
import shlex

import pytest

from lab.errors import LabError
from lab.polling import until
from tests.lab.conftest import Checkout, containers, look, of_agent, on_host, steady


def inside(agent: str, command: str) -> str:
    """Runs a command in a container of an agent."""
    id_, item = next(iter(of_agent(agent).items()))
    return on_host(item["host"], f"docker exec {id_} sh -c {shlex.quote(command)}")


def addresses(asker: str, name: str) -> set[str]:
    """The IPv4 addresses that an agent's resolver gives for a name."""
    id_, item = next(iter(of_agent(asker).items()))
    answer = look(item["host"], f"docker exec {id_} nslookup {name} 127.0.0.11 2>/dev/null")
    lines = answer.split("\n\n", 1)[-1] if "\n\n" in answer else answer
    return {
        line.split()[-1]
        for line in lines.splitlines()
        if line.startswith("Address") and "127.0.0.11" not in line
    }


@pytest.mark.parametrize(
    ("asker", "name", "port", "answers"),
    [
        ("TaskScheduler", "serviceregistry.cascade-core.cascade", 7200, "ServiceRegistry"),
        ("TaskScheduler", "ServiceRegistry.cascade-core.cascade", 7200, "ServiceRegistry"),
        ("ServiceRegistry", "tieredresponder.cascade-pc2-apps.cascade", 7100, "TieredResponder"),
        ("CacheManager", "mainpc", 9000, "ObservabilityHub"),
        ("WakeWordDetector", "serviceregistry.cascade-core.cascade", 7200, "ServiceRegistry"),
        ("WakeWordDetector", "cachemanager.cascade-pc2-core.cascade", 7102, "CacheManager"),
        ("ServiceRegistry", "wakeworddetector.cascade-audio-realtime.cascade", 6552, "WakeWordDetector"),
        ("CacheManager", "wakeworddetector.cascade-audio-realtime.cascade", 6552, "WakeWordDetector"),
    ],
)
def test_an_agent_reaches_another_by_its_alias(
    fleet: Checkout, asker: str, name: str, port: int, answers: str
) -> None:
    assert fleet
    reply = json.loads(inside(asker, f"curl -f -s -m 5 http://{name}:{port}/"))
    assert reply["agent"] == answers


def test_an_agent_without_egress_reaches_nothing_outside(fleet: Checkout) -> None:
    assert fleet
    routes = inside("NLUAgent", "ip route")
    assert "default" not in routes
    assert "default" in inside("UnifiedWebAgent", "ip route")


def test_a_replicated_alias_answers_with_every_replica(fleet: Checkout) -> None:
    assert fleet
    assert len(addresses("CacheManager", "nluagent.cascade-request-handler.cascade")) == 3


def test_a_replicated_alias_drops_an_unhealthy_replica(variant: Checkout) -> None:
    variant.change(
        "group_data/stacks/cascade/cascade-personality.yaml",
        "      - name: EmotionEngine\n",
        "      - name: EmotionEngine\n"
        "        health_check:\n"
        '          test: ["CMD", "curl", "-f", "http://localhost:6590/health"]\n'
        "          interval: 1s\n"
        "          timeout: 1s\n"
        "          retries: 2\n",
    )
    variant.deploy().ok()
    steady()
    name = "emotionengine.cascade-personality.cascade"
    assert len(addresses("CacheManager", name)) == 2
    sick, item = next(iter(of_agent("EmotionEngine").items()))
    networks = json.loads(on_host(item["host"], f"docker inspect {sick}"))[0]["NetworkSettings"]["Networks"]
    address = networks["cascade-internal"]["IPAddress"]
    assert address in addresses("CacheManager", name)
    deafen = "for pid in $(pidof nc); do if grep -q 6590 /proc/$pid/cmdline; then kill $pid; fi; done"
    on_host(item["host"], f"docker exec {sick} sh -c {shlex.quote(deafen)}")

    def dropped() -> None:
        if address in addresses("CacheManager", name):
            raise LabError(name, f"still answers with {address}", "look at the agent's health")

    def back() -> None:
        if len(addresses("CacheManager", name)) != 2:
            raise LabError(name, "does not answer with two addresses", "look at the service's tasks")

    until(name, dropped, timeout_s=60, next_step="look at the agent's health")
    until(name, back, timeout_s=60, next_step="look at the service's tasks")
    assert sick not in containers()
