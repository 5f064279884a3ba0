"""What a run says that it will do, and what it does: every deployment of these tests is held to its plan.

The plan is that of `cascade plan`, made just before; what was done stands in the hosts' journals.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cascade.exit_codes import ATTENTION, ROLLED_BACK

_PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)')
_BACK = {"create": "remove", "remove": "create", "update": "update", "replace": "replace"}
_BY_FLAG = {"group": "--group", "from_group": "--from-group"}
_FLAGS = ("prune", "stand_ins", "allow_docker_restart")
_AIMS = ("rollback", "repair")
# `cascade plan` is of the files; this makes the same document for another aim.
_PLAN = """
import json, sys
from pathlib import Path
from cascade.commands.plan import make
from cascade.documents import PlanDocument, json_of
document = make(Path(sys.argv[1]), (), json.loads(sys.argv[2])).document
print(json_of(PlanDocument, document))
raise SystemExit(document.exit_code)
"""


@dataclass(frozen=True, order=True)
class Deed:
    """One change of one thing."""

    host: str
    kind: str
    name: str
    action: str

    def instead(self, action: str) -> Deed:
        """Another change of the same thing."""
        return Deed(self.host, self.kind, self.name, action)


def question(argv: Sequence[str]) -> tuple[str, ...] | None:
    """The command that plans what another one is going to do; None for one that deploys nothing.

    A saved plan is its own: what it says is what its deployment compares itself with.
    """
    if argv[:2] == ("pyinfra", "-y") and argv[-1] == "deploy.py":
        return _asked(argv[-2], argv[2:-2])
    if argv[:2] == ("cascade", "apply") and "--yes" in argv and argv[-1].endswith(".py"):
        chosen = [option for option in argv[2:-1] if option != "--yes"]
        return ("cascade", "plan", "--json", *_without_wait(chosen), argv[-1])
    if argv[:2] == ("cascade", "rollback") and "--yes" in argv:
        aim = [word for word in argv[2:] if word == "previous" or word.isdecimal()]
        return _aimed(_inventory(argv), {"rollback": (aim or ["previous"])[0]})
    if argv[:2] == ("cascade", "drift") and "--repair" in argv:
        return _aimed(_inventory(argv), {"repair": "all" if "--approve" in argv else "automatic"})
    return None


def _inventory(argv: Sequence[str]) -> str:
    return next(word for word in argv if word.endswith(".py"))


def _asked(inventory: str, options: Sequence[str]) -> tuple[str, ...] | None:
    pairs = list(zip(options[::2], options[1::2], strict=True))
    data = dict(value.split("=", 1) for option, value in pairs if option == "--data")
    if "plan_file" in data:
        return None
    if aim := {name: data[name] for name in _AIMS if name in data}:
        return _aimed(inventory, aim)
    limits = [word for pair in pairs if pair[0] == "--limit" for word in pair]
    named = [
        word
        for name, flag in _BY_FLAG.items()
        for value in filter(None, data.get(name, "").split(","))
        for word in (flag, value)
    ]
    flags = [f"--{name.replace('_', '-')}" for name in _FLAGS if name in data]
    return ("cascade", "plan", "--json", *limits, *named, *flags, inventory)


def _aimed(inventory: str, options: dict[str, str]) -> tuple[str, ...]:
    return ("python", "-c", _PLAN, inventory, json.dumps(options))


def _without_wait(options: Iterable[str]) -> Iterator[str]:
    words = iter(options)
    for word in words:
        if word == "--lock-wait":
            next(words)
        else:
            yield word


def planned(document: dict[str, Any]) -> set[Deed]:
    """Every change in the document of a plan."""
    return {
        Deed(change["host"], change["kind"], change["name"], change["action"])
        for change in document["changes"]
    }


def parsed(line: str) -> dict[str, str]:
    """The values of a line in a journal, as the reference says that they are to be read."""
    return {
        name: json.loads(value) if value.startswith('"') else value for name, value in _PAIR.findall(line)
    }


def written(host: str, journal: str) -> Iterator[tuple[Deed, str]]:
    """Every change in a run's lines of a host's journal, with what came of it.

    A release is the last that a run writes down; the configs that go with the oldest one are no changes.
    """
    for line in journal.splitlines():
        said = parsed(line)
        if said["kind"] == "release":
            return
        if said["kind"] != "lock":
            yield Deed(host, said["kind"], said["name"], said["action"]), said["result"]


def disagreement(code: int, plan: set[Deed], made: Iterable[tuple[Deed, str]]) -> str:
    """How a run that ended with this code did not do what was planned; empty where it did.

    An agent that holds what is replaced is removed first: two lines for one replacement. A run that failed
    has done a part, and may have undone what it did to the group that failed.
    """
    freed = {deed.instead("remove") for deed in plan if deed.action == "replace"}
    lines = [(deed, result) for deed, result in made if deed not in freed]
    done = {deed for deed, _ in lines}
    back = {deed.instead(_BACK[deed.action]) for deed in plan} if code == ROLLED_BACK else set()
    found = {"not planned": done - plan - back}
    if code in (0, ATTENTION):
        found["not done"] = plan - done
        found["failed"] = {deed for deed, result in lines if result != "done"}
    return "; ".join(f"{what}: {sorted(deeds)}" for what, deeds in found.items() if deeds)
