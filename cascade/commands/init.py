"""`cascade init`: an inventory and group_data for a person's own machines, from a few answers."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from jinja2 import Environment, PackageLoader, StrictUndefined

from cascade.commands.failures import Mistake
from cascade.model.answers import (
    FOLDER,
    MACHINES,
    QUESTIONS,
    REGISTRY,
    Answers,
    Question,
    Rule,
    image_source,
    literal,
)
from cascade.model.loader import load_group_files
from cascade.model.strict import InvalidFiles
from cascade.model.wording import PLACEHOLDER

STACKS = Path("group_data/stacks/cascade")
INVENTORY, GROUP_DATA = Path("inventories/home.py"), Path("group_data/home.py")
ADVICE = {
    "registry": "`docker buildx imagetools inspect NAME:TAG` prints an image's digest.",
    "archives": "Each file is what `docker save -o FILE IMAGE` wrote.",
    "": 'Per image {"reference": "registry/name@sha256:…"}, or {"path": "…"} of what `docker save` wrote.',
}

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def _checked(fault: Rule) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    def check(_ctx: click.Context, _option: click.Parameter, answer: str | None) -> str | None:
        if answer is not None and (words := fault(answer)):
            raise click.BadParameter(f"{answer!r}: {words}")
        return answer

    return check


def _flags(command: Decorated) -> Decorated:
    """An option for each question."""
    for question in reversed(QUESTIONS):
        option = click.option(
            f"--{question.key}", metavar="TEXT", help=question.asks, callback=_checked(question.fault)
        )
        command = option(command)
    return command


@click.command()
@click.option("--force", is_flag=True, help="Overwrite the files if they are there.")
@_flags
@click.option(
    "--registry",
    metavar="PREFIX",
    callback=_checked(REGISTRY),
    help="Images come from this registry; their digests are to be filled in.",
)
@click.option(
    "--archives",
    metavar="FOLDER",
    callback=_checked(FOLDER),
    help="Images are archives in this folder, made by `docker save`.",
)
def command(force: bool, registry: str | None, archives: str | None, **flags: str | None) -> None:
    """Write inventories/home.py and group_data/home.py for two machines of your own.

    What no flag says is asked for on a terminal; without one, defaults are taken, and what only you can know
    is marked CHANGE-ME, which no run accepts.
    """
    if registry and archives:
        raise click.UsageError("give --registry or --archives, not both")
    given = {name.replace("_", "-"): answer for name, answer in flags.items() if answer is not None}
    images = _image_names()
    _refuse_to_overwrite(force)
    terminal = sys.stdin.isatty()
    answers = _answers(given, terminal)
    if terminal and not (registry or archives):
        registry, archives = _ask_for_images()
    sources = [(name, *image_source(name, registry, archives)) for name in images]
    advice = ADVICE["registry" if registry else "archives" if archives else ""]
    environment = Environment(
        # Python source, not HTML: every value goes through `literal`.
        autoescape=False,  # noqa: S701
        loader=PackageLoader("cascade.commands", "home"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["literal"] = literal
    values = {
        "answers": answers,
        "machines": MACHINES,
        "images": sources,
        "advice": advice,
        "inventory": INVENTORY,
    }
    for target, template in ((INVENTORY, "inventory.py.j2"), (GROUP_DATA, "group_data.py.j2")):
        _write(target, environment.get_template(template).render(values))
        click.echo(f"{target}: written")
    _tell_what_to_fill_in()
    _tell_what_next(answers)


def _image_names() -> list[str]:
    """Every image that the group files name."""
    try:
        groups = load_group_files(STACKS)
    except InvalidFiles as invalid:
        raise Mistake(
            f"{invalid}\nrun `cascade init` in the project's folder, with its group files"
        ) from None
    return sorted({service.image for group in groups for service in group.services.values()})


def _refuse_to_overwrite(force: bool) -> None:
    if not force and (there := [str(path) for path in (INVENTORY, GROUP_DATA) if path.exists()]):
        raise Mistake(f"{' and '.join(there)} exist already: change them, or overwrite them with --force")


def _answers(given: Answers, terminal: bool) -> Answers:
    """An answer to every question: given, asked for, or what stands for it."""
    answers: dict[str, str] = {}
    for question in QUESTIONS:
        default = question.default(answers)
        if question.key in given:
            answers[question.key] = given[question.key]
        elif terminal:
            answers[question.key] = _ask(question, default)
        else:
            answers[question.key] = default or question.missing()
    if answers["mainpc-name"] == answers["pc2-name"]:
        raise Mistake(f"both machines have the name {answers['pc2-name']}: give each its own")
    return answers


def _ask(question: Question, default: str | None) -> str:
    def check(answer: str) -> str:
        if answer and (words := question.fault(answer)):
            raise click.BadParameter(words)
        return answer

    text = question.asks if default else f"{question.asks} (Enter: fill it in later)"
    answer: str = click.prompt(
        text[0].upper() + text[1:], default=default or "", show_default=bool(default), value_proc=check
    )
    return answer or question.missing()


def _ask_for_images() -> tuple[str | None, str | None]:
    """The registry or the folder of archives that images come from; neither for later."""
    kind = click.prompt(
        "Where images come from", type=click.Choice(["registry", "archives", "later"]), default="later"
    )
    if kind == "registry":
        return _ask(Question("", "prefix of the registry", REGISTRY, lambda _: None), "localhost:5000"), None
    if kind == "archives":
        return None, _ask(Question("", "folder of the archives", FOLDER, lambda _: None), ".images")
    return None, None


def _write(target: Path, text: str) -> None:
    """The whole file, or what was there before."""
    try:
        target.parent.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".")
        fresh = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            fresh.chmod(0o644)
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise Mistake(f"{target}: cannot be written: {error.strerror}") from None


def _tell_what_to_fill_in() -> None:
    marked = list(_marked((INVENTORY, GROUP_DATA)))
    if marked:
        click.echo(f"\nto fill in, {len(marked)} places:")
    for line in marked:
        click.echo(f"  {line}")


def _marked(files: Iterable[Path]) -> Iterable[str]:
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if PLACEHOLDER in line:
                yield f"{file}:{number}: {line.strip().rstrip(',')}"


def _tell_what_next(answers: Answers) -> None:
    click.echo("\nnext, with a user who has a password on each machine (or root):")
    for machine in MACHINES:
        click.echo(f"  {_bootstrap(answers, machine)}")
    click.echo("then:")
    for line in (
        f"cascade validate {INVENTORY}",
        f"cascade doctor {INVENTORY} --trust",
        f"pyinfra {INVENTORY} deploy.py",
    ):
        click.echo(f"  {line}")


def _bootstrap(answers: Mapping[str, str], machine: str) -> str:
    address, port = answers[f"{machine}-address"], answers[f"{machine}-port"]
    where = "ADDRESS" if PLACEHOLDER in address else f"[{address}]" if ":" in address else address
    options = {"--user": (f"{machine}-user", "deploy"), "--key": ("ssh-key", "~/.ssh/id_ed25519")}
    extra = [
        part
        for option, (key, usual) in options.items()
        if answers[key] != usual
        for part in (option, shlex.quote(answers[key]))
    ]
    return " ".join(["cascade bootstrap", f"USER@{where}{'' if port == '22' else f':{port}'}", *extra])
