"""An inventory and its connections for a command of `cascade`, made the way pyinfra makes its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pyinfra_cli  # noqa: F401 - its import patches the standard library for gevent, before all else
from pyinfra.api.config import Config
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host
from pyinfra.api.output import set_echo, set_formatter
from pyinfra.api.state import State, StateStage
from pyinfra.context import ctx_config, ctx_inventory, ctx_state
from pyinfra_cli.cli import _apply_inventory_limit
from pyinfra_cli.inventory import make_inventory
from pyinfra_cli.log import setup_logging

from cascade.exit_codes import INVALID, UNREACHABLE
from cascade.model.fleet import Fleet
from operations.fleet import Secrets
from operations.run import Run


def load(
    inventory: Path,
    limit: Iterable[str] = (),
    data: Mapping[str, Any] | None = None,
    check_images: bool = True,
    secrets: Secrets = "named",
) -> Run:
    """A run of an inventory file whose files have been checked; nothing is connected.

    `limit` names hosts or groups of the inventory; `data` wins over everything in the files.
    Without `check_images` its images need not be pinned or built yet. Whoever compares the hosts with the
    files needs the `secrets` open.
    Ends the process with 64 when the files are wrong.
    """
    run, config = _begin()
    run.check_images, run.secrets = check_images, secrets
    state = run.state
    try:
        hosts = run.load(make_inventory, str(inventory), cwd=state.cwd, override_data=dict(data or {}))
        limited = _apply_inventory_limit(hosts, list(limit))
    except click.ClickException as error:
        error.show()
        raise SystemExit(INVALID) from error
    ctx_inventory.set(hosts)
    state.init(hosts, config, initial_limit=limited)
    run.join()
    return run


def examine(inventory: Path) -> Fleet:
    """The fleet of an inventory file; raises InvalidFiles with every problem of all files."""
    run, _ = _begin()
    run.secrets = "there"
    run.read(make_inventory, str(inventory), cwd=run.state.cwd)
    return run.fleet


def _begin() -> tuple[Run, Config]:
    set_formatter(click.style)
    set_echo(click.echo)
    setup_logging(logging.WARNING)
    os.environ["PYINFRA_PROGRESS"] = "off"
    state, config = State(check_for_changes=True), Config()
    state.cwd = str(Path.cwd())
    config.FAIL_PERCENT = 0
    ctx_state.set(state)
    ctx_config.set(config)
    return Run(state), config


@contextmanager
def connected(run: Run) -> Iterator[Run]:
    """Connects a loaded run to its hosts; ends the process with 6 when one is unreachable."""
    run.state.set_stage(StateStage.Connect)
    try:
        connect_all(run.state)
    except PyinfraError as error:
        raise SystemExit(UNREACHABLE) from error
    with disconnected(run):
        yield run


@contextmanager
def disconnected(run: Run) -> Iterator[None]:
    """Lets a run ask its hosts, and disconnects them afterwards, however it ends."""
    run.state.set_stage(StateStage.Prepare)
    try:
        yield
    finally:
        disconnect_all(run.state)


@contextmanager
def with_manager(inventory: Path) -> Iterator[tuple[Run, Host]]:
    """A run connected to the manager alone, whatever the images and the other hosts are like."""
    run = load(inventory, check_images=False)
    manager = run.state.inventory.get_host(run.fleet.manager.name)
    run.state.limit_hosts = [manager]
    with connected(run):
        yield run, manager


@contextmanager
def session(
    inventory: Path, limit: Iterable[str] = (), data: Mapping[str, Any] | None = None
) -> Iterator[Run]:
    """A loaded and connected run."""
    with connected(load(inventory, limit, data)) as run:
        yield run
