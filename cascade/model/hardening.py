"""What confines every container unless its file says otherwise, and the reasons of a file that does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, model_validator

from cascade.model.compose import Logging, Text, Tmpfs, Ulimit
from cascade.model.process import UlimitName
from cascade.model.strict import Strict
from cascade.model.wording import shown

DEFAULT_USER = "10001:10001"
DEFAULT_PROCESSES = 512
DROPPED = ("ALL",)
TMP: Tmpfs = Tmpfs.model_validate("/tmp:size=64M,mode=1777")  # noqa: S108 - a container's own
LIMITS = {"core": Ulimit(soft=0, hard=0), "nofile": Ulimit(soft=65536, hard=65536)}
LOGS = Logging(driver="json-file", options={"max-size": "100m", "max-file": "5"})

ProfileName = Literal["python-service", "database", "gpu", "audio-realtime", "debug"]
Weaker = Literal[
    "cap_add",
    "cap_drop",
    "devices",
    "init",
    "logging",
    "pids_limit",
    "profile",
    "read_only",
    "security_opt",
    "user",
    "volumes",
]


def _reason(text: str) -> str:
    if re.search(r"[^\W\d_]", text) is None:
        raise ValueError(f"{shown(text)} is no reason: write why this container needs it")
    return text


class Security(Strict):
    """The profile of system calls, and for each key that is weaker than the default a reason."""

    profile: ProfileName = "python-service"
    exceptions: dict[Weaker, Annotated[Text, AfterValidator(_reason)]] = {}

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        return {"profile": value} if isinstance(value, str) else value


def _with_limits(value: object) -> object:
    """A file's own limits beside the default ones."""
    return {**LIMITS, **value} if isinstance(value, Mapping) else value


def _bounded(logging: Logging) -> Logging:
    """A file's own options beside those that bound what the driver keeps."""
    if logging.driver != LOGS.driver:
        return logging
    return logging.model_copy(update={"options": {**LOGS.options, **logging.options}})


Limits = Annotated[dict[UlimitName, Ulimit], BeforeValidator(_with_limits)]
Logs = Annotated[Logging, AfterValidator(_bounded)]


def numeric_user(user: str) -> tuple[int, int] | None:
    """User and group where both are told by number; the group of a user without one is 0."""
    named: Any = re.fullmatch(r"([0-9]{1,10})(?::([0-9]{1,10}))?", user)
    return (int(named[1]), int(named[2] or 0)) if named else None


def is_root(user: str) -> bool:
    """Whether processes have user ID 0; of a name other than root nobody knows."""
    name = user.partition(":")[0]
    return name == "root" or not name.strip("0")
