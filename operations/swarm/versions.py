"""Updates of objects to which the Swarm itself writes: each names the version that it was made from.

Source: Docker Engine API, "update out of sequence" of services and nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import docker.errors

from operations.failed import WorkFailed
from operations.polling import poll

DEADLINE_S = 30.0
_OVERTAKEN = "update out of sequence"

Item = Mapping[str, Any]


def update_latest(name: str, inspect: Callable[[], Item], write: Callable[[Item], object]) -> None:
    """Has `write` update what `inspect` reads; again while only the Swarm's own notes have changed between.

    Raises WorkFailed where somebody has changed the spec meanwhile, or the Swarm does not come to rest.
    """
    begun = inspect()
    versions = chain([begun], iter(inspect, None))

    def attempt() -> bool:
        current = next(versions)
        if current["Spec"] != begun["Spec"]:
            return False
        try:
            write(current)
        except docker.errors.APIError as error:
            if _OVERTAKEN not in str(error.explanation):
                raise
            raise WorkFailed(f"the Swarm goes on changing it: {error.explanation}") from error
        return True

    if not poll(name, attempt, DEADLINE_S):
        raise WorkFailed(f"{name}: somebody else has just changed it: run again")
