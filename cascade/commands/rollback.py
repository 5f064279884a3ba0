"""`cascade rollback`: an earlier release, by the same plan, waves and gates."""

from __future__ import annotations

from pathlib import Path

import click

from cascade.commands.arguments import inventory_argument, lock_wait_option, report_option, restart_option
from cascade.commands.deployment import deploy_as_shown, refuse_without_terminal


@click.command()
@inventory_argument
@click.argument("release", default="previous", metavar="[RELEASE]")
@click.option("--yes", is_flag=True, help="Do not ask.")
@restart_option
@lock_wait_option
@report_option
def command(inventory: Path, release: str, yes: bool, **options: object) -> None:
    """Go back to RELEASE, a number of `cascade history`, or to the one before the last.

    Agents, configs, networks and host settings become what they were; agents that the release does not know
    are removed. What is reached is a release of its own.
    """
    refuse_without_terminal(yes)
    deploy_as_shown(inventory, (), {**options, "rollback": release}, "Go back?", yes)
