"""`cascade plan`, `drift` and `history` where nothing was ever deployed, and where nobody answers."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import ROOT, Checkout, on_host
from tests.schemas import valid

INVENTORY = "inventories/lab.py"


@pytest.fixture(scope="module")
def bare() -> Iterator[Checkout]:
    """Both hosts as bare servers, for all tests of this file; bare again afterwards."""
    here = Checkout(ROOT, ROOT / ".venv")
    here.run("cascade", "lab", "up").ok()
    here.run("cascade", "lab", "reset").ok()
    yield here
    here.run("cascade", "lab", "reset").ok()


def test_the_plan_of_bare_hosts_is_everything_twice_the_same(bare: Checkout) -> None:
    plan = bare.run("cascade", "plan", INVENTORY)
    assert plan.code == 2, plan.err[-2000:]
    lines = plan.out.splitlines()
    assert lines[0] == "mainpc"
    assert lines[1].startswith("  + package ")
    assert {"pc2", "Swarm", "  + network cascade-internal"} <= set(lines)
    assert sum(line.startswith(("  + service ", "  + container ")) for line in lines) == 69
    assert lines[-1].endswith(" to change, 0 to replace, 0 to remove")
    assert bare.run("cascade", "plan", INVENTORY).out == plan.out


def test_it_is_saved_for_its_owner_alone(bare: Checkout, tmp_path: Path) -> None:
    file = tmp_path / "first.plan"
    done = bare.run("cascade", "plan", INVENTORY, "--json", "--out", str(file))
    assert done.code == 2
    document = valid("plan", done.out)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    saved = json.loads(file.read_text())
    assert saved["inventory"] == document["inventory"] == str(bare.path / INVENTORY)
    assert {(each["host"], each["kind"], each["name"]) for each in saved["changes"]} == {
        (each["host"], each["kind"], each["name"]) for each in document["changes"]
    }
    again = tmp_path / "again.plan"
    bare.run("cascade", "plan", INVENTORY, "--out", str(again))
    assert again.read_bytes() == file.read_bytes()


def test_a_plan_leaves_the_hosts_as_they_are(bare: Checkout) -> None:
    look = "find /etc /var/lib/dpkg /usr/local -xdev -printf '%p %s %m %T@\\n' | sort | sha256sum"
    before = [on_host(name, look) for name in ("mainpc", "pc2")]
    assert bare.run("cascade", "plan", INVENTORY).code == 2
    assert bare.run("cascade", "drift", INVENTORY).code == 1
    assert [on_host(name, look) for name in ("mainpc", "pc2")] == before


def test_without_a_release_there_is_nothing_to_drift_from(bare: Checkout) -> None:
    done = bare.run("cascade", "drift", INVENTORY, "--json")
    document = valid("drift", done.out)
    assert (done.code, document["exit_code"]) == (1, 1)
    assert document["release"] is None
    assert [(item["what"], item["reason"]) for item in document["unknown"]] == [
        ("release", "no release is recorded: deploy first")
    ]


def test_history_is_empty(bare: Checkout) -> None:
    assert valid("history", bare.run("cascade", "history", INVENTORY, "--json").ok().out)["releases"] == []
    assert bare.run("cascade", "history", INVENTORY, "--diff", "1", "2").code == 1


def test_a_part_of_the_fleet_is_planned_by_itself(bare: Checkout) -> None:
    done = bare.run("cascade", "plan", INVENTORY, "--json", "--limit", "pc2")
    document = valid("plan", done.out)
    assert {change["host"] for change in document["changes"]} == {"pc2"}
    assert done.code == 2
    core = bare.run("cascade", "plan", INVENTORY, "--json", "--group", "cascade-core")
    assert {wave["group"] for wave in valid("plan", core.out)["waves"]} == {"cascade-core"}
