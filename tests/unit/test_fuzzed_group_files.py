"""Group files with anything anywhere: each is read, or refused in lines that any terminal can show."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cascade.model.fleet import Fleet, assemble
from cascade.model.loader import group_of, read_group_file
from cascade.model.strict import InvalidFiles
from cascade.planning.target import target_of
from tests.hostile import VALUES, Place, bounded_time, changed, places
from tests.unit.conftest import RICH, home

LONGEST_LINE = 1500
MOST_LINES = 200
SIGNS = ("\x1b[2J", "{", "[" * 2000, "&a [*a]", "<<: *a", "\t", "!!python/name:os.system ", "\u202e", "? ")
AGENTS = """
- {name: Fox, port: 1000, health_port: 7001, startup_order: 1, environment: {A: b}, memory_limit: 1G, cpus: 1}
- {name: Owl, port: 7002, health_port: 7003, depends_on: [Fox], optional: true, volumes: ["nest:/nest"]}
"""


def document() -> dict[str, Any]:
    """A group that uses most of what a group file may say."""
    weaker = dict.fromkeys(("user", "cap_add", "cap_drop", "security_opt"), "because")
    service = {
        "image": "cascade/core",
        **yaml.safe_load(RICH),
        "x-security": {"profile": "database", "exceptions": weaker},
        "x-agents": yaml.safe_load(AGENTS),
    }
    return {
        "name": "cascade-core",
        "services": {"cascade-core": service},
        "networks": {"cascade-internal": {"external": True}, "cascade-external": {"external": True}},
        "volumes": {"data": None, "nest": {"driver": "local"}},
        "configs": {"settings": {"content": "one"}, "other": {"content": "two"}},
        "secrets": {"password": {"external": True}, "token": {"external": True}},
    }


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    """Of nothing but that group."""
    whole = home()
    return replace(whole, settings=whole.settings.model_copy(update={"phases": (("cascade-core",),)}))


def read(fleet: Fleet, group: Any) -> tuple[str, ...]:
    """What is said of a group against its fleet; nothing where a target can be made of it."""
    try:
        with bounded_time():
            found = group_of(copy.deepcopy(group), "cascade-core.yaml")
            target_of(assemble(fleet.settings, fleet.hosts, {found.name: found}))
    except InvalidFiles as invalid:
        return tuple(map(str, invalid.problems))
    return ()


def assert_can_be_shown(lines: tuple[str, ...]) -> None:
    assert len(lines) <= MOST_LINES
    for line in lines:
        assert line.isprintable(), repr(line)
        assert len(line) <= LONGEST_LINE


def test_the_group_that_is_changed_is_right(fleet: Fleet) -> None:
    assert read(fleet, document()) == ()


@pytest.mark.parametrize("place", places(document()), ids=lambda place: ".".join(map(str, place)))
def test_a_place_of_a_group_file_may_hold_anything(place: Place, fleet: Fleet) -> None:
    group = document()
    for value in VALUES.values():
        with changed(group, place, value):
            assert_can_be_shown(read(fleet, group))


@pytest.mark.parametrize("seed", range(40))
def test_a_file_that_was_cut_off_or_damaged_is_told_to_be(seed: int, tmp_path: Path) -> None:
    file, chance = tmp_path / "cascade-core.yaml", random.Random(seed)
    whole = yaml.safe_dump(document(), sort_keys=False).encode()
    for damage in (cut, flipped, filled):
        file.write_bytes(damage(whole, chance))
        try:
            with bounded_time():
                read_group_file(file)
        except InvalidFiles as invalid:
            assert_can_be_shown(tuple(map(str, invalid.problems)))


def cut(whole: bytes, chance: random.Random) -> bytes:
    return whole[: chance.randrange(len(whole))]


def flipped(whole: bytes, chance: random.Random) -> bytes:
    """With some bytes of any value."""
    damaged = bytearray(whole)
    for _ in range(chance.randrange(1, 8)):
        damaged[chance.randrange(len(whole))] = chance.randrange(256)
    return bytes(damaged)


def filled(whole: bytes, chance: random.Random) -> bytes:
    """With signs that mean something to YAML or to a terminal."""
    place = chance.randrange(len(whole))
    signs = (
        "\x1b[2J",
        "{",
        "[" * 2000,
        "&a [*a]",
        "<<: *a",
        "\t",
        "!!python/object:os.system ",
        "\u202e",
        "? ",
    )
    return whole[:place] + chance.choice(signs).encode() + whole[place:]
