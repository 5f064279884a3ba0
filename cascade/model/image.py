"""Where a group's image comes from, pinned to exact content."""

from __future__ import annotations

import json
import tarfile
import zlib
from pathlib import Path

from pydantic import Field

from cascade.model.strict import Strict


class RegistryImage(Strict):
    """An image by digest in a registry that the hosts can reach."""

    reference: str = Field(pattern=r"^[^\s@]+@sha256:[0-9a-f]{64}$")

    @property
    def pinned(self) -> str:
        """What a workload's spec names: the repository and the digest, in the engine's familiar form."""
        name, _, digest = self.reference.partition("@")
        folder, slash, last = name.rpartition("/")
        repository = f"{folder}{slash}{last.partition(':')[0]}"
        return f"{repository.removeprefix('docker.io/').removeprefix('library/')}@{digest}"


class ArchiveImage(Strict):
    """An image in a `docker save` archive on the deploying machine, loaded over SSH."""

    path: Path

    @property
    def pinned(self) -> str:
        """The full image ID; raises ValueError when the archive cannot be read."""
        return image_id(self.path)


ImageSource = RegistryImage | ArchiveImage


def image_id(archive: Path) -> str:
    """The ID of the one image in a `docker save` archive: the digest of its config.

    Raises ValueError when there is no such archive or it holds another number of images.
    """
    try:
        with tarfile.open(archive) as tar:
            member = tar.extractfile("manifest.json")
            images = json.load(member) if member else []
        digests = [Path(image["Config"]).name.removesuffix(".json") for image in images]
    except FileNotFoundError:
        raise ValueError(f"there is no archive {archive}") from None
    except (tarfile.TarError, LookupError, TypeError, ValueError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{archive} is no `docker save` archive: {error}") from None
    if len(digests) != 1:
        raise ValueError(f"{archive} holds {len(digests)} images, not one")
    return f"sha256:{digests[0]}"
