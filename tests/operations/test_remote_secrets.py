"""The secrets of host containers as a host keeps them: both scripts as hosts run them, on this machine.

`systemd-creds` is a stand-in that turns a value round and checks its name: what seals is systemd's own.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cascade.planning.desired import TEMPLATES, render
from tests.operations.test_remote_snapshot import run_script

SCRIPT = Path(__file__).parents[2] / "operations" / "remote_secrets.py"
PLACE = "alpha_fox/cascade_tint-0123456789ab"
# What a snapshot is asked for, besides what an engine holds.
PARTS = ("packages", "sysctls", "files", "contents", "units", "profiles", "permissions")
CANARY = b"\0\xff planted '; touch x\n" + b"x" * 200_000
OWNER, GROUP = os.getuid(), os.getgid()
STAND_IN = """#!{python}
import sys
command, options = sys.argv[1], [word for word in sys.argv[2:] if word.startswith("--") and word != "--"]
given = [word for word in sys.argv[2:] if not word.startswith("--")]
(name,) = [option.encode() for option in options if option.startswith("--name=")]
value = sys.stdin.buffer.read() if given[0] == "-" else open(given[0], "rb").read()
if command == "encrypt":
    assert "--with-key=host" in options and given[1] == "-"
    sys.stdout.buffer.write(name + value[::-1])
elif value.startswith(name):
    sys.stdout.buffer.write(value.removeprefix(name)[::-1])
else:
    sys.exit("it is sealed under another name")
"""

Told = Callable[..., Any]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Where secrets lie open and sealed, beside the program that seals them."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "systemd-creds"
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return tmp_path / "run" / "secrets", tmp_path / "lib" / "secrets"


@pytest.fixture
def told(folders: tuple[Path, Path]) -> Told:
    """Tells the script what to do; what it answers."""

    def tell(do: str, value: bytes | None = None, **said: Any) -> Any:
        task = {"do": do, "place": PLACE, "mode": 0o440, "owner": OWNER, "group": GROUP, **said}
        task["value"] = None if value is None else base64.b64encode(value).decode()
        opened, sealed = map(str, folders)
        folder_names = '"/run/cascade/secrets", "/var/lib/cascade/secrets"'
        text = SCRIPT.read_text().replace(folder_names, f"{opened!r}, {sealed!r}")
        head = f"import json\nTASK = json.loads({json.dumps(task)!r})\n"
        done = subprocess.run(
            [sys.executable, "-IS", "-"], input=head + text, capture_output=True, text=True, check=True
        )
        assert "planted" not in done.stdout + done.stderr
        return json.loads(done.stdout)

    return tell


@pytest.fixture
def seen(folders: tuple[Path, Path], tmp_path: Path) -> Callable[[], Any]:
    """What the snapshot says of the secrets."""
    query: dict[str, Any] = dict.fromkeys(PARTS, ())

    def see() -> Any:
        opened, sealed = map(str, folders)
        script: dict[str, Any] = {
            "DAEMONS": (str(tmp_path / "none"),),
            "SWARM_STATE": str(tmp_path / "none"),
            "OPEN_SECRETS, SEALED_SECRETS": (opened, sealed),
        }
        return run_script(query, **script).get("secret_files")

    return see


WELL = {"mode": "440", "owner": str(OWNER), "group": str(GROUP), "sealed": True, "in_place": True}


def test_a_secret_lies_open_to_the_byte_and_sealed(
    told: Told, folders: tuple[Path, Path], seen: Callable[[], Any]
) -> None:
    assert seen() is None
    assert told("put", CANARY) == {}
    opened, sealed = (folder / PLACE for folder in folders)
    assert opened.read_bytes() == CANARY
    assert b"planted" not in sealed.read_bytes()
    for folder in folders:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / PLACE).stat().st_mode & 0o7777 == 0o440
        assert [path.name for path in (folder / PLACE).parent.iterdir()] == [Path(PLACE).name]
    assert seen() == {PLACE: WELL}


def test_another_value_is_the_same_file_to_who_has_mounted_it(
    told: Told, folders: tuple[Path, Path], seen: Callable[[], Any]
) -> None:
    told("put", CANARY)
    with (folders[0] / PLACE).open("rb") as mounted:
        told("put", b"short")
        assert mounted.read() == b"short"
    assert seen() == {PLACE: WELL}


@pytest.mark.parametrize("harm", ["written over", "emptied", "cut", "removed"])
def test_what_was_done_to_the_open_file_is_seen_and_undone_without_the_value(
    harm: str, told: Told, folders: tuple[Path, Path], seen: Callable[[], Any]
) -> None:
    told("put", CANARY)
    opened = folders[0] / PLACE
    opened.chmod(0o600)
    if harm == "removed":
        opened.unlink()
    else:
        opened.write_bytes({"written over": b"y" + CANARY[1:], "emptied": b"", "cut": CANARY[:-1]}[harm])
    found = seen()[PLACE]
    assert (found["sealed"], found["in_place"]) == (True, False)
    assert told("put") == {}
    assert opened.read_bytes() == CANARY
    assert seen() == {PLACE: WELL}


def test_another_mode_is_seen_and_put_right(told: Told, folders: tuple[Path, Path], seen: Any) -> None:
    told("put", CANARY)
    (folders[0] / PLACE).chmod(0o644)
    assert seen() == {PLACE: WELL | {"mode": "644"}}
    written = (folders[0] / PLACE).stat().st_mtime_ns
    told("put")
    assert seen() == {PLACE: WELL}
    assert (folders[0] / PLACE).stat().st_mtime_ns == written
    told("put", mode=0o400)
    assert [(folder / PLACE).stat().st_mode & 0o777 for folder in folders] == [0o400, 0o400]


@pytest.mark.parametrize("harm", ["gone", "exchanged"])
def test_a_sealed_file_that_is_no_more_what_it_was_is_seen(
    harm: str, told: Told, folders: tuple[Path, Path], seen: Callable[[], Any]
) -> None:
    told("put", CANARY)
    sealed = folders[1] / PLACE
    if harm == "gone":
        sealed.unlink()
    else:
        told("put", b"other", place="alpha_fox/cascade_other-0123456789ab")
        sealed.unlink()
        (sealed.parent / "cascade_other-0123456789ab").rename(sealed)
    found = seen()[PLACE]
    assert (found["sealed"], found["in_place"]) == (False, False)
    assert told("put")["error"]
    assert told("put", CANARY) == {}
    assert seen()[PLACE] == WELL


def test_whoever_compares_the_two_files_leaves_no_dump(told: Told, seen: Any, tmp_path: Path) -> None:
    told("put", CANARY)
    limits = tmp_path / "limits"
    for name in ("cmp", "systemd-creds"):
        program = Path(str(shutil.which(name)))
        instead = tmp_path / "bin" / name
        real = program.rename(tmp_path / name) if program == instead else program
        instead.write_text(f'#!/bin/sh\ngrep core /proc/self/limits >>{limits}\nexec {real} "$@"\n')
        instead.chmod(0o755)
    assert seen() == {PLACE: WELL}
    assert re.findall(r"Max core file size +(\S+) +(\S+) ", limits.read_text()) == [("1", "1")] * 2


CUT_OFF = "cascade_gone-0123456789ab.cascade-new"


def leave_half(folders: tuple[Path, Path]) -> None:
    """What a run leaves that was cut off while it sealed a value that nobody wants any more."""
    for folder in folders:
        (folder / PLACE).parent.mkdir(parents=True, exist_ok=True)
        (folder / PLACE).with_name(CUT_OFF).write_text("half")


def test_what_a_run_left_that_was_cut_off_goes_with_the_next_secret_of_the_container(
    told: Told, folders: tuple[Path, Path]
) -> None:
    leave_half(folders)
    assert told("put", CANARY) == {}
    left = [path.name for folder in folders for path in (folder / PLACE).parent.iterdir()]
    assert left == [Path(PLACE).name] * 2


def test_what_is_removed_leaves_nothing(told: Told, folders: tuple[Path, Path], seen: Any) -> None:
    told("put", CANARY)
    leave_half(folders)
    assert told("remove") == {}
    assert told("remove") == {}
    assert [list(folder.iterdir()) for folder in folders] == [[], []]
    assert seen() is None


def test_what_a_host_cannot_do_is_an_answer_and_no_traceback(told: Told, folders: tuple[Path, Path]) -> None:
    folders[1].parent.mkdir()
    folders[1].write_text("in the way")
    assert told("put", CANARY) == {"error": f"{folders[1]}: File exists"}


@pytest.fixture
def started(folders: tuple[Path, Path]) -> Callable[[], subprocess.CompletedProcess[bytes]]:
    """What a host does before its engine starts."""

    def start() -> subprocess.CompletedProcess[bytes]:
        opened, sealed = map(str, folders)
        text = render("/usr/local/lib/cascade/unseal-secrets")
        text = text.replace("/run/cascade/secrets", opened).replace("/var/lib/cascade/secrets", sealed)
        return subprocess.run(["sh", "-c", text], capture_output=True, check=False)

    return start


def test_after_a_start_of_its_host_a_secret_lies_where_it_was(
    told: Told, folders: tuple[Path, Path], seen: Any, started: Any
) -> None:
    assert started().returncode == 0
    told("put", CANARY)
    (folders[0] / PLACE).unlink()
    (folders[0] / PLACE).parent.rmdir()
    folders[0].rmdir()
    assert started().returncode == 0
    assert (folders[0] / PLACE).read_bytes() == CANARY
    assert folders[0].stat().st_mode & 0o777 == 0o700
    assert seen() == {PLACE: WELL}


def test_one_that_cannot_be_unsealed_is_told_and_holds_up_no_other(
    told: Told, folders: tuple[Path, Path], started: Any
) -> None:
    told("put", b"other", place="alpha_fox/a_tint-0123456789ab")
    told("put", CANARY)
    damaged = folders[1] / "alpha_fox/a_tint-0123456789ab"
    damaged.chmod(0o600)
    damaged.write_text("damaged")
    (folders[0] / PLACE).unlink()
    done = started()
    assert done.returncode == 0
    assert f"{damaged} cannot be unsealed: deploy again".encode() in done.stderr
    assert (folders[0] / PLACE).read_bytes() == CANARY
    assert not (folders[0] / "alpha_fox/a_tint-0123456789ab").exists()


def test_the_unit_comes_before_the_engine() -> None:
    unit = render("/etc/systemd/system/cascade-secrets.service")
    assert "Before=docker.service" in unit
    assert "WantedBy=docker.service" in unit
    (program,) = (line.split()[-1] for line in unit.splitlines() if line.startswith("ExecStart="))
    assert (TEMPLATES / f"{program.lstrip('/')}.j2").is_file()
