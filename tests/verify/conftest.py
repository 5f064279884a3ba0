"""The hosts of any inventory, reached as it says: `pytest tests/verify --inventory inventories/vm.py`."""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import testinfra

from tests.verify.look import Look, look_at

SSH_CONFIG = """\
Host {name}
    HostName {ssh_hostname}
    Port {ssh_port}
    User {ssh_user}
    IdentityFile {ssh_key}
    IdentitiesOnly yes
    UserKnownHostsFile {ssh_known_hosts_file}
    StrictHostKeyChecking yes
    BatchMode yes
"""
DEFAULTS = {"ssh_port": 22, "ssh_user": "root"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--inventory", help="the inventory whose hosts are looked at", required=True)


def hosts_of(inventory: Path) -> dict[str, Mapping[str, Any]]:
    """The hosts that an inventory names, and how SSH reaches them."""
    groups = runpy.run_path(str(inventory))
    listed = (group for name, group in groups.items() if not name.startswith("_") and isinstance(group, list))
    return {name: data for group in listed for name, data in group}


def ssh_config(name: str, data: Mapping[str, Any]) -> str:
    """How OpenSSH reaches a host, with pinned keys only; what the inventory does not say is OpenSSH's own."""
    known = {**DEFAULTS, "ssh_hostname": name, **data, "name": name}
    lines = (line for line in SSH_CONFIG.splitlines(keepends=True) if _is_said(line, known))
    return "".join(lines).format(**known)


def _is_said(line: str, known: Mapping[str, Any]) -> bool:
    return "{" not in line or line.partition("{")[2].partition("}")[0] in known


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
