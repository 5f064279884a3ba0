"""`cascade verify`: a fleet judged from outside, with pytest and testinfra."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import click

from cascade.commands.arguments import inventory_argument, json_option

ROOT = Path(__file__).parents[2]
AREAS = {
    "host": "packages, kernel, clock, services and SSH of each host",
    "docker": "the engine of each host",
    "swarm": "nodes, roles, labels, certificates",
    "network": "networks, names, ports, isolation",
    "security": "what confines each agent; the CIS Docker Benchmark",
    "gpu": "drivers, and which agent sees which GPU",
    "agents": "replicas, answers, limits",
    "data": "volumes and secrets",
}
WHOLE_MESSAGES = ("verbosity_assertions=2", "truncation_limit_lines=0", "truncation_limit_chars=0")
_file = click.Path(dir_okay=False, path_type=Path)


@click.command()
@inventory_argument
@json_option
@click.option(
    "--group", multiple=True, metavar="GROUP", help="Only the agents of this group; may be repeated."
)
@click.option("--host", multiple=True, metavar="HOST", help="Only this host and its agents; may be repeated.")
@click.option(
    "--area", multiple=True, type=click.Choice(list(AREAS)), help="Only this area; may be repeated."
)
@click.option("-k", "expression", metavar="WORDS", help="Only tests whose names match, as for pytest's -k.")
@click.option(
    "--strict", is_flag=True, help="What is not there, such as a GPU, fails instead of being skipped."
)
@click.option("--junit", metavar="FILE", type=_file, help="Write the results as junit XML.")
@click.option("--html", metavar="FILE", type=_file, help="Write the results as one page of HTML.")
def command(inventory: Path, as_json: bool, **options: object) -> NoReturn:
    """Judge a deployed fleet from outside, and change nothing.

    What the kernels, the engines and the agents themselves answer is compared with the inventory and the
    group files; nothing that Cascade wrote down is believed.

    Exit code 0: all as it should be; 2: something is not; 1: something is unknown; 6: a host is unreachable;
    64: the files are wrong, or no test was chosen.
    """
    argv = [sys.executable, "-m", "pytest", *pytest_arguments(inventory, options)]
    sys.stdout.flush()
    if as_json:
        argv.append(f"--verify-json=/dev/fd/{_standard_output_alone()}")
    os.execv(argv[0], argv)  # noqa: S606 - no shell, and nothing to quote


def _standard_output_alone() -> int:
    """A descriptor of what was standard output, to which only the document goes; the rest goes to stderr."""
    kept = os.dup(sys.stdout.fileno())
    os.set_inheritable(kept, True)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return kept


def pytest_arguments(inventory: Path, options: Mapping[str, Any]) -> Iterator[str]:
    """What the command is to pytest."""
    folder = ROOT / "tests/verify"
    if not folder.is_dir():
        raise click.ClickException(f"{folder} is not there: install Cascade from a checkout, with pip -e")
    yield from (str(folder), f"--rootdir={ROOT}", f"--config-file={ROOT / 'pyproject.toml'}")
    yield from ("-q", "--no-header", "--tb=no", "-rN", "-p", "no:cacheprovider")
    for setting in WHOLE_MESSAGES:
        yield from ("-o", setting)
    yield f"--inventory={inventory}"
    yield from _said(options)


def _said(options: Mapping[str, Any]) -> Iterator[str]:
    for name in ("group", "host"):
        yield from (f"--{name}={value}" for value in options[name])
    if options["area"]:
        yield from ("-m", " or ".join(options["area"]))
    if options["expression"]:
        yield from ("-k", options["expression"])
    if options["strict"]:
        yield "--strict-verify"
    if options["junit"]:
        yield f"--junitxml={options['junit']}"
    if options["html"]:
        yield from (f"--html={options['html']}", "--self-contained-html")
