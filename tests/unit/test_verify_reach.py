"""tests/verify reaches the hosts of any inventory as it says, and trusts no key that is not pinned."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.verify.reach import hosts_of, ssh_config

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["lab", "vm"])
def test_every_host_of_an_inventory_is_found_once_and_its_values_are_no_hosts(name: str) -> None:
    hosts = hosts_of(ROOT / f"inventories/{name}.py")
    assert set(hosts) == {"mainpc", "pc2"}
    assert hosts["mainpc"]["ssh_port"] != hosts["pc2"]["ssh_port"]


def test_a_host_may_be_a_bare_name(tmp_path: Path) -> None:
    (tmp_path / "home.py").write_text('_known = ["a"]\nmainpc = ["192.0.2.11"]\n')
    assert hosts_of(tmp_path / "home.py") == {"192.0.2.11": {}}


def test_a_host_is_reached_by_its_address_port_user_and_key() -> None:
    said = {"ssh_hostname": "192.0.2.11", "ssh_port": 2222, "ssh_user": "deploy", "ssh_key": "/keys/id"}
    lines = ssh_config("mainpc", {**said, "ssh_known_hosts_file": "/keys/known_hosts"}).splitlines()
    assert lines[0] == "Host mainpc"
    assert {line.strip() for line in lines[1:]} == {
        "HostName 192.0.2.11",
        "Port 2222",
        "User deploy",
        "IdentityFile /keys/id",
        "IdentitiesOnly yes",
        "UserKnownHostsFile /keys/known_hosts",
        "StrictHostKeyChecking yes",
        "BatchMode yes",
    }


def test_what_an_inventory_does_not_say_is_left_to_openssh_but_for_strict_keys() -> None:
    config = ssh_config("mainpc", {})
    assert "StrictHostKeyChecking yes" in config
    assert "HostName mainpc" in config
    assert "IdentityFile" not in config
    assert "UserKnownHostsFile" not in config
