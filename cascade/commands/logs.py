"""`cascade logs`: what an agent wrote."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import click
import docker.errors
import requests
from paramiko import SSHException
from urllib3.exceptions import HTTPError

from cascade.commands.arguments import inventory_argument
from cascade.commands.failures import Failed, Lost
from cascade.model.agent import kebab_case
from cascade.model.fleet import Fleet
from cascade.model.workload import Workload
from cascade.planning.waves import member_of
from operations.session import connected, load
from operations.swarm.logs import log_lines


@click.command()
@inventory_argument
@click.argument("agent")
@click.option("-f", "--follow", is_flag=True, help="Go on with each line as it comes, until interrupted.")
@click.option(
    "-n", "--tail", default=100, show_default=True, type=click.IntRange(0), help="Begin with so many lines."
)
def command(inventory: Path, agent: str, follow: bool, tail: int) -> None:
    """Show the log of an agent, of all its replicas: AGENT, GROUP/AGENT or the service's name."""
    run = load(inventory, check_images=False)
    workload = the_one_named(run.fleet, agent)
    key = member_of(run.fleet, workload).key
    where = key.host
    run.state.limit_hosts = [run.state.inventory.get_host(where)]
    with connected(run):
        try:
            for line in log_lines(run, key, tail=tail, follow=follow):
                click.echo(line)
        except docker.errors.NotFound:
            raise Failed(
                f"{where}: {workload.name} does not run there: deploy it, or see `cascade status`"
            ) from None
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise Failed(f"{where}: the log could not be read: {error}") from error
        except (HTTPError, SSHException, EOFError, OSError) as error:
            raise Lost(f"{where}: the connection was lost: {error}; run it again to go on") from error
        except KeyboardInterrupt:
            return


def the_one_named(fleet: Fleet, name: str) -> Workload:
    """The workload that goes by this name; raises click.UsageError with the names that come near."""
    workloads = [workload for found in fleet.all_workloads.values() for workload in found]
    fitting = [workload for workload in workloads if name.lower() in _names(workload)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        choices = ", ".join(f"{workload.group}/{workload.agent}" for workload in fitting)
        raise click.UsageError(f"{name} could be {choices}")
    known = {known for workload in workloads for known in (workload.agent, workload.name)}
    alike = [one for one in sorted(known) if name.lower() in one.lower()]
    near = ", ".join(alike[:3] or get_close_matches(name, known, n=3))
    raise click.UsageError(
        f"no agent is called {name}; {f'is it {near}?' if near else 'see `cascade status`'}"
    )


def _names(workload: Workload) -> set[str]:
    agent = workload.agent.lower()
    return {agent, kebab_case(workload.agent), f"{workload.group}/{agent}", workload.name}
