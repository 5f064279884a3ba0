"""tests/verify reaches the hosts of any inventory as it says, and trusts no key that is not pinned."""

from __future__ import annotations

from tests.verify.reach import ssh_config


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
        "ConnectTimeout 30",
        "ServerAliveInterval 15",
    }


def test_what_an_inventory_does_not_say_is_left_to_openssh_but_for_strict_keys() -> None:
    config = ssh_config("mainpc", {})
    assert "StrictHostKeyChecking yes" in config
    assert "HostName mainpc" in config
    assert "IdentityFile" not in config
    assert "UserKnownHostsFile" not in config


def test_one_connection_to_a_host_serves_all_questions_where_there_is_a_place_for_its_socket() -> None:
    lines = {line.strip() for line in ssh_config("mainpc", {"control_path": "/run/x/mainpc"}).splitlines()}
    assert {"ControlMaster auto", "ControlPath /run/x/mainpc", "ControlPersist 60"} <= lines
    assert "Control" not in ssh_config("mainpc", {})
