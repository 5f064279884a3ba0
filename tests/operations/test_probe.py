"""The probe of GPUs, with pynvml as it is, on the stand-in for NVIDIA's library; run as a host runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from cascade.model.gpu import Gpu
from cascade.planning.gpu import gpus_in, why_unknown
from cascade.planning.understood import _GPU, _checked
from lab.gpu import SOURCES, StandInDriver, StandInGpu, StandInProcess
from operations.snapshot import probe_source

pytestmark = pytest.mark.skipif(not which("gcc"), reason="no gcc here to compile the stand-in library with")

A, B = f"GPU-{'a' * 8}-0000-0000-0000-{'a' * 12}", f"GPU-{'b' * 8}-0000-0000-0000-{'b' * 12}"
MIB = 2**20
ONE = StandInDriver(gpus=(StandInGpu(A),))
MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {0}  Thu Feb 22 01:44:30 UTC 2024\n"
# As machines with these drivers have it, between 2008 and 2026.
SAID_BY_MODULES = {
    "169.12": "NVRM version: NVIDIA UNIX x86 Kernel Module  169.12  Thu Feb 14 17:53:07 PST 2008",
    "384.81": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  384.81  Wed Aug 17 22:24:07 PDT 2016",
    "390.48": "NVRM version: NVIDIA UNIX x86_64 Kernel Module 390.48 Thu Mar 22 00:42:57 PDT 2018",
    "515.65.01": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  515.65.01  Wed Mar 16 11:24:05 UTC 2022",
    "540.4.0": "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (builder)",
    "595.91.07": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  595.91.07  Release Build",
}

Probe = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stand-in library, which reads the state that lies beside it."""
    folder = tmp_path_factory.mktemp("library")
    sources = [str(SOURCES / name) for name in ("nvml.c", "state.c")]
    state = f'-DSTAND_IN_STATE="{folder}/state"'
    made = str(folder / "libnvidia-ml.so.1")
    subprocess.run(["gcc", "-shared", "-fPIC", state, "-o", made, *sources], check=True)
    return folder


@pytest.fixture
def probe(library: Path, tmp_path: Path) -> Probe:
    """What the probe says of a host with this driver; constants of the script may be others."""

    def ask(driver: StandInDriver, line: str = MODULE, **constants: Any) -> dict[str, Any]:
        (library / "state").write_text(driver.text())
        version = tmp_path / "version"
        if driver.module:
            version.write_text(line.format(driver.module))
        done = run(library, {"DRIVER": str(version), "CDI_FOLDERS": (str(tmp_path / "cdi"),), **constants})
        return dict(_checked({**json.loads(done.stdout), "toolkit": None, "containers": {}}, _GPU))

    return ask


def run(library: Path, constants: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    text = probe_source()
    for name, value in constants.items():
        (line,) = (line for line in text.split("\n") if line.startswith(f"{name} = "))
        text = text.replace(f"\n{line}\n", f"\n{name} = {value!r}\n")
    return subprocess.run(
        [sys.executable, "-IS", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LD_LIBRARY_PATH": str(library)},
    )


def test_a_gpu_is_told_with_all_that_is_known_of_it(probe: Probe) -> None:
    told = probe(ONE)
    assert {name: told[name] for name in ("module", "nvml", "said", "library", "driver", "cuda")} == {
        "module": "580.95.05",
        "nvml": "ok",
        "said": "",
        "library": "580.95.05",
        "driver": "580.95.05",
        "cuda": "13.0",
    }
    assert told["gpus"] == [
        {
            "index": 0,
            "uuid": A,
            "name": "Stand-in RTX 4090",
            "memory_total": 24564 * MIB,
            "memory_used": 300 * MIB,
            "mig": None,
            "persistence": False,
            "power_limit": 450_000,
            "lost": "",
            "processes": [],
        }
    ]


def test_gpus_come_in_their_order_with_what_is_set_of_each(probe: Probe) -> None:
    driver = StandInDriver(gpus=(StandInGpu(B, total=81920, persistence=True, mig=1), StandInGpu(A, mig=0)))
    told = probe(driver)
    assert [(gpu["index"], gpu["uuid"], gpu["mig"], gpu["persistence"]) for gpu in told["gpus"]] == [
        (0, B, True, True),
        (1, A, False, False),
    ]
    assert gpus_in({"gpu": told}) == (
        Gpu(0, B, "Stand-in RTX 4090", 81920),
        Gpu(1, A, "Stand-in RTX 4090", 24564),
    )


CONTAINER = "c" * 64
GROUPS = {
    "second version": f"0::/system.slice/docker-{CONTAINER}.scope\n",
    "first version": f"12:pids:/docker/{CONTAINER}\n11:memory:/docker/{CONTAINER}\n",
}


def test_a_process_is_told_with_its_name_and_its_memory(probe: Probe) -> None:
    own, gone = os.getpid(), 4_194_303
    processes = (StandInProcess(0, own, 1500, "python3"), StandInProcess(0, gone, -1, "gone"))
    (gpu,) = probe(replace(ONE, processes=processes))["gpus"]
    by_pid = {process["pid"]: process for process in gpu["processes"]}
    assert by_pid[own]["memory"] == 1500 * MIB
    assert by_pid[own]["name"] == Path(f"/proc/{own}/comm").read_text().strip()
    assert by_pid[gone] == {"pid": gone, "memory": None, "name": "", "container": ""}


def test_a_card_without_a_power_limit_has_none(probe: Probe) -> None:
    (gpu,) = probe(StandInDriver(gpus=(StandInGpu(A, watts=-1),)))["gpus"]
    assert (gpu["power_limit"], gpu["lost"]) == (None, "")


@pytest.mark.parametrize("code", [3, 4, 13], ids=["not supported", "no permission", "no such call"])
def test_a_driver_that_tells_no_processes_says_so_and_the_rest(code: int, probe: Probe) -> None:
    (gpu,) = probe(replace(ONE, untold=code))["gpus"]
    assert (gpu["processes"], gpu["lost"], gpu["memory_used"]) == (None, "", 300 * MIB)


@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
def test_a_process_is_known_by_its_container(groups: str, probe: Probe, tmp_path: Path) -> None:
    for pid, said in ((7, groups), (8, "0::/user.slice/user-1000.slice\n")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(said)
        (tmp_path / str(pid) / "comm").write_text("python3\n")
    processes = (StandInProcess(0, 7, 1, "x"), StandInProcess(0, 8, 2, "x"))
    (gpu,) = probe(replace(ONE, processes=processes), PROCESSES=str(tmp_path))["gpus"]
    assert [(one["pid"], one["container"]) for one in gpu["processes"]] == [(7, CONTAINER), (8, "")]


@pytest.mark.parametrize(
    ("driver", "nvml", "said"),
    [
        (replace(ONE, module=None), "no-driver", "Driver Not Loaded"),
        (replace(ONE, library="580.105.08"), "mismatch", "RM has detected an NVML/RM version mismatch."),
        (replace(ONE, gpus=()), "no-gpu", ""),
        (replace(ONE, init=15), "lost", "GPU is lost"),
        (replace(ONE, init=999), "failed", "Unknown Error"),
        (StandInDriver(gpus=(StandInGpu(A, code=15),)), "lost", "GPU is lost"),
        (StandInDriver(gpus=(StandInGpu(B), StandInGpu(A, code=999))), "lost", "Unknown Error"),
    ],
    ids=["no module", "mismatch", "no GPU", "all lost", "failed", "lost", "one of two lost"],
)
def test_each_failure_has_its_name_and_the_librarys_words(
    driver: StandInDriver, nvml: str, said: str, probe: Probe
) -> None:
    told = probe(driver)
    assert (told["nvml"], told["said"].partition(" (")[0]) == (nvml, said)
    assert gpus_in({"gpu": told}) is None
    assert why_unknown({"gpu": told})


@pytest.mark.parametrize("version", ["340.108", "470.57.02", "550.78", "580.95.05"])
def test_a_library_is_of_its_drivers_version_without_that_of_cuda(version: str, probe: Probe) -> None:
    for cuda in (6050, 13000):
        assert probe(replace(ONE, library=version, module=version, cuda=cuda))["library"] == version


def test_a_mismatch_names_both_versions(probe: Probe) -> None:
    told = probe(replace(ONE, library="580.105.08"))
    assert why_unknown({"gpu": told}).startswith(
        "the kernel has the driver's module 580.95.05, the library is of 580.105.08; reboot"
    )


def test_a_lost_gpu_leaves_the_others_told(probe: Probe) -> None:
    told = probe(StandInDriver(gpus=(StandInGpu(B), StandInGpu(A, code=15))))
    assert [(gpu["uuid"], bool(gpu["lost"])) for gpu in told["gpus"]] == [(B, False), (None, True)]


@pytest.mark.parametrize("version", SAID_BY_MODULES)
def test_a_module_of_any_age_says_its_version(version: str, probe: Probe) -> None:
    assert probe(ONE, SAID_BY_MODULES[version])["module"] == version


def test_a_module_that_says_something_else_has_no_version(probe: Probe) -> None:
    assert probe(ONE, "a module of tomorrow\n")["module"] == ""


def test_files_of_cdi_are_named(probe: Probe, tmp_path: Path) -> None:
    (tmp_path / "cdi").mkdir()
    for name in ("nvidia.yaml", "other.json", "nothing.txt"):
        (tmp_path / "cdi" / name).touch()
    assert probe(ONE)["cdi"] == [str(tmp_path / "cdi" / name) for name in ("nvidia.yaml", "other.json")]


def test_a_device_without_a_link_by_its_number_is_noticed(probe: Probe, tmp_path: Path) -> None:
    devices, links = tmp_path / "dev", tmp_path / "char"
    devices.mkdir()
    links.mkdir()
    places = {"DEVICES": str(devices), "CHAR_DEVICES": str(links)}
    assert probe(ONE, **places)["dev_char"] is True
    for name in ("nvidia0", "nvidia-uvm"):
        (devices / name).symlink_to("/dev/null")
    assert probe(ONE, **places)["dev_char"] is False
    number = Path("/dev/null").stat().st_rdev
    (links / f"{os.major(number)}:{os.minor(number)}").symlink_to("/dev/null")
    assert probe(ONE, **places)["dev_char"] is True
    (devices / "nvidia-caps-of-another-kind").symlink_to("/dev/zero")
    assert probe(ONE, **places)["dev_char"] is True
