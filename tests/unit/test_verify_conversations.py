"""Who is asked what, so that the answers say something of names, ports and isolation."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import yaml

from cascade.model.fleet import Fleet, FleetSettings, assemble
from cascade.model.host import Host
from cascade.model.service import GroupFile
from tests.verify.conversations import Conversations, kept_out
from tests.verify.evidence import Question, Replica
from tests.verify.expected import Expected
from tests.verify.remote_witness import ask

IMAGE = f"zoo@sha256:{'0' * 64}"
# Foxes live on both machines and on the inner network alone; owls on the outer one, and bears on a third.
GROUPS = """
fox: {networks: [inner], deploy: {replicas: 2}, x-agents: [{name: Fox, port: 70, health_port: 80}]}
hen: {networks: [inner], ports: ["71:71"], x-agents: [{name: Hen, port: 71, health_port: 81}]}
owl: {networks: [inner, outer], ports: ["72:72"], x-agents: [{name: Owl, port: 72, health_port: 82}]}
bear: {networks: [third], x-agents: [{name: Bear, port: 73, health_port: 83}]}
"""
# By agent: the host and the address on each network of each replica.
RUNNING = {
    "fox_fox": [("one", {"inner": "10.1.0.3"}), ("two", {"inner": "10.1.0.4"})],
    "hen_hen": [("one", {"inner": "10.1.0.5"})],
    "owl_owl": [("two", {"inner": "10.1.0.6", "outer": "10.2.0.6"})],
    "bear_bear": [("two", {"third": "10.3.0.7"})],
}


class Hosts:
    """Evidence of two hosts, which keeps what it is asked."""

    manager: Mapping[str, Any] = {"networks": [{"Name": "inner", "Id": "i"}, {"Name": "outer", "Id": "o"}]}

    def __init__(self) -> None:
        self.replicas = {
            name: tuple(_replica(name, number, *one) for number, one in enumerate(found))
            for name, found in RUNNING.items()
        }

    def service(self, _: str) -> Mapping[str, Any]:
        virtual = (("g", "10.0.0.2/24"), ("i", "10.1.0.2/24"))
        return {"Endpoint": {"VirtualIPs": [{"NetworkID": one, "Addr": address} for one, address in virtual]}}

    def answers(self, questions: Iterable[Question]) -> Mapping[Question, Any]:
        return dict.fromkeys(questions)


def _replica(name: str, number: int, host: str, addresses: Mapping[str, str]) -> Replica:
    networks = {network: {"IPAddress": address} for network, address in addresses.items()}
    container = {
        "Name": f"{name}.{number}",
        "NetworkSettings": {"Networks": networks},
        "State": {"Pid": number},
    }
    return Replica(host, container, {})


def _fleet(absent: frozenset[str], **settings: Any) -> Fleet:
    groups = {
        name: GroupFile.model_validate(
            {
                "name": name,
                "services": {name: {"image": "zoo", **service}},
                "networks": {network: {"external": True} for network in service["networks"]},
            }
        )
        for name, service in yaml.safe_load(GROUPS).items()
    }
    hosts = {
        name: Host(
            name=name,
            swarm_address=address,
            swarm_role=role,
            distribution="debian",
            codename="trixie",
            docker_source="docker",
            absent=absent,
        )
        for name, address, role in (("one", "192.0.2.1", "manager"), ("two", "192.0.2.2", "worker"))
    }
    said = {
        "system": "zoo",
        "phases": [list(groups)],
        "networks": [
            {"name": "inner", "internal": True},
            {"name": "outer"},
            {"name": "third", "internal": True},
        ],
        "swarm_pool": {"pool": "10.0.0.0/8"},
        "images": {"zoo": {"reference": IMAGE}},
    }
    return assemble(FleetSettings.model_validate(said | settings), hosts, groups)


def conversations(*absent: str, **settings: Any) -> Conversations:
    """What the four agents are asked, on hosts that lack something, or with settings of their own."""
    return Conversations(Hosts(), Expected(_fleet(frozenset(absent), **settings)))  # type: ignore[arg-type]


def asked(answers: Mapping[Question, Any]) -> set[tuple[Any, ...]]:
    return {(str(one.asker), one.kind, *one.arguments) for one in answers}


def test_a_name_is_asked_for_on_each_host_of_the_network_from_another_agent_where_there_is_one() -> None:
    names = conversations("ipvs").names
    assert asked(names["fox_fox"]) == {
        ("hen_hen.0 on one", "names", "fox.fox.zoo"),
        ("owl_owl.0 on two", "names", "fox.fox.zoo"),
    }
    assert asked(names["owl_owl"]) == {
        ("fox_fox.0 on one", "names", "owl.owl.zoo"),
        ("fox_fox.1 on two", "names", "owl.owl.zoo"),
        ("owl_owl.0 on two", "names", "owl.owl.zoo"),
    }


def test_both_ports_are_reached_by_name() -> None:
    found = asked(conversations("ipvs").connections["hen_hen"])
    assert found == {
        (asker, "reach", "hen.hen.zoo", port)
        for asker in ("fox_fox.0 on one", "fox_fox.1 on two")
        for port in (71, 81)
    }


def test_a_name_leads_to_all_replicas_or_to_the_virtual_address_of_what_is_published() -> None:
    assert conversations("ipvs").addresses("fox.fox.zoo", "inner") == ["10.1.0.3", "10.1.0.4"]
    assert conversations("ipvs").addresses("hen.hen.zoo", "inner") == ["10.1.0.5"]
    assert conversations().addresses("hen.hen.zoo", "inner") == ["10.1.0.2"]
    assert conversations().addresses("fox.fox.zoo", "outer") == []


def test_every_replica_on_internal_networks_alone_tries_to_get_out_to_each_host() -> None:
    ways_out = conversations("ipvs").ways_out
    assert asked(ways_out["fox_fox"]) == {
        (asker, "connect", address, 22, 1)
        for asker in ("fox_fox.0 on one", "fox_fox.1 on two")
        for address in ("192.0.2.1", "192.0.2.2")
    }
    assert asked(ways_out["owl_owl"]) == set()


def test_those_who_share_no_network_try_to_find_and_reach_each_replica() -> None:
    outsiders = conversations("ipvs").outsiders
    assert asked(outsiders["fox_fox"]) == {
        ("bear_bear.0 on two", "names", "fox.fox.zoo"),
        ("bear_bear.0 on two", "connect", "10.1.0.3", 80, 1),
        ("bear_bear.0 on two", "connect", "10.1.0.4", 80, 1),
    }


def test_a_published_port_is_asked_for_at_each_host_by_the_others() -> None:
    assert asked(conversations().doors["hen_hen"]) == {
        ("two on two", "connect", "192.0.2.1", 71),
        ("one on one", "connect", "192.0.2.2", 71),
    }
    assert asked(conversations("ipvs").doors["hen_hen"]) == set()


def test_metrics_are_asked_for_by_the_monitoring_agents_that_share_a_network() -> None:
    metrics = conversations("ipvs", monitoring="Owl").metrics
    assert asked(metrics["fox_fox"]) == {("owl_owl.0 on two", "answered", "fox.fox.zoo", 80, "/metrics")}
    assert asked(metrics["bear_bear"]) == set()
    assert asked(conversations("ipvs").metrics["fox_fox"]) == set()


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ([], True),
        (["10.1.0.3"], False),
        ("192.0.2.1", False),
        ({"error": "TimeoutError: timed out"}, True),
        ({"error": "OSError: [Errno 101] Network is unreachable"}, True),
        ({"error": "ConnectionRefusedError: [Errno 111] Connection refused"}, False),
        ({"error": "Unresolved: the resolver: timed out"}, False),
        ({"error": "it has ended before it was asked"}, False),
    ],
)
def test_only_what_arrived_nowhere_was_kept_out(answer: object, kept: bool) -> None:
    assert kept_out(answer) is kept


def test_who_refuses_a_connection_here_was_reached() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert not kept_out(ask("connect", *bound.getsockname()))
