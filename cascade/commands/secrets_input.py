"""Where a person's values come from, and the editor that they may change one in."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from cascade.commands.failures import Failed, Mistake
from cascade.commands.hidden import hidden_line
from cascade.secrets.reading import read_plain
from cascade.secrets.value import LARGEST_BYTES, Value

_MEMORY = ("tmpfs", "ramfs")
_ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def value_of_file(path: Path) -> Value:
    """What is in a file, exactly."""
    try:
        return fitting(read_plain(path, LARGEST_BYTES).data)
    except ValueError as error:
        raise Mistake(f"{path} {error}") from None


def asked_value(name: str) -> Value:
    """A line typed twice on a terminal, unseen; else exactly what comes on standard input."""
    if not sys.stdin.isatty():
        return fitting(sys.stdin.buffer.read(LARGEST_BYTES + 1))
    while (line := hidden_line(f"Value of {name}")) != hidden_line("Repeat for confirmation"):
        click.echo("the two are not the same: once more", err=True)
    return fitting(line)


def fitting(data: bytes) -> Value:
    """A value of a size that the Swarm takes."""
    if not data:
        raise Mistake("the value is empty, and the Swarm keeps no empty secret: give it a byte or more")
    if len(data) > LARGEST_BYTES:
        raise Mistake(f"the value has more than {LARGEST_BYTES} bytes, the most that the Swarm surely takes")
    return Value(data)


def edited(name: str, value: Value) -> Value:
    """The value as a person's editor left it; the newline that an editor adds at the end goes again."""
    if not _is_text(value.data):
        raise Mistake(f"{name} is no text: take it out by `get` and put it back by `set --file`")
    after = _through_editor(value.data)
    return fitting(after if value.data.endswith(b"\n") else after.removesuffix(b"\n"))


def _is_text(data: bytes) -> bool:
    if b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _through_editor(data: bytes) -> bytes:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise Mistake("there is no editor: name one in VISUAL or EDITOR")
    with _folder_in_memory() as folder:
        file = folder / "value"
        file.touch(mode=0o600)
        file.write_bytes(data)
        try:
            code = subprocess.run([*shlex.split(editor), str(file)], check=False).returncode
        except (OSError, ValueError) as error:
            raise Mistake(f"the editor {editor} cannot be started: {error}") from None
        if code:
            raise Failed(f"the editor ended with {code}, and nothing was changed")
        return value_of_file(file).data


@contextmanager
def _folder_in_memory() -> Iterator[Path]:
    """A folder of one's own that never was on a disk, with all that an editor leaves beside the file."""
    place = next(filter(_is_in_memory, _places()), None)
    if place is None:
        raise Mistake("there is no folder in memory (tmpfs) to edit in: use `set`, which writes no file")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_ENDS)}
    folder = None
    try:
        for number in _ENDS:
            signal.signal(number, _end)
        folder = Path(tempfile.mkdtemp(prefix="cascade-", dir=place))
        yield folder
    finally:
        # A second signal, of somebody impatient, would leave the rest there.
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        if folder:
            shutil.rmtree(folder)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _places() -> Iterator[Path]:
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime)
    yield Path("/dev/shm")  # noqa: S108 - a folder of one's own is made in it


def _is_in_memory(place: Path) -> bool:
    """Whether the file system that a folder is on is one of memory: the kernel's table of mounts."""
    try:
        device = os.stat(place).st_dev  # noqa: PTH116
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        mount, _, kind = line.partition(" - ")
        if mount.split()[2] == wanted:
            return kind.split()[0] in _MEMORY and os.access(place, os.W_OK)
    return False
