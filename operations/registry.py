"""What a tag means now, by a registry's HTTP API.

Source: the OCI distribution specification; for the login, Docker's token authentication specification.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

import requests
from requests.auth import HTTPBasicAuth
from requests.utils import parse_dict_header

from cascade.model.image import RegistryImage
from cascade.model.reference import PUBLIC_REGISTRY, Reference
from operations.credentials import NoCredentials, login_for

TIMEOUT_S = 20.0
MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_API_HOSTS = {PUBLIC_REGISTRY: "registry-1.docker.io"}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

# What registries and engines say, and what helps.
_ADVICE = {
    "server gave HTTP response to HTTPS client|WRONG_VERSION_NUMBER": (
        'it speaks no TLS: set insecure=True, and for the hosts "insecure-registries" in daemon_settings'
    ),
    "x509|CERTIFICATE_VERIFY_FAILED": (
        "its certificate is not trusted: name its CA in REQUESTS_CA_BUNDLE here, and put it at"
        " /etc/docker/certs.d/{registry}/ca.crt on the hosts"
    ),
    "unauthorized|denied|no basic auth credentials|authentication required|insufficient_scope": (
        "it wants a login, or another: `docker login {registry}` on this machine, and credentials=True"
    ),
    "manifest unknown|not found|NAME_UNKNOWN": (
        "it does not hold this image: look at its name, or record what the tag means now with"
        " `cascade images pin INVENTORY --update`"
    ),
    "no such host|resol|connection refused|i/o timeout|unreachable|timed out|deadline exceeded": (
        "it cannot be reached: look at its address, or save the image and map it to an ArchiveImage"
    ),
    "no space left": "the disk is full: free some, or `cascade images prune INVENTORY`",
    "toomanyrequests|rate limit": "it takes no more requests now: wait, or log in and set credentials=True",
}


class RegistryFailed(Exception):
    """A registry could not say what a tag means; the message says why, and what to do."""


def advice(said: object, registry: str) -> str:
    """What a registry or an engine said, with the next step where it is known."""
    words = " ".join(str(said).split())[-500:]
    steps = (step for pattern, step in _ADVICE.items() if re.search(pattern, words, re.IGNORECASE))
    return "; ".join((words, *(step.format(registry=registry) for step in [*steps][:1])))


def digest_now(image: RegistryImage) -> str:
    """The digest behind a reference's tag; raises RegistryFailed."""
    reference = image.parsed
    try:
        with _session() as session:
            return _digest(session, image, reference)
    except NoCredentials as error:
        raise RegistryFailed(str(error)) from None
    except (requests.RequestException, ValueError) as error:
        raise RegistryFailed(f"{reference.registry}: {advice(error, reference.registry)}") from error


def _session() -> requests.Session:
    """The machine's proxies and CAs count; what its .netrc holds was not meant for this."""
    session = requests.Session()
    session.auth = lambda request: request
    session.headers["Accept"] = ", ".join(MANIFESTS)
    return session


def _digest(session: requests.Session, image: RegistryImage, reference: Reference) -> str:
    host = _API_HOSTS.get(reference.registry, reference.registry)
    url = f"{_scheme(image)}://{host}/v2/{reference.repository}/manifests/{reference.tag}"
    answer = session.head(url, timeout=TIMEOUT_S, allow_redirects=True)
    if answer.status_code == requests.codes.unauthorized:
        _log_in(session, image, answer)
        answer = session.head(url, timeout=TIMEOUT_S, allow_redirects=True)
    _check(answer, image)
    digest = answer.headers.get("Docker-Content-Digest") or _hashed(session, url)
    if not _DIGEST.fullmatch(digest):
        raise RegistryFailed(f"{reference.registry}: {digest!r} for {image.reference} is no digest")
    return digest


def _scheme(image: RegistryImage) -> str:
    return "http" if image.insecure else "https"


def _hashed(session: requests.Session, url: str) -> str:
    """A registry need not name the digest: it is the manifest's."""
    answer = session.get(url, timeout=TIMEOUT_S)
    answer.raise_for_status()
    return f"sha256:{hashlib.sha256(answer.content).hexdigest()}"


def _check(answer: requests.Response, image: RegistryImage) -> None:
    if answer.ok:
        return
    said = {
        requests.codes.unauthorized: "unauthorized",
        requests.codes.forbidden: "denied",
        requests.codes.not_found: "manifest unknown",
        requests.codes.too_many_requests: "toomanyrequests",
    }.get(answer.status_code, answer.reason)
    words = advice(f"{answer.status_code} {said}", image.parsed.registry)
    raise RegistryFailed(f"{image.reference}: {words}")


def _log_in(session: requests.Session, image: RegistryImage, refused: requests.Response) -> None:
    """Answers a registry's challenge: with the login only where the source says so."""
    scheme, _, said = refused.headers.get("WWW-Authenticate", "").partition(" ")
    login = login_for(image.parsed.registry) if image.credentials else {}
    if scheme.lower() == "bearer":
        session.headers["Authorization"] = f"Bearer {_token(session, image, parse_dict_header(said), login)}"
    elif scheme.lower() == "basic" and "password" in login:
        session.auth = HTTPBasicAuth(login["username"], login["password"])


def _token(
    session: requests.Session,
    image: RegistryImage,
    challenge: Mapping[str, str | None],
    login: Mapping[str, str],
) -> str:
    realm = challenge.get("realm") or ""
    if login and not (realm.startswith("https://") or image.insecure):
        raise RegistryFailed(f"{image.reference}: its login would travel to {realm!r} without TLS")
    asked = {
        "service": challenge.get("service") or "",
        "scope": f"repository:{image.parsed.repository}:pull",
    }
    if "identitytoken" in login:
        form = {**asked, "grant_type": "refresh_token", "client_id": "cascade"}
        form["refresh_token"] = login["identitytoken"]
        answer = session.post(realm, data=form, timeout=TIMEOUT_S)
    else:
        auth = HTTPBasicAuth(login["username"], login["password"]) if login else None
        answer = session.get(realm, params=asked, auth=auth, timeout=TIMEOUT_S)
    _check(answer, image)
    token = answer.json()
    if not isinstance(token, dict):
        raise RegistryFailed(
            f"{image.parsed.registry}: {realm} answers with no token: is it the right address?"
        )
    return str(token.get("token") or token.get("access_token") or "")
