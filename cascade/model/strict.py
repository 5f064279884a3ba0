"""What every model shares: frozen, and no key it does not know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails


class Strict(BaseModel):
    """A model that cannot be changed after it was made and that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> Any:
        """How pyinfra's own JSON output shows a model that lies in group_data."""
        return self.model_dump(mode="json")


@dataclass(frozen=True)
class Problem:
    """One mistake in a person's files: where it stands, what is wrong with it, and what to write instead."""

    file: str
    path: str
    reason: str
    fix: str = ""

    def __str__(self) -> str:
        parts = (self.file, self.path, self.reason)
        return ": ".join(filter(None, parts)) + (f"; {self.fix}" if self.fix else "")


class InvalidFiles(Exception):
    """Every mistake of every file, in one report."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def problems_of(error: ValidationError, file: str, root: str = "") -> list[Problem]:
    """The problems that pydantic found, with the path written as a person would."""
    return [Problem(file, path_of(item["loc"], root), _reason(item)) for item in error.errors()]


def path_of(location: Iterable[int | str], root: str = "") -> str:
    """`services.alpha.ports[0]`: a place in a file as a person would write it."""
    path = root
    for part in location:
        if part != "[key]":
            path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.lstrip(".")


def _reason(item: ErrorDetails) -> str:
    if item["type"] != "extra_forbidden":
        return item["msg"].removeprefix("Value error, ")
    if item["loc"][-1] == "agents":
        return "unknown key: write it as x-agents"
    return "unknown key, or one that Cascade cannot honour"


def twice(items: Iterable[str]) -> list[str]:
    """What stands in there more than once."""
    return sorted(item for item, count in Counter(items).items() if count > 1)
