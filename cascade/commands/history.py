"""`cascade history`: the releases that the manager keeps, and what differs between two of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
import docker.errors
import requests
from paramiko import SSHException

from cascade.commands.arguments import inventory_argument, json_option
from cascade.commands.failures import Failed, Lost
from cascade.commands.plan import show
from cascade.documents import HistoryDocument, ReleaseDiffDocument, json_of
from cascade.history_report import (
    history_document,
    history_lines,
    release_diff_document,
    release_diff_lines,
)
from cascade.planning.release import Kept, Release
from cascade.planning.target import Target
from operations.releases import kept_releases
from operations.run import WorkFailed
from operations.session import with_manager


@click.command()
@inventory_argument
@click.option("--diff", "pair", nargs=2, type=int, metavar="A B", help="What going from A to B changes.")
@json_option
def command(inventory: Path, pair: tuple[int, int] | None, as_json: bool) -> None:
    """Show the releases that can be gone back to, or what differs between two of them."""
    found, named = _read(inventory), str(inventory.absolute())
    if pair:
        diff = release_diff_document(named, *(_chosen(found, number) for number in pair))
        if as_json:
            click.echo(json_of(ReleaseDiffDocument, diff))
        else:
            show(release_diff_lines(diff))
        return
    document = history_document(named, found)
    if as_json:
        click.echo(json_of(HistoryDocument, document))
    else:
        show(history_lines(document))


def _read(inventory: Path) -> tuple[Kept, ...]:
    with with_manager(inventory) as (run, manager):
        try:
            return kept_releases(run, manager)
        except WorkFailed as failure:
            raise Failed(str(failure)) from failure
        except (docker.errors.DockerException, requests.RequestException) as error:
            said = getattr(error, "explanation", None) or error
            raise Failed(f"{manager.name}: its releases could not be read: {said}") from error
        except (SSHException, EOFError, OSError) as error:
            raise Lost(f"{manager.name}: the connection was lost: {error}; run it again") from error


def _chosen(found: Iterable[Kept], number: int) -> tuple[Release, Target]:
    """The release of this number; ends the command where there is none that can be read."""
    by_number = {kept.release.number: kept for kept in found}
    if number not in by_number:
        known = ", ".join(map(str, sorted(by_number))) or "none"
        raise Failed(f"no release {number} is kept; there are: {known}")
    chosen = by_number[number]
    if chosen.target is None:
        raise Failed(f"release {number} {chosen.problem}")
    return chosen.release, chosen.target
