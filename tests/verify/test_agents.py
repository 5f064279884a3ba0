"""Each agent runs as its file says, answers, and has the limits of its group's budget in the kernel."""

from __future__ import annotations

import pytest

from cascade.model.workload import Workload
from tests.verify.evidence import Evidence, Replica
from tests.verify.expected import Expected

Replicas = tuple[Replica, ...]
# The kernel limits whole pages.
PAGE = 4096


def test_every_replica_runs_on_a_host_that_its_constraints_admit(
    workload: Workload, replicas: Replicas, expected: Expected
) -> None:
    hosts = expected.hosts_of(workload)
    assert len(replicas) == workload.replicas
    assert [str(one) for one in replicas if one.host not in hosts] == []


def test_no_replica_was_started_again_by_its_engine(replicas: Replicas) -> None:
    assert [str(one) for one in replicas if one.container["RestartCount"]] == []


def test_the_memory_of_every_replica_is_limited_by_the_kernel(workload: Workload, replicas: Replicas) -> None:
    limit = workload.share.memory_limit
    if limit is None:
        pytest.skip("its file sets no limit of memory")
    assert {str(one): one.process["limits"]["memory"] for one in replicas} == {
        str(one): str(limit // PAGE * PAGE) for one in replicas
    }


def test_health_answers_well_in_every_replica(
    workload: Workload, replicas: Replicas, evidence: Evidence
) -> None:
    if workload.declared is None:
        pytest.skip("its file names no port for its health")
    answers = {str(one): evidence.own_answers[str(one)]["/health"] for one in replicas}
    assert {name: status for name, status in answers.items() if not _is_well(status)} == {}


def _is_well(status: object) -> bool:
    return isinstance(status, int) and status < 400
