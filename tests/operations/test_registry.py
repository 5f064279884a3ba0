"""What a tag means now, asked of a registry of this test's own."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cascade.model.image import PINS, ArchiveImage, ImageSource, RegistryImage
from operations.credentials import NoCredentials, login_for
from operations.pins import record, resolve
from operations.registry import RegistryFailed, advice, digest_now

DIGEST, OTHER = (f"sha256:{digit * 64}" for digit in "12")
MANIFEST = b'{"schemaVersion": 2}'
PASSWORD = "planted"
BASIC = f"Basic {base64.b64encode(f'alice:{PASSWORD}'.encode()).decode()}"


@dataclass
class Registry:
    """Says what each tag means; `wants` is how it wants to be asked."""

    tags: dict[str, str] = field(default_factory=dict)
    wants: str = ""
    ticket: object = field(default_factory=lambda: {"token": "ticket"})
    names_digest: bool = True
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    server: ThreadingHTTPServer = field(init=False)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    @property
    def realm(self) -> str:
        return f"http://{self.address}/token"

    def image(self, tag: str = "1", **said: Any) -> RegistryImage:
        return RegistryImage(reference=f"{self.address}/team/core:{tag}", insecure=True, **said)


def _answering(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Answering(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, *_: Any) -> None: ...

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            registry.asked.append((self.command, f"{self.path} {body}".strip(), dict(self.headers)))
            authorization = self.headers.get("Authorization", "")
            if self.path.startswith("/token"):
                granted = not registry.wants.endswith("login") or authorization == BASIC or PASSWORD in body
                token = json.dumps(registry.ticket).encode()
                return self._say(200 if granted else 401, token if granted else b"")
            if registry.wants.startswith("token") and authorization != "Bearer ticket":
                scope = f'Bearer realm="{registry.realm}",service="box",scope="repository:team/core:pull"'
                return self._say(401, b"", {"WWW-Authenticate": scope})
            if registry.wants == "basic login" and authorization != BASIC:
                return self._say(401, b"", {"WWW-Authenticate": 'Basic realm="box"'})
            return self._manifest(self.path.rpartition("/")[2])

        def _manifest(self, tag: str) -> None:
            if self.path != f"/v2/team/core/manifests/{tag}" or tag not in registry.tags:
                return self._say(404, b"")
            named = {"Docker-Content-Digest": registry.tags[tag]} if registry.names_digest else {}
            return self._say(200, MANIFEST, named)

        def _say(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    return Answering


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry({"1": DIGEST})
    made.server = ThreadingHTTPServer(("127.0.0.1", 0), _answering(made))
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture
def login(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `docker login` has left on this machine; the test may change it before it is read."""
    entry: dict[str, Any] = {"auth": BASIC.removeprefix("Basic ")}
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.address: entry}}))
    return entry


def test_a_registry_says_which_digest_a_tag_means(registry: Registry) -> None:
    assert digest_now(registry.image()) == DIGEST
    ((method, path, headers),) = registry.asked
    assert (method, path) == ("HEAD", "/v2/team/core/manifests/1")
    for kind in ("oci.image.index.v1", "oci.image.manifest.v1", "manifest.list.v2", "manifest.v2"):
        assert kind in headers["Accept"]
    assert "Authorization" not in headers


def test_a_registry_that_names_no_digest_has_its_manifest_hashed(registry: Registry) -> None:
    registry.names_digest = False
    assert digest_now(registry.image()) == f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"


def test_a_registry_that_names_nonsense_is_not_believed(registry: Registry) -> None:
    registry.tags["1"] = "latest"
    with pytest.raises(RegistryFailed, match=r"'latest' for .* is no digest"):
        digest_now(registry.image())


def test_a_token_that_is_none_is_told(registry: Registry) -> None:
    registry.wants, registry.ticket = "token", ["ticket"]
    with pytest.raises(RegistryFailed, match="answers with no token"):
        digest_now(registry.image())


def test_a_token_for_anybody_needs_no_login(registry: Registry) -> None:
    registry.wants = "token"
    assert digest_now(registry.image()) == DIGEST
    token = next(path for _, path, _ in registry.asked if path.startswith("/token"))
    assert parse_qs(urlsplit(token).query) == {"service": ["box"], "scope": ["repository:team/core:pull"]}


@pytest.mark.usefixtures("login")
@pytest.mark.parametrize("wants", ["token login", "basic login"])
def test_a_login_is_used_where_the_source_says_so(registry: Registry, wants: str) -> None:
    registry.wants = wants
    assert digest_now(registry.image(credentials=True)) == DIGEST


@pytest.mark.usefixtures("login")
@pytest.mark.parametrize("wants", ["token login", "basic login"])
def test_a_login_is_not_used_where_the_source_does_not_say_so(registry: Registry, wants: str) -> None:
    registry.wants = wants
    with pytest.raises(
        RegistryFailed, match=r"401 unauthorized; it wants a login.*docker login 127\.0\.0\.1"
    ):
        digest_now(registry.image())
    assert not any(BASIC in headers.values() for _, _, headers in registry.asked)


def test_what_a_netrc_holds_is_not_sent(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login alice password {PASSWORD}\n")
    monkeypatch.setenv("NETRC", str(netrc))
    registry.wants = "token"
    digest_now(registry.image())
    assert not any(BASIC in headers.values() for _, _, headers in registry.asked)


def test_an_identity_token_is_exchanged_for_a_ticket(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    entry = {"identitytoken": PASSWORD}
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.address: entry}}))
    registry.wants = "token login"
    assert digest_now(registry.image(credentials=True)) == DIGEST
    (form,) = (path for method, path, _ in registry.asked if method == "POST")
    assert "grant_type=refresh_token" in form


@pytest.mark.usefixtures("login")
def test_a_login_does_not_travel_without_tls_unless_that_was_said(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = registry.image(credentials=True)
    challenge = {"realm": "http://elsewhere.invalid/token"}
    monkeypatch.setattr("operations.registry.parse_dict_header", lambda _: challenge)
    monkeypatch.setattr("operations.registry._scheme", lambda _: "http")
    registry.wants = "token login"
    with pytest.raises(
        RegistryFailed, match=r"would travel to 'http://elsewhere\.invalid/token' without TLS"
    ):
        digest_now(image.model_copy(update={"insecure": False}))


def test_a_tag_that_is_not_there_is_an_error_with_a_next_step(registry: Registry) -> None:
    with pytest.raises(RegistryFailed, match=r"core:9: 404 manifest unknown; it does not hold this image"):
        digest_now(registry.image("9"))


def test_a_registry_without_tls_is_asked_with_tls_unless_that_was_said(registry: Registry) -> None:
    image = RegistryImage(reference=f"{registry.address}/team/core:1")
    with pytest.raises(RegistryFailed, match="it speaks no TLS: set insecure=True"):
        digest_now(image)
    assert registry.asked == []


def test_a_registry_that_is_not_there_is_an_error_with_a_next_step() -> None:
    with pytest.raises(RegistryFailed, match="cannot be reached: look at its address"):
        digest_now(RegistryImage(reference="127.0.0.1:1/core:1", insecure=True))


@pytest.mark.parametrize(
    ("said", "step"),
    [
        ("unauthorized: authentication required", "docker login box:5000"),
        ("pull access denied for core, repository does not exist or may require 'docker login'", "login"),
        ("x509: certificate signed by unknown authority", "/etc/docker/certs.d/box:5000/ca.crt"),
        ("http: server gave HTTP response to HTTPS client", "insecure-registries"),
        ("manifest unknown: manifest unknown", "cascade images pin"),
        ("dial tcp: lookup box: no such host", "cannot be reached"),
        ("dial tcp 192.0.2.1:5000: connect: connection refused", "cannot be reached"),
        ("write /var/lib/docker/tmp/x: no space left on device", "cascade images prune"),
        ("toomanyrequests: You have reached your pull rate limit", "wait"),
    ],
)
def test_what_engines_say_of_a_pull_comes_with_a_next_step(said: str, step: str) -> None:
    words, _, rest = advice(said, "box:5000").partition("; ")
    assert words == said
    assert step in rest


def test_what_nobody_has_seen_yet_is_passed_on() -> None:
    assert advice("the moon\n is full", "box") == "the moon is full"


@pytest.mark.parametrize(
    ("config", "login"),
    [
        (
            {"auths": {"box:5000": {"auth": base64.b64encode(b"alice:a:b").decode()}}},
            {"username": "alice", "password": "a:b"},
        ),
        ({"auths": {"https://box:5000": {"identitytoken": "t"}}}, {"identitytoken": "t"}),
    ],
)
def test_a_login_is_read_as_docker_keeps_it(
    config: Any, login: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert login_for("box:5000") == {**login, "serveraddress": "box:5000"}


@pytest.mark.filterwarnings("ignore:docker-credential-nowhere")
@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "no login for box:5000 on this machine: `docker login box:5000`"),
        ({"auths": {"other:5000": {"auth": "YTpi"}}}, "no login for box:5000"),
        ({"auths": {"box:5000": {}}}, "no login for box:5000"),
        ({"auths": {"box:5000": {"auth": "%%"}}}, "the login for box:5000 cannot be read"),
        ({"auths": {"box:5000": "x"}}, "the login for box:5000 cannot be read"),
        ({"credsStore": "nowhere"}, "the login for box:5000 cannot be read"),
    ],
)
def test_a_login_that_is_not_there_says_how_to_log_in(
    config: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(NoCredentials, match=said):
        login_for("box:5000")


@pytest.fixture
def images(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, ImageSource]:
    """Two names of one tag, a digest and an archive, in a repository of their own."""
    monkeypatch.chdir(tmp_path)
    exact = RegistryImage(reference=f"{registry.address}/team/core@{OTHER}")
    return {
        "core": registry.image(),
        "again": registry.image(),
        "exact": exact,
        "saved": ArchiveImage(path=Path("a.tar")),
    }


def test_a_tag_is_recorded_once_and_what_others_recorded_stays(
    registry: Registry, images: dict[str, ImageSource]
) -> None:
    PINS.parent.mkdir()
    PINS.write_text(json.dumps({"elsewhere:1": OTHER}))
    record(list(resolve(images, unrecorded=True)))
    assert json.loads(PINS.read_text()) == {"elsewhere:1": OTHER, f"{registry.address}/team/core:1": DIGEST}
    assert PINS.read_text() == json.dumps(json.loads(PINS.read_text()), indent=2, sort_keys=True) + "\n"
    assert [path.name for path in PINS.parent.iterdir()] == ["images.json"]
    registry.asked.clear()
    assert list(resolve(images, unrecorded=True)) == []
    assert registry.asked == []


def test_a_tag_that_moved_is_seen_and_recorded_anew_only_when_asked(
    registry: Registry, images: dict[str, ImageSource]
) -> None:
    record(list(resolve(images, unrecorded=True)))
    registry.tags["1"] = OTHER
    (found,) = resolve(images, unrecorded=False)
    assert (found.moved, found.was, found.now) == (True, DIGEST, OTHER)
    assert images["core"].pinned.endswith(DIGEST)
    record([found])
    assert images["core"].pinned.endswith(OTHER)


def test_a_registry_that_does_not_answer_leaves_the_record_alone(
    registry: Registry, images: dict[str, ImageSource]
) -> None:
    record(list(resolve(images, unrecorded=True)))
    registry.tags.clear()
    (found,) = resolve(images, unrecorded=False)
    assert (found.moved, found.now) == (False, None)
    assert "404 manifest unknown" in found.fault
    record([found])
    assert images["core"].pinned.endswith(DIGEST)
