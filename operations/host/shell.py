"""Commands on a host, as root."""

from __future__ import annotations

from pyinfra.api.command import StringCommand
from pyinfra.api.host import Host

from operations.run import WorkFailed

PATIENCE_S = 90.0


def shell(host: Host, command: str, stdin: str = "") -> str:
    """Runs a command as root; raises WorkFailed with what it printed when it fails.

    What it reads on standard input, a newline added, shows in no process list and no journal.
    """
    done, output = host.run_shell_command(
        StringCommand(command), _sudo=True, _timeout=PATIENCE_S, _stdin=stdin
    )
    if not done:
        raise WorkFailed(f"{command}: {output.output or 'no output'}")
    return str(output.stdout)


def succeeds(host: Host, command: str) -> bool:
    """Whether a command that only asks says yes."""
    done, _ = host.run_shell_command(StringCommand(command), _sudo=True, _timeout=PATIENCE_S)
    return bool(done)
