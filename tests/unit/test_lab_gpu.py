"""What the stand-ins for a GPU say and give, read as `cascade verify` reads it of a real one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from lab.gpu import SOURCES, STATE, StandInDriver, StandInGpu, StandInProcess
from tests.verify import gpus, test_gpu

A, B = f"GPU-{'a' * 8}-0000-0000-0000-{'a' * 12}", f"GPU-{'b' * 8}-0000-0000-0000-{'b' * 12}"
TWO = StandInDriver((StandInGpu(A), StandInGpu(B, total=12288, name="Stand-in RTX 3060")))
# What the kernel alone can do, and here only writes down.
SHIMS = {"mountpoint": "exit 0", "mknod": 'printf "%s %s:%s" "$4" "$5" "$6" >"$3"'}
needs_gcc = pytest.mark.skipif(not which("gcc"), reason="no gcc here to compile the stand-in with")


def placed(name: str, folder: Path) -> str:
    """A stand-in's source, with all that it reads and writes below a folder."""
    return re.sub(
        r"/(?:dev|etc|proc|run|var)\b", lambda place: f"{folder}{place[0]}", (SOURCES / name).read_text()
    )


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for nvidia-smi, in the folder that is its host."""
    folder = tmp_path_factory.mktemp("host")
    (folder / STATE[1:]).parent.mkdir(parents=True)
    places = [f'-DSTAND_IN_STATE="{folder}{STATE}"', f'-DNOTES="{folder}/notes"']
    sources = [str(SOURCES / name) for name in ("nvidia-smi.c", "state.c")]
    subprocess.run(["gcc", *places, "-o", folder / "nvidia-smi", *sources], check=True)
    return folder / "nvidia-smi"


def said(program: Path, driver: StandInDriver, command: str) -> tuple[int, str]:
    """What nvidia-smi answers to a command of tests/verify while the driver says this."""
    (program.parent / STATE[1:]).write_text(driver.text())
    done = subprocess.run([program, *command.split()[1:]], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def loaded(folder: Path, driver: StandInDriver) -> Path:
    """A host of which the kernel has loaded this driver."""
    for name, does in SHIMS.items():
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    for name in ("dev", "proc/driver", STATE[1:]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / "dev").mkdir()
    (folder / "proc/driver").mkdir()
    (folder / STATE[1:]).write_text(driver.text())
    search = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    subprocess.run(["sh"], input=placed("load-driver", folder), text=True, env=search, check=True)
    return folder


def information(host: Path) -> str:
    return "".join(path.read_text() for path in sorted(host.glob("proc/driver/nvidia/gpus/*/information")))


@needs_gcc
def test_gpus_are_told_with_their_devices(program: Path, tmp_path: Path) -> None:
    host = loaded(tmp_path, TWO)
    code, listed = said(program, TWO, gpus.CARDS)
    assert (code, gpus.cards(listed, information(host))) == (
        0,
        {0: gpus.Card(A, 0, 24564), 1: gpus.Card(B, 1, 12288)},
    )
    assert {path.name: path.read_text() for path in (host / "dev").iterdir()} == {
        "nvidiactl": "c 195:255",
        "nvidia-uvm": "c 511:0",
        "nvidia0": "c 195:0",
        "nvidia1": "c 195:1",
    }


def test_the_kernel_tells_of_a_gpu_what_the_real_module_does(tmp_path: Path) -> None:
    host = loaded(tmp_path, TWO)
    lines = (host / "proc/driver/nvidia/gpus/0000:02:00.0/information").read_text().splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        *("Model", "IRQ", "GPU UUID", "Video BIOS", "Bus Type", "DMA Size", "DMA Mask", "Bus Location"),
        *("Device Minor", "GPU Excluded"),
    ]
    assert {"Model: \t\t Stand-in RTX 3060", f"GPU UUID: \t {B}", "Bus Location: \t 0000:02:00.0"} < {*lines}
    assert gpus.driver_version((host / "proc/driver/nvidia/version").read_text()) == TWO.module


def test_without_a_module_there_are_no_devices(tmp_path: Path) -> None:
    host = loaded(tmp_path, StandInDriver((StandInGpu(A),), module=None))
    assert [*(host / "dev").iterdir(), *(host / "proc/driver").iterdir()] == []


@needs_gcc
def test_every_gpu_has_the_same_driver(program: Path) -> None:
    assert said(program, TWO, test_gpu.LIBRARY) == (0, "580.95.05\n580.95.05\n")


@needs_gcc
def test_a_driver_and_a_library_that_differ_answer_nothing(program: Path) -> None:
    mixed = StandInDriver((StandInGpu(A),), library="590.10.01")
    for asked in (test_gpu.LIBRARY, gpus.CARDS, gpus.PROCESSES):
        code, text = said(program, mixed, asked)
        assert code
        assert "Driver/library version mismatch" in text


@needs_gcc
def test_whoever_computes_is_told_with_the_memory_of_its_gpu(program: Path) -> None:
    computing = (StandInProcess(1, 42, 512, "python3 -m model"), StandInProcess(0, 43, 7, "other"))
    code, listed = said(program, StandInDriver(TWO.gpus, computing), gpus.PROCESSES)
    assert (code, gpus.used_memory(listed)) == (0, [(A, 43, 7), (B, 42, 512)])
    assert said(program, TWO, gpus.PROCESSES) == (0, "")


@needs_gcc
@pytest.mark.parametrize(
    ("driver", "row"),
    [
        (StandInDriver((StandInGpu(A),), (StandInProcess(0, 42, -1, "python3"),)), f"{A}, 42, [N/A]"),
        (StandInDriver((StandInGpu(A),), untold=3), f"{A}, [N/A], [N/A]"),
    ],
)
def test_memory_of_which_the_driver_does_not_know_is_not_told_as_a_number(
    program: Path, driver: StandInDriver, row: str
) -> None:
    assert said(program, driver, gpus.PROCESSES) == (0, f"{row}\n")


@needs_gcc
def test_a_lost_gpu_and_a_field_that_nobody_knows_are_failures(program: Path) -> None:
    assert said(program, StandInDriver((StandInGpu(A, code=15),)), gpus.CARDS)[0] == 15
    assert said(program, TWO, gpus.CARDS.replace("uuid", "colour"))[0] == 2


def config_of(environment: str) -> dict[str, Any]:
    """The start of a container as Docker asks for it, with this alone to say what GPUs it sees."""
    denied = {"allow": False, "access": "rwm"}
    linux = {"resources": {"devices": [denied]}}
    return {"process": {"env": [environment]}, "mounts": [], "linux": linux}


def started(host: Path, environment: str) -> tuple[subprocess.CompletedProcess[str], Mapping[str, Any]]:
    """How the stand-in runtime ended, and what runc would get."""
    settings = host / "etc/nvidia-container-runtime/config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text('swarm-resource = "DOCKER_RESOURCE_GPU"\n')
    folder = host / "bundle"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_of(environment)))
    # The paths inside of the container stay as they are.
    text = placed("add-gpus", host).replace(f'"path": "{host}/dev/"', '"path": "/dev/"')
    done = subprocess.run(
        [sys.executable, "-IS", "-", folder, "c1"], input=text, capture_output=True, text=True, check=False
    )
    return done, json.loads((folder / "config.json").read_text())


def with_devices(host: Path) -> Path:
    """Its devices as some that every machine has."""
    real = {"nvidiactl": "null", "nvidia-uvm": "zero", "nvidia0": "full", "nvidia1": "random"}
    for name, other in real.items():
        (host / "dev" / name).unlink()
        (host / "dev" / name).symlink_to(f"/dev/{other}")
    return host


def test_a_container_gets_the_devices_of_its_gpus_and_may_use_them(tmp_path: Path) -> None:
    done, config = started(with_devices(loaded(tmp_path, TWO)), f"NVIDIA_VISIBLE_DEVICES={B}")
    assert done.returncode == 0, done.stderr
    numbers = {"/dev/nvidiactl": (1, 3), "/dev/nvidia-uvm": (1, 5), "/dev/nvidia1": (1, 8)}
    made = config["linux"]["devices"]
    assert {one["path"]: (one["major"], one["minor"]) for one in made} == numbers
    assert {(one["type"], one["fileMode"]) for one in made} == {("c", 0o666)}
    denied, *allowed = config["linux"]["resources"]["devices"]
    assert denied["allow"] is False
    assert {(one["major"], one["minor"]) for one in allowed} == {*numbers.values()}
    assert {(one["allow"], one["type"], one["access"]) for one in allowed} == {(True, "c", "rwm")}


@pytest.mark.parametrize("environment", ["NVIDIA_VISIBLE_DEVICES=void", "DOCKER_RESOURCE_GPU=none", "A=b"])
def test_a_container_that_sees_no_gpu_gets_nothing(tmp_path: Path, environment: str) -> None:
    done, config = started(with_devices(loaded(tmp_path, TWO)), environment)
    assert done.returncode == 0, done.stderr
    assert config == config_of(environment)


@pytest.mark.parametrize(
    ("driver", "wanted", "why"),
    [
        (TWO, "GPU-other", "GPU-other: unknown device"),
        (StandInDriver(TWO.gpus, module=None), A, "driver not loaded"),
    ],
)
def test_a_container_whose_gpu_is_not_there_does_not_start(
    tmp_path: Path, driver: StandInDriver, wanted: str, why: str
) -> None:
    done, _ = started(loaded(tmp_path, driver), f"NVIDIA_VISIBLE_DEVICES={wanted}")
    assert done.returncode == 1
    assert why in done.stderr
