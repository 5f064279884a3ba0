"""A change as it may be shown: its values without secrets and of bounded length, its text as a diff."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator
from typing import Any

from cascade.planning.diff import Change, FieldChange
from cascade.planning.redaction import masked, secrets_of

_LONGEST = 400
_MOST_LINES = 60
# Behind these a path goes on with a name that its owner chose, dots included.
_OWNERS_NAMES = re.compile(r"(?:^|\.)(?P<map>Env|Labels|labels|Options|Config|Sysctls)\.(?P<name>.+)$")
# In the engine's own reference, and in the labels that Cascade sets.
_TELL_A_NAME = {("", "SecretName"), ("labels", "cascade.secret")}


def shown_fields(change: Change) -> tuple[FieldChange, ...]:
    """The fields that differ, with *** for what looks like a secret."""
    secrets = secrets_of([change.desired, change.observed])
    return tuple(
        FieldChange(
            field.path,
            _shown(field.path, field.observed, secrets),
            _shown(field.path, field.desired, secrets),
        )
        for field in change.fields
    )


def text_diff(change: Change) -> tuple[str, ...]:
    """What changes in the text of a file, as a unified diff; empty where there is no text to compare."""
    observed = (change.observed or {}).get("content")
    desired = change.desired.get("content")
    if observed is None or desired is None or observed == desired:
        return ()
    secrets = secrets_of([observed, desired])
    lines = [
        masked(line, secrets)
        for line in difflib.unified_diff(
            observed.splitlines(), desired.splitlines(), "observed", "desired", lineterm="", n=2
        )
    ]
    return (*lines[:_MOST_LINES], *_rest(lines[_MOST_LINES:]))


def name_in(path: str) -> str:
    """The name under which a value stands: a variable's, an option's, or the last part of its path.

    None for the name of a secret, which is no secret.
    """
    found = _OWNERS_NAMES.search(path)
    place, name = (found["map"].lower(), found["name"]) if found else ("", path.rpartition(".")[2])
    return "" if (place, name) in _TELL_A_NAME else name


def _shown(path: str, value: Any, secrets: list[str]) -> Any:
    return _fitting(masked(value, secrets, name_in(path)))


def _fitting(value: Any) -> Any:
    """What is too long to be read goes by its digest."""
    if isinstance(value, dict):
        return {str(name): _fitting(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_fitting(item) for item in value]
    if isinstance(value, str) and len(value) > _LONGEST:
        digest = hashlib.sha256(value.encode(errors="replace")).hexdigest()[:12]
        return f"{value[:60]}… ({len(value)} characters, sha256 {digest})"
    return value


def _rest(lines: list[str]) -> Iterator[str]:
    if lines:
        yield f"… {len(lines)} more lines"
