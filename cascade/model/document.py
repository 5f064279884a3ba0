"""Reads a YAML file strictly, in bounded time and memory, whatever it holds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from cascade.model.strict import InvalidFiles, Problem

LARGEST_BYTES = 512 * 1024
_MOST_VALUES = 50_000
_DEEPEST = 50
_TAG = "tag:yaml.org,2002:"


class _Strictly(yaml.SafeLoader):
    """YAML in which a key that stands twice, or a value that is not of its tag, is an error with its line.

    Plain values are read as Compose reads them: `22:22` and `yes` are texts, not a number and a truth.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        """Here, because merge keys are not yet merged: what they bring may be overridden."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            written = (key.tag, str(key.value))
            if written in seen and key.tag != f"{_TAG}merge":
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} stands twice: remove one of the two",
                    problem_mark=key.start_mark,
                )
            seen.add(written)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, ArithmeticError):
            kind = node.tag.rpartition(":")[2]
            raise yaml.MarkedYAMLError(
                problem=f"{node.value!r} is no {kind}: write it in quotes, if it is a text",
                problem_mark=node.start_mark,
            ) from None


def _resolve(tag: str, pattern: str, first: Iterable[str]) -> None:
    _Strictly.add_implicit_resolver(f"{_TAG}{tag}", re.compile(rf"(?:{pattern})\Z"), list(first))


_resolve("bool", "true|True|TRUE|false|False|FALSE", "tTfF")
_resolve("int", r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)", "-+0123456789")
_resolve("float", r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?", "-+0123456789.")
_resolve("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.")
_resolve("merge", "<<", "<")
_resolve("null", "~|null|Null|NULL|", ("~", "n", "N", ""))


def read_document(path: Path) -> Any:
    """What a YAML file says; raises InvalidFiles."""
    file = str(path)
    text = _text_of(path)
    try:
        loader = _Strictly(text)
        node = loader.get_single_node()
        if node is not None:
            _expansion(node, {}, 1)
        return None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise InvalidFiles([_marked(file, error)]) from error
    except yaml.YAMLError as error:
        raise InvalidFiles(
            [Problem(file, "", " ".join(str(error).split()), "remove that character")]
        ) from error
    except RecursionError:
        raise InvalidFiles([_too_deep(file)]) from None


def read_nodes(path: Path) -> yaml.Node | None:
    """The same file's nodes, which know their lines; only for a file that `read_document` has read."""
    return _Strictly(_text_of(path)).get_single_node()


def _text_of(path: Path) -> str:
    """The file's text; its size is asked first."""
    file = str(path)
    try:
        if not path.is_file():
            raise FileNotFoundError(2, "no such file" if not path.exists() else "not a plain file")
        if path.stat().st_size > LARGEST_BYTES:
            reason = f"{path.stat().st_size} bytes, and a group file has at most {LARGEST_BYTES}"
            raise InvalidFiles([Problem(file, "", reason, "move what is not the group's out of it")])
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"not a text in UTF-8: {error.reason} at byte {error.start}"
        raise InvalidFiles([Problem(file, "", reason, "save it as UTF-8")]) from error
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        raise InvalidFiles([Problem(file, "", reason, "put a readable file there, or remove it")]) from error


def _expansion(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """How many values a node stands for when every alias in it is written out."""
    if id(node) in known:
        return known[id(node)]
    if depth > _DEEPEST:
        raise RecursionError
    count = 1
    known[id(node)] = _MOST_VALUES + 1  # what stands within itself is without end
    for part in _parts(node):
        count += _expansion(part, known, depth + 1)
        if count > _MOST_VALUES:
            raise yaml.MarkedYAMLError(
                problem=f"it has more than {_MOST_VALUES} values, aliases written out: write fewer",
                problem_mark=node.start_mark,
            )
    known[id(node)] = count
    return count


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _too_deep(file: str) -> Problem:
    fix = "write it flat, and no alias inside its anchor"
    return Problem(file, "", "nested too deeply, or within itself", fix)


def _marked(file: str, error: yaml.MarkedYAMLError) -> Problem:
    """Where in the file, as its path."""
    mark = error.problem_mark or error.context_mark
    path = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    said = " ".join(filter(None, (error.context, error.problem)))
    problem = Problem.saying(file, path, " ".join(said.split()))
    if "constructor for the tag" in problem.reason:
        return Problem(file, path, problem.reason, "write the value without a tag")
    if problem.fix.startswith("see "):
        return Problem(file, path, problem.reason, "correct the YAML there: indentation, quotes or brackets")
    return problem
