"""Images are pinned to exact content."""

import gzip
import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from cascade.model import image as images
from cascade.model.image import (
    ArchiveImage,
    Build,
    BuildImage,
    RegistryImage,
    image_id,
    image_tags,
    pin_each,
)

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize("config", [f"{DIGEST}.json", f"blobs/sha256/{DIGEST}"])
def test_the_id_of_a_saved_image_is_the_digest_of_its_config(
    archive: Callable[..., Path], config: str
) -> None:
    assert image_id(archive(config)) == f"sha256:{DIGEST}"
    assert ArchiveImage(path=archive(config)).pinned == f"sha256:{DIGEST}"


def test_a_compressed_archive_is_read_too(archive: Callable[..., Path]) -> None:
    path = archive(f"{DIGEST}.json")
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert image_id(path) == f"sha256:{DIGEST}"


@pytest.mark.parametrize(("configs", "count"), [([], 0), (["a.json", "b.json"], 2)])
def test_an_archive_holds_one_image(archive: Callable[..., Path], configs: list[str], count: int) -> None:
    with pytest.raises(ValueError, match=f"images.tar holds {count} images, not one"):
        image_id(archive(*configs))


def test_an_archive_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no archive .*gone\.tar"):
        image_id(tmp_path / "gone.tar")


def tar_with(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an archive",
        tar_with("manifest.json", b"[]")[:100],
        tar_with("other.json", b"[]"),
        tar_with("manifest.json", b"not JSON"),
        tar_with("manifest.json", b"\xff\xfe"),
        tar_with("manifest.json", b"null"),
        tar_with("manifest.json", b"7"),
        tar_with("manifest.json", b'{"a": 1}'),
        tar_with("manifest.json", b"[1]"),
        tar_with("manifest.json", b"[{}]"),
        tar_with("manifest.json", b'[{"Config": null}]'),
        gzip.compress(random.Random(69).randbytes(30_000))[:9_000],
        gzip.compress(tar_with("manifest.json", random.Random(69).randbytes(30_000)))[:9_000],
    ],
    ids=[
        "empty",
        "text",
        "torn",
        "no manifest",
        "no JSON",
        "not UTF-8",
        "null",
        "a number",
        "a map",
        "a list of numbers",
        "no config",
        "an empty config",
        "torn noise",
        "torn while compressed",
    ],
)
def test_what_is_no_archive_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.tar"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.tar is no `docker save` archive"):
        image_id(path)


def test_a_folder_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no `docker save` archive"):
        image_id(tmp_path)


def test_an_image_by_digest_is_pinned_as_it_stands() -> None:
    reference = f"alpha/image@sha256:{DIGEST}"
    assert RegistryImage(reference=reference).pinned == reference


@pytest.mark.parametrize(
    ("reference", "pinned"),
    [
        (f"docker.io/library/redis:7@sha256:{DIGEST}", f"redis@sha256:{DIGEST}"),
        (f"docker.io/team/core@sha256:{DIGEST}", f"team/core@sha256:{DIGEST}"),
        (f"box:5000/core:1@sha256:{DIGEST}", f"box:5000/core@sha256:{DIGEST}"),
    ],
)
def test_a_pinned_reference_is_written_as_engines_write_it(reference: str, pinned: str) -> None:
    assert RegistryImage(reference=reference).pinned == pinned


@pytest.mark.parametrize(
    "reference",
    [
        "alpha/image",
        "alpha/image@latest",
        f"alpha/image@sha256:{DIGEST[:12]}",
        f"alpha/image@sha256:{DIGEST.upper()}",
        f"alpha/image@sha512:{DIGEST}",
        f"@sha256:{DIGEST}",
        f"alpha/image@sha256:{DIGEST}\n",
        f"alpha/image; touch x@sha256:{DIGEST}",
        f"alpha@image@sha256:{DIGEST}",
        "-alpha/image:1",
    ],
)
def test_a_reference_without_a_version_or_that_is_none_is_refused(reference: str) -> None:
    with pytest.raises(ValidationError):
        RegistryImage(reference=reference)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of a person's own."""
    (tmp_path / "group_data").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_tag_is_what_was_recorded_for_it(here: Path) -> None:
    record = here / "group_data/images.json"
    record.write_text(
        json.dumps({"box:5000/core:1": f"sha256:{DIGEST}", "box:5000/core:2": f"sha256:{'1' * 64}"})
    )
    assert RegistryImage(reference="box:5000/core:1").pinned == f"box:5000/core@sha256:{DIGEST}"


@pytest.mark.usefixtures("here")
def test_a_tag_without_a_record_is_a_moving_reference() -> None:
    with pytest.raises(
        ValueError, match=r"core:1 is a moving reference, .*run `cascade images pin INVENTORY`"
    ):
        assert RegistryImage(reference="box:5000/core:1").pinned


@pytest.mark.parametrize(
    "content", ["", "[]", "null", "{", '{"a": 1}', '{"a": "latest"}', '{"a": "sha256:0"}']
)
def test_a_record_that_cannot_be_understood_is_named(here: Path, content: str) -> None:
    (here / "group_data/images.json").write_text(content)
    with pytest.raises(ValueError, match=r"^group_data/images\.json "):
        assert RegistryImage(reference="box:5000/core:1").pinned


def test_the_names_that_come_with_an_archive_are_those_that_an_engine_shows(tmp_path: Path) -> None:
    path = tmp_path / "named.tar"
    tags = ["docker.io/library/core:1", "box:5000/core:1", "team/core:2"]
    path.write_bytes(tar_with("manifest.json", json.dumps([{"Config": "a.json", "RepoTags": tags}]).encode()))
    assert image_tags(path) == ["core:1", "box:5000/core:1", "team/core:2"]


@pytest.fixture
def core(here: Path) -> BuildImage:
    """A context that was built."""
    context = here / "images/core"
    context.mkdir(parents=True)
    (context / "Dockerfile").write_text("FROM scratch\n")
    source = BuildImage(context=Path("images/core"), arguments={"BASE": "a"})
    source.archive.parent.mkdir()
    source.archive.touch()
    built = Build(image="core:1", context=source.context_digest(), id=f"sha256:{DIGEST}")
    source.record.write_text(built.model_dump_json())
    return source


def test_a_build_is_what_was_built_from_this_context(core: BuildImage) -> None:
    assert core.pinned == f"sha256:{DIGEST}"
    assert core.archive.parent == Path(".images")


def test_a_context_that_changed_has_to_be_built(core: BuildImage) -> None:
    (core.context / "new.py").touch()
    with pytest.raises(
        ValueError, match=r"images/core changed since .*: run `cascade images build INVENTORY`"
    ):
        assert core.pinned


def test_other_arguments_make_another_image(core: BuildImage) -> None:
    with pytest.raises(ValueError, match="changed since it was built"):
        assert core.model_copy(update={"arguments": {"BASE": "b"}}).pinned


@pytest.mark.parametrize("lost", ["archive", "record"])
def test_a_context_was_never_built_where_its_archive_or_record_is_not(core: BuildImage, lost: str) -> None:
    getattr(core, lost).unlink()
    with pytest.raises(ValueError, match="was never built here: run `cascade images build INVENTORY`"):
        assert core.pinned


def test_a_broken_record_of_a_build_is_named(core: BuildImage) -> None:
    core.record.write_text("{")
    with pytest.raises(ValueError, match=r"\.images/core-.*\.json cannot be read, .*: remove it"):
        assert core.pinned


def test_a_build_of_the_whole_repository_is_not_changed_by_its_own_archive(here: Path) -> None:
    (here / "Dockerfile").touch()
    source = BuildImage(context=Path())
    before = source.context_digest()
    source.archive.parent.mkdir()
    source.archive.touch()
    assert source.context_digest() == before


@pytest.mark.usefixtures("here")
def test_contexts_of_one_name_are_kept_apart() -> None:
    first, second = BuildImage(context=Path("a/core")), BuildImage(context=Path("b/core"))
    third = BuildImage(context=Path("a/core"), dockerfile="Other")
    assert len({first.archive, second.archive, third.archive}) == 3


@pytest.mark.parametrize("dockerfile", ["/etc/passwd", "../Dockerfile", "a/../../b", "", "."])
def test_a_dockerfile_lies_in_its_context(dockerfile: str) -> None:
    with pytest.raises(ValidationError, match="must lie in the context"):
        BuildImage(context=Path("core"), dockerfile=dockerfile)


def test_a_source_of_many_names_is_read_once(
    archive: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def reading(path: Path) -> str:
        read.append(path)
        return "sha256:1"

    monkeypatch.setattr(images, "image_id", reading)
    path = archive("a.json")
    found = pin_each({"a": ArchiveImage(path=path), "b": ArchiveImage(path=path)})
    assert (found, read) == ({"a": "sha256:1", "b": "sha256:1"}, [path])
