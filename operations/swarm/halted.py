"""Updates that Swarm leaves in the middle, and how each comes to its end.

Source: SwarmKit. The updater pauses at the first failure, though the task is replaced: a new version of the
same spec lets it go on. A task that is restarted while its slot is updated stays beside the updated one:
another update, forced, replaces both. And the updater waits for the task that it has made on a node until
that node says what became of it, though another one has taken its place, and leaves old tasks beside new ones
where it is cut off: a service that differs in anything gets another updater, which keeps the tasks that are
right and ends the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from operations.engine_client import EngineClient
from operations.swarm.versions import Item, update_latest

Halt = Literal["paused", "doubled", "outlived", "stranded"]
WHY: Mapping[Halt, str] = {
    "paused": "had paused its update for a failed task",
    "doubled": "ran a replica twice",
    "outlived": "ran an old replica beside its successor",
    "stranded": "waited for a replica on a node that is down",
}


def go_on(client: EngineClient, name: str, halt: Halt) -> None:
    """Posts what a service is to be once more; raises WorkFailed where somebody else changes it meanwhile."""
    spec = client.inspect_service(name)["Spec"]
    if halt == "doubled":
        forced = spec["TaskTemplate"].get("ForceUpdate", 0) + 1
        spec = {**spec, "TaskTemplate": {**spec["TaskTemplate"], "ForceUpdate": forced}}
    if halt in ("outlived", "stranded"):
        policy = spec.get("UpdateConfig") or {}
        _post(client, name, {**spec, "UpdateConfig": {**policy, "Monitor": policy.get("Monitor", 0) + 1}})
    _post(client, name, spec)


def _post(client: EngineClient, name: str, spec: Mapping[str, Any]) -> None:
    def post(current: Item) -> None:
        client.update_service(
            current["ID"],
            current["Version"]["Index"],
            task_template=spec["TaskTemplate"],
            name=spec["Name"],
            labels=spec.get("Labels"),
            mode=spec["Mode"],
            update_config=spec.get("UpdateConfig"),
            rollback_config=spec.get("RollbackConfig"),
            endpoint_spec=spec.get("EndpointSpec"),
        )

    update_latest(name, lambda: client.inspect_service(name), post)
