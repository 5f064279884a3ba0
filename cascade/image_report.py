"""What `cascade images list` says, and what it ends with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from cascade.exit_codes import ATTENTION, ERROR

Document = dict[str, Any]


def image_lines(image: Document) -> Iterator[str]:
    """One image of the overview, for people."""
    size = f", {megabytes(image['bytes'])}" if image["bytes"] is not None else ""
    yield f"{image['name']}: {image['source']} {image['from']}{size}"
    yield f"  {image['problem'] or image['pinned'] or 'no group file names it'}"
    if image["hosts"] and image["pinned"]:
        words = {True: "there", False: "missing", None: "unknown"}
        yield f"  {', '.join(f'{host}: {words[there]}' for host, there in image['hosts'].items())}"
    if image["moved"]:
        yield f"  moved: now {image['moved']}; `cascade images pin INVENTORY --update` takes it"
    if image["unknown"]:
        yield f"  whether it moved is unknown: {image['unknown']}"


def code_of(images: Iterable[Document]) -> int:
    """Unknown counts as an error; what moved or is missing wants attention."""
    images = list(images)
    if any(image["unknown"] or None in image["hosts"].values() for image in images):
        return ERROR
    if any(image["moved"] or image["problem"] or False in image["hosts"].values() for image in images):
        return ATTENTION
    return 0


def megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
