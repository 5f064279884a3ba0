"""What need not be as the benchmark asks, and why: tests/verify/cis.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from cascade.model.host import Host
from tests.verify.controls import Fault

FILE = Path(__file__).with_name("cis.yaml")


@dataclass(frozen=True)
class Exempt:
    """A reason, and the subjects that it is for."""

    reason: str
    of: tuple[str, ...] = ("*",)

    def covers(self, fault: Fault) -> bool:
        """Whether it is the reason for this."""
        return any(fnmatchcase(fault.subject, pattern) for pattern in self.of)


@cache
def exceptions() -> Mapping[str, Exempt]:
    """Each exception by the control's number."""
    return {
        number: Exempt(item["reason"], tuple(item.get("of", ["*"]))) for number, item in _file("exceptions")
    }


@cache
def by_hand() -> Mapping[str, str]:
    """The controls that no program can judge, and why."""
    return dict(_file("by_hand"))


def unexcused(number: str, faults: Iterable[Fault]) -> list[Fault]:
    """The faults that no written reason covers."""
    exempt = exceptions().get(number)
    return [fault for fault in faults if exempt is None or not exempt.covers(fault)]


def lacking(number: str, host: Host, apparmor: bool) -> str:
    """What a control is about and the machine does not have, so that nobody can judge it; or nothing."""
    if number == "2.8" and "open-files" in host.absent:
        return "group_data says that the machine cannot raise the limit of open files"
    if number == "5.2" and not apparmor and host.apparmor != "required":
        return "the kernel has no AppArmor"
    return ""


def _file(part: str) -> Iterable[tuple[str, Any]]:
    # Numbers such as 2.10 are names here, and not fractions.
    parts: Mapping[str, Mapping[str, Any]] = yaml.load(FILE.read_text(), yaml.BaseLoader)
    return parts[part].items()
