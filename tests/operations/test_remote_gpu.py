"""What a host says of its GPUs: the snapshot's part, as hosts run it, on this machine."""

from __future__ import annotations

import base64
import json
import os
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from cascade.planning.understood import understood
from operations.snapshot import packed_probe, query_for
from tests.operations.engine import Engine
from tests.operations.test_remote_snapshot import WORKER, run_script

HOST = "here"
A, B = f"GPU-{'a' * 8}-0000-0000-0000-{'a' * 12}", f"GPU-{'b' * 8}-0000-0000-0000-{'b' * 12}"
TOLD: dict[str, Any] = {
    "module": "550.54.14",
    "nvml": "ok",
    "said": "",
    "library": "550.54.14",
    "driver": "550.54.14",
    "cuda": "12.4",
    "gpus": [],
    "dev_char": True,
    "cdi": [],
}
RUNNING = "/containers/json?filters=%7B%22label%22%3A%20%5B%22cascade.system%3Dcascade%22%5D%7D"


def packed(script: str) -> str:
    return base64.b64encode(zlib.compress(script.encode())).decode()


def telling(told: dict[str, Any]) -> str:
    """A probe that says this."""
    return packed(f"print({json.dumps(told)!r})")


def gpu_part(probe: str, folder: Path, **constants: Any) -> dict[str, Any]:
    """The part as a run understands it; without an engine, unless constants say where one is."""
    paths: dict[str, Any] = {"DAEMONS": (str(folder / "no-dockerd"),), "PID_FILE": str(folder / "docker.pid")}
    answer = run_script(query_for(HOST, (), "cascade", gpu=True), PROBE=probe, **paths, **constants)
    return dict(understood(answer)["gpu"])


def test_nobody_is_asked_for_gpus_where_none_are_declared(tmp_path: Path) -> None:
    answer = run_script(query_for(HOST, (), "cascade"), PROBE="no probe", DAEMONS=(str(tmp_path / "none"),))
    assert "gpu" not in answer
    assert "gpu" not in understood(answer)


def test_what_the_probe_says_is_told_with_the_toolkit_and_the_containers(tmp_path: Path) -> None:
    assert gpu_part(telling(TOLD), tmp_path) == {**TOLD, "toolkit": None, "containers": {}}


def test_a_probe_that_does_not_end_costs_its_answer_and_nothing_else(tmp_path: Path) -> None:
    began = time.monotonic()
    part = gpu_part(packed("import time\ntime.sleep(600)"), tmp_path, GPU_TIMEOUT_S=1)
    assert part == {"error": "TimeoutError: NVIDIA's library did not answer within 1 s"}
    assert time.monotonic() - began < 60


def test_a_library_that_ends_its_asker_costs_its_answer_and_nothing_else(tmp_path: Path) -> None:
    killed = "import os, sys\nprint('Segfault in libnvidia-ml', file=sys.stderr, flush=True)\nos.abort()"
    part = gpu_part(packed(killed), tmp_path)
    assert part == {"error": "ValueError: NVIDIA's library ended its asker with -6: Segfault in libnvidia-ml"}


HALF_A_BYTE: dict[str, Any] = {
    **dict.fromkeys(("uuid", "name", "memory_used", "mig", "persistence", "power_limit")),
    "index": 0,
    "memory_total": 1.5,
    "lost": "",
    "processes": [],
}
NO_ANSWERS = ("", "no JSON", "[]", '{"nvml": "ok"}', json.dumps({**TOLD, "gpus": [HALF_A_BYTE]}))


@pytest.mark.parametrize("said", NO_ANSWERS, ids=["nothing", "no JSON", "no map", "a part", "half a byte"])
def test_an_answer_that_is_none_is_an_error(said: str, tmp_path: Path) -> None:
    assert set(gpu_part(packed(f"print({said!r})"), tmp_path)) == {"error"}


def test_a_host_without_a_driver_says_so(tmp_path: Path) -> None:
    """The probe itself, on a machine that has no library of NVIDIA's."""
    if any(
        Path(folder, "libnvidia-ml.so.1").exists() for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64")
    ):
        pytest.skip("this machine has a driver of NVIDIA's")
    part = gpu_part(packed_probe(), tmp_path)
    assert (part["nvml"], part["said"], part["gpus"]) == ("missing", "NVML Shared Library Not Found", [])


def test_a_python_without_ctypes_says_so(tmp_path: Path) -> None:
    """As python3-minimal is."""
    blocked = "import sys\nsys.modules['ctypes'] = None\n"
    part = gpu_part(packed(blocked + zlib.decompress(base64.b64decode(packed_probe())).decode()), tmp_path)
    assert part["nvml"] == "no-ctypes"
    assert "ctypes" in part["said"]


def raw(said: str) -> bytes:
    """How an engine begins to pass on what a program says."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n" + said.encode()


def listed(*uuids: str) -> str:
    lines = (f"GPU {number}: NVIDIA H200 (UUID: {uuid})\r\n" for number, uuid in enumerate(uuids))
    return "".join(lines)


# As drivers 535 and 460 list an A100 with instances.
SPLIT = "GPU-7fdaf0a5-179b-f636-d15d-daf243e3ff16"
LISTED_SPLIT = f"""\
GPU 0: NVIDIA A100-SXM4-80GB (UUID: {SPLIT})\r
  MIG 1g.10gb     Device  0: (UUID: MIG-feb88891-0321-5fef-9c87-d4af3b54259e)\r
  MIG 1g.10gb     Device  1: (UUID: MIG-a25704ba-3a06-5299-a795-fd7cf4d13973)\r
"""
LISTED_OLD_SPLIT = f"""\
GPU 0: A100-SXM4-40GB (UUID: {SPLIT})\r
  MIG 3g.20gb Device 0: (UUID: MIG-{SPLIT}/1/0)\r
"""
OFF_THE_BUS = "Unable to determine the device handle for GPU0000:65:00.0: Unknown Error"
LOST = "Failed to initialize NVML: Unknown Error\r\n"
SIGHTS = {
    "sees its own": ([f"NVIDIA_VISIBLE_DEVICES={A}"], listed(A), 0, "ok"),
    "given by number": (["NVIDIA_VISIBLE_DEVICES=0"], listed(A), 0, "ok"),
    "given last": (["NVIDIA_VISIBLE_DEVICES=void", f"NVIDIA_VISIBLE_DEVICES={A}"], listed(A), 0, "ok"),
    "after a reload": ([f"NVIDIA_VISIBLE_DEVICES={A}"], LOST, 255, f"lost: {LOST.strip()}"),
    "GPU off the bus": (
        [f"NVIDIA_VISIBLE_DEVICES={A}"],
        f"{OFF_THE_BUS}\r\n",
        15,
        f"lost: {OFF_THE_BUS}",
    ),
    "no device": ([f"NVIDIA_VISIBLE_DEVICES={A}"], "No devices found.\r\n", 6, "lost: No devices found."),
    "says nothing": (
        [f"NVIDIA_VISIBLE_DEVICES={A}"],
        "",
        0,
        "unknown: nvidia-smi ended with 0: it said nothing",
    ),
    "killed for its memory": (
        [f"NVIDIA_VISIBLE_DEVICES={A}"],
        "Killed\r\n",
        137,
        "unknown: nvidia-smi ended with 137: Killed",
    ),
    "failed after it had listed": (
        [f"NVIDIA_VISIBLE_DEVICES={A}"],
        listed(B),
        1,
        f"unknown: nvidia-smi ended with 1: GPU 0: NVIDIA H200 (UUID: {B})",
    ),
    "given by its beginning": ([f"NVIDIA_VISIBLE_DEVICES={A[:12]}"], listed(A), 0, "ok"),
    "given two": ([f"NVIDIA_VISIBLE_DEVICES={B}, {A}"], listed(A, B), 0, "ok"),
    "split": ([f"NVIDIA_VISIBLE_DEVICES={SPLIT}"], LISTED_SPLIT, 0, "ok"),
    "split, by an old driver": ([f"NVIDIA_VISIBLE_DEVICES={SPLIT}"], LISTED_OLD_SPLIT, 0, "ok"),
    "given an instance": ([f"NVIDIA_VISIBLE_DEVICES=MIG-{SPLIT}/1/0"], LISTED_OLD_SPLIT, 0, "ok"),
    "sees another": (
        [f"NVIDIA_VISIBLE_DEVICES={A}"],
        listed(B),
        0,
        f"lost: it sees {B}, and was given {A}",
    ),
    "sees more": (
        [f"NVIDIA_VISIBLE_DEVICES={A}"],
        listed(A, B),
        0,
        f"lost: it sees {A}, {B}, and was given {A}",
    ),
    "has no nvidia-smi": (
        [f"NVIDIA_VISIBLE_DEVICES={A}"],
        "OCI runtime exec failed: no such file\r\n",
        127,
        "unknown: nvidia-smi ended with 127: OCI runtime exec failed: no such file",
    ),
    "has no GPU": (["NVIDIA_VISIBLE_DEVICES=void"], listed(A), 0, None),
    "knows no GPU": ([], listed(A), 0, None),
}


def sights(engine: Engine, folder: Path, answers: dict[str, Any], told: dict[str, Any]) -> Any:
    """What the part says of containers, by an engine that answers so."""
    (folder / "docker.pid").write_text(f"{os.getpid()}\n")
    engine.answers = WORKER | answers
    constants: dict[str, Any] = {
        "SOCKET": str(engine.path),
        "PID_FILE": str(folder / "docker.pid"),
        "DAEMONS": (sys.executable,),
        "PROBE": telling(told),
    }
    return run_script(query_for(HOST, (), "cascade", gpu=True), **constants)["gpu"]["containers"]


def one_container(environment: list[str] | None, said: bytes, code: int) -> dict[str, Any]:
    return {
        RUNNING: [{"Id": "c9"}],
        "/containers/c9/json": {"Config": {"Env": environment}},
        "/containers/c9/exec": {"Id": "e9"},
        "/exec/e9/start": said,
        "/exec/e9/json": {"ExitCode": code},
    }


@pytest.mark.parametrize("case", SIGHTS.values(), ids=SIGHTS)
def test_a_container_is_asked_what_it_sees(
    case: tuple[list[str], str, int, str | None], engine: Engine, tmp_path: Path
) -> None:
    environment, said, code, expected = case
    answers = one_container(environment, raw(said), code)
    assert sights(engine, tmp_path, answers, TOLD) == ({"c9": expected} if expected is not None else {})
    if expected is not None:
        (asked,) = (call for call in engine.asked if call.path == "/containers/c9/exec")
        assert asked.body["Cmd"] == ["nvidia-smi", "-L"]


@pytest.mark.parametrize(
    ("words", "sees"),
    [
        ("Driver Not Loaded", "lost"),
        ("Driver/library version mismatch", "lost"),
        ("GPU is lost", "lost"),
        ("Insufficient Permissions", "unknown"),
    ],
)
def test_only_a_gpu_that_is_out_of_reach_is_lost(
    words: str, sees: str, engine: Engine, tmp_path: Path
) -> None:
    said = raw(f"Failed to initialize NVML: {words}\r\n")
    answers = one_container([f"NVIDIA_VISIBLE_DEVICES={A}"], said, 255)
    assert sights(engine, tmp_path, answers, TOLD)["c9"].partition(":")[0] == sees


def test_a_container_that_cannot_be_asked_is_unknown_and_one_that_has_gone_is_none(
    engine: Engine, tmp_path: Path
) -> None:
    fault = b"HTTP/1.0 500 Fault\r\n\r\nthe runtime hangs"
    refused = one_container([f"NVIDIA_VISIBLE_DEVICES={A}"], fault, 0)
    gone = {RUNNING: [{"Id": "c8"}, {"Id": "c9"}]}
    found = sights(engine, tmp_path, refused | gone, TOLD)
    assert found == {"c9": "unknown: ValueError: nvidia-smi -L answered 500: the runtime hangs"}


@pytest.mark.parametrize("nvml", ["lost", "mismatch", "no-gpu", "failed"])
def test_nobody_asks_inside_while_the_driver_does_not_answer_outside(
    nvml: str, engine: Engine, tmp_path: Path
) -> None:
    answers = one_container([f"NVIDIA_VISIBLE_DEVICES={A}"], raw(LOST), 255)
    assert sights(engine, tmp_path, answers, {**TOLD, "nvml": nvml}) == {}
