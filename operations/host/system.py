"""Packages, files and kernel settings of a host."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from io import BytesIO, StringIO

from pyinfra.api.command import PyinfraCommand, QuoteString, StringCommand
from pyinfra.context import ctx_state
from pyinfra.operations import apt, files, server

from cascade.planning.diff import Change
from cascade.planning.resource import Fields
from operations.run import Run

Commands = Iterator[PyinfraCommand]
_FRESH = ".cascade-new"


def install(changes: tuple[Change, ...]) -> Commands:
    """All missing packages at once, from fresh package lists; never in place of the owner's."""
    yield from apt.update._inner()
    yield from apt.packages._inner(
        packages=[change.key.name for change in changes],
        no_recommends=True,
        extra_install_args="--no-remove",
    )


def write_file(changes: tuple[Change, ...]) -> Commands:
    """Files as they are wanted, and without those that nobody reads any more."""
    for change in changes:
        path, wanted = change.key.name, change.desired
        if change.action == "remove":
            yield StringCommand("rm", "-f", "--", QuoteString(path))
        elif "config" in wanted:
            yield from _write_config(path, wanted)
        else:
            yield from _replace(path, wanted)


def _replace(path: str, wanted: Fields) -> Commands:
    """Beside its place first, then moved there: nobody ever sees half of it."""
    beside = f"{path}{_FRESH}"
    yield from files.put._inner(
        src=StringIO(wanted["content"]),
        dest=beside,
        user=wanted["owner"],
        group=wanted["group"],
        mode=wanted["mode"],
    )
    yield StringCommand("mv", "-T", QuoteString(beside), QuoteString(path))


def _write_config(path: str, wanted: Fields) -> Commands:
    """In its place: a container goes on reading the file that it began with, whatever comes to its name."""
    run = Run.of(ctx_state.get())
    manager = run.fleet.manager.name
    data = wanted.get("data") or run.client(manager).inspect_config(wanted["config"])["Spec"]["Data"]
    beside = f"{path}{_FRESH}"
    yield from files.put._inner(src=BytesIO(base64.b64decode(data)), dest=beside, mode="600")
    yield StringCommand("cp", "-T", QuoteString(beside), QuoteString(path))
    owner = f"{wanted['owner']}:{wanted['group']}"
    yield StringCommand("chown", QuoteString(owner), QuoteString(path))
    yield StringCommand("chmod", QuoteString(wanted["mode"]), QuoteString(path))
    yield StringCommand("rm", QuoteString(beside))


def set_sysctl(changes: tuple[Change, ...]) -> Commands:
    """The running kernel's value; the file that survives a reboot is a resource of its own."""
    for change in changes:
        yield from server.sysctl._inner(key=change.key.name, value=change.desired["value"])
