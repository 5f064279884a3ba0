"""What is written down of a change: one line that can be read back, whatever stands in it."""

from __future__ import annotations

import json
import re

import pytest

from cascade.planning.audit import Deed, Entry, deeds_of, line_of, reason_of
from cascade.planning.diff import Change
from cascade.planning.resource import Key

# As docs/reference/audit.md says that a line is read.
PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)')
MOST_BYTES = 1000


def entry(name: str = "core_brain", result: str = "done", reason: str = "") -> Entry:
    return Entry("2026-01-02T03:04:05Z", "mainpc", "update", "service", name, result, reason)


def written(found: Entry, who: str = "me@desk", release: int | None = 7) -> str:
    return line_of(found, who, "0123456789ab", release)


def read(line: str) -> dict[str, str]:
    return {key: json.loads(value) if value.startswith('"') else value for key, value in PAIR.findall(line)}


def test_a_line_says_who_did_what_in_which_run_and_what_came_of_it() -> None:
    assert written(entry()) == (
        "who=me@desk run=0123456789ab release=7 action=update kind=service name=core_brain result=done"
    )


def test_a_failure_has_its_reason() -> None:
    assert written(entry(result="failed", reason="no such image"), release=None) == (
        "who=me@desk run=0123456789ab action=update kind=service name=core_brain"
        ' result=failed reason="no such image"'
    )


HOSTILE = {
    "a second line": "a\nwho=nobody result=done",
    "a carriage return": "a\rwho=nobody",
    "a terminal's escape": "\x1b[2J\x1b]0;title\x07",
    "C1 controls": "a\x9b31m\x85b",
    "quotes": 'a" result=done reason="',
    "backslashes": "\\\\u000a\\",
    "an equals sign": "a=b c=d",
    "nothing": "",
    "a null byte": "a\x00b",
    "delete": "a\x7fb",
    "text that runs backwards": "a\u202eb\u2066c",
    "line separators": "a\u2028b\u2029c",
    "a lone surrogate": "a\udc80b",
    "other scripts": "jürgen 機械 🙂",
    "what others print not": "a\U000e0001\U0010ffffb",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_nobodys_words_break_out_of_their_value(text: str) -> None:
    line = written(entry(text, "failed", text), who=text)
    assert line.isprintable()
    expected = {"who": text, "name": text, "reason": text} if text else {}
    assert (
        read(line)
        == {
            "run": "0123456789ab",
            "release": "7",
            "action": "update",
            "kind": "service",
            "result": "failed",
        }
        | expected
    )


@pytest.mark.parametrize("sign", ["a", " ", "\x00", "é", "機", "🙂", "\U000e0001", '"', "\\", "\udfff"])
def test_a_line_is_never_longer_than_the_journal_takes(sign: str) -> None:
    long = sign * 5000
    line = written(Entry(long, long, long, long, long, long, long), who=long, release=10**9)
    assert len(line.encode()) < MOST_BYTES
    assert line.isprintable()
    found = read(line)
    assert found["name"].endswith("…")
    assert found["name"][:-1] == sign * (len(found["name"]) - 1)


def change(name: str, **desired: object) -> Change:
    return Change(Key("pc2", "service", name), "create", (), desired)


def test_what_an_operation_changes_is_told_one_by_one() -> None:
    assert deeds_of((change("a"), change("b"))) == (
        Deed("create", "service", "a"),
        Deed("create", "service", "b"),
    )
    assert deeds_of(change("a")) == (Deed("create", "service", "a"),)
    assert deeds_of(Deed("remove", "volume", "data")) == (Deed("remove", "volume", "data"),)


def test_what_changes_nothing_has_no_line() -> None:
    assert deeds_of(object()) == ()
    assert deeds_of(()) == ()


def test_a_reason_is_one_line_without_the_secrets_of_the_spec() -> None:
    work = change("a", Env=["DB_PASSWORD=planted-word", "MODE=fast"])
    said = reason_of("invalid environment:\n  planted-word in MODE=fast", work)
    assert said == "invalid environment: *** in MODE=fast"


def test_a_reason_shows_no_secret_that_stands_in_itself_alone() -> None:
    said = reason_of("GET https://me:planted@registry.example/v2/ --password planted2: denied", ())
    assert "planted" not in said


def test_as_data_a_reason_stands_only_where_something_failed() -> None:
    assert entry().document() == {
        "time": "2026-01-02T03:04:05Z",
        "host": "mainpc",
        "action": "update",
        "kind": "service",
        "name": "core_brain",
        "result": "done",
    }
    assert entry(result="failed", reason="r").document()["reason"] == "r"
