"""Updates that Swarm has paused for one failed task, though it has replaced that task.

Source: SwarmKit, the updater pauses at the first failure; a new version of the same spec lets it go on.
"""

from __future__ import annotations

from operations.engine_client import EngineClient
from operations.swarm.versions import Item, update_latest


def go_on(client: EngineClient, name: str) -> None:
    """Posts what a service is to be once more; raises WorkFailed where somebody else changes it meanwhile."""

    def post(current: Item) -> None:
        spec = current["Spec"]
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
