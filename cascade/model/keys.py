"""Every key that a group file may have: honoured because a model reads it, or refused by name.

A key is written as in refused.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, get_args, get_origin

from cascade.model.refused import REFUSED, Refusal
from cascade.model.service import GroupFile
from cascade.model.strict import Strict

Location = tuple[int | str, ...]

# Read into a model, and written as text only.
_TEXTS = {"services.*.restart", "services.*.tmpfs"}
_REMOVE = "remove it, or keep it under an x- key at the top of the file"


@dataclass
class _Node:
    """What may stand in one place of a file."""

    below: dict[str, _Node] = field(default_factory=dict)
    refusal: Refusal | None = None
    refused_values: dict[str, Refusal] = field(default_factory=dict)

    def at(self, key: str) -> _Node:
        node = self
        for part in key.split("."):
            node = node.below.setdefault(part, _Node())
        return node


@cache
def honoured_keys() -> frozenset[str]:
    """Every key that a model of a group file reads."""
    return frozenset(_keys_of(GroupFile, ""))


def _keys_of(model: type[Strict], prefix: str) -> Iterator[str]:
    for name, info in model.model_fields.items():
        key = f"{prefix}{info.alias or name}"
        yield key
        if key not in _TEXTS:
            for path, below in _models(info.annotation):
                yield from _keys_of(below, f"{key}.{path}")


def _models(annotation: Any) -> Iterator[tuple[str, type[Strict]]]:
    """The models inside an annotation, and whether names of the file's own lie between."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _models(inner[0])
    elif origin is dict:
        yield from (("*.", model) for _, model in _models(inner[1]))
    elif isinstance(annotation, type) and issubclass(annotation, Strict):
        yield "", annotation
    else:
        for part in inner:
            yield from _models(part)


@cache
def _tree() -> _Node:
    root = _Node()
    for key in honoured_keys():
        root.at(key)
    for key, refusal in REFUSED.items():
        name, equals, value = key.partition(" = ")
        if equals:
            root.at(name).refused_values[value] = refusal
        else:
            root.at(name).refusal = refusal
    return root


def refusals(document: Mapping[Any, Any]) -> Iterator[tuple[Location, Refusal]]:
    """Each key of a file that is refused or unknown, with its place."""
    for key, value in document.items():
        yield from _refusals(value, _tree().below.get(str(key)), (str(key),))
    networks = document.get("networks")
    for name, network in networks.items() if isinstance(networks, dict) else ():
        if not isinstance(network, dict) or not network.get("external"):
            yield ("networks", str(name)), _own_network(str(name), network or {})


def _refusals(value: Any, node: _Node | None, location: Location) -> Iterator[tuple[Location, Refusal]]:
    if node is None:
        yield location, _unknown(location)
    elif node.refusal:
        yield location, node.refusal
    elif isinstance(value, dict) and node.below:
        for key, item in value.items():
            below = node.below.get("*", node.below.get(str(key)))
            yield from _refusals(item, below, (*location, str(key)))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _refusals(item, node, (*location, number))
    elif refusal := node.refused_values.get(str(value).lower()):
        yield location, refusal


def _unknown(location: Location) -> Refusal:
    """A key that Compose does not know either, with the one that may have been meant."""
    *above, key = location
    reason = "an x- key that nothing reads" if str(key).startswith("x-") else "not a key of Compose"
    if nearest := get_close_matches(str(key), _known_beside(above), 1, 0.75):
        return Refusal(reason, f"write {nearest[0]}, if that is meant")
    here = key_of(above)
    elsewhere = [known for known in honoured_keys() if known.endswith(f".{key}")]
    if near := [known for known in elsewhere if known.startswith(here)]:
        inside = min(near, key=len).removeprefix(here).lstrip(".").rpartition(".")[0]
        return Refusal(f"{reason} in this place", f"write it under {inside}")
    return Refusal(reason, _REMOVE)


def _known_beside(above: list[int | str]) -> list[str]:
    node = _tree()
    for part in above:
        if isinstance(part, str):
            node = node.below.get("*") or node.below[part]
    return sorted(node.below)


def key_of(place: Iterable[int | str]) -> str:
    """The key to which a place in a file belongs, as the tables write it."""
    node, parts = _tree(), []
    for part in place:
        name = "*" if "*" in node.below else str(part)
        if isinstance(part, str) and name in node.below:
            parts.append(name)
            node = node.below[name]
        elif isinstance(part, str):
            break
    return ".".join(parts)


def _own_network(name: str, network: Mapping[str, Any] | Any) -> Refusal:
    """A network that a file would make for itself, with the line that makes it for the fleet."""
    said = network if isinstance(network, dict) else {}
    arguments = [f'name="{said.get("name") or name}"']
    if subnet := _subnet(said):
        arguments.append(f'subnet="{subnet}"')
    if said.get("internal") in (True, "true"):
        arguments.append("internal=True")
    if mtu := _options(said).get("com.docker.network.driver.mtu"):
        arguments.append(f"mtu={mtu}")
    return Refusal(
        "a group makes no network of its own: all groups share those of the fleet",
        f"write {name}: {{external: true}} here, and in group_data networks Overlay({', '.join(arguments)})",
    )


def _subnet(network: Mapping[str, Any]) -> str:
    match network.get("ipam"):
        case {"config": [{"subnet": str(subnet)}, *_]}:
            return subnet
    return ""


def _options(network: Mapping[str, Any]) -> Mapping[str, Any]:
    options = network.get("driver_opts")
    return options if isinstance(options, dict) else {}


def without(document: Mapping[Any, Any], places: set[Location]) -> dict[Any, Any]:
    """The file without these keys, so that its values can be checked; every network is the fleet's."""
    networks = {place for place in places if place[0] == "networks" and len(place) == 2}
    kept: dict[Any, Any] = _without(document, places - networks, ())
    if isinstance(kept.get("networks"), dict):
        kept["networks"] = {name: _external(network) for name, network in kept["networks"].items()}
    return kept


def _without(value: Any, places: set[Location], location: Location) -> Any:
    if isinstance(value, dict):
        pairs = ((key, (*location, str(key)), item) for key, item in value.items())
        return {key: _without(item, places, below) for key, below, item in pairs if below not in places}
    if isinstance(value, list):
        return [_without(item, places, (*location, number)) for number, item in enumerate(value)]
    return value


def _external(network: Any) -> Any:
    kept = network if isinstance(network, dict) else {}
    return {**kept, "external": True}
