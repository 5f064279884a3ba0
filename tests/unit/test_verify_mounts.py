"""What a path in a container lies on, and when two names are of one folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.verify.mounts import mount_of, same_file
from tests.verify.remote_witness import files, mount, stated

LINES = (
    "331 228 0:81 / / ro,relatime - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/SX",
    "352 331 0:90 / /tmp rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,size=65536k",
    "353 331 254:0 /var/lib/docker/volumes/redis/_data /data/redis rw,relatime master:1 - ext4 /dev/vda rw",
    "354 331 0:91 / /data/redis rw,relatime - tmpfs tmpfs rw",
)
MOUNTS = [mount(*line.split(" - ", 1)) for line in LINES]


@pytest.mark.parametrize(
    ("path", "device"),
    [("/tmp", "0:90"), ("/tmp/file", "0:90"), ("/tmpfile", "0:81"), ("/", "0:81"), ("/data/redis", "0:91")],
)
def test_a_path_lies_on_the_nearest_mount_above_it_that_was_made_last(path: str, device: str) -> None:
    assert mount_of(MOUNTS, path)["device"] == device


def test_two_names_of_one_folder_are_the_same_and_what_is_not_there_never_is(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("one")
    one, link, other = (stated(str(tmp_path / name)) for name in ("one", "link", "other"))
    assert same_file(one, link)
    assert not same_file(one, other)
    assert not same_file(None, None)


def test_the_witness_tells_what_is_at_a_path_but_not_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    (tmp_path / "secret").chmod(0o640)
    secret, gone = (str(tmp_path / name) for name in ("secret", "gone"))
    found: dict[str, Any] = files([secret, gone])
    assert found.keys() == {secret, gone}
    assert found[gone] is None
    assert (found[secret]["mode"] & 0o777, found[secret]["uid"]) == (0o640, os.getuid())
    assert "hunter2" not in str(found)
