"""`cascade status`: how every agent stands."""

from __future__ import annotations

import json
from collections.abc import Iterable
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
from cascade.exit_codes import ATTENTION
from cascade.report import status_document, status_table
from operations.look import look
from operations.session import session


@click.command()
@inventory_argument
@json_option
@limit_option
@part_options
@stand_ins_option
def command(inventory: Path, as_json: bool, limit: Iterable[str], **part: object) -> None:
    """Show how every agent stands. Exit code 0: all healthy; 2: an agent is down."""
    with session(inventory, limit, chosen(part)) as run:
        seen = look(run)
        run.refuse_without_manager(seen.snapshots)
        plan = run.plan_of(seen)
        run.refuse(plan.unknown)
    document = status_document(run.fleet, plan.agents)
    if as_json:
        click.echo(json.dumps(document))
    else:
        status_table(document)
    if not document["healthy"]:
        raise SystemExit(ATTENTION)
