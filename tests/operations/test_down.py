"""What `cascade down` would stop and destroy, from captured snapshots."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cascade.exit_codes import ERROR
from operations.down import Standing, purge, what_stands
from operations.run import Stopped
from tests.operations.conftest import LocalRun, Snapshots
from tests.operations.engine import Engine

CORE, PC2_APPS = "cascade-core", "cascade-pc2-apps"
Stands = Callable[[], Standing]


@pytest.fixture
def stands(run: LocalRun, converged: Snapshots, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Stands:
    """Looks at the hosts as the test left them."""
    engine.answers |= {"/v1.44/secrets": [], "/v1.44/configs": []}
    monkeypatch.setattr(run, "snapshots", lambda _: converged)
    return lambda: what_stands(run)


def service(converged: Snapshots, **labels: str | None) -> dict[str, Any]:
    """One more service on the manager, like one of cascade-core but for these labels."""
    services = converged["mainpc"]["docker"]["services"]
    like = next(one for one in services if one["Spec"]["Labels"]["cascade.group"] == CORE)
    more: dict[str, Any] = copy.deepcopy(like)
    more["ID"], more["Spec"]["Name"] = "more", "more"
    more["Spec"]["Labels"] |= {f"cascade.{name}": value for name, value in labels.items()}
    services.append(more)
    return more


def test_the_groups_stop_in_the_reverse_of_their_order(stands: Stands) -> None:
    groups = list(stands().agents)
    assert (groups[0], groups[-1], len(groups)) == (PC2_APPS, CORE, 9)


def test_an_agent_that_no_file_names_any_more_goes_first_in_its_own_group(
    converged: Snapshots, stands: Stands
) -> None:
    before = stands().agents
    service(converged)
    after = stands().agents
    assert list(after) == list(before)
    assert [change.key.name for change in after[CORE]] == [
        "more",
        *(change.key.name for change in before[CORE]),
    ]


def test_a_group_that_no_file_describes_any_more_goes_before_all(
    converged: Snapshots, stands: Stands
) -> None:
    service(converged, group="left-behind")
    assert next(iter(stands().agents)) == "left-behind"


def test_without_the_manager_nobody_knows_what_stands(converged: Snapshots, stands: Stands) -> None:
    del converged["mainpc"]
    with pytest.raises(Stopped, match=str(ERROR)) as stopped:
        stands()
    assert stopped.value.messages == (
        "mainpc: it is the manager and alone knows what runs: do not leave it out",
    )


def test_a_swarm_that_only_this_system_uses_is_dissolved_its_manager_last(
    run: LocalRun, stands: Stands
) -> None:
    standing = replace(stands(), networks=())
    assert (standing.members, standing.others) == (("mainpc", "pc2"), ())
    done = list(purge(run, standing))
    assert done[-2:] == ["pc2: has left the Swarm", "mainpc: has left the Swarm"]


def foreign_service(converged: Snapshots) -> None:
    service(converged, system="another")


def foreign_network(converged: Snapshots) -> None:
    networks = converged["mainpc"]["docker"]["networks"]
    ours = next(network for network in networks if network["Name"] == "cascade-internal")
    networks.append({**ours, "Name": "more", "Labels": None})


def foreign_node(converged: Snapshots) -> None:
    nodes = converged["mainpc"]["docker"]["nodes"]
    nodes.append({**nodes[1], "ID": "more", "Description": {"Hostname": "more"}})


@pytest.mark.parametrize(
    ("add", "kind"), [(foreign_service, "service"), (foreign_network, "network"), (foreign_node, "node")]
)
def test_a_swarm_that_somebody_else_uses_stays(
    add: Callable[[Snapshots], None],
    kind: str,
    converged: Snapshots,
    engine: Engine,
    run: LocalRun,
    stands: Stands,
) -> None:
    add(converged)
    *_, last = purge(run, replace(stands(), networks=()))
    assert last == f"the Swarm stays: not of this system are the {kind} more"
    assert "POST /v1.44/swarm/leave" not in map(str, engine.asked)


def test_releases_and_configs_of_the_system_go_and_those_of_others_stay(
    converged: Snapshots, engine: Engine, run: LocalRun, stands: Stands
) -> None:
    def config(name: str, system: str) -> dict[str, Any]:
        return {"ID": name, "Name": name, "Labels": {"cascade.system": system}, "sha256": "0"}

    converged["mainpc"]["docker"]["configs"] = [config("release-1", "cascade"), config("more", "another")]
    assert "1 configs removed, the releases among them" in purge(run, replace(stands(), networks=()))
    assert [str(asked) for asked in engine.asked if "/configs/" in asked.path] == [
        "DELETE /v1.44/configs/release-1"
    ]


@pytest.mark.parametrize("kind", ["secret", "config"])
def test_a_swarm_that_keeps_values_of_somebody_else_stays(kind: str, engine: Engine, stands: Stands) -> None:
    ours, theirs = {"cascade.system": "cascade"}, {"cascade.system": "another"}
    engine.answers[f"/v1.44/{kind}s"] = [
        {"ID": name, "Spec": {"Name": name, "Labels": labels}}
        for name, labels in (("own", ours), ("more", theirs), ("bare", {}))
    ]
    assert stands().others == (f"the {kind} more", f"the {kind} bare")


def test_the_trace_of_a_member_that_joined_anew_keeps_no_swarm(converged: Snapshots, stands: Stands) -> None:
    foreign_node(converged)
    converged["mainpc"]["docker"]["nodes"][-1]["Status"] = {"State": "down"}
    assert stands().others == ()


def test_a_host_in_another_swarm_does_not_leave_that(converged: Snapshots, stands: Stands) -> None:
    converged["pc2"]["docker"]["swarm"]["NodeID"] = "elsewhere"
    nodes = converged["mainpc"]["docker"]["nodes"]
    nodes[:] = [node for node in nodes if node["Description"]["Hostname"] != "pc2"]
    assert stands().members == ("mainpc",)


def test_files_of_host_containers_go_and_those_of_others_stay(converged: Snapshots, stands: Stands) -> None:
    file = {"content": None, "sha256": "0", "owner": "root", "group": "root", "mode": "444", "changed": 0.0}
    folder = "/var/lib/cascade/configs"
    ours, theirs = f"{folder}/{CORE}_book-0123456789ab", f"{folder}/another_book-0123456789ab"
    converged["pc2"]["files"] |= {ours: file, theirs: file}
    assert stands().files == (("pc2", ours),)


def test_secrets_of_the_system_go_from_the_swarm_and_from_hosts(
    converged: Snapshots,
    engine: Engine,
    run: LocalRun,
    stands: Stands,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def secret(name: str, system: str) -> dict[str, Any]:
        return {"ID": name, "Name": name, "Labels": {"cascade.system": system}}

    file = {"mode": "444", "owner": "0", "group": "0", "sealed": True, "in_place": True}
    ours, theirs = "core_audio/cascade_key-0123456789ab", "core_audio/another_key-0123456789ab"
    converged["mainpc"]["docker"]["secrets"] = [secret("cascade_key-0", "cascade"), secret("more", "another")]
    converged["pc2"]["secret_files"] = {ours: file, theirs: file}
    forgotten: list[tuple[str, str]] = []
    monkeypatch.setattr(
        "operations.down.forget_secret", lambda host, place: forgotten.append((host.name, place))
    )
    said = list(purge(run, replace(stands(), networks=())))
    assert "1 secrets removed" in said
    assert f"pc2: the secret {ours} removed" in said
    assert [str(asked) for asked in engine.asked if "/secrets/" in asked.path] == [
        "DELETE /v1.44/secrets/cascade_key-0"
    ]
    assert forgotten == [("pc2", ours)]
