"""What every model shares: frozen, and no key it does not know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError


class Strict(BaseModel):
    """A model that cannot be changed after it was made and that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def to_json(self) -> Any:
        """How pyinfra's own JSON output shows a model that lies in group_data."""
        return self.model_dump(mode="json")


@dataclass(frozen=True)
class Problem:
    """One mistake in a person's files: where it stands, and what is wrong with it."""

    file: str
    path: str
    reason: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.path}" if self.path else self.file
        return f"{where}: {self.reason}"


class InvalidFiles(Exception):
    """Every mistake of every file, in one report."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def problems_of(error: ValidationError, file: str, root: str = "") -> list[Problem]:
    """The problems that pydantic found, with the path written as a person would."""
    return [Problem(file, _path(root, item["loc"]), _reason(item["msg"])) for item in error.errors()]


def _path(root: str, location: tuple[int | str, ...]) -> str:
    path = root
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.lstrip(".")


def _reason(message: str) -> str:
    if message == "Extra inputs are not permitted":
        return "unknown key, or one that Cascade cannot honour"
    return message.removeprefix("Value error, ")
