"""Ends of a command that are told in one line, each with its exit code."""

from __future__ import annotations

import click

from cascade.exit_codes import ERROR, INVALID, UNREACHABLE


class Failed(click.ClickException):
    """A host's fault or a registry's."""

    exit_code = ERROR


class Lost(click.ClickException):
    """A host that hung up, or an engine in the middle of a line."""

    exit_code = UNREACHABLE


class Mistake(click.ClickException):
    """Something in a person's files or answers."""

    exit_code = INVALID
