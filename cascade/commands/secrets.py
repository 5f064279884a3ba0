"""`cascade secrets`: the values that agents read as files, encrypted in git."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from cascade.commands.arguments import inventory_argument, json_option
from cascade.commands.failures import Failed, Mistake
from cascade.commands.secrets_input import asked_value, edited, value_of_file
from cascade.commands.secrets_project import Project, project
from cascade.documents import SecretsCheckDocument, SecretsListDocument, StoredSecret, json_of
from cascade.exit_codes import ATTENTION, INVALID
from cascade.model.secrets import NAME_KEY
from cascade.model.strict import InvalidFiles, Problem
from cascade.secrets.checking import Finding, check_store
from cascade.secrets.generation import generated
from cascade.secrets.identity import make_identity
from cascade.secrets.recipients import RECIPIENTS, parse_recipient, write_recipients
from cascade.secrets.rekeying import Rekeyed, rekey
from cascade.secrets.store import Store, new_name_key
from cascade.secrets.value import Value, forbid_core_dumps

name_argument = click.argument("name")


@click.group()
def command() -> None:
    """Values that agents read as files: encrypted in git, opened by an identity outside of it."""
    forbid_core_dumps()


@command.command("init")
@inventory_argument
@click.option(
    "--new-name-key", "anew", is_flag=True, help="Also the key of the names, where it is lost for good."
)
def init_command(inventory: Path, anew: bool) -> None:
    """Make what is missing: identity, list of recipients, generated values. What is there stays.

    Exit code 2: the list has others than you, and one of them has to add you.
    """
    with project(inventory) as known:
        _make_identity(known)
        mine = known.identity().recipients
        _begin_list(known, mine[0])
        recipients = known.recipients()
        store = known.store
        if not store.has(NAME_KEY):
            if store.names() and not anew:
                raise InvalidFiles([_lost_name_key(store)])
            store.write(NAME_KEY, new_name_key(), recipients)
            click.echo(f"{store.path(NAME_KEY)}: made")
        for name in filter(known.missing().__contains__, known.generated):
            store.write(name, _generated(known, name), recipients)
            click.echo(f"{store.path(name)}: generated, for {_count(recipients)}")
        for name in known.missing():
            click.echo(f"to set: cascade secrets set {inventory} {name}")
        if not set(mine) & set(recipients):
            click.echo("you are no recipient yet, and cannot open the values; one of them runs:")
            click.echo(f"  cascade secrets rekey {inventory} --add '{mine[0]}'")
            raise SystemExit(ATTENTION)


def _make_identity(known: Project) -> None:
    path = known.identity_path
    if path.exists() or path.is_symlink():
        return
    known.refuse_in_git()
    make_identity(path)
    click.echo(f"{path}: a new identity. Without it nobody opens the values: keep a copy in a safe place")


def _begin_list(known: Project, mine: str) -> None:
    """A list that was lost is not begun anew: the others on it would lose what they can open."""
    path = known.store.folder / RECIPIENTS
    if path.exists() or path.is_symlink():
        return
    if known.store.names():
        reason = "is missing, and there are values that were encrypted for those on it"
        raise InvalidFiles([Problem(str(path), "", reason, "take it from git again")])
    write_recipients(known.store.folder, [mine])
    click.echo(f"{path}: begun, with you on it")


def _lost_name_key(store: Store) -> Problem:
    """Another key would give every secret another name on the Swarm, and restart its agents."""
    fix = "take it from git again; lost for good: run `cascade secrets init INVENTORY --new-name-key`"
    return Problem(str(store.path(NAME_KEY)), "", "is missing, and there are values that it named", fix)


@command.command("set")
@inventory_argument
@name_argument
@click.option(
    "--file", type=click.Path(path_type=Path), metavar="FILE", help="The value is what is in this file."
)
def set_command(inventory: Path, name: str, file: Path | None) -> None:
    """Give a value: typed twice and unseen on a terminal, else exactly what comes on standard input."""
    with project(inventory) as known:
        known.check_name(name)
        recipients = known.recipients()
        value = value_of_file(file) if file else asked_value(name)
        known.store.write(name, value, recipients)
        click.echo(f"{known.store.path(name)}: written for {_count(recipients)}; commit it, then deploy")
        if name not in known.declared:
            click.echo(f"no group file declares {name} under secrets:", err=True)


def _count(recipients: Sequence[str]) -> str:
    return f"{len(recipients)} recipient{'s' * (len(recipients) != 1)}"


@command.command("edit")
@inventory_argument
@name_argument
def edit_command(inventory: Path, name: str) -> None:
    """Change a text in $VISUAL or $EDITOR, in a file that lies in memory only."""
    with project(inventory) as known:
        known.check_name(name)
        recipients = known.unchanged_list()
        before = known.open(name)
        after = edited(name, before)
        if after.data == before.data:
            click.echo("unchanged")
            return
        known.store.write(name, after, recipients)
        click.echo(f"{known.store.path(name)}: written; commit it, then deploy")


@command.command("get")
@inventory_argument
@name_argument
def get_command(inventory: Path, name: str) -> None:
    """Write a value to standard output, every byte and nothing else."""
    with project(inventory) as known:
        known.check_name(name)
        value = known.open(name)
    try:
        sys.stdout.buffer.write(value.data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failed(f"standard output: {error.strerror}") from None


@command.command("list")
@inventory_argument
@json_option
def list_command(inventory: Path, as_json: bool) -> None:
    """Show every secret, the agents that read it, and whether its value is there; needs no identity.

    Exit code 2: a value is missing.
    """
    with project(inventory) as known:
        document = SecretsListDocument(secrets=tuple(_secrets(known)))
    if as_json:
        click.echo(document.model_dump_json())
    else:
        for line in _list_lines(document, known):
            click.echo(line)
    if any(secret.state == "missing" for secret in document.secrets):
        raise SystemExit(ATTENTION)


def _secrets(known: Project) -> Iterator[StoredSecret]:
    missing = known.missing()
    for name in sorted({*known.declared, *known.store.names()}):
        declared = known.declared.get(name)
        yield StoredSecret(
            name=name,
            state="missing" if name in missing else "set" if declared else "unused",
            generated=bool(declared and declared.generate),
            users=known.users(name),
        )


def _list_lines(document: SecretsListDocument, known: Project) -> Iterator[str]:
    for secret in document.secrets:
        made = ", generated" if secret.generated else ""
        readers = ", ".join(known.users_in_short(secret.name)) or "nobody reads it"
        yield f"{secret.name}: {secret.state}{made}; {readers}"
    if not document.secrets:
        yield "no group file declares a secret"


@command.command("rotate")
@inventory_argument
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option("--generated", "all_generated", is_flag=True, help="All values that are generated.")
@click.option(
    "--file", type=click.Path(path_type=Path), metavar="FILE", help="The new value is what is in this file."
)
def rotate_command(inventory: Path, names: tuple[str, ...], all_generated: bool, file: Path | None) -> None:
    """Exchange values: those that are generated are made anew, the others are asked for."""
    with project(inventory) as known:
        wanted = _to_rotate(known, names, all_generated)
        if file and len(wanted) != 1:
            raise click.UsageError("--file holds the value of one secret: name that one alone")
        recipients = known.unchanged_list()
        for name, value in _fresh(known, wanted, file).items():
            known.store.write(name, value, recipients)
            click.echo(f"{known.store.path(name)}: rotated")
        click.echo(f"commit them, then deploy: cascade apply {inventory}")


def _to_rotate(known: Project, names: Iterable[str], all_generated: bool) -> list[str]:
    if strangers := sorted(set(names) - known.declared.keys()):
        raise Mistake(f"no group file declares {', '.join(strangers)} under secrets:")
    wanted = sorted({*names, *(known.generated if all_generated else ())})
    if not wanted:
        raise click.UsageError("name what to rotate, or give --generated")
    return wanted


def _fresh(known: Project, names: Sequence[str], file: Path | None = None) -> dict[str, Value]:
    """Another value for each, before any is written."""
    asked = [name for name in names if file or name not in known.generated]
    if len(asked) > 1 and not sys.stdin.isatty():
        raise Mistake(
            f"there is no terminal to ask for {', '.join(asked)} on: rotate them one by one,"
            " with the value on standard input"
        )
    return {name: _another(known, name, file) if name in asked else _generated(known, name) for name in names}


def _another(known: Project, name: str, file: Path | None) -> Value:
    before = known.open(name) if known.store.has(name) else None
    value = value_of_file(file) if file else asked_value(name)
    if before and before.data == value.data:
        raise Mistake(f"{name} has that value already: give another one")
    return value


def _generated(known: Project, name: str) -> Value:
    how = known.declared[name].generate
    assert how is not None
    return generated(how)


def _recipients(_ctx: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(map(parse_recipient, texts))
    except ValueError as error:
        raise click.BadParameter(f"what is given {error}") from None


@command.command("rekey")
@inventory_argument
@click.option(
    "--add", multiple=True, metavar="RECIPIENT", callback=_recipients, help="Lets somebody open all."
)
@click.option("--remove", multiple=True, metavar="RECIPIENT", callback=_recipients, help="From now on not.")
@click.option("--rotate", is_flag=True, help="Exchange generated values, too, and name the others.")
def rekey_command(inventory: Path, add: tuple[str, ...], remove: tuple[str, ...], rotate: bool) -> None:
    """Encrypt all values for the list of recipients as it is, or with some more and some less.

    Who leaves knows what they could read: rotate those values too.
    """
    with project(inventory) as known:
        new = partial(_fresh, known, known.generated if rotate else ())
        done = rekey(known.store, known.identity(), add, remove, new)
    for line in _rekey_lines(known, done):
        click.echo(line)
    left = done.known or (known.declared.keys() - set(known.generated) if rotate else ())
    for line in _rotate_lines(known, left, inventory):
        click.echo(line)


def _rekey_lines(known: Project, done: Rekeyed) -> Iterator[str]:
    for name in done.written:
        yield f"{known.store.path(name)}: written"
    if done.by_hand:
        yield "the list was changed by hand; on it now:"
        yield from (f"  {recipient}" for recipient in done.by_hand)
    if done.left:
        yield "every secret gets another name on the Swarm with the next deployment, and its agents restart"
    if done.known:
        who = "whoever was on the list before" if done.by_hand else "who left"
        yield f"{who} still knows: {', '.join(done.known)}"
    yield (
        "commit them, then deploy"
        if done.written
        else "every value is encrypted for exactly those on the list"
    )


def _rotate_lines(known: Project, names: Collection[str], inventory: Path) -> Iterator[str]:
    """The commands by which values are exchanged: one for all that are generated, and one for each other."""
    made = [name for name in known.generated if name in names]
    others = [[name] for name in sorted(known.declared) if name in names and name not in made]
    if made or others:
        yield "to exchange (asked for, or from standard input or --file):"
    for together in filter(None, [made, *others]):
        yield f"  cascade secrets rotate {inventory} {' '.join(together)}"


@command.command("check")
@inventory_argument
@json_option
def check_command(inventory: Path, as_json: bool) -> None:
    """Open everything and say all that is wrong: values, identity, recipients, git.

    Exit code 64: a deployment would not begin; 2: something to look at.
    """
    with project(inventory) as known:
        found = check_store(known.store, known.identity_path, known.declared, known.generated)
        findings = [replace(finding, problem=known.here(finding.problem)) for finding in found]
    errors = [item for item in findings if item.level == "error"]
    if as_json:
        told = list(map(_document, findings))
        click.echo(json_of(SecretsCheckDocument, {"ok": not findings, "findings": told}))
    else:
        for item in findings:
            click.echo(f"{item.level}: {item.problem}")
        if not findings:
            click.echo(f"all is well: {len(known.declared)} secrets")
    if findings:
        raise SystemExit(INVALID if errors else ATTENTION)


def _document(item: Finding) -> dict[str, str]:
    return {"level": item.level, **item.problem.document()}
