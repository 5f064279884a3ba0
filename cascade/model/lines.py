"""Where in a YAML file each value stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from cascade.model.keys import Location


@dataclass(frozen=True)
class Leaf:
    """A value of a file that holds no others: its place, its line from 1, and its text as written."""

    place: Location
    line: int
    text: str


def leaves(node: yaml.Node | None) -> list[Leaf]:
    """Every value below a node, merge keys merged, in the order of their lines."""
    return sorted(_leaves(node, ()), key=lambda leaf: leaf.line) if node else []


def _leaves(node: yaml.Node, place: Location) -> Iterator[Leaf]:
    if isinstance(node, yaml.MappingNode) and node.value:
        for key, below in _merged(node).items():
            yield from _leaves(below, (*place, key))
    elif isinstance(node, yaml.SequenceNode) and node.value:
        for number, below in enumerate(node.value):
            yield from _leaves(below, (*place, number))
    else:
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        yield Leaf(place, node.start_mark.line + 1, text)


def _merged(node: yaml.MappingNode) -> dict[str, yaml.Node]:
    """The values by key; the map's own win, then those merged first."""
    found: dict[str, yaml.Node] = {}
    own = {}
    for key, value in node.value:
        if key.tag != "tag:yaml.org,2002:merge":
            own[str(key.value)] = value
            continue
        for source in reversed(value.value if isinstance(value, yaml.SequenceNode) else [value]):
            found |= _merged(source)
    return found | own
