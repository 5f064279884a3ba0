"""Each agent runs as its file says, answers, and has the limits of its group's budget in the kernel."""

from __future__ import annotations

import pytest

from cascade.model.agent import Agent
from cascade.model.workload import Workload
from tests.verify.conversations import Conversations
from tests.verify.evidence import Evidence, Replica
from tests.verify.expected import Expected
from tests.verify.limits import cpu_quotas, memory, unequal_limits
from tests.verify.record import not_asked
from tests.verify.tasks import keeps_falling

Replicas = tuple[Replica, ...]
# The kernel limits whole pages.
PAGE = 4096
# By which agents are known to belong to a system.
LABELS = ("cascade.agent", "cascade.group", "cascade.system")
RECORDED = ("cascade.digest", "cascade.release")


def test_as_many_replicas_of_the_agent_run_as_its_file_says(
    workload: Workload, replicas: Replicas, expected: Expected
) -> None:
    running, declared = len(replicas), expected.counts_of(workload)
    assert running in declared


def test_every_replica_runs_on_a_host_that_its_constraints_admit(
    workload: Workload, replicas: Replicas, expected: Expected
) -> None:
    hosts = expected.hosts_of(workload)
    assert [str(one) for one in replicas if one.host not in hosts] == []


def test_no_replica_falls_again_and_again(replicas: Replicas, evidence: Evidence) -> None:
    def falls(one: Replica) -> bool:
        began = evidence.hosts[one.host]["engine"]["started"] or 0
        return keeps_falling(one.container, evidence.engines[one.host]["info"]["SystemTime"], began)

    assert [str(one) for one in replicas if falls(one)] == []


def test_every_replica_runs_exactly_the_image_that_it_is_pinned_to(
    workload: Workload, replicas: Replicas, evidence: Evidence
) -> None:
    if workload.kind == "service":
        spec = evidence.service(workload.name)["Spec"]["TaskTemplate"]["ContainerSpec"]
        assert {one.container["Config"]["Image"] for one in replicas} == {spec["Image"]}
    for one in replicas:
        named, runs = one.container["Config"]["Image"], one.container["Image"]
        assert named == runs or "@sha256:" in named, (
            f"{one} runs {named}, which may be another image tomorrow"
        )


def test_the_image_of_every_replica_is_the_one_of_the_files(
    workload: Workload, replicas: Replicas, expected: Expected
) -> None:
    pin = expected.pin_of(workload)
    assert {str(one): one.container["Config"]["Image"] for one in replicas} == {
        str(one): pin for one in replicas
    }


def test_every_replica_carries_the_labels_of_its_agent_group_and_system(
    workload: Workload, replicas: Replicas, expected: Expected
) -> None:
    own = dict(zip(LABELS, (workload.agent, workload.group, expected.fleet.settings.system), strict=True))
    carried = {str(one): one.container["Config"]["Labels"] for one in replicas}
    assert {name: {key: labels.get(key) for key in own} for name, labels in carried.items()} == dict.fromkeys(
        carried, own
    )


def test_the_agent_is_labelled_with_what_was_deployed_and_by_which_release(
    workload: Workload, replicas: Replicas, evidence: Evidence
) -> None:
    in_swarm = workload.kind == "service"
    labels = evidence.service(workload.name)["Spec"]["Labels"] if in_swarm else {}
    carriers = [labels] if in_swarm else [one.container["Config"]["Labels"] for one in replicas]
    assert [key for carrier in carriers for key in (*LABELS, *RECORDED) if not carrier.get(key)] == []


def test_every_replica_gets_the_environment_of_the_image_contract(
    workload: Workload, replicas: Replicas
) -> None:
    contract = _declared(workload).contract()
    got = {str(one): dict(one.process["environment"]) for one in replicas}
    slots = {name: variables.pop("REPLICA_SLOT", "") for name, variables in got.items()}
    assert got == dict.fromkeys(got, contract)
    assert {name: slot for name, slot in slots.items() if not slot.isdecimal()} == {}


def test_the_memory_of_every_replica_is_limited_by_the_kernel(workload: Workload, replicas: Replicas) -> None:
    limit = workload.share.memory_limit
    if limit is None:
        not_asked("its file sets no limit of memory")
    assert {str(one): one.process["limits"]["memory"] for one in replicas} == {
        str(one): str(limit // PAGE * PAGE) for one in replicas
    }


def test_the_agents_of_the_group_have_no_more_memory_than_its_budget(
    group: tuple[Workload, ...], evidence: Evidence, expected: Expected
) -> None:
    budgets = {
        expected.agents_of(one.service): one.service.deploy.resources.limits.memory
        for one in group
        if one.service.deploy.resources.limits.memory is not None
    }
    if not budgets:
        not_asked("its file sets no limit of memory")
    limited = {agents: sum(_memory_of(evidence.replicas[name]) for name in agents) for agents in budgets}
    assert {agents: has for agents, has in limited.items() if has > budgets[agents]} == {}


def _memory_of(replicas: Replicas) -> float:
    """What the kernel lets one replica of an agent have."""
    return max((memory(one.process["limits"]["memory"]) for one in replicas), default=0)


def test_the_processor_time_of_every_replica_is_limited_by_the_kernel(
    workload: Workload, replicas: Replicas
) -> None:
    limit = workload.share.cpu_limit
    if limit is None:
        not_asked("its file sets no limit of processors")
    has = {str(one): one.process["limits"] for one in replicas}
    assert {
        name: (limits["cpu_quota"], limits["cpu_period"])
        for name, limits in has.items()
        if limits["cpu_quota"] not in cpu_quotas(limit, limits["cpu_period"])
    } == {}


def test_the_number_of_processes_of_every_replica_is_limited_by_the_kernel(
    workload: Workload, replicas: Replicas
) -> None:
    limit = workload.service.pids
    if not limit:
        not_asked("its file allows any number of processes")
    assert {str(one): one.process["limits"]["pids"] for one in replicas} == {
        str(one): str(limit) for one in replicas
    }


def test_every_replica_has_the_resource_limits_of_its_file(
    workload: Workload, replicas: Replicas, expected: Expected
) -> None:
    limits = expected.rlimits_of(workload)
    if not limits:
        pytest.skip("no limit is declared that its host can set")
    found = {str(one): unequal_limits(one.process["rlimits"], limits) for one in replicas}
    assert {name: unequal for name, unequal in found.items() if unequal} == {}


def test_the_log_of_every_replica_is_kept_and_bounded_as_its_file_says(
    workload: Workload, replicas: Replicas
) -> None:
    logs = workload.service.logging
    assert {str(one): one.container["HostConfig"]["LogConfig"] for one in replicas} == {
        str(one): {"Type": logs.driver, "Config": logs.options} for one in replicas
    }


def test_every_replica_listens_at_both_its_ports(workload: Workload, replicas: Replicas) -> None:
    agent = _declared(workload)
    listening = {str(one): one.process["listening"] for one in replicas}
    deaf = {name: {agent.port, agent.health_port}.difference(ports) for name, ports in listening.items()}
    assert {name: ports for name, ports in deaf.items() if ports} == {}


def test_health_answers_well_in_every_replica(
    workload: Workload, replicas: Replicas, evidence: Evidence
) -> None:
    _declared(workload)
    answers = {str(one): evidence.health[str(one)] for one in replicas}
    assert {name: status for name, status in answers.items() if not _is_well(status)} == {}


def test_the_engine_found_every_replica_healthy_when_it_last_asked(
    workload: Workload, replicas: Replicas
) -> None:
    if not workload.checked:
        not_asked("its file has no health check")
    health = {str(one): (one.container["State"].get("Health") or {}).get("Status") for one in replicas}
    assert {name: status for name, status in health.items() if status != "healthy"} == {}


def test_the_metrics_of_every_replica_are_readable_from_the_monitoring_agents(
    workload: Workload, conversations: Conversations, expected: Expected
) -> None:
    name = expected.fleet.settings.monitoring
    if name is None:
        not_asked("group_data names no monitoring agent")
    _declared(workload)
    assert conversations.monitors, f"group_data: monitoring: no group has an agent {name}"
    answers = conversations.metrics[workload.name]
    if not any(conversations.shared_networks(one, workload) for one in conversations.monitors):
        not_asked("no monitoring agent shares a network with it")
    assert answers, "no monitoring agent that shares a network with it runs"
    wrong = {str(question.asker): answer for question, answer in answers.items() if not _all_well(answer)}
    assert wrong == {}


def _declared(workload: Workload) -> Agent:
    if workload.declared is None:
        not_asked("a plain service: its file names no port")
    return workload.declared


def _all_well(answer: dict[str, object]) -> bool:
    """Whether a name leads to addresses, and each of them answers."""
    return bool(answer) and all(map(_is_well, answer.values()))


def _is_well(status: object) -> bool:
    return isinstance(status, int) and status < 400
