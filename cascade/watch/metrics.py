"""The metrics of one check, as Prometheus's textfile collector reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

Sample = tuple[dict[str, str], float]


@dataclass(frozen=True)
class Check:
    """A check that was made: of which system and inventory, what it found, and how long it took."""

    system: str
    inventory: str
    document: Mapping[str, Any]
    seconds: float


def exposition(check: Check, hook_failed: bool = False) -> str:
    """All metrics of a check; what an earlier one said is not among them."""
    registry = CollectorRegistry()
    registry.register(_Metrics(check, hook_failed))
    return generate_latest(registry).decode()


@dataclass(frozen=True, eq=False)
class _Metrics(Collector):
    check: Check
    hook_failed: bool

    def collect(self) -> Iterator[GaugeMetricFamily]:
        of = {"system": self.check.system, "inventory": self.check.inventory}
        for name, (about, samples) in self._families().items():
            if samples:
                labels = [*of, *samples[0][0]]
                family = GaugeMetricFamily(f"cascade_drift_{name}", about, labels=labels)
                for sample, value in samples:
                    family.add_metric([_sayable(text) for text in (of | sample).values()], value)
                yield family

    def _families(self) -> dict[str, tuple[str, list[Sample]]]:
        found = self.check.document
        release = found["release"]
        checked = datetime.fromisoformat(found["checked_at"]).timestamp()
        return {
            "in_sync": ("Whether the hosts are as the last release says.", _one(found["in_sync"])),
            "exit_code": ("How the check ended: 0, 2 for drift, else an error.", _one(found["exit_code"])),
            "findings": (
                "What differs on the hosts, and who may repair it.",
                _counted(found["findings"], "host", "kind", "repair"),
            ),
            "unwanted": (
                "Objects of the system that are no longer wanted.",
                _counted(found["unwanted"], "host", "kind"),
            ),
            "unknown": ("What could not be read.", _counted(found["unknown"], "host")),
            "files_differ": (
                "Whether the files differ from the last release.",
                _one(found["files"]["differ"]),
            ),
            "release_number": ("The last release.", _one(release["number"]) if release else []),
            "release_info": (
                "What is known of the last release; always 1.",
                [(_words(release, "purpose", "revision", "dirty"), 1)] if release else [],
            ),
            "last_check_timestamp_seconds": ("When the check was made.", _one(checked)),
            "check_duration_seconds": ("How long the check took.", _one(self.check.seconds)),
            "hook_failed": ("Whether on_drift failed to tell of a change.", _one(self.hook_failed)),
        }


def _one(value: float) -> list[Sample]:
    return [({}, float(value))]


def _counted(items: Iterable[Mapping[str, Any]], *labels: str) -> list[Sample]:
    counts = Counter(tuple(str(item[label]) for label in labels) for item in items)
    return [(dict(zip(labels, values, strict=True)), count) for values, count in sorted(counts.items())]


def _words(item: Mapping[str, Any], *names: str) -> dict[str, str]:
    return {name: "" if item[name] is None else str(item[name]).lower() for name in names}


def _sayable(text: str) -> str:
    """A text that UTF-8 can say."""
    return text.encode(errors="replace").decode()
