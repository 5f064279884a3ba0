"""Each machine is as group_data asks: its system, packages, kernel, clock and SSH server."""

from __future__ import annotations

import pytest

from cascade.model.host import Host
from tests.verify.evidence import Evidence
from tests.verify.expected import Expected
from tests.verify.machine import CLOCKS, MODULES, PROFILES_UNIT, SECRETS_UNIT, kept_sysctls, words
from tests.verify.record import not_asked

LARGEST_OFFSET_S = 2.0
FULL = 0.95
OURS = ("docker", "containerd", "cascade", "ssh")
# Source: sshd_config(5).
CLOSED = {
    "permitrootlogin": "no",
    "passwordauthentication": "no",
    "kbdinteractiveauthentication": "no",
    "permitemptypasswords": "no",
}


def test_the_system_is_the_declared_release(node: Host, evidence: Evidence) -> None:
    system = evidence.hosts[node.name]["system"]
    assert (system["ID"], system.get("VERSION_CODENAME")) == (node.distribution, node.codename)


def test_every_declared_package_is_installed(node: Host, evidence: Evidence) -> None:
    states = evidence.hosts[node.name]["packages"]
    found = {name: states.get(name, "unknown to dpkg") for name in node.packages}
    assert {name: state for name, state in found.items() if state != "installed"} == {}


def test_the_kernel_has_every_declared_setting(node: Host, evidence: Evidence) -> None:
    found = evidence.hosts[node.name]["sysctls"]
    assert {name: words(found[name] or "") for name in node.sysctls} == node.sysctls


def test_every_declared_kernel_setting_outlives_a_reboot(node: Host, evidence: Evidence) -> None:
    kept = kept_sysctls(evidence.hosts[node.name]["sysctl_files"])
    assert {name: kept.get(name) for name in node.sysctls} == node.sysctls


def test_the_kernel_has_what_networks_between_hosts_need(node: Host, evidence: Evidence) -> None:
    found = evidence.hosts[node.name]["modules"]
    needed = MODULES[:-1] if "ipvs" in node.absent else MODULES
    assert [name for name in needed if not found[name]] == []


def test_the_clock_is_right(node: Host, evidence: Evidence) -> None:
    offset = evidence.clocks[node.name]
    assert offset < LARGEST_OFFSET_S, f"it is wrong by {offset:.1f} s at least"


def test_something_keeps_the_clock_right(node: Host, evidence: Evidence) -> None:
    if "clock" in node.absent:
        pytest.skip("group_data says that the machine has no clock of its own")
    units = evidence.hosts[node.name]["units"]
    found = {name: units[name] for name in CLOCKS if units[name]["ActiveState"] == "active"}
    assert [unit["UnitFileState"] for unit in found.values()] == ["enabled"]


def test_no_file_system_of_the_engine_is_full(node: Host, evidence: Evidence) -> None:
    found = evidence.hosts[node.name]["full"]
    assert [path for path, parts in found.items() if parts is None] == [], "it is not there"
    assert {path: parts for path, parts in found.items() if max(parts.values()) > FULL} == {}


def test_no_unit_that_the_fleet_rests_on_has_failed(node: Host, evidence: Evidence) -> None:
    failed = evidence.hosts[node.name]["failed"]
    assert [line for line in failed if line.startswith(OURS)] == []


def test_what_confines_containers_and_gives_them_secrets_starts_before_them(
    node: Host, evidence: Evidence, expected: Expected
) -> None:
    reading = [one for one in expected.workloads.values() if one.kind == "container" and one.secret_files]
    secrets = any(node.name in expected.hosts_of(one) for one in reading)
    found = evidence.hosts[node.name]
    needed = [PROFILES_UNIT] * found["apparmor"] + [SECRETS_UNIT] * secrets
    if not needed:
        pytest.skip("its kernel has no AppArmor, and no agent outside of the Swarm reads secrets on it")
    right = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled"}
    assert {name: found["units"][name] for name in needed} == dict.fromkeys(needed, right)


def test_ssh_is_closed_to_root_and_to_passwords(node: Host, evidence: Evidence) -> None:
    if not node.ssh_hardening:
        not_asked("group_data does not ask for ssh_hardening")
    lines = (line.partition(" ") for line in evidence.hosts[node.name]["sshd"])
    said = {key: value for key, _, value in lines if key in CLOSED}
    assert said == CLOSED


def test_the_host_reaches_every_host_at_the_ports_of_the_swarm(node: Host, evidence: Evidence) -> None:
    reached = evidence.hosts[node.name]["reached"]
    assert [place for place, taken in reached.items() if not taken] == []


def test_the_kernel_has_apparmor_where_group_data_requires_it(node: Host, evidence: Evidence) -> None:
    assert evidence.hosts[node.name]["apparmor"] or node.apparmor == "if-available"
