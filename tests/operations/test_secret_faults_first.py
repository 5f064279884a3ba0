"""What is wrong with secrets ends whatever compares or changes, with 64 and before any connection."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cascade.exit_codes import INVALID
from tests.fleets import ROOT
from tests.operations.test_bad_inputs import INVENTORY, Project
from tests.secret_store import CANARY, NAME, SYSTEM, Scene, scene_in
from tests.unit.test_secret_faults import FAULTS, forms

USES = {
    "name": "secrets",
    "service": {"secrets": [NAME]},
    "top": {"secrets": {NAME: {"external": True}}},
    "add": {"group_data/home.py": f'system = "{SYSTEM}"'},
}
COMPARING = {
    "plan": ("cascade", "plan", INVENTORY),
    "apply": ("cascade", "apply", INVENTORY, "--yes"),
    "drift": ("cascade", "drift", INVENTORY),
    "pyinfra": ("pyinfra", "-y", INVENTORY, "deploy.py"),
    "dry": ("pyinfra", "--dry", "-vvv", "--diff", INVENTORY, "deploy.py"),
}
WITHOUT_IDENTITY = {
    "validate": ("cascade", "validate", INVENTORY),
    "render": ("cascade", "render", INVENTORY),
    "list": ("cascade", "secrets", "list", INVENTORY),
}


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    """The hosts' port; who knocks waits there to be counted."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


LOADING = (
    "python",
    "-c",
    f"""
import json, sys
from pathlib import Path
from operations.session import load
print(*load(Path({INVENTORY!r}), data=json.loads(sys.argv[1]), secrets="open").opened.values)
""",
)


def project_in(folder: Path, listener: socket.socket) -> Scene:
    scene = scene_in(folder)
    Project(scene.project, listener.getsockname()[1]).change(USES)
    return scene


@pytest.fixture(scope="module")
def told(
    tmp_path_factory: pytest.TempPathFactory, listener: socket.socket
) -> dict[str, tuple[Scene, int, bytes]]:
    """How `cascade plan` ended for each fault, and what it said; one process plans all."""
    scenes = {}
    for fault in FAULTS:
        scenes[str(fault.id)] = scene = project_in(tmp_path_factory.mktemp("fault"), listener)
        fault.values[0](scene)  # type: ignore[operator]
    folders = [str(scene.project) for scene in scenes.values()]
    done = subprocess.run(
        [sys.executable, "-m", "tests.operations.plan_each", INVENTORY, *folders],
        cwd=ROOT,
        capture_output=True,
        timeout=300,
        check=True,
    )
    found = json.loads(done.stdout)
    ends = {name: found[str(scene.project)] for name, scene in scenes.items()}
    return {name: (scenes[name], code, text.encode()) for name, (code, text) in ends.items()}


@pytest.mark.parametrize("name", [str(fault.id) for fault in FAULTS])
def test_each_fault_ends_a_plan_before_any_connection(
    name: str, told: dict[str, tuple[Scene, int, bytes]], listener: socket.socket
) -> None:
    _, code, said = told[name]
    (reason,) = (fault.values[1] for fault in FAULTS if fault.id == name)
    assert code == INVALID, said
    assert str(reason).encode() in said
    # pyinfra's log shows a line once for each time that it was set up in this process.
    assert len(set(said.splitlines())) == 1, said
    assert [form for form in forms(CANARY) if form in said] == []
    with pytest.raises(BlockingIOError):
        listener.accept()


def run(scene: Scene, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    program, *rest = arguments
    return subprocess.run(
        [Path(sys.executable).with_name(program), *rest],
        cwd=scene.project,
        env={**os.environ, "CASCADE_IDENTITY": str(scene.identity)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("what", COMPARING)
def test_whatever_compares_or_changes_ends_before_any_connection(
    what: str, tmp_path: Path, listener: socket.socket
) -> None:
    scene = project_in(tmp_path, listener)
    scene.file.write_bytes(scene.file.read_bytes()[:-80] + CANARY)
    done = run(scene, *COMPARING[what])
    said = done.stdout + done.stderr
    assert done.returncode == INVALID, said
    assert b"db_password.age: is damaged, or no age file; take it from git again" in said
    assert b"Traceback" not in said
    assert [form for form in forms(CANARY) if form in said] == []
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize("data", [{"rollback": "previous"}, {"repair": "automatic"}])
@pytest.mark.parametrize("fault", ["identity", "file"])
def test_who_goes_back_to_a_release_goes_on_without_a_value(
    fault: str, data: dict[str, str], tmp_path: Path, listener: socket.socket
) -> None:
    scene = project_in(tmp_path, listener)
    assert run(scene, *LOADING, json.dumps(data)).stdout.split() == [NAME.encode()]
    broken = {"identity": scene.identity, "file": scene.file}[fault]
    broken.unlink()
    done = run(scene, *LOADING, json.dumps(data))
    assert (done.returncode, done.stdout.split()) == (0, [])
    assert b"going on without a value: " in done.stderr
    assert str(broken.name).encode() in done.stderr
    assert run(scene, *LOADING, json.dumps({"prune": True})).returncode == INVALID


@pytest.mark.parametrize("what", WITHOUT_IDENTITY)
def test_what_compares_nothing_needs_no_identity(what: str, tmp_path: Path, listener: socket.socket) -> None:
    scene = project_in(tmp_path, listener)
    scene.identity.unlink()
    done = run(scene, *WITHOUT_IDENTITY[what])
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_validation_tells_of_a_value_that_has_no_file(tmp_path: Path, listener: socket.socket) -> None:
    scene = project_in(tmp_path, listener)
    scene.file.unlink()
    done = run(scene, *WITHOUT_IDENTITY["validate"])
    assert done.returncode == INVALID
    assert b"db_password.age: the value of the secret db_password is missing" in done.stdout
