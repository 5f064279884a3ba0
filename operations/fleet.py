"""From pyinfra's inventory and group_data to the fleet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pyinfra.api.inventory import Inventory

from cascade.model.fleet import Fleet, FleetSettings, assemble
from cascade.model.host import Host
from cascade.model.loader import load_group_files
from cascade.model.strict import InvalidFiles, Problem, problems_of

_PYINFRA = ("ssh_", "_")


def load_fleet(inventory: Inventory) -> Fleet:
    """Everything the files say, checked as one; raises InvalidFiles with every problem."""
    problems: list[Problem] = []
    hosts: dict[str, Host] = {}
    groups = {}
    settings = None
    data = {host.name: host.data.dict() for host in inventory}
    for name, values in data.items():
        try:
            hosts[name] = Host(name=name, **_known(Host, values))
        except ValidationError as error:
            problems += problems_of(error, "group_data", name)
        problems += _strays(name, values)
    shared: dict[str, Any] = next(iter(data.values()), {})
    try:
        settings = FleetSettings(**_known(FleetSettings, shared))
    except ValidationError as error:
        problems += problems_of(error, "group_data")
    try:
        groups = {group.name: group for group in load_group_files(Path(shared.get("stacks", "")))}
    except InvalidFiles as invalid:
        problems += invalid.problems
    if problems or settings is None:
        raise InvalidFiles(problems)
    return assemble(settings, hosts, groups)


def _known(model: type[Host] | type[FleetSettings], values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in model.model_fields}


def _strays(host: str, values: dict[str, Any]) -> list[Problem]:
    """A name that nothing reads is a mistake, not data."""
    known = Host.model_fields.keys() | FleetSettings.model_fields.keys() | {"stacks"}
    return [
        Problem("group_data", f"{host}.{name}", "nothing reads this: is it misspelt?")
        for name in values
        if name not in known and not name.startswith(_PYINFRA)
    ]
