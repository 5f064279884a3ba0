"""Checks of where NVIDIA Container Toolkit comes from."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from cascade.planning.checks.subject import Said, Subject, Unread
from cascade.planning.desired import GPU_KEY, OTHER_GPU_SOURCES


def sources(subject: Subject) -> Iterator[Said]:
    """Nobody else names its repository with another key: apt then takes neither, nor any other package."""
    host = subject.host
    if host.gpu is None or not host.has_gpu:
        yield Said("ok", "not needed")
        return
    files = subject.facts.snapshots[host.name]["files"]
    for path in OTHER_GPU_SOURCES:
        found = files.get(path) or {}
        if "error" in found:
            raise Unread(f"{path}: {found['error']}")
        if _names(found.get("content") or "", host.gpu.repository):
            yield Said(
                "error",
                f"{path} names its repository too, with another key, and apt takes only one",
                f"on {host.name}: `sudo rm {shlex.quote(path)}`",
            )
    yield Said("ok", f"{host.gpu.toolkit} from {host.gpu.repository}")


def _names(text: str, repository: str) -> bool:
    """Whether a line that counts names the repository, and not the key that Cascade keeps for it."""
    lines = (line.strip() for line in text.splitlines())
    return any(repository in line and GPU_KEY not in line and not line.startswith("#") for line in lines)
