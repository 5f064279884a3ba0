"""`cascade images`: where images come from, what they are pinned to, where they are."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import click
import docker.errors
import requests
from paramiko import SSHException

from cascade.commands.arguments import (
    chosen,
    inventory_argument,
    json_option,
    limit_option,
    lock_wait_option,
    stand_ins_option,
)
from cascade.commands.failures import Failed, Lost, Mistake
from cascade.documents import ImagesDocument, PinsDocument, PruneDocument, json_of
from cascade.exit_codes import ATTENTION, ERROR
from cascade.image_report import code_of, image_lines, megabytes
from cascade.model.image import PINS, BuildImage
from cascade.model.strict import printable
from operations.build import BuildFailed, build, is_built
from operations.pins import Resolved, record, resolve
from operations.run import Run, WorkFailed
from operations.session import connected, load, session
from operations.swarm.overview import overview
from operations.swarm.prune import Leftover, leftovers, prune


@click.group()
def command() -> None:
    """The images of the agents: pin, build, list and prune them."""


@command.command("pin")
@inventory_argument
@click.option("--update", is_flag=True, help="Ask again about tags that have a record.")
@json_option
def pin_command(inventory: Path, update: bool, as_json: bool) -> None:
    """Record which image each tag means, for good, in group_data/images.json. Commit that file."""
    images = load(inventory, check_images=False).fleet.settings.images
    try:
        found = list(resolve(images, unrecorded=not update))
        record(found)
    except ValueError as error:
        raise Mistake(str(error)) from error
    if as_json:
        click.echo(json_of(PinsDocument, {"tags": [asdict(item) for item in found]}))
    else:
        for line in _pin_lines(found):
            click.echo(line)
    if any(item.fault for item in found):
        raise SystemExit(ERROR)


def _pin_lines(found: list[Resolved]) -> Iterator[str]:
    for item in found:
        if item.fault:
            yield f"{item.reference}: not recorded: {item.fault}"
        elif item.moved:
            yield f"{item.reference}: {item.now}, was {item.was}"
        else:
            yield f"{item.reference}: {item.now}{'' if item.was is None else ', as before'}"
    if not found:
        yield "every tag has its record; --update asks what they mean now"
    elif any(item.now != item.was and item.now for item in found):
        yield f"recorded in {PINS}: commit it, then deploy"


@command.command("build")
@inventory_argument
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option("--again", is_flag=True, help="Build what is built and did not change, too.")
def build_command(inventory: Path, names: tuple[str, ...], again: bool) -> None:
    """Build images from their contexts with this machine's Docker engine; all, or those of these names."""
    images = load(inventory, check_images=False).fleet.settings.images
    sources = {name: source for name, source in images.items() if isinstance(source, BuildImage)}
    if strangers := sorted(set(names) - sources.keys()):
        known = ", ".join(sorted(sources)) or "none"
        raise click.UsageError(f"no BuildImage is called {', '.join(strangers)}; there are: {known}")
    failed = []
    for name, source in sorted(sources.items()):
        if names and name not in names:
            continue
        if is_built(source) and not again:
            click.echo(f"{name}: built, and {source.context} did not change since")
            continue
        click.echo(f"{name}: building {source.context}")
        try:
            build(name, source, click.echo)
        except BuildFailed as error:
            failed.append(str(error))
    if not sources:
        click.echo("no image is mapped to a BuildImage: see `images` in group_data")
    if failed:
        raise Failed("\n".join(failed))


@command.command("list")
@inventory_argument
@limit_option
@json_option
def list_command(inventory: Path, limit: Iterable[str], as_json: bool) -> None:
    """Show every image: source, digest or ID, size, hosts, and whether a tag has moved since.

    Exit code 2: something moved, or is missing where it is needed; 1: something could not be asked.
    """
    with connected(load(inventory, limit, check_images=False)) as run:
        try:
            document = overview(run)
        except ValueError as error:
            raise Mistake(str(error)) from error
    if as_json:
        click.echo(json_of(ImagesDocument, document))
    else:
        for image in document["images"]:
            for line in image_lines(image):
                click.echo(line)
    raise SystemExit(code_of(document["images"]))


@command.command("prune")
@inventory_argument
@limit_option
@stand_ins_option
@lock_wait_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--ended", is_flag=True, help="Remove ended containers of replaced tasks that hold such an image."
)
@json_option
def prune_command(
    inventory: Path,
    limit: Iterable[str],
    stand_ins: bool,
    lock_wait: float | None,
    yes: bool,
    ended: bool,
    as_json: bool,
) -> None:
    """Remove images that Cascade brought to the hosts and that nothing wants or uses any more.

    Exit code 2: there is something, and it was not removed.
    """
    with session(inventory, limit, chosen({"stand_ins": stand_ins, "lock_wait": lock_wait})) as run:
        try:
            found = list(leftovers(run, ended))
            going = [item for item in found if not item.stays]
            if not as_json:
                for line in _prune_lines(found):
                    click.echo(printable(line))
            remove = bool(going) and (yes or (not as_json and _asked()))
            if remove:
                _prune(run, found, ended)
        except (WorkFailed, docker.errors.DockerException, requests.RequestException) as error:
            raise Failed(str(getattr(error, "explanation", None) or error)) from error
        except (SSHException, EOFError, OSError) as error:
            raise Lost(f"the connection was lost: {error}; run it again to go on") from error
    if as_json:
        leftover = [asdict(item) for item in found]
        click.echo(json_of(PruneDocument, {"leftovers": leftover, "removed": remove}))
    elif remove:
        click.echo("removed")
    if going and not remove:
        raise SystemExit(ATTENTION)


def _prune(run: Run, found: list[Leftover], ended: bool) -> None:
    """Under the lock, where nobody has begun to use one of them since they were shown."""
    with run.locked("images prune"):
        if list(leftovers(run, ended)) != found:
            raise WorkFailed(
                "the images have changed since they were shown, and none was removed: run it again"
            )
        for item in found:
            if not item.stays:
                prune(run, item)


def _prune_lines(found: list[Leftover]) -> Iterator[str]:
    for item in found:
        what = "an interrupted delivery of " if item.part else ""
        named = ", ".join(name for name in item.names if name != item.image)
        yield f"{item.host}: {what}{item.image}{f' ({named})' if named else ''}, {megabytes(item.bytes)}"
        if item.stays:
            yield f"  stays: {item.stays}"
    going = [item for item in found if not item.stays]
    yield f"{len(going)} to remove, {megabytes(sum(item.bytes for item in going))} in all"


def _asked() -> bool:
    return sys.stdin.isatty() and click.confirm("Remove them?")
