"""`cascade drift --install`, `--uninstall` and `--publish`: the check that a timer makes."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import sysconfig
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from cascade.commands.failures import Failed, Mistake
from cascade.commands.watch_options import EVERY, WatchOptions
from cascade.documents import DriftDocument, Files, UnknownThing
from cascade.exit_codes import INVALID
from cascade.model.fleet import FleetSettings
from cascade.watch.install import Installed, NotInstalled, Systemd, install, lingers, runs_here, uninstall
from cascade.watch.metrics import Check
from cascade.watch.publish import publish
from cascade.watch.units import Scope, Watch, faults, metrics_file, watch_name
from operations.run import Stopped
from operations.session import load


def manage(inventory: Path, watch: WatchOptions) -> None:
    """Puts a watch there or takes it away."""
    if watch.install:
        install_watch(inventory, watch.every or EVERY, watch.chosen_scope, watch.metrics)
    else:
        uninstall_watch(inventory, watch.chosen_scope)


@contextmanager
def ends_told(inventory: Path, watch: WatchOptions) -> Iterator[None]:
    """Tells everybody of a check that ends in this block because of mistakes in the files."""
    began = time.monotonic()
    try:
        yield
    except SystemExit as ended:
        if watch.publish:
            reasons = ended.messages if isinstance(ended, Stopped) else ("it cannot be loaded",)
            document = unmade(inventory, reasons)
            publish_check(inventory, watch, document, time.monotonic() - began, None)
        raise


def unmade(inventory: Path, reasons: Iterable[str]) -> DriftDocument:
    """The document of a check that mistakes in the files prevent."""
    return DriftDocument(
        inventory=str(inventory.absolute()),
        checked_at=datetime.now(UTC).isoformat(timespec="seconds"),
        release=None,
        in_sync=False,
        exit_code=INVALID,
        findings=(),
        unwanted=(),
        files=Files(differ=False, changes=()),
        unknown=tuple(UnknownThing(host="", what="files", reason=reason) for reason in reasons),
        notes=(),
    )


def install_watch(inventory: Path, every: str, scope: Scope, metrics: Path | None) -> None:
    """Has systemd check an inventory for drift, and says how to look at it."""
    _refuse_without_systemd(inventory, every)
    user = _user(scope)
    # A service finds the home of its user, whoever installs it.
    os.environ["HOME"] = user.pw_dir
    settings = load(inventory).fleet.settings
    watch = Watch(
        system=settings.system,
        inventory=inventory.absolute(),
        folder=Path.cwd(),
        program=Path(sysconfig.get_path("scripts"), "cascade"),
        every=every,
        scope=scope,
        user=user.pw_name,
        metrics=metrics.absolute() if metrics else None,
    )
    if wrong := [*faults(watch), *_missing(watch, settings.on_drift)]:
        raise Mistake("\n".join(wrong))
    try:
        done = install(watch)
    except NotInstalled as failed:
        raise Failed(str(failed)) from failed
    except OSError as error:
        raise Failed(f"{error.filename}: cannot be written: {error.strerror}") from error
    _tell(inventory, watch, done)
    if not done.checked:
        raise Failed(f"the first check failed: {_journal(scope, watch.name)} says why; the timer goes on")


def uninstall_watch(inventory: Path, scope: Scope) -> None:
    """Takes a watch away, with its results and metrics."""
    name = watch_name(inventory.absolute())
    try:
        found = uninstall(scope, name)
    except NotInstalled as failed:
        raise Failed(str(failed)) from failed
    except OSError as error:
        raise Failed(f"{error.filename}: cannot be removed: {error.strerror}") from error
    click.echo(f"{inventory}: {name} is removed" if found else f"{inventory}: nothing was to do")


def publish_check(
    inventory: Path,
    watch: WatchOptions,
    document: DriftDocument,
    seconds: float,
    settings: FleetSettings | None,
) -> None:
    """Tells everybody what a check found; `settings` are None where the files cannot be read."""
    assert watch.publish
    # What such files do not say, the unit does.
    system = settings.system if settings else os.environ.get("CASCADE_SYSTEM", "")
    on_drift = settings.on_drift if settings else None
    inventory = inventory.absolute()
    check = Check(system, str(inventory), document.model_dump(mode="json"), seconds)
    metrics = metrics_file(watch.metrics, watch_name(inventory)) if watch.metrics else None
    try:
        publish(check, watch.publish, metrics, on_drift)
    except OSError as error:
        raise Failed(f"{error.filename}: cannot be written: {error.strerror}") from error


def _refuse_without_systemd(inventory: Path, every: str) -> None:
    if not runs_here():
        line = f"cd {shlex.quote(str(Path.cwd()))} && cascade drift {shlex.quote(str(inventory))}"
        raise Failed(f"systemd does not run this machine: have something else run, every {every}: {line}")


def _user(scope: Scope) -> pwd.struct_passwd:
    """Whose files and keys the check uses: those of the person behind sudo."""
    behind = os.environ.get("SUDO_USER") if scope == "system" else None
    try:
        return pwd.getpwnam(behind) if behind else pwd.getpwuid(os.geteuid())
    except KeyError:
        who = behind or f"with the number {os.geteuid()}"
        raise Failed(f"this machine knows no user {who}: run it as one that it knows") from None


def _missing(watch: Watch, on_drift: Sequence[str]) -> list[str]:
    """What has to be there before the first check."""
    missing = []
    if not watch.program.is_file():
        missing.append(f"{watch.program}: there is no such program: run script/setup")
    if watch.metrics and not watch.metrics.is_dir():
        missing.append(f"--metrics: {watch.metrics} is no folder: make it, with {watch.user} as its owner")
    if on_drift and not shutil.which(on_drift[0]):
        missing.append(f"on_drift: there is no command {on_drift[0]}: write one that is there, or a path")
    return missing


def _journal(scope: Scope, name: str) -> str:
    return f"journalctl {'-u' if scope == 'system' else '--user-unit'} {name}.service"


def _tell(inventory: Path, watch: Watch, done: Installed) -> None:
    for change in done.changes:
        click.echo(f"{watch.name}: {change}")
    systemctl = " ".join(Systemd(watch.scope).command)
    click.echo(f"{inventory}: {'' if done.changes else 'nothing was to do: '}checked every {watch.every}")
    click.echo(f"  when        {systemctl} list-timers {watch.name}.timer")
    click.echo(f"  journal     {_journal(watch.scope, watch.name)}")
    click.echo(f"  result      {done.results}")
    if watch.metrics:
        click.echo(f"  metrics     {metrics_file(watch.metrics, watch.name)}")
    if watch.scope == "user" and not lingers(watch.user):
        click.echo(f"It runs only while {watch.user} is logged in, until `loginctl enable-linger` is given.")
