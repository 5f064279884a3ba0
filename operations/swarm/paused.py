"""Updates that Swarm has paused for one failed task, though it has replaced that task.

Source: SwarmKit, the updater pauses at the first failure; a new version of the same spec lets it go on.
"""

from __future__ import annotations

import docker.errors

from operations.engine_client import EngineClient


def go_on(client: EngineClient, name: str) -> bool:
    """Posts what a service is to be once more; False where the Swarm wrote to it meanwhile."""
    current = client.inspect_service(name)
    spec = current["Spec"]
    try:
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
    except docker.errors.APIError as error:
        if "update out of sequence" in str(error.explanation):
            return False
        raise
    return True
