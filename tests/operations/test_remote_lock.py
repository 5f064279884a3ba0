"""The manager's part of the lock: one holder at a time, whatever happens."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.operations.lock_folder import LockFolder


@pytest.fixture
def lock(tmp_path: Path) -> LockFolder:
    return LockFolder(tmp_path)


def test_a_bare_manager_has_no_lock_and_asking_leaves_nothing_there(lock: LockFolder) -> None:
    assert lock.do(do="read") == {"holder": None}
    assert not lock.folder.exists()


def test_the_first_one_gets_it(lock: LockFolder) -> None:
    assert lock.acquire() == {"acquired": True, "idle_s": None, "taken_from": None}
    record = lock.record
    assert (record["token"], record["owner"], record["purpose"]) == ("a", "a@desk", "work of a")
    assert stat.S_IMODE(lock.lock.stat().st_mode) == 0o644
    assert {path.name for path in lock.folder.iterdir()} == {"lock", "lock-count", "lock-guard"}


def test_others_cannot_hold_up_everybody_by_holding_the_guard(lock: LockFolder) -> None:
    lock.acquire()
    assert stat.S_IMODE((lock.folder / "lock-guard").stat().st_mode) == 0o600


def test_the_second_one_learns_who_has_it_and_not_the_token(lock: LockFolder) -> None:
    lock.acquire("secret-token")
    held = lock.acquire("b")["held"]
    assert (held["owner"], held["purpose"], held["expired"]) == (
        "secret-token@desk",
        "work of secret-token",
        False,
    )
    assert "token" not in held
    assert lock.record["token"] == "secret-token"


def test_of_many_at_once_exactly_one_gets_it(lock: LockFolder) -> None:
    for round_ in range(3):
        tokens = [f"{round_}-{number}" for number in range(12)]
        task = {"do": "acquire", "holder": "run", "owner": "o", "purpose": "p", "expires_s": 90}
        started = [lock.begin(token=token, **task) for token in tokens]
        answers = [json.loads(process.communicate(timeout=60)[0]) for process in started]
        (winner,) = [token for token, answer in zip(tokens, answers, strict=True) if "acquired" in answer]
        assert lock.record["token"] == winner
        assert sum("held" in answer for answer in answers) == len(tokens) - 1
        lock.do(do="release", token=winner, force=False)
    assert lock.count == 6


def test_of_many_that_find_an_expired_one_exactly_one_takes_over(lock: LockFolder) -> None:
    lock.acquire()
    lock.pass_by(91)
    task = {"do": "acquire", "holder": "run", "owner": "o", "purpose": "p", "expires_s": 90}
    started = [lock.begin(token=str(number), **task) for number in range(12)]
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in started]
    (answer,) = [answer for answer in answers if "acquired" in answer]
    assert answer["taken_from"]["owner"] == "a@desk"


@pytest.mark.parametrize(("silent_s", "expired"), [(80, False), (91, True)])
def test_a_run_expires_after_its_silence(silent_s: float, expired: bool, lock: LockFolder) -> None:
    lock.acquire()
    lock.pass_by(silent_s)
    assert lock.do(do="read")["holder"]["expired"] is expired
    assert ("acquired" in lock.acquire("b")) is expired


def test_a_heartbeat_keeps_it(lock: LockFolder) -> None:
    lock.acquire()
    lock.pass_by(80)
    assert lock.do(do="beat", token="a") == {"beating": True}
    lock.pass_by(80)
    assert "held" in lock.acquire("b")


def test_a_late_heartbeat_keeps_it_when_nobody_took_over(lock: LockFolder) -> None:
    lock.acquire()
    lock.pass_by(500)
    assert lock.do(do="beat", token="a") == {"beating": True}
    assert "held" in lock.acquire("b")


def test_a_late_heartbeat_learns_who_took_over(lock: LockFolder) -> None:
    lock.acquire()
    lock.pass_by(500)
    lock.acquire("b")
    assert lock.do(do="beat", token="a")["lost"]["owner"] == "b@desk"
    assert lock.record["token"] == "b"


def test_a_heartbeat_learns_that_the_lock_is_gone_and_does_not_bring_it_back(lock: LockFolder) -> None:
    lock.acquire()
    lock.do(do="release", owner="x", force=True)
    assert lock.do(do="beat", token="a") == {"lost": None}
    assert not lock.lock.exists()


def test_a_persons_lock_without_an_end_does_not_expire(lock: LockFolder) -> None:
    lock.acquire(holder="person", expires_s=None)
    lock.pass_by(10_000_000)
    assert "held" in lock.acquire("b")


def test_a_clock_that_is_set_ends_no_lock(lock: LockFolder) -> None:
    lock.acquire()
    lock.lock.write_text(json.dumps({**lock.record, "heartbeat": 1.0}))
    assert "held" in lock.acquire("b")


def test_after_a_reboot_the_silence_is_at_least_that_long(lock: LockFolder) -> None:
    lock.acquire(expires_s=0.5)
    lock.lock.write_text(json.dumps({**lock.record, "boot": "an earlier one", "heartbeat": 9e9}))
    assert lock.acquire("b")["taken_from"]["silent_s"] > 0.5


def test_after_a_reboot_the_wall_clock_counts_where_it_says_more(lock: LockFolder) -> None:
    lock.acquire(expires_s=1e9)
    lock.lock.write_text(json.dumps({**lock.record, "boot": "an earlier one", "heartbeat": 1.0}))
    assert "acquired" in lock.acquire("b")


@pytest.mark.parametrize("whose", ["run", "person"])
def test_only_its_own_token_releases_a_run(whose: str, lock: LockFolder) -> None:
    lock.acquire(holder=whose)
    assert lock.do(do="release", token="b", force=False)["foreign"]["owner"] == "a@desk"
    assert lock.do(do="release", token="a", force=False)["released"]["owner"] == "a@desk"
    assert not lock.lock.exists()


RELEASES = [
    ("person", "a@desk", False, "released"),
    ("person", "b@desk", False, "foreign"),
    ("person", "b@desk", True, "released"),
    ("run", "a@desk", False, "foreign"),
    ("run", "a@desk", True, "released"),
]


@pytest.mark.parametrize(("holder", "owner", "force", "becomes"), RELEASES)
def test_a_person_releases_their_own_and_anything_else_by_force(
    holder: str, owner: str, force: bool, becomes: str, lock: LockFolder
) -> None:
    lock.acquire(holder=holder)
    assert list(lock.do(do="release", owner=owner, force=force)) == [becomes]
    assert lock.lock.exists() is (becomes == "foreign")


def test_releasing_what_nobody_holds_says_so(lock: LockFolder) -> None:
    assert lock.do(do="release", owner="a", force=False) == {"free": True}


def test_who_comes_after_a_release_learns_how_long_it_was_free(lock: LockFolder) -> None:
    lock.acquire()
    lock.do(do="release", token="a", force=False)
    count = lock.folder / "lock-count"
    last = json.loads(count.read_text())
    count.write_text(json.dumps({**last, "uptime_s": last["uptime_s"] - 300}))
    answer = lock.acquire("b")
    assert 300 <= answer["idle_s"] < 400
    assert lock.count == 3


CORRUPT: dict[str, bytes] = {
    "empty": b"",
    "half": b'{"token": "a", "ow',
    "another kind": b"[1, 2]",
    "a number": b"7",
    "no text": b"\xff\xfe\x00",
    "deep": b"[" * 60_000,
    "a missing value": b'{"token": "a"}',
}
WRONG: dict[str, Any] = {
    "no name": ("owner", None),
    "a time that is none": ("uptime_s", "soon"),
    "an expiry that never comes": ("expires_s", float("nan")),
    "an endless heartbeat": ("uptime_s", float("inf")),
    "a huge number": ("uptime_s", 10**400),
    "true": ("acquired", True),
}


def test_each_kind_of_corruption_is_told_and_never_taken_for_free(lock: LockFolder) -> None:
    lock.acquire()
    fine = lock.record
    contents = dict(CORRUPT)
    contents |= {name: json.dumps({**fine, key: value}).encode() for name, (key, value) in WRONG.items()}
    for name, content in contents.items():
        lock.lock.write_bytes(content)
        for task in (
            {"do": "read"},
            {"do": "beat", "token": "a"},
            {"do": "release", "owner": "a", "force": False},
        ):
            error = lock.do(**task)["error"]
            assert error.startswith(f"{lock.lock} cannot be understood ("), name
            assert "cascade lock release INVENTORY --force" in error
        assert str(lock.lock) in lock.acquire("b")["error"], name
        assert lock.lock.read_bytes() == content, name


def test_a_corrupt_one_goes_by_force(lock: LockFolder) -> None:
    lock.acquire()
    lock.lock.write_text("")
    assert lock.do(do="release", owner="a", force=True) == {"released": None}
    assert "acquired" in lock.acquire("b")


def test_a_link_in_its_place_is_not_followed(lock: LockFolder, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    lock.acquire()
    lock.pass_by(100)
    lock.lock.rename(target)
    lock.lock.symlink_to(target)
    assert str(lock.lock) in lock.acquire("b")["error"]
    target.unlink()
    assert str(lock.lock) in lock.acquire("b")["error"]
    assert not target.exists()


def test_a_corrupt_count_is_told(lock: LockFolder) -> None:
    lock.acquire()
    lock.do(do="release", token="a", force=False)
    (lock.folder / "lock-count").write_text("many")
    error = lock.acquire("b")["error"]
    assert "lock-count cannot be understood" in error
    assert not lock.lock.exists()


def test_what_a_killed_process_left_half_written_is_no_hindrance(lock: LockFolder) -> None:
    lock.folder.mkdir()
    for name in ("lock.new", "lock-count.new"):
        (lock.folder / name).write_text("half" * 1000)
    assert "acquired" in lock.acquire()
    assert lock.do(do="beat", token="a") == {"beating": True}
    assert lock.record["token"] == "a"


DEAD = {"machine": "m", "pid": 7, "started": "123"}


def test_who_names_the_process_that_is_gone_takes_its_lock(lock: LockFolder) -> None:
    lock.acquire("a", process=DEAD)
    held = lock.acquire("b")["held"]
    assert held["process"] == DEAD
    assert lock.acquire("b", in_place_of=held["process"])["taken_from"]["owner"] == "a@desk"
    assert lock.record["token"] == "b"


@pytest.mark.parametrize("process", [None, {**DEAD, "pid": 8}, {**DEAD, "started": "124"}])
def test_nobody_elses_lock_is_hit_by_who_names_one_that_is_gone(process: Any, lock: LockFolder) -> None:
    lock.acquire("a", process=process)
    for named in (DEAD, None):
        assert lock.acquire("b", in_place_of=named)["held"]["owner"] == "a@desk"


def test_a_record_that_an_older_version_wrote_is_read(lock: LockFolder) -> None:
    lock.acquire("a")
    older = {name: value for name, value in lock.record.items() if name != "process"}
    lock.lock.write_text(json.dumps(older))
    assert lock.acquire("b", in_place_of=None)["held"]["process"] is None
    assert lock.do(do="beat", token="a") == {"beating": True}


def test_a_lock_that_cannot_be_written_is_told_with_its_place_and_stays_whole(lock: LockFolder) -> None:
    lock.acquire()
    (lock.folder / "lock.new").mkdir()
    assert lock.do(do="beat", token="a")["error"] == f"{lock.lock}.new: Is a directory"
    assert lock.record["token"] == "a"
