"""From pyinfra's inventory and group_data to the fleet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pyinfra.api.inventory import Inventory

from cascade.model.fleet import Fleet, FleetSettings, assemble
from cascade.model.host import Host
from cascade.model.loader import load_group_files
from cascade.model.options import Options
from cascade.model.strict import InvalidFiles, Problem, problems_of
from operations.stand_ins import stand_ins

_PYINFRA = ("ssh_", "_")


def load_fleet(inventory: Inventory, check_images: bool = True) -> Fleet:
    """Everything the files say, checked as one; raises InvalidFiles with every problem."""
    problems: list[Problem] = []
    hosts: dict[str, Host] = {}
    groups = {}
    settings = None
    data = {host.name: host.data.dict() for host in inventory}
    for name, values in data.items():
        try:
            hosts[name] = Host(name=name, **_known(Host, values, without="name"))
        except ValidationError as error:
            problems += problems_of(error, "group_data", name)
        problems += _strays(name, values)
    shared: dict[str, Any] = next(iter(data.values()), {})
    problems += _disagreements(data)
    options = Options()
    try:
        options = Options(**_known(Options, shared))
    except ValidationError as error:
        problems += problems_of(error, "--data")
    if options.stand_ins:
        shared = shared | {"images": {}}
    try:
        settings = FleetSettings(**_known(FleetSettings, shared))
    except ValidationError as error:
        problems += problems_of(error, "group_data")
    try:
        groups = {group.name: group for group in load_group_files(Path(str(shared.get("stacks", ""))))}
    except InvalidFiles as invalid:
        problems += invalid.problems
    if problems or settings is None:
        raise InvalidFiles(problems)
    if options.stand_ins:
        settings = settings.model_copy(update={"images": stand_ins(groups.values())})
    return assemble(settings, hosts, groups, options, check_images)


def _known(
    model: type[Host] | type[FleetSettings] | type[Options], values: dict[str, Any], without: str = ""
) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in model.model_fields and name != without}


def _strays(host: str, values: dict[str, Any]) -> list[Problem]:
    """A name that nothing reads is a mistake, not data; and so is a key that is not there."""
    known = (
        Host.model_fields.keys()
        | FleetSettings.model_fields.keys()
        | Options.model_fields.keys()
        | {"stacks"}
    )
    strays = [
        Problem("group_data", f"{host}.{name}", "nothing reads this: is it misspelt?")
        for name in values
        if (name not in known or name == "name") and not name.startswith(_PYINFRA)
    ]
    key = values.get("ssh_key")
    if key and not Path(key).expanduser().exists():
        advice = "there is no such key; `cascade lab up` makes the lab's"
        strays.append(Problem("inventory", f"{host}.ssh_key", f"{key}: {advice}"))
    return strays


def _disagreements(data: dict[str, dict[str, Any]]) -> list[Problem]:
    """What holds for the system as a whole must be the same for every host."""
    first, *others = data.items()
    return [
        Problem("group_data", f"{host}.{name}", f"differs from {first[0]}'s: it is one value for all hosts")
        for host, values in others
        for name in (*FleetSettings.model_fields, *Options.model_fields, "stacks")
        if values.get(name) != first[1].get(name)
    ]
