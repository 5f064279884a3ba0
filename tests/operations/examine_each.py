"""Examines the inventory in each folder it is given, as every command does; prints the problems as JSON.

A process of its own, because pyinfra's command line patches the standard library when it is imported.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pyinfra_cli  # noqa: F401 - before all else

from cascade.model.strict import InvalidFiles
from operations.session import examine


def problems_in(folder: str, inventory: str) -> list[dict[str, str]]:
    """The problems of all files, empty where all is right."""
    os.chdir(folder)
    try:
        examine(Path(inventory))
    except InvalidFiles as invalid:
        return [vars(problem) for problem in invalid.problems]
    return []


if __name__ == "__main__":
    inventory, *folders = sys.argv[1:]
    json.dump({folder: problems_in(folder, inventory) for folder in folders}, sys.stdout)
