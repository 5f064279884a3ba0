"""The Dockerfiles that people copy build, and what they build keeps the image contract."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cascade.model.context import context_paths
from cascade.model.image import BuildImage
from lab.errors import LabError
from lab.polling import until
from operations.build import build
from tests.lab.conftest import ROOT, docker

TEMPLATES = ROOT / "docs/templates"
BASE = "cascade-test/base:1"
# What a real base brings, as far as the templates ask for it; the agent itself is the stand-in.
SHIMS = {
    "python": 'case "$2" in venv) mkdir -p $3/bin && cp /shims/* $3/bin/;; *) exec /stand-in/stand-in;; esac',
    "python3": 'exec /shims/python "$@"',
    "pip": 'for last; do :; done; test -s "$last"',
    "npm": "test -s package-lock.json && mkdir node_modules",
    "node": 'test -s "$1" && exec /stand-in/stand-in',
    "apt-get": "mkdir -p /var/lib/apt/lists",
    "useradd": "echo agent:x:10001:10001::/:/bin/sh >> /etc/passwd",
}
FILES = {
    "python": ("requirements.txt", "src/agent/__main__.py"),
    "python-gpu": ("requirements.txt", "src/agent/__main__.py"),
    "node": ("package.json", "package-lock.json", "src/agent.js"),
}


def engine(*argv: str) -> str:
    """What a command of this machine's engine prints."""
    return subprocess.run((*docker(), *argv), check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image that the templates take for Python's, CUDA's or Node's."""
    engine("load", "-q", "-i", str(ROOT / ".lab/stand-in.tar"))
    folder = tmp_path_factory.mktemp("base")
    (folder / "shims").mkdir()
    for name, line in SHIMS.items():
        shim = folder / "shims" / name
        shim.write_text(f"#!/bin/sh\n{line}\n")
        shim.chmod(0o755)
    (folder / "Dockerfile").write_text(
        "FROM cascade/stand-in:lab\n"
        "USER 0:0\n"
        "COPY shims /shims\n"
        "RUN /bin/busybox mkdir -p /usr/bin /opt && /bin/busybox --install -s /usr/bin\n"
        "ENV PATH=/shims:/bin:/usr/bin\n"
        "ENTRYPOINT []\n"
    )
    engine("build", "-q", "-t", BASE, str(folder))
    yield BASE
    engine("rmi", "-f", BASE)


@pytest.fixture
def built(
    request: pytest.FixtureRequest, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The image of one kind's template, from a context that also holds what must not be sent."""
    kind = request.param
    context = tmp_path / kind
    shutil.copytree(TEMPLATES / kind, context)
    for name in (*FILES[kind], ".env", ".git/config"):
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text("something\n")
    monkeypatch.chdir(tmp_path)
    names = [
        line.split()[1]
        for line in (context / "Dockerfile").read_text().splitlines()
        if line.startswith("ARG")
    ]
    sent = context_paths(context, "Dockerfile")
    assert not {".env", ".git", ".git/config"} & set(sent)
    assert set(FILES[kind]) < set(sent)
    done = build(
        f"cascade-test/{kind}",
        BuildImage(context=Path(kind), arguments=dict.fromkeys(names, base)),
        print,
    )
    yield done.image
    engine("rmi", "-f", done.image)


@pytest.mark.parametrize("built", FILES, indirect=True)
def test_a_template_builds_an_agent_that_is_healthy_and_not_root(built: str) -> None:
    ports = ("-e", "AGENT_NAME=Fox", "-e", "PORT=7200", "-e", "HEALTH_PORT=8200")
    container = engine("run", "-d", "--health-interval=1s", *ports, built)
    try:

        def healthy() -> None:
            state = json.loads(engine("inspect", container))[0]["State"]
            if state.get("Health", {}).get("Status") != "healthy":
                raise LabError(built, f"is not healthy: {state}", "read the template")

        until(built, healthy, timeout_s=60, next_step="read the template")
        assert engine("exec", container, "id", "-u") == "10001"
    finally:
        engine("rm", "-f", container)


def test_every_template_is_tested() -> None:
    assert {folder.name for folder in TEMPLATES.iterdir()} == FILES.keys()
