"""Names lead to the right replicas on every host, published ports answer, and what is closed stays closed."""

from __future__ import annotations

import shlex

import pytest
from testinfra.host import Host as Machine

from cascade.model.host import Host
from cascade.model.networks import Overlay
from cascade.model.workload import Workload
from tests.verify.conversations import Conversations, kept_out
from tests.verify.evidence import Evidence, Question, Replica
from tests.verify.expected import Expected
from tests.verify.ports import engines_listening, ports_of_container, ports_of_service
from tests.verify.record import not_asked

Replicas = tuple[Replica, ...]
MTU = "com.docker.network.driver.mtu"
# Source: Docker's documentation of Swarm mode: managing the cluster, and talk between nodes.
MANAGING, GOSSIP = 2377, 7946


def test_the_network_is_made_as_group_data_says(overlay: Overlay, evidence: Evidence) -> None:
    found = [one for one in evidence.manager["networks"] if one["Name"] == overlay.name]
    assert [(one["Driver"], one["Scope"], one["Internal"], one["Attachable"]) for one in found] == [
        ("overlay", "swarm", overlay.internal, overlay.attachable)
    ]
    assert found[0]["Options"].get(MTU) == (str(overlay.mtu) if overlay.mtu else None)
    if overlay.subnet:
        assert [each["Subnet"] for each in found[0]["IPAM"]["Config"]] == [str(overlay.subnet)]


def test_every_replica_is_on_exactly_the_networks_of_its_agent(
    workload: Workload, replicas: Replicas, evidence: Evidence, expected: Expected
) -> None:
    identities = {one["Name"]: one["Id"] for one in evidence.manager["networks"]}
    names = {*workload.networks(expected.fleet.settings.system)}
    names |= {"ingress"} if expected.balanced(workload) else set()
    joined = {str(one): one.container["NetworkSettings"]["Networks"] for one in replicas}
    assert {
        name: {network: found["NetworkID"] for network, found in networks.items()}
        for name, networks in joined.items()
    } == {name: {network: identities.get(network) for network in names} for name in joined}


def test_every_name_of_the_agent_leads_to_exactly_its_replicas_from_each_host(
    workload: Workload, conversations: Conversations, expected: Expected
) -> None:
    answers = conversations.names[workload.name]
    assert answers, f"no agent runs on the networks of {workload.name}"
    wrong = {
        _words(question): answer
        for question, answer in answers.items()
        if answer not in _right_addresses(question, workload, conversations, expected)
    }
    assert wrong == {}


def test_the_agent_takes_connections_by_its_name_from_each_host(
    workload: Workload, conversations: Conversations
) -> None:
    if workload.declared is None:
        not_asked("a plain service: its file names no port")
    answers = conversations.connections[workload.name]
    assert answers, f"no agent runs on the networks of {workload.name}"
    wrong = {_words(question): answer for question, answer in answers.items() if not _all_taken(answer)}
    assert wrong == {}


def test_no_balancer_that_forgets_idle_connections_stands_before_the_agent(
    workload: Workload, conversations: Conversations, evidence: Evidence, expected: Expected
) -> None:
    """Whoever connects by a name talks to an address that the kernel of a replica has for its own."""
    if expected.balanced(workload):
        not_asked("its published port needs a virtual address, which forgets what is idle for 900 seconds")
    own = {address for one in evidence.replicas[workload.name] for address in one.process["addresses"]}
    names = conversations.names[workload.name]
    assert {
        _words(question): answer
        for question, answer in names.items()
        if not isinstance(answer, list) or not own.issuperset(answer)
    } == {}


def test_replicas_have_a_way_out_only_by_a_network_that_is_not_internal(
    workload: Workload, replicas: Replicas, conversations: Conversations
) -> None:
    leads_out = not conversations.is_closed(workload)
    routes = {str(one): one.process["default_routes"] for one in replicas}
    assert {name: found for name, found in routes.items() if bool(found) != leads_out} == {}


def test_replicas_on_internal_networks_alone_reach_no_host(
    workload: Workload, conversations: Conversations
) -> None:
    if not conversations.is_closed(workload):
        not_asked("one of its networks leads out")
    answers = conversations.ways_out[workload.name]
    assert answers, f"{workload.name}: no container of it runs on any host"
    assert {_words(question): answer for question, answer in answers.items() if not kept_out(answer)} == {}


def test_agents_of_the_host_neither_find_nor_reach_those_with_whom_they_share_no_network(
    node: Host, conversations: Conversations
) -> None:
    answers = {
        question: answer
        for found in conversations.outsiders.values()
        for question, answer in found.items()
        if question.asker.host == node.name
    }
    if not answers:
        not_asked("all agents share a network")
    assert {_words(question): answer for question, answer in answers.items() if not kept_out(answer)} == {}


def test_exactly_the_declared_ports_are_published(
    workload: Workload, replicas: Replicas, evidence: Evidence, expected: Expected
) -> None:
    published = {
        (
            port.published,
            port.target,
            port.protocol,
            "ingress" if expected.in_ingress(workload, port) else "host",
        )
        for port in expected.published(workload)
    }
    on_hosts = {port for port in published if port[3] == "host"}
    assert {str(one): ports_of_container(one.container) for one in replicas} == {
        str(one): on_hosts for one in replicas
    }
    if workload.kind == "service":
        assert ports_of_service(evidence.service(workload.name)) == published


def test_ports_that_are_published_on_the_host_answer_to_the_other_hosts(
    node: Host, conversations: Conversations
) -> None:
    answers = {
        _words(question): answer
        for found in conversations.doors.values()
        for question, answer in found.items()
        if question.arguments[0] == node.swarm_address
    }
    if not answers:
        pytest.skip("no TCP port is published on it, or can be: see absent of group_data")
    assert {words: answer for words, answer in answers.items() if isinstance(answer, dict)} == {}


def test_the_engine_listens_at_no_other_port_of_the_host(
    node: Host, machine: Machine, evidence: Evidence, expected: Expected
) -> None:
    found = machine.run("ss -Hltnp")
    assert found.rc == 0, f"{node.name}: ss: {found.stderr.strip()}"
    assert engines_listening(found.stdout.splitlines()) - _ports_of_engine(node, evidence, expected) == set()


def _ports_of_engine(node: Host, evidence: Evidence, expected: Expected) -> set[int]:
    swarms = {GOSSIP} | ({MANAGING} if node.swarm_role == "manager" else set())
    metrics = str(node.daemon_settings.get("metrics-addr", "")).rpartition(":")[2]
    return (
        swarms
        | ({int(metrics)} if metrics else set())
        | {
            port.published
            for name, workload in expected.workloads.items()
            for port in expected.published(workload)
            if expected.in_ingress(workload, port)
            or any(one.host == node.name for one in evidence.replicas[name])
        }
    )


def _right_addresses(
    question: Question, workload: Workload, conversations: Conversations, expected: Expected
) -> list[list[str]]:
    """What a name may lead to: Docker's resolver answers for one network that it finds the name on."""
    (alias,) = question.arguments
    asking = question.asker.container["NetworkSettings"]["Networks"]
    networks = workload.networks(expected.fleet.settings.system)
    return [
        conversations.addresses(alias, name)
        for name, aliases in networks.items()
        if name in asking and alias in aliases
    ]


def _all_taken(answer: object) -> bool:
    return isinstance(answer, dict) and bool(answer) and all(taken is True for taken in answer.values())


def _words(question: Question) -> str:
    return f"{question.asker}: {question.kind} {shlex.join(map(str, question.arguments))}"
