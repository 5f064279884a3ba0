"""The lab's key pair and its pinned host keys."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paramiko

from lab import keys

KEY = "ssh-ed25519 AAAAC3Nz root@mainpc\n"


def test_a_pinned_key_is_one_line_without_its_comment() -> None:
    assert keys.with_pinned("", 22041, KEY) == "[127.0.0.1]:22041 ssh-ed25519 AAAAC3Nz\n"


def test_a_new_key_takes_the_place_of_the_old_one_of_its_port() -> None:
    before = "[127.0.0.1]:22041 ssh-ed25519 OLD\n[127.0.0.1]:22042 ssh-ed25519 OTHER\n"
    after = "[127.0.0.1]:22041 ssh-ed25519 AAAAC3Nz\n[127.0.0.1]:22042 ssh-ed25519 OTHER\n"
    assert keys.with_pinned(before, 22041, KEY) == after


def test_the_pair_is_made_once_private_and_usable(tmp_path: Path) -> None:
    public = keys.ensure_key_pair(tmp_path)
    private = keys.private_key(tmp_path)
    assert keys.ensure_key_pair(tmp_path) == public
    assert private.stat().st_mode & 0o077 == 0
    assert public.split()[1] == paramiko.Ed25519Key.from_private_key_file(str(private)).get_base64()


def test_two_at_once_make_one_pair(tmp_path: Path) -> None:
    for attempt in range(20):
        lab_dir = tmp_path / str(attempt)
        lab_dir.mkdir()
        with ThreadPoolExecutor(4) as pool:
            found = set(pool.map(lambda _, lab_dir=lab_dir: keys.ensure_key_pair(lab_dir), range(4)))
        assert found == {keys.ensure_key_pair(lab_dir)}


def test_a_broken_private_key_is_made_anew(tmp_path: Path) -> None:
    keys.private_key(tmp_path).write_text("half a key")
    assert keys.ensure_key_pair(tmp_path).startswith("ssh-ed25519 ")
