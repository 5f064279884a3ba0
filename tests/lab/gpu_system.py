"""A small system whose hosts have stand-ins for GPUs; it stands in tests/lab/gpu.

Group plain: Clerk, without a GPU, on MainPC. Group ai: Inference and Embedding, which share MainPC's GPU.
Group edge: Speech, on PC2's GPU.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from lab.engine import reachable_engine
from lab.gpu import (
    HOME,
    KEY_URL,
    REPOSITORY,
    StandInDriver,
    StandInGpu,
    StandIns,
    give_gpus,
    set_driver,
    stand_in_gpus,
)
from lab.hosts import HOSTS, host_named
from tests.lab.conftest import ROOT, Checkout, on_host, project_with

UUIDS = {
    "mainpc": "GPU-11111111-1111-4111-8111-111111111111",
    "pc2": "GPU-22222222-2222-4222-8222-222222222222",
}
DRIVERS = {
    "mainpc": StandInDriver((StandInGpu(UUIDS["mainpc"]),)),
    "pc2": StandInDriver((StandInGpu(UUIDS["pc2"], total=12288, watts=170, name="Stand-in RTX 3060"),)),
}
STACKS = "group_data/stacks/gpus"
# Where the hosts serve the repository from.
SERVED = f"/{HOME}/apt"


def stand_ins() -> StandIns:
    """The stand-ins of this checkout."""
    return stand_in_gpus(ROOT / ".lab")


def gpu_system(path: Path) -> Checkout:
    """The small system with the stand-ins' repository, and the key that signs it, in its group_data."""
    key = stand_ins().fingerprints["first"]
    settings = (
        "\nfrom cascade.model.gpu import HostGpu\n\n"
        f'gpu = HostGpu(repository="{REPOSITORY}", key="{key}", key_url="{KEY_URL}")\n'
    )
    return project_with(path, "gpu", settings)


def equip() -> None:
    """Gives every host its GPU and the repository, all at the same time."""
    engine, made = reachable_engine(), stand_ins()
    assert engine
    with ThreadPoolExecutor(len(HOSTS)) as pool:
        given = [pool.submit(give_gpus, engine, host.container, made, DRIVERS[host.name]) for host in HOSTS]
    for done in given:
        done.result()


def tell(host: str, driver: StandInDriver) -> None:
    """Lets a host's driver say this from now on."""
    engine = reachable_engine()
    assert engine
    set_driver(engine, host_named(host).container, driver)


def as_set_up(host: str) -> StandInDriver:
    """What a host's driver says once Cascade has set up its GPU."""
    driver = DRIVERS[host]
    return replace(driver, gpus=tuple(replace(gpu, persistence=True) for gpu in driver.gpus))


def asked_of_the_runtime(host: str) -> dict[str, str]:
    """What the stand-in runtime gave each container that it was asked for, by the container's ID."""
    lines = on_host(host, "cat /var/lib/nvidia-stand-in/asked").splitlines()
    return dict(line.split(" ", 1) for line in lines)
