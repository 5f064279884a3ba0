"""What becomes of an existing host, and how a host is run on different machines."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from lab import hosts
from lab.hosts import HOSTS, Found, Verdict, decide
from lab.machine import Machine, bounding_set, default_interface

ROOT = Path(__file__).resolve().parents[2]
MAINPC = HOSTS[0]
OLD_MACHINE = Machine(1, ("KILL", "SYS_TIME"), has_apparmor=False, has_kernel_modules=False, mtu=1400)
LAPTOP = Machine(2, ("SYS_RESOURCE", "SYS_TIME"), has_apparmor=True, has_kernel_modules=True, mtu=1500)


@pytest.mark.parametrize(
    ("found", "verdict", "reason"),
    [
        (None, Verdict.CREATE, "none yet"),
        (Found("running", "/here", "r1"), Verdict.KEEP, "runs"),
        (Found("exited", "/here", "r1"), Verdict.START, "stopped"),
        (Found("created", "/here", "r1"), Verdict.REPLACE, "half-built (state created)"),
        (Found("dead", "/here", "r1"), Verdict.REPLACE, "half-built (state dead)"),
        (Found("running", "/elsewhere", "r1"), Verdict.REPLACE, "checkout /elsewhere"),
        (Found("running", "", "r1"), Verdict.REPLACE, "no checkout"),
        (Found("running", "/here", "r0"), Verdict.REPLACE, "older image"),
        (Found("exited", "/here", ""), Verdict.REPLACE, "older image"),
    ],
)
def test_an_existing_host_is_judged(found: Found | None, verdict: Verdict, reason: str) -> None:
    decided, why = decide(found, "/here", "r1")
    assert decided is verdict
    assert reason in why


def test_a_host_on_cgroup_v1_without_sys_resource() -> None:
    argv = hosts.run_argv(MAINPC, OLD_MACHINE, "image:1")
    assert argv[0] == "run"
    assert argv[-1] == "image:1"
    assert {"--cap-add=KILL", "--cgroupns=host"} <= set(argv)
    assert "--cap-add=SYS_RESOURCE" not in argv
    assert "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1" in argv
    assert not any("apparmor" in part or "/lib/modules" in part for part in argv)


def test_a_host_on_cgroup_v2_with_everything() -> None:
    argv = hosts.run_argv(MAINPC, LAPTOP, "image:1")
    assert "--cap-add=SYS_RESOURCE" in argv
    assert not any("LEGACY" in part for part in argv)
    assert "apparmor=unconfined" in argv
    assert "/lib/modules:/lib/modules:ro" in argv


@pytest.mark.parametrize("machine", [OLD_MACHINE, LAPTOP])
def test_no_host_can_move_the_clock_or_is_privileged(machine: Machine) -> None:
    argv = hosts.run_argv(MAINPC, machine, "image:1")
    assert "--cap-drop=ALL" in argv
    assert not {"--cap-add=SYS_TIME", "--cap-add=ALL", "--privileged"} & set(argv)


def test_ssh_is_published_on_loopback_only() -> None:
    argv = hosts.run_argv(MAINPC, LAPTOP, "image:1")
    assert argv[argv.index("--publish") + 1] == "127.0.0.1:22041:22"


def test_the_recipe_changes_with_image_and_machine() -> None:
    argvs = [
        hosts.run_argv(MAINPC, OLD_MACHINE, "image:1"),
        hosts.run_argv(MAINPC, OLD_MACHINE, "image:2"),
        hosts.run_argv(MAINPC, replace(OLD_MACHINE, cgroup_version=2), "image:1"),
    ]
    assert len({hosts.recipe(argv) for argv in argvs}) == len(argvs)


def test_the_inventory_names_the_hosts_that_the_lab_makes() -> None:
    inventory = runpy.run_path(str(ROOT / "inventories" / "lab.py"))
    listed = [inventory[host.name][0] for host in HOSTS]
    made = [(host.name, host.ssh_port, host.address) for host in HOSTS]
    assert [(name, data["ssh_port"], data["swarm_address"]) for name, data in listed] == made


def test_the_bounding_set_is_read_from_the_kernels_mask() -> None:
    whole = bounding_set("CapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\n")
    without_resource = bounding_set("CapEff:\t000001ffffffffff\nCapBnd:\t000001fffeffffff\n")
    assert set(whole) - set(without_resource) == {"SYS_RESOURCE"}
    assert (whole[0], whole[-1]) == ("CHOWN", "AUDIT_READ")


def test_the_default_interface_is_the_one_without_destination() -> None:
    routes = (
        "Iface\tDestination\tGateway\tFlags\n"
        "docker0\t000011AC\t00000000\t0001\n"
        "eth0\t00000000\t010200C0\t0003\n"
    )
    assert default_interface(routes) == "eth0"
    assert default_interface("Iface\tDestination\tGateway\n") is None
