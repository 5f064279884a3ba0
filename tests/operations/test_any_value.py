"""Whatever stands in a place, there are problems with a fix or there are none, and never a traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyinfra.api.inventory import Inventory

from cascade.model.fleet import Doubts, Fleet, FleetSettings, misfits
from cascade.model.host import Host
from cascade.model.loader import examine_document
from cascade.model.options import Options
from cascade.model.strict import InvalidFiles, Problem
from operations.fleet import load_fleet
from tests.fleets import ROOT
from tests.unit.conftest import RICH

Place = tuple[Any, ...]

ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "-",
    "a b; touch x\n",
    "9" * 5000,
    "CHANGE-ME",
    "~nobody-here/x",
    b"\xff",
    date(2026, 11, 21),
    [],
    [None],
    [[]],
    ["a", "a"],
    {},
    {"a": None},
    {1: {2: 3}},
    {None: None},
    {"": ""},
)
NETWORKS = {name: {"external": True} for name in ("cascade-internal", "cascade-external")}
PLAIN = {
    "name": "alpha",
    "services": {
        "web": {"image": "web", **yaml.safe_load(RICH), "ulimits": {"core": {"soft": 1, "hard": 2}}}
    },
    "networks": NETWORKS,
    "volumes": {"data": {"name": "shared"}},
    "configs": {"settings": {"content": "colour: red"}, "other": {"file": "alpha.conf", "name": "other"}},
}
AGENT = {
    "name": "Fox",
    "port": 1000,
    "health_port": 2000,
    "startup_order": 1,
    "depends_on": [],
    "health_check": {"test": ["CMD", "ask"], "interval": "1s"},
    "environment": {"A": "b"},
    "volumes": ["data:/own"],
    "networks": {"cascade-external": {"aliases": ["fox"]}},
    "memory_limit": "1G",
    "cpus": 1,
    "config": {"a": [1, {"b": 2}]},
}
AGENTS = {
    "name": "alpha",
    "services": {
        "alpha": {
            "image": "web",
            "devices": ["/dev/snd"],
            "x-scale": {"min": 1, "max": 2},
            "x-agents": [AGENT],
        }
    },
    "networks": NETWORKS,
    "volumes": {"data": {}},
}


def places(value: Any, *place: Any) -> Iterator[Place]:
    """Every place in a document, the whole included."""
    yield place
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, *place, key)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from places(item, *place, number)


def _inside(document: Any, place: Place) -> tuple[Any, Any]:
    """A copy of the document, and what lies around this place in it."""
    changed = deepcopy(document)
    inside = changed
    for key in place[:-1]:
        inside = inside[key]
    return changed, inside


def odd_values(document: Any) -> Iterator[Any]:
    """The document with each odd value in each place."""
    yield from ODD
    for place in filter(None, places(document)):
        for odd in ODD:
            changed, inside = _inside(document, place)
            inside[place[-1]] = odd
            yield changed


def odd_keys(document: Any) -> Iterator[Any]:
    """The document with each odd key in place of each of its own."""
    for place in filter(None, places(document)):
        for odd in (value for value in ODD if not isinstance(value, list | dict)):
            changed, inside = _inside(document, place)
            if isinstance(inside, dict):
                inside[odd] = inside.pop(place[-1])
                yield changed


def told_well(problem: Problem) -> bool:
    return bool(problem.reason and problem.fix) and str(problem).isprintable() and len(str(problem)) < 1_300


@pytest.mark.parametrize("document", [PLAIN, AGENTS], ids=["plain", "agents"])
@pytest.mark.parametrize("changes", [odd_values, odd_keys])
def test_a_group_file_with_anything_in_any_place_is_examined(
    document: Any, changes: Callable[[Any], Iterator[Any]], fleet: Fleet
) -> None:
    for changed in changes(document):
        reading = examine_document(changed, "alpha.yaml")
        problems = list(reading.problems)
        if reading.group:
            settings = fleet.settings.model_copy(update={"phases": ((reading.group.name,),)})
            whole = Fleet(settings, fleet.hosts, {reading.group.name: reading.group})
            problems += misfits(whole, Doubts(readings={reading.file: reading}))
        wrong = [problem for problem in problems if not told_well(problem)]
        assert not wrong, (changed, wrong)


@pytest.fixture(scope="module")
def one_group(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stacks")
    (folder / "alpha.yaml").write_text(yaml.safe_dump(PLAIN), encoding="utf-8")
    return folder


SETTINGS = sorted(
    {*Host.model_fields, *FleetSettings.model_fields, *Options.model_fields, "stacks"} - {"stand_ins"}
)
SSH = (
    "ssh_hostname",
    "ssh_user",
    "ssh_key",
    "ssh_connect_retries",
    "ssh_paramiko_connect_kwargs",
    "ssh_password",
)


@pytest.mark.parametrize("name", [*SETTINGS, *SSH])
def test_a_setting_with_anything_in_it_is_examined(
    name: str, one_group: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    right = {key: getattr(fleet.settings, key) for key in FleetSettings.model_fields}
    right |= {"stacks": str(one_group), "phases": (("alpha",),)}
    host = fleet.manager.model_dump(exclude={"name"})
    for odd in ODD:
        inventory = Inventory((["mainpc"], {**right, **host, name: odd}))  # type: ignore[no-untyped-call]
        with pytest.raises(InvalidFiles) as invalid:
            load_fleet(inventory)
        wrong = [problem for problem in invalid.value.problems if not told_well(problem)]
        assert not wrong, (odd, wrong)
