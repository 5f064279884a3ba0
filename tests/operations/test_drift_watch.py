"""`cascade drift` as a timer runs it, through the real command line, where no host answers."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cascade.documents import DriftDocument
from lab import keys
from tests.fleets import ROOT

INVENTORY = """
_shared = {{"ssh_hostname": "127.0.0.1", "ssh_port": {port}, "ssh_user": "deploy", "ssh_key": "id_ed25519"}}
mainpc = [("mainpc", {{**_shared, "swarm_address": "192.0.2.1"}})]
pc2 = [("pc2", {{**_shared, "swarm_address": "192.0.2.2"}})]
"""
SETTINGS = """
from cascade.model.image import RegistryImage

images = {{name: RegistryImage(reference=f"{{name}}@sha256:{zeros}") for name in {names}}}
on_drift = ("cp", "/dev/stdin", "heard")
"""
NAMES = tuple(
    f"cascade/{name}"
    for name in (
        "core",
        "ai-engine",
        "request-handler",
        "memory-learning",
        "audio-realtime",
        "personality",
        "auxiliary",
        "pc2-core",
        "pc2-apps",
    )
)


@dataclass(frozen=True)
class Folder:
    """A folder like this project's, whose hosts hang up."""

    path: Path

    def check(self, *options: str) -> subprocess.CompletedProcess[str]:
        """The command line that a unit has."""
        places = ("--publish", "results", "--metrics", "metrics")
        return self.cascade("drift", *places, *options, "--", "inventories/home.py")

    def cascade(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).with_name("cascade"), *arguments],
            cwd=self.path,
            env={**os.environ, "CASCADE_SYSTEM": "unit"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    @property
    def result(self) -> dict[str, Any]:
        """What a check has left behind, which is as its schema says."""
        text = (self.path / "results/result.json").read_text()
        return DriftDocument.model_validate_json(text).model_dump(mode="json")

    @property
    def metrics(self) -> str:
        (file,) = (self.path / "metrics").iterdir()
        assert re.fullmatch(r"cascade-drift-home-[0-9a-f]{8}\.prom", file.name)
        return file.read_text()


@pytest.fixture
def port() -> Iterator[int]:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def folder(tmp_path: Path, port: int) -> Folder:
    for name in ("config.py", "deploy.py", "operations", "cascade", "lab", "templates"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "group_data").mkdir()
    for name in ("all.py", "mainpc.py", "pc2.py", "stacks"):
        (tmp_path / "group_data" / name).symlink_to(ROOT / "group_data" / name)
    (tmp_path / "group_data/home.py").write_text(SETTINGS.format(zeros="0" * 64, names=NAMES))
    (tmp_path / "inventories").mkdir()
    (tmp_path / "inventories/home.py").write_text(INVENTORY.format(port=port))
    keys.ensure_key_pair(tmp_path)
    return Folder(tmp_path)


def test_hosts_that_do_not_answer_are_told_to_everybody(folder: Folder) -> None:
    done = folder.check()
    assert done.returncode == 6, done.stderr
    assert (folder.result["exit_code"], folder.result["in_sync"]) == (6, False)
    assert {item["host"] for item in folder.result["unknown"]} == {"mainpc", "pc2"}
    assert "unknown: mainpc host: " in done.stderr
    assert done.stderr.splitlines()[-1].endswith("unknown, exit code 6")
    assert done.stdout == ""
    assert 'cascade_drift_exit_code{inventory="' in folder.metrics
    assert f'inventory="{folder.path}/inventories/home.py",system="cascade"}} 6.0\n' in folder.metrics
    assert json.loads((folder.path / "heard").read_text()) == folder.result


def test_a_key_that_is_none_is_told_and_no_traceback(folder: Folder) -> None:
    (folder.path / "id_ed25519").write_text("no key")
    done = folder.check()
    assert (done.returncode, "Traceback" in done.stderr) == (6, False)
    assert "Invalid private key file: id_ed25519; give a private key" in folder.result["unknown"][0]["reason"]


def test_the_document_of_a_published_check_is_alone_on_standard_output(folder: Folder) -> None:
    done = folder.check("--json")
    assert json.loads(done.stdout) == folder.result


def test_files_with_mistakes_are_told_to_everybody_but_the_hook(folder: Folder) -> None:
    with (folder.path / "group_data/home.py").open("a") as settings:
        settings.write("\nreservation_scale = 7\n")
    done = folder.check()
    assert done.returncode == 64
    assert folder.result["exit_code"] == 64
    assert "reservation_scale" in folder.result["unknown"][0]["reason"]
    assert "unknown: files: " in done.stderr
    assert 'system="unit"} 64.0\n' in folder.metrics
    assert not (folder.path / "heard").exists()


def test_a_result_that_cannot_be_written_is_an_error_and_not_silence(folder: Folder) -> None:
    (folder.path / "results/result.json").mkdir(parents=True)
    done = folder.check()
    assert (done.returncode, "cannot be written: Is a directory" in done.stderr) == (1, True)
    assert "unknown: mainpc host: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="systemd runs this machine")
def test_a_machine_without_systemd_gets_a_line_for_its_own_timer(folder: Folder) -> None:
    done = folder.cascade("drift", "--install", "inventories/home.py", "--every", "15m", "--user")
    assert done.returncode == 1
    assert f"every 15m: cd {folder.path} && cascade drift inventories/home.py" in done.stderr


def test_options_are_checked_before_anything_is_done(folder: Folder) -> None:
    done = folder.cascade("drift", "--install", "--json", "inventories/home.py")
    assert (done.returncode, "go without --json and --repair" in done.stderr) == (64, True)
