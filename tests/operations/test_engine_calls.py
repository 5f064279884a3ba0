"""What a Docker engine is told, call by call, through docker-py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pyinfra.api.host import Host

from cascade.model.fleet import Fleet
from cascade.planning.desired import desired
from cascade.planning.diff import GPU_LOST, Action, Change, FieldChange
from cascade.planning.resource import Key, Kind
from cascade.planning.waves import rollout_order
from operations.run import WorkFailed
from operations.swarm import objects
from operations.swarm.cluster import join, settle
from operations.swarm.images import deliver_image
from operations.swarm.objects import create_network, create_volume
from operations.swarm.workloads import apply_container, apply_service
from tests.operations.conftest import LocalRun, Snapshots
from tests.operations.engine import Engine

REGISTRY = "cascade-core_service-registry"
WAKE_WORD = "cascade-audio-realtime_wake-word-detector"
CREATED = b'HTTP/1.0 201 Created\r\n\r\n{"Id": "new", "ID": "new", "Name": "new"}'

Wanted = Callable[..., Change]


@pytest.fixture
def wanted(fleet: Fleet) -> Wanted:
    """The change that makes one of the fleet's resources."""
    everything = {item.key: item.fields for item in desired(fleet, rollout_order(fleet))}

    def build(kind: Kind, name: str, host: str = "mainpc", action: Action = "create") -> Change:
        key = Key(host, kind, name)
        return Change(key, action, (), everything[key])

    return build


def calls(engine: Engine) -> list[str]:
    """What was asked, in order, without the API's version."""
    return [str(asked).replace("/v1.44", "") for asked in engine.asked]


def body(engine: Engine, call: str) -> Any:
    (found,) = (asked.body for asked in engine.asked if str(asked).replace("/v1.44", "") == call)
    return found


def test_a_service_is_created_whole(wanted: Wanted, run: LocalRun, host: Host, engine: Engine) -> None:
    engine.answers = {"/v1.44/services/create": CREATED}
    change = wanted("service", REGISTRY)
    apply_service(run, host, change)
    assert body(engine, "POST /services/create") == change.desired
    assert calls(engine) == ["POST /services/create"]


def test_an_update_is_the_whole_spec_and_keeps_the_counter_of_forced_restarts(
    wanted: Wanted, run: LocalRun, host: Host, engine: Engine, converged: Snapshots
) -> None:
    services = converged["mainpc"]["docker"]["services"]
    (current,) = (item for item in services if item["Spec"]["Name"] == REGISTRY)
    current["Spec"]["TaskTemplate"]["ForceUpdate"] = 7
    engine.answers = {
        f"/v1.44/services/{REGISTRY}": current,
        f"/v1.44/services/{current['ID']}/update": {"Warnings": None},
    }
    change = wanted("service", REGISTRY, action="update")
    apply_service(run, host, change)
    update = f"POST /services/{current['ID']}/update"
    template = {**change.desired["TaskTemplate"], "ForceUpdate": 7}
    assert body(engine, update) == {**change.desired, "TaskTemplate": template}
    assert f"version={current['Version']['Index']}" in engine.asked[-1].path
    assert [call for call in calls(engine) if not call.startswith("GET")] == [update]


def test_a_service_that_lost_its_gpu_is_restarted_though_its_spec_stays(
    wanted: Wanted, run: LocalRun, host: Host, engine: Engine, converged: Snapshots
) -> None:
    services = converged["mainpc"]["docker"]["services"]
    (current,) = (item for item in services if item["Spec"]["Name"] == REGISTRY)
    current["Spec"]["TaskTemplate"]["ForceUpdate"] = 7
    update = f"/services/{current['ID']}/update"
    engine.answers = {
        f"/v1.44/services/{REGISTRY}": current,
        f"/v1.44{update}": {"Warnings": None},
    }
    lost = FieldChange(GPU_LOST, "lost: Unknown Error", "seen")
    apply_service(run, host, replace(wanted("service", REGISTRY, action="update"), fields=(lost,)))
    assert body(engine, f"POST {update}")["TaskTemplate"]["ForceUpdate"] == 8


CREATE, START = "POST /containers/create", f"POST /containers/{WAKE_WORD}/start"
STOP, REMOVE = f"POST /containers/{WAKE_WORD}/stop", f"DELETE /containers/{WAKE_WORD}"


def standing(*, paused: bool = False, **config: Any) -> dict[str, Any]:
    """What the engine says of a host container."""
    return {"State": {"Paused": paused}, "Config": config}


@pytest.mark.parametrize(
    ("action", "writes"),
    [("create", [CREATE, START]), ("replace", [STOP, REMOVE, CREATE, START]), ("update", [START])],
)
def test_a_host_container_is_made_replaced_or_only_started(
    action: Action,
    writes: list[str],
    wanted: Wanted,
    run: LocalRun,
    host: Host,
    engine: Engine,
) -> None:
    engine.answers = {
        "/v1.44/containers/create": CREATED,
        f"/v1.44/containers/{WAKE_WORD}/json": standing(),
    }
    change = wanted("container", WAKE_WORD, action=action)
    apply_container(run, host, change)
    assert [call for call in calls(engine) if not call.startswith("GET")] == writes
    if CREATE in writes:
        assert "running" not in body(engine, CREATE)
        assert {"running": True, **body(engine, CREATE)} == change.desired


def test_a_host_container_that_is_gone_already_is_made_again(
    wanted: Wanted, run: LocalRun, host: Host, engine: Engine
) -> None:
    gone = b'HTTP/1.0 404 Not Found\r\n\r\n{"message": "No such container"}'
    engine.answers = {
        "/v1.44/containers/create": CREATED,
        f"/v1.44/containers/{WAKE_WORD}/stop": gone,
        f"/v1.44/containers/{WAKE_WORD}": gone,
    }
    apply_container(run, host, wanted("container", WAKE_WORD, action="replace"))
    assert calls(engine)[-2:] == [CREATE, START]


def test_a_host_container_that_is_paused_goes_on(
    wanted: Wanted, run: LocalRun, host: Host, engine: Engine
) -> None:
    engine.answers = {f"/v1.44/containers/{WAKE_WORD}/json": standing(paused=True, StopTimeout=90)}
    apply_container(run, host, wanted("container", WAKE_WORD, action="update"))
    assert calls(engine)[-2:] == [
        f"POST /containers/{WAKE_WORD}/unpause",
        f"POST /containers/{WAKE_WORD}/restart",
    ]
    assert engine.asked[-1].path.endswith("/restart?t=90")


@pytest.mark.parametrize(
    ("config", "seconds"),
    [({}, 10), ({"StopTimeout": None}, 10), ({"StopTimeout": 0}, 0), ({"StopTimeout": 90}, 90)],
)
def test_a_host_container_has_the_time_to_stop_that_it_asks_for_and_is_waited_for(
    config: dict[str, Any],
    seconds: int,
    wanted: Wanted,
    run: LocalRun,
    host: Host,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(run.engine, "_post", patient(run.engine._post, waited))
    engine.answers = {
        "/v1.44/containers/create": CREATED,
        f"/v1.44/containers/{WAKE_WORD}/json": standing(**config),
    }
    apply_container(run, host, wanted("container", WAKE_WORD, action="replace"))
    (stopped,) = (asked for asked in engine.asked if "/stop" in asked.path)
    assert stopped.path.endswith(f"/stop?t={seconds}")
    assert waited == [run.engine.timeout + seconds]


def patient(post: Callable[..., Any], waited: list[float]) -> Callable[..., Any]:
    """Notes for how long an answer is waited for where a call says so."""

    def posted(url: str, **how: Any) -> Any:
        waited.extend([how["timeout"]] if "timeout" in how else [])
        return post(url, **how)

    return posted


def test_a_node_keeps_its_owners_labels(
    wanted: Wanted, run: LocalRun, host: Host, engine: Engine, converged: Snapshots
) -> None:
    (node,) = (
        node for node in converged["mainpc"]["docker"]["nodes"] if node["Description"]["Hostname"] == "pc2"
    )
    node["Spec"]["Labels"] = {"room": "attic", "gpu": "gtx970"}
    engine.answers = {
        "/v1.44/info": {"Swarm": {"NodeID": node["ID"]}},
        "/v1.44/nodes": converged["mainpc"]["docker"]["nodes"],
        f"/v1.44/nodes/{node['ID']}": node,
        f"/v1.44/nodes/{node['ID']}/update": b"HTTP/1.0 200 OK\r\n\r\n",
    }
    settle(run, host, wanted("node", "pc2", action="update"))
    update = f"POST /nodes/{node['ID']}/update"
    assert body(engine, update) == {
        "Availability": "active",
        "Role": "worker",
        "Labels": {"room": "attic", "gpu": "rtx3060", "system": "pc2"},
    }
    (posted,) = (asked for asked in engine.asked if str(asked).endswith("/update"))
    assert f"version={node['Version']['Index']}" in posted.path
    assert [call for call in calls(engine) if not call.startswith("GET")] == [update]


def test_a_node_is_made_available_and_its_earlier_entries_go(
    wanted: Wanted, run: LocalRun, host: Host, engine: Engine, converged: Snapshots
) -> None:
    nodes = converged["mainpc"]["docker"]["nodes"]
    (node,) = (node for node in nodes if node["Description"]["Hostname"] == "pc2")
    node["Spec"]["Availability"] = "drain"
    others = {
        "first": ("pc2", "down"),
        "second": ("pc2", "down"),
        "alive": ("pc2", "ready"),
        "x": ("x", "down"),
    }
    entries = [
        {"ID": name, "Description": {"Hostname": hostname}, "Status": {"State": state}}
        for name, (hostname, state) in others.items()
    ]
    engine.answers = {
        "/v1.44/info": {"Swarm": {"NodeID": node["ID"]}},
        "/v1.44/nodes": [*nodes, *entries],
        f"/v1.44/nodes/{node['ID']}": node,
        f"/v1.44/nodes/{node['ID']}/update": b"HTTP/1.0 200 OK\r\n\r\n",
    }
    settle(run, host, wanted("node", "pc2", action="update"))
    update = f"POST /nodes/{node['ID']}/update"
    assert body(engine, update)["Availability"] == "active"
    writes = [call for call in calls(engine) if not call.startswith("GET")]
    assert writes == [update, "DELETE /nodes/first", "DELETE /nodes/second"]


def test_the_manager_founds_the_swarm_on_its_own_address_and_pool(
    wanted: Wanted, run: LocalRun, host: Host, engine: Engine
) -> None:
    engine.answers = {"/v1.44/swarm/init": "node"}
    join(run, host, wanted("swarm", "mainpc"))
    said = body(engine, "POST /swarm/init")
    assert said["AdvertiseAddr"] == said["DataPathAddr"] == "10.203.0.11"
    assert said["ListenAddr"] == "10.203.0.11:2377"
    assert (said["DefaultAddrPool"], said["SubnetSize"]) == (["10.201.0.0/16"], 24)


def test_a_token_travels_in_a_body_and_nowhere_else(
    wanted: Wanted, run: LocalRun, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "pyinfra")
    engine.answers = {"/v1.44/swarm": {"JoinTokens": {"Worker": "SWMTKN-planted", "Manager": "SWMTKN-no"}}}
    join(run, run.state.inventory.get_host("pc2"), wanted("swarm", "pc2", "pc2"))
    said = body(engine, "POST /swarm/join")
    assert said["JoinToken"] == "SWMTKN-planted"
    assert said["RemoteAddrs"] == ["10.203.0.11:2377"]
    assert said["AdvertiseAddr"] == said["DataPathAddr"] == "10.203.0.12"
    assert not any("SWMTKN" in asked.path for asked in engine.asked)
    assert "SWMTKN" not in caplog.text


NETWORK = "cascade-internal"


def test_a_network_is_created_and_looked_at(
    wanted: Wanted, run: LocalRun, host: Host, engine: Engine
) -> None:
    engine.answers = {
        "/v1.44/networks/create": CREATED,
        f"/v1.44/networks/{NETWORK}": {
            "Driver": "overlay",
            "IPAM": {"Config": [{"Subnet": "172.20.0.0/16"}]},
        },
    }
    create_network(run, host, wanted("network", NETWORK))
    said = body(engine, "POST /networks/create")
    assert (said["Name"], said["Driver"], said["Scope"]) == (NETWORK, "overlay", "swarm")
    assert (said["Internal"], said["Attachable"]) == (True, True)
    assert said["IPAM"]["Config"][0]["Subnet"] == "172.20.0.0/16"
    assert said["Labels"] == {"cascade.system": "cascade"}


@pytest.mark.parametrize(
    "made", [{"Driver": "", "IPAM": {"Config": None}}, {"Driver": "overlay", "IPAM": {"Config": None}}]
)
def test_a_network_that_the_allocator_refused_is_an_error_that_names_its_subnet(
    made: Any, wanted: Wanted, run: LocalRun, host: Host, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "ALLOCATION_DEADLINE_S", 0.0)
    engine.answers = {"/v1.44/networks/create": CREATED, f"/v1.44/networks/{NETWORK}": made}
    with pytest.raises(WorkFailed, match=r"does 172\.20\.0\.0/16 collide with another network\?"):
        create_network(run, host, wanted("network", NETWORK))


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was run on a host besides calls of its engine."""
    given: list[str] = []
    monkeypatch.setattr("operations.swarm.objects.shell", lambda _host, command: given.append(command))
    return given


def test_a_volume_says_whose_it_is_and_belongs_to_who_writes_it(
    wanted: Wanted, run: LocalRun, host: Host, engine: Engine, commands: list[str]
) -> None:
    folder = b'HTTP/1.0 200 OK\r\n\r\n{"Mountpoint": "/var/lib/docker/a b/_data"}'
    name = "cascade-core_redis_data"
    engine.answers = {"/v1.44/volumes/create": CREATED, f"/v1.44/volumes/{name}": folder}
    create_volume(run, host, wanted("volume", name))
    said = body(engine, "POST /volumes/create")
    assert (said["Name"], said["Driver"]) == (name, "local")
    assert said["Labels"] == {"cascade.system": "cascade"}
    assert commands == ["chown -Rh -- 10001:10001 '/var/lib/docker/a b/_data'"]


def test_a_volume_that_is_there_is_only_given_to_who_writes_it(
    wanted: Wanted, run: LocalRun, host: Host, engine: Engine, commands: list[str]
) -> None:
    name = "cascade-core_redis_data"
    engine.answers = {f"/v1.44/volumes/{name}": b'HTTP/1.0 200 OK\r\n\r\n{"Mountpoint": "/data"}'}
    create_volume(run, host, wanted("volume", name, action="update"))
    assert calls(engine) == [f"GET /volumes/{name}"]
    assert commands == ["chown -Rh -- 10001:10001 /data"]


def test_an_image_that_did_not_arrive_is_an_error(
    wanted: Wanted, run: LocalRun, engine: Engine, image_id: str
) -> None:
    change = wanted("image", image_id, "pc2")
    pulled = Change(change.key, "create", (), {"present": "a@sha256:" + "0" * 64})
    engine.answers = {"/v1.44/images/create": b'HTTP/1.0 200 OK\r\n\r\n{"error": "manifest unknown"}'}
    with pytest.raises(WorkFailed, match="did not arrive: manifest unknown"):
        deliver_image(run, run.state.inventory.get_host("pc2"), pulled)
    assert calls(engine)[0] == "POST /images/create"
