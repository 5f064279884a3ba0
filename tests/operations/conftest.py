"""The lab's fleet and what its hosts said of themselves when they were bare, and when all was well."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cascade.model.fleet import Fleet
from cascade.model.image import ArchiveImage
from tests.fleets import lab_fleet
from tests.operations.engine import Engine

Snapshots = dict[str, Any]

SNAPSHOTS = Path(__file__).with_name("snapshots")


@pytest.fixture(scope="session")
def captured() -> dict[str, str]:
    """The captured snapshots by name, as JSON."""
    return {
        path.name.removesuffix(".json.gz"): gzip.decompress(path.read_bytes()).decode()
        for path in SNAPSHOTS.iterdir()
    }


@pytest.fixture
def bare(captured: dict[str, str]) -> Snapshots:
    """Both hosts before anything was done to them."""
    return dict(json.loads(captured["bare"]))


@pytest.fixture
def converged(captured: dict[str, str]) -> Snapshots:
    """Both hosts with everything that the files want."""
    return dict(json.loads(captured["converged"]))


@pytest.fixture(scope="session")
def image_id(captured: dict[str, str]) -> str:
    """The stand-in that the hosts held when they were captured."""
    (image,) = json.loads(captured["converged"])["mainpc"]["docker"]["images"]
    return str(image["Id"])


@pytest.fixture(scope="session")
def fleet(image_id: str, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """The lab's fleet with an archive of that stand-in."""
    archive = tmp_path_factory.mktemp("images") / "stand-in.tar"
    manifest = json.dumps([{"Config": f"blobs/sha256/{image_id.removeprefix('sha256:')}"}]).encode()
    entry = tarfile.TarInfo("manifest.json")
    entry.size = len(manifest)
    with tarfile.open(archive, "w") as tar:
        tar.addfile(entry, io.BytesIO(manifest))
    return lab_fleet(ArchiveImage(path=archive))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A Docker engine of this test's own."""
    engine = Engine(tmp_path)
    yield engine
    engine.close()
