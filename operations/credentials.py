"""The deploying machine's logins for registries, as `docker login` keeps them."""

from __future__ import annotations

from docker import auth
from docker.errors import DockerException

from cascade.model.reference import PUBLIC_REGISTRY

_NAMES = {"Username": "username", "Password": "password", "IdentityToken": "identitytoken"}


class NoCredentials(Exception):
    """There is no login for a registry on this machine, or it cannot be read."""


def login_for(registry: str) -> dict[str, str]:
    """The login for one registry: `username` and `password`, or an `identitytoken`; `serveraddress`.

    Raises NoCredentials.
    """
    try:
        found = auth.load_config().resolve_authconfig(registry) or {}
    except (DockerException, ValueError) as error:
        raise NoCredentials(f"the login for {registry} cannot be read: {error}") from None
    login = {_NAMES.get(name, name): value for name, value in found.items() if value}
    if not ({"username", "password"} <= login.keys() or "identitytoken" in login):
        where = "" if registry == PUBLIC_REGISTRY else f" {registry}"
        raise NoCredentials(f"there is no login for {registry} on this machine: `docker login{where}`")
    wanted = ("username", "password", "identitytoken")
    return {name: login[name] for name in wanted if name in login} | {"serveraddress": registry}
