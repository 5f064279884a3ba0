"""A build context is what .dockerignore leaves of a folder, with one digest."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import docker.utils.build
import pytest

from cascade.model.context import context_digest, context_paths

FILES = (
    "Dockerfile",
    "a.txt",
    "b.md",
    "keep.md",
    "src/a.py",
    "src/deep/b.py",
    "src/deep/er/c.pyc",
    "src/__pycache__/a.pyc",
    "node_modules/x/index.js",
    "docs/x[1].md",
    "docs/readme.md",
    "docs/a.txt",
    "temp/one.tmp",
    "temp/two.tmp",
    "temporary/three.tmp",
    "secret.key",
    "über.txt",
)
IGNORED = (
    "",
    "# nothing\n\n",
    "*.md\n!keep.md",
    "*",
    "*\n!src",
    "*\n!src/deep/b.py",
    "**/*.pyc",
    "**/__pycache__",
    "**",
    "**\n!docs/a.txt",
    "src/**/c.pyc",
    "src/*",
    "src/*/b.py",
    "/a.txt",
    "./a.txt",
    "docs/",
    "temp?",
    "temp*/*.tmp",
    "[ab].*",
    "[a-c].txt",
    "docs\n!docs/a.txt",
    "docs\n!docs\ndocs/readme.md",
    "   a.txt   ",
    "!a.txt",
    "Dockerfile\n.dockerignore",
    "*.txt\n!*.txt\na.txt",
    "src/../a.txt",
    "node_modules\nsecret.key",
    "ü*",
)


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., Path]:
    """A folder with these files, each of its own name."""

    def write(*names: str, ignore: str | None = None) -> Path:
        folder = tmp_path / "context"
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        if ignore is not None:
            (folder / ".dockerignore").write_text(ignore)
        return folder

    return write


def files(context: Path, names: Iterable[str]) -> set[str]:
    return {name for name in names if not (context / name).is_dir()}


@pytest.mark.parametrize("ignored", IGNORED)
def test_the_same_files_are_sent_that_docker_sends(context: Callable[..., Path], ignored: str) -> None:
    folder = context(*FILES, ignore=ignored)
    lines = [line.strip() for line in ignored.splitlines() if line.strip() and not line.startswith("#")]
    theirs = docker.utils.build.exclude_paths(str(folder), lines, dockerfile="Dockerfile")
    ours = context_paths(folder, "Dockerfile")
    assert files(folder, ours) == files(folder, theirs) | {".dockerignore"}


@pytest.mark.parametrize(
    ("ignored", "sent"),
    [("docs/x\\[1\\].md", {"b.md", "docs/x1.md"}), ("[^a].md", {"docs/x[1].md", "docs/x1.md"})],
)
def test_sets_and_escapes_are_gos(context: Callable[..., Path], ignored: str, sent: set[str]) -> None:
    """docker-py reads these in its own way; `docker build` sent these files."""
    folder = context("Dockerfile", "b.md", "docs/x[1].md", "docs/x1.md", ignore=ignored)
    found = files(folder, context_paths(folder, "Dockerfile"))
    assert found == sent | {"Dockerfile", ".dockerignore"}


def test_an_ignored_path_changes_nothing_and_any_other_does(context: Callable[..., Path]) -> None:
    folder = context(*FILES, ignore="*.key\ndocs")
    before = digest(folder)
    (folder / "secret.key").write_text("another")
    (folder / "docs/readme.md").unlink()
    assert digest(folder) == before
    (folder / "a.txt").write_text("another")
    assert digest(folder) != before


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "a.txt").write_text("b"),
        lambda folder: (folder / "a.txt").rename(folder / "c.txt"),
        lambda folder: (folder / "a.txt").chmod(0o755),
        lambda folder: (folder / "new").mkdir(),
        lambda folder: (folder / "link").symlink_to("a.txt"),
        lambda folder: (folder / ".dockerignore").write_text("b.md"),
    ],
    ids=["content", "name", "mode", "folder", "link", "rules"],
)
def test_whatever_reaches_the_image_is_in_the_digest(
    context: Callable[..., Path], change: Callable[[Path], object]
) -> None:
    folder = context("Dockerfile", "a.txt", "b.md")
    before = digest(folder)
    change(folder)
    assert digest(folder) != before


def test_a_link_is_not_followed(context: Callable[..., Path], tmp_path: Path) -> None:
    folder = context("Dockerfile")
    (tmp_path / "outside").write_text("one")
    (folder / "link").symlink_to(tmp_path / "outside")
    before = digest(folder)
    (tmp_path / "outside").write_text("two")
    assert digest(folder) == before


def test_times_and_the_masks_of_a_checkout_are_not_in_the_digest(context: Callable[..., Path]) -> None:
    folder = context("Dockerfile", "a.txt")
    before = digest(folder)
    os.utime(folder / "a.txt", (1, 1))
    (folder / "a.txt").chmod(0o600)
    assert digest(folder) == before


def test_the_dockerfile_and_the_arguments_are_in_the_digest(context: Callable[..., Path]) -> None:
    folder = context("Dockerfile", "Other")
    assert digest(folder) != context_digest(folder, "Other", {})
    assert context_digest(folder, "Dockerfile", {"A": "1"}) != context_digest(
        folder, "Dockerfile", {"A": "2"}
    )
    assert context_digest(folder, "Dockerfile", {"A": "1", "B": "2"}) == context_digest(
        folder, "Dockerfile", {"B": "2", "A": "1"}
    )


def test_builds_that_are_kept_inside_the_context_are_no_part_of_it(context: Callable[..., Path]) -> None:
    folder = context("Dockerfile", ".images/core.tar")
    assert context_paths(folder, "Dockerfile", without=folder / ".images") == ["Dockerfile"]


@pytest.mark.parametrize(
    ("names", "said"),
    [((), "there is no folder .* to build from"), (("a.txt",), "there is no Dockerfile in")],
)
def test_what_is_not_there_is_named(context: Callable[..., Path], names: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        context_paths(context(*names), "Dockerfile")


def test_a_broken_pattern_names_its_file(context: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"\.dockerignore: '\[b-a\]' is no pattern"):
        context_paths(context("Dockerfile", ignore="[b-a]"), "Dockerfile")


def digest(folder: Path) -> str:
    return context_digest(folder, "Dockerfile", {})


def test_a_folder_that_cannot_be_read_is_not_left_out_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match="closed cannot be read: change its permissions, or name it in"):
        context_paths(tmp_path, "Dockerfile")
    (tmp_path / ".dockerignore").write_text("closed\n")
    assert "closed" not in context_paths(tmp_path, "Dockerfile")
