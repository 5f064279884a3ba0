"""What drivers say of GPUs, and which devices a container has of them."""

from __future__ import annotations

import os

import pytest

from tests.verify.gpus import Card, cards, devices, driver_version, memory_of, used_memory
from tests.verify.look import Unread

ONE, TWO = "GPU-5c1a3b7e-0000-4000-8000-000000000001", "GPU-5c1a3b7e-0000-4000-8000-000000000002"
LISTED = f"0, {ONE}, 24564\n1, {TWO}, 12288\n"
INFORMATION = f"""\
Model: \t\t NVIDIA GeForce RTX 3060
IRQ:   \t\t 161
GPU UUID: \t {TWO}
Bus Location: \t 0000:02:00.0
Device Minor: \t 0
Model: \t\t NVIDIA GeForce RTX 4090
GPU UUID: \t {ONE}
Device Minor: \t 1
GPU Excluded:\t No
"""
HELD = f"{ONE}, 4242, 512\n{ONE}, 4243, 100\n{TWO}, 4242, 7\n"


@pytest.mark.parametrize(
    ("line", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023",
            "535.129.03",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95  Release Build  (dvs-builder)",
            "580.95",
        ),
    ],
)
def test_the_version_of_the_loaded_driver_is_read_from_proc(line: str, version: str) -> None:
    assert driver_version(f"{line}\nGCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n") == version
    with pytest.raises(Unread):
        driver_version("NVRM version: none\nGCC version:  gcc version 12.2.0 \n")


def test_a_gpu_has_its_device_by_its_uuid_and_not_by_its_index() -> None:
    assert cards(LISTED, INFORMATION) == {0: Card(ONE, 1, 24564), 1: Card(TWO, 0, 12288)}


def test_a_gpu_whose_device_nobody_tells_is_unknown() -> None:
    with pytest.raises(Unread, match=ONE):
        cards(LISTED, INFORMATION.partition("Model: \t\t NVIDIA GeForce RTX 4090")[0])


def test_a_group_has_the_memory_of_its_own_processes_on_one_gpu() -> None:
    card = Card(ONE, 1, 24564)
    assert memory_of(used_memory(HELD), card, [4242]) == 512
    assert memory_of(used_memory(HELD), card, [4242, 4243]) == 612
    assert memory_of(used_memory(""), card, [4242]) == 0


def test_memory_that_the_driver_cannot_tell_is_unknown() -> None:
    with pytest.raises(Unread, match="4242"):
        used_memory(f"{ONE}, 4242, [N/A]\n")


def test_a_container_has_the_devices_that_are_there_by_their_real_numbers() -> None:
    first, second = ({"rdev": os.makedev(195, minor)} for minor in (0, 1))
    control = {"rdev": os.makedev(195, 255)}
    assert devices({"/": {"rdev": 0}, "/dev/nvidia0": None, "/dev/nvidia-uvm": None}) == set()
    assert devices({"/dev/nvidiactl": control, "/dev/nvidia0": first}) == {"/dev/nvidiactl", "/dev/nvidia0"}
    assert devices({"/dev/nvidia0": second}) == {"/dev/nvidia1"}
