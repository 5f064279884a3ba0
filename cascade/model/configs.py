"""Configs: what a group file holds, or has beside it, for its services to read as files.

In the Swarm a config cannot be changed. Its name there ends in a digest of its content, so that another
content is another config.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from posixpath import join
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo, model_validator

from cascade.model.beside import Beside, read_beside
from cascade.model.compose import FileMode, MountPoint, Text
from cascade.model.names import fits
from cascade.model.strict import Strict
from cascade.model.wording import shown

# Source: moby/swarmkit, manager/controlapi/config.go: at least one byte, less than 1,024,000; a name has 64.
LARGEST_BYTES = 999_999
_LONGEST_NAME = 64
_DIGITS = 12
LONGEST_PREFIX = _LONGEST_NAME - _DIGITS - len("-")
# Source: moby/sys/user; the last number means nobody at all.
_LAST_OWNER = 2**32 - 2
_PERMISSIONS = 0o777
# What nobody means by them is 0620, 0670 and 0674.
_WITHOUT_ZERO = (400, 440, 444)


def _file(path: object, info: ValidationInfo) -> Beside:
    found = read_beside(path, info, LARGEST_BYTES, "./app.conf")
    if not found.data:
        raise ValueError(
            f"{shown(path)} is empty, and the Swarm keeps no empty config: write something in it"
        )
    return found


def _content(content: str) -> str:
    """The group file itself is smaller than the largest config."""
    if not content:
        raise ValueError("it is empty, and the Swarm keeps no empty config: write something in it")
    return content


def _owner(number: str) -> str:
    if re.fullmatch("[0-9]{1,10}", number) is None or int(number) > _LAST_OWNER:
        raise ValueError(f"{shown(number)} is no number of a user or group: write one like '1000'")
    return str(int(number))


def _permissions(mode: int) -> int:
    if mode in _WITHOUT_ZERO:
        raise ValueError(f"{mode} without a 0 in front is 0{mode:o} in octal: write 0{mode}")
    if mode > _PERMISSIONS:
        raise ValueError(f"0{mode:o} is more than the permissions of a file: write one like 0440")
    return mode


ConfigName = Annotated[
    str, AfterValidator(fits(r"[A-Za-z0-9][A-Za-z0-9_.-]*", "is no name of a config", "app.conf"))
]
Owner = Annotated[Text, AfterValidator(_owner)]


class ConfigSource(Strict):
    """Where the content of a config comes from; `name` stands in the Swarm in place of group and key."""

    file: Annotated[Beside | None, PlainValidator(_file)] = None
    content: Annotated[str, AfterValidator(_content)] | None = None
    name: ConfigName | None = None

    @property
    def data(self) -> bytes:
        return self.file.data if self.file else (self.content or "").encode(errors="replace")


class FileUse(Strict):
    """A file that a service's containers get besides their image; the short syntax is its name alone."""

    folder: ClassVar[str] = "/"

    source: str = Field(min_length=1)
    target: str | None = None
    uid: Owner = "0"
    gid: Owner = "0"
    mode: Annotated[FileMode, AfterValidator(_permissions)] = 0o444

    @model_validator(mode="before")
    @classmethod
    def _short_syntax(cls, value: object) -> object:
        return {"source": value} if isinstance(value, str) else value

    @property
    def path(self) -> str:
        """Where the file is in the container."""
        return join(self.folder, self.target or self.source)


class ConfigUse(FileUse):
    """A config as a file in a service's containers."""

    target: MountPoint | None = None


@dataclass(frozen=True)
class Config:
    """A config as the Swarm keeps it: `key` is its name in the group file, `prefix` how `name` begins."""

    key: str
    prefix: str
    data: bytes

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of its content."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def name(self) -> str:
        """Its name in the Swarm."""
        return f"{self.prefix}-{self.digest[:_DIGITS]}"


def configs_of(group: str, sources: dict[str, ConfigSource]) -> dict[str, Config]:
    """The configs of a group by the keys that its file gives them."""
    return {key: Config(key, source.name or f"{group}_{key}", source.data) for key, source in sources.items()}
