"""Records what tags mean, once, and sees when one means something else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cascade.files import write_whole
from cascade.model.image import PINS, ImageSource, RegistryImage, read_pins
from operations.registry import RegistryFailed, digest_now


@dataclass(frozen=True)
class Resolved:
    """What a tag meant when it was recorded, and what it means now; `fault` says why that is unknown."""

    reference: str
    was: str | None
    now: str | None
    fault: str = ""

    @property
    def moved(self) -> bool:
        return bool(self.was and self.now and self.was != self.now)


def tags(images: Mapping[str, ImageSource]) -> dict[str, RegistryImage]:
    """The sources that name a tag, by reference, sorted."""
    named = (source for source in images.values() if isinstance(source, RegistryImage))
    found = {source.reference: source for source in named if source.parsed.digest is None}
    return dict(sorted(found.items()))


def resolve(images: Mapping[str, ImageSource], *, unrecorded: bool) -> Iterator[Resolved]:
    """Asks the registries about every tag, or about those alone that have no record; raises ValueError."""
    pins = read_pins()
    for reference, source in tags(images).items():
        was = pins.get(reference)
        if was and unrecorded:
            continue
        try:
            yield Resolved(reference, was, digest_now(source))
        except RegistryFailed as error:
            yield Resolved(reference, was, None, str(error))


def record(resolved: list[Resolved]) -> None:
    """Writes what was resolved beside what other inventories recorded; raises ValueError."""
    fresh = {item.reference: item.now for item in resolved if item.now}
    if pins := read_pins() | fresh:
        write_whole(PINS, json.dumps(pins, indent=2, sort_keys=True) + "\n")
