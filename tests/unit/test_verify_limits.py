"""Limits as the kernel has to hold them, and what it is told of by the witness."""

from __future__ import annotations

import os
import resource
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from tests.fleets import lab_fleet
from tests.verify import remote_witness
from tests.verify.expected import Expected
from tests.verify.limits import KERNELS_NAMES, cpu_quotas, memory, unequal_limits
from tests.verify.remote_witness import environment, limit, rlimits


@pytest.mark.parametrize(
    ("nano_cpus", "period", "quotas"),
    [
        (2_000_000_000, "100000", {"200000"}),
        (666_666_666, "100000", {"66666", "67000"}),
        (10_000_000, "50000", {"500"}),
    ],
)
def test_a_share_of_processors_is_a_quota_in_whole_microseconds_or_percents(
    nano_cpus: int, period: str, quotas: set[str]
) -> None:
    assert cpu_quotas(nano_cpus, period) == quotas


@pytest.mark.parametrize(("limit", "amount"), [("536870912", 536870912), ("max", inf), (None, inf)])
def test_memory_that_the_kernel_does_not_limit_is_more_than_any(limit: str | None, amount: float) -> None:
    assert memory(limit) == amount


def test_no_quota_is_right_where_the_kernel_limits_no_processor_time() -> None:
    assert cpu_quotas(10**9, None) == set()


@pytest.mark.parametrize(("quota", "period"), [("max", "100000"), ("50000", "100000")])
def test_the_witness_reads_quota_and_period_from_the_one_file_of_version_2(
    quota: str, period: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota} {period}\n")
    monkeypatch.setattr(remote_witness, "folder_of", lambda *_: (str(tmp_path), True))
    assert (limit(1, "cpu_quota"), limit(1, "cpu_period")) == (quota, period)


@pytest.mark.parametrize(
    ("soft", "hard", "unequal"),
    [
        ("512", "1024", {}),
        ("1024", "1024", {"nofile": ["1024", "1024"]}),
        ("512", "unlimited", {"nofile": ["512", "unlimited"]}),
    ],
)
def test_a_limit_is_right_only_if_soft_and_hard_one_are(
    soft: str, hard: str, unequal: dict[str, list[str]]
) -> None:
    assert unequal_limits({"Max open files": [soft, hard]}, {"nofile": (512, 1024)}) == unequal


def test_any_number_is_unlimited_and_a_limit_that_the_kernel_does_not_name_is_not_right() -> None:
    assert unequal_limits({"Max core file size": ["unlimited", "unlimited"]}, {"core": (-1, -1)}) == {}
    assert unequal_limits({}, {"core": (0, 0)}) == {"core": None}


@pytest.mark.parametrize(
    ("absent", "limits"),
    [
        ({"open-files", "realtime"}, {"core": (0, 0)}),
        ({"open-files"}, {"core": (0, 0), "rtprio": (95, 95)}),
        ({"realtime"}, {"core": (0, 0), "nofile": (65536, 65536)}),
    ],
)
def test_a_limit_that_its_host_cannot_set_is_not_asked_of_an_agent(
    absent: set[str], limits: dict[str, tuple[int, int]]
) -> None:
    fleet = lab_fleet()
    hosts = {name: one.model_copy(update={"absent": frozenset(absent)}) for name, one in fleet.hosts.items()}
    expected = Expected(replace(fleet, hosts=hosts))
    assert expected.rlimits_of(expected.workloads["cascade-audio-realtime_audio-capture"]) == limits


def test_the_witness_reads_each_limit_by_the_kernels_name() -> None:
    found = rlimits(os.getpid())
    for name in ("core", "nofile", "rtprio", "stack"):
        said = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))
        assert unequal_limits(found, {name: said}) == {}, name
    assert set(KERNELS_NAMES.values()) == found.keys() - {"Limit"}


def test_the_witness_tells_of_no_variable_that_nobody_asked_for() -> None:
    assert environment(os.getpid(), []) == {}
    assert environment(os.getpid(), ["PATH", "NO_SUCH_VARIABLE"]).keys() == {"PATH"}
