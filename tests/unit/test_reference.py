"""References name a registry, a repository and a version."""

import pytest

from cascade.model.reference import parse_reference, repository_of

DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "familiar"),
    [
        ("redis:7", "docker.io", "library/redis", "7", "redis"),
        ("docker.io/redis:7", "docker.io", "library/redis", "7", "redis"),
        ("docker.io/library/redis:7", "docker.io", "library/redis", "7", "redis"),
        ("team/core:1.4", "docker.io", "team/core", "1.4", "team/core"),
        ("localhost/core:1", "localhost", "core", "1", "localhost/core"),
        ("localhost:5000/core:1", "localhost:5000", "core", "1", "localhost:5000/core"),
        ("box:5000/a/b/c:x_1", "box:5000", "a/b/c", "x_1", "box:5000/a/b/c"),
        ("192.0.2.1:5000/core:1", "192.0.2.1:5000", "core", "1", "192.0.2.1:5000/core"),
        ("registry.example/a.b/c__d:1-2", "registry.example", "a.b/c__d", "1-2", "registry.example/a.b/c__d"),
        (f"registry.example/core@{DIGEST}", "registry.example", "core", None, "registry.example/core"),
        (f"registry.example/core:1@{DIGEST}", "registry.example", "core", "1", "registry.example/core"),
    ],
)
def test_a_reference_is_read_as_engines_read_it(
    text: str, registry: str, repository: str, tag: str | None, familiar: str
) -> None:
    found = parse_reference(text)
    assert (found.registry, found.repository, found.tag, found.familiar) == (
        registry,
        repository,
        tag,
        familiar,
    )
    assert found.digest == (DIGEST if "@" in text else None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-rf:1",
        "Core:1",
        "a//b:1",
        "/a:1",
        "a:1:2",
        "a: 1",
        "a:1\n",
        "a:1; touch x",
        "a:$(touch x)",
        "https://registry.example/core:1",
        "registry.example/../core:1",
        f"a:{'x' * 129}",
        "a@sha256:0",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no image reference"):
        parse_reference(text)


@pytest.mark.parametrize("text", ["redis", "registry.example/core", "registry.example:5000/core"])
def test_a_version_is_never_guessed(text: str) -> None:
    with pytest.raises(ValueError, match="names no version: add a tag"):
        parse_reference(text)


@pytest.mark.parametrize(
    ("name", "repository"),
    [("cascade/core", "cascade/core"), ("redis:7", "redis"), (f"box:5000/a:1@{DIGEST}", "box:5000/a")],
)
def test_a_repository_is_a_name_without_its_version(name: str, repository: str) -> None:
    assert repository_of(name) == repository


def test_a_name_that_no_engine_takes_has_no_repository() -> None:
    with pytest.raises(ValueError, match="is no name of an image"):
        repository_of("Cascade Core")
