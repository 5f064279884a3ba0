"""SSH hardening on real servers: closed when a new connection gets in, and as it was when none does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cascade.planning.desired import SSH_SETTINGS
from lab.hosts import HOSTS
from tests.lab.conftest import Checkout, look, on_host

KEYS = "/home/deploy/.ssh/authorized_keys"
DROP_IN = "/etc/systemd/system/ssh.service.d/test.conf"
# A server that, from when it starts with Cascade's settings on, lets nobody in who is not in yet.
LOCKED = rf"""mkdir -p {DROP_IN.rpartition("/")[0]} && cat >{DROP_IN} <<'UNIT'
[Service]
ExecStartPre=/bin/sh -c 'if test -e {SSH_SETTINGS}; \
    then mv {KEYS} {KEYS}.away; else mv {KEYS}.away {KEYS}; fi'
UNIT
systemctl daemon-reload"""


def server(host: str) -> set[str]:
    """What the SSH server goes by."""
    return set(on_host(host, "sshd -T").splitlines())


@pytest.fixture
def hardened(trial_variant: Checkout) -> Iterator[Checkout]:
    """The small system with SSH to be hardened; afterwards the servers are as they were."""
    with (trial_variant.path / "group_data/lab.py").open("a") as settings:
        settings.write("ssh_hardening = True\n")
    yield trial_variant
    for host in HOSTS:
        on_host(host.name, f"rm -f {SSH_SETTINGS} {DROP_IN} && systemctl daemon-reload")
        on_host(host.name, f"test ! -e {KEYS}.away || mv {KEYS}.away {KEYS}")
        on_host(host.name, "systemctl restart ssh.service")


def test_ssh_is_closed_to_root_and_passwords_once_and_stays_so(hardened: Checkout) -> None:
    done = hardened.deploy().ok()
    assert f"create file {SSH_SETTINGS}" in done.err
    for host in HOSTS:
        assert {"permitrootlogin no", "passwordauthentication no"} <= server(host.name)
        assert look(host.name, "systemctl is-active cascade-ssh-revert.timer") == "inactive"
        assert look(host.name, f"ls {SSH_SETTINGS}*") == SSH_SETTINGS
    assert hardened.dry().planned == []


def test_a_server_that_lets_nobody_in_any_more_is_as_it_was(hardened: Checkout) -> None:
    on_host("pc2", LOCKED)
    before = server("pc2")
    failed = hardened.deploy()
    assert failed.code == 1
    assert "a new connection does not get in" in failed.err
    assert server("pc2") == before
    assert look("pc2", f"ls {SSH_SETTINGS}*; ls {KEYS}*") == KEYS
    assert hardened.status().code == 0


def test_settings_that_another_file_overrules_are_taken_back(hardened: Checkout) -> None:
    other = SSH_SETTINGS.replace("00-cascade", "0-mine")
    on_host("mainpc", f"echo 'PasswordAuthentication yes' >{other}")
    failed = hardened.deploy()
    on_host("mainpc", f"rm {other}")
    assert failed.code == 1
    assert "the SSH server would not go by it (passwordauthentication no)" in failed.err
    assert look("mainpc", f"ls {SSH_SETTINGS}*") == ""
