"""`cascade render` as a person calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.operations.test_bad_inputs import INVENTORY, STACKS, Project

ROOT = Path(__file__).parents[2]
SHAPES = ROOT / "tests/unit/compose"


def render(*argv: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    cascade = Path(sys.executable).with_name("cascade")
    done = subprocess.run((cascade, "render", *argv), cwd=cwd, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stdout + done.stderr
    return done


def test_a_file_that_is_honoured_ends_with_0_and_shows_its_specs() -> None:
    file = SHAPES / "web-database.yaml"
    done = render(file)
    assert done.returncode == 0, done.stderr
    assert "services.web.ports[0]" in done.stdout
    assert "25 honoured, 0 no effect, 0 refused" in done.stdout
    assert '"Name": "shop_web"' in done.stdout
    assert "not-for-all" not in done.stdout
    assert render("--file", file).stdout == done.stdout


def test_a_file_with_a_refusal_ends_with_64_and_names_reason_and_fix() -> None:
    done = render(SHAPES / "one-shot.yaml", "--json")
    assert done.returncode == 64
    document = json.loads(done.stdout)
    assert document["workloads"] == []
    (refused,) = (line for line in document["lines"] if line["becomes"] == "refused")
    assert (refused["line"], refused["path"]) == (13, "services.app.depends_on.migrate.condition")
    assert refused["text"]
    assert refused["fix"]


def test_long_paths_are_not_cut_off_and_a_problem_of_no_single_line_is_told_too() -> None:
    done = render(SHAPES / "gpu-reservation.yaml")
    assert "generic_resources[0]" in "".join(done.stdout.split())
    assert "…" not in done.stdout
    done = render(SHAPES / "default-network.yaml")
    assert done.returncode == 64
    assert "services.db.networks: it joins no network" in done.stdout


@pytest.mark.parametrize("text", ["a: [\n", "- a\n", "", "a: !!python/object/apply:os.getcwd []\n"])
def test_what_is_no_compose_file_ends_with_64(tmp_path: Path, text: str) -> None:
    (tmp_path / "compose.yaml").write_text(text)
    done = render("compose.yaml", cwd=tmp_path)
    assert done.returncode == 64
    assert done.stderr.startswith("compose.yaml: ")


@pytest.mark.parametrize(
    "argv",
    [
        (),
        (INVENTORY, "--file", SHAPES / "anchors.yaml"),
        (SHAPES / "anchors.yaml", "--group", "a"),
        ("gone.yaml",),
    ],
)
def test_wrong_usage_ends_with_64(tmp_path: Path, argv: tuple[str | Path, ...]) -> None:
    done = render(*argv, cwd=Project(tmp_path).folder)
    assert (done.returncode, done.stdout) == (64, "")
    assert "Error: " in done.stderr


def specs(project: Project, *options: str) -> str:
    """What is printed for the project's inventory, whose hosts nobody may reach."""
    done = render(INVENTORY, *options, cwd=project.folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_specs_of_an_inventory_are_printed_sorted_and_the_same_each_time(tmp_path: Path) -> None:
    project = Project(tmp_path)
    printed = specs(project)
    assert printed == specs(project)
    found = json.loads(printed)
    assert json.loads(specs(project, "--json")) == found
    names = [item["name"] for item in found]
    assert names == sorted(names)
    assert {name.partition("_")[0] for name in names} == {"cascade-core", "cascade-pc2-core"}
    hub = next(item for item in found if item["name"] == "cascade-pc2-core_observability-hub")
    assert (hub["kind"], hub["hosts"]) == ("service", ["pc2"])
    assert hub["spec"]["TaskTemplate"]["ContainerSpec"]["Image"].startswith("registry.example/a@sha256:")


def test_one_group_can_be_chosen(tmp_path: Path) -> None:
    found = json.loads(specs(Project(tmp_path), "--group", "cascade-core"))
    assert {item["name"].partition("_")[0] for item in found} == {"cascade-core"}
    assert len(found) == 4


def test_a_password_in_a_group_file_is_not_printed(tmp_path: Path) -> None:
    project = Project(tmp_path)
    file = f"{STACKS}/cascade-core.yaml"
    text = (tmp_path / file).read_text()
    changed = text.replace("PROMETHEUS_ENABLED:", "HUB_PASSWORD: planted-one\n          PROMETHEUS_ENABLED:")
    assert changed != text
    project.write(file, changed)
    printed = specs(project)
    assert "HUB_PASSWORD=***" in printed
    assert "planted-one" not in printed


def test_how_many_addresses_a_network_has_is_the_fleets_and_no_problem_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        "services: {a: {image: b, networks: [n], deploy: {replicas: 400}}}\nnetworks: {n: {external: true}}\n"
    )
    assert render("compose.yaml", cwd=tmp_path).returncode == 0
