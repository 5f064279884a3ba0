"""What the commands have in common: their arguments and options."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from cascade.model.quantities import parse_seconds

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")

inventory_argument = click.argument("inventory", type=click.Path(exists=True, dir_okay=False, path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
limit_option = click.option(
    "--limit",
    multiple=True,
    metavar="HOST",
    help="Only this host, or the hosts of this group of the inventory.",
)


def _fingerprint(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if FINGERPRINT.fullmatch(value) is None:
            raise click.BadParameter(f"{value} is not like SHA256:… of `ssh-keygen -l`, with 43 characters")
    return values


fingerprint_option = click.option(
    "--fingerprint",
    multiple=True,
    metavar="SHA256:…",
    callback=_fingerprint,
    help="Accept a new host key with this fingerprint, without asking; may be repeated.",
)


prune_option = click.option("--prune", is_flag=True, help="Remove what is no longer wanted, too.")
stand_ins_option = click.option(
    "--stand-ins", is_flag=True, help="The stand-in image in place of every other: a rehearsal."
)


reschedule_option = click.option(
    "--reschedule",
    is_flag=True,
    help="Decide anew which agents get the GPU that they can do without.",
)


restart_option = click.option(
    "--allow-docker-restart",
    is_flag=True,
    help="A restart of Docker may stop containers that are not Cascade's.",
)


def seconds(_ctx: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """A duration such as 90, 90s, 10m or 1h30m, for click's callback."""
    try:
        return None if value is None else parse_seconds(int(value) if value.isdecimal() else value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


lock_wait_option = click.option(
    "--lock-wait",
    metavar="SECONDS",
    callback=seconds,
    help="Wait so long, 90 or 10m, for somebody else who holds the lock.",
)


report_option = click.option(
    "--report",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=lambda _ctx, _option, path: str(path.absolute()) if path else None,
    help="Write down at the end, as JSON, what was done and what did not become healthy.",
)


def part_options(command: Decorated) -> Decorated:
    """The options that choose among the groups; they are fields of `Options`."""
    group = click.option("--group", multiple=True, metavar="GROUP", help="Only this group; may be repeated.")
    from_group = click.option("--from-group", metavar="GROUP", help="This group and those after it.")
    return group(from_group(command))


def chosen(options: Mapping[str, object]) -> dict[str, object]:
    """Those options that say something."""
    return {name: value for name, value in options.items() if value}
