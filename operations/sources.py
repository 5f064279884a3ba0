"""Which file gave a value, by pyinfra's precedence, and where one that is missing belongs."""

from __future__ import annotations

import re
from dataclasses import replace

from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory

from cascade.model.networks import SETTINGS
from cascade.model.strict import Problem
from cascade.model.wording import line_for
from operations.python_files import PythonFiles

EVERYBODYS = "group_data/all.py"
COMMAND_LINE = "--data"
_OF_ONE_HOST = ("swarm_role", "node_labels", "reservation_scale", "absent")
_OF_THE_INVENTORY = ("swarm_address", "name")


class Sources:
    """Where the values of an inventory come from."""

    def __init__(self, inventory: Inventory, files: PythonFiles | None = None) -> None:
        self._inventory = inventory
        self._files = files
        self.inventory_file = files.inventory if files else "inventory"

    def located(self, problem: Problem) -> Problem:
        """The problem with its real file; until now it says `group_data`, or `inventory`."""
        if problem.file == "inventory":
            return replace(problem, file=self.inventory_file)
        if problem.file != SETTINGS:
            return problem
        host, path = self._host_and_path(problem.path)
        name = re.split(r"[.\[]", path, maxsplit=1)[0]
        file = self._defining(host, name)
        if file is None:
            file = self._belongs(host, name)
        prefix = f"{host.name}." if host and file == self.inventory_file else ""
        fix = problem.fix
        if problem.reason == "is missing" and prefix and path == name:
            key, _, example = line_for(name).partition(" = ")
            fix = f'add "{key}": {example} to the data of {host}'
        return Problem(file, prefix + path, problem.reason, fix)

    def file_defining(self, host: str, name: str) -> str | None:
        """The file that gives a host this value; None where none does."""
        return self._defining(self._inventory.get_host(host), name)

    def _host_and_path(self, path: str) -> tuple[Host | None, str]:
        """A path that begins with a host's name is about that host."""
        for name in sorted(self._inventory.hosts, key=len, reverse=True):
            if path.startswith(f"{name}."):
                return self._inventory.get_host(name), path.removeprefix(f"{name}.")
        return None, path

    def _defining(self, host: Host | None, name: str) -> str | None:
        """The file that gives a host this value; any host where the value is everybody's."""
        if host is None:
            found = (self._defining(one, name) for one in self._inventory)
            return next(filter(None, found), None)
        if name in self._inventory.get_override_data():
            return COMMAND_LINE
        if name in self._inventory.get_host_data(host.name):
            return self.inventory_file
        for group in reversed(host.groups):
            if name in self._inventory.get_group_data(group):
                return self._file_of(group, name)
        return self._file_of("all", name) if name in self._inventory.get_data() else None

    def _file_of(self, group: str, name: str) -> str:
        return self._files.file_defining(group, name) if self._files else f"group_data/{group}.py"

    def _belongs(self, host: Host | None, name: str) -> str:
        """Where a value that nobody gave is best written."""
        if host is None or name not in (*_OF_ONE_HOST, *_OF_THE_INVENTORY):
            return EVERYBODYS
        own = [group for group in host.groups if len(self._inventory.get_group(group, default=[])) == 1]
        return f"group_data/{own[0]}.py" if own and name in _OF_ONE_HOST else self.inventory_file
