"""One look at the hosts, and what they are to be: what the files say, a release, or a saved plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cascade.exit_codes import ERROR, INVALID
from cascade.planning.desired import Desired
from cascade.planning.gpu import gpus_in
from cascade.planning.observed import releases_in
from cascade.planning.plan_file import NoPlan, target_of_plan
from cascade.planning.release import (
    Last,
    NoRelease,
    Release,
    decisions_in,
    decoded,
    older_values,
    release_in,
    target_of_release,
)
from cascade.planning.resource import Unknown
from cascade.planning.target import Target, target_of
from cascade.planning.unopened import digits_seen
from operations.snapshot import READ_BY_NAME

if TYPE_CHECKING:
    from operations.run import Run

LAST = "last"

Snapshots = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """The hosts as they were read, the target, and the last release where a part of the fleet is aimed at.

    `release` is the one that the target comes from, `lost` says why hosts of the run were not read.
    """

    target: Target
    snapshots: Snapshots
    last: Last = None
    release: Release | None = None
    lost: tuple[Unknown, ...] = ()


def look(run: Run) -> Look:
    """Reads the hosts; ends the run where one cannot be read, or the target is not there."""
    files, options = files_of(run), run.fleet.options
    aim, named = options.rollback or (LAST if options.repair else None), files.named
    if aim and in_part(run):
        run.fail(
            INVALID, "going back and repairing are for the whole fleet: leave out --limit and the groups"
        )
    if aim is None:
        snapshots = run.snapshots(named, LAST if in_part(run) else None)
        files = files_with_gpus(run, snapshots, files)
        return Look(files, snapshots, last=last_of(run, snapshots, files))
    snapshots = run.snapshots(named, aim)
    run.refuse_without_manager(snapshots)
    files = files_with_gpus(run, snapshots, files)
    release, target = read_release(run, snapshots, files, aim)
    if not covered(target.resources, named):
        snapshots = run.snapshots((*named, *target.resources))
    return Look(target, snapshots, release=release)


def files_as_read(run: Run, snapshots: Mapping[str, Any]) -> Target:
    """What the files say of the hosts that were read.

    Where a value is not open, it is as if it were the one that its readers have now.
    """
    if run.fleet.secrets:
        run.fleet = replace(run.fleet, digits=digits_seen(run.fleet, snapshots) | {**run.fleet.digits})
    _know_gpus(run, snapshots)
    return target_of(run.fleet)


def files_with_gpus(run: Run, snapshots: Mapping[str, Any], files: Target) -> Target:
    """The same as `files_of`, once the hosts have said which GPUs they have."""
    return files_of(run) if _know_gpus(run, snapshots) else files


def _know_gpus(run: Run, snapshots: Mapping[str, Any]) -> bool:
    """Takes the hosts' GPUs and what is decided of them into the fleet; whether there are such hosts."""
    fleet = run.fleet
    read = {
        host.name: snapshots[host.name]
        for host in fleet.hosts.values()
        if host.has_gpu and host.name in snapshots
    }
    if not read:
        return False
    gpus = {name: found for name, snapshot in read.items() if (found := gpus_in(snapshot)) is not None}
    engine = (snapshots.get(fleet.manager.name) or {}).get("docker") or {}
    releases = [*releases_in(engine, fleet.settings.system)]
    decided = decisions_in(releases[-1]) if releases else {}
    run.fleet = replace(fleet, gpus=gpus, decided=decided)
    return True


def files_of(run: Run) -> Target:
    """What the files say, or said when a plan was saved."""
    files = target_of(run.fleet)
    if run.saved is None or run.fleet.options.rollback:
        return files
    try:
        return target_of_plan(run.saved, files)
    except NoPlan as error:
        run.fail(INVALID, f"{run.fleet.options.plan_file} {error}")


def read_release(run: Run, snapshots: Mapping[str, Any], files: Target, aim: str) -> tuple[Release, Target]:
    """The release that a snapshot was asked for; ends the run where there is none."""
    try:
        return release_read(run, snapshots, files, aim)
    except NoRelease as error:
        run.fail(ERROR, f"{files.manager}: {error}")


def release_read(run: Run, snapshots: Mapping[str, Any], files: Target, aim: str) -> tuple[Release, Target]:
    """The release that a snapshot was asked for; raises NoRelease where there is none."""
    found = _release_of(snapshots, files.manager)
    if found is None:
        raise NoRelease(_why_none(run, snapshots, files, aim))
    release = release_in(found["Labels"])
    try:
        target = target_of_release(decoded(found["Data"]), release, files)
    except NoRelease as error:
        raise NoRelease(f"release {release.number} {error}; {_another(run)}") from error
    if reason := _of_others(run, target, files):
        raise NoRelease(f"release {release.number} is {reason}; {_another(run)}")
    if run.fleet.options.rollback:
        target = replace(target, notes=tuple(older_values(target, files)))
    return release, target


def _of_others(run: Run, target: Target, files: Target) -> str:
    """Why a release is not of this inventory's hosts, or an empty string."""
    if strangers := sorted(set(target.hosts) - set(run.fleet.hosts)):
        return f"of other hosts: {', '.join(strangers)} is not in {run.inventory_file}"
    return f"of another manager, {target.manager}" if target.manager != files.manager else ""


def _another(run: Run) -> str:
    return f"deploy the whole fleet, or choose another with `cascade history {run.inventory_file}`"


def _why_none(run: Run, snapshots: Mapping[str, Any], files: Target, aim: str) -> str:
    """Unknown is not the same as absent."""
    engine = (snapshots.get(files.manager) or {}).get("docker") or {}
    if files.manager not in snapshots:
        return "no release is known: it is the manager, which keeps them, and was not read"
    if engine.get("stopped"):
        return "no release is known: its engine does not run; `pyinfra … deploy.py` starts it"
    if "error" in engine:
        return f"no release is known: its engine cannot be read: {engine['error']}"
    if aim == LAST:
        return "no release is recorded: deploy first"
    which = "no release before the last one" if aim == "previous" else f"no release {aim}"
    return f"{which} is recorded: see `cascade history {run.inventory_file}`"


def _release_of(snapshots: Mapping[str, Any], manager: str) -> Any:
    engine = (snapshots.get(manager) or {}).get("docker") or {}
    return engine.get("release")


def in_part(run: Run) -> bool:
    """Whether the run is about a part of the fleet only."""
    return run.fleet.partial or len(run.state.inventory.get_active_hosts()) < len(run.fleet.hosts)


def last_of(run: Run, snapshots: Mapping[str, Any], files: Target) -> Last:
    """The last release, where the snapshots have it."""
    found = _release_of(snapshots, files.manager)
    return read_release(run, snapshots, files, LAST)[1] if found else None


def covered(wanted: Iterable[Desired], read: Iterable[Desired]) -> bool:
    """Whether everything that is asked for by name has been asked for."""
    keys = {item.key for item in read}
    return all(item.key in keys for item in wanted if item.key.kind in READ_BY_NAME)
