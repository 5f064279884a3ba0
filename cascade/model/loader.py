"""Reads group files. Every mistake of every file comes in one report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cascade.model.service import GroupFile
from cascade.model.strict import InvalidFiles, Problem, path_of, problems_of

_DOLLAR = re.compile(r"\$(?:\$|(?P<variable>[{A-Za-z_]))")


class _Strictly(yaml.SafeLoader):
    """YAML in which a key that stands twice, or a value that is not of its tag, is an error with its line."""

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        """Here, because merge keys are not yet merged: what they bring may be overridden."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            written = (key.tag, str(key.value))
            if written in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark
                )
            seen.add(written)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, ArithmeticError):
            kind = node.tag.rpartition(":")[2]
            raise yaml.MarkedYAMLError(
                problem=f"{node.value!r} is no {kind}", problem_mark=node.start_mark
            ) from None


def load_group_files(folder: Path) -> tuple[GroupFile, ...]:
    """All group files of a folder, sorted by file name.

    Raises InvalidFiles with every problem found.
    """
    problems: list[Problem] = []
    groups: dict[str, GroupFile] = {}
    paths = sorted(path for path in folder.glob("*") if path.suffix in (".yaml", ".yml"))
    if not paths:
        problems.append(Problem(str(folder), "", "no group files (*.yaml) here: see `stacks` in group_data"))
    for path in paths:
        try:
            group = read_group_file(path)
        except InvalidFiles as invalid:
            problems.extend(invalid.problems)
            continue
        if group.name in groups:
            problems.append(Problem(str(path), "name", f"another file has the group {group.name} too"))
        groups[group.name] = group
    if problems:
        raise InvalidFiles(problems)
    return tuple(groups.values())


def read_group_file(path: Path) -> GroupFile:
    """One group file; raises InvalidFiles."""
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _Strictly)  # noqa: S506 - a SafeLoader
        return group_of(document, str(path))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise InvalidFiles([Problem(str(path), "", " ".join(str(error).split()))]) from error
    except RecursionError:
        raise InvalidFiles([Problem(str(path), "", "nested too deeply, or within itself")]) from None


def group_of(document: object, file: str) -> GroupFile:
    """The group that a file's document describes; raises InvalidFiles with every problem."""
    if not isinstance(document, dict):
        raise InvalidFiles([Problem(file, "", "not a Compose file: a map with name: and services:")])
    said = _without_fragments(document)
    problems = [Problem(file, path, reason) for path, reason in _variables(said)]
    try:
        group = GroupFile.model_validate(_unescaped(said), context={"file": file})
        problems += group.problems()
    except ValidationError as error:
        problems += problems_of(error, file)
    if problems:
        raise InvalidFiles(problems)
    return group


def _without_fragments(document: dict[Any, Any]) -> dict[Any, Any]:
    """Top-level `x-` keys are Compose's place for anchors; only `x-enabled` has a meaning of its own."""
    return {
        key: value for key, value in document.items() if key == "x-enabled" or not str(key).startswith("x-")
    }


def _variables(value: object, *location: int | str) -> Iterator[tuple[str, str]]:
    """Where Compose would put in a variable."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _variables(item, *location, key)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _variables(item, *location, number)
    elif isinstance(value, str) and any(found["variable"] for found in _DOLLAR.finditer(value)):
        yield (
            path_of(location),
            f"{value!r} names a variable, and Cascade puts none in: write $$ for a plain $",
        )


def _unescaped(value: Any) -> Any:
    """`$$` is Compose's way to write a `$`."""
    if isinstance(value, dict):
        return {key: _unescaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unescaped(item) for item in value]
    return value.replace("$$", "$") if isinstance(value, str) else value
