"""`cascade plan`, `drift`, `history` and `status` on the deployed fleet, and with a host that is down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lab.errors import LabError
from lab.hosts import HOSTS
from lab.polling import until
from tests.lab.conftest import Checkout, Finished, on_host
from tests.schemas import valid

INVENTORY = "inventories/lab.py"
MAINPC, PC2 = (host.name for host in HOSTS)
SOMAXCONN = "net.core.somaxconn"
REGISTRY = "cascade-core_service-registry"
EXECS = """
from pathlib import Path
import pyinfra_cli
from cascade.commands.drift import check
from operations.session import load
run = load(Path("inventories/lab.py"))
document = check(run, Path("inventories/lab.py"))
print(document.exit_code, sorted(run.execs.items()), run.writes)
"""


def looked(checkout: Checkout, command: str, *options: str) -> tuple[Finished, Any]:
    """What a command says to programs; nothing of a traceback may be on standard error."""
    done = checkout.run("cascade", command, INVENTORY, "--json", *options)
    assert "Traceback" not in done.err
    return done, valid(command, done.out)


@contextmanager
def down(name: str) -> Iterator[None]:
    """A host that nobody can log in to, while its engine runs on."""
    on_host(name, "systemctl stop ssh.socket ssh.service")
    try:
        yield
    finally:
        on_host(name, "systemctl start ssh.socket; systemctl start ssh.service")


@pytest.fixture
def drifted(fleet: Checkout) -> Iterator[Checkout]:
    """The fleet with one thing changed by hand on each host; in sync again afterwards."""
    on_host(MAINPC, f"docker service update -q --detach --env-add DB_PASSWORD=planted-value {REGISTRY}")
    on_host(PC2, f"sysctl -q -w {SOMAXCONN}=128")
    yield fleet
    fleet.restore()


def test_a_converged_fleet_has_no_plan_and_no_drift(fleet: Checkout) -> None:
    fleet.deploy().ok()
    plan, document = looked(fleet, "plan")
    assert (plan.code, document["changes"], document["unwanted"]) == (0, [], [])
    drift, found = looked(fleet, "drift")
    assert (drift.code, found["in_sync"], found["findings"]) == (0, True, [])
    assert found["files"] == {"differ": False, "changes": []}
    assert found["release"]["number"] >= 1


def test_drift_asks_each_host_once_as_a_deployment_does(fleet: Checkout) -> None:
    fleet.deploy().ok()
    assert fleet.deploy().ok().execs == {MAINPC: 1, PC2: 1}
    counted = fleet.run("python", "-c", EXECS).ok()
    assert counted.out.strip() == f"0 [('{MAINPC}', 1), ('{PC2}', 1)] 0"


def test_what_was_done_by_hand_is_in_plan_and_drift_field_by_field(drifted: Checkout) -> None:
    drift, document = looked(drifted, "drift")
    assert drift.code == 2
    assert {
        (found["host"], found["name"], found["field"], str(found["observed"]), found["repair"])
        for found in document["findings"]
    } == {
        (MAINPC, REGISTRY, "TaskTemplate.ContainerSpec.Env.DB_PASSWORD", "***", "automatic"),
        (PC2, SOMAXCONN, "value", "128", "automatic"),
    }
    plan = drifted.run("cascade", "plan", INVENTORY)
    assert plan.code == 2
    lines = plan.out.splitlines()
    assert lines[:3] == [PC2, f"  ~ sysctl {SOMAXCONN}", "      ~ value 128 → 4096"]
    service = lines.index(f"  ~ service {REGISTRY} (restarts)")
    assert lines[service - 1] == "cascade-core wave 1/4, then its gate: 1 agent healthy"
    assert lines[service + 1] == "      - env DB_PASSWORD = ***"
    assert lines[-1] == "0 to add, 2 to change, 0 to replace, 0 to remove"
    assert drifted.run("cascade", "plan", INVENTORY).out == plan.out
    assert "planted-value" not in drift.out + drift.err + plan.out + plan.err


def test_with_a_host_down_the_rest_is_told_all_the_same(drifted: Checkout) -> None:
    said = {}
    with down(PC2):
        for command in ("plan", "drift", "status"):
            done, said[command] = looked(drifted, command)
            assert done.code == 6, done.err
            assert [item["host"] for item in said[command]["unknown"]] == [PC2]
        assert f"  {PC2}: host: " in drifted.run("cascade", "plan", INVENTORY).out
    assert [change["name"] for change in said["plan"]["changes"]] == [REGISTRY]
    assert {found["name"] for found in said["drift"]["findings"]} == {REGISTRY}
    agents = [agent for group in said["status"]["groups"] for agent in group["agents"]]
    assert len(agents) == 69
    assert {node for agent in agents for node in agent["nodes"]} == {MAINPC, PC2}


def test_with_the_manager_down_the_other_host_is_read_and_no_release_is_known(drifted: Checkout) -> None:
    with down(MAINPC):
        done, plan = looked(drifted, "plan")
        assert done.code == 6
        assert [(change["host"], change["name"]) for change in plan["changes"]] == [(PC2, SOMAXCONN)]
        done, drift = looked(drifted, "drift")
        assert (done.code, drift["release"], drift["findings"]) == (6, None, [])
        assert {(item["host"], item["what"]) for item in drift["unknown"]} == {
            (MAINPC, "host"),
            (MAINPC, "release"),
        }
        done, status = looked(drifted, "status")
        assert done.code == 6
        assert {agent["healthy"] for group in status["groups"] for agent in group["agents"]} == {None}
        history = drifted.run("cascade", "history", INVENTORY, "--json")
        assert (history.code, history.out) == (6, "")


def test_a_plan_with_a_host_down_is_not_saved(drifted: Checkout) -> None:
    file = drifted.path / "half.plan"
    with down(PC2):
        done = drifted.run("cascade", "plan", INVENTORY, "--out", str(file))
    assert done.code == 6
    assert not file.exists()
    assert "not written" in done.err


def test_files_that_were_changed_are_no_drift(variant: Checkout) -> None:
    variant.change("group_data/lab.py", '"4096"', '"8192"')
    done, document = looked(variant, "drift")
    assert (done.code, document["findings"]) == (0, [])
    assert document["files"]["differ"]
    assert {(item["kind"], item["action"]) for item in document["files"]["changes"]} == {
        ("file", "update"),
        ("sysctl", "update"),
    }
    plan, planned = looked(variant, "plan")
    assert plan.code == 2
    assert planned["release"] == document["release"]["number"] + 1


def test_two_releases_differ_in_what_was_changed_between_them(variant: Checkout) -> None:
    variant.deploy().ok()
    variant.change("group_data/lab.py", '"4096"', '"8192"')
    variant.deploy().ok()
    history = valid("history", variant.run("cascade", "history", INVENTORY, "--json").ok().out)["releases"]
    before, after = (release["number"] for release in history[-2:])
    assert history[-1]["changes"] == 4
    assert history[-1]["agents"] == 69
    pair = (str(before), str(after))
    shown = variant.run("cascade", "history", INVENTORY, "--diff", *pair).ok().out
    assert shown.count(f"  ~ sysctl {SOMAXCONN}\n      ~ value 4096 → 8192\n") == 2
    as_json = variant.run("cascade", "history", INVENTORY, "--diff", *pair, "--json").ok().out
    assert valid("history-diff", as_json)["counts"]["change"] == 4


def test_an_engine_that_does_not_run_is_found_and_started_by_a_deployment(fleet: Checkout) -> None:
    on_host(PC2, "systemctl stop docker.socket docker.service")
    try:
        done, document = looked(fleet, "drift")
        assert done.code == 2, document
        assert [(found["name"], found["field"]) for found in document["findings"]] == [
            ("docker.service", "active")
        ]
        assert any("its engine does not run" in note for note in document["notes"])
    finally:
        fleet.deploy().ok()

    def attempt() -> None:
        if looked(fleet, "drift")[0].code:
            raise LabError("the fleet", "is not in sync", "look at `cascade drift`")

    until("the fleet", attempt, timeout_s=60, next_step="look at `cascade drift`")
