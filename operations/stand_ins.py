"""A rehearsal: the stand-in in place of every image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pyinfra import logger

from cascade.model.image import ArchiveImage, ImageSource
from cascade.model.service import GroupFile
from cascade.model.strict import InvalidFiles, Problem
from lab.errors import LabError
from lab.stand_in import stand_in_archive

FOLDER = Path(".lab")


def stand_ins(groups: Iterable[GroupFile]) -> dict[str, ImageSource]:
    """The stand-in under the name of every image that a group file uses, made if it is not there.

    Raises InvalidFiles when it cannot be made on this machine.
    """
    try:
        archive = stand_in_archive(FOLDER, logger.info)
    except (LabError, OSError) as error:
        reason = f"the stand-in cannot be made here: {' '.join(str(error).split())}"
        fix = f"or put a static busybox for the hosts' architecture at {FOLDER / 'busybox'}"
        raise InvalidFiles([Problem("options", "stand_ins", reason, fix)]) from error
    source = ArchiveImage(path=archive)
    return {service.image: source for group in groups for service in group.services.values()}
