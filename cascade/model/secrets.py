"""Secrets: values that services read as files. A group file only names them: they lie encrypted in the store.

In the Swarm a secret cannot be changed. Its name there ends in a keyed digest of its value, so that another
value is another secret; without the key nobody can try values against the name.
"""

from __future__ import annotations

from dataclasses import dataclass
from posixpath import normpath
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from cascade.model.compose import Text, check_mount_point, untemplated
from cascade.model.configs import FileUse
from cascade.model.names import fits
from cascade.model.quantities import Whole
from cascade.model.strict import Strict
from cascade.model.wording import shown

FOLDER = "/run/secrets"
DIGITS = 12
# In place of the digits of a value that is not open.
UNKNOWN_DIGITS = "*" * DIGITS
# The key of the digests lies in the store too, under this name.
NAME_KEY = "cascade-name-key"
_LONGEST_NAME = 64

_fits_name = fits(r"[A-Za-z0-9][A-Za-z0-9_.-]*", "is no name of a secret", "db_password")


def check_secret_name(name: str) -> str:
    """The name of a value in the store; raises ValueError."""
    if name == NAME_KEY:
        raise ValueError(f"{name} is the store's own key: write another name, like db_password")
    return _fits_name(name)


def _target(path: str) -> str:
    if path.startswith("/"):
        return check_mount_point(path)
    if normpath(path) == "." or ".." in path.split("/"):
        raise ValueError(
            f"{shown(path)} is no file below {FOLDER}: write one like db_password, or an absolute path"
        )
    return untemplated(path)


SecretName = Annotated[str, AfterValidator(check_secret_name)]


class Generate(Strict):
    """How a value is made once, by `cascade secrets init`: so many random bytes, written as text."""

    bytes: Annotated[Whole, Field(ge=16, le=4096)] = 32
    encoding: Literal["hex", "base64", "base64url"] = "hex"


class SecretSource(Strict):
    """A value of the store, under the key or under `name`; somebody puts it there, or it is generated."""

    external: Literal[True] | None = None
    name: SecretName | None = None
    generate: Generate | None = Field(None, alias="x-generate")


class SecretUse(FileUse):
    """A secret as a file in a service's containers."""

    folder: ClassVar[str] = FOLDER

    target: Annotated[Text, AfterValidator(_target)] | None = None


@dataclass(frozen=True)
class Secret:
    """A value by its name in the store, and how it is made if nobody gives it."""

    name: str
    generate: Generate | None = None


def secrets_of(sources: dict[str, SecretSource]) -> dict[str, Secret]:
    """The secrets of a group by the keys that its file gives them."""
    return {key: Secret(source.name or key, source.generate) for key, source in sources.items()}


def swarm_prefix(system: str, name: str) -> str:
    """How a secret's name in the Swarm begins."""
    return f"{system}_{name}"


def longest_name(system: str) -> int:
    """How many characters a value's name in the store may have."""
    return _LONGEST_NAME - DIGITS - len("-") - len(swarm_prefix(system, ""))
