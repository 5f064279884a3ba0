"""The options of a check that a timer makes, and what does not go together."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from cascade.commands.watch_options import WatchOptions, watch_options


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.option("--repair", is_flag=True)
@watch_options
def command(as_json: bool, repair: bool, watch: WatchOptions) -> None:
    watch.refuse_nonsense(as_json, repair)
    click.echo(watch)


def run(*options: str) -> Result:
    return CliRunner().invoke(command, options)


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who is not root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--install", "--uninstall"), "give one of --install, --uninstall and --publish"),
        (("--install", "--publish", "x"), "give one of --install, --uninstall and --publish"),
        (("--install", "--json"), "go without --json and --repair"),
        (("--uninstall", "--repair"), "go without --json and --repair"),
        (("--publish", "x", "--repair"), "give it without --repair"),
        (("--every", "15m"), "are for --install"),
        (("--user",), "are for --install"),
        (("--uninstall", "--every", "15m"), "are for --install"),
        (("--metrics", "x"), "--metrics goes with --install or --publish"),
        (("--install", "--every", "30s"), "write one like 15m, 2h or 1d"),
    ],
)
def test_options_that_make_no_sense_are_told(options: tuple[str, ...], said: str) -> None:
    done = run(*options)
    assert done.exit_code != 0
    assert said in done.output


@pytest.mark.parametrize(
    ("options", "watch"),
    [
        ((), WatchOptions()),
        (("--install",), WatchOptions(install=True)),
        (
            ("--install", "--user", "--every", "2h", "--metrics", "x"),
            WatchOptions(install=True, scope="user", every="2h", metrics=Path("x")),
        ),
        (("--uninstall", "--user"), WatchOptions(uninstall=True, scope="user")),
        (("--json", "--publish", "x"), WatchOptions(publish=Path("x"))),
    ],
)
def test_the_command_gets_them_as_one(options: tuple[str, ...], watch: WatchOptions) -> None:
    assert run(*options).output == f"{watch}\n"


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("option", ["--install", "--uninstall"])
def test_only_root_has_the_machine_watch(option: str) -> None:
    done = run(option, "--system")
    assert (done.exit_code, "--system needs root" in done.output) == (click.UsageError.exit_code, True)


def test_roots_watch_is_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert WatchOptions().chosen_scope == "system"
    assert WatchOptions(scope="user").chosen_scope == "user"


@pytest.mark.usefixtures("nobody")
def test_everybody_elses_watch_is_their_own() -> None:
    assert WatchOptions().chosen_scope == "user"
