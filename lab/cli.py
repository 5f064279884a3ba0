"""`cascade lab`: the test hosts on this machine."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from typing import ParamSpec

import click

from lab.errors import LabError
from lab.hosts import CHECKOUT, HostStatus, only_one, open_lab, statuses
from lab.progress import say_aloud
from lab.stand_in import stand_in_archive

P = ParamSpec("P")


def _one_clear_message(command: Callable[P, None]) -> Callable[P, None]:
    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except LabError as error:
            raise click.ClickException(str(error)) from error

    return guarded


@click.group()
def lab() -> None:
    """Two test hosts on this machine, mainpc and pc2."""


@lab.command()
@_one_clear_message
def up() -> None:
    """Make sure that both hosts run and answer over SSH."""
    with only_one(CHECKOUT):
        open_lab(say_aloud).up()
    stand_in_archive(CHECKOUT / ".lab", say_aloud)


@lab.command()
@_one_clear_message
def reset() -> None:
    """Make both hosts bare again; the image and downloaded packages are kept."""
    with only_one(CHECKOUT):
        open_lab(say_aloud).reset()


@lab.command()
@click.option("--all", "everything", is_flag=True, help="Remove the test hosts' image too.")
@_one_clear_message
def down(everything: bool) -> None:
    """Remove both hosts, their volumes and their network."""
    with only_one(CHECKOUT):
        open_lab(say_aloud).down(everything=everything)


@lab.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_one_clear_message
def status(as_json: bool) -> None:
    """Show both hosts; exit 2 unless both answer."""
    found = statuses(CHECKOUT)
    ready = all(host.answers for host in found)
    if as_json:
        click.echo(json.dumps({"ready": ready, "hosts": [asdict(host) for host in found]}))
    else:
        for host in found:
            click.echo(_line(host))
    sys.exit(0 if ready else 2)


def _line(host: HostStatus) -> str:
    foreign = host.checkout not in (None, str(CHECKOUT))
    answers = "answers" if host.answers else f"belongs to {host.checkout}" if foreign else "does not answer"
    return f"{host.name:8}{host.state:12}127.0.0.1:{host.ssh_port} {answers}; Swarm address {host.address}"
