"""What a person wants to know after a deployment."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from cascade.model.fleet import Fleet
from cascade.planning.addresses import addresses

_NEXT = {
    "cascade status {}": "how every agent stands",
    "cascade logs {} AGENT -f": "what an agent writes",
    "pyinfra {} deploy.py --dry": "what has changed since",
}


def closing_lines(fleet: Fleet, inventory: str) -> Iterator[str]:
    """Where the system answers, and the next commands."""
    for (group, agent), published in groupby(addresses(fleet), lambda found: (found.group, found.agent)):
        yield f"{group} {agent} answers on {', '.join(map(str, published))}"
    commands = {command.format(inventory): purpose for command, purpose in _NEXT.items()}
    width = max(map(len, commands))
    yield from (f"{command:{width}}  {purpose}" for command, purpose in commands.items())
