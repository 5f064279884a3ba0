"""Hosts that say anything of their GPUs: what cannot be understood is an error, never a traceback."""

from __future__ import annotations

import copy
import io
from typing import Any

from rich.console import Console

from cascade.planning.gpu import faults_in, gpus_in, lost_in, vram_of, why_unknown
from cascade.planning.understood import understood
from cascade.vram_report import gpu_document, show_gpus
from tests.hostile import VALUES, bounded_time, changed, places
from tests.unit.test_gpu_facts import AGENT, CONTAINER, OTHER, SETTINGS, UUID, host_with, process, service

WANTED = {AGENT: service(6144), SETTINGS: {"node-generic-resources": [f"gpu={UUID}", "vram=19651"]}}
REST: dict[str, Any] = {"packages": {}, "files": {}, "sysctls": {}, "units": {}, "docker": None}


def test_every_place_of_the_part_may_hold_anything() -> None:
    told = host_with(process(7, 1500, CONTAINER), process(9, None, OTHER))
    engine = told["docker"]
    for place in places({"gpu": told["gpu"]}):
        for name, value in VALUES.items():
            snapshot = {**REST, "gpu": copy.deepcopy(told["gpu"])}
            with changed(snapshot, place, value), bounded_time():
                try:
                    read = {**understood(snapshot), "docker": engine}
                except ValueError:
                    continue
                try:
                    judge(read)
                except Exception as fault:
                    raise AssertionError(f"{place}, {name}: {fault!r}") from fault


def judge(snapshot: dict[str, Any]) -> None:
    """Everything that is made of the part."""
    assert (gpus_in(snapshot) is None) == bool(why_unknown(snapshot))
    assert all(isinstance(fault, str) for fault in faults_in(snapshot))
    lost_in({"mainpc": snapshot})
    states = vram_of(WANTED, "mainpc", {"mainpc": snapshot})
    show_gpus(map(gpu_document, states), Console(width=100, file=io.StringIO()))
