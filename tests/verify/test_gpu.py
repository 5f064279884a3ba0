"""Drivers fit together, agents see their own GPU and no other, and no group takes more memory than it has."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from cascade.model.host import Host
from cascade.model.vram import SharedGpu
from cascade.model.workload import Workload
from tests.verify.evidence import Evidence, Replica
from tests.verify.expected import Expected
from tests.verify.gpus import CONTROLS, LOADED, Driver, devices, driver_version, memory_of
from tests.verify.record import not_asked

Replicas = tuple[Replica, ...]
Gpus = Mapping[str, Driver]
LIBRARY = "nvidia-smi --query-gpu=driver_version --format=csv,noheader"


@pytest.fixture(scope="session")
def gpus(evidence: Evidence, expected: Expected) -> Gpus:
    """What the driver of each host says: where one says nothing, the others are heard."""
    return {name: Driver(evidence, host) for name, host in expected.fleet.hosts.items()}


def test_the_driver_that_the_kernel_of_the_host_has_loaded_is_that_of_its_library(
    node: Host, evidence: Evidence
) -> None:
    _has_gpu(node)
    loaded = evidence.ran(node.name, f"cat {LOADED}")
    assert loaded.rc == 0, (
        f"the kernel of {node.name} has loaded no driver of NVIDIA's: {loaded.stderr.strip()}"
    )
    library = evidence.ran(node.name, LIBRARY)
    assert library.rc == 0, f"{node.name}: nvidia-smi: {(library.stderr or library.stdout).strip()}"
    assert {*library.stdout.split()} == {driver_version(loaded.stdout)}


def test_the_host_has_every_gpu_that_its_groups_name(node: Host, gpus: Gpus, expected: Expected) -> None:
    _has_gpu(node)
    named = {shared.use.device for shared in _shared(node, expected)}
    assert named - gpus[node.name].cards.keys() == set()


def test_no_replica_sees_a_gpu_that_is_not_its_own(
    workload: Workload, replicas: Replicas, gpus: Gpus, expected: Expected
) -> None:
    seen = {str(one): devices(one.process["files"]) - _own(workload, one, gpus, expected) for one in replicas}
    assert {name: found for name, found in seen.items() if found} == {}


def test_every_replica_on_the_host_that_needs_a_gpu_sees_it(
    node: Host, gpus: Gpus, evidence: Evidence, expected: Expected
) -> None:
    _has_gpu(node)
    needing = [
        (one, _own(workload, one, gpus, expected))
        for name, workload in expected.judged.items()
        if workload.service.runtime == "nvidia" or workload.gpu_access == "required"
        for one in evidence.replicas[name]
        if one.host == node.name
    ]
    if not needing:
        not_asked("no agent that runs on it needs a GPU")
    unseen = {str(one): own - devices(one.process["files"]) for one, own in needing}
    assert {name: missing for name, missing in unseen.items() if missing} == {}


def test_no_group_has_more_memory_of_the_gpus_of_the_host_than_its_budget(
    node: Host, gpus: Gpus, evidence: Evidence, expected: Expected
) -> None:
    _has_gpu(node)
    sharing = _shared(node, expected)
    if not sharing:
        not_asked("no group has a budget of its memory")
    above = {}
    for shared in sharing:
        card = gpus[node.name].cards[shared.use.device]
        processes = [
            pid
            for one in shared.workloads
            for each in evidence.replicas[one.name]
            for pid in each.process["beside"]
        ]
        has = memory_of(gpus[node.name].used, card, processes)
        if has > (budget := shared.use.vram_budget.of(card.memory_mib)):
            above[shared.group.name] = f"{has} MiB of {budget} MiB"
    assert above == {}


def _has_gpu(node: Host) -> None:
    if node.gpu is None:
        not_asked(f"no GPU is declared for {node.name}")
    if not node.has_gpu:
        pytest.skip(f"{node.name} is said to lack its GPU")


def _shared(node: Host, expected: Expected) -> list[SharedGpu]:
    return [shared for shared in expected.fleet.shared_gpus if shared.host.name == node.name]


def _own(workload: Workload, replica: Replica, gpus: Gpus, expected: Expected) -> set[str]:
    """The devices that a replica may see: of a service that names no GPU those of all."""
    if not workload.uses_gpu or not expected.fleet.hosts[replica.host].has_gpu:
        return set()
    cards = gpus[replica.host].cards
    use = workload.service.gpu
    own = [cards[use.device]] if use and use.device in cards else [] if use else cards.values()
    return {*CONTROLS, *(f"/dev/nvidia{card.minor}" for card in own)}
