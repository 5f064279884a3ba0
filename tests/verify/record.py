"""What the tests found, as people and programs read it: a summary by area, a document, an exit code."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from cascade.documents import Judgement, Outcome, VerifyDocument, json_of
from cascade.exit_codes import ATTENTION, ERROR, INVALID

OUTCOMES: tuple[Outcome, ...] = ("passed", "failed", "unknown", "not there", "not asked", "excepted")
# How reasons begin where the files do not ask for it.
_NOT_ASKED = ("not asked: ", "got empty parameter set")
# How pytest ends, and what that is here; other codes are ours already.
_OURS = {
    int(pytest.ExitCode.TESTS_FAILED): ATTENTION,
    int(pytest.ExitCode.INTERRUPTED): ERROR,
    int(pytest.ExitCode.INTERNAL_ERROR): ERROR,
    int(pytest.ExitCode.USAGE_ERROR): INVALID,
    int(pytest.ExitCode.NO_TESTS_COLLECTED): INVALID,
}
# What pytest writes below a comparison, whose sides have been shown already.
_FULL_DIFF = "\n  \n"
_SHOWN = 500


def not_asked(reason: str) -> NoReturn:
    """Ends a test of what the files do not ask for of this subject."""
    pytest.skip(_NOT_ASKED[0] + reason)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the record."""
    group = parser.getgroup("verify")
    group.addoption("--strict-verify", action="store_true", help="what is not there fails")
    group.addoption("--verify-json", type=Path, metavar="FILE", help="what was found, as JSON")


class Record:
    """Keeps one judgement of each test."""

    def __init__(self, inventory: Path, areas: Iterable[str], strict: bool, json: Path | None) -> None:
        self.inventory = inventory
        self.areas = tuple(areas)
        self.strict = strict
        self.json = json
        self.judgements: list[Judgement] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Any:
        """Where nothing may be missing, a test of what is not there has failed."""
        report: pytest.TestReport = yield
        if self.strict and _outcome(report) == "not there":
            report.outcome, report.longrepr = "failed", f"not there: {_reason(report)}"
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One judgement of each test: of what ended it, or else of its body."""
        if report.when == "call" or not report.passed:
            self.judgements.append(judgement(report, self.areas))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file of tests that cannot be read leaves everything in it unknown."""
        if report.failed:
            found = Judgement(
                area="", test=report.nodeid, subject="", outcome="unknown", reason=_last_line(report)
            )
            self.judgements.append(found)

    @property
    def counts(self) -> dict[Outcome, int]:
        """How many of each outcome."""
        found = Counter(one.outcome for one in self.judgements)
        return {outcome: found[outcome] for outcome in OUTCOMES}

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Ends as the commands do: 2 for what is wrong, 1 for what is unknown."""
        code = _OURS.get(exitstatus, exitstatus)
        session.exitstatus = ERROR if self.counts["unknown"] and code in (0, ATTENTION) else code
        if self.json:
            self._write(self.json, int(session.exitstatus))

    def _write(self, path: Path, code: int) -> None:
        document = VerifyDocument(
            inventory=str(self.inventory),
            exit_code=code,
            counts=self.counts,
            results=tuple(self.judgements),
        )
        path.write_text(json_of(VerifyDocument, document) + "\n")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """What is wrong, what could not be judged and why, and how many of each."""
        for line in summary(self.judgements, self.areas):
            terminalreporter.write_line(line)


def judgement(report: pytest.TestReport, areas: Iterable[str]) -> Judgement:
    """What a report says, with the test's name as a sentence."""
    path, _, name = report.nodeid.partition("::")
    function, _, subject = name.partition("[")
    area = next((area for area in areas if area in report.keywords), Path(path).stem)
    return Judgement(
        area=area,
        test=function.removeprefix("test_").replace("_", " "),
        subject=subject.removesuffix("]"),
        outcome=_outcome(report),
        reason=_reason(report),
    )


def _outcome(report: pytest.TestReport) -> Outcome:
    if hasattr(report, "wasxfail"):
        return "excepted"
    if report.skipped:
        return "not asked" if _skip_reason(report).startswith(_NOT_ASKED) else "not there"
    if report.passed:
        return "passed"
    return "failed" if _is_judged(report) else "unknown"


def _is_judged(report: pytest.TestReport) -> bool:
    """Whether a test looked and found something wrong; anything else that it raised was no answer."""
    crash = getattr(report.longrepr, "reprcrash", None)
    said = crash.message if crash else str(report.longrepr)
    return said.startswith(("AssertionError", "assert ", "not there: "))


def _reason(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return report.wasxfail.removeprefix("reason: ")
    if report.skipped:
        return _skip_reason(report).removeprefix(_NOT_ASKED[0])
    if report.passed:
        return ""
    crash = getattr(report.longrepr, "reprcrash", None)
    said = crash.message if crash else str(report.longrepr)
    return re.sub(r"^AssertionError: ", "", said).partition(_FULL_DIFF)[0].strip()


def _skip_reason(report: pytest.TestReport) -> str:
    found = report.longrepr
    said = found[2] if isinstance(found, tuple) else str(found)
    return said.removeprefix("Skipped: ")


def _last_line(report: pytest.CollectReport) -> str:
    return str(report.longrepr).strip().rpartition("\n")[2]


def summary(judgements: Iterable[Judgement], areas: Iterable[str]) -> list[str]:
    """Lines for people: each fault, each reason for what is not there, then the counts by area."""
    judgements = list(judgements)
    return [*_faults(judgements), *_reasons(judgements), "", *_by_area(judgements, areas)]


def _faults(judgements: Iterable[Judgement]) -> Iterable[str]:
    for one in judgements:
        if one.outcome in ("failed", "unknown"):
            yield ""
            yield f"{one.outcome}: {one.subject}: {one.test} ({one.area})"
            yield from (f"    {shorten(line)}" for line in one.reason.splitlines())


def shorten(line: str) -> str:
    """As much of a line as a person reads on a terminal; the document has all of it."""
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def _reasons(judgements: Iterable[Judgement]) -> Iterable[str]:
    counted = Counter(one.reason for one in judgements if one.outcome == "not there")
    if counted:
        yield ""
    for reason, count in counted.items():
        yield f"not there, {count} times: {reason}"


def _by_area(judgements: Iterable[Judgement], areas: Iterable[str]) -> Iterable[str]:
    counted = Counter((one.area, one.outcome) for one in judgements)
    for area in dict.fromkeys((*areas, *(area for area, _ in counted))):
        if found := [f"{counted[area, outcome]} {outcome}" for outcome in OUTCOMES if counted[area, outcome]]:
            yield f"{area or 'files':<10}{', '.join(found)}"
