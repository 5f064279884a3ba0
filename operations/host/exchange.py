"""A file that takes the place of another one, which is kept until somebody has read the new one."""

from __future__ import annotations

import shlex

from pyinfra.api.host import Host

from cascade.planning.diff import Change
from operations.host.files import written
from operations.host.shell import shell
from operations.run import WorkFailed


class Exchange:
    """One file as it is wanted, with the way back to what was there, if anything was."""

    def __init__(self, host: Host, change: Change) -> None:
        self._host, self._change = host, change
        self._path = shlex.quote(change.key.name)
        self._old = shlex.quote(f"{change.key.name}.cascade-old")

    @property
    def going_back(self) -> str:
        """The command that puts back what was there."""
        return f"if test -e {self._old}; then mv -T {self._old} {self._path}; else rm -f {self._path}; fi"

    def keep(self) -> None:
        """Keeps what is there beside it; without this there is no way back."""
        copying = f"{{ test ! -e {self._path} || cp -p {self._path} {self._old}; }}"
        shell(self._host, f"rm -f {self._old} && {copying}")

    def write(self) -> None:
        """Writes the file; raises WorkFailed."""
        wanted = self._change.desired
        owner = f"{wanted['owner']}:{wanted['group']}"
        command = written(self._change.key.name, wanted["content"].encode(), mode=wanted["mode"], owner=owner)
        done, output = self._host.run_shell_command(command, _sudo=True, **command.connector_arguments)
        if not done:
            raise WorkFailed(output.output or f"{self._change.key.name}: no output")

    def settle(self) -> None:
        """Forgets what was there before."""
        shell(self._host, f"rm -f {self._old}")
