"""The seccomp profiles of confined containers, rendered from one base that is told as data: seccomp.yaml."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, model_validator

from cascade.model.strict import Strict, twice

NAMES = ("python-service", "database", "gpu", "audio-realtime", "debug")
DEFAULT = "python-service"

_EPERM, _ENOSYS = 1, 38
# Without sub-architectures, whoever makes a 32-bit call (int 0x80) or one of x32 is killed.
_ARCHITECTURES: list[dict[str, Any]] = [
    {"architecture": architecture, "subArchitectures": []}
    for architecture in ("SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64")
]


def _words(value: object) -> object:
    return tuple(value.split()) if isinstance(value, str) else value


Calls = Annotated[tuple[str, ...], BeforeValidator(_words), Field(min_length=1)]
Text = Annotated[str, Field(min_length=1)]


class Reasoned(Strict):
    """System calls, and why they are treated as they are."""

    calls: Calls
    reason: Text


class Purpose(Strict):
    """System calls that every profile allows, and what they are for."""

    purpose: Text
    calls: Calls


class Condition(Strict):
    """What an argument must equal, whole or behind a mask."""

    argument: int = Field(ge=0, le=5)
    equals: int = Field(ge=0)
    mask: int | None = Field(None, gt=0)

    def rendered(self) -> dict[str, Any]:
        """The condition in the engine's words."""
        if self.mask is None:
            return {"index": self.argument, "op": "SCMP_CMP_EQ", "value": self.equals}
        return {
            "index": self.argument,
            "op": "SCMP_CMP_MASKED_EQ",
            "value": self.mask,
            "valueTwo": self.equals,
        }


class Limited(Reasoned):
    """System calls that are allowed with some arguments."""

    cases: tuple[tuple[Condition, ...], ...] = Field(min_length=1)


class Rules(Strict):
    """All of seccomp.yaml."""

    allowed: tuple[Purpose, ...]
    limited: tuple[Limited, ...]
    absent: tuple[Reasoned, ...]
    refused: tuple[Reasoned, ...]
    profiles: dict[str, tuple[Reasoned, ...]]

    @model_validator(mode="after")
    def _each_call_is_treated_once(self) -> Rules:
        if repeated := twice(_calls((*self.allowed, *self.limited, *self.absent, *self.refused))):
            raise ValueError(f"{', '.join(repeated)} stands twice: remove one of the two")
        return self

    @model_validator(mode="after")
    def _a_profile_gives_back_what_was_refused(self) -> Rules:
        refused = set(_calls((*self.limited, *self.refused)))
        for name, additions in self.profiles.items():
            if unknown := sorted(set(_calls(additions)) - refused):
                raise ValueError(
                    f"{name} adds {', '.join(unknown)}: name it under refused first, and say why"
                )
        return self


def _calls(groups: Iterable[Purpose | Reasoned]) -> list[str]:
    return [call for group in groups for call in group.calls]


@cache
def rules() -> Rules:
    """What seccomp.yaml says."""
    return Rules.model_validate(yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8")))


@cache
def profile(name: str, refused_with: int = _EPERM) -> str:
    """A profile as compact JSON, always the same: KeyError for a name that is not one of NAMES.

    `refused_with` is the error number of what is refused; tests take one that the kernel never gives.
    """
    document = {
        "archMap": _ARCHITECTURES,
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": refused_with,
        "syscalls": list(_rendered(rules(), name)),
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def _rendered(of: Rules, name: str) -> Iterator[dict[str, Any]]:
    yield {"action": "SCMP_ACT_ALLOW", "names": sorted(_calls((*of.allowed, *of.profiles[name])))}
    for limited in of.limited:
        for case in limited.cases:
            conditions = [condition.rendered() for condition in case]
            yield {"action": "SCMP_ACT_ALLOW", "args": conditions, "names": list(limited.calls)}
    yield {"action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS, "names": _calls(of.absent)}
