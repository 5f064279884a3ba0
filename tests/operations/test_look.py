"""Where a run's target comes from: the files, or a release that the manager keeps."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cascade.exit_codes import ERROR, INVALID
from cascade.model.fleet import Fleet
from cascade.model.options import Options
from cascade.planning.desired import Desired
from cascade.planning.release import Release, encoded
from cascade.planning.resource import Key
from cascade.planning.target import Target, target_of
from operations.look import Look, look
from operations.run import Stopped
from tests.operations.conftest import LocalRun, Snapshots
from tests.operations.test_part_of_the_fleet import CORE

RELEASE = Release(3, "2026-01-02T03:04:05+00:00", "me@desk", "", False, "deploy", "0123456789ab")
INVENTORY = "inventories/home.py"
ANOTHER = f"deploy the whole fleet, or choose another with `cascade history {INVENTORY}`"

Asked = list[tuple[tuple[Desired, ...], str | None]]


def kept(target: Target) -> dict[str, Any]:
    """A release as a snapshot has it."""
    labels = replace(RELEASE, digest=target.digest).labels(target)
    return {"Labels": labels, "Data": base64.b64encode(encoded(target)).decode()}


@pytest.fixture
def files(fleet: Fleet) -> Target:
    return target_of(fleet)


@pytest.fixture
def asked() -> Asked:
    """What the hosts were asked for: resources by name, and a release."""
    return []


@pytest.fixture
def looking(
    run: LocalRun, converged: Snapshots, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Look]:
    """Looks at hosts of which the manager keeps this release, with these options."""

    def snapshots(wanted: tuple[Desired, ...], release: str | None = None) -> Snapshots:
        asked.append((tuple(wanted), release))
        return converged

    def do(release: Any, **options: Any) -> Look:
        converged["mainpc"]["docker"] |= {"release": release}
        run.inventory_file = INVENTORY
        run.fleet = replace(run.fleet, options=Options.model_validate(options))
        monkeypatch.setattr(run, "snapshots", snapshots)
        return look(run)

    return do


def refusal(looking: Callable[..., Look], release: Any, **options: Any) -> str:
    """What a run says that ends there."""
    with pytest.raises(Stopped) as stopped:
        looking(release, **options)
    assert stopped.value.code == ERROR
    (message,) = stopped.value.messages
    return message


@pytest.fixture(autouse=True)
def every_host_is_asked(run: LocalRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.state.inventory, "get_active_hosts", lambda: [*run.state.inventory])


def test_a_run_about_everything_asks_for_no_release(
    looking: Callable[..., Look], files: Target, asked: Asked
) -> None:
    found = looking(None)
    assert (found.target, found.release, found.last) == (files, None, None)
    assert asked == [(files.resources, None)]


def test_a_run_about_some_groups_asks_what_the_others_are(
    looking: Callable[..., Look], files: Target, asked: Asked
) -> None:
    found = looking(kept(files), group=CORE)
    assert [release for _, release in asked] == ["last"]
    assert found.target.partial
    assert found.last is not None
    assert found.last.digest == files.digest


def test_a_run_about_some_hosts_asks_what_the_others_are(
    looking: Callable[..., Look],
    files: Target,
    asked: Asked,
    run: LocalRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        run.state.inventory, "get_active_hosts", lambda: [run.state.inventory.get_host("mainpc")]
    )
    assert looking(kept(files)).last is not None
    assert [release for _, release in asked] == ["last"]


def test_before_the_first_release_a_part_is_deployed_by_itself(looking: Callable[..., Look]) -> None:
    assert looking(None, group=CORE).last is None


@pytest.mark.parametrize(
    ("options", "release"),
    [
        ({"rollback": "previous"}, "previous"),
        ({"rollback": "3"}, "3"),
        ({"repair": "automatic"}, "last"),
        ({"repair": "all"}, "last"),
    ],
)
def test_going_back_and_repairing_aim_at_a_release(
    options: dict[str, Any], release: str, looking: Callable[..., Look], files: Target, asked: Asked
) -> None:
    found = looking(kept(files), **options)
    assert asked == [(files.resources, release)]
    assert found.release == replace(RELEASE, digest=files.digest)
    assert (found.target.origin, found.target.wanted) == ("release 3", files.wanted)


@pytest.mark.parametrize("options", [{"rollback": "previous"}, {"repair": "all"}])
@pytest.mark.parametrize("part", ["a group", "a host"])
def test_going_back_and_repairing_are_for_the_whole_fleet(
    part: str,
    options: dict[str, Any],
    looking: Callable[..., Look],
    files: Target,
    asked: Asked,
    run: LocalRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a part of a release nobody could say what the rest is, and it would be released without that."""
    if part == "a group":
        options |= {"group": CORE}
    else:
        manager = run.state.inventory.get_host("mainpc")
        monkeypatch.setattr(run.state.inventory, "get_active_hosts", lambda: [manager])
    with pytest.raises(Stopped) as stopped:
        looking(kept(files), **options)
    assert (stopped.value.code, asked) == (INVALID, [])


def test_what_only_the_release_names_is_asked_for_too(
    looking: Callable[..., Look], files: Target, asked: Asked
) -> None:
    package = Desired("system", Key("pc2", "package", "earlier"), {"installed": True})
    looking(kept(replace(files, resources=(package, *files.resources))), rollback="3")
    assert [release for _, release in asked] == ["3", None]
    again = asked[1][0]
    assert {item.key for item in again} == {package.key, *(item.key for item in files.resources)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repair": "all"}, "mainpc: no release is recorded: deploy first"),
        (
            {"rollback": "previous"},
            f"mainpc: no release before the last one is recorded: see `cascade history {INVENTORY}`",
        ),
        ({"rollback": "7"}, f"mainpc: no release 7 is recorded: see `cascade history {INVENTORY}`"),
    ],
)
def test_a_release_that_is_not_there_is_told_with_what_to_do(
    options: dict[str, Any], message: str, looking: Callable[..., Look]
) -> None:
    assert refusal(looking, None, **options) == message


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"stopped": True}, "its engine does not run; `pyinfra … deploy.py` starts it"),
        ({"error": "timed out"}, "its engine cannot be read: timed out"),
    ],
)
def test_an_engine_that_says_nothing_does_not_say_that_there_is_no_release(
    said: dict[str, Any], reason: str, looking: Callable[..., Look], converged: Snapshots
) -> None:
    converged["mainpc"]["docker"] = said
    assert refusal(looking, None, rollback="3") == f"mainpc: no release is known: {reason}"


def test_a_damaged_release_is_told_with_what_to_do(looking: Callable[..., Look], files: Target) -> None:
    damaged = kept(files) | {"Data": base64.b64encode(zlib.compress(b'{"format": 1}')).decode()}
    assert refusal(looking, damaged, rollback="3") == (
        f"mainpc: release 3 is damaged: KeyError: 'resources'; {ANOTHER}"
    )


@pytest.mark.parametrize("replicas", [9, "two", None, []])
def test_a_release_that_holds_something_else_than_was_recorded_is_not_put_on_the_hosts(
    replicas: Any, looking: Callable[..., Look], files: Target
) -> None:
    member = next(files.members)
    wave = replace(files.waves[0], members=(replace(member, replicas=replicas), *files.waves[0].members[1:]))
    exchanged = kept(replace(files, waves=(wave, *files.waves[1:])))["Data"]
    assert refusal(looking, kept(files) | {"Data": exchanged}, rollback="3") == (
        f"mainpc: release 3 is damaged: it does not hold what its digest says; {ANOTHER}"
    )


def test_a_release_of_other_hosts_is_not_put_on_these(looking: Callable[..., Look], files: Target) -> None:
    other = replace(files, hosts=(*files.hosts, "attic"))
    assert refusal(looking, kept(other), rollback="3") == (
        f"mainpc: release 3 is of other hosts: attic is not in {INVENTORY}; {ANOTHER}"
    )
    assert refusal(looking, kept(replace(files, manager="pc2")), repair="all") == (
        f"mainpc: release 3 is of another manager, pc2; {ANOTHER}"
    )
