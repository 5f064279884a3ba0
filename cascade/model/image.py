"""Where a group's image comes from, pinned to exact content."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import Discriminator, Tag, ValidationError, field_validator

from cascade.model.context import context_digest
from cascade.model.reference import Reference, parse_reference
from cascade.model.strict import Strict

PINS = Path("group_data/images.json")
BUILT = Path(".images")

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_UNREADABLE = (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    TypeError,
    ValueError,
    tarfile.TarError,
    zlib.error,
)


class RegistryImage(Strict):
    """An image in a registry that the hosts can reach: by digest, or by a tag whose digest is recorded.

    `credentials` lets the hosts pull with the deploying machine's login for that registry.
    `insecure` asks the registry over HTTP without TLS.
    """

    reference: str
    credentials: bool = False
    insecure: bool = False

    @field_validator("reference")
    @classmethod
    def _exact(cls, reference: str) -> str:
        parse_reference(reference)
        return reference

    @property
    def parsed(self) -> Reference:
        return parse_reference(self.reference)

    @property
    def archive(self) -> None:
        """There is none: hosts pull it."""
        return

    @property
    def digest(self) -> str | None:
        """The digest that the reference names or that was recorded for its tag; ValueError if unreadable."""
        return self.parsed.digest or read_pins().get(self.reference)

    @property
    def pinned(self) -> str:
        """What a workload's spec names: the repository and the digest, in the engine's familiar form.

        Raises ValueError when no digest was ever recorded for the tag.
        """
        if digest := self.digest:
            return f"{self.parsed.familiar}@{digest}"
        raise ValueError(
            f"{self.reference} is a moving reference, and {PINS} does not say which image it means:"
            " run `cascade images pin INVENTORY`"
        )


class ArchiveImage(Strict):
    """An image in a `docker save` archive on the deploying machine, loaded over SSH."""

    path: Path

    @property
    def archive(self) -> Path:
        return self.path

    @property
    def pinned(self) -> str:
        """The full image ID; raises ValueError when the archive cannot be read."""
        return image_id(self.path)


class Build(Strict):
    """What was built, from what; kept beside its archive."""

    image: str
    context: str
    id: str


class BuildImage(Strict):
    """An image that `cascade images build` makes on the deploying machine; from then on an archive.

    `dockerfile` lies in the context; `arguments` are its build arguments, which anybody can read in the
    image: no place for secrets.
    """

    context: Path
    dockerfile: str = "Dockerfile"
    arguments: dict[str, str] = {}

    @field_validator("dockerfile")
    @classmethod
    def _inside(cls, dockerfile: str) -> str:
        path = PurePosixPath(dockerfile)
        if path.is_absolute() or ".." in path.parts or not path.name:
            raise ValueError(f"{dockerfile!r} must lie in the context: write its path from there")
        return str(path)

    @property
    def archive(self) -> Path:
        """Where its build is kept, by the context's name and what tells contexts of one name apart."""
        which = hashlib.sha256(f"{self.context.as_posix()}\n{self.dockerfile}".encode()).hexdigest()[:8]
        name = re.sub(r"[^a-z0-9]+", "-", self.context.resolve().name.lower()).strip("-") or "context"
        return BUILT / f"{name}-{which}.tar"

    @property
    def record(self) -> Path:
        """What is known of the build: a Build as JSON."""
        return self.archive.with_suffix(".json")

    def context_digest(self) -> str:
        """What it would be built from now; raises ValueError when that cannot be read."""
        return context_digest(self.context, self.dockerfile, self.arguments, without=BUILT)

    @property
    def pinned(self) -> str:
        """The ID of what was built from exactly this context; raises ValueError where nothing was."""
        now, build = self.context_digest(), self._read_record()
        if build is None or not self.archive.is_file():
            raise ValueError(f"{self.context} was never built here: run `cascade images build INVENTORY`")
        if build.context != now:
            raise ValueError(
                f"{self.context} changed since it was built: run `cascade images build INVENTORY`"
            )
        return build.id

    def _read_record(self) -> Build | None:
        try:
            return Build.model_validate_json(self.record.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise ValueError(f"{self.record} cannot be read, {_first_line(error)}: remove it") from None


def _kind(source: object) -> str:
    """Which of the three a person means, so that what is wrong is said of that one alone."""
    if isinstance(source, ArchiveImage) or (isinstance(source, Mapping) and "path" in source):
        return "[archive]"
    if isinstance(source, BuildImage) or (isinstance(source, Mapping) and "context" in source):
        return "[build]"
    return "[registry]"


ImageSource = Annotated[
    Annotated[RegistryImage, Tag("[registry]")]
    | Annotated[ArchiveImage, Tag("[archive]")]
    | Annotated[BuildImage, Tag("[build]")],
    Discriminator(_kind),
]


def pin_each(images: Mapping[str, ImageSource]) -> dict[str, str | ValueError]:
    """What each name is pinned to, or why it is not; a source of several names is read once."""
    found: dict[str, str | ValueError] = {}
    for source in images.values():
        if repr(source) not in found:
            try:
                found[repr(source)] = source.pinned
            except ValueError as error:
                found[repr(source)] = error
    return {name: found[repr(source)] for name, source in images.items()}


def read_pins() -> dict[str, str]:
    """The recorded digests by reference; raises ValueError when the record cannot be understood."""
    try:
        pins = json.loads(PINS.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{PINS} cannot be read, {error}: mend or remove it, and run `cascade images pin INVENTORY`"
        ) from None
    if not isinstance(pins, dict) or not all(
        isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in pins.values()
    ):
        raise ValueError(
            f"{PINS} is no map of references to digests: remove it and run `cascade images pin INVENTORY`"
        )
    return pins


def image_id(archive: Path) -> str:
    """The ID of the one image in a `docker save` archive: the digest of its config.

    Raises ValueError when there is no such archive or it holds another number of images.
    """
    return _saved(archive)[0]


def image_tags(archive: Path) -> list[str]:
    """The names that an engine gives to the image when it loads the archive, as it shows them.

    Raises ValueError.
    """
    references = map(parse_reference, _saved(archive)[1])
    return [f"{reference.familiar}:{reference.tag}" for reference in references]


def _saved(archive: Path) -> tuple[str, list[str]]:
    """The ID and the tags of the one image in an archive."""
    try:
        with tarfile.open(archive) as tar:
            member = tar.extractfile("manifest.json")
            images = json.load(member) if member else []
        found = [(Path(image["Config"]).name, list(image.get("RepoTags") or ())) for image in images]
    except FileNotFoundError:
        raise ValueError(
            f"there is no archive {archive}: make it with `docker save -o {archive} IMAGE`"
        ) from None
    except _UNREADABLE as error:
        raise ValueError(f"{archive} is no `docker save` archive, {error}: make it anew") from None
    if len(found) != 1:
        raise ValueError(f"{archive} holds {len(found)} images, not one: run `docker save` with one image")
    ((config, tags),) = found
    return f"sha256:{config.removesuffix('.json')}", tags


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
