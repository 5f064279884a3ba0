"""The units of a watch on this machine: put there, started, and taken away again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cascade.files import write_whole
from cascade.watch.publish import RESULT
from cascade.watch.units import STATE, Scope, Watch, metrics_file, metrics_of, render

_SYSTEM_UNITS = Path("/etc/systemd/system")
_RUNS_SYSTEMD = Path("/run/systemd/system")
_LINGERING = Path("/var/lib/systemd/linger")


class NotInstalled(Exception):
    """systemd did not do its part; the message says what it said and what to do next."""


@dataclass(frozen=True)
class Systemd:
    """The systemd of this machine or of one user."""

    scope: Scope

    @property
    def folder(self) -> Path:
        """Where its units are kept."""
        if self.scope == "system":
            return _SYSTEM_UNITS
        config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
        return Path(config).expanduser() / "systemd/user"

    @property
    def command(self) -> tuple[str, ...]:
        """What a person types to reach it."""
        return ("systemctl",) if self.scope == "system" else ("systemctl", "--user")

    def does(self, *words: str) -> bool:
        """Whether it says yes, or does it."""
        return self._run(*words).returncode == 0

    def says(self, *words: str) -> str:
        """What it answers."""
        return self._run(*words).stdout.strip()

    def do(self, *words: str) -> None:
        """Raises NotInstalled with what it says."""
        done = self._run(*words)
        if done.returncode:
            said = done.stderr.strip() or f"exit code {done.returncode}"
            asked = " ".join((*self.command, *words))
            raise NotInstalled(f"{asked}: {said}; mend that and run this again")

    def is_stale(self, unit: str) -> bool:
        """Whether it has not read a unit's file since the file was changed."""
        return self.says("show", "-p", "NeedDaemonReload", "--value", unit) == "yes"

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )


@dataclass(frozen=True)
class Installed:
    """What an installation had to change, whether its first check could be made, and where results are."""

    changes: tuple[str, ...]
    checked: bool
    results: Path | None


def runs_here() -> bool:
    """Whether systemd runs this machine, as sd_booted(3) has it."""
    return _RUNS_SYSTEMD.is_dir()


def lingers(user: str) -> bool:
    """Whether a user's systemd runs while they are not logged in."""
    return (_LINGERING / user).exists()


def install(watch: Watch) -> Installed:
    """Writes what differs, starts the timer and makes one check; raises NotInstalled and OSError.

    Where nothing differs and the last check could be made, nothing is done.
    """
    systemd = Systemd(watch.scope)
    service, timer = f"{watch.name}.service", f"{watch.name}.timer"
    _forget_metrics(systemd, watch.name, unless=watch.metrics)
    changes = [name for name, text in render(watch).items() if _written(systemd.folder / name, text)]
    if changes or systemd.is_stale(service) or systemd.is_stale(timer):
        systemd.do("daemon-reload")
    if timer in changes and systemd.does("is-active", "-q", timer):
        systemd.do("restart", timer)
    if not (systemd.does("is-enabled", "-q", timer) and systemd.does("is-active", "-q", timer)):
        systemd.do("enable", "--now", timer)
        changes.append("the timer is started")
    due = bool(changes) or systemd.does("is-failed", "-q", service)
    checked = not due or systemd.does("start", service)
    return Installed(tuple(changes), checked, _results(systemd, watch.name))


def uninstall(scope: Scope, name: str) -> bool:
    """Stops a watch and removes its units, results and metrics; False where there is none."""
    systemd = Systemd(scope)
    units = [systemd.folder / f"{name}.{kind}" for kind in ("timer", "service")]
    found = [unit for unit in units if unit.exists()]
    for unit in found:
        systemd.do(*(("disable", "--now") if unit.suffix == ".timer" else ("stop",)), unit.name)
    _forget_metrics(systemd, name)
    if (results := _results(systemd, name)) and results.parent.exists():
        shutil.rmtree(results.parent)
    for unit in found:
        unit.unlink()
    if found:
        systemd.does("reset-failed", f"{name}.service")
        systemd.do("daemon-reload")
    return bool(found)


def _written(path: Path, text: str) -> bool:
    """Whether the file had to be written."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    write_whole(path, text)
    return True


def _forget_metrics(systemd: Systemd, name: str, unless: Path | None = None) -> None:
    """Removes the metrics of the service that is installed, which would be shown for ever."""
    service = systemd.folder / f"{name}.service"
    folder = metrics_of(service.read_text(encoding="utf-8")) if service.exists() else None
    if folder and folder != unless:
        metrics_file(folder, name).unlink(missing_ok=True)


def _results(systemd: Systemd, name: str) -> Path | None:
    """Where the service leaves its results; where a user's state is differs between versions of systemd."""
    argv = systemd.says("show", "-p", "ExecStart", "--value", f"{name}.service")
    found = re.search(rf"--publish (\S.*?/{STATE}/{re.escape(name)})\b", argv)
    return Path(found[1]) / RESULT if found else None
