"""Compose's ways to write bytes, durations and CPUs, read into plain numbers.

Source: the Compose Specification, "Specifying byte values" and "Specifying durations".
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, Field

from cascade.model.wording import shown

_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_UNIT_BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")
_SECONDS_PER_UNIT = (Decimal(3600), Decimal(60), Decimal(1), Decimal("0.001"))
_CPUS = re.compile(r"\d+(?:\.\d+)?")
_LEAST_CPUS = Decimal("0.001")
LARGEST = 2**63 - 1
_NANO = 1_000_000_000


def parse_bytes(value: object) -> int:
    """`512M`, `2gb` or a number of bytes, as bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _BYTES.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f"{shown(value)} is no amount of memory: write it like 512M or 2G")
    return int(Decimal(match[1]) * _UNIT_BYTES[match[2].lower()])


def parse_seconds(value: object) -> float:
    """`90s`, `1m30s`, `500ms` or a number of seconds, as seconds."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    match = _DURATION.fullmatch(str(value).strip())
    if match is None or not any(match.groups()):
        raise ValueError(f"{shown(value)} is no duration: write it like 10s, 1m30s or 500ms")
    parts = zip(match.groups(), _SECONDS_PER_UNIT, strict=True)
    return float(sum(Decimal(amount) * seconds for amount, seconds in parts if amount))


def parse_cpus(value: object) -> Decimal:
    """`'0.5'` or 2, as a number of CPUs."""
    if _CPUS.fullmatch(str(value)) is None or Decimal(str(value)) < _LEAST_CPUS:
        raise ValueError(f"{shown(value)} is no number of CPUs: write it like '0.5', and at least 0.001")
    return Decimal(str(value))


def _no_bool(value: object) -> object:
    """YAML's true would pass for a 1."""
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is no number: write one like 3")
    return value


Whole = Annotated[int, BeforeValidator(_no_bool), Field(le=LARGEST)]
MemoryBytes = Annotated[int, BeforeValidator(parse_bytes), Field(gt=0, le=LARGEST)]
Seconds = Annotated[
    float, BeforeValidator(parse_seconds), Field(ge=0, le=LARGEST // _NANO, allow_inf_nan=False)
]
SomeSeconds = Annotated[Seconds, Field(gt=0)]
Cpus = Annotated[Decimal, BeforeValidator(parse_cpus), Field(le=LARGEST // _NANO)]


def nanoseconds(seconds: float) -> int:
    """The Engine API's unit of time."""
    return round(seconds * _NANO)


def nano_cpus(cpus: Decimal | Fraction | int) -> int:
    """The Engine API's unit of CPU."""
    return int(cpus * _NANO)
