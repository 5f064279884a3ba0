"""The hosts are one Swarm, with the declared roles, labels and addresses; its services stand as declared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from cascade.model.host import Host
from cascade.model.workload import Workload
from tests.verify.evidence import Evidence
from tests.verify.expected import Expected
from tests.verify.machine import (
    GOSSIP_PORT,
    JOIN_PORT,
    certificate_of,
    is_signed_by,
    members_of_node,
    validity,
)
from tests.verify.tasks import failing

Service = Mapping[str, Any]
ROLES = {"manager": "swarm-manager", "worker": "swarm-worker"}


@pytest.fixture
def member(node: Host, evidence: Evidence) -> Mapping[str, Any]:
    """The host in the manager's list of nodes, by the ID that its own engine tells."""
    own = evidence.engines[node.name]["info"]["Swarm"]["NodeID"]
    found = [one for one in evidence.manager["nodes"] if one["ID"] == own]
    assert found, f"{node.name}: the manager knows no node {own or 'of it: its engine is in no Swarm'}"
    known: Mapping[str, Any] = found[0]
    return known


@pytest.fixture
def certificate(node: Host, evidence: Evidence) -> str:
    """What a node shows to the others."""
    found = evidence.hosts[node.name]["certificate"]
    assert found, f"{node.name}: there is no {certificate_of(node)}"
    return str(found)


@pytest.fixture
def service(in_swarm: Workload, evidence: Evidence) -> Service:
    """A service as the manager has it."""
    found = [one for one in evidence.manager["services"] if one["Spec"]["Name"] == in_swarm.name]
    assert found, f"{in_swarm.name}: the Swarm has no such service"
    known: Service = found[0]
    return known


def _tasks(service: Service, evidence: Evidence) -> list[Mapping[str, Any]]:
    return [task for task in evidence.manager["tasks"] if task["ServiceID"] == service["ID"]]


def test_the_host_is_a_node_that_takes_tasks(member: Mapping[str, Any]) -> None:
    assert (member["Status"]["State"], member["Spec"]["Availability"]) == ("ready", "active")


def test_the_node_has_the_declared_role(node: Host, member: Mapping[str, Any], evidence: Evidence) -> None:
    own = evidence.engines[node.name]["info"]["Swarm"]["ControlAvailable"]
    assert (member["Spec"]["Role"], own) == (node.swarm_role, node.swarm_role == "manager")


def test_the_node_has_the_declared_labels(node: Host, member: Mapping[str, Any]) -> None:
    found = member["Spec"].get("Labels") or {}
    assert {name: found.get(name) for name in node.node_labels} == node.node_labels


def test_the_node_has_the_name_of_its_host(node: Host, member: Mapping[str, Any]) -> None:
    assert member["Description"]["Hostname"] == node.name


def test_the_other_nodes_reach_it_at_the_declared_address(
    node: Host, member: Mapping[str, Any], evidence: Evidence
) -> None:
    own = evidence.engines[node.name]["info"]["Swarm"]["NodeAddr"]
    assert (member["Status"]["Addr"], own) == (node.swarm_address, node.swarm_address)


def test_the_node_follows_the_declared_manager_alone(
    node: Host, evidence: Evidence, expected: Expected
) -> None:
    manager = expected.fleet.manager
    known = evidence.engines[node.name]["info"]["Swarm"]["RemoteManagers"]
    assert [one["Addr"] for one in known] == [f"{manager.swarm_address}:{JOIN_PORT}"]


def test_the_swarm_has_one_leader_and_only_the_declared_nodes(evidence: Evidence, expected: Expected) -> None:
    nodes = evidence.manager["nodes"]
    leaders = [one["Status"]["Addr"] for one in nodes if (one.get("ManagerStatus") or {}).get("Leader")]
    assert leaders == [expected.fleet.manager.swarm_address]
    assert sorted(one["Description"]["Hostname"] for one in nodes) == sorted(expected.fleet.hosts)


def test_the_certificate_of_the_node_names_it_and_its_role(
    node: Host, member: Mapping[str, Any], certificate: str
) -> None:
    assert members_of_node(certificate) == {"node": member["ID"], "role": ROLES[node.swarm_role]}


def test_the_certificate_of_the_node_is_valid_now(certificate: str) -> None:
    since, until = validity(certificate)
    assert since < datetime.now(UTC) < until


def test_the_certificate_of_the_node_is_signed_by_the_authority_of_the_swarm(
    certificate: str, evidence: Evidence
) -> None:
    authority = evidence.manager["info"]["Swarm"]["Cluster"]["TLSInfo"]["TrustRoot"]
    assert is_signed_by(certificate, authority)


def test_the_ports_of_the_swarm_are_open_at_its_own_address_alone(node: Host, evidence: Evidence) -> None:
    listening = evidence.hosts[node.name]["engine"]["listening"]
    ports = (JOIN_PORT, GOSSIP_PORT) if node.swarm_role == "manager" else (GOSSIP_PORT,)
    found = [(at, port) for at, port in listening if port in (JOIN_PORT, GOSSIP_PORT)]
    assert found == [(node.swarm_address, port) for port in ports]


def test_no_service_of_the_system_runs_that_no_file_declares(evidence: Evidence, expected: Expected) -> None:
    labelled = {
        one["Spec"]["Name"]
        for one in evidence.manager["services"]
        if one["Spec"]["Labels"].get("cascade.system") == expected.fleet.settings.system
    }
    declared = {name for name, one in expected.workloads.items() if one.kind == "service"}
    assert sorted(labelled - declared) == []


def test_the_service_carries_the_labels_of_its_system(
    in_swarm: Workload, service: Service, expected: Expected
) -> None:
    right = {
        **in_swarm.service.deploy.labels,
        "cascade.system": expected.fleet.settings.system,
        "cascade.group": in_swarm.group,
        "cascade.agent": in_swarm.agent,
    }
    found = service["Spec"]["Labels"]
    assert {name: found.get(name) for name in right} == right


def test_the_service_has_the_declared_constraints(in_swarm: Workload, service: Service) -> None:
    placement = service["Spec"]["TaskTemplate"].get("Placement") or {}
    assert sorted(placement.get("Constraints") or ()) == sorted(in_swarm.constraints)


def test_as_many_tasks_of_the_service_run_as_are_declared(
    in_swarm: Workload, service: Service, evidence: Evidence, expected: Expected
) -> None:
    wanted = [task for task in _tasks(service, evidence) if task["DesiredState"] == "running"]
    asked = service["Spec"]["Mode"]["Replicated"]["Replicas"]
    declared = expected.counts_of(in_swarm)
    assert asked in declared, f"{asked} are asked for, and {declared[0]} to {declared[-1]} declared"
    assert Counter(task["Status"]["State"] for task in wanted) == Counter({"running": asked})


def test_no_task_of_the_service_keeps_failing(service: Service, evidence: Evidence) -> None:
    template, now = service["Spec"]["TaskTemplate"], evidence.manager["info"]["SystemTime"]
    engines = {
        evidence.engines[name]["info"]["Swarm"]["NodeID"]: found["engine"]["started"] or 0
        for name, found in evidence.hosts.items()
    }
    failed = failing(_tasks(service, evidence), template, now, engines)
    assert [f"{task['Status']['State']}: {task['Status'].get('Err')}" for task in failed] == []


def test_no_update_of_the_service_is_under_way_or_stuck(service: Service) -> None:
    state = (service.get("UpdateStatus") or {}).get("State", "completed")
    assert state in ("completed", "rollback_completed")
