"""The order inside a group."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from cascade.model.fleet import Fleet, FleetSettings, assemble
from cascade.model.service import GroupFile
from cascade.model.strict import InvalidFiles
from cascade.model.workload import Workload
from cascade.planning.waves import rollout_order, waves

Workloads = Callable[..., dict[str, Workload]]


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
def test_agents_start_in_waves(workloads: Workloads, agents: str, expected: str) -> None:
    found = waves(workloads("{}", agents).values())
    assert " | ".join(" ".join(wave) for wave in found) == expected


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
def test_a_cycle_is_an_error_that_names_it(workloads: Workloads, agents: str, cycle: set[str]) -> None:
    with pytest.raises(ValueError, match="cycle in the start order: ") as error:
        waves(workloads("{}", agents).values())
    names = str(error.value).partition(": ")[2].split(" → ")
    assert set(names) == cycle
    assert names[0] == names[-1]
    assert len(names) == len(cycle) + 1


def test_a_cycle_is_named_in_the_order_of_dependence(workloads: Workloads) -> None:
    agents = "[{name: A, depends_on: [B]}, {name: B, depends_on: [C]}, {name: C, depends_on: [A]}]"
    with pytest.raises(ValueError, match="cycle") as error:
        waves(workloads("{}", agents).values())
    assert str(error.value).partition(": ")[2] in {"A → B → C → A", "B → C → A → B", "C → A → B → C"}


def test_a_dependency_that_the_group_does_not_have_is_an_error(workloads: Workloads) -> None:
    agents = workloads("{}", "[{name: A, depends_on: [Z, B, Y]}, {name: B}]").values()
    with pytest.raises(ValueError, match=r"^A depends on Y, Z, which the group does not have$"):
        waves(agents)


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
    assert [" ".join(workload.agent for workload in wave.workloads) for wave in order if wave.of > 1] == [
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
    assert sum(len(wave.workloads) for wave in order) == 69


def test_waves_are_numbered_and_keep_to_their_group(home_fleet: Fleet) -> None:
    order = rollout_order(home_fleet)
    assert [str(wave) for wave in order[:4]] == [f"cascade-core wave {number}/4" for number in (1, 2, 3, 4)]
    assert all(workload.group == wave.group for wave in order for workload in wave.workloads)


def test_the_mistakes_of_every_group_come_in_one_report(home_fleet: Fleet) -> None:
    agents = {
        "alpha": "[{name: A, port: 1, health_port: 2, depends_on: [A]}]",
        "beta": "[{name: B, port: 1, health_port: 2}]",
        "gamma": "[{name: C, port: 1, health_port: 2, depends_on: [Z]}]",
    }
    fleet = assemble(
        _settings(home_fleet, agents), home_fleet.hosts, {n: _group(n, a) for n, a in agents.items()}
    )
    with pytest.raises(InvalidFiles) as invalid:
        rollout_order(fleet)
    assert [str(problem) for problem in invalid.value.problems] == [
        "alpha.yaml: services: cycle in the start order: A → A",
        "gamma.yaml: services: C depends on Z, which the group does not have",
    ]


def _settings(fleet: Fleet, groups: dict[str, Any]) -> FleetSettings:
    return fleet.settings.model_copy(update={"phases": (tuple(groups),)})


def _group(name: str, agents: str) -> GroupFile:
    service = {"image": "cascade/core", "x-agents": yaml.safe_load(agents)}
    return GroupFile.model_validate({"name": name, "services": {name: service}})
