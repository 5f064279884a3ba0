"""The store of secrets: what opens, what is never shown, and who can open it after a change of the list."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyrage
import pytest

from cascade.model.secrets import NAME_KEY, Generate
from cascade.model.strict import InvalidFiles
from cascade.secrets.checking import check_store
from cascade.secrets.generation import generated
from cascade.secrets.identity import identity_path
from cascade.secrets.recipients import RECIPIENTS, parse_recipient, read_recipients, write_recipients
from cascade.secrets.rekeying import Rekeyed, rekey
from cascade.secrets.store import Store, missing, open_values
from cascade.secrets.value import LARGEST_BYTES, Value
from tests.secret_store import CANARY, NAME, SYSTEM, Scene, another, scene_in, ssh_key


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return scene_in(tmp_path)


@pytest.mark.parametrize(
    "data", [b"x", b"\0\xff\r\n\n", b"\n", b'{"cascade-secret": 1}\n', b"\xff" * LARGEST_BYTES], ids=repr
)
def test_a_value_opens_to_every_byte_of_it(data: bytes, scene: Scene) -> None:
    scene.store.write(NAME, Value(data), scene.key().recipients)
    assert scene.open().values[NAME].data == data
    assert scene.file.read_bytes().startswith(b"-----BEGIN AGE ENCRYPTED FILE-----\n")


def test_a_checkout_that_writes_windows_newlines_opens_too(scene: Scene) -> None:
    scene.file.write_bytes(scene.file.read_bytes().replace(b"\n", b"\r\n"))
    assert scene.open().values[NAME].data == CANARY


@pytest.mark.parametrize(
    "kind", [("ed25519",), ("rsa", "", "-b", "2048"), ("rsa", "", "-b", "2048", "-m", "PEM")]
)
def test_an_ssh_key_without_a_passphrase_is_an_identity(kind: tuple[str, ...], scene: Scene) -> None:
    public = ssh_key(scene.identity, *kind)
    assert scene.key().recipients == (parse_recipient(public),)
    for name in (NAME, NAME_KEY):
        scene.store.write(name, Value(CANARY[:32]), (parse_recipient(public),))
    assert scene.open().values[NAME].data == CANARY[:32]


def test_an_identity_may_hold_several_keys_and_comments(scene: Scene) -> None:
    scene.identity.write_text(f"# mine\n{another()[0]}\n\n{scene.identity.read_text()}")
    assert scene.open().values[NAME].data == CANARY
    assert len(scene.key().recipients) == 2


def test_who_needs_no_value_needs_neither_identity_nor_folder(tmp_path: Path) -> None:
    assert open_values(tmp_path / "none", tmp_path / "nobody", SYSTEM, ()).values == {}
    assert list(missing(tmp_path / "none", ())) == []


def test_the_digest_in_a_name_is_of_the_name_and_the_value_by_the_key(scene: Scene) -> None:
    expected = hmac.new(bytes(range(32)), NAME.encode() + b"\0" + CANARY, hashlib.sha256).hexdigest()[:12]
    assert scene.open().keyed_digest(NAME) == expected


def test_equal_values_of_two_names_look_different_and_another_key_changes_both(scene: Scene) -> None:
    scene.store.write("twin", Value(CANARY), scene.key().recipients)
    before = scene.open(NAME, "twin")
    scene.store.write(NAME_KEY, Value(b"k" * 32), scene.key().recipients)
    after = scene.open(NAME, "twin")
    digests = [opened.keyed_digest(name) for opened in (before, after) for name in (NAME, "twin")]
    assert len(set(digests)) == 4


def test_a_value_is_shown_to_nobody(scene: Scene) -> None:
    opened = scene.open()
    value = opened.values[NAME]
    assert {repr(value), str(value), f"{value}", f"{[value]}"} == {"***", "[***]"}
    assert "CANARY" not in repr(opened) + repr(scene.key())


@pytest.mark.parametrize("keep", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, hash])
def test_a_value_is_not_copied_stored_or_hashed(keep: Callable[[Value], object]) -> None:
    with pytest.raises(TypeError) as caught:
        keep(Value(CANARY))
    assert "CANARY" not in str(caught.value)


def test_a_value_equals_nothing_but_itself_and_does_not_change() -> None:
    value = Value(CANARY)
    assert value == value
    assert value != Value(CANARY)
    with pytest.raises(TypeError, match="does not change"):
        value.data = b"other"


OPEN = """
import ctypes, resource, sys
from pathlib import Path
from cascade.secrets.store import open_values
open_values(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
print(resource.getrlimit(resource.RLIMIT_CORE)[0], ctypes.CDLL(None).prctl(3))
"""


@pytest.mark.parametrize("allowed", [True, False])
def test_a_process_that_has_opened_values_leaves_no_core_dump(allowed: bool, scene: Scene) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_CORE)

    def allow() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (most, most) if allowed else (0, 0))

    arguments = [sys.executable, "-c", OPEN, str(scene.store.folder), str(scene.identity), SYSTEM, NAME]
    done = subprocess.run(arguments, preexec_fn=allow, capture_output=True, text=True, check=True)
    limit, dumpable = done.stdout.split()
    assert limit in (("1",) if most and allowed else ("0", "1"))
    assert dumpable == "0"


@pytest.mark.parametrize(
    ("how", "length"), [("hex", 64), ("base64", 44), ("base64url", 43)], ids=["hex", "base64", "base64url"]
)
def test_a_generated_value_is_another_text_each_time(how: str, length: int) -> None:
    wanted = Generate.model_validate({"bytes": 32, "encoding": how})
    first, second = generated(wanted).data, generated(wanted).data
    assert first != second
    assert len(first) == length
    assert first.isascii()


def test_the_environment_names_the_identity_before_group_data_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/fox")
    monkeypatch.delenv("CASCADE_IDENTITY", raising=False)
    assert identity_path("~/keys/den") == Path("/home/fox/keys/den")
    monkeypatch.setenv("CASCADE_IDENTITY", "/mnt/key")
    assert identity_path("~/keys/den") == Path("/mnt/key")


def test_the_list_takes_each_once_and_leaves_out_comments(scene: Scene, tmp_path: Path) -> None:
    public, mine = ssh_key(tmp_path / "key"), scene.key().recipients[0]
    scene.store.folder.joinpath(RECIPIENTS).write_text(f"# fox\n{mine}\n\n{public}\n  {mine}\n")
    assert read_recipients(scene.store.folder) == (mine, " ".join(public.split()[:2]))


BAD_LISTS = {
    "empty": ("", "has 0 recipients"),
    "comments alone": ("# nobody\n", "has 0 recipients"),
    "too many": ("".join(another()[1] + "\n" for _ in range(101)), "has 101 recipients"),
    "a name": ("fox\n", "is no recipient"),
    "a damaged recipient": (another()[1][:-3] + "\n", "is no recipient"),
    "an SSH key of another kind": ("ecdsa-sha2-nistp256 AAAA fox\n", "is no recipient"),
    "half of an SSH key": ("ssh-ed25519 half\n", "is no recipient"),
    "an identity": (another()[0] + "\n", "is a private key"),
    "an SSH identity": ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "is a private key"),
    "binary junk": (bytes(range(128)).decode().replace("\n", "") + "\n", "is no recipient"),
}


@pytest.mark.parametrize("name", BAD_LISTS)
def test_a_list_that_cannot_be_is_told_by_its_lines_and_not_shown(name: str, scene: Scene) -> None:
    text, reason = BAD_LISTS[name]
    path = scene.store.folder / RECIPIENTS
    path.write_text(text)
    with pytest.raises(InvalidFiles) as caught:
        read_recipients(scene.store.folder)
    problem = caught.value.problems[0]
    assert problem.file == str(path)
    assert problem.reason.startswith(reason)
    assert problem.fix
    assert not text.strip() or text.strip() not in str(caught.value)


def test_a_list_that_is_not_there_is_told(scene: Scene) -> None:
    (scene.store.folder / RECIPIENTS).unlink()
    with pytest.raises(InvalidFiles, match="is missing; run `cascade secrets init"):
        read_recipients(scene.store.folder)


@pytest.fixture
def other(scene: Scene) -> tuple[Path, str]:
    """Somebody else's identity and recipient."""
    private, public = another()
    path = scene.folder / "home" / "other"
    path.write_text(private)
    path.chmod(0o600)
    return path, public


def change(
    scene: Scene, *, add: str = "", remove: str = "", fresh: dict[str, Value] | None = None
) -> Rekeyed:
    added, removed = ([one] if one else [] for one in (add, remove))
    return rekey(scene.store, scene.key(), added, removed, lambda: fresh or {})


def opens(scene: Scene, identity: Path) -> bytes | None:
    try:
        return open_values(scene.store.folder, identity, SYSTEM, [NAME]).values[NAME].data
    except InvalidFiles:
        return None


def name_key(scene: Scene) -> bytes:
    return scene.store.read(NAME_KEY, scene.key()).value.data


def test_who_is_added_opens_every_value_and_no_name_on_the_swarm_changes(
    scene: Scene, other: tuple[Path, str]
) -> None:
    digest = scene.open().keyed_digest(NAME)
    assert opens(scene, other[0]) is None
    assert change(scene, add=other[1]) == Rekeyed((NAME_KEY, NAME), False, ())
    assert opens(scene, other[0]) == opens(scene, scene.identity) == CANARY
    assert scene.open().keyed_digest(NAME) == digest
    assert change(scene, add=other[1]).written == ()


def test_who_leaves_opens_nothing_any_more_and_what_they_know_is_named(
    scene: Scene, other: tuple[Path, str]
) -> None:
    change(scene, add=other[1])
    known = name_key(scene)
    assert change(scene, remove=other[1]) == Rekeyed((NAME_KEY, NAME), True, (NAME,))
    assert opens(scene, other[0]) is None
    assert opens(scene, scene.identity) == CANARY
    assert name_key(scene) != known
    assert other[1] not in read_recipients(scene.store.folder)


def test_a_value_that_is_rotated_as_somebody_leaves_is_known_to_nobody_who_left(
    scene: Scene, other: tuple[Path, str]
) -> None:
    scene.store.write("kept", Value(b"kept"), scene.key().recipients)
    change(scene, add=other[1])
    done = change(scene, remove=other[1], fresh={NAME: Value(b"new")})
    assert done.known == ("kept",)
    assert opens(scene, scene.identity) == b"new"


def test_a_list_that_was_changed_by_hand_counts_as_if_somebody_had_left(
    scene: Scene, other: tuple[Path, str]
) -> None:
    change(scene, add=other[1])
    known = name_key(scene)
    write_recipients(scene.store.folder, [], [other[1]])
    assert change(scene) == Rekeyed((NAME_KEY, NAME), True, (NAME,), scene.key().recipients)
    assert opens(scene, other[0]) is None
    assert name_key(scene) != known


def test_a_rekey_that_broke_off_is_finished_by_the_same_command(
    scene: Scene, other: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, key = (scene.store.folder / RECIPIENTS).read_text(), name_key(scene)
    write = Store.write

    def full(store: Store, name: str, value: Value, recipients: tuple[str, ...]) -> None:
        if name == NAME:
            raise OSError(28, "No space left on device")
        write(store, name, value, recipients)

    with monkeypatch.context() as broken:
        broken.setattr(Store, "write", full)
        with pytest.raises(OSError, match="No space left"):
            change(scene, add=other[1])
    assert (scene.store.folder / RECIPIENTS).read_text() == listed
    assert opens(scene, scene.identity) == CANARY
    assert change(scene, add=other[1]) == Rekeyed((NAME,), False, ())
    assert opens(scene, other[0]) == CANARY
    assert name_key(scene) == key


def test_nobody_locks_themselves_out(scene: Scene, other: tuple[Path, str]) -> None:
    change(scene, add=other[1])
    with pytest.raises(InvalidFiles, match="without your own identity"):
        change(scene, remove=scene.key().recipients[0])
    assert opens(scene, scene.identity) == CANARY


def test_more_than_a_list_may_have_are_not_added(scene: Scene) -> None:
    write_recipients(scene.store.folder, [another()[1] for _ in range(99)])
    change(scene)
    before = {path: path.read_bytes() for path in scene.store.folder.iterdir()}
    with pytest.raises(InvalidFiles, match="would have 101 recipients, more than 100"):
        change(scene, add=another()[1])
    assert {path: path.read_bytes() for path in scene.store.folder.iterdir()} == before


def test_a_stranger_to_the_list_cannot_be_removed(scene: Scene, other: tuple[Path, str]) -> None:
    with pytest.raises(InvalidFiles, match="is not on the list"):
        change(scene, remove=other[1])


def test_a_value_that_cannot_be_opened_stops_a_rekey_before_anything_is_written(
    scene: Scene, other: tuple[Path, str]
) -> None:
    scene.store.path("broken").write_text("junk")
    before = {path: path.read_bytes() for path in scene.store.folder.iterdir()}
    with pytest.raises(InvalidFiles, match=r"broken\.age: is damaged"):
        change(scene, add=other[1])
    assert {path: path.read_bytes() for path in scene.store.folder.iterdir()} == before


def test_what_people_wrote_in_the_list_stays(scene: Scene, tmp_path: Path) -> None:
    path, public = scene.store.folder / RECIPIENTS, ssh_key(tmp_path / "key")
    path.write_text(f"# the owner\n{scene.key().recipients[0]}\n{public} of the laptop\n# end\n")
    change(scene, remove=parse_recipient(public))
    assert path.read_text() == f"# the owner\n{scene.key().recipients[0]}\n# end\n"


def findings(scene: Scene, *declared: str) -> list[tuple[str, str, str]]:
    found = check_store(scene.store, scene.identity, declared or [NAME])
    return [(item.level, Path(item.problem.file).name, item.problem.reason) for item in found]


def test_a_store_in_which_all_is_well_has_no_findings(scene: Scene) -> None:
    assert findings(scene) == []


def test_a_system_without_secrets_has_none_either(tmp_path: Path) -> None:
    assert list(check_store(Store(tmp_path / "none", SYSTEM), tmp_path / "nobody", ())) == []


def test_a_check_tells_everything_at_once(scene: Scene, other: tuple[Path, str]) -> None:
    write_recipients(scene.store.folder, [other[1]])
    scene.store.write("old", Value(b"x"), read_recipients(scene.store.folder))
    scene.store.path("broken").write_text("junk")
    stale = "is encrypted for others than the list says"
    assert findings(scene, NAME, "tls", "broken") == [
        ("error", "tls.age", "the value of the secret tls is missing"),
        ("warning", "old.age", "no group file declares it"),
        ("error", "broken.age", "is damaged, or no age file"),
        ("warning", f"{NAME}.age", stale),
        ("warning", f"{NAME_KEY}.age", stale),
    ]


def test_what_is_missing_is_told_with_the_command_that_makes_it(scene: Scene) -> None:
    fixes = [problem.fix for problem in missing(scene.store.folder, ["tls", "salt"], ["salt"])]
    assert fixes == ["run `cascade secrets init INVENTORY`", "run `cascade secrets set INVENTORY tls`"]


def test_a_check_tells_of_identity_and_list_beside_each_other(scene: Scene) -> None:
    scene.identity.chmod(0o604)
    (scene.store.folder / RECIPIENTS).write_text("fox\n")
    assert findings(scene) == [
        ("error", RECIPIENTS, "is no recipient"),
        ("error", "identity", "is open to others (mode 0604)"),
    ]


def test_a_check_tells_what_git_does_not_have_as_it_is(scene: Scene) -> None:
    def git(*arguments: str) -> None:
        person = ("-c", "user.name=fox", "-c", "user.email=fox@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *person, *arguments], cwd=scene.project, check=True, capture_output=True)

    (scene.project / ".git").rmdir()
    git("init")
    unlike, ignored = "is not as it is in the last commit", "is ignored by git, and nobody else gets it"
    assert findings(scene) == [
        ("warning", name, unlike) for name in (f"{NAME_KEY}.age", f"{NAME}.age", RECIPIENTS)
    ]
    git("add", ".")
    git("commit", "-m", "Secrets")
    assert findings(scene) == []
    scene.store.write(NAME, Value(b"new"), scene.key().recipients)
    scene.store.write("ä new", Value(b"x"), scene.key().recipients)
    assert findings(scene, NAME, "ä new") == [("warning", f"{name}.age", unlike) for name in (NAME, "ä new")]
    git("add", ".")
    git("commit", "-m", "More")
    (scene.project / ".gitignore").write_text("*.age\n")
    scene.store.write("tls", Value(b"x"), scene.key().recipients)
    scene.store.path("ä new").unlink()
    assert findings(scene, NAME, "tls") == [
        ("warning", "ä new.age", unlike),
        ("warning", "tls.age", ignored),
    ]


def test_a_file_of_another_system_is_one_for_nobody_else(scene: Scene) -> None:
    lair = replace(scene.store, system="lair")
    problems = [item.problem.reason for item in check_store(lair, scene.identity, [NAME])]
    assert problems == ["is the value of another system, 'den'"] * 2


def test_what_age_itself_decrypts_is_the_header_and_the_value(scene: Scene) -> None:
    line = scene.identity.read_text().splitlines()[-1]
    plain = pyrage.decrypt(scene.file.read_bytes(), [pyrage.x25519.Identity.from_str(line)])
    header, _, value = plain.partition(b"\n")
    assert value == CANARY
    assert json.loads(header) == {
        "cascade-secret": 1,
        "system": SYSTEM,
        "name": NAME,
        "recipients": hashlib.sha256(scene.key().recipients[0].encode()).hexdigest(),
    }
