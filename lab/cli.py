"""`cascade lab`: the test hosts on this machine."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from typing import ParamSpec

import click

from lab.errors import LabError
from lab.gpu import stand_in_gpus
from lab.hosts import CHECKOUT, HOSTS, HostStatus, host_named, only_one, open_lab, statuses
from lab.progress import say_aloud
from lab.stand_in import stand_in_archive
from lab.vm import VIRTUAL_HOSTS, VmLab

P = ParamSpec("P")


def _one_clear_message(command: Callable[P, None]) -> Callable[P, None]:
    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except LabError as error:
            raise click.ClickException(str(error)) from error

    return guarded


_vm = click.option("--vm", is_flag=True, help="The virtual machines in place of the containers.")
_one_host = click.argument("name", type=click.Choice([host.name for host in HOSTS]))


@click.group()
def lab() -> None:
    """Two test hosts on this machine, mainpc and pc2: containers, or virtual machines."""


@lab.command()
@_vm
@_one_clear_message
def up(vm: bool) -> None:
    """Make sure that both hosts run and answer over SSH."""
    with only_one(CHECKOUT):
        (VmLab(say_aloud) if vm else open_lab(say_aloud)).up()
    stand_in_archive(CHECKOUT / ".lab", say_aloud)
    stand_in_gpus(CHECKOUT / ".lab", say_aloud)


@lab.command()
@_vm
@_one_clear_message
def reset(vm: bool) -> None:
    """Make both hosts bare again; the image and downloaded packages are kept."""
    with only_one(CHECKOUT):
        (VmLab(say_aloud) if vm else open_lab(say_aloud)).reset()


@lab.command()
@_one_host
@_vm
@_one_clear_message
def reboot(name: str, vm: bool) -> None:
    """Reboot one host, and wait until it answers again."""
    with only_one(CHECKOUT):
        if vm:
            VmLab(say_aloud).reboot(next(host for host in VIRTUAL_HOSTS if host.name == name))
        else:
            open_lab(say_aloud).reboot(host_named(name))


@lab.command()
@click.option("--all", "everything", is_flag=True, help="Remove the test hosts' image too.")
@_vm
@_one_clear_message
def down(everything: bool, vm: bool) -> None:
    """Remove both hosts, their volumes and their network."""
    with only_one(CHECKOUT):
        (VmLab(say_aloud) if vm else open_lab(say_aloud)).down(everything=everything)


@lab.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_vm
@_one_clear_message
def status(as_json: bool, vm: bool) -> None:
    """Show both hosts; exit 2 unless both answer."""
    found = VmLab(say_aloud).status() if vm else statuses(CHECKOUT)
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
