"""`cascade render`: the specs that would be posted, and what becomes of each line of a Compose file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from cascade.commands.arguments import chosen, json_option
from cascade.documents import ExplanationDocument, RenderDocument, json_of
from cascade.exit_codes import INVALID
from cascade.model.strict import InvalidFiles
from cascade.planning.rendering import Explanation, explain, rendered
from operations.session import load

_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("inventory", type=_file, required=False)
@click.option("--file", "compose_file", type=_file, help="A Compose file; no inventory is needed.")
@click.option("--group", multiple=True, metavar="GROUP", help="Only this group; may be repeated.")
@json_option
def command(inventory: Path | None, compose_file: Path | None, group: Iterable[str], as_json: bool) -> None:
    """Print the Engine API's specs of an inventory's workloads, or what becomes of a Compose file.

    A YAML file in the inventory's place is a Compose file. Values that look like secrets are shown as ***.
    Exit code 0: everything is honoured; 64: something is refused.
    """
    if inventory and inventory.suffix in (".yaml", ".yml") and not compose_file:
        inventory, compose_file = None, inventory
    if bool(inventory) == bool(compose_file):
        raise click.UsageError("give an inventory or a Compose file")
    if inventory:
        specs = rendered(load(inventory, data=chosen({"group": tuple(group)})).fleet)
        click.echo(json_of(RenderDocument, specs) if as_json else _indented(specs))
        return
    if group:
        raise click.UsageError("--group chooses among an inventory's groups")
    assert compose_file
    _explain(compose_file, as_json)


def _explain(file: Path, as_json: bool) -> None:
    try:
        found = explain(file)
    except InvalidFiles as invalid:
        click.echo(invalid, err=True)
        raise SystemExit(INVALID) from invalid
    if as_json:
        click.echo(json_of(ExplanationDocument, found.document()))
    else:
        _print(found)
    if found.refused:
        raise SystemExit(INVALID)


def _print(found: Explanation) -> None:
    console = Console(highlight=False, markup=False)
    table = Table(box=None, pad_edge=False)
    for name in ("line", "what", "becomes"):
        table.add_column(name, overflow="fold")
    for line in found.lines:
        text = f"refused: {line.text}; {line.fix}" if line.becomes == "refused" else line.text
        table.add_row(str(line.line), line.path, text, style="red" if line.becomes == "refused" else None)
    console.print(table)
    for problem in found.problems:
        console.print(f"{problem.path}: {problem.reason}; {problem.fix}", style="red")
    console.print(", ".join(f"{count} {kind}" for kind, count in found.counts().items()))
    for name, values in found.needs.items():
        console.print(f"group_data must have under {name}: {', '.join(values)}")
    if found.workloads:
        click.echo(_indented(found.workloads))


def _indented(specs: Any) -> str:
    return json.dumps(specs, indent=2, sort_keys=True)
