"""What people do by hand: drift finds it, plan names it, a plain run repairs it and touches nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from lab.errors import LabError
from lab.hosts import HOSTS
from lab.polling import until
from tests.lab.conftest import Checkout, containers, look, on_host, steady
from tests.lab.mutations import (
    BATCHES,
    FEW,
    IN_VAULT,
    PROFILE,
    VAULT,
    VAULT_NETWORKS,
    Finding,
    Mutation,
    found,
)

LOOKS = 20
STACKS = "group_data/stacks/cascade"
AT_LEAST = 40
VOLUME = "cascade-core_redis_data"
TWIN = "cascade-core_system-digital-twin"


@contextmanager
def brought_back(checkout: Checkout) -> Iterator[None]:
    """A block that ends with the fleet as it was; where it fails, a deployment sees to that."""
    try:
        yield
    except BaseException:
        checkout.deploy()
        raise


def findings(document: dict[str, Any]) -> dict[Finding, str]:
    """What a drift document has found, each with how it is to be repaired."""
    return {
        Finding(item["host"], item["kind"], item["name"], item["field"]): item["repair"]
        for item in document["findings"]
    }


def named(document: dict[str, Any]) -> set[Finding]:
    """Every field of every change in a plan's document."""
    return {
        Finding(change["host"], change["kind"], change["name"], field)
        for change in document["changes"]
        for field in [item["field"] for item in change["fields"]] or [""]
    }


def states(batch: Sequence[Mutation]) -> dict[str, str]:
    return {mutation.name: look(mutation.host, mutation.state) for mutation in batch}


def of_each(batch: Sequence[Mutation], seen: set[Finding]) -> dict[str, set[Finding]]:
    """By mutation what was seen of it, and what nobody did."""
    expected = {finding for mutation in batch for finding in mutation.finds}
    return {mutation.name: seen.intersection(mutation.finds) for mutation in batch} | {
        "nobody": seen - expected
    }


def expected_of(batch: Sequence[Mutation]) -> dict[str, set[Finding]]:
    return {mutation.name: set(mutation.finds) for mutation in batch} | {"nobody": set()}


def others(batch: Sequence[Mutation], running: dict[str, dict[str, Any]]) -> set[str]:
    """The containers that nobody had a reason to touch."""
    shaken = {mutation.shakes for mutation in batch}
    touched = {finding.name for mutation in batch if not mutation.gentle for finding in mutation.finds}
    return {
        id_ for id_, item in running.items() if item["host"] not in shaken and item["workload"] not in touched
    }


def assert_found_and_repaired(fleet: Checkout, batch: Sequence[Mutation]) -> None:
    """Each mutation of a batch, which were made together, by itself; and nothing else."""
    before, well = steady_fleet(fleet), states(batch)
    for mutation in batch:
        mutation.make()
    assert not [name for name, state in states(batch).items() if state == well[name]]

    drift = fleet.drift()
    assert drift.code == 2, drift.out + drift.err
    seen = findings(drift.document)
    assert of_each(batch, set(seen)) == expected_of(batch)
    repair = {finding: mutation.repair for mutation in batch for finding in mutation.finds}
    assert seen == repair
    assert not drift.document["in_sync"]
    assert drift.document["unwanted"] == drift.document["unknown"] == []
    assert not drift.document["files"]["differ"]

    plan = fleet.plan()
    assert plan.code == 2, plan.out + plan.err
    assert of_each(batch, named(plan.document)) == expected_of(batch)

    fleet.deploy().ok()
    after = steady_fleet(fleet)
    assert states(batch) == well
    assert others(batch, before) == others(batch, after)
    assert_in_sync(fleet)


def steady_fleet(fleet: Checkout) -> dict[str, dict[str, Any]]:
    """The running containers, once there are as many as the status asks for."""
    groups = json.loads(fleet.status().out)["groups"]
    wanted = sum(agent["desired"] for group in groups for agent in group["agents"])

    def attempt() -> dict[str, dict[str, Any]]:
        running = containers()
        if len(running) != wanted:
            raise LabError("the engines", f"run {len(running)} agents, not {wanted}", "look at the tasks")
        return running

    return until("the engines", attempt, timeout_s=60, next_step="look at the services' tasks")


def assert_in_sync(fleet: Checkout) -> None:
    again = fleet.drift()
    assert again.code == 0, again.out + again.err
    assert again.document["in_sync"]
    assert again.document["findings"] == []


@pytest.fixture
def vault(variant: Checkout, fleet: Checkout) -> Iterator[Checkout]:
    """The fleet with a group that has configs and security options, and networks that nothing uses."""
    (variant.path / STACKS / "vault.yaml").write_text(VAULT)
    (variant.path / STACKS / "profile.json").write_text(json.dumps(PROFILE))
    external = '    Overlay(name="cascade-external"),\n'
    overlays = "".join(f'    Overlay(name="{name}"),\n' for name in VAULT_NETWORKS)
    variant.change("group_data/all.py", external, external + overlays)
    variant.change("group_data/all.py", '"cascade-pc2-apps"),', '"cascade-pc2-apps", "vault"),')
    variant.deploy().ok()
    yield variant
    fleet.deploy("--data", "prune=True").ok()


@pytest.fixture
def twin_at_rest(fleet: Checkout) -> Iterator[None]:
    """An agent whose volume nobody holds."""
    assert fleet
    on_host("mainpc", f"docker service scale -d {TWIN}=0")
    on_host(
        "mainpc",
        f'while [ -n "$(docker ps -aq --filter volume={VOLUME})" ]; do'
        f" docker rm -f $(docker ps -aq --filter volume={VOLUME}); done",
    )
    yield
    if look("mainpc", f"docker volume inspect {VOLUME} --format '{{{{len .Options}}}}'") != "0":
        on_host("mainpc", f"docker volume rm -f {VOLUME}")
    fleet.restore()


def test_the_table_is_as_long_as_it_must_be_and_names_nothing_twice() -> None:
    every = [mutation for batch in (*BATCHES.values(), IN_VAULT) for mutation in batch]
    assert len(every) >= AT_LEAST
    assert len({mutation.name for mutation in every}) == len(every)
    for batch in (*BATCHES.values(), IN_VAULT):
        all_of_it = [finding for mutation in batch for finding in mutation.finds]
        assert len(set(all_of_it)) == len(all_of_it)


def test_twenty_looks_at_an_untouched_fleet_find_nothing_and_cost_what_a_run_costs(fleet: Checkout) -> None:
    idle = fleet.deploy().ok()
    assert idle.summary["verdict"] == "in sync", idle.err
    for _ in range(LOOKS):
        since = time.time()
        assert_in_sync(fleet)
        assert execs(since) == idle.execs


def execs(since: float) -> dict[str, int]:
    """How many commands Cascade has run on each host since then, as sudo has written down."""
    command = (
        f"journalctl --sync; journalctl _COMM=sudo -o cat --no-pager --since @{since:.6f} | grep -c COMMAND="
    )
    return {host.name: int(look(host.name, command)) for host in HOSTS}


def test_a_few_things_done_by_hand_are_found_named_and_repaired(fleet: Checkout) -> None:
    with brought_back(fleet):
        assert_found_and_repaired(fleet, FEW)


@pytest.mark.long
@pytest.mark.parametrize("batch", [name for name in BATCHES if BATCHES[name] is not FEW])
def test_what_is_done_by_hand_is_found_named_and_repaired(fleet: Checkout, batch: str) -> None:
    with brought_back(fleet):
        assert_found_and_repaired(fleet, BATCHES[batch])


@pytest.mark.long
def test_configs_security_options_and_spare_networks_are_found_named_and_repaired(vault: Checkout) -> None:
    with brought_back(vault):
        assert_found_and_repaired(vault, IN_VAULT)


HARMLESS = (
    "docker node update --label-add owner=alice pc2",
    "docker network create -d overlay theirs",
    "docker volume create theirs",
    "echo theirs | docker config create theirs -",
    "docker create --name theirs $(docker images -q | head -n 1)",
    "docker service create -q -d --name theirs --replicas 0 --no-resolve-image busybox",
    "docker service update -q -d --force cascade-auxiliary_executor",
    "docker service scale -d cascade-request-handler_responder=4",
    "echo 'vm.swappiness = 1' > /etc/sysctl.d/10-theirs.conf; sysctl -q -w vm.swappiness=1",
    "touch /etc/sysctl.d/90-cascade.conf",
)
UNDONE = (
    "docker node update --label-rm owner pc2; docker network rm theirs; docker volume rm theirs;"
    " docker service rm theirs; docker config rm theirs; docker rm theirs;"
    " docker service scale -d cascade-request-handler_responder=3; rm /etc/sysctl.d/10-theirs.conf"
)


def test_what_is_somebody_elses_or_within_what_is_allowed_is_no_drift(fleet: Checkout) -> None:
    try:
        for by_hand in HARMLESS:
            on_host("mainpc", by_hand)
        assert_in_sync(fleet)
        plan = fleet.plan()
        assert (plan.code, plan.document["changes"]) == (0, [])
    finally:
        on_host("mainpc", UNDONE)
        steady()


@pytest.mark.usefixtures("twin_at_rest")
def test_a_volume_with_other_options_is_named_and_left_to_a_person(fleet: Checkout) -> None:
    options = "-o type=tmpfs -o device=tmpfs -o o=size=1m"
    on_host("mainpc", f"docker volume rm {VOLUME} && docker volume create {options} {VOLUME}")
    scaled = found("mainpc", "service", TWIN, "Mode.Replicated.Replicas")
    drift = fleet.drift()
    assert drift.code == 2
    differing = ("owner", *(f"options.{name}" for name in ("device", "o", "type")))
    volume = found("mainpc", "volume", VOLUME, *differing)
    assert findings(drift.document) == dict.fromkeys(volume, "none") | dict.fromkeys(scaled, "automatic")
    plan, refused = fleet.plan(), fleet.deploy()
    for finished in (plan, refused):
        assert finished.code == 1
        assert "its data would be lost" in finished.out + finished.err
        assert f"docker volume rm {VOLUME}" in finished.out + finished.err
    on_host("mainpc", f"docker volume rm {VOLUME}")
    fleet.deploy().ok()
    assert on_host("mainpc", f"docker volume inspect {VOLUME} --format '{{{{json .Options}}}}'") == "null"
    assert_in_sync(fleet)
