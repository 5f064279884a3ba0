"""The GPUs of the hosts as the driver tells of them, in /proc and by nvidia-smi."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cascade.model.host import Host
from tests.verify.evidence import Evidence, Remembered
from tests.verify.look import Unread

# Source: NVIDIA's driver: what /dev/nvidia0 and its siblings are; these two are for all GPUs together.
MAJOR = 195
CONTROLS = ("/dev/nvidiactl", "/dev/nvidia-uvm")
LOADED = "/proc/driver/nvidia/version"
# nvidia-smi of root loads a driver that is not there, and makes its devices.
THERE = f"test -e {LOADED} && test -c {CONTROLS[0]}"
CARDS = "nvidia-smi --query-gpu=index,uuid,memory.total --format=csv,noheader,nounits"
PROCESSES = "nvidia-smi --query-compute-apps=gpu_uuid,pid,used_memory --format=csv,noheader,nounits"
INFORMATION = "cat /proc/driver/nvidia/gpus/*/information"
_NUMBERED = re.compile(r"/dev/nvidia\d+")
_VERSION = re.compile(r"\s(\d+(?:\.\d+)+)\s")
_FIELD = re.compile(r"(GPU UUID|Device Minor):\s*(\S+)")


@dataclass(frozen=True)
class Card:
    """A GPU: `minor` is the number of its device."""

    uuid: str
    minor: int
    memory_mib: int


class Driver:
    """What the driver of one host says, and nothing where no GPU is to be."""

    def __init__(self, evidence: Evidence, host: Host) -> None:
        self._evidence = evidence
        self._host = host

    @Remembered
    def cards(self) -> Mapping[int, Card]:
        """The GPUs of the host by their index."""
        return cards(self._said(CARDS), self._said(INFORMATION)) if self._host.has_gpu else {}

    @Remembered
    def used(self) -> list[tuple[str, int, int]]:
        """UUID, process and MiB of whatever computes on a GPU of the host."""
        return used_memory(self._said(PROCESSES)) if self._host.has_gpu else []

    def _said(self, command: str) -> str:
        name = self._host.name
        if self._evidence.ran(name, THERE).rc:
            raise Unread(f"{name}: the kernel has loaded no driver of NVIDIA's, or it has no devices")
        done = self._evidence.ran(name, command)
        if done.rc:
            raise Unread(f"{name}: {command}: {(done.stderr or done.stdout).strip()}")
        return done.stdout


def driver_version(text: str) -> str:
    """The version in /proc/driver/nvidia/version."""
    found = _VERSION.search(text.partition("\n")[0])
    if found is None:
        raise Unread(f"/proc/driver/nvidia/version names no version: {text.strip()}")
    return found[1]


def cards(listed: str, information: str) -> dict[int, Card]:
    """What nvidia-smi lists, with the numbers of the devices from /proc."""
    fields = [value for _, value in _FIELD.findall(information)]
    minors = dict(zip(fields[::2], map(int, fields[1::2]), strict=True))
    rows = [_columns(line) for line in listed.splitlines()]
    if strange := [uuid for _, uuid, _ in rows if uuid not in minors]:
        raise Unread(f"/proc/driver/nvidia/gpus does not tell the device of {', '.join(strange)}")
    return {int(index): Card(uuid, minors[uuid], int(memory)) for index, uuid, memory in rows}


def used_memory(listed: str) -> list[tuple[str, int, int]]:
    """UUID, process and MiB of each that nvidia-smi lists; where it cannot tell nobody knows."""
    rows = [_columns(line) for line in listed.splitlines()]
    if unknown := [pid for _, pid, memory in rows if not memory.isdecimal()]:
        raise Unread(f"nvidia-smi cannot tell how much memory of its GPU process {unknown[0]} has")
    return [(uuid, int(pid), int(memory)) for uuid, pid, memory in rows]


def devices(files: Mapping[str, Mapping[str, Any] | None]) -> set[str]:
    """NVIDIA's devices in a container; a GPU's by its real number, whatever its name there."""
    return {
        _device(path, found["rdev"])
        for path, found in files.items()
        if found and (path in CONTROLS or _NUMBERED.fullmatch(path))
    }


def _device(path: str, number: int) -> str:
    # Source: glibc, bits/sysmacros.h, for numbers of which neither half is above 255.
    major, minor = number >> 8, number & 0xFF
    return f"/dev/nvidia{minor}" if major == MAJOR and path not in CONTROLS else path


def memory_of(used: Iterable[tuple[str, int, int]], card: Card, processes: Iterable[int]) -> int:
    """MiB of a GPU that some processes have."""
    own = set(processes)
    return sum(memory for uuid, pid, memory in used if uuid == card.uuid and pid in own)


def _columns(line: str) -> tuple[str, str, str]:
    first, second, third = (field.strip() for field in line.split(","))
    return first, second, third
