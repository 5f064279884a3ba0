"""A line that a person types unseen on the terminal at standard input."""

from __future__ import annotations

import os
import select
import sys
import termios

import click

from cascade.commands.failures import Mistake

# The kernel cuts longer lines without a word.
_LONGEST = 4094
_QUIET_S = 0.3
# Where more than a line has come, the slowest paste is waited for.
_QUIET_AFTER_MORE_S = 1.0
_ELSE = "use --file or standard input"


def hidden_line(question: str) -> bytes:
    """The line that answers a question; raises Mistake for one that was cut, and for more than one.

    The rest of a paste is taken off the terminal: the shell would show and keep it.
    """
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        _change(terminal, termios.ECHO, termios.TCSAFLUSH)
        click.echo(f"{question}: ", nl=False, err=True)
        line = os.read(terminal, 2 * _LONGEST)
        more = _drained(terminal)
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
        click.echo(err=True)
    if not line:
        raise click.Abort
    if more:
        raise Mistake(f"more than one line came: {_ELSE}")
    if len(value := line.removesuffix(b"\n")) > _LONGEST:
        raise Mistake(f"the line has more than the {_LONGEST} bytes that a terminal takes: {_ELSE}")
    return value


def _drained(terminal: int) -> bool:
    """Takes what comes until nothing does; whether something did."""
    # A last line without an end can be read like this only.
    _change(terminal, termios.ECHO | termios.ICANON, termios.TCSANOW)
    more = False
    while select.select([terminal], [], [], _QUIET_AFTER_MORE_S if more else _QUIET_S)[0]:
        if not os.read(terminal, 65536):
            break
        more = True
    return more


def _change(terminal: int, off: int, when: int) -> None:
    state = termios.tcgetattr(terminal)
    state[3] &= ~off
    termios.tcsetattr(terminal, when, state)
