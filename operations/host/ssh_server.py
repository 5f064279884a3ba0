"""SSH settings of a host: the old way in is closed when a new connection has proven the new one."""

from __future__ import annotations

import shlex

from pyinfra.api.command import StringCommand
from pyinfra.api.exceptions import ConnectError
from pyinfra.api.host import Host

from cascade.planning.diff import Change
from operations.failed import WorkFailed
from operations.host.exchange import Exchange
from operations.host.shell import shell, succeeds
from operations.run import Run
from operations.ssh import CONNECTION_LOST

REVERT_UNIT = "cascade-ssh-revert"
# Long enough for a connection on a slow line, short enough to wait for at a closed door.
REVERT_S = 60
# A reload returns before the server has read anything, and a new connection would prove its old settings, or
# meet nobody. Connections that are open stay open.
_RESTART = "systemctl restart ssh.service"
# What the server would do, whatever other files of it say.
_CLOSED = ("permitrootlogin no", "passwordauthentication no", "kbdinteractiveauthentication no")


def harden_ssh(_run: Run, host: Host, change: Change) -> None:
    """Writes the server's settings; whatever goes wrong, the host goes back to the old ones by itself."""
    exchange = Exchange(host, change)
    if _armed(host):
        # An earlier run ended in the middle: what it left was not proven.
        _go_back(host, exchange)
    exchange.keep()
    _arm(host, exchange)
    try:
        exchange.write()
        _check(host)
        shell(host, _RESTART)
        _prove(host)
        if not _armed(host):
            raise WorkFailed(f"a new connection took longer than {REVERT_S} s, so the host went back")
    except WorkFailed as failure:
        # Who has gone back by himself has nothing left to go back to.
        if _armed(host):
            _go_back(host, exchange)
        said = f"{failure}; {change.key.name} and the way in are as they were before"
        raise WorkFailed(said) from failure
    _disarm(host)
    exchange.settle()


def _arm(host: Host, exchange: Exchange) -> None:
    """The host itself goes back when nobody calls it off, for who is locked out cannot."""
    back = shlex.quote(f"{exchange.going_back}; {_RESTART}")
    timer = f"--unit={REVERT_UNIT} --collect --on-active={REVERT_S} --timer-property=AccuracySec=100ms"
    shell(host, f"systemd-run --quiet {timer} sh -c {back}")


def _armed(host: Host) -> bool:
    return succeeds(host, f"systemctl is-active --quiet {REVERT_UNIT}.timer")


def _disarm(host: Host) -> None:
    if _armed(host):
        shell(host, f"systemctl stop {REVERT_UNIT}.timer")


def _go_back(host: Host, exchange: Exchange) -> None:
    shell(host, f"{exchange.going_back} && {_RESTART}")
    _disarm(host)


def _check(host: Host) -> None:
    """The server takes its settings, and they are what it goes by; raises WorkFailed."""
    said = shell(host, "sshd -t && sshd -T").splitlines()
    if other := [line for line in _CLOSED if line not in said]:
        raise WorkFailed(
            f"the SSH server would not go by it ({', '.join(other)}): does /etc/ssh/sshd_config include"
            " sshd_config.d/*.conf before all else?"
        )


def _prove(host: Host) -> None:
    """Raises WorkFailed unless a connection of its own gets in, as this run did, and may be root."""
    connector = type(host.connector)(host.state, host)
    try:
        connector.connect()
        done, output = connector.run_shell_command(StringCommand("true"), False, False, _sudo=True)
    except (ConnectError, *CONNECTION_LOST) as error:
        raise WorkFailed(f"a new connection does not get in: {error}") from error
    finally:
        connector.disconnect()
    if not done:
        raise WorkFailed(f"a new connection may not use sudo: {output.output}")
