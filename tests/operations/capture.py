"""Captures what the lab's hosts say of themselves: `python -m tests.operations.capture NAME`.

Writes tests/operations/snapshots/NAME.json.gz, the snapshot of every host by name. Captured so far:
`bare`, both hosts after `cascade lab reset`; `converged`, the same after script/demo.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

from operations.session import session

ROOT = Path(__file__).parents[2]
SNAPSHOTS = Path(__file__).with_name("snapshots")


def capture(name: str) -> None:
    """Reads the hosts of the lab's inventory and keeps what they said."""
    with session(ROOT / "inventories/lab.py") as run:
        snapshots = run.snapshots()
    content = json.dumps(snapshots, indent=1, sort_keys=True).encode()
    (SNAPSHOTS / f"{name}.json.gz").write_bytes(gzip.compress(content, mtime=0))


if __name__ == "__main__":
    capture(sys.argv[1])
