"""Captured hosts as they would be once a target is deployed, and a plan in few words."""

from __future__ import annotations

from typing import Any

from cascade.planning.plan import Plan
from cascade.planning.target import Target


def deploy_agents(manager: dict[str, Any], target: Target, kind: str) -> None:
    """Has a manager's engine hold the agents as they are wanted, as far as their configs or secrets go."""
    for item in target.resources:
        fields = item.fields
        if item.key.kind == "service":
            (service,) = (found for found in manager["services"] if found["Spec"]["Name"] == item.key.name)
            container = service["Spec"]["TaskTemplate"]["ContainerSpec"]
            wanted = fields["TaskTemplate"]["ContainerSpec"].get(f"{kind}s", [])
            container[f"{kind}s"] = [{**use, f"{kind}ID": f"id-of-{use[f'{kind}Name']}"} for use in wanted]
            service["Spec"]["Labels"] = fields["Labels"]
        if item.key.kind == "container":
            (found,) = (
                found["container"]
                for found in manager["containers"]
                if found["container"]["Name"] == f"/{item.key.name}"
            )
            found["HostConfig"]["Mounts"] = fields["HostConfig"]["Mounts"]
            found["Config"]["Labels"] = {**found["Config"]["Labels"], **fields["Labels"]}


def said(plan: Plan) -> list[str]:
    """Every change and its host."""
    return [f"{change} on {change.key.host}" for change in plan.changes]
