"""One GPU for several agents: shared to the last MiB, and every failure of it found, told and mended."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from cascade.exit_codes import ERROR, ROLLED_BACK
from lab.errors import LabError
from lab.gpu import StandInDriver, StandInProcess
from lab.polling import until
from tests.lab.conftest import ROOT, Checkout, look, on_host
from tests.lab.gpu_system import STACKS, as_set_up, tell
from tests.lab.test_fleet_verified import verify, wrong

OFFERED = 19651
ONE_MORE = f"""
      - name: Extra
        port: 8004
        health_port: 8005
        vram: {OFFERED - 12 * 1024 + 1}M
"""
# Every test of the area by its sentence, and those that name what is done here.
CLAIMS = {
    name.replace("_", " ")
    for name in re.findall(r"^def test_(\w+)", (ROOT / "tests/verify/test_gpu.py").read_text(), re.MULTILINE)
}
FITS = "the driver that the kernel of the host has loaded is that of its library"
SEES = "no replica sees a gpu that is not its own"
BUDGET = "no group has more memory of the gpus of the host than its budget"
AGENTS = {"ai_inference", "ai_embedding", "edge_speech", "plain_clerk"}
# What a container is given beside its file.
CONFINED = "nothing_is_mounted_but or has_the_devices_that_its_file_gives"


def reserved() -> int:
    """What the services have of MainPC's GPU, in MiB."""
    ids = on_host("mainpc", "docker service ls -q --filter label=cascade.group=ai")
    return sum(
        resource["DiscreteResourceSpec"]["Value"]
        for service in json.loads(on_host("mainpc", f"docker service inspect {ids.replace(chr(10), ' ')}"))
        for resource in service["Spec"]["TaskTemplate"]["Resources"]["Reservations"]["GenericResources"]
    )


def containers(host: str) -> dict[str, str]:
    """The running agents of a host, by name, with the IDs of their containers."""
    lines = look(host, "docker ps --no-trunc --format '{{.Names}} {{.ID}}'").splitlines()
    return {
        name.partition(".")[0]: container for name, _, container in (line.partition(" ") for line in lines)
    }


@pytest.fixture
def driver(gpu_trial: Checkout) -> Iterator[StandInDriver]:
    """What MainPC's driver says; afterwards it says so again."""
    assert gpu_trial
    as_it_is = as_set_up("mainpc")
    yield as_it_is
    tell("mainpc", as_it_is)


@pytest.mark.usefixtures("gpu_trial")
def test_a_gpu_that_is_full_to_the_last_mib_has_no_room_for_one_more() -> None:
    assert reserved() == OFFERED
    on_host(
        "mainpc",
        "docker service create --quiet --detach --no-resolve-image --name more --generic-resource vram=1"
        " busybox true",
    )

    def refused() -> str:
        said = look("mainpc", "docker service ps more --no-trunc --format '{{.CurrentState}} {{.Error}}'")
        if "insufficient resources" not in said:
            raise LabError("the Swarm", f"says {said!r}", "look at the service more")
        return said

    try:
        assert "Pending" in until("the Swarm", refused, timeout_s=30, next_step="look at it")
    finally:
        on_host("mainpc", "docker service rm more")


def test_an_agent_for_whom_there_is_no_room_is_refused_before_anything_starts(gpu_variant: Checkout) -> None:
    before = containers("mainpc")
    file = f"{STACKS}/ai.yaml"
    gpu_variant.change(file, "      - name: Embedding", f"{ONE_MORE.lstrip(chr(10))}      - name: Embedding")
    gpu_variant.change(file, "health_port: 8003", "health_port: 8003\n        vram: 1M")
    refused = gpu_variant.deploy()
    assert refused.code == ERROR
    assert f"mainpc offers {OFFERED} MiB, {OFFERED + 2} requested" in refused.err
    assert containers("mainpc") == before


def test_agents_of_a_full_gpu_are_updated(gpu_variant: Checkout) -> None:
    before = containers("mainpc")
    gpu_variant.change(
        f"{STACKS}/ai.yaml", "    runtime: nvidia\n", "    runtime: nvidia\n    environment: {ROUND: two}\n"
    )
    gpu_variant.deploy().ok()
    after = containers("mainpc")
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {"ai_inference", "ai_embedding"}
    assert reserved() == OFFERED


def broken(**said: Any) -> Any:
    return lambda driver: replace(driver, **said)


def lost(driver: StandInDriver) -> StandInDriver:
    return replace(driver, gpus=tuple(replace(gpu, code=15) for gpu in driver.gpus))


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (
            broken(library="590.10.01"),
            "the kernel has the driver's module 580.95.05, the library is of 590.10.01",
        ),
        (broken(module=None), "the driver's module is not loaded"),
        (broken(gpus=()), "the driver finds no GPU"),
        (lost, "lost: GPU 0: GPU is lost"),
        (broken(init=999), "the driver fails: Unknown Error"),
        (broken(init=-1), "NVIDIA's library ended its asker"),
        (broken(init=-2), "NVIDIA's library did not answer within 20 s"),
    ],
    ids=["mismatch", "no driver", "no GPU", "lost", "unknown error", "crash", "hang"],
)
def test_a_driver_that_fails_is_told_and_nothing_is_changed(
    gpu_trial: Checkout, driver: StandInDriver, breaks: Any, said: str
) -> None:
    before = containers("mainpc")
    tell("mainpc", breaks(driver))
    drift = gpu_trial.run_alone("cascade", "drift", "--repair", "inventories/lab.py")
    assert drift.code == ERROR
    assert said in drift.out + drift.err
    tell("mainpc", driver)
    assert containers("mainpc") == before


def test_a_container_that_has_lost_its_gpu_is_made_anew_and_no_other(gpu_trial: Checkout) -> None:
    before = containers("mainpc")
    on_host("mainpc", f"touch /run/nvidia-stand-in/{before['ai_embedding']}/lost")
    found = gpu_trial.drift().document["findings"]
    assert {(item["name"], item["repair"]) for item in found} == {("ai_embedding", "automatic")}
    gpu_trial.run("cascade", "drift", "--repair", "inventories/lab.py").ok()
    after = containers("mainpc")
    assert {name for name in after if after[name] != before[name]} == {"ai_embedding"}
    assert gpu_trial.drift().code == 0


def test_a_foreign_process_that_has_the_budget_stops_the_group_and_is_named(
    gpu_variant: Checkout, driver: StandInDriver
) -> None:
    before = containers("mainpc")
    pid = int(on_host("mainpc", "cat /run/sshd.pid 2>/dev/null || pgrep -o sshd"))
    foreign = StandInProcess(0, pid, 6000, "/usr/sbin/sshd")
    (gpu,) = driver.gpus
    tell("mainpc", replace(driver, gpus=(replace(gpu, used=6300),), processes=(foreign,)))
    gpu_variant.change(
        f"{STACKS}/ai.yaml", "    runtime: nvidia\n", "    runtime: nvidia\n    environment: {ROUND: three}\n"
    )
    refused = gpu_variant.run_alone("pyinfra", "-y", "inventories/lab.py", "deploy.py")
    tell("mainpc", driver)
    assert refused.code not in (0, 2)
    assert f"sshd (PID {pid}) has 6000 MiB" in refused.err
    assert containers("mainpc") == before


def main_process(container: str) -> int:
    return int(on_host("mainpc", f"docker inspect -f '{{{{.State.Pid}}}}' {container}"))


def greedy(driver: StandInDriver) -> StandInDriver:
    """A driver of whose GPU Inference has one MiB more than its group may have."""
    process = main_process(containers("mainpc")["ai_inference"])
    (gpu,) = driver.gpus
    taken = StandInProcess(0, process, OFFERED + 1, "python3")
    return replace(driver, gpus=(replace(gpu, used=OFFERED + 301),), processes=(taken,))


def test_a_group_above_its_budget_gets_back_what_it_had(gpu_variant: Checkout, driver: StandInDriver) -> None:
    before = containers("mainpc")
    tell("mainpc", greedy(driver))
    gpu_variant.change(
        f"{STACKS}/ai.yaml",
        "health_port: 8003",
        "health_port: 8003\n        environment: {ROUND: four}",
    )
    failed = gpu_variant.run_alone("pyinfra", "-y", "inventories/lab.py", "deploy.py")
    tell("mainpc", driver)
    assert failed.code == ROLLED_BACK
    assert f"{OFFERED + 1} MiB of GPU 0 of mainpc, the budget is {OFFERED}" in failed.err
    after = containers("mainpc")
    assert after["ai_inference"] == before["ai_inference"]
    environment = on_host("mainpc", f"docker inspect -f '{{{{.Config.Env}}}}' {after['ai_embedding']}")
    assert "ROUND" not in environment


def test_memory_of_which_nobody_knows_whose_it_is_is_told(gpu_trial: Checkout, driver: StandInDriver) -> None:
    (gpu,) = driver.gpus
    tell("mainpc", replace(driver, gpus=(replace(gpu, used=6300),), untold=3))
    doctor = gpu_trial.run("cascade", "doctor", "inventories/lab.py")
    tell("mainpc", driver)
    assert "GPU 0: the driver does not tell who has the 6300 MiB that are in use" in doctor.out


def test_a_power_limit_that_a_card_does_not_know_holds_up_nothing(
    gpu_variant: Checkout, driver: StandInDriver
) -> None:
    (gpu,) = driver.gpus
    tell("mainpc", replace(driver, gpus=(replace(gpu, watts=-1),)))
    gpu_variant.change("group_data/lab.py", "HostGpu(", "HostGpu(power_limit=150, ")
    gpu_variant.deploy().ok()
    planned = gpu_variant.dry().planned
    doctor = gpu_variant.run("cascade", "doctor", "inventories/lab.py")
    tell("mainpc", driver)
    assert planned == []
    assert "GPU 0 knows no power limit: 150 W of group_data are not set" in doctor.out


def test_a_release_whose_gpu_is_gone_is_not_gone_back_to(
    gpu_variant: Checkout, driver: StandInDriver
) -> None:
    gpu_variant.change(
        f"{STACKS}/ai.yaml", "    runtime: nvidia\n", "    runtime: nvidia\n    environment: {ROUND: five}\n"
    )
    gpu_variant.deploy().ok()
    before = containers("mainpc")
    (gpu,) = driver.gpus
    other = replace(gpu, uuid="GPU-33333333-3333-4333-8333-333333333333")
    tell("mainpc", replace(driver, gpus=(other,)))
    refused = gpu_variant.run_alone("cascade", "rollback", "inventories/lab.py", "--yes")
    tell("mainpc", driver)
    assert refused.code == ERROR
    assert f"mainpc: GPU: there is no {gpu.uuid} any more: put it back" in refused.out + refused.err
    assert containers("mainpc") == before


def judged(checkout: Checkout) -> Any:
    """What a verification says of the GPUs."""
    return verify(checkout, "--area", "gpu").document


def test_verification_passes_all_that_it_says_of_gpus(gpu_trial: Checkout) -> None:
    found = judged(gpu_trial)
    assert wrong(found) == {}
    assert {one["test"] for one in found["results"] if one["outcome"] == "passed"} == CLAIMS


def test_what_the_runtime_gives_to_a_container_is_no_fault_of_its_file(gpu_trial: Checkout) -> None:
    found = verify(gpu_trial, "-k", CONFINED).document
    assert wrong(found) == {}
    passed = [(one["test"], one["subject"]) for one in found["results"] if one["outcome"] == "passed"]
    assert len({test for test, _ in passed}) == 2
    assert {subject for _, subject in passed} == AGENTS


def test_verification_catches_more_memory_than_the_budget(gpu_trial: Checkout, driver: StandInDriver) -> None:
    tell("mainpc", greedy(driver))
    assert wrong(judged(gpu_trial)) == {
        (BUDGET, "mainpc"): f"assert {{'ai': '{OFFERED + 1} MiB of {OFFERED} MiB'}} == {{}}"
    }


def test_verification_catches_a_device_in_the_container_of_an_agent_without_gpu(gpu_trial: Checkout) -> None:
    device = f"/proc/{main_process(containers('mainpc')['plain_clerk'])}/root/dev/nvidia0"
    on_host("mainpc", f"mknod {device} c 195 0")
    try:
        found = wrong(judged(gpu_trial))
    finally:
        on_host("mainpc", f"rm {device}")
    assert found.keys() == {(SEES, "plain_clerk")}


def test_verification_catches_a_driver_that_is_not_that_of_its_library(
    gpu_trial: Checkout, driver: StandInDriver
) -> None:
    tell("mainpc", replace(driver, library="590.10.01"))
    found = judged(gpu_trial)
    assert wrong(found, "failed").keys() == {(FITS, "mainpc")}
    unknown = wrong(found, "unknown")
    assert {subject for _, subject in unknown} == {"mainpc", "ai_inference", "ai_embedding"}
    assert all("Driver/library version mismatch" in reason for reason in unknown.values())
