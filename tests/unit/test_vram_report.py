"""The memory of GPUs as people and programs see it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from cascade.documents import DoctorDocument, json_of
from cascade.planning.gpu import Sharer, Vram
from cascade.vram_report import WIDTH, bar, gpu_document, show_gpus
from tests.schemas import valid
from tests.unit.test_gpu_facts import CONTAINER, OTHER, UUID, process, vram

SIGNS = "█▒░"
WHOLE = ("3984", "of", "24564", "MiB,", "19651", "offered")


def shown(found: Vram, capsys: pytest.CaptureFixture[str]) -> list[str]:
    show_gpus([gpu_document(found)], Console(width=60))
    return capsys.readouterr().out.splitlines()


def test_a_gpu_is_numbers_for_programs() -> None:
    found = vram(process(7, 1500, CONTAINER), process(9, None, OTHER, "blender"))
    assert gpu_document(found) == {
        "host": "mainpc",
        "index": 0,
        "uuid": UUID,
        "name": "NVIDIA GeForce RTX 4090",
        "memory": 24564,
        "used": 1800,
        "offered": 19651,
        "agents": [{"name": "ai_vision", "reserved": 6144, "used": 1500}],
        "others": [{"pid": 9, "name": "blender", "used": None}],
    }


def test_doctors_document_has_a_place_for_gpus() -> None:
    told = {"ready": True, "hosts": {}, "gpus": [gpu_document(vram(process(9, 614)))], "findings": []}
    assert valid("doctor", json_of(DoctorDocument, told)) == told


def test_a_gpu_is_a_bar_and_so_is_each_who_has_some_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    blender, x = process(9, 614, OTHER, "blender"), process(10, None, OTHER, "X")
    head, *bars = shown(vram(process(7, 3070, CONTAINER), blender, x), capsys)
    whole, agent, other, unknown = bars
    assert head == "mainpc GPU 0, NVIDIA GeForce RTX 4090"
    assert whole.split() == ["all", "█" * 7 + "▒" * 25 + "░" * 8, *WHOLE]
    assert agent.split() == ["ai_vision", "█" * 5 + "▒" * 6 + "░" * 29, "3070", "of", "6144", "MiB"]
    assert other.split() == ["blender", "(PID", "9)", "█" + "░" * 39, "614", "MiB"]
    assert unknown.split() == ["X", "(PID", "10)", "░" * 40, "?", "MiB"]
    assert len({next(place for place, sign in enumerate(line) if sign in SIGNS) for line in bars}) == 1


def test_what_the_driver_does_not_tell_is_no_amount(capsys: pytest.CaptureFixture[str]) -> None:
    found = replace(vram(), sharers=(Sharer("ai_vision", 6144, None),), foreign=None)
    document = gpu_document(found)
    told = {"ready": True, "hosts": {}, "gpus": [document], "findings": []}
    assert valid("doctor", json_of(DoctorDocument, told)) == told
    assert (document["agents"][0]["used"], document["others"]) == (None, None)
    *_, agent = shown(found, capsys)
    assert agent.split() == ["ai_vision", "▒" * 11 + "░" * 29, "?", "of", "6144", "MiB"]


@pytest.mark.parametrize(
    ("used", "reserved", "memory", "expected"),
    [
        (0, 0, 100, "░" * 40),
        (100, 0, 100, "█" * 40),
        (1, 0, 100_000, "█" + "░" * 39),
        (0, 1, 100_000, "▒" + "░" * 39),
        (50, 20, 100, "█" * 20 + "░" * 20),
        (500, 900, 100, "█" * 40),
        (5, 5, 0, "░" * 40),
        (10**15, 1, -1, "░" * 40),
        (-5, -9, 100, "░" * 40),
    ],
    ids=[
        "empty",
        "full",
        "little used",
        "little reserved",
        "above its share",
        "too much",
        "none",
        "hostile",
        "less",
    ],
)
def test_a_bar_is_always_as_long(used: int, reserved: int, memory: int, expected: str) -> None:
    assert bar(used, reserved, memory) == expected
    assert len(expected) == WIDTH


def test_no_name_steers_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    told: dict[str, Any] = gpu_document(vram(process(9, 1, OTHER)))
    told["name"] = "\x1b[2Ja\nb [bold]"
    told["others"][0]["name"] = "\x1b[2J"
    show_gpus([told], Console(width=200))
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "[bold]" in said
    assert len(said.splitlines()) == 4
