"""From a command to its deployment: the plan is shown, consent is asked for, and pyinfra carries it out."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import click

from cascade.commands.plan import Planned, is_stopped, make, saved_options, show
from cascade.exit_codes import ATTENTION
from cascade.plan_report import plan_lines
from cascade.planning.plan_file import saved, written
from operations.report import reported


def pyinfra_argv(inventory: Path, limit: Iterable[str], options: Mapping[str, object]) -> list[str]:
    """The command line of a deployment that does not ask."""
    return [sys.executable, "-m", "pyinfra", "-y", *_said(limit, options), str(inventory), "deploy.py"]


def _said(limit: Iterable[str], options: Mapping[str, object]) -> Iterator[str]:
    for host in limit:
        yield from ("--limit", host)
    for name, value in options.items():
        if value not in (None, False, ()):
            said = ",".join(map(str, value)) if isinstance(value, (tuple, list)) else value
            yield from ("--data", f"{name}={said}")


def deploy(inventory: Path, limit: Iterable[str], options: Mapping[str, object]) -> NoReturn:
    """Becomes pyinfra, which deploys without a question; ends with its exit code."""
    argv = pyinfra_argv(inventory, limit, options)
    sys.stdout.flush()
    os.execv(argv[0], argv)  # noqa: S606 - no shell, and nothing to quote


def refuse_without_terminal(yes: bool) -> None:
    """Raises click.UsageError where a question could not be answered."""
    if not (yes or sys.stdin.isatty()):
        raise click.UsageError("there is no terminal to ask on: add --yes; `cascade plan` only looks")


def deploy_as_shown(
    inventory: Path, limit: tuple[str, ...], options: Mapping[str, object], question: str, yes: bool
) -> NoReturn:
    """Shows the plan and carries out exactly that; nothing where it is refused, or where a person says no."""
    with reported(options.get("report"), inventory, "rollback" if options.get("rollback") else "deploy"):
        planned = make(inventory, limit, options)
        document = planned.document
        show(plan_lines(document))
        if is_stopped(document) or not any(planned.plan.steps.values()):
            raise SystemExit(document.exit_code)
        if not (yes or _agreed(question)):
            raise SystemExit(ATTENTION)
    plan_file = _handed_over(planned, limit, options)
    deploy(inventory, limit, {**options, "plan_file": plan_file})


def _agreed(question: str) -> bool:
    try:
        return click.confirm(question)
    except click.Abort:
        click.echo()
        return False


def _handed_over(planned: Planned, limit: tuple[str, ...], options: Mapping[str, object]) -> str:
    """The plan in a file without a name, which only the process that this one becomes can open."""
    text = written(saved(planned.document.inventory, saved_options(limit, options), planned.plan))
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.flush()
        file.seek(0)
        handed_over = os.dup(file.fileno())
    os.set_inheritable(handed_over, True)
    return f"/dev/fd/{handed_over}"
