"""Writing files on the deploying machine."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

_OUTPUTS = (1, 2)


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """So that an interruption leaves the old file or the new one, never a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own, so that two writers do not write into one file.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    fresh = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
        fresh.chmod(mode)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    _keep(path.parent)


def _keep(folder: Path) -> None:
    """The names in a folder are on the disk, too: a machine that loses its power has the file."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    # Some file systems cannot do this for folders; the file is there.
    with suppress(OSError):
        os.fsync(handle)
    os.close(handle)


def write_for_owner(path: Path, text: str) -> None:
    """Where a person said to, for nobody else to read: a device is written to, and a link is followed."""
    stream = _stream(path)
    if stream is None:
        write_whole(path.resolve(), text, mode=0o600)
        return
    with os.fdopen(stream, "w", encoding="utf-8") as file:
        file.write(text)


def _stream(path: Path) -> int | None:
    """A descriptor for what cannot be replaced: a device, a pipe, or the file that this process prints to."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return None
    for output in _OUTPUTS:
        if _is_open(output, there):
            # Opened anew it would begin at the file's first byte.
            return os.dup(output)
    return None if stat.S_ISREG(there.st_mode) else os.open(path, os.O_WRONLY | os.O_NOCTTY)


def _is_open(descriptor: int, there: os.stat_result) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), there)
    return False
