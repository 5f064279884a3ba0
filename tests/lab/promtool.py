"""Prometheus's own judgement of metrics: this machine's promtool, or the one in Debian's package."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from shutil import which

from lab import apt
from lab.progress import say_aloud
from tests.lab.conftest import ROOT


def promtool() -> Path:
    """The program, kept in .lab once it was fetched."""
    if found := which("promtool"):
        return Path(found)
    lab_dir = ROOT / ".lab"
    kept = lab_dir / "promtool"
    if not kept.exists():
        lab_dir.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=lab_dir) as folder:
            apt.unpack("prometheus", Path(folder), lab_dir / "apt.log", say_aloud)
            fresh = Path(folder, "usr/bin/promtool")
            fresh.chmod(0o755)
            fresh.replace(kept)
    return kept


def check_metrics(metrics: str) -> str:
    """What `promtool check metrics` has to say: nothing, when they are well made."""
    done = subprocess.run(
        [promtool(), "check", "metrics"], input=metrics, capture_output=True, text=True, check=False
    )
    return f"{done.stdout}{done.stderr}" or ("" if done.returncode == 0 else f"exit code {done.returncode}")
