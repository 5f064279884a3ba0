"""The order inside a group, and its agents as the rollout sees them."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from cascade.model.fleet import Fleet
from cascade.model.service import GroupFile
from cascade.model.strict import InvalidFiles
from cascade.model.workload import Workload
from cascade.planning.resource import Key
from cascade.planning.waves import SCHEDULING_S, Member, member_of, rollout_order

Groups = Callable[..., GroupFile]


@pytest.mark.parametrize(
    ("agents", "expected"),
    [
        ("[]", "alpha"),
        ("[{name: A}]", "A"),
        ("[{name: B}, {name: A}]", "B A"),
        ("[{name: A, startup_order: 2}, {name: B, startup_order: 1}]", "B | A"),
        ("[{name: A, startup_order: 1}, {name: B, startup_order: 1}]", "A B"),
        (
            "[{name: A, startup_order: 30}, {name: B, startup_order: -1}, {name: C, startup_order: 0}]",
            "B | C | A",
        ),
        ("[{name: A}, {name: B, startup_order: 9}, {name: C}]", "B | A C"),
        ("[{name: A, depends_on: [B]}, {name: B}]", "B | A"),
        ("[{name: A, depends_on: [B, C]}, {name: B, depends_on: [C]}, {name: C}, {name: D}]", "C D | B | A"),
        ("[{name: A, depends_on: [B]}, {name: B, startup_order: 1}, {name: C}]", "B | A C"),
        (
            "[{name: A, startup_order: 1, depends_on: [B]}, {name: B, startup_order: 1}, {name: C}]",
            "B | A | C",
        ),
        ("[{name: A, startup_order: 2, depends_on: [B]}, {name: B, startup_order: 1}]", "B | A"),
    ],
)
def test_agents_start_in_waves(group_of: Groups, agents: str, expected: str) -> None:
    assert " | ".join(" ".join(wave) for wave in group_of("{}", agents).waves) == expected


@pytest.mark.parametrize(
    ("agents", "cycle"),
    [
        ("[{name: A, depends_on: [A]}]", {"A"}),
        ("[{name: A, depends_on: [B]}, {name: B, depends_on: [A]}]", {"A", "B"}),
        (
            "[{name: A, depends_on: [C]}, {name: B, depends_on: [A]}, {name: C, depends_on: [B]}, {name: D}]",
            {"A", "B", "C"},
        ),
        ("[{name: A, startup_order: 1, depends_on: [B]}, {name: B, startup_order: 2}]", {"A", "B"}),
        ("[{name: A, startup_order: 1, depends_on: [B]}, {name: B}]", {"A", "B"}),
    ],
)
def test_a_cycle_is_an_error_that_names_it(group_of: Groups, agents: str, cycle: set[str]) -> None:
    with pytest.raises(InvalidFiles) as invalid:
        group_of("{}", agents)
    (problem,) = invalid.value.problems
    assert problem.path == "services.alpha.x-agents"
    start, _, chain = problem.reason.partition(": ")
    assert start == "cycle in the start order"
    names = chain.split(" → ")
    assert set(names) == cycle
    assert names[0] == names[-1]
    assert len(names) == len(cycle) + 1


def test_a_cycle_is_named_in_the_order_of_dependence(group_of: Groups) -> None:
    agents = "[{name: A, depends_on: [B]}, {name: B, depends_on: [C]}, {name: C, depends_on: [A]}]"
    with pytest.raises(InvalidFiles, match=r"A → B → C → A|B → C → A → B|C → A → B → C"):
        group_of("{}", agents)


def test_every_dependency_that_the_group_does_not_have_is_named_and_so_is_a_cycle(group_of: Groups) -> None:
    with pytest.raises(InvalidFiles) as invalid:
        group_of("{}", "[{name: A, depends_on: [Z, B, Y]}, {name: B, depends_on: [A, X]}]")
    found = [(problem.path, problem.reason) for problem in invalid.value.problems]
    assert found[:3] == [
        ("services.alpha.x-agents[0].depends_on", "the group has no agent Y"),
        ("services.alpha.x-agents[0].depends_on", "the group has no agent Z"),
        ("services.alpha.x-agents[1].depends_on", "the group has no agent X"),
    ]
    assert [reason.split()[0] for _, reason in found[3:]] == ["cycle"]


def test_services_without_agents_start_together(group_of: Groups) -> None:
    services = {"web": {"image": "i"}, "db": {"image": "i"}}
    assert group_of(services=services).waves == (("web", "db"),)


@pytest.mark.parametrize(
    ("depends_on", "expected"),
    [
        ({}, "web db cache"),
        ({"web": ["db", "cache"]}, "db cache | web"),
        ({"web": ["db"], "db": ["cache"]}, "cache | db | web"),
        ({"web": {"db": {"condition": "service_healthy"}}}, "db cache | web"),
        ({"cache": {"web": {"condition": "service_started"}}}, "web db | cache"),
        ({"web": {"db": {"required": True, "restart": False}}}, "db cache | web"),
    ],
)
def test_plain_services_start_after_those_that_they_depend_on(
    group_of: Groups, depends_on: dict[str, object], expected: str
) -> None:
    services = {
        name: {"image": "i", "depends_on": depends_on.get(name, [])} for name in ("web", "db", "cache")
    }
    assert " | ".join(" ".join(wave) for wave in group_of(services=services).waves) == expected


@pytest.mark.parametrize(
    ("depends_on", "path", "reason"),
    [
        ({"web": ["gone"]}, "services.web.depends_on", "the file has no service gone"),
        ({"web": ["db"], "db": ["web"]}, "services", "cycle in the start order: "),
        ({"db": ["db"]}, "services", "cycle in the start order: db → db"),
    ],
)
def test_a_dependency_of_plain_services_that_cannot_be_met_is_an_error(
    group_of: Groups, depends_on: dict[str, object], path: str, reason: str
) -> None:
    services = {name: {"image": "i", "depends_on": depends_on.get(name, [])} for name in ("web", "db")}
    with pytest.raises(InvalidFiles) as invalid:
        group_of(services=services)
    (problem,) = invalid.value.problems
    assert problem.path == path
    assert problem.reason.startswith(reason)
    assert problem.fix


def test_every_wave_of_the_seed_in_its_order(home_fleet: Fleet) -> None:
    order = rollout_order(home_fleet)
    assert [(wave.phase, wave.group, wave.of) for wave in order if wave.number == 1] == [
        (1, "cascade-core", 4),
        (1, "cascade-ai-engine", 6),
        (2, "cascade-request-handler", 1),
        (2, "cascade-memory-learning", 1),
        (3, "cascade-audio-realtime", 1),
        (3, "cascade-personality", 1),
        (3, "cascade-auxiliary", 1),
        (4, "cascade-pc2-core", 1),
        (4, "cascade-pc2-apps", 1),
    ]
    assert [" ".join(workload.agent for workload in wave.members) for wave in order if wave.of > 1] == [
        "ServiceRegistry",
        "SystemDigitalTwin",
        "ObservabilityHub",
        "UnifiedSystemAgent",
        "ModelManagerSuite",
        "VRAMOptimizerAgent",
        "ModelOrchestrator",
        "STTService",
        "TTSService",
        "FaceRecognitionAgent",
    ]
    assert sum(len(wave.members) for wave in order) == 69


def test_waves_are_numbered_and_keep_to_their_group(home_fleet: Fleet) -> None:
    order = rollout_order(home_fleet)
    assert [str(wave) for wave in order[:4]] == [f"cascade-core wave {number}/4" for number in (1, 2, 3, 4)]
    assert all(workload.group == wave.group for wave in order for workload in wave.members)


Alpha = Callable[..., tuple[tuple[Workload, ...], Fleet]]


def member(alpha: Alpha, service: str = "{}", agents: str = "[{name: Fox}]") -> Member:
    """The one agent of such a group as the rollout sees it."""
    (fox,), fleet = alpha(service, agents)
    return member_of(fleet, fox)


def test_a_service_lives_with_the_manager_and_a_host_container_on_its_host(home_fleet: Fleet) -> None:
    members = {member.name: member for wave in rollout_order(home_fleet) for member in wave.members}
    on_pc2 = members["cascade-pc2-core_cache-manager"]
    assert (on_pc2.key, on_pc2.hosts) == (Key("mainpc", "service", on_pc2.name), ("pc2",))
    alone = members["cascade-audio-realtime_wake-word-detector"]
    assert (alone.key, alone.hosts) == (Key("mainpc", "container", alone.name), ("mainpc",))


@pytest.mark.parametrize(
    ("service", "agents", "precious"),
    [
        ("{}", "[{name: Fox}]", ""),
        ("{}", "[{name: Fox, persistent: true}]", "persistent"),
        ("{runtime: nvidia}", "[{name: Fox}]", "GPU"),
        ("{runtime: nvidia}", "[{name: Fox, persistent: true}]", "persistent"),
    ],
)
def test_a_persistent_agent_or_one_with_a_gpu_is_precious(
    alpha: Alpha, service: str, agents: str, precious: str
) -> None:
    assert member(alpha, service, agents).precious == precious


def test_the_range_of_a_scale_is_its_agents(alpha: Alpha) -> None:
    said = "{deploy: {replicas: 3}, x-scale: {min: 1, max: 5}}"
    assert (member(alpha, said).replicas, member(alpha, said).scale) == (3, (1, 5))
    assert member(alpha).scale is None


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ({"stop_grace_period": "3s"}, 3),
        ({"stop_grace_period": "3s", "deploy": {"replicas": 3, "update_config": {"delay": "2s"}}}, 15),
        (
            {"stop_grace_period": "3s", "deploy": {"replicas": 3, "update_config": {"parallelism": 2}}},
            6,
        ),
        (
            {
                "stop_grace_period": "3s",
                "healthcheck": {
                    "test": ["CMD", "ask"],
                    "interval": "5s",
                    "timeout": "1s",
                    "retries": 2,
                    "start_period": "10s",
                },
            },
            25,
        ),
    ],
    ids=["one replica", "one after the other", "two at a time", "with a health check"],
)
def test_an_update_may_take_as_long_as_all_its_rounds(alpha: Alpha, said: Any, seconds: float) -> None:
    checked = {"healthcheck": {"disable": True}} | said
    assert member(alpha, yaml.safe_dump(checked)).update_s == seconds


@pytest.mark.parametrize(
    ("service", "agents", "seconds"),
    [
        ("{x-deadline: 45s, deploy: {replicas: 3}}", "[{name: Fox}]", 45),
        ("{}", "[{name: Fox, deadline: 2m}]", 120),
        ("{x-deadline: 45s}", "[{name: Fox, deadline: 0.5s}]", 0.5),
    ],
)
def test_a_given_deadline_is_how_long_its_gate_waits(
    alpha: Alpha, service: str, agents: str, seconds: float
) -> None:
    assert member(alpha, service, agents).deadline_s == seconds


def test_without_one_it_is_as_long_as_an_update_and_its_scheduling_take(alpha: Alpha) -> None:
    found = member(alpha)
    assert found.deadline_s == found.update_s + SCHEDULING_S
