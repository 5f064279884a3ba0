"""The command line: `cascade COMMAND INVENTORY`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from lab.cli import lab

ATTENTION, USAGE = 2, 64

# click's own 2 means attention here.
click.UsageError.exit_code = USAGE

Inventory = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def main() -> None:
    """From bare Linux machines to a healthy Docker Swarm of agents, in order, behind gates."""


@main.command()
@click.argument("inventory", type=Inventory)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def status(inventory: Path, as_json: bool) -> None:
    """Show how every agent stands. Exit code 0: all healthy; 2: an agent is down."""
    from cascade.report import status_document, status_table
    from operations.session import session

    with session(inventory) as run:
        plan = run.fresh_plan()
        run.refuse(plan.unknown)
    document = status_document(run.fleet, plan.agents)
    if as_json:
        click.echo(json.dumps(document))
    else:
        status_table(document)
    if not document["healthy"]:
        raise SystemExit(ATTENTION)


main.add_command(lab)
