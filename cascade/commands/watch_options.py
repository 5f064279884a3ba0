"""The options of a check that a timer makes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any

import click

from cascade.watch.units import Scope, seconds_of

EVERY = "15m"
Command = Callable[..., None]


@dataclass(frozen=True)
class WatchOptions:
    """What a person, or the unit, asks of a check that a timer makes."""

    install: bool = False
    uninstall: bool = False
    every: str | None = None
    scope: Scope | None = None
    publish: Path | None = None
    metrics: Path | None = None

    def refuse_nonsense(self, as_json: bool, repair: bool) -> None:
        """Raises click.UsageError for options that do not go together."""
        if sum([self.install, self.uninstall, self.publish is not None]) > 1:
            raise click.UsageError("give one of --install, --uninstall and --publish")
        if (self.install or self.uninstall) and (as_json or repair):
            raise click.UsageError("--install and --uninstall go without --json and --repair")
        if self.publish and repair:
            raise click.UsageError("--publish is for a check alone: give it without --repair")
        if not self.install and (self.every or (self.scope and not self.uninstall)):
            raise click.UsageError("--every, --system and --user are for --install")
        if self.metrics and not (self.install or self.publish):
            raise click.UsageError("--metrics goes with --install or --publish")
        if self.scope == "system" and os.geteuid() != 0:
            raise click.UsageError("--system needs root: run it with sudo, or give --user")

    @property
    def chosen_scope(self) -> Scope:
        """Root's watches are the machine's, everybody else's are their own."""
        return self.scope or ("system" if os.geteuid() == 0 else "user")


def _every(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    try:
        if value is not None:
            seconds_of(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


def watch_options(command: Command) -> Command:
    """The options of a check that a timer makes; the command gets them as one, `watch`."""
    folder = click.Path(file_okay=False, path_type=Path)
    options = (
        click.option("--install", is_flag=True, help="Have systemd make this check by a timer."),
        click.option("--uninstall", is_flag=True, help="Take the timer away, with its results."),
        click.option("--every", callback=_every, metavar="TIME", help=f"With --install: {EVERY}, 2h, 1d …"),
        click.option("--system", "scope", flag_value="system", help="The machine's systemd: root's default."),
        click.option("--user", "scope", flag_value="user", help="The systemd of one user."),
        click.option(
            "--publish", type=folder, metavar="DIR", help="Leave the result here: what a timer runs."
        ),
        click.option("--metrics", type=folder, metavar="DIR", help="Leave metrics for Prometheus here."),
    )
    names = [field.name for field in fields(WatchOptions)]

    @wraps(command)
    def together(*args: Any, **values: Any) -> None:
        watch = WatchOptions(**{name: values.pop(name) for name in names})
        command(*args, watch=watch, **values)

    for option in reversed(options):
        together = option(together)
    return together
