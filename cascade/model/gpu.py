"""A host's GPUs: what the owner declares of them, and what the host itself says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from cascade.model.names import fits
from cascade.model.quantities import Whole
from cascade.model.strict import Strict
from cascade.model.wording import shown

# Older toolkits generate the container's devices at once, and never look at `swarm-resource`.
_OLDEST_TOOLKIT = (1, 19, 0)
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
