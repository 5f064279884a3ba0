"""What Cascade brought to a host goes when nothing needs it; what is its owner's never does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pyinfra.api.host import Host

from cascade.model.fleet import Fleet
from operations.run import WorkFailed
from operations.swarm import prune as pruning
from operations.swarm.prune import Leftover, leftovers, prune
from tests.operations.conftest import LocalRun
from tests.operations.engine import Engine

OLD, SPEC, OWN = (f"sha256:{digit * 64}" for digit in "123")
PULLED = f"box:5000/core@{OLD}"
TASK = {"com.docker.swarm.task.id": "t1", "cascade.system": "cascade"}

Hosts = dict[str, dict[str, Any]]


def image(id_: str, *tags: str, digests: tuple[str, ...] = (), size: int = 100, shared: int = -1) -> Any:
    return {
        "Id": id_,
        "RepoTags": list(tags),
        "RepoDigests": list(digests),
        "Size": size,
        "SharedSize": shared,
    }


def container(name: str, id_: str, state: str = "running", **labels: str) -> Any:
    return {"Id": name, "Names": [f"/{name}"], "ImageID": id_, "State": state, "Labels": labels}


def release_needing(image: str, system: str) -> Any:
    labels = {"cascade.system": system, "cascade.release": "3", "cascade.needs": f"mainpc/image/{image}"}
    return {"ID": "r3", "Spec": {"Name": "cascade-release-cascade-000003", "Labels": labels}}


@pytest.fixture
def told() -> list[Any]:
    """What the host was told to forget."""
    return []


@pytest.fixture
def found(
    run: LocalRun, host: Host, engine: Engine, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Leftover]]:
    """The leftovers of mainpc, which holds these images and containers; Cascade delivered OLD as core:1."""
    known: dict[str, Any] = {}

    def ask(_host: Host, task: Any, _answer: str = "done") -> Any:
        if task["do"] == "list":
            return known
        told.append(task)
        return {"done": True}

    monkeypatch.setattr(pruning, "ask", ask)

    def look(
        *images: Any,
        containers: Any = (),
        delivered: Any = None,
        parts: Any = None,
        spec: str = SPEC,
        with_ended: bool = False,
        released: str = SPEC,
        system: str = "cascade",
    ) -> list[Leftover]:
        known["delivered"] = {OLD: {"tags": ["core:1"]}} if delivered is None else delivered
        known["parts"] = parts or {}
        service = {"Spec": {"TaskTemplate": {"ContainerSpec": {"Image": spec}}}}
        engine.answers = {
            "/v1.44/services": [service],
            "/v1.44/configs": [release_needing(released, system)],
            "/v1.44/images/json": list(images),
            "/v1.44/containers/json": list(containers),
        }
        monkeypatch.setattr(run.state.inventory, "get_active_hosts", lambda: [host])
        return list(leftovers(run, with_ended))

    return look


def test_what_a_kept_release_would_be_gone_back_to_with_stays(found: Callable[..., list[Leftover]]) -> None:
    assert found(image(OLD, "core:1"), released=OLD) == []
    assert found(image(OLD, "core:1"), released=OLD, system="another") == []
    assert [item.image for item in found(image(OLD, "core:1"))] == [OLD]


def test_what_was_delivered_and_is_not_needed_can_go(found: Callable[..., list[Leftover]]) -> None:
    assert found(image(OLD, "core:1", size=100, shared=30), image(OWN, "mine:1")) == [
        Leftover("mainpc", OLD, ("core:1", OLD), 70)
    ]


@pytest.mark.parametrize(
    "held",
    [
        image(OLD, "core:1", "mine:1"),
        image(OLD, "core:1", digests=(f"elsewhere/core@{OWN}",)),
    ],
    ids=["tag", "digest"],
)
def test_an_image_that_its_owner_names_too_stays(found: Callable[..., list[Leftover]], held: Any) -> None:
    (leftover,) = found(held)
    assert leftover.stays.startswith("its owner calls it ")


def test_an_image_of_a_current_spec_is_no_leftover(found: Callable[..., list[Leftover]]) -> None:
    assert found(image(OLD, "core:1"), spec=OLD) == []


def test_an_image_that_the_files_want_is_no_leftover(
    found: Callable[..., list[Leftover]], fleet: Fleet, image_id: str
) -> None:
    assert image_id in fleet.pinned_images.values()
    assert found(image(image_id, "core:1"), delivered={image_id: {"tags": ["core:1"]}}) == []


@pytest.mark.parametrize("state", ["running", "created", "exited", "paused"])
def test_an_image_that_a_container_of_its_owner_uses_stays(
    found: Callable[..., list[Leftover]], state: str
) -> None:
    (leftover,) = found(image(OLD, "core:1"), containers=[container("pet", OLD, state)], with_ended=True)
    assert leftover.stays == "used by pet"


def test_a_running_task_keeps_its_image(found: Callable[..., list[Leftover]]) -> None:
    (leftover,) = found(image(OLD, "core:1"), containers=[container("fox.1", OLD, **TASK)], with_ended=True)
    assert leftover.stays == "used by fox.1"


def test_an_ended_task_keeps_its_image_until_it_may_go(found: Callable[..., list[Leftover]]) -> None:
    ended = [container("fox.1", OLD, "exited", **TASK)]
    (kept,) = found(image(OLD, "core:1"), containers=ended)
    assert "1 ended containers of replaced tasks: --ended" in kept.stays
    (going,) = found(image(OLD, "core:1"), containers=ended, with_ended=True)
    assert (going.stays, going.ended) == ("", ("fox.1",))


def test_an_ended_task_of_another_system_keeps_its_image(found: Callable[..., list[Leftover]]) -> None:
    foreign = container("fox.1", OLD, "exited", **{**TASK, "cascade.system": "other"})
    (leftover,) = found(image(OLD, "core:1"), containers=[foreign], with_ended=True)
    assert leftover.stays == "used by fox.1"


def test_a_pulled_image_is_known_by_its_digest(found: Callable[..., list[Leftover]]) -> None:
    held = image(OWN, digests=(PULLED,))
    (leftover,) = found(held, delivered={PULLED: {"tags": []}})
    assert leftover.names == (PULLED,)
    assert found(held, delivered={PULLED: {"tags": []}}, spec=PULLED) == []


def test_a_record_of_what_is_gone_is_no_leftover(found: Callable[..., list[Leftover]]) -> None:
    assert found(image(OWN, "mine:1")) == []


def test_a_tag_that_came_with_another_delivery_is_not_the_owners(
    found: Callable[..., list[Leftover]],
) -> None:
    """The owner's image of that name was there first: nothing of it was delivered."""
    assert found(image(OWN, "core:1")) == []


def test_an_interrupted_delivery_can_go_unless_it_is_wanted(
    found: Callable[..., list[Leftover]], image_id: str
) -> None:
    assert found(parts={OLD: 7, image_id: 8}) == [Leftover("mainpc", OLD, (), 7, part=True)]


def test_without_the_manager_nobody_knows_what_runs(run: LocalRun, monkeypatch: pytest.MonkeyPatch) -> None:
    others = [run.state.inventory.get_host("pc2")]
    monkeypatch.setattr(run.state.inventory, "get_active_hosts", lambda: others)
    with pytest.raises(WorkFailed, match="known to mainpc alone"):
        list(leftovers(run, with_ended=False))


def test_names_go_one_by_one_and_never_by_force(
    run: LocalRun, engine: Engine, found: Callable[..., list[Leftover]], told: list[Any]
) -> None:
    ended = [container("fox.1", OLD, "exited", **TASK)]
    (leftover,) = found(image(OLD, "core:1"), containers=ended, with_ended=True)
    gone = b'HTTP/1.0 404 Not Found\r\n\r\n{"message": "No such image"}'
    engine.answers = {"/v1.44/images/core:1": [{"Untagged": "core:1"}], f"/v1.44/images/{OLD}": gone}
    engine.asked.clear()
    prune(run, leftover)
    asked = [f"{call.method} {call.path}" for call in engine.asked]
    assert asked == [
        "DELETE /v1.44/containers/fox.1?v=False&link=False&force=False",
        "DELETE /v1.44/images/core:1?force=False&noprune=False",
        f"DELETE /v1.44/images/{OLD}?force=False&noprune=False",
    ]
    assert told == [{"do": "forget", "images": ["core:1", OLD], "parts": []}]


def test_what_the_engine_will_not_remove_is_an_error_and_not_forgotten(
    run: LocalRun, engine: Engine, found: Callable[..., list[Leftover]], told: list[Any]
) -> None:
    (leftover,) = found(image(OLD, "core:1"))
    conflict = b'HTTP/1.0 409 Conflict\r\n\r\n{"message": "image is being used"}'
    engine.answers = {"/v1.44/images/core:1": conflict}
    with pytest.raises(WorkFailed, match="image is being used"):
        prune(run, leftover)
    assert told == []


def test_an_interrupted_delivery_is_only_forgotten(
    run: LocalRun, engine: Engine, told: list[Any], found: Callable[..., list[Leftover]]
) -> None:
    (leftover,) = found(parts={OLD: 7})
    engine.asked.clear()
    prune(run, leftover)
    assert engine.asked == []
    assert told == [{"do": "forget", "images": [], "parts": [OLD]}]
