"""A group's budget among its agents."""

import random
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from cascade.model.compose import HealthTiming
from cascade.model.quantities import nano_cpus
from cascade.model.service import GroupFile, Service
from cascade.model.workload import Share, Workload, divide, workloads_of

MIB = 2**20
Workloads = Callable[..., dict[str, Workload]]


def _nano(share: str | Decimal | None) -> int | None:
    return None if share is None else nano_cpus(Decimal(share))


def service(agents: list[dict[str, Any]], limits: Any = None, reservations: Any = None) -> Service:
    numbered = [
        {"name": f"A{n}", "port": 1000 + n, "health_port": 2000 + n, **agent}
        for n, agent in enumerate(agents)
    ]
    resources = {"limits": limits or {}, "reservations": reservations or {}}
    return Service.model_validate({"image": "i", "deploy": {"resources": resources}, "x-agents": numbered})


@pytest.mark.parametrize(
    ("agents", "limits", "expected"),
    [
        ([{}], "4", ["4"]),
        ([{}, {}], "4", ["2", "2"]),
        ([{"cpus": 3}, {}], "4", ["3", "1"]),
        ([{"cpus": 1}, {}, {}], "4", ["1", "1.5", "1.5"]),
        ([{"cpus": 1}, {"cpus": "0.5"}], "4", ["1", "0.5"]),
        ([{"cpus": 2}, {"cpus": 2}], "4", ["2", "2"]),
        ([{"cpus": 1}, {}], None, ["1", None]),
        ([{}, {}], None, [None, None]),
    ],
)
def test_explicit_shares_are_taken_and_the_rest_is_divided_equally(
    agents: list[dict[str, Any]], limits: str | None, expected: list[str | None]
) -> None:
    by_cpu = divide(service(agents, {"cpus": limits} if limits else {}))
    assert [share.cpu_limit for share in by_cpu.values()] == [_nano(share) for share in expected]

    in_memory = [{"memory_limit": f"{agent['cpus']}G"} if agent else {} for agent in agents]
    by_memory = divide(service(in_memory, {"memory": f"{limits}G"} if limits else {}))
    wanted = [None if share is None else Decimal(share) * 1024 * MIB for share in expected]
    assert [share.memory_limit for share in by_memory.values()] == wanted


@pytest.mark.parametrize(
    ("agents", "limit", "reservation", "expected"),
    [
        ([{}, {}], "4", "2", ["1", "1"]),
        ([{"cpus": 3}, {}], "4", "2", ["1.5", "0.5"]),
        ([{"cpus": 3}, {"cpus": 1}], "8", "2", ["1.5", "0.5"]),
        ([{"cpus": 3}, {"cpus": 1}], None, "2", ["1.5", "0.5"]),
        ([{}, {}], None, "2", ["1", "1"]),
        ([{"cpus": 1}, {}], "4", None, [None, None]),
    ],
)
def test_reservations_are_divided_in_proportion_to_limits(
    agents: list[dict[str, Any]], limit: str | None, reservation: str | None, expected: list[str | None]
) -> None:
    limits = {"cpus": limit} if limit else {}
    shares = divide(service(agents, limits, {"cpus": reservation} if reservation else {}))
    assert [share.cpu_reservation for share in shares.values()] == [_nano(share) for share in expected]


def test_the_worked_example_of_the_reference(seed_groups: dict[str, GroupFile]) -> None:
    group = seed_groups["cascade-ai-engine"].services["cascade-ai-engine"]
    shares = divide(group)
    assert {
        name: (
            f"{(share.cpu_limit or 0) / 1e9:.3f}",
            f"{(share.cpu_reservation or 0) / 1e9:.3f}",
            (share.memory_limit or 0) / MIB,
            round((share.memory_reservation or 0) / MIB, 1),
        )
        for name, share in shares.items()
    } == {
        "ModelManagerSuite": ("1.333", "0.667", 8192, 6393.8),
        "VRAMOptimizerAgent": ("1.333", "0.667", 512, 399.6),
        "ModelOrchestrator": ("1.333", "0.667", 2048, 1598.4),
        "STTService": ("1.333", "0.667", 4096, 3196.9),
        "TTSService": ("1.333", "0.667", 4096, 3196.9),
        "FaceRecognitionAgent": ("1.333", "0.667", 2048, 1598.4),
    }
    assert sum(share.memory_limit or 0 for share in shares.values()) == 20992 * MIB


@pytest.mark.parametrize(
    ("agents", "limits", "reason"),
    [
        (
            [{"cpus": 3}, {"cpus": 2}],
            {"cpus": "4"},
            "cpus sum up to 5, which leaves nothing of the group's 4",
        ),
        ([{"cpus": 4}, {}], {"cpus": "4"}, "the agents' cpus sum up to 4, which leaves nothing"),
        ([{"cpus": 5}], {"cpus": "4"}, "the agents' cpus sum up to 5"),
        ([{"memory_limit": "2G"}, {}], {"memory": "2G"}, "the agents' memory_limit sum up to 2147483648"),
    ],
)
def test_shares_beyond_the_budget_are_an_error(
    agents: list[dict[str, Any]], limits: dict[str, str], reason: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        divide(service(agents, limits))


@pytest.mark.parametrize(
    ("agents", "limits", "reservations", "greedy"),
    [
        ([{}, {}], {"cpus": "2"}, {"cpus": "4"}, "A0, A1"),
        ([{}], {"memory": "1G"}, {"memory": "2G"}, "A0"),
        ([{"cpus": 1}], {"cpus": "4"}, {"cpus": "2"}, "A0"),
        ([], {"cpus": "1"}, {"cpus": "2"}, "alpha"),
        ([], {"memory": "1G"}, {"memory": "2G"}, "alpha"),
    ],
)
def test_a_reservation_beyond_the_limit_is_an_error(
    agents: list[dict[str, Any]], limits: Any, reservations: Any, greedy: str
) -> None:
    with pytest.raises(ValueError, match=f"reservations give {greedy} more than their limits allow"):
        _workloads(service(agents, limits, reservations))


@pytest.mark.parametrize("count", range(1, 31))
@pytest.mark.parametrize("explicit", [[], [{"cpus": "1.1", "memory_limit": "300M"}]])
def test_a_group_may_reserve_all_it_is_allowed(count: int, explicit: list[dict[str, Any]]) -> None:
    whole = {"cpus": "7.3", "memory": "1G"}
    for workload in _workloads(service([*explicit, *[{}] * count], whole, whole)):
        share = workload.share
        assert (share.cpu_reservation, share.memory_reservation) == (share.cpu_limit, share.memory_limit)


def test_where_an_agent_is_unlimited_reservations_are_divided_equally() -> None:
    agents = [{"cpus": 3, "memory_limit": "1G"}, {}, {}]
    shares = divide(service(agents, None, {"cpus": "3", "memory": "300M"})).values()
    assert {share.cpu_reservation for share in shares} == {nano_cpus(Decimal(1))}
    assert {share.memory_reservation for share in shares} == {100 * MIB}


@pytest.mark.parametrize(
    ("agents", "limits", "reservations", "poor"),
    [
        ([{}] * 3, {"cpus": "0.029"}, {}, "A0, A1, A2"),
        ([{}] * 3, {"cpus": "0.03"}, {}, None),
        ([{}], {"cpus": "1"}, {"cpus": "0.001"}, None),
        ([{}] * 2, {"cpus": "1"}, {"cpus": "0.001"}, "A0, A1"),
        ([{}], {"memory": "6M"}, {}, None),
        ([{}], {"memory": "5M"}, {}, "A0"),
        ([{"memory_limit": "4M"}, {}], {"memory": "1G"}, {}, "A0"),
        ([], {"memory": "1G"}, {"memory": "1M"}, "alpha"),
    ],
)
def test_a_share_that_the_engine_would_refuse_is_an_error(
    agents: list[dict[str, Any]], limits: Any, reservations: Any, poor: str | None
) -> None:
    written = service(agents, limits, reservations)
    if poor is None:
        assert _workloads(written)
    else:
        least = r"0\.01 CPUs, 0\.001 reserved CPUs or 6M of memory"
        with pytest.raises(ValueError, match=rf"^the budget leaves {poor} less than {least}: write more$"):
            _workloads(written)


def _workloads(written: Service) -> tuple[Workload, ...]:
    return workloads_of(GroupFile(name="alpha", services={"alpha": written}), HealthTiming())


def test_sums_never_exceed_the_budget() -> None:
    dice = random.Random(69)
    for _ in range(500):
        count = dice.randint(1, 30)
        cpus, memory = Decimal(dice.randint(100, 6400)) / 100, dice.randint(count, 2**40)
        explicit = [
            {
                "cpus": str(cpus / (count + dice.randint(1, 9))) if dice.random() < 0.4 else None,
                "memory_limit": memory // (count + dice.randint(1, 9)) or None
                if dice.random() < 0.4
                else None,
            }
            for _ in range(count)
        ]
        reserved_cpus, reserved_memory = cpus * dice.randint(1, 99) / 1000, max(1, memory // 20)
        limits = {"cpus": str(cpus), "memory": memory}
        reservations = {"cpus": str(reserved_cpus), "memory": reserved_memory}
        shares = divide(service(explicit, limits, reservations)).values()
        assert len(shares) == count
        assert sum(share.cpu_limit or 0 for share in shares) <= nano_cpus(cpus)
        assert sum(share.cpu_reservation or 0 for share in shares) <= nano_cpus(reserved_cpus)
        assert sum(share.memory_limit or 0 for share in shares) <= memory
        assert sum(share.memory_reservation or 0 for share in shares) <= reserved_memory


@pytest.mark.parametrize("count", range(1, 41))
def test_an_equal_division_loses_less_than_a_unit_an_agent(count: int) -> None:
    limits = {"cpus": "8", "memory": "1G"}
    shares = divide(service([{}] * count, limits, {"cpus": "4", "memory": "512M"})).values()
    assert 0 <= 8_000_000_000 - sum(share.cpu_limit or 0 for share in shares) < count
    assert 0 <= 4_000_000_000 - sum(share.cpu_reservation or 0 for share in shares) <= count
    assert 0 <= 1024 * MIB - sum(share.memory_limit or 0 for share in shares) < count
    assert 0 <= 512 * MIB - sum(share.memory_reservation or 0 for share in shares) <= count


def test_replicas_do_not_divide_the_budget(workloads: Workloads) -> None:
    budget = "resources: {limits: {cpus: '2', memory: 1G}}"
    one = workloads(f"{{deploy: {{replicas: 1, {budget}}}}}", "[{name: Fox}, {name: Hen}]")
    three = workloads(f"{{deploy: {{replicas: 3, {budget}}}}}", "[{name: Fox}, {name: Hen}]")
    assert [workload.share for workload in one.values()] == [workload.share for workload in three.values()]


def test_a_service_without_agents_has_the_whole_budget(workloads: Workloads) -> None:
    resources = "{limits: {cpus: '2', memory: 1G}, reservations: {cpus: '1', memory: 512M}}"
    alone = workloads(f"{{deploy: {{resources: {resources}}}}}")["alpha"]
    assert alone.share == Share(2_000_000_000, 1024 * MIB, 1_000_000_000, 512 * MIB)
    assert workloads()["alpha"].share == Share(None, None, None, None)
