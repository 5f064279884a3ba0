"""The hosts of any inventory, reached as it says: `pytest tests/verify --inventory inventories/vm.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
import testinfra

from tests.verify.look import Look, look_at
from tests.verify.reach import hosts_of, ssh_config


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--inventory", help="the inventory whose hosts are looked at", required=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "name" in metafunc.fixturenames:
        inventory = Path(metafunc.config.getoption("inventory"))
        metafunc.parametrize("name", sorted(hosts_of(inventory)), scope="session")


@pytest.fixture(scope="session")
def look(name: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Look:
    """A host as it is now, looked at once for all controls."""
    inventory = Path(request.config.getoption("inventory"))
    config = tmp_path_factory.mktemp("verify") / "ssh_config"
    config.write_text(ssh_config(name, hosts_of(inventory)[name]))
    return look_at(testinfra.get_host(f"ssh://{name}", ssh_config=str(config), sudo=True))
