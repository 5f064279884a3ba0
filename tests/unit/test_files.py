"""What is written where a person said to."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cascade.files import write_for_owner, write_whole

TO_STANDARD_OUTPUT = """
from pathlib import Path
from cascade.files import write_for_owner
print("said before", flush=True)
write_for_owner(Path("/dev/stdout"), "the report\\n")
print("said after")
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_on_the_disk_before_it_has_its_name_and_then_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, kept = tmp_path / "file", list[tuple[str, str]]()
    path.write_text("old")

    def fsync(handle: int) -> None:
        there = Path(f"/proc/self/fd/{handle}")
        kept.append(("folder" if there.is_dir() else there.read_text(), path.read_text()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_whole(path, "new")
    assert kept == [("new", "old"), ("folder", "new")]


@pytest.mark.parametrize("before", [None, "old"])
def test_a_file_is_its_owners_alone(before: str | None, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "report.json"
    if before:
        path.parent.mkdir()
        path.write_text(before)
    write_for_owner(path, "new")
    assert (path.read_text(), mode(path)) == ("new", 0o600)


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o640)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_for_owner(pipe, "new")
    assert os.read(reader, 100) == b"new"
    os.close(reader)
    assert (stat.S_ISFIFO(pipe.stat().st_mode), mode(pipe)) == (True, 0o640)


def test_a_link_stays_and_its_file_is_written(tmp_path: Path) -> None:
    link, file = tmp_path / "link", tmp_path / "elsewhere" / "file"
    link.symlink_to(file)
    for text in ("old", "new"):
        write_for_owner(link, text)
        assert (link.readlink(), file.read_text(), mode(file)) == (file, text, 0o600)


def test_a_link_to_a_device_leaves_both(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/dev/null")
    write_for_owner(link, "new")
    assert link.readlink() == Path("/dev/null")
    assert stat.S_ISCHR(link.stat().st_mode)


@pytest.mark.parametrize("how", ["w", "a"])
def test_standard_output_that_goes_to_a_file_keeps_what_it_holds(how: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open(how) as file:
        subprocess.run([sys.executable, "-c", TO_STANDARD_OUTPUT], stdout=file, check=True)
    assert log.read_text() == "said before\nthe report\nsaid after\n"
