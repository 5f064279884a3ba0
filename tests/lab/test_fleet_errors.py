"""What a person gets to read when something is wrong: where, what, next step, and an exit code."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from lab.hosts import host_named, open_lab
from tests.lab.conftest import Checkout, look, on_host, steady


def test_without_a_terminal_nothing_is_asked(fleet: Checkout) -> None:
    refused = fleet.run("pyinfra", "inventories/lab.py", "deploy.py")
    assert refused.code == 64
    assert "there is no terminal to ask on: add --yes to deploy; `pyinfra … --dry` looks" in refused.err
    assert "Connecting" not in refused.err


@pytest.fixture
def pc2_off(fleet: Checkout) -> Iterator[None]:
    """pc2 with its SSH server stopped."""
    lab = open_lab(lambda _: None, fleet.path)
    lab.engine.run("stop", host_named("pc2").container)
    yield
    lab.up()
    fleet.restore()


@pytest.mark.usefixtures("pc2_off")
def test_a_host_that_is_off_fails_the_run_before_any_change_on_the_other(fleet: Checkout) -> None:
    on_host("mainpc", "sysctl -q -w net.core.somaxconn=128")
    deployed, status = fleet.deploy(), fleet.status()
    assert [finished.code for finished in (deployed, status)] == [6, 6]
    assert "[pc2]" in deployed.err
    assert "Could not connect" in deployed.err
    (unknown,) = status.document["unknown"]
    assert unknown["host"] == "pc2"
    assert "Could not connect" in unknown["reason"]
    assert "Traceback" not in deployed.err + status.err
    assert look("mainpc", "sysctl -n net.core.somaxconn") == "128"
    judged = fleet.run_alone("cascade", "verify", "inventories/lab.py", "--json", "--area", "agents")
    assert (judged.code, judged.document["exit_code"]) == (6, 6)
    assert "pc2: SSH: " in judged.err
    assert judged.document["results"] == []


def test_a_host_with_another_key_is_not_talked_to(fleet: Checkout) -> None:
    known = fleet.path / ".lab/known_hosts"
    pinned = known.read_text()
    stranger = subprocess.run(
        "d=$(mktemp -d) && ssh-keygen -q -t ed25519 -N '' -f $d/k && cut -d' ' -f1,2 $d/k.pub && rm -r $d",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    lines = [
        " ".join([line.split()[0], stranger]) if ":22042" in line else line for line in pinned.splitlines()
    ]
    known.write_text("\n".join(lines) + "\n")
    try:
        refused = fleet.deploy()
    finally:
        known.write_text(pinned)
    assert refused.code == 6
    assert "does not match" in refused.err


def test_what_cannot_be_read_is_an_error_and_never_absent(fleet: Checkout) -> None:
    steady()
    on_host("pc2", "cp -p /etc/docker/daemon.json /root/; echo '{' > /etc/docker/daemon.json")
    on_host("mainpc", "sysctl -q -w net.core.somaxconn=128")
    try:
        refused, status = fleet.deploy(), fleet.status()
        assert look("mainpc", "sysctl -n net.core.somaxconn") == "128"
    finally:
        on_host("pc2", "cp -p /root/daemon.json /etc/docker/daemon.json")
    assert [finished.code for finished in (refused, status)] == [1, 1]
    assert "pc2: /etc/docker/daemon.json:" in refused.err
    (unknown,) = status.document["unknown"]
    assert (unknown["host"], unknown["what"]) == ("pc2", "/etc/docker/daemon.json")
    assert "Traceback" not in refused.err + status.err
    fleet.deploy().ok()


def test_an_owners_own_daemon_settings_stay(fleet: Checkout) -> None:
    edit = (
        "import json; p='/etc/docker/daemon.json'; s=json.load(open(p)); s.pop('log-opts'); s['debug']=False"
    )
    on_host("pc2", f"python3 -c \"{edit}; json.dump(s, open(p, 'w'))\"")
    fleet.deploy().ok()
    settings = on_host("pc2", "cat /etc/docker/daemon.json")
    assert '"debug": false' in settings
    assert '"max-size": "100m"' in settings
    assert fleet.dry().ok().planned == []
