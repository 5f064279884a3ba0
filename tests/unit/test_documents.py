"""What the commands print with --json is published, and is what they print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from cascade.documents import DOCUMENTS, PlanDocument, ValidateDocument, json_of, publish, schema_of
from tests.drifts import DRIFT, IN_SYNC, UNREACHABLE
from tests.fleets import ROOT
from tests.schemas import SCHEMAS, schema, valid


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_published_schema_is_that_of_its_model(name: str) -> None:
    published = (SCHEMAS / f"{name}.json").read_text()
    assert published == schema_of(name), "run `python -m cascade.documents docs/reference/schemas`"


def test_no_schema_is_published_that_no_command_prints() -> None:
    assert sorted(path.stem for path in SCHEMAS.iterdir()) == sorted(DOCUMENTS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_schema_is_one_and_says_what_it_is_of(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))
    assert schema(name)["description"].startswith("`cascade ")


def test_the_page_about_json_names_every_schema() -> None:
    page = (ROOT / "docs" / "reference" / "json.md").read_text()
    assert [name for name in DOCUMENTS if f"schemas/{name}.json" not in page] == []


def test_they_are_written_where_one_is_asked_to(tmp_path: Path) -> None:
    publish(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        path.name: path.read_text() for path in SCHEMAS.iterdir()
    }


@pytest.mark.parametrize("document", [IN_SYNC, DRIFT, UNREACHABLE])
def test_what_a_watch_is_tested_with_is_a_drift_document(document: dict[str, Any]) -> None:
    assert valid("drift", json.dumps(document)) == document


def test_a_document_that_is_not_as_published_is_never_printed() -> None:
    with pytest.raises(ValidationError):
        json_of(ValidateDocument, {"valid": True, "problems": [], "more": 1})
    with pytest.raises(ValidationError):
        json_of(PlanDocument, {})
