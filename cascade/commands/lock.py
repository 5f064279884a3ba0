"""`cascade lock`: who holds the lock around all changes; a person holds it for maintenance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from pydantic import BaseModel
from pyinfra.api.host import Host

from cascade.commands.arguments import inventory_argument, json_option, seconds
from cascade.commands.failures import Failed, Lost
from cascade.documents import LockAcquireDocument, LockHolder, LockReleaseDocument, LockStatusDocument
from cascade.exit_codes import ATTENTION, LOCKED
from cascade.model.strict import one_line
from cascade.planning.audit import Deed
from operations.lock import CONNECTION_LOST, Held, Holder, acquire_by_hand, release_by_hand, standing
from operations.run import Run, WorkFailed
from operations.session import with_manager

_LONGEST_S = 366 * 24 * 3600


@click.group()
def command() -> None:
    """The lock around everything that changes something: look, hold it for maintenance, release it."""


@command.command("status")
@inventory_argument
@json_option
def status_command(inventory: Path, as_json: bool) -> None:
    """Say who holds the lock. Exit code 0: nobody; 2: somebody does; 1: nobody can say."""
    with _manager(inventory) as (_, manager):
        holder = standing(manager)
    held = holder is not None and not (holder.expired or holder.gone)
    document = LockStatusDocument(held=held, holder=_document(holder))
    _tell(as_json, document, f"{manager.name}: {_said(holder)}")
    if held:
        raise SystemExit(ATTENTION)


@command.command("acquire")
@inventory_argument
@click.option(
    "-m", "--message", required=True, metavar="TEXT", help="What it is held for; others get to read it."
)
@click.option(
    "--for", "length_s", metavar="TIME", callback=seconds, help="It expires by itself, after 2h or 30m."
)
@json_option
def acquire_command(inventory: Path, message: str, length_s: float | None, as_json: bool) -> None:
    """Hold the lock, so that nobody deploys. Exit code 5: somebody else holds it."""
    purpose = one_line(message.strip())
    if not purpose:
        raise click.UsageError("say what it is held for: -m 'new disk in pc2'")
    if length_s is not None and not 0 < length_s <= _LONGEST_S:
        raise click.UsageError("--for takes a time such as 2h, of at most a year")
    with _manager(inventory) as (run, manager):
        try:
            acquired = acquire_by_hand(manager, run.id, run.lock.owner, purpose, length_s, str(inventory))
        except Held as held:
            if as_json:
                refused = LockAcquireDocument(acquired=False, holder=_document(held.holder), taken_from=None)
                click.echo(refused.model_dump_json())
            raise _Locked(str(held)) from held
        run.trail.note(manager, Deed("acquire", "lock", purpose))
        holder, taken = standing(manager), acquired.taken_from
    over = f"; taken over from {taken}" if taken else ""
    _tell(
        as_json,
        LockAcquireDocument(acquired=True, holder=_document(holder), taken_from=_document(taken)),
        f"{manager.name}: {_said(holder)}{over}; `cascade lock release {inventory}` ends it",
    )


@command.command("release")
@inventory_argument
@click.option("--force", is_flag=True, help="Somebody else's, a run's, or one that cannot be understood.")
@json_option
def release_command(inventory: Path, force: bool, as_json: bool) -> None:
    """End the lock that you hold."""
    with _manager(inventory) as (run, manager):
        answer = release_by_hand(manager, run.lock.owner, force)
        if foreign := answer.get("foreign"):
            raise WorkFailed(f"{manager.name}: {_not_yours(Holder.of(foreign), inventory)}")
        if "released" in answer:
            run.trail.note(manager, Deed("release", "lock", "by force" if force else "by its owner"))
    was = Holder.of(answer["released"]) if answer.get("released") else None
    said = "nobody held it" if "free" in answer else f"released; it was {_said(was) if was else 'unreadable'}"
    document = LockReleaseDocument(released="free" not in answer, holder=_document(was))
    _tell(as_json, document, f"{manager.name}: {said}")


class _Locked(click.ClickException):
    """Somebody else is at work."""

    exit_code = LOCKED


@contextmanager
def _manager(inventory: Path) -> Iterator[tuple[Run, Host]]:
    """The manager, connected; what it or its connection have against it ends the command in one line."""
    with with_manager(inventory) as (run, manager):
        try:
            yield run, manager
        except WorkFailed as failure:
            raise Failed(str(failure)) from failure
        except CONNECTION_LOST as failure:
            raise Lost(f"{manager.name}: the connection was lost: {failure}") from failure
        finally:
            run.let_go()


def _tell(as_json: bool, document: BaseModel, line: str) -> None:
    click.echo(document.model_dump_json() if as_json else line)


def _said(holder: Holder | None) -> str:
    if holder is None:
        return "free"
    if holder.gone:
        return f"left behind, the next one takes it over: {holder}; its process on this machine is gone"
    if holder.expired:
        return f"expired, the next one takes it over: {holder}; not heard of for {round(holder.silent_s)} s"
    return f"held by {holder}; {holder.signs}"


def _not_yours(holder: Holder, inventory: Path) -> str:
    whose = "a run's, which releases it at its end" if holder.holder == "run" else "not yours"
    return f"{_said(holder)}; it is {whose}: `cascade lock release {inventory} --force` ends it all the same"


def _document(holder: Holder | None) -> LockHolder | None:
    if holder is None:
        return None
    return LockHolder(
        kind="run" if holder.holder == "run" else "person",
        owner=holder.owner,
        purpose=holder.purpose,
        since=holder.acquired.isoformat(timespec="seconds"),
        silent_s=round(holder.silent_s, 1),
        expires_s=holder.expires_s,
        expired=holder.expired,
    )
