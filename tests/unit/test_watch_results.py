"""A result as lines and as metrics."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cascade.documents import DriftDocument
from cascade.watch.lines import ERROR, INFO, MOST, WARNING, journal_lines
from cascade.watch.metrics import Check, exposition
from tests.drifts import DRIFT, FINDING, IN_SYNC, RELEASE, UNREACHABLE, Document


def texts(document: Document) -> list[str]:
    return [line.text for line in journal_lines(document)]


def samples(document: Document, **of: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """What a metrics' reader finds: by name, the labels that tell apart and the value."""
    shown = exposition(Check(of.get("system", "cascade"), of.get("inventory", "/srv/home.py"), document, 0.5))
    return {
        family.name.removeprefix("cascade_drift_"): [(each.labels, each.value) for each in family.samples]
        for family in text_string_to_metric_families(shown)
    }


@pytest.mark.parametrize("document", [IN_SYNC, DRIFT, UNREACHABLE])
def test_the_documents_of_these_tests_are_documents(document: Document) -> None:
    assert DriftDocument.model_validate(document).model_dump(mode="json") == document


def test_a_fleet_in_sync_is_one_line() -> None:
    assert texts(IN_SYNC) == ["in sync, release 7, exit code 0"]
    assert [line.priority for line in journal_lines(IN_SYNC)] == [INFO]


def test_each_finding_is_a_line_and_the_last_line_is_what_it_comes_to() -> None:
    values = "update replicas: desired 3, observed 2"
    assert texts(DRIFT) == [
        f"drift: mainpc service registry: {values}; repair: automatic",
        f"drift: mainpc file /etc/hosts: {values}; repair: approval",
        "unwanted: mainpc config old",
        "the files differ from the release: pc2 service new: create",
        "not in sync, release 7, the files differ from it, 2 found, 1 unwanted, exit code 2",
    ]


def test_what_could_not_be_read_comes_first_and_is_an_error() -> None:
    first, last = journal_lines(UNREACHABLE)
    assert (first.priority, first.text) == (ERROR, "unknown: pc2 host: no route")
    assert (last.priority, last.text) == (WARNING, "not in sync, no release, 1 unknown, exit code 6")


def test_nothing_from_a_host_ends_a_line_or_paints_the_terminal() -> None:
    hostile = "a\nb\x1b[31m\x9b\u202e"
    document = DRIFT | {
        "findings": [FINDING | dict.fromkeys(("host", "name", "field", "observed"), hostile)],
        "notes": [hostile],
        "unknown": [{"host": hostile, "what": hostile, "reason": hostile}],
    }
    assert all(text.isprintable() for text in texts(document))


def test_a_value_without_end_makes_no_line_without_end() -> None:
    finding = FINDING | {"observed": {"content": "x" * 100_000}, "name": "y" * 100_000}
    assert max(map(len, texts(DRIFT | {"findings": [finding], "notes": ["z" * 100_000]}))) < 500


def test_findings_without_end_are_counted_behind_the_first() -> None:
    said = texts(DRIFT | {"findings": [FINDING] * (MOST + 50)})
    assert len(said) == MOST + 2
    assert said[-2].startswith("… and 52 more")


def test_metrics_count_findings_by_host_kind_and_repair() -> None:
    of = {"system": "cascade", "inventory": "/srv/home.py", "host": "mainpc"}
    found = samples(DRIFT | {"findings": [*DRIFT["findings"], FINDING]})
    assert found["findings"] == [
        ({**of, "kind": "file", "repair": "approval"}, 1),
        ({**of, "kind": "service", "repair": "automatic"}, 2),
    ]
    assert found["unwanted"] == [({**of, "kind": "config"}, 1)]


def test_metrics_say_how_the_check_ended() -> None:
    values = {name: found[0][1] for name, found in samples(DRIFT).items()}
    assert values == {
        "in_sync": 0,
        "exit_code": 2,
        "findings": 1,
        "unwanted": 1,
        "files_differ": 1,
        "release_number": 7,
        "release_info": 1,
        "last_check_timestamp_seconds": 1795274400,
        "check_duration_seconds": 0.5,
        "hook_failed": 0,
    }
    assert samples(UNREACHABLE)["unknown"][0][0]["host"] == "pc2"
    assert "release_number" not in samples(UNREACHABLE)


def test_metrics_of_a_fleet_in_sync_have_no_series_of_findings() -> None:
    assert samples(IN_SYNC)["in_sync"][0][1] == 1
    assert not {"findings", "unwanted", "unknown"} & samples(IN_SYNC).keys()


def test_labels_hold_any_text() -> None:
    hostile = 'a"b\\c\nd\ud800'
    document = DRIFT | {"findings": [FINDING | {"name": hostile, "kind": hostile}]}
    assert samples(document, inventory=hostile)["findings"][0][0]["kind"] == 'a"b\\c\nd?'


def test_what_is_not_known_of_a_release_is_an_empty_label() -> None:
    release = RELEASE | {"revision": None, "dirty": None}
    labels = samples(IN_SYNC | {"release": release})["release_info"][0][0]
    assert (labels["revision"], labels["dirty"], labels["purpose"]) == ("", "", "deploy")
    labels = samples(IN_SYNC)["release_info"][0][0]
    assert (labels["revision"], labels["dirty"]) == ("0123abc", "false")


def test_every_metric_says_what_it_is() -> None:
    shown = exposition(Check("cascade", "/srv/home.py", DRIFT, 0.5))
    names = set(re.findall(r"^(\w+){", shown, re.MULTILINE))
    for what in ("HELP", "TYPE"):
        assert set(re.findall(rf"^# {what} (\w+) ", shown, re.MULTILINE)) == names
