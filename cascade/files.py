"""Writing files on the deploying machine."""

from __future__ import annotations

from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """So that an interruption leaves the old file or the new one, never a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
