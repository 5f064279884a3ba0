"""`cascade secrets`: what it writes, what it shows, and how it ends."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner, Result

import cascade.commands.secrets_input as secrets_input
from cascade.exit_codes import ATTENTION, ERROR, INVALID
from cascade.model.fleet import Fleet, FleetSettings
from cascade.model.loader import load_group_files
from cascade.secrets.recipients import read_recipients, write_recipients
from cascade.secrets.value import LARGEST_BYTES
from tests.fleets import ROOT, lab_fleet
from tests.operations.test_bad_inputs import INVENTORY, STACKS, Project
from tests.schemas import valid
from tests.secret_store import CANARY, another, ssh_key
from tests.terminal import at_terminal

ROW = {
    "name": "secrets",
    "service": {"secrets": ["db_password", "api_key"]},
    "top": {"secrets": {"db_password": {"external": True}, "api_key": {"x-generate": {"bytes": 32}}}},
}
STORE = Path("group_data/secrets")
FILE, KEY = STORE / "db_password.age", STORE / "api_key.age"
BINARY = b"\0\xff\r\n" + CANARY + b"\n"

Secrets = Callable[..., Result]


@pytest.fixture(scope="module")
def settings() -> FleetSettings:
    return lab_fleet().settings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in git whose group file declares two secrets, and a home without an identity."""
    folder = tmp_path / "project"
    folder.mkdir()
    Project(folder).change(ROW)
    (folder / ".git").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CASCADE_IDENTITY", raising=False)
    monkeypatch.setattr(click.UsageError, "exit_code", INVALID)
    return folder


@pytest.fixture
def secrets(folder: Path, settings: FleetSettings, monkeypatch: pytest.MonkeyPatch) -> Secrets:
    """`cascade secrets …` in that project; a value comes on standard input."""

    def load(_inventory: Path, check_images: bool) -> SimpleNamespace:
        assert not check_images
        groups = {group.name: group for group in load_group_files(folder / STACKS)}
        return SimpleNamespace(fleet=Fleet(settings, {}, groups))

    # The real one's import patches the standard library, which would come too late here.
    monkeypatch.setitem(sys.modules, "operations.session", SimpleNamespace(load=load))
    for name in ("secrets_project", "secrets"):
        spec = spec_from_file_location(f"cascade.commands.{name}", ROOT / f"cascade/commands/{name}.py")
        assert spec
        assert spec.loader
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    command = module.command

    def run(verb: str, *arguments: str, value: bytes = b"", code: int = 0) -> Result:
        done = CliRunner().invoke(command, [verb, INVENTORY, *arguments], input=value)
        assert done.exit_code == code, done.output
        if verb != "get":
            assert CANARY not in done.output_bytes
        return done

    return run


@pytest.fixture
def store(secrets: Secrets) -> Secrets:
    """The same with a store in which every value is set."""
    secrets("init")
    secrets("set", "db_password", value=CANARY)
    return secrets


def get(secrets: Secrets, name: str = "db_password") -> bytes:
    return secrets("get", name).stdout_bytes


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in STORE.iterdir()}


def test_what_is_missing_is_made_once(secrets: Secrets, tmp_path: Path) -> None:
    said = secrets("init").output
    assert f"to set: cascade secrets set {INVENTORY} db_password" in said
    assert sorted(contents()) == ["api_key.age", "cascade-name-key.age", "recipients"]
    identity = tmp_path / "home/.config/cascade/identity"
    assert identity.stat().st_mode & 0o777 == 0o600
    before = contents(), identity.read_bytes()
    secrets("init")
    assert (contents(), identity.read_bytes()) == before


def test_an_ssh_key_that_the_environment_names_is_the_identity(
    secrets: Secrets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = ssh_key(tmp_path / "home/key")
    monkeypatch.setenv("CASCADE_IDENTITY", str(tmp_path / "home/key"))
    secrets("init")
    assert read_recipients(STORE) == (" ".join(public.split()[:2]),)
    assert len(get(secrets, "api_key")) == 64
    assert not (tmp_path / "home/.config").exists()


def test_no_identity_is_made_where_it_would_be_published(
    secrets: Secrets, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CASCADE_IDENTITY", str(folder / "group_data/identity"))
    assert "lies in the git working tree" in secrets("init", code=INVALID).stderr
    assert not (folder / "group_data/identity").exists()


def test_a_second_person_learns_who_has_to_let_them_in(
    store: Secrets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CASCADE_IDENTITY", str(tmp_path / "home/second"))
    said = store("init", code=ATTENTION).output
    assert "is not encrypted for this identity" in store("get", "db_password", code=INVALID).stderr
    recipient = said.rpartition("--add '")[2].partition("'")[0]
    monkeypatch.delenv("CASCADE_IDENTITY")
    store("rekey", "--add", recipient)
    monkeypatch.setenv("CASCADE_IDENTITY", str(tmp_path / "home/second"))
    assert get(store) == CANARY


def test_a_list_that_was_lost_is_not_begun_anew(store: Secrets) -> None:
    (STORE / "recipients").unlink()
    assert "take it from git again" in store("init", code=INVALID).stderr
    assert not (STORE / "recipients").exists()


def test_a_name_key_that_was_lost_is_made_anew_only_where_a_person_says_so(store: Secrets) -> None:
    (STORE / "cascade-name-key.age").unlink()
    before = contents()
    assert "take it from git again" in store("init", code=INVALID).stderr
    assert contents() == before
    assert "cascade-name-key.age: made" in store("init", "--new-name-key").output
    made = contents()
    store("init", "--new-name-key")
    assert contents() == made


def test_from_init_to_who_leaves_everything_stays_well(store: Secrets, tmp_path: Path) -> None:
    """As README tells it, but for the deployments between."""
    private, public = another()
    (tmp_path / "home/other").write_text(private)
    (tmp_path / "home/other").chmod(0o600)
    store("rekey", "--add", public)
    made = get(store, "api_key")
    left = store("rekey", "--remove", public, "--rotate").output
    assert "who left still knows: db_password\n" in left
    assert f"  cascade secrets rotate {INVENTORY} db_password\n" in left
    assert get(store) == CANARY
    (tmp_path / "value").write_bytes(BINARY)
    store("rotate", "db_password", "--file", str(tmp_path / "value"))
    assert get(store) == BINARY
    assert get(store, "api_key") != made
    assert "all is well: 2 secrets" in store("check").output


def test_who_leaves_without_a_rotation_still_knows_what_they_could_read(store: Secrets) -> None:
    public = another()[1]
    store("rekey", "--add", public)
    said = store("rekey", "--remove", public).output
    assert "who left still knows: api_key, db_password" in said
    for name in ("api_key", "db_password"):
        assert f"  cascade secrets rotate {INVENTORY} {name}\n" in said


def test_a_rekey_that_rotates_asks_for_nothing_and_names_what_is_left(store: Secrets) -> None:
    made, before = get(store, "api_key"), FILE.read_bytes()
    said = store("rekey", "--rotate").output
    assert get(store, "api_key") != made
    assert FILE.read_bytes() == before
    assert said.endswith(f"--file):\n  cascade secrets rotate {INVENTORY} db_password\n")


@pytest.mark.parametrize(
    "arguments", [("edit", "db_password"), ("rotate", "api_key"), ("rotate", "--generated")]
)
def test_who_is_added_to_the_list_by_hand_gets_nothing_before_a_person_has_looked(
    arguments: tuple[str, ...], store: Secrets, editor: Callable[[str], Path]
) -> None:
    editor('echo x >> "$1"')
    public = another()[1]
    mine = read_recipients(STORE)[0]
    write_recipients(STORE, [public])
    before = contents()
    said = store(*arguments, code=INVALID).stderr.splitlines()
    assert (
        "has changed since the values were encrypted; look at it, then run `cascade secrets rekey" in said[0]
    )
    assert [line.split()[-1] for line in said[1:]] == [mine, public]
    assert contents() == before
    assert "written for 2 recipients" in store("set", "db_password", value=CANARY).output
    told = store("rekey").output
    assert f"the list was changed by hand; on it now:\n  {mine}\n  {public}\n" in told
    assert "who left" not in told
    store(*arguments)


def test_a_file_is_the_new_value_of_one_secret(store: Secrets, tmp_path: Path) -> None:
    before = contents()
    file = tmp_path / "value"
    file.write_bytes(CANARY)
    for names in (("db_password", "api_key"), ("--generated", "db_password")):
        assert "name that one alone" in store("rotate", *names, "--file", str(file), code=INVALID).stderr
    assert (
        "has that value already" in store("rotate", "db_password", "--file", str(file), code=INVALID).stderr
    )
    assert contents() == before


@pytest.mark.parametrize("value", [BINARY, b"\n", b"x" * LARGEST_BYTES], ids=["binary", "newline", "largest"])
def test_every_byte_of_standard_input_and_of_a_file_is_the_value(
    value: bytes, store: Secrets, tmp_path: Path
) -> None:
    store("set", "db_password", value=value)
    assert get(store) == value
    (tmp_path / "file").write_bytes(value)
    store("set", "api_key", "--file", str(tmp_path / "file"))
    assert get(store, "api_key") == value


def test_a_value_that_is_typed_stands_nowhere_on_the_screen(store: Secrets, folder: Path) -> None:
    shown = at_terminal(
        SET,
        folder,
        ("Value of db_password:", "one thing"),
        ("Repeat for confirmation:", "another thing"),
        ("Value of db_password:", "fox näïve"),
        ("Repeat for confirmation:", "fox näïve"),
    )
    assert shown[0] == 0
    assert "thing" not in shown[1]
    assert "fox" not in shown[1]
    assert get(store) == "fox näïve".encode()


CASCADE = str(Path(sys.executable).with_name("cascade"))
# Whoever is asked more than a test answers waits no longer than that.
SET = ["timeout", "--foreground", "30", CASCADE, "secrets", "set", INVENTORY, "db_password"]
PASTED = "-----BEGIN fox-----\nfox-row-1\nfox-row-2"


@pytest.mark.parametrize(
    "first", [(), (("Value of db_password:", "-----BEGIN fox-----"),)], ids=["first", "again"]
)
def test_lines_that_are_pasted_are_refused_and_do_not_spill_into_the_shell(
    first: tuple[tuple[str, str], ...], store: Secrets, folder: Path
) -> None:
    script = f"{shlex.join(SET)}; echo ended $?; printf next:; read rest; echo got $rest"
    question = "Repeat for confirmation:" if first else "Value of db_password:"
    _, shown = at_terminal(["sh", "-c", script], folder, *first, (question, PASTED), ("next:", "end"))
    assert "more than one line came: use --file or standard input" in shown
    assert f"ended {INVALID}" in shown
    assert "got end" in shown
    assert "fox" not in shown
    assert get(store) == CANARY


@pytest.mark.parametrize(("length", "code"), [(4094, 0), (4095, INVALID), (5000, INVALID)])
def test_a_line_that_the_terminal_would_cut_is_refused(
    length: int, code: int, store: Secrets, folder: Path
) -> None:
    answers = [("Value of db_password:", "x" * length), ("Repeat for confirmation:", "x" * length)]
    ended, shown = at_terminal(SET, folder, *(answers if code == 0 else answers[:1]))
    assert ended == code
    assert get(store) == (CANARY if code else b"x" * length)
    assert not code or "more than the 4094 bytes that a terminal takes: use --file" in shown


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "-x", "a b", "a\n", "ä", "cascade-name-key"])
@pytest.mark.parametrize("verb", ["set", "get", "edit"])
def test_a_name_that_none_can_have_is_refused(name: str, verb: str, store: Secrets) -> None:
    before = contents()
    said = store(verb, "--", name, value=CANARY, code=INVALID).stderr
    assert "write" in said
    assert contents() == before


def test_a_name_that_is_too_long_for_the_swarm_is_refused(store: Secrets) -> None:
    assert "write at most 43 characters" in store("set", "x" * 44, value=CANARY, code=INVALID).stderr
    store("set", "x" * 43, value=CANARY)


@pytest.mark.parametrize(
    ("value", "reason"),
    [(b"", "is empty"), (CANARY * 20_000, "more than 500000 bytes")],
    ids=["none", "huge"],
)
def test_a_value_that_the_swarm_would_not_take_is_refused(value: bytes, reason: str, store: Secrets) -> None:
    assert reason in store("set", "db_password", value=value, code=INVALID).stderr
    assert get(store) == CANARY


def test_a_file_without_an_end_is_no_value(store: Secrets) -> None:
    assert "is no plain file" in store("set", "db_password", "--file", "/dev/zero", code=INVALID).stderr


def test_a_value_that_no_group_file_declares_is_kept_and_said(store: Secrets) -> None:
    assert "no group file declares db_pasword" in store("set", "db_pasword", value=CANARY).stderr
    assert "db_pasword: unused; nobody reads it" in store("list").output
    assert store("check", code=ATTENTION).output.startswith("warning: ")


def test_what_nobody_declares_and_nobody_gave_is_told_as_that(store: Secrets) -> None:
    for verb in ("get", "edit"):
        assert "no group file declares nope" in store(verb, "nope", code=INVALID).stderr


def test_advice_names_the_inventory_and_the_command_of_each_value(secrets: Secrets) -> None:
    secrets("init")
    KEY.unlink()
    said = secrets("check", code=INVALID).output
    assert (
        f"{KEY}: the value of the secret api_key is missing; run `cascade secrets init {INVENTORY}`" in said
    )
    assert f"run `cascade secrets set {INVENTORY} db_password`" in said
    (STORE / "recipients").unlink()
    assert f"`cascade secrets init {INVENTORY}`" in secrets("set", "db_password", code=INVALID).stderr


def test_a_group_that_reads_a_secret_as_a_whole_is_listed_in_a_word(store: Secrets, folder: Path) -> None:
    file = folder / STACKS / "row.yaml"
    guest = "  guest: {image: sample/image, networks: [cascade-internal], secrets: [db_password]}\n"
    file.write_text(file.read_text().replace("services:\n", f"services:\n{guest}", 1))
    assert store("list").output == "api_key: set, generated; row/row\ndb_password: set; row (2 agents)\n"


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_value_that_cannot_be_written_out_is_no_fault_of_the_store(
    size: int, store: Secrets, folder: Path
) -> None:
    store("set", "db_password", value=b"x" * size)
    with Path("/dev/full").open("wb") as full:
        arguments = [CASCADE, "secrets", "get", INVENTORY, "db_password"]
        done = subprocess.run(arguments, cwd=folder, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (ERROR, b"Error: standard output: No space left on device\n")


def test_a_disk_that_is_full_is_told_in_a_line(store: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cascade.secrets.store.write_whole", full)
    done = store("set", "db_password", value=CANARY, code=ERROR)
    assert done.stderr == "Error: group_data/secrets: No space left on device; what is done so far stands\n"


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """An editor that is this shell script; it leaves in a file of the test what it was given."""

    def make(script: str) -> Path:
        file, seen = tmp_path / "editor", tmp_path / "seen"
        file.write_text(f'#!/bin/sh\nstat -c "%n %a" "$1" > {seen}\n{script}\n')
        file.chmod(0o700)
        monkeypatch.setenv("VISUAL", f"{file}")
        return seen

    return make


def left_in_memory() -> list[Path]:
    return list(Path("/dev/shm").glob("cascade-*"))


@pytest.fixture
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    before = left_in_memory()
    yield
    assert left_in_memory() == before


edits = pytest.mark.usefixtures("nothing_left")


@edits
def test_a_text_is_edited_in_memory_in_a_file_of_its_owner(
    store: Secrets, editor: Callable[[str], Path]
) -> None:
    store("set", "db_password", value=b"old\nlines\n")
    seen = editor('sed -i s/old/new/ "$1"')
    store("edit", "db_password")
    assert get(store) == b"new\nlines\n"
    place, mode = seen.read_text().split()
    assert place.startswith("/dev/shm/cascade-")
    assert mode == "600"


@edits
def test_the_newline_that_an_editor_adds_is_no_part_of_the_value(
    store: Secrets, editor: Callable[[str], Path]
) -> None:
    before = contents()
    editor('echo >> "$1"')
    assert store("edit", "db_password").output == "unchanged\n"
    assert contents() == before


@edits
@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [
        ("exit 7", ERROR, "the editor ended with 7, and nothing was changed"),
        (': > "$1"', INVALID, "the value is empty"),
        ('rm "$1"', INVALID, "is missing"),
        ('head -c 600000 /dev/zero > "$1"', INVALID, "600000 bytes"),
    ],
)
def test_what_goes_wrong_in_an_editor_changes_nothing(
    script: str, code: int, reason: str, store: Secrets, editor: Callable[[str], Path]
) -> None:
    before = contents()
    editor(script)
    assert reason in store("edit", "db_password", code=code).stderr
    assert contents() == before


@pytest.mark.usefixtures("store")
@edits
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_takes_the_text_out_of_memory(
    number: signal.Signals, folder: Path, editor: Callable[[str], Path], tmp_path: Path
) -> None:
    before = contents()
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    # A signal in the very moment in which it is started does not reach it.
    editor(f"echo > {begun}; exec tail --pid=$PPID -f /dev/null")
    arguments = [CASCADE, "secrets", "edit", INVENTORY, "db_password"]
    with subprocess.Popen(arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert begun.read_text() == "\n"
        assert left_in_memory()
        process.send_signal(number)
        told, _ = process.communicate(timeout=60)
    assert process.returncode not in (0, -number)
    assert b"Traceback" not in told
    assert CANARY not in told
    assert contents() == before


@edits
@pytest.mark.parametrize("value", [b"a\0b", b"\xff\xfe"])
def test_what_is_no_text_is_not_edited(value: bytes, store: Secrets, editor: Callable[[str], Path]) -> None:
    store("set", "db_password", value=value)
    seen = editor("true")
    assert "is no text" in store("edit", "db_password", code=INVALID).stderr
    assert not seen.exists()


def test_nothing_is_edited_on_a_disk(
    store: Secrets, editor: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = editor("true")
    monkeypatch.setattr(secrets_input, "_places", lambda: iter([Path("/etc"), Path("/none")]))
    assert "there is no folder in memory" in store("edit", "db_password", code=INVALID).stderr
    assert not seen.exists()


@pytest.mark.parametrize(("name", "reason"), [("", "there is no editor"), ("/none/vi", "cannot be started")])
def test_an_editor_that_is_not_there_is_told(
    name: str, reason: str, store: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", name)
    assert reason in store("edit", "db_password", code=INVALID).stderr


def test_generated_values_are_exchanged_and_no_others(store: Secrets) -> None:
    made, before = get(store, "api_key"), contents()
    store("rotate", "--generated")
    assert get(store, "api_key") not in (made, b"")
    assert [name for name in before if before[name] != contents()[name]] == ["api_key.age"]


def test_a_value_is_not_exchanged_for_itself(store: Secrets) -> None:
    before = contents()
    assert "has that value already" in store("rotate", "db_password", value=CANARY, code=INVALID).stderr
    assert contents() == before
    store("rotate", "db_password", value=BINARY)
    assert get(store) == BINARY


def test_without_a_terminal_only_one_value_is_asked_for(store: Secrets, folder: Path) -> None:
    file = folder / "group_data/stacks/cascade/row.yaml"
    file.write_text(file.read_text().replace("x-generate:\n      bytes: 32", "external: true"))
    before = contents()
    assert "no terminal" in store("rotate", "db_password", "api_key", value=b"x", code=INVALID).stderr
    assert contents() == before


@pytest.mark.parametrize(
    ("arguments", "reason"), [(["fox"], "no group file declares fox"), ([], "name what to rotate")]
)
def test_what_cannot_be_rotated_is_told(arguments: list[str], reason: str, store: Secrets) -> None:
    assert reason in store("rotate", *arguments, code=INVALID).stderr


@pytest.mark.parametrize("option", ["--add", "--remove"])
def test_an_identity_is_taken_for_no_recipient_and_never_shown(option: str, store: Secrets) -> None:
    private = another()[0]
    said = store("rekey", option, private, code=INVALID).stderr
    assert "is a private key" in said
    assert private[5:] not in said


def test_programs_learn_what_is_there_and_who_reads_it(secrets: Secrets) -> None:
    secrets("init")
    assert valid("secrets-list", secrets("list", "--json", code=ATTENTION).stdout) == {
        "secrets": [
            {"name": "api_key", "state": "set", "generated": True, "users": ["row/row"]},
            {"name": "db_password", "state": "missing", "generated": False, "users": ["row/row"]},
        ]
    }


def test_programs_learn_all_that_is_wrong(store: Secrets) -> None:
    assert valid("secrets-check", store("check", "--json").stdout) == {"ok": True, "findings": []}
    KEY.replace(FILE)
    found = valid("secrets-check", store("check", "--json", code=INVALID).stdout)
    assert not found["ok"]
    assert [(item["level"], item["file"]) for item in found["findings"]] == [
        ("error", str(KEY)),
        ("error", str(FILE)),
    ]
