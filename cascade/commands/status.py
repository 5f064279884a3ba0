"""`cascade status`: how every agent stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import click

from cascade.commands.arguments import (
    chosen,
    inventory_argument,
    json_option,
    limit_option,
    part_options,
    stand_ins_option,
)
from cascade.documents import StatusDocument, json_of
from cascade.exit_codes import ATTENTION, ERROR, UNREACHABLE
from cascade.planning.gpu import vram_of
from cascade.report import Document, status_document, status_table
from operations.look import files_as_read
from operations.session import disconnected, load
from operations.survey import survey


@click.command()
@inventory_argument
@json_option
@limit_option
@part_options
@stand_ins_option
def command(inventory: Path, as_json: bool, limit: Iterable[str], **part: object) -> None:
    """Show how every agent stands.

    Exit code 0: all healthy; 2: an agent is down; 1: something is unknown; 6: a host is unreachable.
    """
    run = load(inventory, limit, chosen(part))
    run.refuse_without_manager(run.chosen_hosts)
    with disconnected(run):
        seen = survey(run)
        assert seen.look
        target = files_as_read(run, seen.look.snapshots)
        plan = run.plan_of(replace(seen.look, target=target))
    gpus = vram_of(target.wanted, target.manager, seen.look.snapshots)
    document = status_document(run.fleet, plan.agents, plan.unknown, gpus)
    if as_json:
        click.echo(json_of(StatusDocument, document))
    else:
        status_table(document)
        for note in plan.unconfined_notes:
            click.echo(note)
    if code := _exit_code(document, seen.unreachable):
        raise SystemExit(code)


def _exit_code(document: Document, unreachable: bool) -> int:
    """6 before 1 before 2."""
    if unreachable:
        return UNREACHABLE
    if document["unknown"]:
        return ERROR
    return 0 if document["healthy"] else ATTENTION
