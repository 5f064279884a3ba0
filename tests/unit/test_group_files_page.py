"""The page of group files lists every key as the program has it.

`python -m tests.unit.test_group_files_page` prints the two tables for the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from cascade.model.keys import honoured_keys
from cascade.model.refused import REFUSED
from cascade.planning.destinations import destination

PAGE = Path(__file__).parents[2] / "docs/reference/group-files.md"


def honoured() -> Iterator[str]:
    yield "| key | in a Swarm service | in a host container |"
    yield "| --- | --- | --- |"
    for key in sorted(honoured_keys()):
        if found := destination(key):
            yield f"| `{key}` | {code(found.service)} | {code(found.of(True))} |"


def refused() -> Iterator[str]:
    yield "| key | why | what to do |"
    yield "| --- | --- | --- |"
    for key, refusal in sorted(REFUSED.items()):
        yield f"| `{key}` | {refusal.reason} | {refusal.fix} |"


def code(text: str) -> str:
    return f"`{text}`" if text[0].isupper() else text


def section(title: str) -> list[str]:
    """The table under a heading of the page."""
    _, _, behind = PAGE.read_text().partition(f"### {title}\n")
    return [line for line in re.split(r"\n##", behind)[0].splitlines() if line.startswith("|")]


def test_the_page_lists_every_honoured_key_and_what_becomes_of_it() -> None:
    assert section("Honoured") == list(honoured())


def test_the_page_lists_every_refused_key_with_the_reason() -> None:
    assert section("Refused") == list(refused())


def test_every_honoured_key_is_explained_above_the_tables() -> None:
    text = PAGE.read_text().partition("## Every key")[0]
    names = {key.rpartition(".")[2] for key in honoured_keys()}
    assert {name for name in names if not re.search(rf"\b{name}\b", text)} == set()


if __name__ == "__main__":
    print("\n".join([*honoured(), "", *refused()]))  # noqa: T201 - that is what it is for
