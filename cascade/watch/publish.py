"""What becomes of a result: lines in the journal, a file, metrics, and a call of `on_drift`."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from cascade.files import write_whole
from cascade.model.strict import one_line
from cascade.watch.hook import HookFailed, call
from cascade.watch.lines import ERROR, Line, journal_lines
from cascade.watch.metrics import Check, exposition

RESULT = "result.json"
_TOLD = "told"
_IN_SYNC = "in sync"


def publish(
    check: Check, folder: Path, metrics: Path | None = None, on_drift: Sequence[str] | None = None
) -> None:
    """Tells a result to everybody; raises OSError for what could not be written.

    `metrics` is the file for them. `on_drift` is empty for nobody to call, and None when nobody knows.
    """
    for line in journal_lines(check.document):
        _say(line)
    with _alone(folder):
        result = folder / RESULT
        write_whole(result, json.dumps(check.document, indent=2) + "\n", mode=0o600)
        hook_failed = not _tell(check, folder, on_drift)
        if metrics:
            # The collector that reads it is somebody else.
            write_whole(metrics, exposition(check, hook_failed), mode=0o644)


def _tell(check: Check, folder: Path, on_drift: Sequence[str] | None) -> bool:
    """Calls `on_drift` where there is something new to tell; False when it failed, to try again next time."""
    told = folder / _TOLD
    if on_drift is None:
        return True
    if not on_drift:
        told.unlink(missing_ok=True)
        return True
    before = told.read_text(encoding="utf-8") if told.exists() else _IN_SYNC
    now = essence(check.document)
    if now == before:
        return True
    said = {"CASCADE_SYSTEM": check.system, "CASCADE_EXIT_CODE": str(check.document["exit_code"])}
    try:
        call(on_drift, folder / RESULT, said)
    except HookFailed as failed:
        _say(Line(ERROR, f"on_drift: {one_line(str(failed))}; the next check tries again"))
        return False
    write_whole(told, now, mode=0o600)
    return True


def essence(document: Mapping[str, Any]) -> str:
    """The same for two results that say the same, whenever they were found."""
    if document["exit_code"] == 0:
        return _IN_SYNC
    # Why something could not be read may be worded anew each time.
    unknown = [[item["host"], item["what"]] for item in document["unknown"]]
    said = {name: document[name] for name in ("exit_code", "findings", "unwanted", "files")}
    return hashlib.sha256(json.dumps([said, unknown], sort_keys=True).encode()).hexdigest()


def _say(line: Line) -> None:
    click.echo(line.marked() if _to_journal() else line.text, err=True)


def _to_journal() -> bool:
    """Whether standard error is systemd's journal, as systemd.exec(5) has it."""
    stream = os.fstat(2)
    return os.environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """A check by hand waits for the timer's, and the other way round."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
