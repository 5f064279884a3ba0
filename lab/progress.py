"""Telling a person what happens now, and how long it took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

import click

Say = Callable[[str], None]


_ONE_AT_A_TIME = Lock()


def say_aloud(line: str) -> None:
    """Print a line at once, also in a pipe, and whole, also when both hosts speak."""
    with _ONE_AT_A_TIME:
        click.echo(line)


@contextmanager
def step(say: Say, what: str) -> Iterator[None]:
    """Say what begins, and when it has ended how many seconds it took."""
    say(f"{what} …")
    begin = time.monotonic()
    yield
    say(f"{what}: done in {time.monotonic() - begin:.1f} s")
