"""`cascade down`: the system stops; its data and its cluster stay unless they are to go too."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import docker.errors
import requests
from paramiko import SSHException

from cascade.commands.arguments import (
    chosen,
    inventory_argument,
    limit_option,
    lock_wait_option,
    stand_ins_option,
)
from cascade.commands.failures import Failed, Lost
from cascade.model.strict import printable
from operations.down import Standing, purge, stop_agents, the_swarm_stays, what_stands
from operations.run import Run, WorkFailed
from operations.session import session


@click.command()
@inventory_argument
@limit_option
@click.option("--group", multiple=True, metavar="GROUP", help="Only this group; may be repeated.")
@click.option(
    "--purge", "purging", is_flag=True, help="Destroy volumes, networks and the Swarm too. Asks twice."
)
@stand_ins_option
@lock_wait_option
@click.option("--yes", is_flag=True, help="Do not ask whether to stop the agents.")
@click.option(
    "--confirm", metavar="SYSTEM", help="The system's name, in answer to the second question of --purge."
)
def command(
    inventory: Path,
    limit: Iterable[str],
    group: tuple[str, ...],
    purging: bool,
    stand_ins: bool,
    lock_wait: float | None,
    yes: bool,
    confirm: str | None,
) -> None:
    """Stop the agents, the last to start first. Volumes, networks and the Swarm stay."""
    if purging and (limit or group):
        raise click.UsageError("--purge is for the whole system: leave out --limit and --group")
    if not sys.stdin.isatty() and not (yes and (confirm or not purging)):
        raise click.UsageError("there is no terminal to ask on: add --yes, and --confirm SYSTEM with --purge")
    options = chosen({"group": group, "stand_ins": stand_ins, "lock_wait": lock_wait})
    with session(inventory, limit, options) as run:
        standing = what_stands(run)
        for line in _told(run, standing, purging):
            click.echo(printable(line))
        if not standing.agents and not purging:
            return
        _ask(run, purging, yes, confirm)
        try:
            with run.locked("down"):
                if what_stands(run) != standing:
                    raise WorkFailed("what stands has changed since it was shown, and nothing was done")
                for line in _done(run, standing, purging):
                    click.echo(printable(line))
        except (WorkFailed, docker.errors.DockerException, requests.RequestException) as error:
            raise Failed(f"{getattr(error, 'explanation', None) or error}; run it again to go on") from error
        except (SSHException, EOFError, OSError) as error:
            raise Lost(f"the connection was lost: {error}; run it again to go on") from error


def _told(run: Run, standing: Standing, purging: bool) -> Iterator[str]:
    for group, changes in standing.agents.items():
        yield f"- {group}: {len(changes)} agents"
    for name, hosts in standing.waiting.items():
        yield f"  {name} stays: {', '.join(hosts)} is left out by --limit"
    if not standing.agents:
        yield f"no agent of {run.fleet.settings.system} runs"
    if purging:
        yield from (f"- volume {name} on {host}, with all that is in it" for host, name in standing.volumes)
        yield from (f"- network {name}" for name in standing.networks)
        if standing.configs:
            yield f"- {len(standing.configs)} configs, the releases among them"
        if standing.secrets:
            yield f"- {len(standing.secrets)} secrets"
        yield from (f"- {path} on {host}" for host, path in standing.files)
        yield from (f"- the secret {place} on {host}" for host, place in standing.secret_files)
        swarm = f"- the Swarm of {', '.join(standing.members) or 'no host'}"
        yield f"  {the_swarm_stays(standing)}" if standing.others else swarm


def _ask(run: Run, purging: bool, yes: bool, confirm: str | None) -> None:
    """Ends the command unless every question is answered with what it asks for."""
    system = run.fleet.settings.system
    if not yes:
        click.confirm(f"Stop {system}?", abort=True)
    if purging:
        answer = confirm or click.prompt(f"Data cannot be brought back. Write {system} to destroy it")
        if answer != system:
            raise click.UsageError(f"{answer} is not {system}: nothing was done")


def _done(run: Run, standing: Standing, purging: bool) -> Iterator[str]:
    yield from stop_agents(run, standing)
    if purging:
        yield from purge(run, standing)
    else:
        yield "volumes, networks and the Swarm stay; deploy again to bring the agents back"
