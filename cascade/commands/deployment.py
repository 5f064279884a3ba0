"""The way from a command to its deployment, which is pyinfra's."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import click


def pyinfra_argv(
    inventory: Path, limit: Iterable[str] = (), options: Mapping[str, object] | None = None
) -> list[str]:
    """The command line of a deployment that does not ask."""
    return [sys.executable, "-m", "pyinfra", "-y", *_said(limit, options or {}), str(inventory), "deploy.py"]


def deploy(inventory: Path, limit: Iterable[str], options: Mapping[str, object]) -> NoReturn:
    """Becomes pyinfra, which deploys without a question; ends with its exit code."""
    argv = pyinfra_argv(inventory, limit, options)
    sys.stdout.flush()
    os.execv(argv[0], argv)  # noqa: S606 - no shell, and nothing to quote


def _said(limit: Iterable[str], options: Mapping[str, object]) -> Iterator[str]:
    for host in limit:
        yield from ("--limit", host)
    for name, value in options.items():
        if value not in (None, False, ()):
            said = ",".join(map(str, value)) if isinstance(value, (tuple, list)) else value
            yield from ("--data", f"{name}={said}")


def refuse_without_terminal(yes: bool) -> None:
    """Raises click.UsageError where a question could not be answered."""
    if not (yes or sys.stdin.isatty()):
        raise click.UsageError("there is no terminal to ask on: add --yes; `cascade plan` only looks")
