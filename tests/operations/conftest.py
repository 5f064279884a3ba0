"""The lab's fleet and what its hosts said of themselves when they were bare, and when all was well."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from pyinfra.api.config import Config
from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State

from cascade.model.fleet import Fleet
from cascade.model.image import ArchiveImage
from operations.run import Run
from tests.fleets import lab_fleet
from tests.operations.engine import Engine
from tests.operations.sheets import Sheets

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


@pytest.fixture
def client(engine: Engine) -> Iterator[docker.APIClient]:
    """docker-py on the engine of this test."""
    client = docker.APIClient(base_url=f"http+unix://{engine.path}", version="1.44", timeout=5)
    yield client
    client.close()


class LocalRun(Run):
    """A run whose every engine is the one of this test."""

    engine: docker.APIClient

    def client(self, name: str) -> Any:
        assert name in self.fleet.hosts
        return self.engine


@pytest.fixture
def run(client: docker.APIClient, fleet: Fleet) -> LocalRun:
    """A run of the lab's fleet, of which all engines are that one."""
    state = State(Inventory((list(fleet.hosts), {})), Config())  # type: ignore[no-untyped-call]
    run = LocalRun(state)
    run.fleet, run.engine, run.trail = fleet, client, Sheets().trail()
    return run


@pytest.fixture
def host(run: LocalRun, fleet: Fleet) -> Host:
    """The manager."""
    return run.state.inventory.get_host(fleet.manager.name)
