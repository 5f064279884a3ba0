"""What every model shares: frozen, and no key it does not know."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cascade.model.wording import reason_and_fix, wording

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST = 300


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

    @classmethod
    def saying(cls, file: str, path: str, message: str) -> Problem:
        """A problem of a message that ends with what to do: `…: write …`."""
        return cls(file, path, *reason_and_fix(message))

    def __str__(self) -> str:
        said = self.document()
        where = ": ".join(filter(None, (said["file"], said["path"], said["reason"])))
        return where + (f"; {said['fix']}" if said["fix"] else "")

    def document(self) -> dict[str, str]:
        """Each part in one line of bounded length, fit for any terminal, whatever stood in the file."""
        return {name: one_line(text) for name, text in vars(self).items()}


def one_line(text: str) -> str:
    """Control characters as escapes, and of a long text both ends."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 100]} … {text[-90:]}"
    return printable(text)


def printable(text: str) -> str:
    """Control characters as escapes, those that end a line too."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def printable_lines(text: str) -> str:
    """The same of each line; tabs are blanks."""
    return "\n".join(map(printable, text.expandtabs().split("\n")))


class InvalidFiles(Exception):
    """Every mistake of every file, in one report."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def problems_of(error: ValidationError, file: str, root: str = "") -> list[Problem]:
    """The problems that pydantic found, with the path written as a person would."""
    python = not file.endswith((".yaml", ".yml"))
    return [Problem(file, path_of(item["loc"], root), *wording(item, python)) for item in error.errors()]


# Marks of pydantic and of `ImageSource` in a location, which stand in no file.
_UNWRITTEN = ("[key]", "[registry]", "[archive]", "[build]")


def path_of(location: Iterable[int | str], root: str = "") -> str:
    """`services.alpha.ports[0]`: a place in a file as a person would write it."""
    path = root
    for part in location:
        if isinstance(part, str) and _PLAIN_KEY.fullmatch(part):
            path += f".{part}"
        elif part not in _UNWRITTEN:
            path += f"[{part!r}]"
    return path.lstrip(".")


def twice(items: Iterable[str]) -> list[str]:
    """What stands in there more than once."""
    return sorted(item for item, count in Counter(items).items() if count > 1)
