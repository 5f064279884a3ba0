"""Questions on a terminal, in a process whose greenlets go on meanwhile."""

from __future__ import annotations

import sys

import click.termui
from gevent.socket import wait_read


def stay_alive_while_asking() -> None:
    """Lets the lock's heartbeat go on while pyinfra or click wait for an answer.

    Their plain `input` would hold up every greenlet until a person comes back.
    """
    # Only where its command line runs already: its import patches the standard library.
    import pyinfra_cli.cli

    pyinfra_cli.cli.input = _answer
    click.termui.visible_prompt_func = _answer


def _answer(prompt: str = "") -> str:
    sys.stdout.write(prompt)
    sys.stdout.flush()
    if sys.stdin.isatty():
        wait_read(sys.stdin.fileno())
    return input()
