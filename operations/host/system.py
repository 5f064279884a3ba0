"""Packages, files and kernel settings of a host."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO

from pyinfra.api.command import PyinfraCommand, QuoteString, StringCommand
from pyinfra.operations import apt, files, server

from cascade.planning.diff import Change

Commands = Iterator[PyinfraCommand]


def install(changes: tuple[Change, ...]) -> Commands:
    """All missing packages at once, from fresh package lists; never in place of the owner's."""
    yield from apt.update._inner()
    yield from apt.packages._inner(
        packages=[change.key.name for change in changes],
        no_recommends=True,
        extra_install_args="--no-remove",
    )


def write_file(changes: tuple[Change, ...]) -> Commands:
    """Each file beside its place first, then moved there: nobody ever sees half of it."""
    for change in changes:
        path, wanted = change.key.name, change.desired
        beside = f"{path}.cascade-new"
        yield from files.put._inner(
            src=StringIO(wanted["content"]),
            dest=beside,
            user=wanted["owner"],
            group=wanted["group"],
            mode=wanted["mode"],
        )
        yield StringCommand("mv", "-T", QuoteString(beside), QuoteString(path))


def set_sysctl(changes: tuple[Change, ...]) -> Commands:
    """The running kernel's value; the file that survives a reboot is a resource of its own."""
    for change in changes:
        yield from server.sysctl._inner(key=change.key.name, value=change.desired["value"])
