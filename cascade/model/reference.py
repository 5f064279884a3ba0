"""How an image is named in a registry."""

from __future__ import annotations

import re
from dataclasses import dataclass

PUBLIC_REGISTRY = "docker.io"

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:(?P<registry>localhost(?::\d+)?|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::\d+)?|[A-Za-z0-9-]+:\d+)/)?"
    rf"(?P<repository>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)


@dataclass(frozen=True)
class Reference:
    """A registry, a repository in it, and a tag or a digest; as engines read it."""

    registry: str
    repository: str
    tag: str | None
    digest: str | None

    @property
    def familiar(self) -> str:
        """The repository as engines write it: without the public registry's name."""
        if self.registry == PUBLIC_REGISTRY:
            return self.repository.removeprefix("library/")
        return f"{self.registry}/{self.repository}"


def parse_reference(text: str) -> Reference:
    """Raises ValueError for what is no reference of a registry's image with a tag or a digest."""
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no image reference: write registry/name:tag or registry/name@sha256:…")
    if not (match["tag"] or match["digest"]):
        raise ValueError(f"{text!r} names no version: add a tag, or @sha256: and the digest")
    registry, repository = match["registry"] or PUBLIC_REGISTRY, match["repository"]
    if registry == PUBLIC_REGISTRY and "/" not in repository:
        repository = f"library/{repository}"
    return Reference(registry, repository, match["tag"], match["digest"])


def repository_of(name: str) -> str:
    """An image's name without what says which version of it; raises ValueError for what is no name."""
    match = _REFERENCE.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no name of an image: write one like cascade/core")
    return "/".join(filter(None, (match["registry"], match["repository"])))
