"""The order inside a group."""

from collections.abc import Callable

import pytest

from cascade.model.fleet import Fleet
from cascade.model.service import GroupFile
from cascade.model.strict import InvalidFiles
from cascade.planning.waves import rollout_order

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
