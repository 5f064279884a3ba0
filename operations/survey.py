"""As much of a fleet as can be read: a host that cannot be holds up no other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cascade.planning.desired import Desired
from cascade.planning.preflight import Finding
from cascade.planning.release import NoRelease
from cascade.planning.resource import Unknown
from operations.look import LAST, Look, covered, files_of, files_with_gpus, in_part, last_of, release_read
from operations.preflight import connect_each, unread
from operations.run import Run


@dataclass(frozen=True)
class Survey:
    """What was seen, and whether a host could not be reached.

    `look` is None where the release that it is to be compared with is not known, which `unknown` then says
    beside the hosts that were not read.
    """

    look: Look | None
    unknown: tuple[Unknown, ...]
    unreachable: bool


def survey(run: Run, aim: str | None = None) -> Survey:
    """Connects and reads each host that lets itself be read; `aim` is a release to compare them with."""
    files, reading = files_of(run), _Reading(run)
    named = files.named
    snapshots = reading.take(named, aim or (LAST if in_part(run) else None))
    files = files_with_gpus(run, snapshots, files)
    if aim is None:
        return reading.end(Look(files, snapshots, last_of(run, snapshots, files)))
    try:
        release, target = release_read(run, snapshots, files, aim)
    except NoRelease as error:
        return reading.end(None, Unknown(files.manager, "release", str(error)))
    if not covered(target.resources, named):
        snapshots = reading.take((*named, *target.resources))
    return reading.end(Look(target, snapshots, release=release))


class _Reading:
    """The hosts of a run, fewer each time that one fails."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.lost = list(connect_each(run, trusting=False, fingerprints=()))

    def take(self, wanted: Iterable[Desired], release: str | None = None) -> dict[str, Any]:
        """The snapshots of the hosts that have not failed yet."""
        gone = {finding.host for finding in self.lost}
        hosts = [host for host in self.run.state.inventory.get_active_hosts() if host.name not in gone]
        taken = self.run.read_snapshots(hosts, wanted, release)
        if silent := sorted(name for name, snapshot in taken.items() if snapshot is None):
            self.lost += unread(self.run, silent)
        return {name: snapshot for name, snapshot in taken.items() if snapshot is not None}

    def end(self, look: Look | None, *unknown: Unknown) -> Survey:
        lost = tuple(map(_unknown, self.lost))
        unreachable = any(finding.check == "reachable" for finding in self.lost)
        if look:
            look = Look(look.target, look.snapshots, look.last, look.release, lost)
        return Survey(look, (*lost, *unknown), unreachable)


def _unknown(finding: Finding) -> Unknown:
    step = f"; {finding.next_step}" if finding.next_step else ""
    return Unknown(finding.host, "host", f"{finding.message}{step}")
