"""`cascade apply`: the plan, a question, the deployment. The work is pyinfra's."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from cascade.commands.arguments import (
    chosen,
    inventory_argument,
    limit_option,
    lock_wait_option,
    part_options,
    stand_ins_option,
)


@click.command()
@inventory_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@limit_option
@part_options
@stand_ins_option
@lock_wait_option
@click.option(
    "--allow-docker-restart",
    is_flag=True,
    help="A restart of Docker may stop containers that are not Cascade's.",
)
def command(inventory: Path, yes: bool, limit: Iterable[str], **options: object) -> None:
    """Show what would change, ask, and change it: `pyinfra INVENTORY deploy.py` in other words."""
    argv = ["pyinfra", *(["-y"] if yes else [])]
    for host in limit:
        argv += ["--limit", host]
    for name, value in chosen(options).items():
        said = ",".join(value) if isinstance(value, tuple) else value
        argv += ["--data", f"{name}={said}"]
    argv += [str(inventory), "deploy.py"]
    os.execv(sys.executable, [sys.executable, "-m", *argv])  # noqa: S606 - no shell, and nothing to quote
