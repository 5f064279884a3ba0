"""A GPU's memory among agents: who has how much, what Swarm is told of it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml

from cascade.model.fleet import Doubts, Fleet, misfits
from cascade.model.gpu import Budget, Gpu, GpuUse, HostGpu
from cascade.model.options import Options
from cascade.model.service import GroupFile
from cascade.model.strict import InvalidFiles
from cascade.model.vram import Division, divide_vram
from cascade.model.workload import Workload
from cascade.planning.rendering import rendered
from cascade.planning.specs import LABEL_GPU, container_body, service_spec
from cascade.planning.target import target_of
from cascade.planning.vram import daemon_settings, offers
from tests.unit.conftest import GPUS

Workloads = Callable[..., dict[str, Workload]]
SHARED = "x-gpu: {vram_budget: 10G}"
UUID = GPUS["mainpc"][0].uuid


def divided(
    workloads: Workloads,
    service: str,
    agents: str,
    decided: dict[str, str] | None = None,
    budget: int = 10240,
) -> Division:
    """A budget among the agents of a group written in the test."""
    found = workloads(f"{{{service}, {SHARED}}}" if service else f"{{{SHARED}}}", agents)
    return divide_vram(budget, tuple(found.values()), decided or {})


@pytest.mark.parametrize(
    ("said", "memory", "mib"),
    [
        ("80%", 24564, 19651),
        ("100%", 24564, 24564),
        ("0.1%", 24564, 24),
        ("87.5 %", 1000, 875),
        ("21G", 24564, 21504),
        ("2047K", 24564, 1),
        (3 * 2**20, 8, 3),
    ],
)
def test_a_budget_is_a_percentage_of_the_gpu_or_an_amount_in_whole_mib(
    said: object, memory: int, mib: int
) -> None:
    assert GpuUse.model_validate({"vram_budget": said}).vram_budget.of(memory) == mib


@pytest.mark.parametrize("said", ["0%", "101%", "-1%", "%", "1023K", 0, "much", True, None, "0"])
def test_what_is_no_part_of_a_gpu_is_refused(said: object) -> None:
    with pytest.raises(ValueError, match="write"):
        GpuUse.model_validate({"vram_budget": said})


def test_shares_that_are_named_come_first_and_the_rest_is_divided_equally(workloads: Workloads) -> None:
    agents = "[{name: Fox, vram: 4G}, {name: Hen}, {name: Owl}]"
    found = divided(workloads, "runtime: nvidia", agents)
    assert found.shares == {"alpha_fox": 4096, "alpha_hen": 3072, "alpha_owl": 3072}


def test_each_replica_takes_its_agents_share(workloads: Workloads) -> None:
    agents = "[{name: Fox, vram: 3G}, {name: Hen}]"
    found = divided(workloads, "runtime: nvidia, deploy: {replicas: 2}", agents)
    assert found.shares == {"alpha_fox": 3072, "alpha_hen": 2048}


def test_who_needs_the_gpu_has_at_least_a_mib_of_a_budget_that_is_too_small(workloads: Workloads) -> None:
    found = divided(workloads, "runtime: nvidia", "[{name: Fox, vram: 9G}, {name: Hen}]", budget=1024)
    assert found.shares == {"alpha_fox": 9216, "alpha_hen": 1}


OPTIONAL = (
    "[{name: Fox, gpu_access: required, vram: 4G}, {name: Hen, gpu_access: optional, vram: 5G},"
    " {name: Owl, gpu_access: optional, vram: 2G}, {name: Elk, gpu_access: optional, vram: 1G}, {name: Cat}]"
)


def test_who_can_do_without_gets_what_is_left_in_the_order_of_the_file(workloads: Workloads) -> None:
    found = divided(workloads, "", OPTIONAL)
    assert found.decisions == {"alpha_hen": "taken", "alpha_owl": "left", "alpha_elk": "taken"}
    assert found.shares == {"alpha_fox": 4096, "alpha_hen": 5120, "alpha_elk": 1024}


def test_who_can_do_without_needs_room_for_every_replica(workloads: Workloads) -> None:
    agents = "[{name: Fox, gpu_access: optional, vram: 5G}, {name: Hen, gpu_access: optional, vram: 6G}]"
    once = divided(workloads, "deploy: {replicas: 1}", agents)
    assert once.decisions == {"alpha_fox": "taken", "alpha_hen": "left"}
    twice = divided(workloads, "deploy: {replicas: 2}", agents)
    assert twice.decisions == {"alpha_fox": "taken", "alpha_hen": "left"}
    assert twice.shares == {"alpha_fox": 5120}
    thrice = divided(workloads, "deploy: {replicas: 3}", agents)
    assert thrice.decisions == {"alpha_fox": "left", "alpha_hen": "left"}


def test_specs_that_are_only_shown_have_the_gpus_number(home_fleet: Fleet) -> None:
    shown = {one["name"]: one["spec"] for one in rendered(replace(home_fleet, gpus={}))}
    spec = shown["cascade-ai-engine_stt-service"]
    assert environment_in(spec)["NVIDIA_VISIBLE_DEVICES"] == "0"
    assert not reserved(spec)


def test_an_earlier_decision_stands_though_another_would_fit_now(workloads: Workloads) -> None:
    earlier = {"alpha_hen": "left", "alpha_owl": "taken"}
    found = divided(workloads, "", OPTIONAL, earlier)
    assert found.decisions == {"alpha_hen": "left", "alpha_owl": "taken", "alpha_elk": "taken"}
    assert not found.unfit


def test_who_comes_new_gets_nothing_of_what_an_earlier_decision_gave(workloads: Workloads) -> None:
    found = divided(workloads, "", OPTIONAL, {"alpha_owl": "taken", "alpha_elk": "taken"})
    assert found.decisions == {"alpha_hen": "left", "alpha_owl": "taken", "alpha_elk": "taken"}


def test_an_earlier_decision_that_no_longer_fits_is_told_with_the_numbers(workloads: Workloads) -> None:
    found = divided(workloads, "", OPTIONAL, {"alpha_hen": "taken"}, budget=8192)
    assert [(one.workload.agent, one.needed, one.left) for one in found.unfit] == [("Hen", 5120, 4096)]


def test_the_seeds_agents_share_the_4090_and_fill_their_budget(home_fleet: Fleet) -> None:
    shares = {shared.group.name: shared.division for shared in home_fleet.shared_gpus}
    engine, learning = shares["cascade-ai-engine"], shares["cascade-memory-learning"]
    assert engine
    assert learning
    assert (engine.budget, sum(engine.shares.values())) == (19651, 19651)
    assert engine.shares["cascade-ai-engine_model-manager-suite"] == 7875
    assert learning.decisions == {
        "cascade-memory-learning_self-training-orchestrator": "taken",
        "cascade-memory-learning_local-fine-tuner-agent": "taken",
    }


def test_the_engine_is_told_the_gpus_names_and_the_sum_of_the_budgets(home_fleet: Fleet) -> None:
    mainpc, pc2 = home_fleet.hosts["mainpc"], home_fleet.hosts["pc2"]
    told = {
        "default-runtime": "nvidia",
        "runtimes": {"nvidia": {"path": "nvidia-container-runtime", "args": []}},
        "node-generic-resources": [f"gpu={UUID}", f"vram={19651 + 4096}"],
    }
    assert daemon_settings(home_fleet, mainpc) == {**mainpc.daemon_settings, **told}
    names = [f"gpu={GPUS['pc2'][0].uuid}"]
    assert daemon_settings(home_fleet, pc2)["node-generic-resources"] == names


def test_a_host_without_a_gpu_is_told_nothing_of_one(lab_fleet: Fleet) -> None:
    for host in lab_fleet.hosts.values():
        assert daemon_settings(lab_fleet, host) == host.daemon_settings
    assert not lab_fleet.sharing
    assert "VISIBLE_DEVICES=void" not in str([item.fields for item in target_of(lab_fleet).resources])


def test_a_second_gpu_is_counted_by_a_kind_of_its_own(alpha: Any) -> None:
    service = "{runtime: nvidia, x-gpu: {vram_budget: 50%, device: 1}}"
    (fox,), fleet = alpha(service, "[{name: Fox}]")
    second = Gpu(1, "GPU-2", "another", 8000)
    fleet = replace(fleet, gpus={"mainpc": (*GPUS["mainpc"], second)})
    spec = service_spec(fox, fleet)
    assert reserved(spec) == {"vram-1": 4000}
    assert environment_in(spec)["NVIDIA_VISIBLE_DEVICES"] == "GPU-2"
    resources = daemon_settings(fleet, fleet.manager)["node-generic-resources"]
    assert resources == [f"gpu={UUID}", "gpu=GPU-2", "vram-1=4000"]


def environment_in(spec: Any) -> dict[str, str]:
    """The variables of a service's containers."""
    entries = spec["TaskTemplate"]["ContainerSpec"]["Env"]
    return dict(entry.split("=", 1) for entry in entries)


def reserved(spec: Any) -> dict[str, int]:
    """What a service reserves of generic resources."""
    found = spec["TaskTemplate"]["Resources"]["Reservations"].get("GenericResources", ())
    return {item["DiscreteResourceSpec"]["Kind"]: item["DiscreteResourceSpec"]["Value"] for item in found}


@pytest.mark.parametrize(
    ("service", "agent", "visible", "mib"),
    [
        (f"{{runtime: nvidia, {SHARED}}}", "{name: Fox, vram: 6G}", UUID, {"vram": 6144}),
        (f"{{{SHARED}}}", "{name: Fox, vram: 6G, gpu_access: required}", UUID, {"vram": 6144}),
        (f"{{{SHARED}}}", "{name: Fox, vram: 6G, gpu_access: optional}", UUID, {"vram": 6144}),
        (f"{{{SHARED}}}", "{name: Fox, vram: 11G, gpu_access: optional}", "void", {}),
        (f"{{{SHARED}}}", "{name: Fox}", "void", {}),
        (f"{{{SHARED}, environment: {{NVIDIA_VISIBLE_DEVICES: '0'}}}}", "{name: Fox}", "void", {}),
        ("{}", "{name: Fox}", "void", {}),
        ("{environment: {NVIDIA_VISIBLE_DEVICES: all}}", "{name: Fox}", "all", {}),
        ("{runtime: nvidia}", "{name: Fox}", None, {}),
    ],
)
def test_a_container_sees_the_gpu_that_it_shares_and_no_other(
    alpha: Any, service: str, agent: str, visible: str | None, mib: dict[str, int]
) -> None:
    (fox,), fleet = alpha(service, f"[{agent}]")
    spec = service_spec(fox, fleet)
    assert environment_in(spec).get("NVIDIA_VISIBLE_DEVICES") == visible
    assert reserved(spec) == mib


def test_a_file_says_itself_what_the_driver_is_to_do(alpha: Any) -> None:
    service = f"{{runtime: nvidia, {SHARED}, environment: {{NVIDIA_DRIVER_CAPABILITIES: all}}}}"
    (fox,), fleet = alpha(service)
    assert environment_in(service_spec(fox, fleet))["NVIDIA_DRIVER_CAPABILITIES"] == "all"


def test_a_host_container_sees_its_gpu_too(alpha: Any) -> None:
    (fox,), fleet = alpha(f"{{runtime: nvidia, devices: [/dev/snd], {SHARED}}}")
    assert f"NVIDIA_VISIBLE_DEVICES={UUID}" in container_body(fox, fleet)["Env"]


def test_an_update_of_who_may_have_a_gpu_stops_the_old_one_first(alpha: Any) -> None:
    (fox,), fleet = alpha(f"{{{SHARED}}}", "[{name: Fox, vram: 1G, gpu_access: optional}]")
    update = service_spec(fox, fleet)["UpdateConfig"]
    assert (update["Order"], update["Parallelism"]) == ("stop-first", 1)


def test_where_the_gpu_is_absent_agents_do_without_and_nothing_is_decided(alpha: Any) -> None:
    service, agent = f"{{{SHARED}}}", "[{name: Fox, vram: 1G, gpu_access: optional}]"
    (fox,), fleet = alpha(service, agent, absent=["gpu"])
    spec = service_spec(fox, fleet)
    assert "NVIDIA_VISIBLE_DEVICES" not in environment_in(spec)
    assert LABEL_GPU not in spec["Labels"]
    assert not reserved(spec)


def test_a_decision_stands_in_the_services_label(alpha: Any) -> None:
    agents = "[{name: Fox, vram: 6G, gpu_access: optional}, {name: Hen, vram: 6G, gpu_access: optional}]"
    (fox, hen), fleet = alpha(f"{{{SHARED}}}", agents)
    assert service_spec(fox, fleet)["Labels"][LABEL_GPU] == "taken"
    assert service_spec(hen, fleet)["Labels"][LABEL_GPU] == "left"


def test_a_decision_is_taken_anew_only_when_that_is_asked_for(alpha: Any) -> None:
    agents = "[{name: Fox, vram: 6G, gpu_access: optional}, {name: Hen, vram: 6G, gpu_access: optional}]"
    (fox, _), fleet = alpha(f"{{{SHARED}}}", agents)
    kept = replace(fleet, decided={"alpha_fox": "left", "alpha_hen": "taken"})
    assert service_spec(fox, kept)["Labels"][LABEL_GPU] == "left"
    anew = replace(kept, options=Options(reschedule=True))
    assert service_spec(fox, anew)["Labels"][LABEL_GPU] == "taken"


def test_gpus_that_were_not_read_leave_open_what_rests_on_them_and_only_that(home_fleet: Fleet) -> None:
    target = target_of(replace(home_fleet, gpus={"pc2": GPUS["pc2"]}))
    unclear = {item.key.name for item in target.unclear}
    assert target.unread_gpus == ("mainpc",)
    assert len(unclear) == 1 + 6 + 2
    assert {"/etc/docker/daemon.json", "cascade-ai-engine_stt-service"} < unclear
    assert not {item.key for item in target.unclear} & target.wanted.keys()
    whole = {key for key in target_of(home_fleet).wanted if (key.host, key.kind) != ("mainpc", "gpu")}
    assert {item.key for item in target.named} == whole
    assert not any(item.fields for item in target.unclear)
    assert "cascade-memory-learning_memory-client" not in unclear


FAULTS = [
    (
        "{runtime: nvidia, x-gpu: {vram_budget: 10G, device: 3}}",
        {},
        "mainpc: alpha shares GPU 3: it has 0; write one of these as x-gpu.device",
    ),
    (
        "{runtime: nvidia, x-gpu: {vram_budget: 30G}}",
        {},
        "mainpc: budgets of 30720 MiB on a GPU of 24564: alpha 30720; lower vram_budget in one of these",
    ),
    (
        "{x-gpu: {vram_budget: 1G}}",
        {"alpha_fox": "taken"},
        (
            "mainpc: alpha_fox has the GPU since an earlier release and needs 2048 MiB, 1024 are left;"
            " lower vram, raise vram_budget, or decide anew with --reschedule"
        ),
    ),
]


@pytest.mark.parametrize(("service", "decided", "said"), FAULTS)
def test_what_a_gpu_cannot_give_is_refused_with_the_numbers(
    alpha: Any, service: str, decided: dict[str, str], said: str
) -> None:
    agent = "[{name: Fox}]" if "runtime" in service else "[{name: Fox, vram: 2G, gpu_access: optional}]"
    _, fleet = alpha(service, agent)
    assert target_of(fleet).faults == (() if decided else (said,))
    assert target_of(replace(fleet, decided=decided)).faults == (said,)


def test_an_offer_names_what_each_agent_requests(alpha: Any) -> None:
    service = "{runtime: nvidia, x-gpu: {vram_budget: 50%}, deploy: {replicas: 2}}"
    _, fleet = alpha(service, "[{name: Fox, vram: 4G}, {name: Hen, vram: 3G}]")
    (offer,) = offers(fleet, fleet.manager)
    assert (offer.mib, offer.requested()) == (12282, {"Fox": 8192, "Hen": 6144})


WRONG = [
    ("{}", "{vram: 1G}", "x-agents[0].vram", "the service shares no GPU"),
    ("{}", "{gpu_access: optional}", "x-agents[0].gpu_access", "the service shares no GPU"),
    (f"{{{SHARED}}}", "{vram: 1G}", "x-agents[0].vram", "Fox uses no GPU"),
    (f"{{{SHARED}}}", "{gpu_access: optional}", "x-agents[0].vram", "is missing"),
    (f"{{{SHARED}}}", "{gpu_access: required, vram: 11G}", "x-gpu.vram_budget", "need 11264 MiB"),
    (
        f"{{{SHARED}, runtime: nvidia, deploy: {{replicas: 3}}}}",
        "{vram: 4G}",
        "x-gpu.vram_budget",
        "need 12288 MiB",
    ),
    (
        f"{{{SHARED}, runtime: nvidia, environment: {{NVIDIA_VISIBLE_DEVICES: all}}}}",
        "{}",
        "environment",
        "NVIDIA_VISIBLE_DEVICES is 'all', and x-gpu is about device 0",
    ),
    (
        f"{{{SHARED}, runtime: nvidia}}",
        "{environment: {NVIDIA_VISIBLE_DEVICES: '1'}}",
        "x-agents[0].environment",
        "x-gpu is about device 0",
    ),
    ("{x-gpu: {device: 0}}", "{}", "x-gpu.vram_budget", "is missing"),
    ("{x-gpu: {vram_budget: 1G, device: -1}}", "{}", "x-gpu.device", "-1"),
    ("{x-gpu: {vram_budget: 1G, devices: 1}}", "{}", "x-gpu.devices", "not a key"),
]


@pytest.mark.parametrize(("service", "agent", "path", "reason"), WRONG)
def test_a_file_that_says_two_things_of_a_gpu_is_wrong_there(
    group_of: Callable[..., GroupFile], service: str, agent: str, path: str, reason: str
) -> None:
    with pytest.raises(InvalidFiles) as invalid:
        group_of(
            service, f"[{yaml.safe_dump({'name': 'Fox', **yaml.safe_load(agent)}, default_flow_style=True)}]"
        )
    (problem,) = invalid.value.problems
    assert problem.path == f"services.alpha.{path}"
    assert reason in f"{problem.reason}; {problem.fix}"
    assert problem.fix


def problems(home_fleet: Fleet, group: GroupFile, **host: Any) -> list[str]:
    """What is wrong with a fleet of only such a group, where every host is like this."""
    hosts = {name: each.model_copy(update=host) for name, each in home_fleet.hosts.items()}
    settings = home_fleet.settings.model_copy(update={"phases": ((group.name,),)})
    fleet = Fleet(settings, hosts, {group.name: group})
    return [str(problem) for problem in misfits(fleet, Doubts(frozenset({"images"})))]


PLACED = "networks: [cascade-internal], deploy: {placement: {constraints: [node.hostname == mainpc]}}"
NETWORK = {"cascade-internal": {"external": True}}


def test_a_gpu_of_more_than_one_host_is_refused(home_fleet: Fleet, group_of: Any) -> None:
    group = group_of(f"{{networks: [cascade-internal], {SHARED}}}", "[{name: Fox}]", networks=NETWORK)
    (said,) = problems(home_fleet, group)
    assert "services.alpha.deploy.placement.constraints" in said
    assert "a GPU is of one host, and mainpc, pc2 meet the constraints" in said


@pytest.mark.parametrize(
    ("service", "agent", "key"),
    [
        (f"{{runtime: nvidia, {PLACED}}}", "{name: Fox}", "runtime"),
        (f"{{{SHARED}, {PLACED}}}", "{name: Fox, gpu_access: required}", "x-gpu"),
    ],
)
def test_who_needs_a_gpu_needs_a_host_that_declares_one(
    home_fleet: Fleet, group_of: Any, service: str, agent: str, key: str
) -> None:
    group = group_of(service, f"[{agent}]", networks=NETWORK)
    assert problems(home_fleet, group) == []
    (said,) = problems(home_fleet, group, gpu=None)
    assert f"services.alpha.{key}: it needs a GPU, and mainpc declares none; write gpu = HostGpu()" in said
    assert problems(home_fleet, group, gpu=None, absent=frozenset({"gpu"})) == []


def test_who_can_do_without_a_gpu_runs_where_there_is_none(home_fleet: Fleet, group_of: Any) -> None:
    group = group_of(
        f"{{{SHARED}, {PLACED}}}", "[{name: Fox, gpu_access: optional, vram: 1G}]", networks=NETWORK
    )
    assert problems(home_fleet, group, gpu=None) == []


@pytest.mark.parametrize("key", ["default-runtime", "runtimes", "node-generic-resources"])
def test_what_follows_from_the_gpus_is_not_the_owners_to_write(
    home_fleet: Fleet, group_of: Any, key: str
) -> None:
    values = {"default-runtime": "runc", "runtimes": {}, "node-generic-resources": []}
    group = group_of(f"{{{PLACED}}}", "[{name: Fox}]", networks=NETWORK)
    owners = {"daemon_settings": {**home_fleet.manager.daemon_settings, key: values[key]}}
    found = problems(home_fleet, group, **owners, gpu=HostGpu())
    assert len(found) == len(home_fleet.hosts)
    assert f"mainpc.daemon_settings.{key}: the host has GPUs, so Cascade itself writes {key}" in found[0]
    assert problems(home_fleet, group, **owners, gpu=HostGpu(), absent=frozenset({"gpu"})) == []


def test_a_budget_is_read_once() -> None:
    budget = Budget(mib=5)
    assert GpuUse(vram_budget=budget).vram_budget is budget
