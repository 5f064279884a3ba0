"""The nine group files against the design they were written from, number by number."""

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from cascade.model.agent import Agent
from cascade.model.compose import Limits, Resources
from cascade.model.fleet import Fleet
from cascade.model.workload import Workload

GIB = 2**30

PHASES = (
    ("cascade-core", "cascade-ai-engine"),
    ("cascade-request-handler", "cascade-memory-learning"),
    ("cascade-audio-realtime", "cascade-personality", "cascade-auxiliary"),
    ("cascade-pc2-core", "cascade-pc2-apps"),
)

ENDPOINT = "http://modelmanagersuite.cascade-ai-engine.cascade:7211"

# Group, replicas, CPU and memory limit in GiB, CPU and memory reservation in GiB, host.
GROUPS = [
    ("cascade-core", 1, 2, 2, 1, 1, "mainpc"),
    ("cascade-ai-engine", 1, 8, 32, 4, 16, "mainpc"),
    ("cascade-request-handler", 3, 4, 8, 2, 4, "mainpc"),
    ("cascade-memory-learning", 2, 4, 16, 2, 8, "mainpc"),
    ("cascade-audio-realtime", 1, 2, 4, 1, 2, "mainpc"),
    ("cascade-personality", 2, 2, 4, 1, 2, "mainpc"),
    ("cascade-auxiliary", 1, 2, 4, 1, 2, "mainpc"),
    ("cascade-pc2-core", 1, 4, 8, 2, 4, "pc2"),
    ("cascade-pc2-apps", 2, 4, 8, 2, 4, "pc2"),
]

# Group, agent, port, health port.
AGENTS = [
    ("cascade-core", "ServiceRegistry", 7200, 8200),
    ("cascade-core", "SystemDigitalTwin", 7220, 8220),
    ("cascade-core", "ObservabilityHub", 9000, 9001),
    ("cascade-core", "UnifiedSystemAgent", 7201, 8201),
    ("cascade-ai-engine", "ModelManagerSuite", 7211, 8211),
    ("cascade-ai-engine", "VRAMOptimizerAgent", 5572, 6572),
    ("cascade-ai-engine", "ModelOrchestrator", 7213, 8213),
    ("cascade-ai-engine", "STTService", 5800, 6800),
    ("cascade-ai-engine", "TTSService", 5801, 6801),
    ("cascade-ai-engine", "FaceRecognitionAgent", 5610, 6610),
    ("cascade-request-handler", "RequestCoordinator", 26002, 27002),
    ("cascade-request-handler", "NLUAgent", 5709, 6709),
    ("cascade-request-handler", "IntentionValidatorAgent", 5701, 6701),
    ("cascade-request-handler", "GoalManager", 7205, 8205),
    ("cascade-request-handler", "AdvancedCommandHandler", 5710, 6710),
    ("cascade-request-handler", "Responder", 5637, 6637),
    ("cascade-memory-learning", "MemoryClient", 5713, 6713),
    ("cascade-memory-learning", "SessionMemoryAgent", 5574, 6574),
    ("cascade-memory-learning", "KnowledgeBase", 5715, 6715),
    ("cascade-memory-learning", "LearningOrchestrationService", 7210, 8212),
    ("cascade-memory-learning", "LearningManager", 5580, 6580),
    ("cascade-memory-learning", "ActiveLearningMonitor", 5638, 6638),
    ("cascade-memory-learning", "SelfTrainingOrchestrator", 5660, 6660),
    ("cascade-memory-learning", "LocalFineTunerAgent", 5642, 6642),
    ("cascade-audio-realtime", "AudioCapture", 6550, 7550),
    ("cascade-audio-realtime", "FusedAudioPreprocessor", 6551, 7551),
    ("cascade-audio-realtime", "WakeWordDetector", 6552, 7552),
    ("cascade-audio-realtime", "StreamingSpeechRecognition", 6553, 7553),
    ("cascade-audio-realtime", "StreamingTTSAgent", 5562, 6562),
    ("cascade-audio-realtime", "StreamingInterruptHandler", 5576, 6576),
    ("cascade-audio-realtime", "StreamingLanguageAnalyzer", 5579, 6579),
    ("cascade-personality", "EmotionEngine", 5590, 6590),
    ("cascade-personality", "MoodTrackerAgent", 5704, 6704),
    ("cascade-personality", "HumanAwarenessAgent", 5705, 6705),
    ("cascade-personality", "ToneDetector", 5625, 6625),
    ("cascade-personality", "VoiceProfilingAgent", 5708, 6708),
    ("cascade-personality", "EmpathyAgent", 5703, 6703),
    ("cascade-personality", "EmotionSynthesisAgent", 5706, 6706),
    ("cascade-personality", "DynamicIdentityAgent", 5802, 6802),
    ("cascade-auxiliary", "TranslationService", 5595, 6595),
    ("cascade-auxiliary", "FixedStreamingTranslation", 5584, 6584),
    ("cascade-auxiliary", "NLLBAdapter", 5582, 6582),
    ("cascade-auxiliary", "CodeGenerator", 5650, 6650),
    ("cascade-auxiliary", "Executor", 5606, 6606),
    ("cascade-auxiliary", "ProactiveAgent", 5624, 6624),
    ("cascade-auxiliary", "ChitchatAgent", 5711, 6711),
    ("cascade-auxiliary", "FeedbackHandler", 5636, 6636),
    ("cascade-pc2-core", "ObservabilityHub", 9100, 9110),
    ("cascade-pc2-core", "MemoryOrchestratorService", 7140, 8140),
    ("cascade-pc2-core", "ResourceManager", 7113, 8113),
    ("cascade-pc2-core", "AsyncProcessor", 7101, 8101),
    ("cascade-pc2-core", "CacheManager", 7102, 8102),
    ("cascade-pc2-apps", "DreamWorldAgent", 7104, 8104),
    ("cascade-pc2-apps", "UnifiedMemoryReasoningAgent", 7105, 8105),
    ("cascade-pc2-apps", "TutorAgent", 7108, 8108),
    ("cascade-pc2-apps", "ContextManager", 7111, 8111),
    ("cascade-pc2-apps", "ExperienceTracker", 7112, 8112),
    ("cascade-pc2-apps", "TaskScheduler", 7115, 8115),
    ("cascade-pc2-apps", "AuthenticationAgent", 7116, 8116),
    ("cascade-pc2-apps", "UnifiedUtilsAgent", 7118, 8118),
    ("cascade-pc2-apps", "ProactiveContextMonitor", 7119, 8119),
    ("cascade-pc2-apps", "AgentTrustScorer", 7122, 8122),
    ("cascade-pc2-apps", "FileSystemAssistantAgent", 7123, 8123),
    ("cascade-pc2-apps", "RemoteConnectorAgent", 7124, 8124),
    ("cascade-pc2-apps", "UnifiedWebAgent", 7126, 8126),
    ("cascade-pc2-apps", "DreamingModeAgent", 7127, 8127),
    ("cascade-pc2-apps", "AdvancedRouter", 7129, 8129),
    ("cascade-pc2-apps", "VisionProcessingAgent", 7150, 8150),
    ("cascade-pc2-apps", "TieredResponder", 7100, 8100),
]

ORDERS = {
    "ServiceRegistry": 1,
    "SystemDigitalTwin": 2,
    "ObservabilityHub": 3,
    "UnifiedSystemAgent": 4,
    "ModelManagerSuite": 1,
    "VRAMOptimizerAgent": 2,
    "ModelOrchestrator": 3,
    "STTService": 4,
    "TTSService": 5,
    "FaceRecognitionAgent": 6,
}


def declared(fleet: Fleet) -> dict[tuple[str, str], Agent]:
    """Every agent as its file declares it."""
    return {
        (workload.group, workload.agent): workload.declared
        for workload in everything(fleet)
        if workload.declared
    }


def everything(fleet: Fleet) -> list[Workload]:
    return [workload for workloads in fleet.workloads.values() for workload in workloads]


def test_there_are_nine_groups_69_agents_and_114_replicas(home_fleet: Fleet) -> None:
    workloads = everything(home_fleet)
    assert len(home_fleet.groups) == 9
    assert len(workloads) == len({workload.name for workload in workloads}) == 69
    assert sum(workload.replicas for workload in workloads) == 114


def test_four_phases_order_the_groups(home_fleet: Fleet) -> None:
    assert home_fleet.settings.phases == PHASES


def test_every_agent_has_its_ports(home_fleet: Fleet) -> None:
    found = {(*key, agent.port, agent.health_port) for key, agent in declared(home_fleet).items()}
    assert len(AGENTS) == 69
    assert found == set(AGENTS)


def test_agents_stand_in_the_order_of_the_design(home_fleet: Fleet) -> None:
    for group in home_fleet.groups:
        in_file = [workload.agent for workload in home_fleet.workloads[group]]
        assert in_file == [agent for of, agent, *_ in AGENTS if of == group]


def test_no_port_is_used_twice_on_the_networks(home_fleet: Fleet) -> None:
    agents = declared(home_fleet).values()
    ports = Counter(port for agent in agents for port in (agent.port, agent.health_port))
    assert {port: count for port, count in ports.items() if count > 1} == {}


@pytest.mark.parametrize(("name", "replicas", "cpus", "memory", "own_cpus", "own_memory", "host"), GROUPS)
def test_every_group_has_its_replicas_budget_and_host(
    home_fleet: Fleet,
    name: str,
    replicas: int,
    cpus: int,
    memory: int,
    own_cpus: int,
    own_memory: int,
    host: str,
) -> None:
    (service,) = home_fleet.groups[name].services.values()
    budget = service.deploy.resources
    assert list(home_fleet.groups[name].services) == [name]
    assert service.deploy.replicas == replicas
    assert budget.limits == Limits(cpus=Decimal(cpus), memory=memory * GIB)
    assert budget.reservations == Resources(cpus=Decimal(own_cpus), memory=own_memory * GIB)
    assert service.image == name.replace("cascade-", "cascade/", 1)
    for workload in home_fleet.workloads[name]:
        assert [eligible.name for eligible in home_fleet.eligible(workload)] == [host]


@pytest.mark.parametrize(
    ("host", "limits", "reservations"), [("mainpc", (38, 106), (19, 53)), ("pc2", (12, 24), (6, 12))]
)
def test_the_sums_of_a_host_are_those_of_its_groups(
    home_fleet: Fleet, host: str, limits: tuple[int, int], reservations: tuple[int, int]
) -> None:
    budgets = [
        (service.deploy.replicas, service.deploy.resources)
        for group in home_fleet.groups.values()
        for service in group.services.values()
        if f"node.labels.system == {host}" in service.deploy.placement.constraints
    ]
    for wanted, of in ((limits, "limits"), (reservations, "reservations")):
        resources = [(replicas, getattr(budget, of)) for replicas, budget in budgets]
        assert sum(replicas * part.cpus for replicas, part in resources) == wanted[0]
        assert sum(replicas * part.memory for replicas, part in resources) == wanted[1] * GIB


@pytest.mark.parametrize(("host", "cpus", "memory"), [("mainpc", 19, 53), ("pc2", 6, 12)])
def test_the_shares_of_the_agents_reserve_what_the_groups_do(
    home_fleet: Fleet, host: str, cpus: int, memory: int
) -> None:
    placed = [
        (workload.share, workload.replicas)
        for workload in everything(home_fleet)
        if [eligible.name for eligible in home_fleet.eligible(workload)] == [host]
    ]
    in_cpus = sum((share.cpu_reservation or 0) * n for share, n in placed)
    in_bytes = sum((share.memory_reservation or 0) * replicas for share, replicas in placed)
    assert 0 <= cpus * 10**9 - in_cpus <= 114
    assert 0 <= memory * GIB - in_bytes <= 114


def test_the_start_order_is_declared_for_the_first_phase_only(home_fleet: Fleet) -> None:
    found = {
        key: agent.startup_order
        for key, agent in declared(home_fleet).items()
        if agent.startup_order is not None
    }
    assert {agent: order for (_, agent), order in found.items()} == ORDERS
    assert {group for group, _ in found} == {"cascade-core", "cascade-ai-engine"}


def test_the_dependencies_are_those_of_the_core(home_fleet: Fleet) -> None:
    found = {key: agent.depends_on for key, agent in declared(home_fleet).items() if agent.depends_on}
    assert found == {
        ("cascade-core", "SystemDigitalTwin"): ("ServiceRegistry",),
        ("cascade-core", "ObservabilityHub"): ("SystemDigitalTwin",),
        ("cascade-core", "UnifiedSystemAgent"): ("SystemDigitalTwin",),
    }


FLAGS: list[tuple[Callable[[Agent], Any], dict[str, Any]]] = [
    (lambda agent: agent.optional, {"TranslationService": True}),
    (lambda agent: agent.load_balanced, {"RequestCoordinator": True}),
    (lambda agent: agent.persistent, {"MemoryClient": True}),
    (lambda agent: agent.realtime_priority, {"AudioCapture": True}),
    (lambda agent: agent.state_sync, {"EmotionEngine": True}),
    (
        lambda agent: agent.gpu_access,
        {"SelfTrainingOrchestrator": "optional", "LocalFineTunerAgent": "optional"},
    ),
    (
        lambda agent: agent.config,
        {"ObservabilityHub": {"scope": "pc2_agents", "mainpc_hub_endpoint": "http://mainpc:9000"}},
    ),
    (
        lambda agent: agent.memory_limit,
        {
            "ModelManagerSuite": 8 * GIB,
            "VRAMOptimizerAgent": GIB // 2,
            "ModelOrchestrator": 2 * GIB,
            "STTService": 4 * GIB,
            "TTSService": 4 * GIB,
            "FaceRecognitionAgent": 2 * GIB,
        },
    ),
    (lambda agent: agent.cpus, {}),
    (
        lambda agent: agent.environment,
        {
            "ObservabilityHub": {"PROMETHEUS_ENABLED": "true", "PARALLEL_HEALTH_CHECKS": "true"},
            "ModelManagerSuite": {"HYBRID_INFERENCE_ENABLED": "true", "IDLE_TIMEOUT": "300"},
        },
    ),
    (
        lambda agent: [(mount.source, mount.target) for mount in agent.volumes],
        {
            "SystemDigitalTwin": [
                ("unified_memory", "/data/unified_memory.db"),
                ("redis_data", "/data/redis"),
            ]
        },
    ),
    (
        lambda agent: agent.health_check and agent.health_check.test,
        {"ServiceRegistry": ("CMD", "curl", "-f", "http://localhost:8200/health")},
    ),
    (
        lambda agent: sorted(agent.networks),
        {
            "ObservabilityHub": ["cascade-internal"],
            "RequestCoordinator": ["cascade-external"],
            "RemoteConnectorAgent": ["cascade-external"],
            "UnifiedWebAgent": ["cascade-external"],
        },
    ),
]


@pytest.mark.parametrize(("flag", "expected"), FLAGS)
def test_only_these_agents_say_more_than_their_ports(
    home_fleet: Fleet, flag: Callable[[Agent], Any], expected: dict[str, Any]
) -> None:
    assert {name: flag(agent) for (_, name), agent in declared(home_fleet).items() if flag(agent)} == expected


def test_the_flags_belong_to_one_of_the_two_observability_hubs(home_fleet: Fleet) -> None:
    agents = declared(home_fleet)
    core, pc2 = agents["cascade-core", "ObservabilityHub"], agents["cascade-pc2-core", "ObservabilityHub"]
    assert (bool(core.config), bool(core.environment), bool(core.networks)) == (False, True, True)
    assert (bool(pc2.config), bool(pc2.environment), bool(pc2.networks)) == (True, False, False)
    assert core.networks["cascade-internal"].aliases == ("mainpc",)


def test_pc2_asks_for_models_where_mainpc_has_them(home_fleet: Fleet) -> None:
    """PC2's GPU is used via MainPC's inference: the name there is one that an agent answers to."""
    answering = [
        f"http://{name}:{one.declared.port}"
        for one in home_fleet.workloads["cascade-ai-engine"]
        if one.declared
        for name in one.networks("cascade")["cascade-internal"]
    ]
    assert ENDPOINT in answering


def test_the_services_say_what_their_agents_share(home_fleet: Fleet) -> None:
    services = {name: group.services[name] for name, group in home_fleet.groups.items()}
    assert {name: service.environment for name, service in services.items() if service.environment} == {
        "cascade-ai-engine": {
            "NVIDIA_VISIBLE_DEVICES": "0",
            "CUDA_VISIBLE_DEVICES": "0",
            "VRAM_BUDGET_PERCENTAGE": "80",
            "MODEL_CACHE_DIR": "/models",
        },
        "cascade-pc2-core": {"MODEL_ENDPOINT": ENDPOINT},
        "cascade-pc2-apps": {"MODEL_ENDPOINT": ENDPOINT},
    }
    assert {
        name: [(mount.type, mount.source, mount.target) for mount in service.volumes]
        for name, service in services.items()
        if service.volumes
    } == {
        "cascade-ai-engine": [("volume", "model_cache", "/models"), ("volume", "model_configs", "/configs")],
        "cascade-memory-learning": [
            ("volume", "memory_data", "/data/memory"),
            ("volume", "learning_data", "/data/learning"),
            ("volume", "training_checkpoints", "/data/checkpoints"),
        ],
    }
    assert [name for name, service in services.items() if service.runtime] == ["cascade-ai-engine"]
    assert [name for name, service in services.items() if service.devices] == ["cascade-audio-realtime"]
    assert [name for name, service in services.items() if service.scale] == ["cascade-request-handler"]
    assert all(list(service.networks) == ["cascade-internal"] for service in services.values())
    assert not any(service.cap_add for service in services.values())


def test_the_restart_and_update_policies(home_fleet: Fleet) -> None:
    deploys = {name: group.services[name].deploy for name, group in home_fleet.groups.items()}
    assert {
        name: d.restart_policy.max_attempts for name, d in deploys.items() if d.restart_policy.max_attempts
    } == {"cascade-core": 10}
    assert {(d.restart_policy.condition, d.restart_policy.delay) for d in deploys.values()} == {("any", 5)}
    assert {(d.update_config.parallelism, d.update_config.failure_action) for d in deploys.values()} == {
        (1, "pause")
    }
    assert {name for name, d in deploys.items() if d.update_config.order == "stop-first"} == {
        "cascade-core",
        "cascade-ai-engine",
        "cascade-memory-learning",
        "cascade-audio-realtime",
    }
    assert {name: d.update_config.delay for name, d in deploys.items() if d.update_config.delay} == {
        "cascade-request-handler": 10
    }


def test_the_request_handler_scales_from_one_to_five(home_fleet: Fleet) -> None:
    scale = home_fleet.groups["cascade-request-handler"].services["cascade-request-handler"].scale
    assert scale
    assert (scale.min, scale.max) == (1, 5)


def test_one_port_is_published_and_it_is_the_coordinators(home_fleet: Fleet) -> None:
    published = {
        workload.agent: [(port.published, port.target) for port in workload.ports]
        for workload in everything(home_fleet)
        if workload.ports
    }
    assert published == {"RequestCoordinator": [(26002, 26002)]}


def test_only_the_audio_agents_are_host_containers(home_fleet: Fleet) -> None:
    containers = {workload.group for workload in everything(home_fleet) if workload.kind == "container"}
    assert containers == {"cascade-audio-realtime"}


def test_the_two_networks_are_those_of_the_design(home_fleet: Fleet) -> None:
    networks = home_fleet.settings.networks
    assert [(n.name, str(n.subnet) if n.subnet else None, n.internal, n.attachable) for n in networks] == [
        ("cascade-internal", "172.20.0.0/16", True, True),
        ("cascade-external", None, False, True),
    ]


def test_no_pool_of_addresses_takes_the_internal_networks_own(home_fleet: Fleet) -> None:
    subnet = home_fleet.settings.networks[0].subnet
    assert subnet
    assert not home_fleet.settings.swarm_pool.pool.overlaps(subnet)


def test_the_gpu_is_where_the_engine_runs(home_fleet: Fleet) -> None:
    engine = home_fleet.workloads["cascade-ai-engine"][0]
    assert engine.constraints == ("node.labels.system == mainpc", "node.labels.gpu == rtx4090")


def test_the_lab_changes_neither_groups_nor_places(home_fleet: Fleet, lab_fleet: Fleet) -> None:
    assert lab_fleet.groups == home_fleet.groups
    assert lab_fleet.settings.phases == home_fleet.settings.phases
    assert lab_fleet.settings.networks == home_fleet.settings.networks
    assert placed(lab_fleet) == placed(home_fleet)


def placed(fleet: Fleet) -> dict[str, list[str]]:
    """Where each workload may run."""
    return {workload.name: [host.name for host in fleet.eligible(workload)] for workload in everything(fleet)}
