"""What is left of a check: files that are always whole, and a command that hears of changes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from cascade.files import write_whole
from cascade.model.fleet import Fleet, FleetSettings
from cascade.watch.hook import HookFailed, call
from cascade.watch.metrics import Check
from cascade.watch.publish import publish
from lab.engine import is_running
from lab.errors import LabError
from lab.polling import until
from tests.drifts import DRIFT, FINDING, IN_SYNC, UNREACHABLE, Document

# Notes what it was told: its environment and the document.
HOOK = """
import json, os, sys
said = [os.environ["CASCADE_SYSTEM"], os.environ["CASCADE_EXIT_CODE"], len(json.load(sys.stdin)["findings"])]
open(sys.argv[1], "a").write(json.dumps(said) + "\\n")
sys.exit(os.path.exists(sys.argv[1] + ".fail"))
"""


class Watched:
    """A watch of its own whose hook writes down each call."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "results"
        self.calls = folder / "calls"
        self.metrics = folder / "metrics.prom"
        self.hook = (sys.executable, "-c", HOOK, str(self.calls))

    def check(self, *documents: Document, hook: Sequence[str] | None = ()) -> list[list[object]]:
        """Publishes one after another; what the hook has heard since the beginning."""
        on_drift = self.hook if hook == () else hook
        for document in documents:
            publish(Check("cascade", "/srv/home.py", document, 0.5), self.folder, self.metrics, on_drift)
        return (
            [json.loads(line) for line in self.calls.read_text().splitlines()] if self.calls.exists() else []
        )

    def value(self, name: str) -> float:
        """What the metrics say of one that has no labels of its own."""
        start = f"cascade_drift_{name}{{"
        (line,) = (line for line in self.metrics.read_text().splitlines() if line.startswith(start))
        return float(line.split()[-1])


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_the_result_is_the_document(watched: Watched) -> None:
    watched.check(DRIFT)
    assert json.loads((watched.folder / "result.json").read_text()) == DRIFT


def test_the_result_is_its_owners_and_the_metrics_everybodys_whatever_the_umask(watched: Watched) -> None:
    before = os.umask(0o077)
    watched.check(DRIFT)
    os.umask(before)
    assert stat.S_IMODE((watched.folder / "result.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(watched.metrics.stat().st_mode) == 0o644


def test_metrics_of_what_is_mended_are_gone(watched: Watched) -> None:
    watched.check(DRIFT)
    assert "cascade_drift_findings{" in watched.metrics.read_text()
    watched.check(IN_SYNC)
    assert "cascade_drift_findings{" not in watched.metrics.read_text()


def test_nothing_but_whole_files_is_left(watched: Watched) -> None:
    watched.check(DRIFT, IN_SYNC)
    assert {path.name for path in watched.folder.iterdir()} == {"result.json", "told", "lock"}
    assert [path.name for path in watched.metrics.parent.glob("*.prom*")] == ["metrics.prom"]


def test_a_reader_never_meets_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "a" * 100_000)
    with path.open() as reader:
        write_whole(path, "b")
        assert reader.read() == "a" * 100_000
    assert path.read_text() == "b"


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "new \ud800")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_the_hook_hears_of_drift_once_and_of_its_end_once(watched: Watched) -> None:
    assert watched.check(IN_SYNC) == []
    assert watched.check(DRIFT, DRIFT) == [["cascade", "2", 2]]
    assert watched.check(IN_SYNC, IN_SYNC) == [["cascade", "2", 2], ["cascade", "0", 0]]


def test_the_hook_hears_again_when_something_else_drifts(watched: Watched) -> None:
    more = DRIFT | {"findings": [*DRIFT["findings"], FINDING | {"name": "another"}]}
    assert [call[2] for call in watched.check(DRIFT, more, more)] == [2, 3]


def test_the_hook_hears_of_a_check_that_could_not_be_made(watched: Watched) -> None:
    assert watched.check(UNREACHABLE) == [["cascade", "6", 0]]


def test_the_hook_does_not_hear_of_the_same_in_other_words(watched: Watched) -> None:
    later = UNREACHABLE | {
        "checked_at": "2026-11-21T15:40:00+00:00",
        "unknown": [{"host": "pc2", "what": "host", "reason": "timed out"}],
    }
    assert len(watched.check(UNREACHABLE, later)) == 1


def test_a_hook_that_fails_is_told_and_tried_again(
    watched: Watched, capfd: pytest.CaptureFixture[str]
) -> None:
    fails = Path(f"{watched.calls}.fail")
    fails.touch()
    watched.check(DRIFT)
    assert (
        f"on_drift: {sys.executable} ended with exit code 1; the next check tries again"
        in capfd.readouterr().err
    )
    assert watched.value("hook_failed") == 1
    fails.unlink()
    assert len(watched.check(DRIFT)) == 2
    assert watched.value("hook_failed") == 0
    assert len(watched.check(DRIFT)) == 2


def test_a_hook_that_is_there_later_hears_of_what_is_the_matter(watched: Watched) -> None:
    assert watched.check(DRIFT, hook=[]) == []
    assert len(watched.check(DRIFT)) == 1
    watched.check(DRIFT, hook=[])
    assert len(watched.check(DRIFT)) == 2


def test_a_check_that_does_not_know_its_hook_forgets_nothing(watched: Watched) -> None:
    watched.check(DRIFT)
    watched.check(UNREACHABLE, hook=None)
    assert len(watched.check(DRIFT)) == 1


def test_two_checks_at_once_tell_it_once(watched: Watched) -> None:
    line = "import sys; from tests.unit.test_watch_publish import *; Watched(Path(sys.argv[1])).check(DRIFT)"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", line, str(watched.folder.parent)], cwd=Path(__file__).parents[2]
        )
        for _ in range(2)
    ]
    assert [process.wait() for process in both] == [0, 0]
    assert len(watched.calls.read_text().splitlines()) == 1


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "document"
    path.write_text("{}")
    return path


def test_a_command_gets_its_words_as_they_are(document: Path, tmp_path: Path) -> None:
    said = tmp_path / "said"
    call(
        [
            sys.executable,
            "-c",
            "import sys; open(sys.argv[1], 'w').write(sys.argv[2])",
            str(said),
            "$(id); *",
        ],
        document,
        {},
    )
    assert said.read_text() == "$(id); *"


def test_what_a_command_prints_is_in_no_document(document: Path, capfd: pytest.CaptureFixture[str]) -> None:
    call(["echo", "told"], document, {})
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "told\n")


def test_a_command_that_does_not_read_is_fine(document: Path) -> None:
    document.write_text("x" * 1_000_000)
    call(["true"], document, {})


def test_a_command_that_is_not_there_is_named(document: Path) -> None:
    with pytest.raises(HookFailed, match="no-such-command cannot be started: No such file"):
        call(["no-such-command"], document, {})


def test_a_command_that_does_not_end_is_ended_with_its_children(document: Path, tmp_path: Path) -> None:
    line = f"sleep 60 & echo $! > {tmp_path}/child; wait"
    before = time.monotonic()
    with pytest.raises(HookFailed, match=r"sh had not ended after 0\.5 s and was killed"):
        call(["sh", "-c", line], document, {}, timeout_s=0.5)
    assert time.monotonic() - before < 30
    child = Path("/proc", (tmp_path / "child").read_text().strip())

    def ended() -> None:
        if is_running(child, "sleep"):
            raise LabError("the child", "is still there", "look at /proc")

    until("the child", ended, timeout_s=10, next_step="look at /proc")


@pytest.mark.parametrize("argv", [("",), ("", "x"), ("notify", "a\0b"), "notify", [1]])
def test_an_on_drift_that_is_no_command_is_a_mistake_in_the_files(argv: object, home_fleet: Fleet) -> None:
    with pytest.raises(ValueError, match="on_drift"):
        FleetSettings.model_validate({**dict(home_fleet.settings), "on_drift": argv})
