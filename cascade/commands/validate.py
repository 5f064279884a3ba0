"""`cascade validate`: every mistake of all files, before anything is connected."""

from __future__ import annotations

from pathlib import Path

import click

from cascade.commands.arguments import inventory_argument, json_option
from cascade.documents import ValidateDocument, json_of
from cascade.exit_codes import INVALID
from cascade.model.fleet import Fleet
from cascade.model.strict import InvalidFiles, Problem
from operations.session import examine


@click.command()
@inventory_argument
@json_option
def command(inventory: Path, as_json: bool) -> None:
    """Check all files and connect to nothing. Exit code 0: all is right; 64: every mistake is listed."""
    try:
        fleet = examine(inventory)
    except InvalidFiles as invalid:
        _say(invalid.problems, as_json)
        raise SystemExit(INVALID) from invalid
    if as_json:
        _say((), as_json)
    else:
        click.echo(f"{inventory}: valid: {_counts(fleet)}")


def _say(problems: tuple[Problem, ...], as_json: bool) -> None:
    if as_json:
        found = [problem.document() for problem in problems]
        click.echo(json_of(ValidateDocument, {"valid": not found, "problems": found}))
        return
    for problem in problems:
        click.echo(str(problem))


def _counts(fleet: Fleet) -> str:
    workloads = [workload for group in fleet.workloads.values() for workload in group]
    replicas = sum(workload.replicas for workload in workloads)
    counts = {"hosts": len(fleet.hosts), "groups": len(fleet.workloads), "agents": len(workloads)}
    return ", ".join(f"{count} {what}" for what, count in {**counts, "replicas": replicas}.items())
