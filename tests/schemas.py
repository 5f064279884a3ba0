"""The published schemas, as somebody else's validator reads them."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator

from tests.fleets import ROOT

SCHEMAS = ROOT / "docs" / "reference" / "schemas"


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.json").read_text())


def valid(name: str, text: str) -> Any:
    """The document of a command's whole output, which is as its published schema says."""
    document = json.loads(text)
    Draft202012Validator(schema(name)).validate(document)
    return document
