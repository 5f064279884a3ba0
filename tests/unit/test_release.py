"""Targets by their digest, and releases: what is written down of a target, and what is read back."""

import base64
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cascade.model.fleet import Fleet
from cascade.model.image import ArchiveImage
from cascade.model.options import Options
from cascade.planning.desired import Desired
from cascade.planning.observed import needs_in, releases_in
from cascade.planning.release import (
    Document,
    NoRelease,
    Release,
    config_name,
    decoded,
    encoded,
    next_number,
    purpose_of,
    release_in,
    target_document,
    target_in,
)
from cascade.planning.resource import Key
from cascade.planning.target import Target, target_of
from tests.unit.conftest import fleet_of, group_data, write_archive

RELEASE = Release(
    number=7,
    time="2026-01-02T03:04:05+00:00",
    operator="me@desk",
    revision="0" * 40,
    dirty=True,
    purpose="rollback to 3",
    digest="0123456789ab",
)


@pytest.fixture(scope="module")
def target(lab_fleet: Fleet) -> Target:
    """What the lab's files say."""
    return target_of(lab_fleet)


def of_archive(path: Path, config: str) -> Target:
    """The lab's target with an archive of its own."""
    path.parent.mkdir()
    archive = ArchiveImage(path=write_archive(path, config))
    return target_of(fleet_of({"images": dict.fromkeys(group_data("lab")["images"], archive)}, "lab"))


def written(target: Target) -> str:
    """A release's data as the engine gives it."""
    return base64.b64encode(encoded(target)).decode()


def read_back(target: Target, files: Target | None = None) -> Target:
    return target_in(decoded(written(target)), "release 7", files or target)


def altered(item: Desired) -> Desired:
    return replace(item, fields={**item.fields, "altered": True})


def test_a_digest_is_of_the_image_and_not_of_where_its_archive_lies(tmp_path: Path) -> None:
    here, there = (
        of_archive(tmp_path / "a" / "i.tar", "1.json"),
        of_archive(tmp_path / "b" / "i.tar", "1.json"),
    )
    other = of_archive(tmp_path / "c" / "i.tar", "2.json")
    assert here.wanted != there.wanted
    assert here.digest == there.digest != other.digest


def test_a_digest_is_of_no_order(target: Target) -> None:
    turned = replace(target, resources=target.resources[::-1], waves=target.waves[::-1])
    assert turned.digest == target.digest


def test_every_resource_counts_in_the_digest(target: Target) -> None:
    for place, item in enumerate(target.resources):
        before, after = target.resources[:place], target.resources[place + 1 :]
        assert replace(target, resources=(*before, *after)).digest != target.digest
        assert replace(target, resources=(*before, altered(item), *after)).digest != target.digest


def test_what_is_no_drift_of_an_agent_counts_in_the_digest(target: Target) -> None:
    """The range of its scale is said in no spec, and a later look must judge by it."""
    (first, *others), later = target.waves[0].members, target.waves[1:]
    wave = replace(target.waves[0], members=(replace(first, scale=(1, 99)), *others))
    assert replace(target, waves=(wave, *later)).digest != target.digest


def test_a_release_is_read_back_as_it_was_written(target: Target) -> None:
    found = read_back(target)
    assert [item.key for item in found.resources] == [item.key for item in target.resources]
    assert [item.stage for item in found.resources] == [item.stage for item in target.resources]
    assert found.wanted == target.wanted
    assert (found.waves, found.hosts, found.manager) == (target.waves, target.hosts, target.manager)
    assert found.digest == target.digest
    assert (found.origin, found.exact, found.stopped_groups) == ("release 7", True, ())


def test_where_an_archive_lies_is_in_no_release_and_comes_from_the_files(tmp_path: Path) -> None:
    then, now = of_archive(tmp_path / "a" / "i.tar", "1.json"), of_archive(tmp_path / "b" / "i.tar", "1.json")
    assert str(tmp_path) not in json.dumps(target_document(then))
    archives = {
        fields["archive"] for key, fields in read_back(then, now).wanted.items() if key.kind == "image"
    }
    assert archives == {str(tmp_path / "b" / "i.tar")}


def test_an_image_that_the_files_do_not_know_any_more_has_no_archive(tmp_path: Path) -> None:
    then, now = of_archive(tmp_path / "a" / "i.tar", "1.json"), of_archive(tmp_path / "b" / "i.tar", "2.json")
    images = [fields for key, fields in read_back(then, now).wanted.items() if key.kind == "image"]
    assert images == [{"present": "sha256:1"}, {"present": "sha256:1"}]


def test_what_the_files_have_beside_a_release_is_known_but_its_agents_are_not(target: Target) -> None:
    network, agent = Key("mainpc", "network", "later"), Key("mainpc", "service", "later_agent")
    found = read_back(target, replace(target, known=frozenset({network, agent})))
    assert network in found.known
    assert agent not in found.known
    assert found.known >= found.wanted.keys()


def test_a_group_that_only_the_files_know_comes_after_those_of_the_release(target: Target) -> None:
    later = replace(target.waves[0], group="later")
    found = read_back(target, replace(target, order=(later, *target.order)))
    assert found.order == (*target.waves, later)
    assert found.waves == target.waves


def test_a_release_carries_what_was_done(target: Target) -> None:
    lines = [{"host": "pc2", "what": "update sysctl a"}]
    assert json.loads(zlib.decompress(encoded(target, lines)))["audit"] == lines


UNREADABLE = {
    "no base64": "%",
    "no compression": base64.b64encode(b"{}").decode(),
    "cut off": base64.b64encode(zlib.compress(b'{"format": 1}')[:-3]).decode(),
    "no text": base64.b64encode(zlib.compress(b"\xff")).decode(),
    "no JSON": base64.b64encode(zlib.compress(b"{")).decode(),
    "a list": base64.b64encode(zlib.compress(b"[]")).decode(),
    "a tower": base64.b64encode(zlib.compress(b"[" * 100_000)).decode(),
    "null": base64.b64encode(zlib.compress(b"null")).decode(),
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_is_no_release_cannot_be_read(data: str) -> None:
    with pytest.raises(NoRelease, match=r"^cannot be read: "):
        decoded(data)


def without(name: str) -> Callable[[Document], Any]:
    return lambda document: document.pop(name)


def in_first_resource(place: int, value: Any) -> Callable[[Document], Any]:
    return lambda document: document["resources"][0].__setitem__(place, value)


DAMAGES: dict[str, tuple[Callable[[Document], Any], str]] = {
    "another format": (
        lambda document: document.update(format=2),
        "is of format 2, and this Cascade reads 1",
    ),
    "no format": (without("format"), "is of format None, and this Cascade reads 1"),
    "no system": (without("system"), "is damaged: KeyError: 'system'"),
    "no waves": (without("waves"), "is damaged: KeyError: 'waves'"),
    "no resources": (without("resources"), "is damaged: KeyError: 'resources'"),
    "half a resource": (
        lambda document: document["resources"].append([]),
        "is damaged: ValueError: not enough",
    ),
    "an unknown stage": (
        in_first_resource(0, "later"),
        "is damaged: ValueError: there is no package in later",
    ),
    "an unknown kind": (in_first_resource(2, "wish"), "is damaged: ValueError: there is no wish in system"),
    "a name that is none": (in_first_resource(3, []), "is damaged: TypeError: "),
    "fields that are none": (in_first_resource(4, 1), "is damaged: TypeError: "),
    "a wave without a group": (lambda document: document["waves"][0].pop("group"), "is damaged: TypeError: "),
    "a member with more": (
        lambda document: document["waves"][0]["members"][0].update(more=1),
        "is damaged: TypeError: ",
    ),
    "a member without a key": (
        lambda document: document["waves"][0]["members"][0].pop("key"),
        "is damaged: KeyError: 'key'",
    ),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_release_that_is_not_whole_is_refused_with_the_reason(
    damage: Callable[[Document], Any], reason: str, target: Target
) -> None:
    document = decoded(written(target))
    target_in(document, "release 7", target)
    damage(document)
    with pytest.raises(NoRelease) as refused:
        target_in(document, "release 7", target)
    assert str(refused.value).startswith(reason)


def test_a_releases_labels_say_all_that_a_list_shows(target: Target) -> None:
    labels = RELEASE.labels(target)
    assert release_in(labels) == RELEASE
    assert labels["cascade.system"] == target.system
    assert release_in(replace(RELEASE, dirty=False, revision="").labels(target)).dirty is False


def test_a_release_names_the_objects_that_it_needs(target: Target) -> None:
    needed = set(needs_in(RELEASE.labels(target)))
    assert needed == {key for key in target.wanted if key.kind in ("network", "volume", "config", "image")}
    assert {key.kind for key in needed} >= {"network", "volume", "image"}


def test_an_images_reference_may_have_slashes(home_fleet: Fleet) -> None:
    target = target_of(home_fleet)
    images = {key for key in needs_in(RELEASE.labels(target)) if key.kind == "image"}
    assert images == {key for key in target.wanted if key.kind == "image"}
    assert all("/" in key.name for key in images)


def labels_of(*numbers: str, system: str = "cascade") -> list[dict[str, str]]:
    return [{"cascade.system": system, "cascade.release": number} for number in numbers]


def test_releases_come_in_the_order_of_their_numbers() -> None:
    others = [*labels_of("12", system="another"), *labels_of("newest"), {"cascade.system": "cascade"}]
    configs = [{"Labels": labels} for labels in [*labels_of("10", "9", "11"), *others]]
    found = list(releases_in({"configs": configs}, "cascade"))
    assert [labels["cascade.release"] for labels in found] == ["9", "10", "11"]
    assert (next_number(found), next_number([])) == (12, 1)


@pytest.mark.parametrize("number", ["", "one", "-1", "9" * 5000])
def test_what_has_no_number_is_no_release(number: str) -> None:
    labels = {"cascade.system": "demo", "cascade.release": number}
    assert list(releases_in({"configs": [{"Labels": labels}]}, "demo")) == []


def test_names_of_releases_sort_as_their_numbers_do() -> None:
    names = [config_name("cascade", number) for number in (1, 2, 10, 99, 100, 999999)]
    assert names == sorted(names)
    assert names[0] == "cascade-release-cascade-000001"


@pytest.mark.parametrize(
    ("options", "aim", "purpose"),
    [
        ({}, None, "deploy"),
        ({"rollback": "previous"}, RELEASE, "rollback to 7"),
        ({"repair": "all"}, RELEASE, "repair"),
    ],
)
def test_a_release_says_what_its_run_was_for(
    options: dict[str, Any], aim: Release | None, purpose: str
) -> None:
    assert purpose_of(Options.model_validate(options), aim) == purpose
