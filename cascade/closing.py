"""What a person wants to know after a deployment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from shlex import join, quote

from cascade.model.fleet import Fleet
from cascade.planning.addresses import addresses

_NEXT = {
    "cascade status {}{option}": "how every agent stands",
    "cascade logs {} AGENT -f": "what an agent writes",
    "pyinfra {} deploy.py --dry{data}": "what has changed since",
}


def closing_lines(fleet: Fleet, inventory: str) -> Iterator[str]:
    """Where the system answers, and the next commands."""
    for (group, agent), published in groupby(addresses(fleet), lambda found: (found.group, found.agent)):
        yield f"{group} {agent} answers on {', '.join(map(str, published))}"
    said = {"option": " --stand-ins", "data": " --data stand_ins=True"}
    rehearsal = {name: text if fleet.options.stand_ins else "" for name, text in said.items()}
    commands = {command.format(quote(inventory), **rehearsal): purpose for command, purpose in _NEXT.items()}
    width = max(map(len, commands))
    yield from (f"{command:{width}}  {purpose}" for command, purpose in commands.items())


def again(inventory: str, limit: Iterable[str], options: Mapping[str, object], asking: bool) -> str:
    """The command line of a deployment that is about the same as one that did not come to its end."""
    words = ["pyinfra", *([] if asking else ["-y"])]
    for host in limit:
        words += ["--limit", host]
    for name, value in options.items():
        words += ["--data", f"{name}={','.join(value) if isinstance(value, tuple) else value}"]
    return join((*words, inventory, "deploy.py"))
