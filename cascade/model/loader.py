"""Reads group files. Every mistake of every file comes in one report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from cascade.model.document import read_document
from cascade.model.hardening import Weaker
from cascade.model.keys import refusals, without
from cascade.model.salvage import MOST, salvage
from cascade.model.service import GroupFile
from cascade.model.strict import InvalidFiles, Problem, path_of
from cascade.model.wording import shown, wording

_DOLLAR = re.compile(r"\$(?:\$|(?P<variable>[{A-Za-z_]))")

_NO_SIGN = "remove it"

_STAND_INS: dict[str, Any] = {
    "configs.*": {"content": "unknown"},
    "image": "unknown",
    "networks.*": {"external": True},
    "secrets.*": {"external": True},
    "services": {},
    "volumes.*": None,
}

_A_SERVICE = len(("services", "name"))

# Where the reasons stand for what is weaker than the default.
_REASONS = {"exceptions", "profile", "security", "x-security"}
_AROUND_FILES = {"configs", "secrets", "source", "target", "tmpfs", "volumes", "x-agents"}
_SHARING = {"deploy", "runtime", "vram", "vram_budget", "x-agents"}
# What a check of the whole says of one key is in doubt when one of these could not be read.
_RESTS_ON: dict[str, set[str]] = {
    **dict.fromkeys(get_args(Weaker), _REASONS),
    "cap_add": {"user", *_REASONS},
    "configs": _AROUND_FILES,
    "constraints": {"placement", "deploy"},
    "environment": _AROUND_FILES | {"device", "x-gpu"},
    "external": {"environment", "file", "x-generate"},
    "file": {"content", "environment", "external"},
    "depends_on": {"name", "services", "startup_order", "x-agents"},
    "gpu_access": {"x-gpu"},
    "max_replicas_per_node": {"placement", "deploy", "replicas"},
    "networks": {"x-agents"},
    "pids": _REASONS,
    "pids_limit": {"deploy", "limits", "pids", "resources", *_REASONS},
    "ports": {"deploy", "port", "protocol", "target", "x-agents"},
    "resources": {"cpus", "deploy", "limits", "memory", "memory_limit", "reservations", "x-agents"},
    "secrets": _AROUND_FILES,
    "security": {*get_args(Weaker), *_REASONS},
    "services": {"depends_on", "name", "x-agents"},
    "volumes": {"tmpfs", "x-agents", *_REASONS},
    "vram": {"gpu_access", "runtime", "x-gpu"},
    "vram_budget": {"gpu_access", "replicas", *_SHARING},
    "x-agents": {"depends_on", "name", "startup_order"},
    "x-gpu": {"constraints", "gpu_access", "placement", *_SHARING},
}


@dataclass(frozen=True)
class Reading:
    """A group as far as its file could be read, the file's mistakes, and the keys that were left out."""

    file: str
    group: GroupFile | None
    problems: tuple[Problem, ...] = ()
    left_out: frozenset[str] = frozenset()

    def doubts(self, path: str) -> bool:
        """Whether what is said of this place may only follow from a mistake that is reported already."""
        key = path.rpartition(".")[2].partition("[")[0]
        return bool(self.left_out & {key, *_RESTS_ON.get(key, ())})


def load_group_files(folder: Path) -> tuple[GroupFile, ...]:
    """All group files of a folder, sorted by file name.

    Raises InvalidFiles with every problem found.
    """
    readings, problems = examine_group_files(folder)
    if problems:
        raise InvalidFiles(problems)
    return tuple(reading.group for reading in readings if reading.group)


def examine_group_files(folder: Path) -> tuple[list[Reading], list[Problem]]:
    """What could be read of every group file of a folder, with every problem found."""
    paths = sorted(path for path in folder.glob("*") if path.suffix in (".yaml", ".yml"))
    if not paths:
        fix = "put them there, or name their folder as `stacks` in group_data"
        return [], [Problem(str(folder), "", "no group files (*.yaml) here", fix)]
    readings = [examine_group_file(path) for path in paths]
    problems = [problem for reading in readings for problem in reading.problems]
    files: dict[str, str] = {}
    for reading in readings:
        if reading.group is None or reading.doubts("name"):
            continue
        if reading.group.name in files:
            reason = f"{files[reading.group.name]} has the group {reading.group.name} too"
            problems.append(Problem(reading.file, "name", reason, "give one of the two another name"))
        files[reading.group.name] = reading.file
    return readings, problems


def examine_group_file(path: Path) -> Reading:
    """What could be read of one group file."""
    try:
        return examine_document(read_document(path), str(path))
    except InvalidFiles as invalid:
        return Reading(str(path), None, invalid.problems)


def read_group_file(path: Path) -> GroupFile:
    """One group file; raises InvalidFiles."""
    return _whole(examine_document(read_document(path), str(path)))


def group_of(document: object, file: str) -> GroupFile:
    """The group that a file's document describes; raises InvalidFiles with every problem."""
    return _whole(examine_document(document, file))


def _whole(reading: Reading) -> GroupFile:
    if reading.problems or reading.group is None:
        raise InvalidFiles(reading.problems)
    return reading.group


def examine_document(document: object, file: str) -> Reading:
    """What could be read of a file's document."""
    if not isinstance(document, dict):
        fix = "write a map with name: and services:"
        return Reading(file, None, (Problem(file, "", "not a Compose file", fix),))
    said = _without_fragments(document)
    refused = dict(islice(refusals(said), MOST))
    problems = [Problem(file, path_of(place), *refusal) for place, refusal in refused.items()]
    known = without(said, set(refused))
    problems += [Problem(file, *fault) for fault in islice(_text_faults(known), MOST)]
    if len(problems) >= MOST:
        return Reading(file, None, tuple(problems[:MOST]))
    stand_ins = _STAND_INS | {"name": Path(file).stem}
    found = salvage(GroupFile, _unescaped(known), stand_ins, {"file": file})
    named = {problem.path for problem in problems}
    wrong = [Problem(file, path_of(error["loc"]), *wording(error)) for error in found.errors]
    problems += [problem for problem in wrong if problem.path not in named]
    left_out = found.doubtful | {str(place[-1]) for place in refused}
    if any(place[0] == "services" and len(place) == _A_SERVICE for place in found.left_out):
        left_out |= {"services"}
    reading = Reading(file, found.model, tuple(problems), left_out)
    fitting = [] if found.model is None else found.model.problems()
    problems += [problem for problem in fitting if not reading.doubts(problem.path)]
    return Reading(file, found.model, tuple(problems[:MOST]), left_out)


def _without_fragments(document: dict[Any, Any]) -> dict[Any, Any]:
    """Top-level `x-` keys are Compose's place for anchors; only `x-enabled` has a meaning of its own."""
    return {
        key: value for key, value in document.items() if key == "x-enabled" or not str(key).startswith("x-")
    }


def _text_faults(value: object, *location: int | str) -> Iterator[tuple[str, str, str]]:
    """Where Compose would put in a variable, and what no container can be told."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _text_faults(item, *location, key)
            if isinstance(key, str) and not _can_be_said(key):
                yield path_of((*location, key)), "a key with a character that no container can take", _NO_SIGN
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _text_faults(item, *location, number)
    elif isinstance(value, str) and not _can_be_said(value):
        yield path_of(location), f"{shown(value)} has a character that no container can take", _NO_SIGN
    elif isinstance(value, str) and any(found["variable"] for found in _DOLLAR.finditer(value)):
        reason = "a $ in it names a variable, and Cascade puts none in"
        yield path_of(location), reason, "write the value itself, or $$ for a plain $"


def _can_be_said(text: str) -> bool:
    """Not so with a zero byte, or half a pair of UTF-16."""
    return "\0" not in text and not any("\ud800" <= sign <= "\udfff" for sign in text)


def _unescaped(value: Any) -> Any:
    """`$$` is Compose's way to write a `$`."""
    if isinstance(value, dict):
        return {key: _unescaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unescaped(item) for item in value]
    return value.replace("$$", "$") if isinstance(value, str) else value
