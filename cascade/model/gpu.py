"""GPUs: what a host's owner declares of them, what the host itself says, and what a group takes of one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from cascade.model.names import fits
from cascade.model.quantities import LARGEST, Whole, parse_bytes
from cascade.model.strict import Strict
from cascade.model.wording import shown

# Older toolkits generate the container's devices at once, and never look at `swarm-resource`.
_OLDEST_TOOLKIT = (1, 19, 0)
# What a host with GPUs has in daemon.json on account of them.
GPU_SETTINGS = ("default-runtime", "runtimes", "node-generic-resources")
# What Swarm knows a GPU itself as, by its UUID.
GPU_KIND = "gpu"
# What Swarm counts the memory of a host's first GPU as; that of others has their number behind it.
VRAM = "vram"
_MIB = 2**20
_MOST_DEVICES = 64
_PERCENT = re.compile(r"(\d+(?:\.\d+)?) ?%", re.ASCII)
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)-\d+", re.ASCII)

_check_url = fits(r"https?://[!-~]+", "is no address", "https://nvidia.github.io/libnvidia-container/gpgkey")
_check_fingerprint = fits(
    "[0-9A-F]{40}", "is no fingerprint in 40 hexadecimal digits", "C95B321B61E88C1809C4F759DDCAE044F796ECB0"
)


def _check_toolkit(version: str) -> str:
    """A version of the four packages that obeys `swarm-resource`; raises ValueError."""
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ValueError(f"{shown(version)} is no version of the toolkit's packages: write one like 1.19.0-1")
    if tuple(map(int, match.groups())) < _OLDEST_TOOLKIT:
        raise ValueError(
            f"{version} ignores swarm-resource, by which a container would see every GPU or none:"
            " write 1.19.0-1 or newer"
        )
    return version


class HostGpu(Strict):
    """That a machine has NVIDIA GPUs, and how they are set up.

    `toolkit` is the version of the four packages of NVIDIA Container Toolkit, `repository` the apt repository
    they come from, `key` the fingerprint of the key that signs it and `key_url` where that key is had.
    `persistence` keeps the driver loaded while nobody uses it; `power_limit` is in watts for each GPU, and
    without it the card's own stands.
    """

    toolkit: Annotated[str, AfterValidator(_check_toolkit)] = "1.19.0-1"
    repository: Annotated[str, AfterValidator(_check_url)] = (
        "https://nvidia.github.io/libnvidia-container/stable/deb"
    )
    key: Annotated[str, AfterValidator(_check_fingerprint)] = "C95B321B61E88C1809C4F759DDCAE044F796ECB0"
    key_url: Annotated[str, AfterValidator(_check_url)] = (
        "https://nvidia.github.io/libnvidia-container/gpgkey"
    )
    persistence: bool = True
    power_limit: Annotated[Whole, Field(ge=1, le=10_000)] | None = None


@dataclass(frozen=True)
class Gpu:
    """One GPU as its host's driver describes it; `index` is NVML's."""

    index: int
    uuid: str
    name: str
    memory_mib: int


Gpus = Mapping[str, tuple[Gpu, ...]]


@dataclass(frozen=True)
class Budget:
    """A part of one GPU's memory: so many MiB, or a percentage of what it has."""

    mib: int | None = None
    percent: Decimal | None = None

    def of(self, memory_mib: int) -> int:
        """Whole MiB of a GPU with so much memory, rounded down."""
        return int(memory_mib * self.percent / 100) if self.percent is not None else self.mib or 0


def _budget(value: object) -> Budget:
    """`80%` or `21G`; raises ValueError."""
    if isinstance(value, Budget):
        return value
    if (match := _PERCENT.fullmatch(str(value).strip())) is None:
        return Budget(mib=_mib(value))
    percent = Decimal(match[1])
    if not 0 < percent <= 100:
        raise ValueError(f"{shown(value)} is no part of a GPU: write more than 0% and at most 100%")
    return Budget(percent=percent)


def _mib(value: object) -> int:
    """Memory of a GPU in whole MiB, rounded down."""
    mib = parse_bytes(value) // _MIB
    if not 1 <= mib <= LARGEST // _MIB:
        raise ValueError(f"{shown(value)} is no amount of a GPU's memory: write 1M or more, like 6G")
    return mib


Vram = Annotated[int, BeforeValidator(_mib)]


class GpuUse(Strict):
    """The GPU that a service's agents share, by NVML's number on its host, and how much memory of it."""

    vram_budget: Annotated[Budget, BeforeValidator(_budget)]
    device: Whole = Field(0, ge=0, lt=_MOST_DEVICES)

    @property
    def kind(self) -> str:
        """What Swarm counts this GPU's memory as."""
        return f"{VRAM}-{self.device}" if self.device else VRAM
