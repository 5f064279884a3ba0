"""What a run about a part of the hosts leaves as it is, because a host is missing that it depends on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from cascade.planning.target import Target
from cascade.planning.waves import Member


@dataclass(frozen=True)
class Skipped:
    """An agent that is not as it is to be, and why it stays so in this run."""

    name: str
    group: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} is skipped: {self.reason}"


def skipped_of(
    target: Target, waiting: Mapping[str, tuple[str, ...]], differing: Collection[str]
) -> Iterator[Skipped]:
    """The agents that differ and wait for a host, and those that differ and come after one of them.

    Agents come after those of earlier waves of their group, and of earlier groups of their phase.
    """
    first: dict[int, str] = {}
    for wave in target.waves:
        before = first.get(wave.phase)
        for member in wave.members:
            if member.name not in differing:
                continue
            if member.name in waiting:
                yield Skipped(member.name, wave.group, _only_on(member))
                first.setdefault(wave.phase, member.name)
            elif before:
                yield Skipped(member.name, wave.group, f"it comes after {before}")


def _only_on(member: Member) -> str:
    return f"it can only run on {' and '.join(member.hosts)}, left out by --limit"
