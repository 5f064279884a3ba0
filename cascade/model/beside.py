"""Files that stand beside a group file and belong to it: what configs and seccomp profiles hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationInfo

from cascade.model.wording import shown


@dataclass(frozen=True)
class Beside:
    """A file as the group file names it, with what is in it."""

    path: str
    data: bytes


def read_beside(path: object, info: ValidationInfo, most: int, example: str) -> Beside:
    """The file at a path relative to the group file's folder; raises ValueError, also for too much in it."""
    if not isinstance(path, str) or not path:
        raise ValueError(f"{shown(path)} is no path of a file: write one like {example}")
    folder = Path((info.context or {}).get("file", "")).parent
    try:
        return Beside(path, _content(folder / path, path, most))
    except OSError as error:
        raise ValueError(
            f"{shown(path)} cannot be read: {error.strerror}:"
            f" put a readable file there, beside the group file, or write another path, like {example}"
        ) from None


def _content(file: Path, path: str, most: int) -> bytes:
    """The size is asked first; some files without an end have none."""
    if not file.is_file():
        raise FileNotFoundError(2, "not a plain file" if file.exists() else "no such file")
    if file.stat().st_size > most:
        raise ValueError(f"{shown(path)} has {file.stat().st_size} bytes: write at most {most} into it")
    with file.open("rb") as content:
        return content.read(most)
