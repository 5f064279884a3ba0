"""A drift document as lines for a journal: one each, plain, and of bounded length and number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from cascade.model.strict import one_line

Document = Mapping[str, Any]

ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6
MOST = 200
_LONGEST_VALUE = 80


@dataclass(frozen=True)
class Line:
    """What is said, and how urgent it is in syslog's terms."""

    priority: int
    text: str

    def marked(self) -> str:
        """The line as systemd's journal reads its priority."""
        return f"<{self.priority}>{self.text}"


def journal_lines(document: Document) -> list[Line]:
    """What was found, item by item, and last what it comes to; behind `MOST` items their number alone."""
    items = _items(document)
    said = [Line(line.priority, one_line(line.text)) for line in islice(items, MOST)]
    if left := sum(1 for _ in items):
        said.append(Line(WARNING, f"… and {left} more: they stand in the results' file"))
    return [*said, Line(*_verdict(document))]


def _items(document: Document) -> Iterator[Line]:
    for unknown in document["unknown"]:
        place = " ".join(filter(None, (unknown["host"], unknown["what"])))
        yield Line(ERROR, f"unknown: {place}: {unknown['reason']}")
    for finding in document["findings"]:
        yield Line(WARNING, _finding(finding))
    for item in document["unwanted"]:
        yield Line(NOTICE, f"unwanted: {item['host']} {item['kind']} {item['name']}")
    for change in document["files"]["changes"]:
        item = "{host} {kind} {name}: {action}".format_map(change)
        yield Line(NOTICE, f"the files differ from the release: {item}")
    for note in document["notes"]:
        yield Line(INFO, note)


def _finding(finding: Document) -> str:
    place = "{host} {kind} {name}".format_map(finding)
    field = f" {finding['field']}" if finding["field"] else ""
    values = f"desired {_value(finding['desired'])}, observed {_value(finding['observed'])}"
    return f"drift: {place}: {finding['action']}{field}: {values}; repair: {finding['repair']}"


def _value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _verdict(document: Document) -> tuple[int, str]:
    release = f"release {document['release']['number']}" if document["release"] else "no release"
    counts = {"found": "findings", "unwanted": "unwanted", "unknown": "unknown"}
    said = [
        "in sync" if document["in_sync"] else "not in sync",
        release,
        *(["the files differ from it"] if document["files"]["differ"] else []),
        *(f"{len(document[name])} {word}" for word, name in counts.items() if document[name]),
        f"exit code {document['exit_code']}",
    ]
    return (INFO if document["exit_code"] == 0 else WARNING), ", ".join(said)
