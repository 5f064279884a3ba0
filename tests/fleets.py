"""Fleets for tests, made from the files that people deploy."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from cascade.model.fleet import Fleet, FleetSettings, assemble
from cascade.model.host import Host
from cascade.model.image import ImageSource, RegistryImage
from cascade.model.loader import load_group_files

ROOT = Path(__file__).parents[1]
_DIGEST = "sha256:" + "0" * 64


def group_data(name: str) -> dict[str, Any]:
    """What a file of group_data exports."""
    values = runpy.run_path(str(ROOT / "group_data" / f"{name}.py"))
    return {key: value for key, value in values.items() if not key.startswith("_")}


def lab_fleet(image: ImageSource | None = None) -> Fleet:
    """The lab's fleet, of `image`; without one its images get a digest of zeros, so that none is needed."""
    shared = group_data("all") | group_data("lab")
    addresses = {"mainpc": "10.203.0.11", "pc2": "10.203.0.12"}
    hosts = {
        name: Host(name=name, swarm_address=address, **_fields(Host, shared | group_data(name)))
        for name, address in addresses.items()
    }
    shared["images"] = {
        name: image or RegistryImage(reference=f"{name}@{_DIGEST}") for name in shared["images"]
    }
    groups = {group.name: group for group in load_group_files(ROOT / shared["stacks"])}
    return assemble(FleetSettings(**_fields(FleetSettings, shared)), hosts, groups)


def _fields(model: type[Host] | type[FleetSettings], values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in model.model_fields}
