"""Ports as the engine publishes them, and as a host listens at them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

# Where it is published, what it leads to, by which protocol, and how.
Published = tuple[int, int, str, str]

_ENGINES = re.compile(r'"(?:dockerd|docker-proxy)"')


def ports_of_service(service: Mapping[str, Any]) -> set[Published]:
    """What Swarm publishes for a service."""
    return {
        (port.get("PublishedPort", 0), port["TargetPort"], port["Protocol"], port["PublishMode"])
        for port in service["Endpoint"].get("Ports") or ()
    }


def ports_of_container(container: Mapping[str, Any]) -> set[Published]:
    """What an engine publishes for a container on its own host."""
    found = container["NetworkSettings"].get("Ports") or {}
    return {
        (int(binding["HostPort"]), int(target), protocol, "host")
        for place, bindings in found.items()
        for target, _, protocol in [place.partition("/")]
        for binding in bindings or ()
    }


def engines_listening(lines: Iterable[str]) -> set[int]:
    """The TCP ports of the engine and its proxies in what `ss -Hltnp` prints."""
    rows = [line.split() for line in lines if _ENGINES.search(line)]
    return {int(row[3].rpartition(":")[2]) for row in rows}
