"""The probe on a real GPU of NVIDIA's, where this machine has one; and what real ones answered elsewhere."""

from __future__ import annotations

import ctypes
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cascade.planning.gpu import fault_of, gpus_in
from cascade.planning.understood import understood
from operations.snapshot import packed_probe, query_for
from tests.operations.test_remote_snapshot import run_script

ANSWERS = sorted(Path(__file__).parent.glob("*.json"))
WITHOUT_ENGINE: dict[str, Any] = {"toolkit": None, "containers": {}}
REST: dict[str, Any] = {"packages": {}, "files": {}, "sysctls": {}, "units": {}, "docker": None}


def driver_is_here() -> bool:
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return Path("/proc/driver/nvidia/version").exists()


@pytest.mark.skipif(not driver_is_here(), reason="this machine has no driver of NVIDIA's, so no GPU to ask")
def test_a_real_gpu_answers_as_nvidias_own_program_does(tmp_path: Path) -> None:
    paths: dict[str, Any] = {"DAEMONS": (str(tmp_path / "none"),), "PID_FILE": str(tmp_path / "none")}
    answer = run_script(query_for("here", (), "cascade", gpu=True), PROBE=packed_probe(), **paths)
    found = understood(answer)
    said = subprocess.run(
        ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    gpus = gpus_in(found) or ()
    assert [f"{gpu.index}, {gpu.uuid}, {gpu.name}, {gpu.memory_mib}" for gpu in gpus] == said.splitlines()
    assert fault_of(found["gpu"]) == ""


@pytest.mark.skipif(not ANSWERS, reason="no answer of a real GPU has been captured: tests/gpu/capture.py")
def test_what_real_gpus_answered_is_understood() -> None:
    for path in ANSWERS:
        captured = json.loads(path.read_text())
        for told in (captured["idle"], captured["held"]):
            found = understood({**REST, "gpu": {**told, **WITHOUT_ENGINE}})
            assert "error" not in found["gpu"], path.name
            assert gpus_in(found), path.name
        held = {one["pid"] for gpu in captured["held"]["gpus"] for one in gpu["processes"]}
        before = {one["pid"] for gpu in captured["idle"]["gpus"] for one in gpu["processes"]}
        assert len(held - before) == 1, path.name
