"""What the preflight read of the lab's hosts; see tests/operations/capture.py."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

READINGS = Path(__file__).parent / "operations" / "readings"


def captured_readings(name: str) -> dict[str, Any]:
    """The captured readings by host, with clocks that are right now."""
    readings: dict[str, Any] = json.loads(gzip.decompress((READINGS / f"{name}.json.gz").read_bytes()))
    for reading in readings.values():
        reading["clock"] = {"at": time.time(), "took": 0.0}
    return readings
