"""`cascade drift`: what differs on the hosts from the last release."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from cascade.commands.arguments import inventory_argument, json_option, lock_wait_option
from cascade.commands.deployment import pyinfra_argv
from cascade.commands.drift_watch import ends_told, manage, publish_check
from cascade.commands.plan import show
from cascade.commands.watch_options import WatchOptions, watch_options
from cascade.documents import DriftDocument, json_of
from cascade.drift_report import drift_document, drift_lines
from cascade.exit_codes import ATTENTION
from operations.look import LAST, files_as_read
from operations.run import Run
from operations.session import disconnected, load
from operations.survey import survey

_CONSENT = {False: ("automatic",), True: ("automatic", "approval")}


@click.command()
@inventory_argument
@json_option
@click.option("--repair", is_flag=True, help="Put back what takes no person's consent.")
@click.option("--approve", is_flag=True, help="With --repair: restart persistent agents and GPU agents too.")
@lock_wait_option
@watch_options
def command(
    inventory: Path,
    as_json: bool,
    repair: bool,
    approve: bool,
    lock_wait: float | None,
    watch: WatchOptions,
) -> None:
    """Show what differs on the hosts from the last release, and change nothing without --repair.

    Exit code 0: in sync, perhaps by now; 2: drift; 6: a host is unreachable; 1: anything else is unknown.
    """
    if approve and not repair:
        raise click.UsageError("--approve says what --repair may do: give both")
    watch.refuse_nonsense(as_json, repair)
    if watch.install or watch.uninstall:
        manage(inventory, watch)
        return
    began = time.monotonic()
    with ends_told(inventory, watch):
        run = load(inventory, secrets="open what can be" if repair else "open")
    document = check(run, inventory)
    if repair and any(finding.repair in _CONSENT[approve] for finding in document.findings):
        document = _repaired(inventory, document, approve, lock_wait)
    if watch.publish:
        publish_check(inventory, watch, document, time.monotonic() - began, run.fleet.settings)
    if as_json:
        click.echo(json_of(DriftDocument, document))
    elif not watch.publish:
        show(drift_lines(document))
    if document.exit_code:
        raise SystemExit(document.exit_code)


def _repaired(
    inventory: Path, before: DriftDocument, approve: bool, lock_wait: float | None
) -> DriftDocument:
    """What is found after a deployment of the last release; ends the process where that fails."""
    if before.unknown:
        return before
    options = {"repair": "all" if approve else "automatic", "lock_wait": lock_wait}
    done = subprocess.run(pyinfra_argv(inventory, (), options), stdout=sys.stderr, check=False)
    if done.returncode not in (0, ATTENTION):
        raise SystemExit(done.returncode)
    return check(load(inventory, secrets="open what can be"), inventory)


def check(run: Run, inventory: Path) -> DriftDocument:
    """Connects a loaded run, compares its hosts with the last release, and disconnects them."""
    with disconnected(run):
        seen = survey(run, LAST)
    return drift_document(
        inventory=str(inventory.absolute()),
        checked_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files=files_as_read(run, seen.look.snapshots if seen.look else {}),
        plan=run.plan_of(seen.look) if seen.look else None,
        release=seen.look.release if seen.look else None,
        unknown=seen.unknown,
        unreachable=seen.unreachable,
    )
