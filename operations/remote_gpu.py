"""Runs on a host with GPUs, in a process of its own below the snapshot: what NVIDIA's driver says of them.

A lost GPU may keep its asker waiting for ever, and a fault in the library ends the process that loaded it.
The deploying machine prepends PYNVML, the source of the module `pynvml`; the answer is one JSON object. What
is absent is None.
"""

import json
import os
import re
import stat
import sys
import types
from typing import Any

PYNVML = globals().get("PYNVML", "")
DRIVER = "/proc/driver/nvidia/version"
PROCESSES = "/proc"
DEVICES = "/dev"
CHAR_DEVICES = "/dev/char"
CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi")
# Those for which the toolkit makes links, without which a container loses its GPU when systemd reloads.
LINKED = re.compile("nvidia([0-9]+|ctl|-modeset|-uvm|-uvm-tools)")
MODULE = re.compile(r"Kernel Module.*?  ?([0-9]+\.[0-9.]+)")
CONTAINER = re.compile("[0-9a-f]{64}")
# NVML's own names for what ends its start.
STARTS = {
    "NVML_ERROR_LIBRARY_NOT_FOUND": "missing",
    "NVML_ERROR_DRIVER_NOT_LOADED": "no-driver",
    "NVML_ERROR_LIB_RM_VERSION_MISMATCH": "mismatch",
    "NVML_ERROR_GPU_IS_LOST": "lost",
}
# Calls that old drivers and small cards do not know.
UNKNOWN_TO_SOME = ("NVML_ERROR_NOT_SUPPORTED", "NVML_ERROR_FUNCTION_NOT_FOUND")
UNTOLD_TO_SOME = (*UNKNOWN_TO_SOME, "NVML_ERROR_NO_PERMISSION")
MEMORY_OF_PROCESSES = ("ComputeRunningProcesses", "GraphicsRunningProcesses")


def probe() -> Any:
    told = {"module": module(), "cdi": cdi(), "dev_char": False, "driver": None, "cuda": None, "gpus": []}
    try:
        nvml = loaded()
    except ImportError as error:
        return {**told, "nvml": "no-ctypes", "said": str(error), "library": None}
    told.update(asked(nvml))
    # Only now: asking for the GPUs makes the files of their devices.
    told["dev_char"] = linked()
    return told


def module() -> "str | None":
    """The version of the kernel module that is loaded."""
    try:
        with open(DRIVER, encoding="utf-8", errors="replace") as said:
            found = MODULE.search(said.read())
    except FileNotFoundError:
        return None
    return found.group(1) if found else ""


def cdi() -> list[str]:
    """The files that tell container engines of devices."""
    folders = [folder for folder in CDI_FOLDERS if os.path.isdir(folder)]
    paths = sorted(folder + "/" + name for folder in folders for name in os.listdir(folder))
    return [path for path in paths if path.endswith((".yaml", ".yml", ".json")) and path.isprintable()]


def linked() -> bool:
    """Whether every device of the driver stands in /dev/char by its number too."""
    paths = [DEVICES + "/" + name for name in os.listdir(DEVICES) if LINKED.fullmatch(name)]
    numbers = [os.stat(path).st_rdev for path in paths if stat.S_ISCHR(os.stat(path).st_mode)]
    return all(
        os.path.exists("%s/%d:%d" % (CHAR_DEVICES, os.major(number), os.minor(number))) for number in numbers
    )


def loaded() -> Any:
    """The module whose source came along."""
    made = types.ModuleType("pynvml")
    sys.modules["pynvml"] = made
    exec(compile(PYNVML, "pynvml.py", "exec"), made.__dict__)  # noqa: S102
    return made


def asked(nvml: Any) -> Any:
    """What the library says of the driver and of each GPU, or why it says nothing."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        reason = next((said for name, said in STARTS.items() if is_one(nvml, error, name)), "failed")
        return {"nvml": reason, "said": str(error), "library": library(nvml)}
    try:
        gpus = [gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
        cuda = nvml.nvmlSystemGetCudaDriverVersion()
        told = {
            "library": library(nvml),
            "driver": nvml.nvmlSystemGetDriverVersion(),
            "cuda": "%d.%d" % (cuda // 1000, cuda % 1000 // 10),
            "gpus": gpus,
        }
    except nvml.NVMLError as error:
        return {"nvml": "failed", "said": str(error), "library": library(nvml)}
    lost = [found for found in gpus if found["lost"]]
    if lost:
        return {**told, "nvml": "lost", "said": lost[0]["lost"]}
    return {**told, "nvml": "ok" if gpus else "no-gpu", "said": ""}


def is_one(nvml: Any, error: Any, name: str) -> bool:
    return bool(error.value == getattr(nvml, name))


def library(nvml: Any) -> "str | None":
    """The version of the library, which it tells though it cannot talk to the kernel's module."""
    try:
        # It begins with that of CUDA; those of drivers begin with three digits since there is this library.
        return re.sub(r"^[0-9]{1,2}\.(?=[0-9]{3}\.)", "", nvml.nvmlSystemGetNVMLVersion())
    except nvml.NVMLError:
        return None


def gpu(nvml: Any, index: int) -> Any:
    told = dict.fromkeys(("uuid", "name", "memory_total", "memory_used", "mig", "persistence", "power_limit"))
    told.update({"index": index, "lost": "", "processes": []})
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        told.update(
            {
                "uuid": nvml.nvmlDeviceGetUUID(handle),
                "name": nvml.nvmlDeviceGetName(handle),
                "memory_total": memory.total,
                "memory_used": memory.used,
                "mig": known(nvml, nvml.nvmlDeviceGetMigMode, handle, lambda modes: bool(modes[0])),
                "persistence": known(nvml, nvml.nvmlDeviceGetPersistenceMode, handle, bool),
                "power_limit": known(nvml, nvml.nvmlDeviceGetPowerManagementLimit, handle, int),
                "processes": processes(nvml, handle),
            }
        )
    except nvml.NVMLError as error:
        told["lost"] = str(error)
    return told


def known(nvml: Any, ask: Any, handle: Any, kind: Any, none: Any = UNKNOWN_TO_SOME) -> Any:
    """What the driver says; None where it, or this card, does not know such a thing."""
    try:
        return kind(ask(handle))
    except nvml.NVMLError as error:
        if any(is_one(nvml, error, name) for name in none):
            return None
        raise


def processes(nvml: Any, handle: Any) -> "list[Any] | None":
    """Whoever has memory of the GPU, to compute or to draw, by PID; None where the driver does not tell."""
    memory: dict[int, Any] = {}
    for kind in MEMORY_OF_PROCESSES:
        found = listed(nvml, "nvmlDeviceGet" + kind, handle)
        if found is None:
            return None
        for process in found:
            memory[process.pid] = max(memory.get(process.pid) or 0, process.usedGpuMemory or 0) or None
    return [
        {"pid": pid, "memory": memory[pid], "name": name_of(pid), "container": container_of(pid)}
        for pid in sorted(memory)
    ]


def listed(nvml: Any, name: str, handle: Any) -> Any:
    """By the newest call that the driver knows; None where it does not tell."""
    for version in ("_v3", "_v2"):
        found = known(nvml, getattr(nvml, name + version), handle, list, UNTOLD_TO_SOME)
        if found is not None:
            return found
    return None


def name_of(pid: int) -> str:
    return " ".join(of_process(pid, "comm").split())


def container_of(pid: int) -> str:
    """The container that a process runs in, by its control groups."""
    found = CONTAINER.search(of_process(pid, "cgroup"))
    return found.group(0) if found else ""


def of_process(pid: int, file: str) -> str:
    """One file of a process; empty for one that has ended since."""
    try:
        with open("%s/%d/%s" % (PROCESSES, pid, file), encoding="utf-8", errors="replace") as content:
            return content.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


print(json.dumps(probe()))
