"""Images are pinned to exact content."""

import gzip
import io
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from cascade.model.image import ArchiveImage, RegistryImage, image_id

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
    ],
)
def test_a_reference_that_can_move_is_refused(reference: str) -> None:
    with pytest.raises(ValidationError):
        RegistryImage(reference=reference)
