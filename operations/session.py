"""A fleet's connections for a command of `cascade`, made the way pyinfra makes its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pyinfra_cli  # noqa: F401 - its import patches the standard library for gevent, before all else
from pyinfra.api.config import Config
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.output import set_echo, set_formatter
from pyinfra.api.state import State, StateStage
from pyinfra.context import ctx_config, ctx_inventory, ctx_state
from pyinfra_cli.inventory import make_inventory
from pyinfra_cli.log import setup_logging

from operations.run import INVALID, UNREACHABLE, Run


@contextmanager
def session(inventory: Path) -> Iterator[Run]:
    """Connects to every host of an inventory file, for reading.

    Ends the process with 64 when files are wrong and with 6 when a host is unreachable.
    """
    set_formatter(click.style)
    set_echo(click.echo)
    setup_logging(logging.WARNING)
    os.environ["PYINFRA_PROGRESS"] = "off"
    state, config = State(check_for_changes=True), Config()
    state.cwd = str(Path.cwd())
    config.FAIL_PERCENT = 0
    ctx_state.set(state)
    ctx_config.set(config)
    run = Run(state)
    try:
        hosts = run.load(make_inventory, str(inventory), cwd=state.cwd)
    except click.ClickException as error:
        error.show()
        raise SystemExit(INVALID) from error
    ctx_inventory.set(hosts)
    state.init(hosts, config)
    run.join()
    state.set_stage(StateStage.Connect)
    try:
        connect_all(state)
    except PyinfraError as error:
        raise SystemExit(UNREACHABLE) from error
    state.set_stage(StateStage.Prepare)
    try:
        yield run
    finally:
        disconnect_all(state)
