"""The files that `cascade init` writes, and when it writes none."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import cascade.cli  # noqa: F401 - gives click's usage errors their code
from cascade.commands.init import command
from tests.terminal import at_terminal

ROOT = Path(__file__).resolve().parents[2]
INVENTORY, GROUP_DATA = Path("inventories/home.py"), Path("group_data/home.py")
GIVEN = ("--mainpc-address", "192.168.1.11", "--pc2-address", "192.168.1.12", "--archives", "images")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the project's group files and nothing of a person's own."""
    (tmp_path / "group_data").mkdir()
    (tmp_path / "group_data" / "stacks").symlink_to(ROOT / "group_data" / "stacks")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(*flags: str) -> Result:
    return CliRunner().invoke(command, flags)


def hosts() -> dict[str, tuple[str, dict[str, Any]]]:
    """The host of each group, as pyinfra reads the inventory."""
    values = runpy.run_path(str(INVENTORY))
    return {group: values[group][0] for group in ("mainpc", "pc2")}


def group_data() -> dict[str, Any]:
    return {name: value for name, value in runpy.run_path(str(GROUP_DATA)).items() if name[0] != "_"}


def test_flags_alone_make_both_files_with_nothing_left_to_fill_in(folder: Path) -> None:
    done = init(*GIVEN, "--pc2-port", "2222", "--pc2-name", "attic", "--pc2-gpu", "rtx3060ti")
    assert done.exit_code == 0
    assert "CHANGE-ME" not in done.output + INVENTORY.read_text() + GROUP_DATA.read_text()
    name, data = hosts()["pc2"]
    assert name == "attic"
    assert data == {
        "ssh_key": "~/.ssh/id_ed25519",
        "ssh_known_hosts_file": str(folder.resolve() / "inventories" / "known_hosts"),
        "ssh_strict_host_key_checking": "yes",
        "ssh_hostname": "192.168.1.12",
        "ssh_port": 2222,
        "ssh_user": "deploy",
        "swarm_address": "192.168.1.12",
        "node_labels": {"system": "pc2", "gpu": "rtx3060ti"},
    }
    written = group_data()
    assert written.keys() == {"distribution", "codename", "docker_source", "images"}
    assert written["images"]["cascade/core"] == {"path": "images/core.tar"}
    assert len(written["images"]) == 9


def test_without_a_terminal_what_only_a_person_can_know_is_marked_and_listed() -> None:
    done = init("--mainpc-address", "mainpc.lan", "--registry", "registry.lan:5000/cascade")
    assert done.exit_code == 0
    marked = [line for line in done.output.splitlines() if "CHANGE-ME" in line]
    places = [(INVENTORY, INVENTORY.read_text()), (GROUP_DATA, GROUP_DATA.read_text())]
    lines = [
        f"  {path}:{number}: {line.strip().rstrip(',')}"
        for path, text in places
        for number, line in enumerate(text.splitlines(), 1)
        if "CHANGE-ME" in line
    ]
    assert marked == lines
    assert len(marked) == 3 + 9
    assert '"swarm_address": "CHANGE-ME fixed Swarm address of mainpc"' in marked[0]
    assert group_data()["images"]["cascade/core"] == {
        "reference": "registry.lan:5000/cascade/core@sha256:CHANGE-ME"
    }


def test_it_ends_with_the_next_commands() -> None:
    done = init(*GIVEN, "--pc2-port", "2222", "--pc2-user", "ops", "--ssh-key", "~/my keys/id")
    assert "  cascade bootstrap USER@192.168.1.11 --key '~/my keys/id'\n" in done.output
    assert "  cascade bootstrap USER@192.168.1.12:2222 --user ops --key '~/my keys/id'\n" in done.output
    assert "  cascade doctor inventories/home.py --trust\n" in done.output
    assert "  pyinfra inventories/home.py deploy.py\n" in done.output


HOSTILE = ('"; import os; os.mkdir("x")', "'''", "{{ 1 }}", "$(touch x)", "a\\")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_path_is_plain_data(text: str, folder: Path) -> None:
    assert init(*GIVEN[:4], "--ssh-key", text, "--archives", text).exit_code == 0
    assert hosts()["mainpc"][1]["ssh_key"] == text
    assert group_data()["images"]["cascade/core"] == {"path": f"{text}/core.tar"}
    assert {path.name for path in folder.iterdir()} == {"inventories", "group_data"}


@pytest.mark.parametrize("flag", ["--mainpc-name", "--pc2-address", "--pc2-user", "--codename", "--registry"])
@pytest.mark.parametrize("text", ['"; import os', "a\nb", "-x", "$(x)"])
def test_a_hostile_name_is_refused_before_anything_is_written(flag: str, text: str, folder: Path) -> None:
    refused = init(f"{flag}={text}")
    assert refused.exit_code == 64
    assert f"Invalid value for '{flag}'" in refused.output
    assert {path.name for path in folder.iterdir()} == {"group_data"}


@pytest.mark.parametrize("flags", [GIVEN, (*GIVEN[:2], "--ssh-key", "k" * 150), ("--registry", "a" * 150)])
def test_the_files_are_formatted_as_the_projects_own(flags: tuple[str, ...]) -> None:
    assert init(*flags).exit_code == 0
    ruff = str(Path(sys.executable).with_name("ruff"))
    settings = ("--config", str(ROOT / "pyproject.toml"), str(INVENTORY), str(GROUP_DATA))
    for check in (("format", "--check"), ("check", "--ignore=E501")):
        done = subprocess.run([ruff, *check, *settings], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("there", [INVENTORY, GROUP_DATA])
def test_a_file_that_is_there_is_only_overwritten_by_force(there: Path) -> None:
    there.parent.mkdir(exist_ok=True)
    there.write_text("mine = 1\n")
    refused = init(*GIVEN)
    assert refused.exit_code == 64
    assert f"{there} exist already" in refused.output
    assert there.read_text() == "mine = 1\n"
    assert not (INVENTORY.exists() and GROUP_DATA.exists())
    assert init(*GIVEN, "--force").exit_code == 0
    assert "mine" not in there.read_text()
    assert [path.name for path in Path("inventories").iterdir()] == ["home.py"]


def test_it_says_so_in_a_folder_that_is_not_the_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    refused = init(*GIVEN)
    assert refused.exit_code == 64
    assert "run `cascade init` in the project's folder" in refused.output


def test_two_machines_of_one_name_and_two_sources_of_images_are_refused() -> None:
    assert "both machines have the name pc" in init("--mainpc-name=pc", "--pc2-name=pc").output
    refused = init("--registry", "lan", "--archives", "images")
    assert refused.exit_code == 64
    assert "not both" in refused.output


def test_on_a_terminal_it_asks_with_defaults_and_asks_again_after_a_mistake(folder: Path) -> None:
    cascade = str(Path(sys.executable).with_name("cascade"))
    flags = [f"--{machine}-{part}=deploy" for machine in ("mainpc", "pc2") for part in ("user",)]
    code, shown = at_terminal(
        [cascade, "init", *flags, "--ssh-key", "~/.ssh/k", "--docker-source", "docker"],
        folder,
        ("Name of mainpc [mainpc]:", ""),
        ("SSH address of mainpc (Enter: fill it in later):", "; touch x"),
        ("Error: write a name or an IP address", ""),
        ("SSH port of mainpc [22]:", ""),
        ("Fixed Swarm address of mainpc (Enter: fill it in later):", "10.0.0.1"),
        ("GPU label of mainpc, as placements name it [rtx4090]:", ""),
        ("Name of pc2 [pc2]:", ""),
        ("SSH address of pc2 (Enter: fill it in later):", "10.0.0.2"),
        ("SSH port of pc2 [22]:", "2222"),
        ("Fixed Swarm address of pc2 [10.0.0.2]:", ""),
        ("GPU label of pc2, as placements name it [rtx3060]:", ""),
        ("Distribution of both machines [debian]:", "ubuntu"),
        ("Its codename [noble]:", ""),
        ("Where images come from (registry, archives, later) [later]:", "registry"),
        ("Prefix of the registry [localhost:5000]:", "lan:5000"),
    )
    assert code == 0, shown
    assert hosts()["mainpc"][1]["ssh_hostname"] == "CHANGE-ME SSH address of mainpc"
    assert hosts()["pc2"][1]["swarm_address"] == "10.0.0.2"
    assert (group_data()["distribution"], group_data()["codename"]) == ("ubuntu", "noble")
    assert group_data()["images"]["cascade/core"]["reference"].startswith("lan:5000/core@")


def test_what_it_writes_is_data_and_imports_nothing_but_path() -> None:
    assert init(*GIVEN).exit_code == 0
    for file, names in ((INVENTORY, ["Path"]), (GROUP_DATA, [])):
        tree = ast.parse(file.read_text())
        imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert [alias.name for node in imports for alias in node.names] == names
