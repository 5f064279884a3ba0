"""What git has of a folder."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

_LONGEST_S = 10
_STATUS = ("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--ignored=matching")


def unlike_git(folder: Path) -> Iterator[tuple[Path, bool]]:
    """What lies here unlike in the last commit, and whether git ignores it; nothing outside of git."""
    for line in filter(None, _git(folder, *_STATUS, "--", ".").split("\0")):
        state, path = line[:2], Path(line[3:])
        # Git counts from the top of its tree; a folder stands for all that is in it.
        yield folder if line.endswith("/") else folder / path.name, state == "!!"


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_LONGEST_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else done.stdout.decode(errors="surrogateescape")
