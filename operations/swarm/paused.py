"""Updates that Swarm leaves in the middle: paused for one task, or with a replica that runs twice.

Source: SwarmKit, the updater pauses at the first failure, though the task is replaced: a new version of the
same spec lets it go on. A task that is restarted while its slot is updated stays beside the updated one:
another update, forced, replaces both.
"""

from __future__ import annotations

from operations.engine_client import EngineClient
from operations.swarm.versions import Item, update_latest


def go_on(client: EngineClient, name: str, force: bool) -> None:
    """Posts what a service is to be once more; raises WorkFailed where somebody else changes it meanwhile."""

    def post(current: Item) -> None:
        spec = current["Spec"]
        forced = spec["TaskTemplate"].get("ForceUpdate", 0) + force
        client.update_service(
            current["ID"],
            current["Version"]["Index"],
            task_template={**spec["TaskTemplate"], "ForceUpdate": forced},
            name=spec["Name"],
            labels=spec.get("Labels"),
            mode=spec["Mode"],
            update_config=spec.get("UpdateConfig"),
            rollback_config=spec.get("RollbackConfig"),
            endpoint_spec=spec.get("EndpointSpec"),
        )

    update_latest(name, lambda: client.inspect_service(name), post)
