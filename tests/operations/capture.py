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
from typing import Any

from cascade.planning.checks.subject import Facts
from cascade.planning.observed import Snapshot
from cascade.planning.release import LABEL_OPERATOR
from cascade.planning.target import target_of
from operations.look import Look
from operations.preflight import gather
from operations.session import session

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
OPERATOR = "operator@laptop"


def capture(name: str, what: str) -> None:
    """Reads the hosts of the lab's inventory and keeps what they said."""
    with session(ROOT / "inventories/lab.py") as run:
        target = target_of(run.fleet)
        snapshots = run.snapshots(target.resources)
        if what == "readings":
            facts = Facts(run.fleet, run.plan_of(Look(target, snapshots)), snapshots, {}, {})
            found = gather(run, facts, prove_ports=True).readings
        else:
            found = {host: _without_names(snapshot) for host, snapshot in snapshots.items()}
    content = json.dumps(found, indent=1, sort_keys=True).encode()
    (HERE / what / f"{name}.json.gz").write_bytes(gzip.compress(content, mtime=0))


def _without_names(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot that does not say who deployed."""
    docker = snapshot["docker"] or {}
    for config in docker.get("configs", ()):
        if LABEL_OPERATOR in config["Labels"]:
            config["Labels"][LABEL_OPERATOR] = OPERATOR
    return dict(snapshot)


if __name__ == "__main__":
    capture(sys.argv[1], "readings" if sys.argv[2:] == ["readings"] else "snapshots")
