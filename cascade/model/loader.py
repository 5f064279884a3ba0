"""Reads group files. Every mistake of every file comes in one report."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cascade.model.service import GroupFile
from cascade.model.strict import InvalidFiles, Problem, problems_of


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not a silent loss."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_group_files(folder: Path) -> tuple[GroupFile, ...]:
    """All group files of a folder, sorted by file name.

    Raises InvalidFiles with every problem found.
    """
    problems: list[Problem] = []
    groups: dict[str, GroupFile] = {}
    paths = sorted(folder.glob("*.yaml"))
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
        document = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise InvalidFiles([Problem(str(path), "", " ".join(str(error).split()))]) from error
    if not isinstance(document, dict):
        raise InvalidFiles([Problem(str(path), "", "not a Compose file: a map with name: and services:")])
    try:
        return GroupFile.model_validate(_without_fragments(document))
    except ValidationError as error:
        raise InvalidFiles(problems_of(error, str(path))) from error


def _without_fragments(document: dict[Any, Any]) -> dict[Any, Any]:
    """Top-level `x-` keys are Compose's place for anchors and carry no meaning of their own."""
    return {key: value for key, value in document.items() if not str(key).startswith("x-")}
