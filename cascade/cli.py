"""The command line: `cascade COMMAND INVENTORY`."""

from __future__ import annotations

from importlib import import_module

import click

from cascade.exit_codes import INVALID

# click's own 2 means attention here.
click.UsageError.exit_code = INVALID

COMMANDS = {
    "init": "cascade.commands.init:command",
    "bootstrap": "cascade.commands.bootstrap:command",
    "validate": "cascade.commands.validate:command",
    "apply": "cascade.commands.apply:command",
    "plan": "cascade.commands.plan:command",
    "rollback": "cascade.commands.rollback:command",
    "drift": "cascade.commands.drift:command",
    "history": "cascade.commands.history:command",
    "doctor": "cascade.commands.doctor:command",
    "verify": "cascade.commands.verify:command",
    "render": "cascade.commands.render:command",
    "status": "cascade.commands.status:command",
    "logs": "cascade.commands.logs:command",
    "down": "cascade.commands.down:command",
    "images": "cascade.commands.images:command",
    "secrets": "cascade.commands.secrets:command",
    "lock": "cascade.commands.lock:command",
    "lab": "lab.cli:lab",
}


class _Commands(click.Group):
    """Loads a command when it is asked for: pyinfra alone takes longer to import than most of them run."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        if module.startswith("cascade."):
            # Its import patches the standard library for gevent, which has to come before all else.
            import_module("pyinfra_cli")
        found: click.Command = getattr(import_module(module), name)
        return found


@click.group(cls=_Commands)
def main() -> None:
    """From bare Linux machines to a healthy Docker Swarm of agents, in order, behind gates."""
