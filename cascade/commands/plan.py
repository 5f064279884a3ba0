"""`cascade plan`: what a deployment would do, without doing it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from cascade.commands.arguments import (
    chosen,
    inventory_argument,
    json_option,
    limit_option,
    part_options,
    prune_option,
    reschedule_option,
    restart_option,
    stand_ins_option,
)
from cascade.commands.failures import Failed
from cascade.documents import PlanDocument, json_of
from cascade.exit_codes import ERROR, UNREACHABLE
from cascade.files import write_for_owner
from cascade.plan_report import plan_document, plan_lines
from cascade.planning.plan import Plan
from cascade.planning.plan_file import SavedOptions, saved, written
from operations.run import Run
from operations.session import disconnected, load
from operations.survey import survey

_COLOURS = {"+": "green", "~": "yellow", "-": "red", "-/+": "magenta"}


@dataclass(frozen=True)
class Planned:
    """A plan that was made of whatever could be read, and what there is to say of it."""

    run: Run
    plan: Plan
    document: PlanDocument


@click.command()
@inventory_argument
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Save the plan, for `cascade apply FILE`.",
)
@json_option
@limit_option
@part_options
@prune_option
@reschedule_option
@stand_ins_option
@restart_option
def command(
    inventory: Path, out: Path | None, as_json: bool, limit: tuple[str, ...], **options: object
) -> None:
    """Show what a deployment would change, and change nothing.

    Exit code 0: nothing to do; 2: changes; 1: something is unknown, or the plan would be refused; 6: a host
    is unreachable.
    """
    planned = make(inventory, limit, options)
    document = planned.document
    if as_json:
        click.echo(json_of(PlanDocument, document))
    else:
        show(plan_lines(document))
    if out:
        save(planned, out, saved_options(limit, options))
    if document.exit_code:
        raise SystemExit(document.exit_code)


def make(inventory: Path, limit: Iterable[str], options: Mapping[str, object]) -> Planned:
    """Reads the hosts and plans; ends the process where the files are wrong."""
    run = load(inventory, limit, chosen(options), secrets="open")
    with disconnected(run):
        seen = survey(run, run.fleet.options.rollback)
        if seen.look is None:
            run.fail(UNREACHABLE if seen.unreachable else ERROR, *map(str, seen.unknown))
        plan = run.plan_of(seen.look)
        findings = run.preflight(seen.look.snapshots, plan) if plan.changes else ()
    return Planned(run, plan, plan_document(plan, str(inventory.absolute()), findings, seen.unreachable))


def saved_options(limit: Iterable[str], options: Mapping[str, object]) -> SavedOptions:
    """Those of a command's options that a saved plan keeps."""
    kept = {name: value for name, value in options.items() if name in SavedOptions.model_fields}
    return SavedOptions.model_validate(kept | {"limit": tuple(limit)})


def save(planned: Planned, path: Path, options: SavedOptions) -> None:
    """Writes the plan file, which may hold secrets of the specs; one that could not be applied is none."""
    document = planned.document
    if is_stopped(document):
        click.echo(f"{path}: not written: such a plan cannot be carried out", err=True)
        return
    text = written(saved(document.inventory, options, planned.plan))
    try:
        write_for_owner(path, text)
    except OSError as error:
        raise Failed(f"{path} cannot be written: {error.strerror}") from error
    click.echo(f"saved: `cascade apply {path}` carries out exactly this", err=True)


def is_stopped(document: PlanDocument) -> bool:
    """Whether a deployment would end before it changes anything."""
    errors = any(found.level == "error" for found in document.findings)
    return bool(document.unknown or document.refused or errors)


def show(lines: Iterable[str]) -> None:
    """Prints the lines of a plan, on a terminal in colours, all at once."""
    click.echo("\n".join(_coloured(lines)))


def _coloured(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        sign = line.split(maxsplit=1)[0] if line.strip() else ""
        if not line.startswith(" "):
            yield click.style(line, bold=True)
        elif sign in _COLOURS:
            yield click.style(line, fg=_COLOURS[sign])
        else:
            yield line
