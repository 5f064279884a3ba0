"""YAML as Compose reads it, and nothing that takes more than its size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cascade.model.document import LARGEST_BYTES, read_document
from cascade.model.strict import InvalidFiles


def read(folder: Path, text: str) -> Any:
    path = folder / "a.yaml"
    path.write_text(text, encoding="utf-8")
    return read_document(path)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(InvalidFiles) as invalid:
        read(folder, text)
    (problem,) = invalid.value.problems
    assert problem.fix
    return str(problem)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("22:22", "22:22"),
        ("12:30:45", "12:30:45"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("Off", "Off"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("0", 0),
        ("-7", -7),
        ("1_000", 1000),
        ("0440", 0o440),
        ("0o440", 0o440),
        ("0x1F", 31),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        (".inf", float("inf")),
        ("1.2.3", "1.2.3"),
        ("2026-11-21", "2026-11-21"),
        ("'7'", "7"),
        ("5e", "5e"),
    ],
)
def test_plain_values_mean_what_they_mean_to_compose(tmp_path: Path, written: str, meant: Any) -> None:
    found = read(tmp_path, f"a: {written}\n")["a"]
    assert (type(found), found) == (type(meant), meant)


def test_aliases_may_be_used_often_and_maps_merged(tmp_path: Path) -> None:
    text = "a: &a {x: 1}\nb: [" + ", ".join(["*a"] * 1000) + "]\nc: {<<: *a, x: 2}\n"
    found = read(tmp_path, text)
    assert found["b"] == [{"x": 1}] * 1000
    assert found["c"] == {"x": 2}


def test_values_are_counted_with_their_aliases_written_out(tmp_path: Path) -> None:
    hundred = ", ".join("x" * 1 for _ in range(100))
    bomb = f"a: &a [{hundred}]\nb: &b [{', '.join(['*a'] * 100)}]\n"
    assert len(read(tmp_path, bomb)["b"]) == 100
    assert "more than 50000 values" in refused(tmp_path, f"{bomb}c: [*b, *b, *b, *b, *b]\n")


@pytest.mark.parametrize(("depth", "fine"), [(49, True), (50, False), (5000, False)])
def test_depth_has_an_end(tmp_path: Path, depth: int, fine: bool) -> None:
    text = "a: " + "[" * depth + "]" * depth + "\n"
    if fine:
        assert read(tmp_path, text)
    else:
        assert "nested too deeply" in refused(tmp_path, text)


def test_a_file_of_the_largest_size_is_read_and_a_larger_one_is_not(tmp_path: Path) -> None:
    text = "a: b\n#" + "x" * (LARGEST_BYTES - 6)
    assert len(text) == LARGEST_BYTES
    assert read(tmp_path, text) == {"a": "b"}
    assert f"{LARGEST_BYTES + 1} bytes" in refused(tmp_path, f"{text}x")
