"""The systemd units of one watch: a service that checks an inventory once, and the timer that starts it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parents[2] / "templates/etc/systemd/system"
STATE = "cascade-drift"

Scope = Literal["system", "user"]

_EVERY = re.compile(r"([1-9][0-9]{0,4})([mhd])", re.ASCII)
_SECONDS = {"m": 60, "h": 3600, "d": 86400}
_LONGEST_S = 7 * 86400
# A private /tmp hides these from the check.
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108
_OWN_SECTION = "[X-Cascade]"
_PROGRAM = "the program"


@dataclass(frozen=True)
class Watch:
    """What is checked, how often, and as whom; every path is absolute."""

    system: str
    inventory: Path
    folder: Path
    program: Path
    every: str
    scope: Scope
    user: str
    metrics: Path | None = None

    @property
    def name(self) -> str:
        """What the units are called."""
        return watch_name(self.inventory)

    @property
    def argv(self) -> tuple[str, ...]:
        """The check that the service runs, but for the folder of its results."""
        inside = self.inventory.is_relative_to(self.folder)
        inventory = self.inventory.relative_to(self.folder) if inside else self.inventory
        metrics = ("--metrics", str(self.metrics)) if self.metrics else ()
        # After `--` no name is an option, whatever it begins with.
        return (str(self.program), "drift", *metrics, "--", str(inventory))


def watch_name(inventory: Path) -> str:
    """One name for each inventory of a machine, from its absolute path."""
    digest = hashlib.sha256(str(inventory).encode(errors="surrogateescape")).hexdigest()[:8]
    stem = re.sub(r"[^A-Za-z0-9_-]", "_", inventory.stem)[:40]
    return f"cascade-drift-{stem}-{digest}"


def metrics_file(folder: Path, name: str) -> Path:
    """Where a watch leaves its metrics in the folder that the textfile collector reads."""
    return folder / f"{name}.prom"


def seconds_of(every: str) -> int:
    """The seconds of `15m`, `2h` or `1d`; raises ValueError."""
    match = _EVERY.fullmatch(every)
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 60 <= seconds <= _LONGEST_S:
        raise ValueError(f"{every!r} is no time between checks: write one like 15m, 2h or 1d, of at most 7d")
    return seconds


def faults(watch: Watch) -> list[str]:
    """Why systemd could not run this watch, with what to do about it."""
    return [fault for path, what in _paths(watch) for fault in _path_faults(path, what)]


def render(watch: Watch) -> dict[str, str]:
    """Both unit files, by name."""
    # Unit files, not HTML: every value goes through `literal` or `argument`.
    templates = Environment(
        autoescape=False,  # noqa: S701
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {"literal": literal, "argument": argument}
    values = {"watch": watch, "state": f"{STATE}/{watch.name}", "spread_s": seconds_of(watch.every) // 20}
    return {
        f"{watch.name}.{kind}": templates.get_template(f"cascade-drift.{kind}.j2").render(values)
        for kind in ("service", "timer")
    }


def literal(value: object) -> str:
    """A value that systemd takes as it stands, but for its specifiers."""
    return str(value).replace("%", "%%")


def argument(value: object) -> str:
    """A value as one word of a line that systemd splits."""
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{literal(escaped)}"'


def metrics_of(service: str) -> Path | None:
    """Where the service of this text leaves its metrics."""
    _, _, own = service.partition(f"{_OWN_SECTION}\n")
    folder = next((line[8:] for line in own.splitlines() if line.startswith("Metrics=")), "")
    return Path(folder.replace("%%", "%")) if folder else None


def _paths(watch: Watch) -> Iterator[tuple[Path, str]]:
    yield watch.folder, "the working folder"
    yield watch.inventory, "the inventory"
    yield watch.program, _PROGRAM
    if watch.metrics:
        yield watch.metrics, "the folder for metrics"


def _path_faults(path: Path, what: str) -> Iterable[str]:
    text = str(path)
    if not text.isprintable() or "\\" in text or text != text.strip():
        signs = "control characters, backslashes, or blanks at its end"
        yield f"{what}: {text!r} has {signs}, which systemd does not take: give it a plainer name"
    if what == _PROGRAM and re.search("[\"']", text):
        yield f"{what}: {text} has quotes, which systemd does not take there: move the checkout"
    for temporary in _TEMPORARY:
        if path.is_relative_to(temporary):
            yield f"{what}: {text} lies in {temporary}, which the check does not see: move it elsewhere"
