"""What `cascade history` says of the releases on the manager."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from typing import Any

import pytest

from cascade.documents import HistoryDocument, ReleaseDiffDocument, json_of
from cascade.history_report import (
    history_document,
    history_lines,
    release_diff_document,
    release_diff_lines,
)
from cascade.model.fleet import Fleet
from cascade.planning.comparison import between
from cascade.planning.desired import Desired
from cascade.planning.release import Kept, NoRelease, Release, decoded, encoded, target_of_release
from cascade.planning.resource import Key
from cascade.planning.target import Target, target_of
from tests.operations.test_drift import REGISTRY, SYSCTLS
from tests.schemas import valid

INVENTORY = "/somewhere/inventory.py"
SERVICE = Key("mainpc", "service", REGISTRY)


def release(number: int, **said: Any) -> Release:
    known: dict[str, Any] = {
        "time": f"2026-11-2{number}T10:00:00+00:00",
        "operator": "owner@laptop",
        "revision": "0123456789abcdef",
        "dirty": False,
        "purpose": "deploy",
        "digest": "d" * 12,
    }
    return Release(number=number, **(known | said))


def kept(number: int, target: Target, **said: Any) -> Kept:
    """A release as it comes back from the manager."""
    document = decoded(base64.b64encode(encoded(target)).decode())
    found = release(number, digest=target.digest, **said)
    return Kept(found, target_of_release(document, found))


def changed(target: Target, key: Key, **fields: Any) -> Target:
    """The target with other values in some fields of one resource."""
    resources = (
        Desired(item.stage, key, {**item.fields, **fields}) if item.key == key else item
        for item in target.resources
    )
    return replace(target, resources=tuple(resources))


def without(target: Target, key: Key) -> Target:
    return replace(target, resources=tuple(item for item in target.resources if item.key != key))


@pytest.fixture
def target(fleet: Fleet) -> Target:
    return target_of(fleet)


def test_what_a_manager_keeps_is_what_was_recorded(target: Target) -> None:
    (again,) = [kept(1, target).target]
    assert again
    assert again.digest == target.digest
    assert between(again, target) == ()


def test_every_release_has_its_row_the_newest_last(target: Target) -> None:
    more = changed(target, SERVICE, Mode={"Replicated": {"Replicas": 2}})
    found = [
        kept(1, target),
        kept(2, more, dirty=True, operator="somebody\x1b[2J"),
        kept(3, target, purpose="rollback to 1", revision=""),
    ]
    document = history_document(INVENTORY, found)
    valid("history", json_of(HistoryDocument, document))
    lines = list(history_lines(document))
    assert [re.split("  +", line) for line in lines] == [
        ["release", "time", "operator", "revision", "purpose", "agents", "changes"],
        ["1", "2026-11-21T10:00:00+00:00", "owner@laptop", "0123456789ab", "deploy", "69"],
        [
            "2",
            "2026-11-22T10:00:00+00:00",
            "somebody\\x1b[2J",
            "0123456789ab + changes",
            "deploy",
            "69",
            "1",
        ],
        ["3", "2026-11-23T10:00:00+00:00", "owner@laptop", "none", "rollback to 1", "69", "1"],
    ]
    assert {line.index("deploy") for line in lines[1:3]} == {lines[0].index("purpose")}


def test_a_release_that_cannot_be_read_has_its_row_too(target: Target) -> None:
    broken = Kept(release(2), None, "cannot be read: what is this")
    document = history_document(INVENTORY, [kept(1, target), broken, kept(3, target)])
    valid("history", json_of(HistoryDocument, document))
    assert [(one.agents, one.changes) for one in document.releases] == [(69, None), (None, None), (69, None)]
    assert list(history_lines(document))[-1] == "release 2 cannot be read: what is this"


def test_no_release_is_no_table() -> None:
    document = history_document(INVENTORY, [])
    valid("history", json_of(HistoryDocument, document))
    (line,) = history_lines(document)
    assert line.startswith("no release is recorded")


def test_two_releases_differ_field_by_field(target: Target) -> None:
    sysctls = Key("pc2", "file", SYSCTLS)
    template = target.wanted[SERVICE]["TaskTemplate"]
    body = template["ContainerSpec"]
    secret = [*body["Env"], "API_TOKEN=planted-secret"]
    later = changed(
        target,
        SERVICE,
        Mode={"Replicated": {"Replicas": 3}},
        TaskTemplate={**template, "ContainerSpec": {**body, "Env": secret}},
    )
    later = changed(later, sysctls, content=target.wanted[sysctls]["content"] + "vm.swappiness = 1\n")
    later = without(later, Key("pc2", "package", "curl"))
    document = release_diff_document(INVENTORY, (release(1), target), (release(2), later))
    valid("history-diff", json_of(ReleaseDiffDocument, document))
    lines = list(release_diff_lines(document))
    content = next(line for line in lines if "content sha256" in line)
    assert [line for line in lines if not line.startswith(" " * 8)] == [
        "mainpc",
        f"  ~ service {REGISTRY}",
        "      ~ replicas 1 → 3",
        "      + env API_TOKEN = ***",
        "pc2",
        f"  ~ file {SYSCTLS}",
        content,
        "  - package curl",
        "from release 1 to 2: 0 to add, 2 to change, 0 to replace, 1 to remove",
    ]
    assert "        +vm.swappiness = 1" in lines
    assert "planted" not in json_of(ReleaseDiffDocument, document)
    (service,) = (change for change in document.changes if change.kind == "service")
    assert (service.group, service.agent) == ("cascade-core", "ServiceRegistry")


def test_the_way_back_is_the_opposite(target: Target) -> None:
    later = without(target, Key("pc2", "package", "curl"))
    back = release_diff_document(INVENTORY, (release(2), later), (release(1), target))
    assert [(change.action, change.name) for change in back.changes] == [("create", "curl")]


@pytest.mark.parametrize("data", ["", "AAAA", base64.b64encode(b"{}").decode()])
def test_what_is_no_release_says_so(data: str) -> None:
    with pytest.raises(NoRelease, match="cannot be read"):
        decoded(data)


def test_a_release_of_another_time_is_not_guessed_at() -> None:
    with pytest.raises(NoRelease, match="format 9"):
        target_of_release({"format": 9}, release(1))
