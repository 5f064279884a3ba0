"""The list of those whom values are encrypted for: public keys, one a line, in git."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from cascade.files import write_whole
from cascade.model.strict import InvalidFiles, Problem
from cascade.secrets.reading import read_plain
from cascade.secrets.sealing import recipient_key

RECIPIENTS = "recipients"
MOST_RECIPIENTS = 100

_MOST_BYTES = 256 * 1024
_HEAD = "# Who can open the values here: one age recipient or SSH public key a line.\n"
_EXAMPLE = "one like age1… or ssh-ed25519 …"


def parse_recipient(text: str) -> str:
    """A recipient without an SSH key's comment; raises ValueError, which never shows the text."""
    words = text.split()
    if "PRIVATE KEY" in text or text.upper().startswith("AGE-SECRET-KEY"):
        raise ValueError(f"is a private key, which is no longer one here: take it out; write {_EXAMPLE}")
    ssh = bool(words) and words[0] in ("ssh-ed25519", "ssh-rsa")
    recipient = " ".join(words[:2] if ssh else words)
    try:
        recipient_key(recipient)
    except ValueError:
        raise ValueError(f"is no recipient: write {_EXAMPLE}") from None
    return recipient


def read_recipients(folder: Path) -> tuple[str, ...]:
    """Everybody on the list, once; raises InvalidFiles with every line that is none."""
    path = folder / RECIPIENTS
    found: dict[str, None] = {}
    problems = []
    for number, line in _lines(path):
        try:
            found[parse_recipient(line)] = None
        except ValueError as error:
            problems.append(Problem.saying(str(path), f"line {number}", str(error)))
    if not problems and not 0 < len(found) <= MOST_RECIPIENTS:
        fix = "run `cascade secrets init INVENTORY`, or write your own recipient"
        problems.append(
            Problem(str(path), "", f"has {len(found)} recipients, not 1 to {MOST_RECIPIENTS}", fix)
        )
    if problems:
        raise InvalidFiles(problems)
    return tuple(found)


def write_recipients(folder: Path, added: Collection[str], removed: Collection[str] = ()) -> None:
    """The list with some more and some less; what else people wrote there stays."""
    path = folder / RECIPIENTS
    before = _text(path) if path.exists() else _HEAD
    kept = [line for line in before.splitlines() if not _is_one_of(line, removed)]
    write_whole(path, "\n".join([*kept, *added]) + "\n")


def _is_one_of(line: str, recipients: Collection[str]) -> bool:
    try:
        return bool(recipients) and parse_recipient(line) in recipients
    except ValueError:
        return False


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(map(str.strip, _text(path).splitlines()), 1):
        if line and not line.startswith("#"):
            yield number, line


def _text(path: Path) -> str:
    try:
        return read_plain(path, _MOST_BYTES).data.decode("utf-8", errors="replace")
    except ValueError as error:
        message = f"{error}: run `cascade secrets init INVENTORY`, or take it from git again"
        raise InvalidFiles([Problem.saying(str(path), "", message)]) from None
