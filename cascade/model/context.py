"""What a build context holds: the files that `.dockerignore` leaves, and one digest of them all."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from stat import S_IXUSR

IGNORE_FILE = ".dockerignore"
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Rule:
    """One line of a .dockerignore."""

    pattern: re.Pattern[str]
    keeps: bool

    def matches(self, path: str) -> bool:
        """A pattern speaks of a path, and of everything below it."""
        above = (str(folder) for folder in PurePosixPath(path).parents)
        return any(self.pattern.fullmatch(place) for place in (path, *above))


def rules_of(text: str) -> tuple[Rule, ...]:
    """The rules of a .dockerignore, in order; raises ValueError for a pattern that is none."""
    lines = (line.strip() for line in text.splitlines() if not line.startswith("#"))
    return tuple(_rule(line) for line in lines if line and line != "!")


def _rule(line: str) -> Rule:
    keeps = line.startswith("!")
    pattern = os.path.normpath(line.removeprefix("!").strip()).lstrip("/")
    try:
        return Rule(re.compile(_expression(pattern), re.DOTALL), keeps)
    except re.error as error:
        raise ValueError(f"{line!r} is no pattern: {error}") from None


# Source: moby/patternmatcher; Go's filepath.Match with ** for any number of folders.
_WORDS = re.compile(
    r"(?P<folders>\*\*/?)|(?P<any>\*)|(?P<one>\?)|(?P<set>\[\^?[^\]]*\]?)|\\(?P<quoted>.)|.", re.DOTALL
)


def _expression(pattern: str) -> str:
    return "".join(map(_translated, _WORDS.finditer(pattern)))


def _translated(word: re.Match[str]) -> str:
    kind = word.lastgroup
    if kind == "folders":
        return "(?:.*/)?" if word[0].endswith("/") else ".*"
    plain = {"any": "[^/]*", "one": "[^/]", "set": word[0]}
    return plain.get(kind or "", re.escape(word["quoted"] or word[0]))


def context_paths(context: Path, dockerfile: str, without: Path | None = None) -> list[str]:
    """The files, folders and links that a build of this context is sent, sorted.

    `without` is a folder that is never part of it: where builds are kept. Raises ValueError.
    """
    if not context.is_dir():
        raise ValueError(f"there is no folder {context} to build from: write the path of one")
    if not (context / dockerfile).is_file():
        raise ValueError(f"there is no {dockerfile} in {context}: put one there, or name another")
    ignored = context / IGNORE_FILE
    try:
        rules = rules_of(ignored.read_text(encoding="utf-8")) if ignored.is_file() else ()
    except (OSError, ValueError) as error:
        raise ValueError(f"{ignored}: {error}") from None
    always = (dockerfile, IGNORE_FILE)
    unread: list[str] = []
    found = list(_walk(context, without, unread))
    if lost := [path for path in unread if not _is_ignored(path, rules)]:
        advice = f"change its permissions, or name it in {ignored}"
        raise ValueError(f"{context / lost[0]} cannot be read: {advice}")
    return sorted(path for path in found if path in always or not _is_ignored(path, rules))


def _walk(context: Path, without: Path | None, unread: list[str]) -> Iterator[str]:
    """Everything under the context; a folder that cannot be read goes to `unread`, and is no empty one."""

    def remember(error: OSError) -> None:
        unread.append(Path(error.filename).relative_to(context).as_posix())

    never = without.resolve() if without else None
    for folder, folders, files in os.walk(context, onerror=remember):
        folders[:] = [name for name in folders if Path(folder, name).resolve() != never]
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink() or path.is_dir() or path.is_file():
                yield path.relative_to(context).as_posix()


def _is_ignored(path: str, rules: Iterable[Rule]) -> bool:
    """The last rule that speaks of a path decides."""
    ignored = False
    for rule in rules:
        if ignored == rule.keeps and rule.matches(path):
            ignored = not rule.keeps
    return ignored


def runs(path: Path) -> bool:
    """Whether a file may be executed: all of its mode that counts, because a checkout keeps no more."""
    return bool(path.stat().st_mode & S_IXUSR)


def context_digest(
    context: Path, dockerfile: str, arguments: Mapping[str, str], without: Path | None = None
) -> str:
    """A digest of everything that a build is made from; no times, owners or order of a disk are in it.

    Raises ValueError when something cannot be read.
    """
    whole = hashlib.sha256(json.dumps([dockerfile, sorted(arguments.items())]).encode())
    try:
        for path in context_paths(context, dockerfile, without):
            whole.update(json.dumps([path, *_content(context / path)]).encode())
    except OSError as error:
        raise ValueError(f"{context} cannot be read: {error}") from None
    return f"sha256:{whole.hexdigest()}"


def _content(path: Path) -> tuple[str, ...]:
    if path.is_symlink():
        return ("link", str(path.readlink()))
    if path.is_dir():
        return ("folder",)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return ("program" if runs(path) else "file", digest.hexdigest())
