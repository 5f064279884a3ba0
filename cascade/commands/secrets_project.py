"""What the commands about secrets know of an inventory: its store, the identity and what is declared."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path

import click

from cascade.commands.failures import Failed, Mistake
from cascade.exit_codes import INVALID
from cascade.model.fleet import Fleet
from cascade.model.secrets import Secret, check_secret_name, longest_name
from cascade.model.strict import InvalidFiles, Problem
from cascade.secrets.identity import Identity, identity_path, read_identity, refuse_in_git
from cascade.secrets.recipients import read_recipients
from cascade.secrets.rekeying import unchanged_list
from cascade.secrets.store import Store
from cascade.secrets.value import Value
from operations.session import load


@dataclass(frozen=True)
class Project:
    """The secrets of one system."""

    fleet: Fleet
    inventory: Path

    @cached_property
    def store(self) -> Store:
        settings = self.fleet.settings
        return Store(Path(settings.secrets), settings.system)

    @property
    def declared(self) -> dict[str, Secret]:
        """By their names in the store."""
        return self.fleet.secrets

    @property
    def generated(self) -> list[str]:
        return sorted(name for name, secret in self.declared.items() if secret.generate)

    @cached_property
    def identity_path(self) -> Path:
        return identity_path(self.fleet.settings.identity)

    def identity(self) -> Identity:
        """Raises InvalidFiles."""
        with self._about_identity():
            return read_identity(self.identity_path, self.store.folder)

    def refuse_in_git(self) -> None:
        """Raises InvalidFiles for an identity that would lie among what is published."""
        with self._about_identity():
            refuse_in_git(self.identity_path, self.store.folder)

    @contextmanager
    def _about_identity(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise InvalidFiles([Problem.saying(str(self.identity_path), "", str(error))]) from None

    def open(self, name: str) -> Value:
        """A value; raises InvalidFiles."""
        if name not in self.declared and not self.store.has(name):
            raise Mistake(f"no group file declares {name} under secrets:, and the store has no such value")
        problems: list[Problem] = []
        found = self.store.open([name], self.identity(), problems)
        if problems:
            raise InvalidFiles(problems)
        return found[name].value

    def recipients(self) -> tuple[str, ...]:
        """Raises InvalidFiles."""
        return read_recipients(self.store.folder)

    def unchanged_list(self) -> tuple[str, ...]:
        """The recipients, if the values are encrypted for them; raises InvalidFiles."""
        return unchanged_list(self.store, self.identity())

    def users(self, name: str) -> tuple[str, ...]:
        """The agents that read a secret, as GROUP/AGENT."""
        workloads = [workload for _, _, workload in self.fleet.readable_workloads]
        readers = (one for one in workloads if name in {secret.name for secret, _ in one.secret_files})
        return tuple(sorted(f"{one.group}/{one.agent}" for one in readers))

    def users_in_short(self, name: str) -> Iterator[str]:
        """The same with a group that reads it as a whole in one word."""
        agents = Counter(workload.group for _, _, workload in self.fleet.readable_workloads)
        users = self.users(name)
        readers = Counter(user.partition("/")[0] for user in users)
        whole = {group for group, count in readers.items() if count == agents[group] > 1}
        for group, of_group in groupby(users, lambda user: user.partition("/")[0]):
            yield from [f"{group} ({agents[group]} agents)"] if group in whole else of_group

    def here(self, problem: Problem) -> Problem:
        """With this inventory in the command that it advises."""
        return replace(problem, fix=problem.fix.replace("INVENTORY", shlex.quote(str(self.inventory))))

    def missing(self) -> list[str]:
        return sorted(name for name in self.declared if not self.store.has(name))

    def check_name(self, name: str) -> None:
        """Ends the command for a name that no secret can have."""
        longest = longest_name(self.fleet.settings.system)
        try:
            check_secret_name(name)
        except ValueError as error:
            raise Mistake(str(error)) from None
        if len(name) > longest:
            raise Mistake(f"{name} is too long for a name in the Swarm: write at most {longest} characters")


@contextmanager
def project(inventory: Path) -> Iterator[Project]:
    """What is wrong with files is said, all of it, and ends the command with 64; a full disk with 1."""
    fleet = load(inventory, check_images=False).fleet
    known = Project(fleet, inventory)
    try:
        yield known
    except InvalidFiles as invalid:
        for problem in invalid.problems:
            click.echo(str(known.here(problem)), err=True)
        raise SystemExit(INVALID) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        where = error.filename or fleet.settings.secrets
        raise Failed(f"{where}: {error.strerror}; what is done so far stands") from None
