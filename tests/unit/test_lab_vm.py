"""The virtual machines: what they are made from, how they are told apart, and which processor they get."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from lab import image, vm, vm_accelerator, vm_image
from lab.hosts import HOSTS
from lab.vm import VIRTUAL_HOSTS
from lab.vm_accelerator import EMULATION, Accelerator
from lab.vm_image import VmImage

IMAGE = VmImage(Path("/lab/vm/image-1"))
MAINPC, PC2 = VIRTUAL_HOSTS


def argv_of(host: vm.VirtualHost) -> list[str]:
    return vm.qemu_argv(host, IMAGE, Path("/lab/vm") / host.name, PC2 if host == MAINPC else MAINPC)


def wire(host: vm.VirtualHost) -> dict[str, str]:
    described = next(part for part in argv_of(host) if part.startswith("socket,"))
    return dict(field.split("=", 1) for field in described.split(",")[1:])


def test_each_end_of_the_wire_sends_to_where_the_other_one_listens() -> None:
    assert wire(MAINPC)["udp"] == wire(PC2)["localaddr"]
    assert wire(PC2)["udp"] == wire(MAINPC)["localaddr"]
    assert wire(MAINPC)["udp"] != wire(PC2)["udp"]


def test_no_two_hosts_of_either_kind_share_a_port_a_card_or_an_address() -> None:
    ports = [host.ssh_port for host in (*HOSTS, *VIRTUAL_HOSTS)] + [host.wire_port for host in VIRTUAL_HOSTS]
    cards = [host.mac(card) for host in VIRTUAL_HOSTS for card in (0, 1)]
    addresses = [host.address for host in (*HOSTS, *VIRTUAL_HOSTS)]
    for unique in (ports, cards, addresses):
        assert len(set(unique)) == len(unique)


def test_nothing_but_this_machine_reaches_a_machine_from_outside() -> None:
    for host in VIRTUAL_HOSTS:
        opened = [part for part in argv_of(host) if "hostfwd" in part or "localaddr" in part]
        assert len(opened) == 2
        assert all("127.0.0.1:" in part for part in opened)


def test_the_machine_writes_its_key_and_who_may_log_in_with_narrow_modes() -> None:
    line = vm.credentials("ssh-ed25519 AAAA lab\n", "PRIVATE\n")
    name, _, value = line.partition("=")
    assert name == "io.systemd.credential.binary:tmpfiles.extra"
    written = {
        path: (kind, mode, user, group, base64.b64decode(content).decode())
        for kind, path, mode, user, group, _, content in (
            entry.split() for entry in base64.b64decode(value).decode().splitlines()
        )
    }
    assert written == {
        "/home/deploy/.ssh/authorized_keys": ("f+~", "0600", "deploy", "deploy", "ssh-ed25519 AAAA lab\n"),
        "/etc/ssh/ssh_host_ed25519_key": ("f+~", "0600", "root", "root", "PRIVATE\n"),
    }


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc in which process 7 is QEMU with the machine of tmp_path/mainpc, and 8 is something else."""
    for pid, argv in {"7": ["qemu", "-pidfile", str(tmp_path / "mainpc" / "pid")], "8": ["vi"]}.items():
        (tmp_path / "proc" / pid).mkdir(parents=True)
        (tmp_path / "proc" / pid / "cmdline").write_bytes(b"\0".join(part.encode() for part in argv))
    (tmp_path / "mainpc").mkdir()
    return tmp_path / "proc"


@pytest.mark.parametrize(("noted", "found"), [("7\n", 7), ("8\n", None), ("9\n", None), ("", None)])
def test_a_machine_is_known_by_its_process_and_not_by_a_number_that_another_one_has(
    noted: str, found: int | None, proc: Path
) -> None:
    folder = proc.parent / "mainpc"
    (folder / "pid").write_text(noted)
    assert vm.process_of(folder, proc) == found


def test_a_machine_that_never_ran_has_no_process(proc: Path) -> None:
    assert vm.process_of(proc.parent / "pc2", proc) is None


def test_the_set_up_of_a_machine_is_that_of_a_host_and_more() -> None:
    inputs = vm_image.vm_inputs()
    assert inputs.setup.startswith(image.SETUP.read_text())
    assert inputs.setup.endswith(vm_image.VM_SETUP.read_text())
    assert inputs.digest != image.inputs_of_this_machine().digest


def qemu_that(says: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A QEMU that says one thing by its way to run a processor, and then stands still."""
    program = folder / "qemu"
    program.write_text(f'#!/bin/sh\ncase "$*" in\n{says}\nesac\nexec sleep 1000\n')
    program.chmod(0o700)
    monkeypatch.setattr(vm_accelerator, "QEMU", str(program))
    device = folder / "kvm"
    device.touch()
    return device


@pytest.mark.parametrize(
    ("says", "way"),
    [
        ("*accel*) echo '[ 1.0] Kernel panic - not syncing: Attempted to kill init!';;", ("kvm", "host")),
        (
            "*-arch-cap*) echo 'Attempted to kill init!';; *) echo 'failed to set MSR 0x10a' >&2; exit 1;;",
            ("kvm", "host,-arch-capabilities"),
        ),
        ("*) echo 'KVM internal error. Suberror: 1' >&2;;", ("tcg,thread=multi", "max")),
        ("*) exit 1;;", ("tcg,thread=multi", "max")),
    ],
)
def test_kvm_is_used_only_as_it_boots_user_space(
    says: str, way: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = qemu_that(says, tmp_path, monkeypatch)
    assert vm_accelerator.accelerator(IMAGE, lambda _: None, device) == Accelerator(*way)


def test_a_trial_that_says_nothing_ends_at_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vm_accelerator, "TRIAL_TIMEOUT_S", 0.2)
    device = qemu_that("*) ;;", tmp_path, monkeypatch)
    assert vm_accelerator.accelerator(IMAGE, lambda _: None, device) == EMULATION


def test_without_kvm_nothing_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu_that("*) echo 'Attempted to kill init!';;", tmp_path, monkeypatch)
    assert vm_accelerator.accelerator(IMAGE, lambda _: None, tmp_path / "none") == EMULATION
