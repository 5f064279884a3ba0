"""Everything that can be wrong with a value's file, with the identity and with the key of the names.

Each is told with its file, a reason and what to do; nothing of the value is in what is told.
"""

from __future__ import annotations

import base64
import os
import random
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyrage
import pytest

from cascade.model.secrets import NAME_KEY
from cascade.model.strict import InvalidFiles
from cascade.secrets.value import LARGEST_BYTES, Value
from tests.secret_store import CANARY, NAME, SYSTEM, Scene, another, scene_in, ssh_key

Break = Callable[[Scene], object]
_DIGEST = b"0" * 64


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return scene_in(tmp_path)


def lines(scene: Scene) -> list[bytes]:
    return scene.file.read_bytes().splitlines(keepends=True)


def raw(scene: Scene) -> bytearray:
    """The age file inside of the armor."""
    return bytearray(base64.b64decode(b"".join(line.strip() for line in lines(scene)[1:-1])))


def armored(scene: Scene, data: bytes) -> None:
    text = base64.b64encode(data)
    rows = [text[at : at + 64] + b"\n" for at in range(0, len(text), 64)]
    scene.file.write_bytes(b"".join((lines(scene)[0], *rows, lines(scene)[-1])))


def flipped(place: Callable[[bytes], int]) -> Break:
    def flip(scene: Scene) -> None:
        data = raw(scene)
        data[place(bytes(data))] ^= 1
        armored(scene, bytes(data))

    return flip


def in_a_recipient(data: bytes) -> int:
    """A letter or digit that is still one with another last bit: what is no base64 is another fault."""
    begin = data.index(b"X25519") + 12
    return next(place for place in range(begin, begin + 20) if bytes([data[place] ^ 1]).isalnum())


def instead(make: Callable[[Path], object]) -> Break:
    """Something else in place of the value's file."""

    def put(scene: Scene) -> None:
        scene.file.unlink()
        make(scene.file)

    return put


def header(text: bytes) -> Break:
    return lambda scene: scene.seal(text + b"\n" + CANARY)


def said(version: bytes = b"1", system: str = SYSTEM, name: str = NAME, recipients: bytes = _DIGEST) -> bytes:
    words = (version, system.encode(), name.encode(), recipients)
    return b'{"cascade-secret": %s, "system": "%s", "name": "%s", "recipients": "%s"}' % words


def for_somebody_else(scene: Scene) -> None:
    scene.store.write(NAME, Value(CANARY), (another()[1],))


def swapped(scene: Scene) -> None:
    scene.store.write("api_key", Value(CANARY), scene.key().recipients)
    scene.store.path("api_key").replace(scene.file)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


DAMAGED = "is damaged, or no age file"
NOT_OURS = "holds no value that Cascade sealed"
VALUES: dict[str, tuple[Break, str]] = {
    "missing": (lambda scene: scene.file.unlink(), "the value of the secret db_password is missing"),
    "empty": (lambda scene: scene.file.write_bytes(b""), DAMAGED),
    "binary junk": (lambda scene: scene.file.write_bytes(bytes(range(256)) * 9), DAMAGED),
    "the value itself, in the open": (lambda scene: scene.file.write_bytes(CANARY), DAMAGED),
    "cut in half": (lambda scene: scene.file.write_bytes(scene.file.read_bytes()[:300]), DAMAGED),
    "without its last line": (lambda scene: scene.file.write_bytes(b"".join(lines(scene)[:-1])), DAMAGED),
    "without its first line": (lambda scene: scene.file.write_bytes(b"".join(lines(scene)[1:])), DAMAGED),
    "something behind its end": (
        lambda scene: scene.file.write_bytes(b"".join(lines(scene)) + CANARY),
        DAMAGED,
    ),
    "twice in one file": (lambda scene: scene.file.write_bytes(b"".join(lines(scene)) * 2), DAMAGED),
    "another word in the armor": (
        lambda scene: scene.file.write_bytes(scene.file.read_bytes().replace(b"AGE", b"PGP")),
        DAMAGED,
    ),
    "no base64 in the armor": (
        lambda scene: scene.file.write_bytes(
            b"".join((lines(scene)[0], b"*" * 64 + b"\n", *lines(scene)[2:]))
        ),
        DAMAGED,
    ),
    "a bit flipped in the version": (flipped(lambda _: 0), DAMAGED),
    "a bit flipped in a recipient": (
        flipped(in_a_recipient),
        "is not encrypted for",
    ),
    "a bit flipped in the header's code": (flipped(lambda data: data.index(b"--- ") + 9), DAMAGED),
    "a bit flipped in the value": (flipped(lambda data: len(data) - 30), DAMAGED),
    "the last byte flipped": (flipped(lambda data: len(data) - 1), DAMAGED),
    "the last bytes cut": (lambda scene: armored(scene, bytes(raw(scene)[:-5])), DAMAGED),
    "for somebody else": (for_somebody_else, "is not encrypted for this identity"),
    "by a passphrase": (
        lambda scene: scene.file.write_bytes(pyrage.passphrase.encrypt(CANARY, "den", armored=True)),
        "is not encrypted for this identity",
    ),
    "another value's file": (swapped, "is the value of another name, 'api_key'"),
    "another system's file": (header(said(system="lair")), "is the value of another system, 'lair'"),
    "no header": (lambda scene: scene.seal(CANARY), NOT_OURS),
    "a value of two lines and no header": (lambda scene: scene.seal(CANARY + b"\n" + CANARY), NOT_OURS),
    "a header that is no JSON": (header(b"\xff\xfe" + CANARY), NOT_OURS),
    "a header of something else": (header(b'{"secret": "fox-CANARY"}'), NOT_OURS),
    "a header that is a list": (header(b'["cascade-secret"]'), NOT_OURS),
    "a header that is nested deeply": (header(b"[" * 900), NOT_OURS),
    "a header without an end": (header(b" " * 5_000 + said()), NOT_OURS),
    "a format of another version": (header(said(b"2")), "is of a format that this version does not know"),
    "a format that is no number": (header(said(b"true")), "is of a format that this version does not know"),
    "no digest of recipients": (header(said().replace(b"recipients", b"others")), "has a damaged header"),
    "nothing behind the header": (lambda scene: scene.seal(said() + b"\n"), "holds 0 bytes"),
    "a byte more than the Swarm surely takes": (
        lambda scene: scene.seal(said() + b"\n" + b"x" * (LARGEST_BYTES + 1)),
        "holds 500001 bytes",
    ),
    "a file of a terabyte": (instead(sparse), "has 1099511627776 bytes"),
    "a folder": (instead(Path.mkdir), "is no plain file"),
    "a pipe": (instead(os.mkfifo), "is no plain file"),
    "a device without an end": (instead(lambda path: path.symlink_to("/dev/zero")), "is no plain file"),
    "a link to itself": (instead(lambda path: path.symlink_to(path)), "cannot be read: Too many levels"),
    "a link to nothing": (instead(lambda path: path.symlink_to("nowhere")), "is missing"),
    "a file that the disk cannot read": (
        instead(lambda path: path.symlink_to("/proc/self/mem")),
        "cannot be read: Input/output error",
    ),
}


def identity(content: bytes | str) -> Break:
    data = content.encode() if isinstance(content, str) else content
    return lambda scene: scene.identity.write_bytes(data)


def in_its_place(make: Callable[[Path], object]) -> Break:
    def put(scene: Scene) -> None:
        scene.identity.unlink()
        make(scene.identity)

    return put


def in_git(scene: Scene) -> None:
    """By way of a link, as it is found out easily without one."""
    hidden = scene.project / "deep" / "identity"
    hidden.parent.mkdir()
    scene.identity.replace(hidden)
    scene.identity.symlink_to(hidden)


def pem_with_passphrase(path: Path) -> None:
    ssh_key(path, "rsa", "passphrase", "-m", "PEM", "-b", "2048")


def cut_ssh_key(path: Path) -> None:
    ssh_key(path)
    path.write_bytes(path.read_bytes()[:200] + b"\n-----END OPENSSH PRIVATE KEY-----\n")


PASSPHRASE = "has a passphrase, and nobody is asked for it"
NO_IDENTITY = "holds no identity"
IDENTITIES: dict[str, tuple[Break, str]] = {
    "missing": (lambda scene: scene.identity.unlink(), "is missing"),
    "empty": (identity(""), NO_IDENTITY),
    "comments alone": (identity("# public key: age1…\n\n"), NO_IDENTITY),
    "open to everybody": (lambda scene: scene.identity.chmod(0o644), "is open to others (mode 0644)"),
    "open to its group": (lambda scene: scene.identity.chmod(0o640), "is open to others (mode 0640)"),
    "in the git working tree": (in_git, "lies in the git working tree"),
    "binary junk": (identity(bytes(range(256))), "line 1 is no age identity"),
    "a recipient": (identity(another()[1]), "holds a public key"),
    "a public SSH key": (identity("ssh-ed25519 AAAA fox@den\n"), "holds a public key"),
    "a damaged age identity": (identity(another()[0][:-4] + "QQQQ"), "line 1 is a damaged age identity"),
    "an age plugin's identity": (identity("AGE-PLUGIN-DEN-1QQQQ"), "line 1 is no age identity"),
    "a whole one and a damaged one": (
        identity(f"{another()[0]}\nAGE-SECRET-KEY-1Q\n"),
        "line 2 is a damaged",
    ),
    "encrypted by age": (
        identity(pyrage.passphrase.encrypt(b"x", "den", armored=True)),
        "is encrypted itself",
    ),
    "an SSH key with a passphrase": (
        in_its_place(lambda path: ssh_key(path, "ed25519", "passphrase")),
        PASSPHRASE,
    ),
    "an old RSA key with a passphrase": (in_its_place(pem_with_passphrase), PASSPHRASE),
    "an SSH key of a kind that age does not know": (
        in_its_place(lambda path: ssh_key(path, "ecdsa")),
        "is no ed25519 or RSA private key",
    ),
    "half of an SSH key": (in_its_place(cut_ssh_key), "is no ed25519 or RSA private key"),
    "a certificate": (identity("-----BEGIN CERTIFICATE-----\nAAAA\n"), "is no ed25519 or RSA private key"),
    "a folder": (in_its_place(Path.mkdir), "is no plain file"),
    "a pipe": (in_its_place(os.mkfifo), "is no plain file"),
    "a link to itself": (in_its_place(lambda path: path.symlink_to(path)), "cannot be read: Too many levels"),
    "a file of a terabyte": (in_its_place(sparse), "has 1099511627776 bytes"),
}


def name_key(data: bytes, system: str = SYSTEM, name: str = NAME_KEY) -> Break:
    def put(scene: Scene) -> None:
        sealed = scene.file.with_name(f"{name}.age")
        type(scene.store)(scene.store.folder, system).write(name, Value(data), scene.key().recipients)
        sealed.replace(scene.store.path(NAME_KEY))

    return put


NAME_KEYS: dict[str, tuple[Break, str]] = {
    "missing": (lambda scene: scene.store.path(NAME_KEY).unlink(), "the key of the names is missing"),
    "short": (name_key(CANARY[:31]), "is no key of 32 bytes"),
    "long": (name_key(CANARY * 2), "is no key of 32 bytes"),
    "another system's": (name_key(CANARY[:32], system="lair"), "is the value of another system, 'lair'"),
    "a value in its place": (name_key(CANARY[:32], name="other"), "is the value of another name, 'other'"),
    "damaged": (lambda scene: scene.store.path(NAME_KEY).write_bytes(b"x"), DAMAGED),
}

FAULTS = [
    *(pytest.param(*fault, "file", id=f"value: {name}") for name, fault in VALUES.items()),
    *(pytest.param(*fault, "identity", id=f"identity: {name}") for name, fault in IDENTITIES.items()),
    *(pytest.param(*fault, "key", id=f"key of the names: {name}") for name, fault in NAME_KEYS.items()),
]


def forms(value: bytes) -> set[bytes]:
    """How a value may look in a text, its parts too."""
    parts = {value[at : at + 12] for at in range(len(value) - 11)}
    return parts | {part.hex().encode() for part in parts} | {base64.b64encode(part)[:15] for part in parts}


def everything_told(error: BaseException) -> bytes:
    """The traceback and all that the errors before it hold."""
    text = "".join(traceback.format_exception(error)) + repr(error.args)
    before: BaseException | None = error.__context__
    while before is not None:
        text += f"{before!r} {before} {before.args!r} {vars(before)!r}"
        before = before.__context__
    return text.encode()


@pytest.mark.parametrize(("damage", "reason", "what"), FAULTS)
def test_a_fault_is_told_with_its_file_and_nothing_of_the_value(
    damage: Break, reason: str, what: str, scene: Scene
) -> None:
    damage(scene)
    files = {"file": scene.file, "identity": scene.identity, "key": scene.store.path(NAME_KEY)}
    with pytest.raises(InvalidFiles) as caught:
        scene.open()
    (problem,) = caught.value.problems
    assert (problem.file, problem.path) == (str(files[what]), "")
    assert problem.reason.startswith(reason)
    assert problem.fix
    assert "docs/reference" not in problem.fix
    told = everything_told(caught.value)
    assert [form for form in forms(CANARY) if form in told] == []


def test_there_are_more_than_thirty_faults() -> None:
    assert len(FAULTS) > 30


def test_whatever_bytes_are_in_a_file_it_opens_to_its_value_or_is_a_fault(scene: Scene) -> None:
    dice, whole, opened = random.Random(3), scene.file.read_bytes(), 0
    for _ in range(1_500):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 1, 4))):
            data[dice.randrange(len(data))] = dice.randrange(256)
        scene.file.write_bytes(data[: dice.choice((len(data), dice.randrange(len(data))))])
        with suppress(InvalidFiles):
            assert scene.open().values[NAME].data == CANARY
            opened += 1
    assert opened < 150


def test_all_faults_are_told_at_once(scene: Scene) -> None:
    for_somebody_else(scene)
    scene.store.path(NAME_KEY).unlink()
    with pytest.raises(InvalidFiles) as caught:
        scene.open(NAME, "api_key", "tls")
    assert [Path(problem.file).stem for problem in caught.value.problems] == [
        "api_key",
        "tls",
        NAME_KEY,
        NAME,
    ]


def test_without_an_identity_the_values_that_are_missing_are_told_too(scene: Scene) -> None:
    scene.identity.unlink()
    with pytest.raises(InvalidFiles) as caught:
        scene.open(NAME, "tls")
    assert [Path(problem.file).name for problem in caught.value.problems] == ["tls.age", "identity"]


def test_a_name_that_no_file_can_have_is_a_fault_like_others(scene: Scene) -> None:
    with pytest.raises(InvalidFiles, match="cannot be read: File name too long"):
        scene.open("x" * 300)


def test_a_store_that_is_a_file_lacks_every_value(scene: Scene) -> None:
    scene.store.folder.rename(scene.folder / "elsewhere")
    scene.store.folder.write_text("")
    with pytest.raises(InvalidFiles, match="the value of the secret db_password is missing"):
        scene.open()
