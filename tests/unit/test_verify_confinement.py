"""What confines a container, as tests/verify reads it from the kernel and from a file's words."""

from __future__ import annotations

import grp
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fleets import lab_fleet
from tests.verify import remote_witness
from tests.verify.confinement import (
    CAPABILITIES,
    allowed_capabilities,
    capabilities,
    groups,
    holds_engine,
    identity,
    is_within,
    kilobytes,
    memberships,
    undeclared,
)
from tests.verify.look import Unread

ACCOUNTS = {
    "passwd": {"root": ["0", "0"], "agent": ["1000", "1001"]},
    "group": {"root": ["0", ""], "audio": ["29", "other,agent"], "agents": ["7", "agents"]},
}


def mount(target: str, kind: str, *options: str, root: str = "/") -> dict[str, Any]:
    return {"target": target, "kind": kind, "options": list(options), "root": root}


DRIVER = "overlay2"
# As a container of the lab has it.
USUAL = [
    mount("/", "overlay", "ro"),
    mount("/proc", "proc", "rw"),
    mount("/dev", "tmpfs", "rw"),
    mount("/dev/pts", "devpts", "rw"),
    mount("/sys", "sysfs", "ro"),
    mount("/sys/fs/cgroup", "tmpfs", "rw"),
    mount("/sys/fs/cgroup/memory", "cgroup", "ro", root="/docker/dfb9"),
    mount("/dev/mqueue", "mqueue", "rw"),
    mount("/dev/shm", "tmpfs", "rw"),
    mount("/sbin/docker-init", "overlay", "ro", root="/usr/bin/tini-static"),
    mount("/etc/resolv.conf", "ext4", "ro", root="/var/lib/docker/containers/dfb9/resolv.conf"),
    mount("/proc/sys", "proc", "ro", root="/sys"),
    mount("/proc/acpi", "tmpfs", "ro"),
    mount("/proc/keys", "tmpfs", "rw", root="/null"),
    mount("/sys/firmware", "tmpfs", "ro"),
]


@pytest.mark.parametrize("folder", ["/sbin", "/usr/sbin", "/usr/bin"])
def test_the_engines_init_is_known_wherever_sbin_of_an_image_leads(folder: str) -> None:
    assert undeclared([mount(f"{folder}/docker-init", "ext4", "ro")], (), DRIVER) == []


def test_each_bit_is_one_capability() -> None:
    assert capabilities("0000000000000000") == frozenset()
    assert capabilities("0000000000200400") == {"NET_BIND_SERVICE", "SYS_ADMIN"}
    assert capabilities("000001ffffffffff") == frozenset(CAPABILITIES)
    assert "41" in capabilities("000003ffffffffff")


def test_what_is_dropped_and_added_makes_what_is_allowed() -> None:
    assert allowed_capabilities((), ("ALL",)) == frozenset()
    assert allowed_capabilities(("CAP_NET_ADMIN",), ("ALL",)) == {"NET_ADMIN"}
    assert "NET_RAW" in allowed_capabilities((), ())
    assert "NET_RAW" not in allowed_capabilities((), ("CAP_NET_RAW",))
    assert "SYS_ADMIN" not in allowed_capabilities((), ())
    assert allowed_capabilities(("ALL",), ()) == frozenset(CAPABILITIES)


@pytest.mark.parametrize(
    ("user", "numbers"),
    [
        ("10001:10001", ("10001", "10001")),
        ("agent", ("1000", "1001")),
        ("1000", ("1000", "1001")),
        ("agent:audio", ("1000", "29")),
        ("agent:7", ("1000", "7")),
        ("2000", ("2000", "0")),
        ("root", ("0", "0")),
        ("nobody-knows", ("nobody-knows", "0")),
    ],
)
def test_a_user_is_looked_up_as_the_engine_does(user: str, numbers: tuple[str, str]) -> None:
    assert identity(user, ACCOUNTS) == numbers


@pytest.mark.parametrize(
    ("user", "numbers"),
    [
        ("agent", {"29"}),
        ("1000", {"29"}),
        ("agent:", {"29"}),
        ("agent:7", set()),
        ("1000:1001", set()),
        ("root", set()),
        ("agents", set()),
        ("other", set()),
    ],
)
def test_a_user_without_a_group_is_in_those_that_the_image_puts_him_in(user: str, numbers: set[str]) -> None:
    assert memberships(user, ACCOUNTS) == numbers


def test_all_groups_of_an_agent_are_those_of_its_user_and_those_that_are_added() -> None:
    one = next(one for of_one in lab_fleet().workloads.values() for one in of_one)
    service = one.service.model_copy(update={"user": "agent", "group_add": ("agents", "44")})
    assert groups(replace(one, service=service), ACCOUNTS) == {"1001", "29", "7", "44"}


def test_the_witness_reads_groups_with_their_members() -> None:
    own = grp.getgrall()
    found = remote_witness.accounts(os.getpid(), "group")
    assert {name: (number, members) for name, (number, members) in found.items()} == {
        one.gr_name: (str(one.gr_gid), ",".join(one.gr_mem)) for one in own
    }


def test_what_every_container_has_mounted_is_known() -> None:
    assert undeclared(USUAL, frozenset(), DRIVER) == []


@pytest.mark.parametrize(
    "foreign",
    [
        mount("/data", "ext4", "ro"),
        mount("/proc/host", "proc", "ro"),
        mount("/proc/acpi", "tmpfs", "rw"),
        mount("/proc/keys", "proc", "rw", root="/keys"),
        mount("/proc/sys", "proc", "rw", root="/sys"),
        mount("/sys/fs/cgroup/memory", "ext4", "ro"),
        mount("/", "ext4", "ro"),
        mount("/dev", "devtmpfs", "rw"),
        mount("/dev/snd", "devtmpfs", "rw", root="/snd"),
    ],
    ids=lambda one: f"{one['target']}-{one['kind']}",
)
def test_what_no_container_has_by_itself_is_seen(foreign: dict[str, Any]) -> None:
    assert undeclared([*USUAL, foreign], frozenset(), DRIVER) == [foreign["target"]]


@pytest.mark.parametrize(
    ("driver", "kind", "known"),
    [
        ("overlayfs", "overlay", True),
        ("fuse-overlayfs", "fuse.fuse-overlayfs", True),
        ("btrfs", "btrfs", True),
        ("zfs", "zfs", True),
        ("vfs", "xfs", True),
        ("btrfs", "overlay", False),
        ("overlay2", "btrfs", False),
        ("vfs", "tmpfs", False),
    ],
)
def test_the_root_of_a_container_is_what_the_storage_driver_makes(
    driver: str, kind: str, known: bool
) -> None:
    assert undeclared([mount("/", kind)], (), driver) == ([] if known else ["/"])


def test_a_storage_driver_that_nobody_here_knows_is_no_answer() -> None:
    with pytest.raises(Unread, match="tape"):
        undeclared(USUAL, (), "tape")


def test_what_a_file_declares_may_be_mounted() -> None:
    assert undeclared([*USUAL, mount("/data", "ext4", "rw")], {"/data"}, DRIVER) == []


@pytest.mark.parametrize("source", ["/run/docker.sock", "/var/run/docker.sock", "/var/run", "/run", "/"])
def test_the_socket_of_the_engine_is_seen_in_every_disguise(source: str) -> None:
    assert holds_engine(source)


@pytest.mark.parametrize("source", ["", "/run/cascade/secrets/a", "/var/lib/docker", "/runs", "data"])
def test_what_does_not_hold_the_socket_of_the_engine_is_let_be(source: str) -> None:
    assert not holds_engine(source)


def test_a_path_is_within_a_folder_and_not_beside_it() -> None:
    assert is_within("/dev/snd/pcm", ["/dev/snd"])
    assert is_within("/dev/snd", ["/dev/snd"])
    assert not is_within("/dev/sndx", ["/dev/snd"])
    assert not is_within("/dev/snd", [])


def test_sizes_in_memory_are_whole_pages() -> None:
    assert kilobytes(64 * 2**20) == "size=65536k"
    assert kilobytes(4097) == "size=8k"


def test_processes_that_are_confined_alike_are_told_once() -> None:
    found = remote_witness.confinements([os.getpid(), os.getpid()])
    assert len(found) == 1
    assert found[0]["Uid"].split()[:3] == [str(number) for number in os.getresuid()]
    assert set(remote_witness.CONFINING) < set(found[0])


def test_a_process_that_is_gone_is_no_process() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert remote_witness.confinements([ended.pid]) == []


@pytest.mark.parametrize(
    "program", ["/usr/sbin/runc", "/usr/bin/runc (deleted)", "/memfd:runc_cloned:/proc/self/exe (deleted)"]
)
def test_what_the_engine_is_only_about_to_start_is_not_of_the_container(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "readlink", lambda _: program)
    assert remote_witness.confinements([os.getpid()]) == []


@pytest.mark.parametrize("program", ["/usr/bin/truncate", "/opt/runcible", "/tmp/runc.sh"])
def test_a_program_with_a_similar_name_is_of_the_container(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "readlink", lambda _: program)
    assert len(remote_witness.confinements([os.getpid()])) == 1


def test_devices_are_found_and_files_are_not() -> None:
    found = remote_witness.device_nodes(os.getpid())
    assert "/dev/null" in found
    assert not remote_witness.is_node(Path("/").stat().st_mode)
    assert not any(path.startswith(("/dev/pts/", "/dev/shm/")) for path in found)


def test_a_mount_carries_the_settings_of_its_file_system() -> None:
    line = "77 70 0:30 / /tmp rw,nosuid,noexec - tmpfs tmpfs rw,size=65536k,mode=1777"
    found = remote_witness.mount(*line.split(" - ", 1))
    assert found["settings"] == ["rw", "size=65536k", "mode=1777"]
    assert (found["target"], found["options"]) == ("/tmp", ["rw", "nosuid", "noexec"])
