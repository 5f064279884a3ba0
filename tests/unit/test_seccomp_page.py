"""The page of seccomp profiles lists every call and reason as the program has it.

`python -m tests.unit.test_seccomp_page` prints the tables for the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from cascade.model.seccomp import Reasoned, rules

PAGE = Path(__file__).parents[2] / "docs/reference/seccomp.md"


def table(rows: Iterable[tuple[str, Reasoned]]) -> Iterator[str]:
    for first, item in rows:
        calls = " ".join(f"`{call}`" for call in item.calls)
        yield f"| {first}{calls} | {item.reason} |"


def tables() -> dict[str, list[str]]:
    """The lines of each table by its heading."""
    profiles = ((f"`{name}` | ", item) for name, additions in rules().profiles.items() for item in additions)
    return {
        "What a profile gives back": [*table(profiles)],
        "Allowed with some arguments": [*table(("", item) for item in rules().limited)],
        "Answered as if the kernel did not have it": [*table(("", item) for item in rules().absent)],
        "Refused beyond Docker's own profile": [*table(("", item) for item in rules().refused)],
    }


def test_the_page_says_what_the_profiles_say() -> None:
    for heading, lines in tables().items():
        _, _, behind = PAGE.read_text().partition(f"## {heading}\n")
        found = [line for line in behind.partition("\n## ")[0].splitlines() if line.startswith("| ")]
        assert found[2:] == lines


if __name__ == "__main__":
    print("\n\n".join("\n".join((f"## {heading}", *lines)) for heading, lines in tables().items()))  # noqa: T201
