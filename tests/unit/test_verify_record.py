"""What a verification found: each test's report as a judgement, the summary, and how the run ends."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cascade.documents import VerifyDocument
from tests.verify.record import Record, judgement, shorten, summary

AREAS = ("host", "agents")
NODE = "tests/verify/test_agents.py::test_health_answers_well[core_registry]"


EMPTY = "got empty parameter set"


def report(outcome: Any, when: Any = "call", longrepr: Any = None, **more: Any) -> pytest.TestReport:
    made = pytest.TestReport(NODE, ("", 0, ""), {"agents": 1}, outcome, longrepr, when)
    made.__dict__.update(more)
    return made


def failure(message: str) -> Any:
    return SimpleNamespace(reprcrash=SimpleNamespace(message=message))


def record(tmp_path: Path, strict: bool = False) -> Record:
    return Record(Path("inventories/home.py"), AREAS, strict, tmp_path / "found.json")


@pytest.mark.parametrize(
    ("given", "outcome", "reason"),
    [
        (report("passed"), "passed", ""),
        (report("skipped", "setup", ("file.py", 3, "Skipped: no GPU")), "not there", "no GPU"),
        (report("skipped", "call", ("file.py", 3, "Skipped: not asked: no limit")), "not asked", "no limit"),
        (
            report("skipped", "setup", ("f", 3, "Skipped: got empty parameter set for x")),
            "not asked",
            "got empty parameter set for x",
        ),
        (report("skipped", wasxfail="reason: no auditd"), "excepted", "no auditd"),
        (report("failed", longrepr=failure("AssertionError: deaf\nassert 0")), "failed", "deaf\nassert 0"),
        (
            report("failed", longrepr=failure("assert [1] == []\n  \n  Full diff")),
            "failed",
            "assert [1] == []",
        ),
        (
            report("failed", "setup", failure("Unread: pc2: engine: cut")),
            "unknown",
            "Unread: pc2: engine: cut",
        ),
        (report("failed", longrepr="OSError: gone"), "unknown", "OSError: gone"),
    ],
)
def test_a_report_is_a_judgement(given: pytest.TestReport, outcome: str, reason: str) -> None:
    found = judgement(given, AREAS)
    assert (found.area, found.test, found.subject) == ("agents", "health answers well", "core_registry")
    assert (found.outcome, found.reason) == (outcome, reason)


def test_each_test_is_judged_once(tmp_path: Path) -> None:
    kept = record(tmp_path)
    for when in ("setup", "call", "teardown"):
        kept.pytest_runtest_logreport(report("passed", when))
    assert [one.outcome for one in kept.judgements] == ["passed"]


def ended(kept: Record, code: int) -> int:
    session: Any = SimpleNamespace(exitstatus=code)
    kept.pytest_sessionfinish(session, code)
    assert kept.json
    document = json.loads(kept.json.read_text())
    assert document["exit_code"] == session.exitstatus
    VerifyDocument.model_validate(document)
    return int(session.exitstatus)


@pytest.mark.parametrize(
    ("code", "ours"), [(0, 0), (1, 2), (2, 1), (3, 1), (4, 64), (5, 64), (6, 6), (64, 64)]
)
def test_a_run_ends_as_the_commands_do(tmp_path: Path, code: int, ours: int) -> None:
    assert ended(record(tmp_path), code) == ours


def test_what_is_unknown_wins_over_what_is_wrong_but_not_over_a_host_that_is_off(tmp_path: Path) -> None:
    kept = record(tmp_path)
    kept.pytest_runtest_logreport(report("failed", "setup", failure("Unread: cut")))
    assert ended(kept, 1) == 1
    assert ended(kept, 6) == 6


def made(kept: Record, given: pytest.TestReport) -> pytest.TestReport:
    hook = kept.pytest_runtest_makereport()
    next(hook)
    with pytest.raises(StopIteration) as end:
        hook.send(given)
    found: pytest.TestReport = end.value.value
    return found


def test_where_nothing_may_be_missing_what_is_not_there_fails_with_its_reason(tmp_path: Path) -> None:
    skipped = ("file.py", 3, "Skipped: no GPU")
    strict = made(record(tmp_path, strict=True), report("skipped", "setup", skipped))
    found = judgement(strict, AREAS)
    assert (strict.outcome, found.outcome, found.reason) == ("failed", "failed", "not there: no GPU")
    assert made(record(tmp_path), report("skipped", "setup", skipped)).outcome == "skipped"
    unasked = made(
        record(tmp_path, strict=True), report("skipped", "call", ("f", 3, "Skipped: not asked: x"))
    )
    assert judgement(unasked, AREAS).outcome == "not asked"
    excepted = made(record(tmp_path, strict=True), report("skipped", wasxfail="reason: no auditd"))
    assert judgement(excepted, AREAS).outcome == "excepted"


def test_a_file_of_tests_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    kept = record(tmp_path)
    kept.pytest_collectreport(pytest.CollectReport("tests/verify/test_x.py", "failed", "E   SyntaxError", []))
    assert [(one.outcome, one.reason) for one in kept.judgements] == [("unknown", "E   SyntaxError")]


def test_people_read_faults_then_reasons_then_counts() -> None:
    reports = (
        report("passed"),
        report("skipped", "setup", ("file.py", 3, "Skipped: no GPU")),
        report("skipped", "setup", ("file.py", 3, "Skipped: no GPU")),
        report("failed", longrepr=failure("assert {'a': 1} == {}")),
    )
    assert summary([judgement(one, AREAS) for one in reports], AREAS) == [
        "",
        "failed: core_registry: health answers well (agents)",
        "    assert {'a': 1} == {}",
        "",
        "not there, 2 times: no GPU",
        "",
        "agents    1 passed, 1 failed, 2 not there",
    ]


def test_a_line_that_nobody_reads_is_cut() -> None:
    assert shorten("x" * 500) == "x" * 500
    assert shorten("x" * 501) == "x" * 500 + "…"
