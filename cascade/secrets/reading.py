"""Reading small files that may be anything."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Found:
    """What is in a plain file, and who may do what with it."""

    data: bytes
    mode: int


def read_plain(path: Path, most: int) -> Found:
    """A plain file of at most so many bytes; raises ValueError that says what it is instead."""
    try:
        # Opening a pipe would wait for its other end.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            return _found(handle, most)
        finally:
            os.close(handle)
    except FileNotFoundError:
        raise ValueError("is missing") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None


def _found(handle: int, most: int) -> Found:
    there = os.fstat(handle)
    if not stat.S_ISREG(there.st_mode):
        raise ValueError("is no plain file")
    if there.st_size > most:
        raise ValueError(f"has {there.st_size} bytes, more than the {most} that can be right")
    with os.fdopen(handle, "rb", closefd=False) as file:
        return Found(file.read(most), stat.S_IMODE(there.st_mode))
