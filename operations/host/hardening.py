"""Modes of the engine's files and sockets, and how much a host's journal may keep."""

from __future__ import annotations

import shlex

from pyinfra.api.host import Host

from cascade.planning.diff import Change
from operations.host.exchange import Exchange
from operations.host.shell import shell
from operations.run import Run, WorkFailed

_RESTART = "systemctl restart systemd-journald.service"


def set_permissions(_run: Run, host: Host, change: Change) -> None:
    """Gives a path its mode, owner and group."""
    path, wanted = shlex.quote(change.key.name), change.desired
    owner = shlex.quote(f"{wanted['owner']}:{wanted['group']}")
    shell(host, f"chown -- {owner} {path} && chmod -- {shlex.quote(wanted['mode'])} {path}")


def limit_journal(_run: Run, host: Host, change: Change) -> None:
    """Writes the journal's limits and has it read them; the old ones come back where it does not."""
    exchange = Exchange(host, change)
    exchange.keep()
    exchange.write()
    try:
        shell(host, _RESTART)
    except WorkFailed:
        shell(host, f"{exchange.going_back}; {_RESTART}")
        raise
    exchange.settle()
