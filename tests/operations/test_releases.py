"""Releases on captured hosts: what follows from them, when one is written down, what goes with an old one."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker.errors
import pytest
from pyinfra.api.host import Host

from cascade.model.fleet import Fleet
from cascade.planning.desired import Desired
from cascade.planning.observed import observe
from cascade.planning.plan import make_plan
from cascade.planning.release import decoded, encoded, merged, target_in
from cascade.planning.removal import REMOVABLE
from cascade.planning.resource import Key, Unknown
from cascade.planning.steps import Record
from cascade.planning.target import Target, target_of
from operations.releases import record, revision_of
from tests.operations.conftest import LocalRun, Snapshots
from tests.operations.engine import Engine
from tests.operations.test_configs import BLUE, RED, deployed, name, reading
from tests.operations.test_part_of_the_fleet import AUDIO, CORE, PC2_APPS, choosing, disabling
from tests.operations.test_plan import (
    COORDINATOR,
    REGISTRY,
    SYSCTLS,
    WAKE_WORD,
    service,
    setting,
    stopped,
    works,
)

CORE_AGENT, AUDIO_AGENT = Key("mainpc", "service", REGISTRY), Key("mainpc", "container", WAKE_WORD)
PC2_AGENT = Key("mainpc", "service", f"{PC2_APPS}_advanced-router")
PC2_FILE = Key("pc2", "file", SYSCTLS)


def data_of(target: Target) -> str:
    """A release's data as the engine gives it."""
    return base64.b64encode(encoded(target)).decode()


def released(target: Target, files: Target | None = None) -> Target:
    """The target as a release gives it back."""
    return target_in(decoded(data_of(target)), "release 1", files or target)


def altering(target: Target, *keys: Key) -> Target:
    """The target with something else in these resources."""
    assert set(keys) <= target.wanted.keys()
    return replace(target, resources=tuple(altered(item, keys) for item in target.resources))


def altered(item: Desired, keys: Iterable[Key]) -> Desired:
    return replace(item, fields={**item.fields, "altered": True}) if item.key in keys else item


def altered_in(target: Target) -> set[Key]:
    return {key for key, fields in target.wanted.items() if "altered" in fields}


@pytest.fixture
def files(fleet: Fleet) -> Target:
    """What the files say."""
    return target_of(fleet)


def test_a_release_of_what_runs_needs_no_change(converged: Snapshots, files: Target) -> None:
    plan = make_plan(released(files), converged, REMOVABLE)
    assert (plan.changes, plan.unwanted, plan.refused, [*works(plan)]) == ((), (), (), [])


def test_a_release_on_bare_hosts_brings_the_same_steps_as_its_files(bare: Snapshots, files: Target) -> None:
    ours, again = make_plan(files, bare), make_plan(released(files), bare)
    assert {**again.steps, "release": ()} == {**ours.steps, "release": ()}
    assert again.changes == ours.changes
    assert (again.release is not None) == (ours.release is not None)


def test_what_runs_as_the_last_release_says_is_not_released_again(
    converged: Snapshots, files: Target
) -> None:
    assert make_plan(files, converged).release is None


def test_the_first_release_is_the_first(bare: Snapshots, files: Target) -> None:
    plan = make_plan(files, bare)
    assert plan.release == Record(1, replace(files, notes=plan.target.notes))
    assert [step.name for step in plan.steps["release"]] == ["record release 1"]


def test_files_that_say_something_else_are_the_next_release(converged: Snapshots, files: Target) -> None:
    plan = make_plan(altering(files, PC2_FILE), converged)
    assert plan.release
    assert (plan.release.number, altered_in(plan.release.target)) == (2, {PC2_FILE})
    (step,) = plan.steps["release"]
    assert step.work == {"mainpc": plan.release}


def test_hosts_that_changed_are_repaired_without_a_release(converged: Snapshots, files: Target) -> None:
    setting("0", "pc2", "sysctls", "net.core.somaxconn")(converged)
    plan = make_plan(files, converged)
    assert len(plan.changes) == 1
    assert "release" not in plan.steps


def test_a_count_that_somebody_chose_inside_the_range_is_in_no_release(
    converged: Snapshots, files: Target
) -> None:
    setting(1, *service(COORDINATOR, "Mode", "Replicated", "Replicas"))(converged)
    assert make_plan(files, converged).release is None
    plan = make_plan(altering(files, PC2_FILE), converged)
    assert plan.release
    key = Key("mainpc", "service", COORDINATOR)
    assert plan.release.target.wanted[key]["Mode"] == {"Replicated": {"Replicas": 3}}


def test_a_scaled_service_is_judged_by_the_range_of_its_release(converged: Snapshots, files: Target) -> None:
    for count, changes in ((1, 0), (5, 0), (6, 1), (0, 1)):
        setting(count, *service(COORDINATOR, "Mode", "Replicated", "Replicas"))(converged)
        assert len(make_plan(released(files), converged).changes) == changes


def test_a_stopped_engine_of_the_manager_hides_the_releases_so_one_is_written_when_it_runs(
    converged: Snapshots, files: Target
) -> None:
    stopped("mainpc")(converged)
    assert make_plan(files, converged).release


def test_without_the_managers_word_no_part_is_released_as_if_it_were_the_whole(
    converged: Snapshots, fleet: Fleet, files: Target
) -> None:
    stopped("mainpc")(converged)
    assert make_plan(target_of(choosing(fleet, group=CORE)), converged).release is None
    del converged["pc2"]
    assert make_plan(files, converged).release is None


def test_nothing_is_released_while_a_host_of_the_run_cannot_be_read(
    converged: Snapshots, files: Target
) -> None:
    del converged["pc2"]
    lost = (Unknown("pc2", "state", "no route to it"),)
    assert make_plan(altering(files, CORE_AGENT), converged, last=files, lost=lost).release is None


def test_without_the_manager_nothing_is_released(converged: Snapshots, files: Target) -> None:
    del converged["mainpc"]
    assert make_plan(altering(files, PC2_FILE), converged, last=files).release is None


def test_chosen_groups_are_released_with_all_others_as_they_were(
    converged: Snapshots, fleet: Fleet, files: Target
) -> None:
    chosen = altering(target_of(choosing(fleet, group=CORE)), CORE_AGENT)
    whole = merged(chosen, observe(chosen, converged), released(files))
    assert whole.wanted == altering(files, CORE_AGENT).wanted
    assert [member.key for member in whole.members] == [member.key for member in files.members]
    assert whole.digest == altering(files, CORE_AGENT).digest
    assert make_plan(chosen, converged, last=released(files)).release == Record(2, whole)


def test_chosen_groups_as_they_are_need_no_release(converged: Snapshots, fleet: Fleet, files: Target) -> None:
    chosen = target_of(choosing(fleet, group=CORE))
    assert make_plan(chosen, converged, last=released(files)).release is None


def test_an_agent_that_was_not_rolled_out_is_released_as_it_runs(
    converged: Snapshots, fleet: Fleet, files: Target
) -> None:
    """The files have forgotten it, or say something else of it; a run about another group leaves it alone."""
    chosen, last = target_of(choosing(fleet, group=CORE)), released(files)
    changed = [
        replace(
            wave,
            members=tuple(
                replace(member, replicas=member.replicas + 7)
                for member in wave.members
                if member.key != AUDIO_AGENT
            ),
        )
        for wave in chosen.order
        if wave.group != CORE
    ]
    core = [wave for wave in chosen.order if wave.group == CORE]
    whole = merged(replace(chosen, order=(*core, *changed)), observe(chosen, converged), last)
    assert set(whole.members) == set(last.members)
    groups = [wave.group for wave in whole.waves]
    assert groups == sorted(groups, key=groups.index)


def test_a_host_that_was_left_out_is_released_as_it_was(converged: Snapshots, files: Target) -> None:
    del converged["pc2"]
    today = altering(files, CORE_AGENT, PC2_FILE, PC2_AGENT)
    plan = make_plan(today, converged, last=released(files))
    assert plan.release
    assert altered_in(plan.release.target) == {CORE_AGENT}
    assert plan.release.target.wanted.keys() == files.wanted.keys()
    assert {member.key for member in plan.release.target.members} == {member.key for member in files.members}


def test_a_host_that_is_no_longer_in_the_inventory_is_in_no_release(
    converged: Snapshots, files: Target
) -> None:
    del converged["pc2"]
    gone = replace(files, hosts=("mainpc",))
    whole = merged(gone, replace(observe(files, converged), unread={"pc2"}), released(files))
    assert "pc2" not in {item.key.host for item in whole.resources}


def test_a_group_that_is_not_to_run_any_more_is_in_no_release(
    converged: Snapshots, fleet: Fleet, files: Target
) -> None:
    without = target_of(disabling(fleet, AUDIO))
    plan = make_plan(without, converged)
    assert plan.release
    assert AUDIO not in {member.group for member in plan.release.target.members}
    del converged["pc2"]
    in_part = make_plan(without, converged, last=released(files))
    assert in_part.release
    assert AUDIO_AGENT not in in_part.release.target.wanted
    assert in_part.release.target.digest == plan.release.target.digest


def test_a_group_that_waits_for_a_host_to_be_removed_is_still_in_the_release(
    converged: Snapshots, fleet: Fleet, files: Target
) -> None:
    del converged["pc2"]
    plan = make_plan(target_of(disabling(fleet, PC2_APPS)), converged, last=released(files))
    assert plan.release is None


def test_what_a_group_needs_stays_needed_while_others_are_rolled_out(
    converged: Snapshots, fleet: Fleet, files: Target
) -> None:
    beside = [
        Desired("networks", Key("mainpc", "network", "earlier"), {"driver": "overlay"}),
        Desired("configs", Key("mainpc", "config", "earlier"), {"labels": {}, "sha256": "0"}),
        Desired("images", Key("pc2", "image", "earlier"), {"present": "earlier"}),
    ]
    chosen, last = (
        target_of(choosing(fleet, group=CORE)),
        replace(files, resources=(*files.resources, *beside)),
    )
    whole = merged(chosen, observe(chosen, converged), last)
    assert whole.wanted.keys() >= {item.key for item in beside}
    stages = [item.stage for item in whole.resources]
    assert stages == sorted(stages, key=stages.index)


def test_what_an_agent_holds_that_was_left_out_is_in_its_release(converged: Snapshots, fleet: Fleet) -> None:
    """Else the config of a release would be missed when that is gone back to."""
    red, blue = (target_of(reading(fleet, data, PC2_APPS)) for data in (RED, BLUE))
    snapshots = deployed(converged, red)
    del snapshots["pc2"]
    plan = make_plan(blue, snapshots, last=released(red))
    assert plan.release
    configs = {key.name for key in plan.release.target.wanted if key.kind == "config"}
    assert configs == {name(PC2_APPS, RED), name(PC2_APPS, BLUE)}


def test_an_agent_that_is_in_no_release_goes_when_the_release_comes_back(
    converged: Snapshots, fleet: Fleet
) -> None:
    then = target_of(disabling(fleet, AUDIO))
    plan = make_plan(released(then, target_of(fleet)), converged, REMOVABLE)
    assert {change.action for change in plan.changes} == {"remove"}
    assert {str(change.key.kind) for change in plan.changes} == {"container"}
    assert len(plan.changes) == 7
    (step,) = plan.steps["rollout"]
    assert step.name == f"{AUDIO}: remove 7 agents, which are not in release 1"
    assert make_plan(released(then, target_of(fleet)), converged).changes == ()


def test_an_image_that_is_gone_and_has_no_archive_is_refused_with_what_to_do(
    converged: Snapshots, files: Target, image_id: str
) -> None:
    then = replace(files, resources=tuple(map(without_archive, files.resources)))
    nothing_local = replace(
        files, resources=tuple(item for item in files.resources if item.key.kind != "image")
    )
    target = released(then, nothing_local)
    assert make_plan(target, converged).refused == ()
    setting([], "pc2", "docker", "images")(converged)
    (refused,) = make_plan(target, converged).refused
    assert refused == (
        f"pc2: image {image_id} is not there, and no file says where it comes from: map it in images of"
        " group_data, or choose a release whose images are there"
    )
    assert make_plan(released(files), converged).refused == ()


def without_archive(item: Desired) -> Desired:
    return replace(item, fields={name: value for name, value in item.fields.items() if name != "archive"})


def release_config(number: int, needs: str = "", **labels: str) -> dict[str, Any]:
    """A release as an engine lists it."""
    said = {"cascade.system": "cascade", "cascade.release": str(number), "cascade.needs": needs}
    name = f"cascade-release-cascade-{number:06}"
    return {"ID": f"release{number}", "Spec": {"Name": name, "Labels": said | labels, "Data": "e30="}}


def config(name: str) -> dict[str, Any]:
    """A config that an agent reads, as an engine lists it."""
    labels = {"cascade.system": "cascade", "cascade.config": "settings"}
    return {"ID": name, "Spec": {"Name": name, "Labels": labels, "Data": "e30="}}


Recording = Callable[..., list[str]]


@pytest.fixture
def recording(run: LocalRun, host: Host, engine: Engine, files: Target) -> Recording:
    """Records the files as a release beside those; tells the writes."""

    def do(*configs: dict[str, Any], kept: int = 3) -> list[str]:
        run.fleet = replace(run.fleet, settings=run.fleet.settings.model_copy(update={"releases_kept": kept}))
        engine.answers |= {
            "/v1.44/configs": list(configs),
            "/v1.44/configs/create": b'HTTP/1.0 201 Created\r\n\r\n{"ID": "new"}',
        }
        record(run, host, Record(1, files))
        said = [str(asked).replace("/v1.44", "") for asked in engine.asked]
        return [call for call in said if not call.startswith("GET")]

    return do


CREATE = "POST /configs/create"


def test_a_release_is_a_config_with_all_that_a_list_shows(
    recording: Recording, engine: Engine, files: Target, run: LocalRun
) -> None:
    run.purpose = "rollback to 3"
    assert recording() == [CREATE]
    (body,) = (asked.body for asked in engine.asked if asked.method == "POST")
    assert body["Name"] == "cascade-release-cascade-000001"
    labels = body["Labels"]
    assert (labels["cascade.release"], labels["cascade.digest"]) == ("1", files.digest)
    assert labels["cascade.purpose"] == "rollback to 3"
    document = decoded(body["Data"])
    assert target_in(document, "release 1", files).wanted == files.wanted


def test_its_number_is_counted_from_what_is_there_now(recording: Recording, engine: Engine) -> None:
    assert recording(release_config(9), release_config(41), kept=10) == [CREATE]
    (body,) = (asked.body for asked in engine.asked if asked.method == "POST")
    assert body["Labels"]["cascade.release"] == "42"


def test_what_the_last_release_says_is_not_written_again(recording: Recording, files: Target) -> None:
    same = {"cascade.digest": files.digest}
    assert recording(release_config(1), release_config(2, **same)) == []


def test_what_an_earlier_release_says_is_a_release_again(recording: Recording, files: Target) -> None:
    same = {"cascade.digest": files.digest}
    assert recording(release_config(1, **same), release_config(2)) == [CREATE]


def test_the_oldest_releases_go_when_there_are_too_many(recording: Recording) -> None:
    four = [release_config(number) for number in (8, 9, 10, 11)]
    assert recording(*four, kept=3) == [CREATE, "DELETE /configs/release8", "DELETE /configs/release9"]


def test_a_config_stays_as_long_as_a_kept_release_needs_it(recording: Recording) -> None:
    oldest = release_config(1, "mainpc/config/old")
    newer = release_config(2, "mainpc/config/kept mainpc/volume/old")
    found = [oldest, newer, config("old"), config("kept"), config("nobodys")]
    assert recording(*found, kept=3) == [CREATE, "DELETE /configs/nobodys"]
    found = [oldest, newer, config("old"), config("kept")]
    assert recording(*found, kept=2)[2:] == [
        CREATE,
        "DELETE /configs/release1",
        "DELETE /configs/old",
    ]


def test_a_config_of_somebody_else_stays(recording: Recording) -> None:
    theirs = config("theirs")
    del theirs["Spec"]["Labels"]["cascade.config"]
    assert recording(theirs) == [CREATE]


def answer(status: str) -> bytes:
    return f'HTTP/1.0 {status}\r\n\r\n{{"message": "a reason"}}'.encode()


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found"])
def test_a_config_that_is_in_use_or_gone_already_is_no_fault(
    status: str, recording: Recording, engine: Engine
) -> None:
    engine.answers["/v1.44/configs/old"] = answer(status)
    assert recording(config("old")) == [CREATE, "DELETE /configs/old"]


def test_an_engine_that_fails_is_told(recording: Recording, engine: Engine) -> None:
    engine.answers["/v1.44/configs/old"] = answer("500 Internal Server Error")
    with pytest.raises(docker.errors.APIError, match="a reason"):
        recording(config("old"))


def git(folder: Path, *command: str) -> None:
    who = ("-c", "user.name=me", "-c", "user.email=me@example.org")
    subprocess.run(["git", "-C", str(folder), *who, *command], check=True, capture_output=True)


def test_a_release_names_the_revision_of_the_inventorys_folder(tmp_path: Path) -> None:
    assert revision_of(tmp_path) == ("", False)
    assert revision_of(tmp_path / "no-such-folder") == ("", False)
    git(tmp_path, "init")
    (tmp_path / "file").write_text("a")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "why")
    revision, dirty = revision_of(tmp_path)
    assert (len(revision), dirty) == (40, False)
    (tmp_path / "file").write_text("b")
    assert revision_of(tmp_path) == (revision, True)
