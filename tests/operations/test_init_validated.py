"""What `cascade init` leaves open is a mistake to every run, place by place, until somebody fills it in."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fleets import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder like this project's, without an inventory."""
    (tmp_path / "group_data").mkdir()
    for name in ("config.py", "deploy.py", "operations", "cascade", "lab", "templates"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("all.py", "mainpc.py", "pc2.py", "stacks"):
        (tmp_path / "group_data" / name).symlink_to(ROOT / "group_data" / name)
    return tmp_path


def cascade(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("cascade"), *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("images", [(), ("--registry", "lan:5000/x")], ids=["nothing", "registry"])
def test_every_placeholder_is_a_problem_of_its_own(folder: Path, images: tuple[str, ...]) -> None:
    key = folder / "key"
    key.touch()
    written = cascade(folder, "init", "--mainpc-address", "192.168.1.11", "--ssh-key", str(key), *images)
    assert written.returncode == 0, written.stderr
    marked = len(re.findall(r"^  \S+:\d+: .*CHANGE-ME", written.stdout, re.MULTILINE))
    assert marked == 2 + 9
    told = cascade(folder, "validate", "inventories/home.py")
    said = told.stdout + told.stderr
    assert told.returncode == 64
    places = set(re.findall(r"^(\S+: \S+): still a placeholder", said, re.MULTILINE))
    assert len(places) == marked, said
    assert "inventories/home.py: pc2.ssh_hostname" in places
    assert "group_data/home.py: images['cascade/core'].reference" in places
    assert "Traceback" not in said


def test_answers_to_everything_leave_nothing_to_complain_about_but_the_images(folder: Path) -> None:
    key = folder / "key"
    key.touch()
    addresses = ("--mainpc-address", "192.168.1.11", "--pc2-address", "192.168.1.12")
    cascade(folder, "init", *addresses, "--ssh-key", str(key), "--archives", "images").check_returncode()
    told = cascade(folder, "validate", "inventories/home.py")
    lines = (told.stdout + told.stderr).strip().splitlines()
    assert told.returncode == 64
    assert len(lines) == 9, lines
    assert all("there is no archive images/" in line for line in lines)


def test_a_rehearsal_needs_no_images_to_be_filled_in(folder: Path) -> None:
    key = folder / "key"
    key.touch()
    addresses = ("--mainpc-address", "192.168.1.11", "--pc2-address", "192.168.1.12")
    cascade(folder, "init", *addresses, "--ssh-key", str(key)).check_returncode()
    (folder / ".lab").mkdir()
    busybox = folder / ".lab" / "busybox"
    busybox.write_bytes(b"")
    assert "still a placeholder" in cascade(folder, "logs", "inventories/home.py", "nobody").stderr
    rehearsed = cascade(folder, "status", "inventories/home.py", "--stand-ins", "--group", "nobody")
    assert "still a placeholder" not in rehearsed.stderr
    assert rehearsed.returncode == 64
    assert "there is no group nobody" in rehearsed.stderr
