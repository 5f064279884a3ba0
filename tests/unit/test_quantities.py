"""Bytes, durations and CPUs in all of Compose's ways to write them."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from cascade.model.quantities import (
    Cpus,
    MemoryBytes,
    Seconds,
    Whole,
    nano_cpus,
    nanoseconds,
    parse_bytes,
    parse_cpus,
    parse_seconds,
)

HOSTILE: list[object] = [
    "",
    " ",
    "-",
    "ten",
    "1; touch x",
    "1\n2",
    "$(id)",
    "1,5",
    "--1",
    "0x10",
    None,
    True,
    [],
    {},
]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1),
        ("512b", 512),
        ("1k", 1024),
        ("1K", 1024),
        ("1kb", 1024),
        ("1KB", 1024),
        ("1KiB", 1024),
        ("512m", 512 * 2**20),
        ("512M", 512 * 2**20),
        ("512MB", 512 * 2**20),
        ("512MiB", 512 * 2**20),
        ("2g", 2 * 2**30),
        ("2gb", 2 * 2**30),
        ("1.5G", 1536 * 2**20),
        ("1T", 2**40),
        (" 2G ", 2 * 2**30),
        (1024, 1024),
    ],
)
def test_an_amount_of_memory_is_read(text: Any, number: int) -> None:
    assert parse_bytes(text) == number


@pytest.mark.parametrize("text", [*HOSTILE, "k", "1P", "1GG", "1 2G", "1e9", "-1M", ".5G", "2G/s"])
def test_what_is_no_amount_of_memory_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="is no amount of memory: write it like 512M or 2G"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("10s", 10),
        ("1.5s", 1.5),
        ("500ms", 0.5),
        ("2m", 120),
        ("2m5ms", 120.005),
        ("1m30s", 90),
        ("1h", 3600),
        ("1.5h", 5400),
        ("1h30m10s5ms", 5410.005),
        (" 3s ", 3),
        (90, 90),
        (0.25, 0.25),
    ],
)
def test_a_duration_is_read(text: Any, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", [*HOSTILE, "90", "1m30", "30s1m", "1d", "1 s", "-3s", "s", "1s1s", "1min"])
def test_what_is_no_duration_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="is no duration: write it like 10s, 1m30s or 500ms"):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("text", "cpus"), [("0.5", "0.5"), ("2", "2"), ("2.0", "2"), (2, "2"), (0.1, "0.1"), (1.25, "1.25")]
)
def test_a_number_of_cpus_is_read_exactly(text: Any, cpus: str) -> None:
    assert parse_cpus(text) == Decimal(cpus)


@pytest.mark.parametrize(
    "text", [*HOSTILE, "2 cores", "1/2", "1e400", "1_0", 1e-10, "-1", "nan", "inf", ".5"]
)
def test_what_is_no_number_of_cpus_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match=r"is no number of CPUs: write it like '0\.5'"):
        parse_cpus(text)


@pytest.mark.parametrize(
    ("quantity", "value"),
    [
        (MemoryBytes, "0"),
        (MemoryBytes, 0),
        (MemoryBytes, -5),
        (Seconds, -1),
        (Seconds, -0.5),
        (Seconds, float("nan")),
        (Seconds, float("inf")),
        (Seconds, 10**400),
        (Seconds, "9" * 400 + "s"),
        (Seconds, "9" * 10 + "s"),
        (MemoryBytes, 2**63),
        (MemoryBytes, "8388608T"),
        (Cpus, "0"),
        (Cpus, "-1"),
        (Cpus, "nan"),
        (Cpus, "inf"),
        (Cpus, float("nan")),
        (Cpus, "9999999999"),
        (Cpus, "0.0000000001"),
        (Cpus, "0.0009"),
        (Whole, True),
        (Whole, False),
    ],
)
def test_an_amount_that_cannot_be_had_is_refused(quantity: Any, value: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(quantity).validate_python(value)


@pytest.mark.parametrize(("quantity", "value"), [(MemoryBytes, 1), (Seconds, 0), (Cpus, "0.001")])
def test_a_small_amount_can_be_had(quantity: Any, value: Any) -> None:
    assert float(TypeAdapter(quantity).validate_python(value)) == float(value)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, 0), (0.25, 250_000_000), (0.005, 5_000_000), (90, 9e10)]
)
def test_seconds_become_whole_nanoseconds(seconds: float, expected: int) -> None:
    assert nanoseconds(seconds) == expected
    assert isinstance(nanoseconds(seconds), int)


@pytest.mark.parametrize(
    ("cpus", "expected"), [("0.5", 500_000_000), ("8", 8_000_000_000), ("1.9999999999", 1_999_999_999)]
)
def test_cpus_become_nanocpus_and_are_never_rounded_up(cpus: str, expected: int) -> None:
    assert nano_cpus(Decimal(cpus)) == expected
