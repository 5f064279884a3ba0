"""Builds images with this machine's Docker engine, and keeps each as an archive with a record."""

from __future__ import annotations

import re
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import docker
import requests
from docker.errors import DockerException
from docker.utils import kwargs_from_env

from cascade.files import write_whole
from cascade.model.context import context_paths, runs
from cascade.model.image import BUILT, Build, BuildImage, image_id
from cascade.model.reference import repository_of
from operations.registry import advice

# A step of a Dockerfile may be silent for long.
SILENCE_S = 1800
_BUILDKIT = re.compile("BuildKit|unknown flag|Unknown flag", re.IGNORECASE)

Say = Callable[[str], None]


class BuildFailed(Exception):
    """An image could not be built; the message says why, and what to do."""


def is_built(source: BuildImage) -> bool:
    """Whether what is kept was made from exactly what the context holds now."""
    try:
        return bool(source.pinned)
    except ValueError:
        return False


def build(name: str, source: BuildImage, say: Say) -> Build:
    """Builds one image and writes its archive and record; raises BuildFailed."""
    try:
        digest = source.context_digest()
        tag = f"{repository_of(name)}:{digest.removeprefix('sha256:')[:12]}"
        with _engine() as engine:
            _build(engine, source, tag, say)
            _save(engine, tag, source.archive)
        done = Build(image=tag, context=digest, id=image_id(source.archive))
        write_whole(source.record, done.model_dump_json(indent=2) + "\n")
    except (DockerException, requests.RequestException, ValueError, OSError) as error:
        raise BuildFailed(f"{name}: {error}") from error
    say(f"{source.archive}: {source.archive.stat().st_size / 1e6:.1f} MB, {done.id}")
    return done


@contextmanager
def _engine() -> Iterator[docker.APIClient]:
    """The engine of this machine, or the one that DOCKER_HOST names."""
    try:
        engine = docker.APIClient(version="auto", timeout=SILENCE_S, **kwargs_from_env())
    except DockerException as error:
        reason = f"no Docker engine answers here: start one, or name one in DOCKER_HOST ({error})"
        raise ValueError(reason) from error
    try:
        yield engine
    finally:
        engine.close()


def _build(engine: docker.APIClient, source: BuildImage, tag: str, say: Say) -> None:
    with tempfile.TemporaryFile() as packed:
        write_context(source, packed)
        packed.seek(0)
        told = engine.build(
            fileobj=packed,
            custom_context=True,
            dockerfile=source.dockerfile,
            buildargs=source.arguments,
            tag=tag,
            rm=True,
            forcerm=True,
            decode=True,
        )
        _follow(told, say)


def write_context(source: BuildImage, packed: IO[bytes]) -> None:
    """Exactly what the context's digest speaks of, as a tar without times and owners."""
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name in context_paths(source.context, source.dockerfile, without=BUILT):
            path, member = source.context / name, tarfile.TarInfo(name)
            if path.is_symlink():
                member.type, member.linkname = tarfile.SYMTYPE, str(path.readlink())
                tar.addfile(member)
            elif path.is_dir():
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(member)
            else:
                member.size, member.mode = path.stat().st_size, 0o755 if runs(path) else 0o644
                with path.open("rb") as file:
                    tar.addfile(member, file)


def _follow(told: Iterable[dict[str, Any]], say: Say) -> None:
    """Says what the engine says; raises ValueError when it gives up."""
    for message in told:
        if line := message.get("stream", "").rstrip():
            say(line)
        if "error" in message:
            raise ValueError(_with_help(message["error"]))


def _with_help(said: str) -> str:
    if _BUILDKIT.search(said):
        return (
            f"{said}; this Dockerfile needs BuildKit: build it with `docker buildx build --output"
            " type=docker,dest=FILE.tar .` and map the name to an ArchiveImage"
        )
    helped = advice(said, "REGISTRY")
    base = "; a base image that is loaded here (`docker load`) is used as it is"
    return helped + (base if helped != said else "")


def _save(engine: docker.APIClient, tag: str, archive: Path) -> None:
    BUILT.mkdir(exist_ok=True)
    fresh = archive.with_name(f"{archive.name}.new")
    with fresh.open("wb") as file:
        for piece in engine.get_image(tag):
            file.write(piece)
    fresh.replace(archive)
