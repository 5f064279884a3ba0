"""The stand-in image's archive: deterministic, and recognisable as a stand-in."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from cascade.model.image import image_id
from lab import stand_in

SCRIPTS = {"stand-in": b"#!/bin/sh\n", "answer": b"#!/bin/sh\n", "curl": b"#!/bin/sh\n"}
BUSYBOX = b"\x7fELF static"


def opened(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {name: content.read() for name in tar.getnames() if (content := tar.extractfile(name))}


def config_of(archive: bytes) -> dict[str, Any]:
    files = opened(archive)
    config: dict[str, Any] = json.loads(files[json.loads(files["manifest.json"])[0]["Config"]])
    return config


def test_the_same_inputs_give_the_same_bytes_in_any_order() -> None:
    turned = dict(reversed(SCRIPTS.items()))
    assert stand_in.image_archive(BUSYBOX, SCRIPTS) == stand_in.image_archive(BUSYBOX, turned)


def test_another_script_gives_another_image(tmp_path: Path) -> None:
    ids = set()
    for scripts in (SCRIPTS, {**SCRIPTS, "curl": b"#!/bin/sh\nexit 1\n"}):
        archive = tmp_path / "image.tar"
        archive.write_bytes(stand_in.image_archive(BUSYBOX, scripts))
        ids.add(image_id(archive))
    assert len(ids) == 2


def test_every_digest_in_the_archive_is_true() -> None:
    files = opened(stand_in.image_archive(BUSYBOX, SCRIPTS))
    manifest = json.loads(files["manifest.json"])[0]
    config = files[manifest["Config"]]
    assert manifest["Config"] == f"{hashlib.sha256(config).hexdigest()}.json"
    layers = [f"sha256:{hashlib.sha256(files[layer]).hexdigest()}" for layer in manifest["Layers"]]
    assert json.loads(config)["rootfs"]["diff_ids"] == layers


def test_the_image_says_that_it_is_a_stand_in_and_runs_as_nobody() -> None:
    config = config_of(stand_in.image_archive(BUSYBOX, SCRIPTS))["config"]
    assert "stand-in" in stand_in.REFERENCE
    assert config["Labels"]["cascade.stand-in"] == "true"
    assert config["User"] == "65534:65534"


@pytest.mark.parametrize(
    ("program", "static"),
    [
        (b"\x7fELF plain", True),
        (b"\x7fELF /lib64/ld-linux-x86-64.so.2", False),
        (b"#!/bin/sh", False),
    ],
)
def test_only_a_static_busybox_will_do(program: bytes, static: bool) -> None:
    assert stand_in.is_static(program) is static


def test_an_archive_that_is_there_is_kept_and_a_half_one_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "busybox").write_bytes(BUSYBOX)
    said: list[str] = []
    whole = stand_in.stand_in_archive(tmp_path, said.append).read_bytes()
    written = len(said)
    stand_in.stand_in_archive(tmp_path, said.append)
    assert len(said) == written
    (tmp_path / "stand-in.tar").write_bytes(whole[:100])
    assert stand_in.stand_in_archive(tmp_path, said.append).read_bytes() == whole
