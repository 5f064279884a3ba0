"""A problem names the file that gave the value, or the one where a missing value belongs."""

from __future__ import annotations

from typing import Any

import pytest
from pyinfra.api.inventory import Inventory

from cascade.model.networks import SETTINGS
from cascade.model.strict import Problem
from operations.sources import Sources

GROUPS = {
    "pcs": (["one", "two"], {"b": 1, "c": 1, "d": 1}),
    "home": (["one", "two"], {"c": 2, "d": 2}),
    "single": (["one"], {"e": 1}),
    "elsewhere": ([], {"f": 1}),
}


@pytest.fixture
def sources() -> Sources:
    hosts = [("one", {"d": 3}), ("two", {})]
    return Sources(Inventory((hosts, {"a": 0, "b": 0}), override_data={"z": 1}, **GROUPS))  # type: ignore[no-untyped-call]


def place(sources: Sources, path: str, **problem: Any) -> tuple[str, str]:
    found = sources.located(Problem(SETTINGS, path, **{"reason": "wrong", **problem}))
    return found.file, found.path


@pytest.mark.parametrize(
    ("path", "file", "written"),
    [
        ("one.a", "group_data/all.py", "a"),
        ("one.b", "group_data/pcs.py", "b"),
        ("two.c[1].x", "group_data/home.py", "c[1].x"),
        ("one.d", "inventory", "one.d"),
        ("two.d", "group_data/home.py", "d"),
        ("one.e.x", "group_data/single.py", "e.x"),
        ("two.e", "group_data/all.py", "e"),
        ("one.z", "--data", "z"),
        ("c", "group_data/home.py", "c"),
        ("e", "group_data/single.py", "e"),
        ("f", "group_data/all.py", "f"),
    ],
)
def test_the_file_that_gave_a_value_is_named(sources: Sources, path: str, file: str, written: str) -> None:
    assert place(sources, path) == (file, written)


@pytest.mark.parametrize(
    ("path", "file", "written", "fix"),
    [
        ("one.swarm_role", "group_data/single.py", "swarm_role", "add `x`"),
        ("two.swarm_role", "inventory", "two.swarm_role", 'add "swarm_role": "worker" to the data of two'),
        (
            "one.swarm_address",
            "inventory",
            "one.swarm_address",
            'add "swarm_address": "192.0.2.11" to the data of one',
        ),
        ("one.distribution", "group_data/all.py", "distribution", "add `x`"),
        ("system", "group_data/all.py", "system", "add `x`"),
    ],
)
def test_what_is_missing_is_told_where_it_belongs(
    sources: Sources, path: str, file: str, written: str, fix: str
) -> None:
    found = sources.located(Problem(SETTINGS, path, "is missing", "add `x`"))
    assert (found.file, found.path, found.fix) == (file, written, fix)


def test_other_files_and_the_inventory_keep_their_places(sources: Sources) -> None:
    assert sources.located(Problem("a.yaml", "one.a", "wrong")).file == "a.yaml"
    assert sources.located(Problem("inventory", "one", "wrong")) == Problem("inventory", "one", "wrong")


def test_a_name_with_dots_is_a_host_s_too() -> None:
    hosts = [("pc.lan", {"a": 1}), ("pc", {"lan": 1})]
    sources = Sources(Inventory((hosts, {})))  # type: ignore[no-untyped-call]
    assert place(sources, "pc.lan.a") == ("inventory", "pc.lan.a")
