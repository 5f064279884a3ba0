"""How an image comes to a host, and how one is built for it."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest
from pyinfra.api.host import Host

from cascade.model.image import BuildImage
from cascade.planning.diff import Change
from cascade.planning.resource import Key
from operations.build import BuildFailed, build, is_built, write_context
from operations.run import WorkFailed
from operations.swarm import images
from operations.swarm.images import deliver_image
from tests.operations.conftest import LocalRun
from tests.operations.engine import Engine
from tests.unit.conftest import write_archive

DIGEST = "0123456789abcdef" * 4
IMAGE = f"box:5000/core@sha256:{DIGEST}"
CREATE = "/v1.44/images/create"
INSPECT = f"/v1.44/images/{IMAGE.replace('@', '%40')}/json"


def change(**desired: Any) -> Change:
    return Change(Key("mainpc", "image", desired["present"]), "create", (), desired)


def answer(*messages: Any) -> bytes:
    """As engines answer while they work: piece by piece."""
    pieces = [json.dumps(message).encode() for message in messages]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the host's script was asked to do."""
    tasks: list[Any] = []
    monkeypatch.setattr(images, "ask", lambda _host, task: tasks.append(task))
    return tasks


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's logins for two registries."""
    auth = {
        f"{name}:5000": {"auth": base64.b64encode(f"alice:{name}".encode()).decode()}
        for name in ("box", "other")
    }
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"auths": auth}))


@pytest.mark.usefixtures("login")
def test_a_pull_brings_the_login_for_its_registry_alone(
    run: LocalRun, host: Host, engine: Engine, asked: list[Any]
) -> None:
    engine.answers = {
        CREATE: answer({"status": "Pull complete", "id": "a1"}),
        INSPECT: {},
    }
    deliver_image(run, host, change(present=IMAGE, login="box:5000"))
    pull = engine.asked[0]
    header = json.loads(base64.urlsafe_b64decode(pull.headers["x-registry-auth"]))
    assert header == {"username": "alice", "password": "box", "serveraddress": "box:5000"}
    assert "other" not in str(pull)
    assert "alice" not in pull.path
    assert asked == [{"do": "record", "image": IMAGE}]


@pytest.mark.usefixtures("login")
def test_a_pull_brings_no_login_unless_the_source_says_so(
    run: LocalRun, host: Host, engine: Engine, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from operations.engine_client import NO_CREDENTIALS

    monkeypatch.setattr(run.engine, "_auth_configs", NO_CREDENTIALS)
    engine.answers = {CREATE: answer(), INSPECT: {}}
    deliver_image(run, host, change(present=IMAGE))
    assert "x-registry-auth" not in engine.asked[0].headers
    assert asked


def test_a_login_that_is_not_there_asks_for_one(
    run: LocalRun, host: Host, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(WorkFailed, match="docker login box:5000"):
        deliver_image(run, host, change(present=IMAGE, login="box:5000"))
    assert engine.asked == []


@pytest.mark.parametrize(
    "refusal",
    [
        answer({"error": "unauthorized: authentication required"}),
        b'HTTP/1.0 500 Oh\r\n\r\n{"message": "unauthorized: authentication required"}',
    ],
    ids=["while pulling", "at once"],
)
def test_a_pull_that_fails_says_what_to_do(
    run: LocalRun, host: Host, engine: Engine, asked: list[Any], refusal: bytes
) -> None:
    engine.answers = {CREATE: refusal}
    with pytest.raises(WorkFailed, match=r"authentication required; it wants a login.*docker login box:5000"):
        deliver_image(run, host, change(present=IMAGE))
    assert asked == []


@pytest.mark.usefixtures("asked")
def test_layers_are_told_with_their_sizes(
    run: LocalRun, host: Host, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(host, "log", said.append)
    engine.answers = {
        CREATE: answer(
            {"status": "Downloading", "id": "a1", "progressDetail": {"current": 1, "total": 2_500_000}},
            {"status": "Download complete", "id": "a1", "progressDetail": {}},
            {"status": "Pull complete", "id": "a1", "progressDetail": {}},
            {"status": "Already exists", "id": "b2"},
        ),
        INSPECT: {},
    }
    deliver_image(run, host, change(present=IMAGE))
    assert said == ["Pull complete: a1, 2.5 MB", "Already exists: b2"]


def test_an_engine_that_knows_an_archives_image_by_another_id_is_told_apart(
    run: LocalRun, host: Host, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "send_archive", lambda *_: "Loaded image: core:1")
    gone = b'HTTP/1.0 404 Not Found\r\n\r\n{"message": "No such image: core"}'
    engine.answers = {f"/v1.44/images/sha256:{DIGEST}/json": gone}
    with pytest.raises(
        WorkFailed, match=r'another ID \(Loaded image: core:1\).*"containerd-snapshotter": False'
    ):
        deliver_image(run, host, change(present=f"sha256:{DIGEST}", archive="core.tar"))


def test_an_archive_that_went_away_meanwhile_is_named(run: LocalRun, host: Host, tmp_path: Path) -> None:
    path = tmp_path / "text.tar"
    path.write_text("no archive")
    with pytest.raises(WorkFailed, match=r"text\.tar is no `docker save` archive"):
        deliver_image(run, host, change(present=f"sha256:{DIGEST}", archive=str(path)))


@pytest.fixture
def core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildImage:
    """A context of a person's own."""
    monkeypatch.chdir(tmp_path)
    context = Path("core")
    (context / "src").mkdir(parents=True)
    (context / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nCOPY src /src\n")
    (context / "src/run.sh").write_text("#!/bin/sh\n")
    (context / "src/run.sh").chmod(0o750)
    (context / "link").symlink_to("src/run.sh")
    (context / ".dockerignore").write_text("*.key\n")
    (context / "secret.key").write_text("planted")
    return BuildImage(context=context, arguments={"BASE": "scratch"})


def packed(source: BuildImage) -> bytes:
    stream = io.BytesIO()
    write_context(source, stream)
    return stream.getvalue()


def test_what_is_sent_to_the_engine_is_what_the_digest_speaks_of(core: BuildImage) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed(core))) as tar:
        members = {member.name: member for member in tar.getmembers()}
    assert list(members) == [".dockerignore", "Dockerfile", "link", "src", "src/run.sh"]
    assert (members["src/run.sh"].mode, members["Dockerfile"].mode) == (0o755, 0o644)
    assert members["link"].linkname == "src/run.sh"
    assert {(member.mtime, member.uid) for member in members.values()} == {(0, 0)}
    assert b"planted" not in packed(core)


class Builder:
    """As much of docker-py as a build needs."""

    def __init__(self, *said: Any) -> None:
        self.said = said
        self.asked: dict[str, Any] = {}

    def build(self, fileobj: Any, **said: Any) -> Any:
        self.asked = {**said, "context": fileobj.read()}
        return self.said

    def get_image(self, _tag: str) -> list[bytes]:
        return [write_archive(Path("saved.tar"), f"{DIGEST}.json").read_bytes()]

    def close(self) -> None: ...


Built = Callable[..., Builder]


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Built:
    def answering(*said: Any) -> Builder:
        engine = Builder(*said)
        monkeypatch.setattr(docker, "APIClient", lambda **_: engine)
        return engine

    return answering


def test_a_build_is_kept_as_an_archive_with_a_record(core: BuildImage, builder: Built) -> None:
    engine = builder({"stream": "Step 1/3 : ARG BASE\n"}, {"stream": "\n"}, {"aux": {"ID": "x"}})
    said: list[str] = []
    assert not is_built(core)
    done = build("cascade/core:1", core, said.append)
    assert engine.asked["context"] == packed(core)
    assert engine.asked["buildargs"] == {"BASE": "scratch"}
    assert engine.asked["tag"] == done.image == f"cascade/core:{core.context_digest()[7:19]}"
    assert core.pinned == done.id == f"sha256:{DIGEST}"
    assert is_built(core)
    assert said[0] == "Step 1/3 : ARG BASE"
    assert [path.suffix for path in sorted(Path(".images").iterdir())] == [".json", ".tar"]


@pytest.mark.parametrize(
    ("error", "step"),
    [
        ("pull access denied for core", "docker load"),
        ("dial tcp: lookup registry.invalid: no such host", "docker load"),
        ("the --mount option requires BuildKit", "docker buildx build"),
        ("The command '/bin/sh -c false' returned a non-zero code: 1", ""),
    ],
)
def test_a_build_that_fails_keeps_nothing_and_says_what_to_do(
    core: BuildImage, builder: Built, error: str, step: str
) -> None:
    builder({"error": error})
    with pytest.raises(BuildFailed) as failure:
        build("core", core, print)
    assert f"core: {error}" in str(failure.value)
    assert step in str(failure.value)
    assert not Path(".images").exists()


def test_a_build_without_an_engine_says_so(core: BuildImage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(BuildFailed, match="core: no Docker engine answers here: start one, or name one in"):
        build("core", core, print)


def test_a_name_that_no_engine_takes_is_not_built(core: BuildImage) -> None:
    with pytest.raises(BuildFailed, match="'Big Core' is no name of an image"):
        build("Big Core", core, print)
