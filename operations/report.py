"""The report of a deployment: one document at its end, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pyinfra import logger

from cascade.documents import ReportDocument, ReportedChange, json_of
from cascade.exit_codes import ERROR
from cascade.files import write_for_owner
from cascade.planning.audit import DONE
from cascade.planning.specs import LABEL_RELEASE
from operations.operator import operator

if TYPE_CHECKING:
    from cascade.planning.plan import Plan
    from operations.run import Run


@contextmanager
def reported(path: object, inventory: Path, purpose: str) -> Iterator[None]:
    """A block that looks before a deployment: when it ends the process, that is what the report says."""
    try:
        yield
    except SystemExit as end:
        if path:
            code = end.code if isinstance(end.code, int) else ERROR if end.code else 0
            _write(Path(str(path)), document(str(inventory.absolute()), purpose, code))
        raise


def write_report(run: Run, path: str, plan: Plan | None) -> bool:
    """Writes down how a run ended; says so and gives False where that cannot be done."""
    found = document(
        str(Path(run.inventory_file).absolute()),
        run.purpose,
        _code(run),
        run=run.id,
        release=_release(run, plan),
        changes=tuple(
            ReportedChange.model_validate({"reason": "", **entry.document()}) for entry in run.trail.entries
        ),
        diagnoses=tuple(run.diagnoses),
    )
    return _write(Path(path), found)


def document(inventory: str, purpose: str, exit_code: int, **more: object) -> ReportDocument:
    """A report; of a deployment that did not begin if nothing `more` is said."""
    begun = {"run": "", "release": None, "changes": (), "diagnoses": (), **more}
    said = {"inventory": inventory, "purpose": purpose, "exit_code": exit_code, "operator": operator()}
    return ReportDocument.model_validate(said | begun)


def _code(run: Run) -> int:
    """A run without a code is a success only where pyinfra came to its end with all hosts."""
    if run.code is not None:
        return run.code
    return 0 if run.ended and not run.state.failed_hosts else ERROR


def _release(run: Run, plan: Plan | None) -> int | None:
    """The one that this run recorded, or else the last one before it."""
    recorded = [entry.name for entry in run.trail.entries if (entry.kind, entry.result) == ("release", DONE)]
    number = recorded[-1] if recorded else (plan.latest or {}).get(LABEL_RELEASE) if plan else None
    return int(number) if number else None


def _write(path: Path, report: ReportDocument) -> bool:
    try:
        write_for_owner(path, json_of(ReportDocument, report) + "\n")
    except OSError as error:
        logger.error(f"{path}: the report cannot be written: {error.strerror}")
        return False
    return True
