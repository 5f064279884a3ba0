"""What the commands have in common: their arguments, options and exit codes."""

from __future__ import annotations

from pathlib import Path

import click

ERROR, ATTENTION, USAGE = 1, 2, 64

inventory_argument = click.argument("inventory", type=click.Path(exists=True, dir_okay=False, path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
limit_option = click.option(
    "--limit",
    multiple=True,
    metavar="HOST",
    help="Only this host, or the hosts of this group of the inventory.",
)
