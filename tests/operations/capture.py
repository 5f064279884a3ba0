"""Captures what the lab's hosts say of themselves: `python -m tests.operations.capture NAME`.

Writes tests/operations/snapshots/NAME.json.gz, the snapshot of every host by name. Captured so far:
`bare`, both hosts after `cascade lab reset`; `converged`, the same after script/demo.
`python -m tests.operations.capture NAME readings` writes what the preflight reads of the same hosts instead,
to tests/operations/readings/NAME.json.gz.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

from cascade.planning.checks.subject import Facts
from operations.preflight import gather
from operations.session import session

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def capture(name: str, what: str) -> None:
    """Reads the hosts of the lab's inventory and keeps what they said."""
    with session(ROOT / "inventories/lab.py") as run:
        snapshots = run.snapshots()
        if what == "readings":
            facts = Facts(run.fleet, run.plan_of(snapshots), snapshots, {}, {})
            found = gather(run, facts, prove_ports=True).readings
        else:
            found = snapshots
    content = json.dumps(found, indent=1, sort_keys=True).encode()
    (HERE / what / f"{name}.json.gz").write_bytes(gzip.compress(content, mtime=0))


if __name__ == "__main__":
    capture(sys.argv[1], "readings" if sys.argv[2:] == ["readings"] else "snapshots")
