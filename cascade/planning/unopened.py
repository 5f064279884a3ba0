"""What stands in place of values that are not open: those that agents read now, by the names of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from posixpath import basename
from typing import Any

from cascade.model.fleet import Fleet
from cascade.model.secrets import swarm_prefix
from cascade.planning.observed import Snapshot
from cascade.planning.specs import SECRET_FOLDER


def digits_seen(fleet: Fleet, snapshots: Mapping[str, Snapshot]) -> dict[str, str]:
    """The digits of the secrets that agents have, for whoever only looks and has no identity."""
    system = fleet.settings.system
    names = {swarm_prefix(system, name): name for name in fleet.secrets}
    read = (
        name.rpartition("-") for snapshot in snapshots.values() for name in _read(snapshot["docker"] or {})
    )
    return {names[prefix]: digits for prefix, _, digits in read if prefix in names}


def _read(engine: Mapping[str, Any]) -> Iterator[str]:
    for service in engine.get("services", ()):
        container = service["Spec"]["TaskTemplate"].get("ContainerSpec") or {}
        yield from (item["SecretName"] for item in container.get("Secrets") or ())
    for item in engine.get("containers", ()):
        for mount in item["container"]["HostConfig"].get("Mounts") or ():
            if mount.get("Source", "").startswith(f"{SECRET_FOLDER}/"):
                yield basename(mount["Source"])
