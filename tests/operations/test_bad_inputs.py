"""Mistakes, one a row of bad_inputs.yaml: each is told with its file, its place, the reason and a fix.

No host is reached, nothing that stands in a value is executed, and there is no traceback.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cascade.exit_codes import INVALID
from cascade.model.strict import Problem
from tests.fleets import ROOT

Row = dict[str, Any]

ROWS: list[Row] = yaml.safe_load(Path(__file__).with_name("bad_inputs.yaml").read_text())
RIGHT: Row = {"name": "nothing wrong", "service": {}}
GROUPS = ("cascade-core", "cascade-pc2-core")
SSH_PORT = 22022
INVENTORY = "inventories/home.py"
STACKS = "group_data/stacks/cascade"


class Project:
    """A copy of the project with two of its groups, and an inventory whose hosts nobody may reach."""

    def __init__(self, folder: Path, ssh_port: int = SSH_PORT) -> None:
        self.folder = folder
        self.ssh_port = ssh_port
        self.evil = folder / "evil"
        for name in ("config.py", "deploy.py", "operations", "cascade", "lab", "templates"):
            (folder / name).symlink_to(ROOT / name)
        (folder / STACKS).mkdir(parents=True)
        (folder / "inventories").mkdir()
        for name in ("all", "mainpc", "pc2", "lab"):
            shutil.copy(ROOT / "group_data" / f"{name}.py", folder / "group_data")
        for group in GROUPS:
            shutil.copy(ROOT / STACKS / f"{group}.yaml", folder / STACKS)
        self.write(
            INVENTORY,
            f'_ssh = {{"ssh_port": {ssh_port}, "ssh_hostname": "127.0.0.1"}}\n'
            'mainpc = [("mainpc", {**_ssh, "swarm_address": "192.0.2.11"})]\n'
            'pc2 = [("pc2", {**_ssh, "swarm_address": "192.0.2.12"})]\n',
        )
        images = (*(group.replace("-", "/", 1) for group in GROUPS), "sample/image")
        self.write(
            "group_data/home.py",
            "from cascade.model.compose import HealthTiming\n"
            "from cascade.model.image import ArchiveImage, RegistryImage\n"
            f'_image = RegistryImage(reference="registry.example/a@sha256:{"0" * 64}")\n'
            f"images = dict.fromkeys({images}, _image)\n"
            'phases = (("cascade-core",), ("cascade-pc2-core",))\n',
        )

    def write(self, path: str, text: str) -> None:
        (self.folder / path).write_text(text, encoding="utf-8")

    def change(self, row: Row) -> None:
        """What the row says is done to the files."""
        for path, (old, new) in row.get("replace", {}).items():
            text = (self.folder / path).read_text()
            assert self._filled(row, old) in text, (row["name"], path)
            self.write(path, text.replace(self._filled(row, old), self._filled(row, new)))
        for path, text in row.get("add", {}).items():
            with (self.folder / path).open("a") as file:
                file.write(self._filled(row, text) + "\n")
        if row.keys() & {"text", "service", "agents", "top"}:
            group = group_of(row)
            self.write(
                f"{STACKS}/{group}.yaml",
                self._filled(row, row["text"]) if "text" in row else self._sample(row),
            )
            with (self.folder / "group_data/home.py").open("a") as file:
                file.write(f"phases = (*phases, ({group!r},))\n")

    def _sample(self, row: Row) -> str:
        """A group with one service, or with agents, and what the row says besides."""
        group = group_of(row)
        service = {"image": "sample/image", "networks": ["cascade-internal"], **row.get("service", {})}
        if "agents" in row:
            service["x-agents"] = row["agents"]
        networks = {name: {"external": True} for name in ("cascade-internal", "cascade-external")}
        document = {"name": group, "services": {group: service}, "networks": networks, **row.get("top", {})}
        return yaml.safe_dump(self._deeply(row, document), sort_keys=False)

    def _deeply(self, row: Row, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._filled(row, key): self._deeply(row, item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._deeply(row, item) for item in value]
        return self._filled(row, value) if isinstance(value, str) else value

    def _filled(self, row: Row, text: str) -> str:
        places = {"<group>": group_of(row), "<evil>": str(self.evil), "<ssh>": str(self.ssh_port)}
        for place, value in places.items():
            text = text.replace(place, value)
        return text

    def expected(self, row: Row) -> Problem:
        said = {key: self._filled(row, row[key]) for key in ("path", "reason", "fix")}
        return Problem(row.get("file", f"{STACKS}/{group_of(row)}.yaml"), **said)


MEMORY_BYTES = 2 << 30
CPU_S = 60
LONGEST_LINE = 1_500
VALIDATE = ("cascade", "validate", INVENTORY)
DEPLOY = ("pyinfra", "-y", INVENTORY, "deploy.py")
TOGETHER = [row for row in ROWS if not row.get("alone")]
ALONE = [
    row
    for row in ROWS
    if row["name"]
    in (
        "an inventory that Python cannot read",
        "an SSH address that is an option",
        "a host that pyinfra would reach by a command",
        "two managers",
    )
]


def group_of(row: Row) -> str:
    return f"row-{ROWS.index(row)}" if row in ROWS else "row"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Row], tuple[Project, list[Problem]]]:
    """The project with the mistake of a row, and what is found in it; one process examines all."""
    projects = {}
    for row in (*ROWS, RIGHT):
        projects[row["name"]] = Project(tmp_path_factory.mktemp("project"))
        projects[row["name"]].change(row)
    folders = [str(project.folder) for project in projects.values()]
    done = subprocess.run(
        [sys.executable, "-m", "tests.operations.examine_each", INVENTORY, *folders],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    def of(row: Row) -> tuple[Project, list[Problem]]:
        project = projects[row["name"]]
        return project, [Problem(**problem) for problem in found[str(project.folder)]]

    return of


Told = Callable[[Row], tuple[Project, list[Problem]]]


def tells(found: Problem, expected: Problem) -> bool:
    """Whether this is the problem that a row expects, with a fix in any case."""
    return (
        (found.file, found.path) == (expected.file, expected.path)
        and expected.reason in found.reason
        and expected.fix in found.fix
        and found.fix != ""
    )


def test_the_copy_of_the_project_is_right(told: Told) -> None:
    _, found = told(RIGHT)
    assert found == []


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_each_mistake_is_told_with_its_place_its_reason_and_a_fix(row: Row, told: Told) -> None:
    project, found = told(row)
    assert found
    assert tells(found[0], project.expected(row)), [str(problem) for problem in found]
    assert len(found) == 1 + row.get("also", 0), [str(problem) for problem in found]
    assert all(len(str(problem).splitlines()) == 1 for problem in found)
    assert not project.evil.exists()


def test_there_are_at_least_sixty_rows() -> None:
    assert len({row["name"] for row in ROWS}) == len(ROWS) >= 60


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port of this machine on which nobody may knock; who does waits there to be counted."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def bounded() -> None:
    """Bounds of memory and of processor time, for a process that is about to start."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))


def command(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command line of this environment in the project's folder, without a terminal, within bounds."""
    program, *rest = arguments
    return subprocess.run(
        [Path(sys.executable).with_name(program), *rest],
        cwd=project.folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=bounded,
    )


def refused(project: Project, listener: socket.socket, *arguments: str) -> list[str]:
    """What a command says that ends with 64 before anything else happens; one line a problem."""
    done = command(project, *arguments)
    output = done.stdout + done.stderr
    assert done.returncode == INVALID, output
    assert "Traceback" not in output
    assert not project.evil.exists()
    with pytest.raises(BlockingIOError):
        listener.accept()
    return [line.strip() for line in output.splitlines()]


@pytest.mark.parametrize("arguments", [VALIDATE, DEPLOY], ids=["validate", "pyinfra"])
def test_all_mistakes_that_can_be_made_at_once_come_in_one_report(
    arguments: tuple[str, ...], tmp_path: Path, listener: socket.socket
) -> None:
    project = Project(tmp_path, listener.getsockname()[1])
    for row in TOGETHER:
        project.change(row)
    lines = refused(project, listener, *arguments)
    for row in TOGETHER:
        expected = project.expected(row)
        line_of_python = expected.file.endswith(".py") and expected.path.startswith("line ")
        where = [expected.file, "line" if line_of_python else expected.path]
        told = [line for line in lines if line.startswith(": ".join(filter(None, where)))]
        assert any(expected.reason in line and expected.fix in line for line in told), (row["name"], lines)
    problems = [line for line in lines if line.startswith(("group_data/", "inventories/"))]
    assert len(problems) == sum(1 + row.get("also", 0) for row in TOGETHER), problems


@pytest.mark.parametrize("row", ALONE, ids=[row["name"] for row in ALONE])
def test_what_can_only_be_wrong_alone_ends_a_deployment_too(
    row: Row, tmp_path: Path, listener: socket.socket
) -> None:
    project = Project(tmp_path, listener.getsockname()[1])
    project.change(row)
    lines = refused(project, listener, *DEPLOY)
    assert any(project.expected(row).reason in line for line in lines), lines


def test_every_placeholder_is_told_once_whatever_else_is_wrong_with_it(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(
        INVENTORY,
        '_ssh = {"ssh_hostname": "CHANGE-ME address", "ssh_user": "CHANGE-ME"}\n'
        'mainpc = [("mainpc", {**_ssh, "swarm_address": "CHANGE-ME"})]\n'
        'pc2 = [("pc2", {"swarm_address": "192.0.2.12"})]\n',
    )
    with (tmp_path / "group_data/home.py").open("a") as file:
        file.write(
            'images["cascade/core"] = ArchiveImage(path="images/CHANGE-ME.tar")\n'
            'node_labels = {"system": "mainpc", "rack": "CHANGE-ME"}\n'
            'packages = ["curl", "CHANGE-ME"]\n'
        )
    lines = command(project, *VALIDATE).stdout.splitlines()
    assert sorted(line.partition(";")[0] for line in lines) == [
        f"{file}: {path}: still a placeholder, CHANGE-ME"
        for file, path in (
            ("group_data/home.py", "images['cascade/core'].path"),
            ("group_data/home.py", "node_labels.rack"),
            ("group_data/home.py", "packages[1]"),
            (INVENTORY, "mainpc.ssh_hostname"),
            (INVENTORY, "mainpc.ssh_user"),
            (INVENTORY, "mainpc.swarm_address"),
        )
    ]


def test_what_is_found_comes_as_json_too(tmp_path: Path) -> None:
    project = Project(tmp_path)
    assert json.loads(command(project, *VALIDATE, "--json").stdout) == {"valid": True, "problems": []}
    (row,) = (row for row in ROWS if row["name"] == "a factor above one")
    project.change(row)
    done = command(project, *VALIDATE, "--json")
    assert done.returncode == INVALID
    problem = {
        "file": "group_data/mainpc.py",
        "path": "reservation_scale",
        "reason": "3 is too big",
        "fix": "write 1.0 or less",
    }
    assert json.loads(done.stdout) == {"valid": False, "problems": [problem]}


def test_files_that_are_right_are_counted(tmp_path: Path) -> None:
    done = command(Project(tmp_path), *VALIDATE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{INVENTORY}: valid: 2 hosts, 2 groups, 9 agents, 9 replicas\n"


def _bomb(inside: str) -> str:
    """Each line stands for ten of the line before it: a gigabyte of values in nine lines."""
    lines = [f"  l{n}: &l{n} {inside % ', '.join([f'*l{n - 1}'] * 10)}" for n in range(1, 10)]
    return "\n".join(["name: bomb", "x-bomb:", "  l0: &l0 {a: 1}", *lines, "services: *l9\n"])


HOSTILE: dict[str, tuple[bytes, str]] = {
    "an alias bomb": (_bomb("[%s]").encode(), "more than 50000 values, aliases written out; write fewer"),
    "a bomb of merged maps": (_bomb("{<<: [%s]}").encode(), "more than 50000 values"),
    "deep lists": (b"name: " + b"[" * 200_000, "nested too deeply"),
    "deep maps": (b"name: " + b"{a: " * 100 + b"}" * 100, "nested too deeply"),
    "deep dashes": (b"- " * 200_000, "nested too deeply"),
    "a program": (Path(sys.executable).read_bytes()[:100_000], "not a text in UTF-8"),
    "a number of digits without end": (b"name: a\nversion: " + b"9" * 400_000, "is no int"),
    "thousands of unknown keys": (
        b"name: a\n" + b"".join(b"serv%d: 1\n" % number for number in range(20_000)),
        "not a key of Compose",
    ),
    "thousands of wrong values": (
        b"name: a\nservices: {a: {image: b, labels: {%s}}}"
        % b", ".join(b"l%d: []" % number for number in range(12_000)),
        "a list is no text",
    ),
    "thousands of variables": (
        b"name: a\nservices: {a: {image: b, command: [%s]}}" % b", ".join([b"$A"] * 20_000),
        "names a variable",
    ),
    "a key of a thousand letters": (b"name: a\n" + b"k" * 1_000 + b": 1\n", "not a key of Compose"),
    "a terminal's commands": (
        b'name: "\\e]0;evil\\a"\nservices: {a: {image: b}}\n',
        r"'\x1b]0;evil\x07' is no",
    ),
}


def hostile_files(folder: Path) -> dict[str, str]:
    """Writes one of each into the folder; what is said of each file."""
    said = {}
    for number, (content, reason) in enumerate(HOSTILE.values()):
        (folder / f"hostile-{number}.yaml").write_bytes(content)
        said[f"hostile-{number}.yaml"] = reason
    with (folder / "large.yaml").open("wb") as file:
        file.truncate(100 << 20)
    os.mkfifo(folder / "pipe.yaml")
    (folder / "folder.yaml").mkdir()
    (folder / "device.yaml").symlink_to("/dev/zero")
    (folder / "nowhere.yaml").symlink_to("/no/such/file")
    said["large.yaml"] = "104857600 bytes, and a group file has at most"
    unreadable = ("pipe.yaml", "folder.yaml", "device.yaml", "nowhere.yaml")
    return said | dict.fromkeys(unreadable, "cannot be read: ")


def test_hostile_files_are_refused_within_bounds_of_memory_and_time(
    tmp_path: Path, listener: socket.socket
) -> None:
    project = Project(tmp_path, listener.getsockname()[1])
    expected = hostile_files(tmp_path / STACKS)
    lines = refused(project, listener, *VALIDATE)
    for file, reason in expected.items():
        told = [line for line in lines if line.startswith(f"{STACKS}/{file}: ")]
        assert any(reason in line for line in told), (file, told)
    assert all(line.isprintable() and len(line) < LONGEST_LINE for line in lines)


def test_hostile_values_that_mean_nothing_to_anybody_are_carried_as_plain_data(tmp_path: Path) -> None:
    project = Project(tmp_path)
    texts = [f"; touch {project.evil}", f"$(touch {project.evil})", "-rf", "a\nb", f"`touch {project.evil}`"]
    row = {
        "name": "carried",
        "service": {
            "command": texts,
            "environment": {"TEXTS": "".join(texts)},
            "labels": {"texts": "".join(texts)},
        },
    }
    project.change(row)
    done = command(project, *VALIDATE)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert not project.evil.exists()
