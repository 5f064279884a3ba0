"""Going back: the whole fleet, agents that the release does not know, and what cannot be gone back to."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from cascade.exit_codes import ATTENTION
from tests.lab.conftest import Checkout, Finished, on_host, steady

LAB = "inventories/lab.py"
TIMING = "health_timing = HealthTiming(interval=30, start_interval=0.25)"
FILE = "group_data/stacks/cascade/cascade-auxiliary.yaml"
AGENT = "      - name: Executor\n"
MORE = f"""{AGENT.replace("Executor", "Helper")}        port: 5777
        health_port: 6777
{AGENT}"""
DONE = re.compile(r"rollback to (\d+): done in ([\d.]+) s")


def rollback(checkout: Checkout, *release: str) -> Finished:
    return checkout.run("cascade", "rollback", LAB, *release, "--yes")


def specs() -> dict[str, Any]:
    """What every agent is, without the label of the release in which it was last changed.

    The engine keeps an empty list as the client wrote it: `[]` by hand, null by Cascade.
    """
    services = json.loads(on_host("mainpc", "docker service inspect $(docker service ls -q)"))
    query = "docker ps -aq --filter label=cascade.digest"
    containers = json.loads(on_host("mainpc", f"docker inspect $({query})"))
    found = {item["Spec"]["Name"]: item["Spec"] for item in services}
    for item in containers:
        flat = {**item["Config"], **item["HostConfig"], "Hostname": None}
        found[item["Name"]] = {field: None if value == [] else value for field, value in flat.items()}
    for spec in found.values():
        spec["Labels"].pop("cascade.release", None)
    return found


def test_the_whole_fleet_goes_back_to_exactly_what_it_was(variant: Checkout) -> None:
    before = specs()
    variant.change("group_data/lab.py", TIMING, TIMING.replace("interval=30", "interval=31"))
    began = time.monotonic()
    variant.deploy().ok()
    updated_s = time.monotonic() - began
    changed = sum(spec != before[name] for name, spec in specs().items())
    assert changed > len(before) / 2
    back = rollback(variant).ok()
    found = DONE.search(back.err)
    assert found, back.err[-2000:]
    assert specs() == before
    assert float(found[2]) < 2 * updated_s
    steady()

    drift = variant.drift().ok().document
    assert drift["release"]["purpose"] == f"rollback to {found[1]}"
    assert drift["files"]["differ"]
    warned = variant.plan()
    assert warned.code == ATTENTION
    assert any("applies the newer files again" in note for note in warned.document["notes"])


def test_an_agent_that_the_release_does_not_know_goes(variant: Checkout) -> None:
    variant.change(FILE, AGENT, MORE)
    variant.deploy().ok()
    assert on_host("mainpc", "docker service ls -q --filter name=cascade-auxiliary_helper")
    rollback(variant).ok()
    assert not on_host("mainpc", "docker service ls -q --filter name=cascade-auxiliary_helper")
    assert variant.drift().code == 0


def test_a_rollback_puts_back_host_settings_too(variant: Checkout) -> None:
    variant.change("group_data/lab.py", '"net.core.somaxconn": "4096"', '"net.core.somaxconn": "2048"')
    variant.deploy().ok()
    assert on_host("pc2", "sysctl -n net.core.somaxconn") == "2048"
    rollback(variant).ok()
    assert on_host("pc2", "sysctl -n net.core.somaxconn") == "4096"


def test_there_is_nothing_to_do_where_all_is_as_it_was(fleet: Checkout) -> None:
    history = fleet.run("cascade", "history", LAB, "--json").ok().document
    last = str(history["releases"][-1]["number"])
    back = rollback(fleet, last).ok()
    assert "0 to add, 0 to change, 0 to replace, 0 to remove" in back.out
    assert fleet.run("cascade", "history", LAB, "--json").document == history
