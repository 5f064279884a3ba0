"""A process counts as running only while it really is that program."""

from pathlib import Path

import pytest

from lab.engine import is_running


def process(folder: Path, name: str, state: str) -> Path:
    (folder / "status").write_text(f"Name:\t{name}\nUmask:\t0022\nState:\t{state}\nTgid:\t42\n")
    return folder


@pytest.mark.parametrize(
    ("name", "state", "running"),
    [
        ("dockerd", "S (sleeping)", True),
        ("dockerd", "Z (zombie)", False),
        ("sleep", "S (sleeping)", False),
    ],
)
def test_only_the_living_program_runs(tmp_path: Path, name: str, state: str, running: bool) -> None:
    assert is_running(process(tmp_path, name, state), "dockerd") is running


def test_a_process_that_is_gone_does_not_run(tmp_path: Path) -> None:
    assert not is_running(tmp_path / "4242", "dockerd")
