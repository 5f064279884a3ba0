"""How the lab's tests hold a deployment to its plan: what they ask, and what they object to."""

from __future__ import annotations

import json

import pytest

from tests.lab.deeds import Deed, disagreement, planned, question, written

INVENTORY = "inventories/lab.py"
PLAN = ("cascade", "plan", "--json")
AGENT = Deed("mainpc", "service", "core_brain", "update")
OTHER = Deed("pc2", "file", "/etc/motd", "create")
NETWORK = Deed("mainpc", "network", "inner", "replace")
HOLDER = Deed("mainpc", "service", "core_brain", "replace")


@pytest.mark.parametrize(
    ("argv", "asked"),
    [
        (("pyinfra", "-y", INVENTORY, "deploy.py"), (*PLAN, INVENTORY)),
        (
            ("pyinfra", "-y", "--limit", "pc2", "--data", "prune=True", INVENTORY, "deploy.py"),
            (*PLAN, "--limit", "pc2", "--prune", INVENTORY),
        ),
        (
            ("pyinfra", "-y", "--data", "group=a,b", "--data", "lock_wait=9", INVENTORY, "deploy.py"),
            (*PLAN, "--group", "a", "--group", "b", INVENTORY),
        ),
        (
            ("cascade", "apply", "--yes", "--group", "a", "--lock-wait", "9", INVENTORY),
            (*PLAN, "--group", "a", INVENTORY),
        ),
        (("pyinfra", "--dry", INVENTORY, "deploy.py"), None),
        (("cascade", "status", INVENTORY), None),
        (("cascade", "apply", "saved.json"), None),
        (("pyinfra", "-y", "--data", "plan_file=saved.json", INVENTORY, "deploy.py"), None),
    ],
)
def test_a_deployment_is_asked_what_it_will_do(argv: tuple[str, ...], asked: tuple[str, ...] | None) -> None:
    assert question(argv) == asked


@pytest.mark.parametrize(
    ("argv", "aim"),
    [
        (("cascade", "rollback", INVENTORY, "--yes"), {"rollback": "previous"}),
        (("cascade", "rollback", "--yes", INVENTORY, "3"), {"rollback": "3"}),
        (("pyinfra", "-y", "--data", "repair=all", INVENTORY, "deploy.py"), {"repair": "all"}),
        (("cascade", "drift", INVENTORY, "--repair", "--json"), {"repair": "automatic"}),
    ],
)
def test_so_is_one_that_aims_at_a_release(argv: tuple[str, ...], aim: dict[str, str]) -> None:
    asked = question(argv)
    assert asked
    assert asked[-2] == INVENTORY
    assert json.loads(asked[-1]) == aim


def test_a_journal_tells_of_changes_and_ends_with_the_release() -> None:
    journal = """\
who=me run=1 action=acquire kind=lock name=deploy result=done
who=me run=1 action=update kind=service name="core_brain" result=failed reason="a=\\"b\\""
who=me run=1 action=create kind=release name=12 result=done
who=me run=1 action=remove kind=config name=cascade-release-cascade-000002 result=done
"""
    assert list(written("mainpc", journal)) == [(AGENT, "failed")]


def test_the_changes_of_a_plan_are_what_it_says_of_each_thing() -> None:
    change = {"host": "pc2", "kind": "file", "name": "/etc/motd", "action": "create", "fields": []}
    assert planned({"changes": [change], "unwanted": [{"host": "pc2"}]}) == {OTHER}


def done(*deeds: Deed) -> list[tuple[Deed, str]]:
    return [(deed, "done") for deed in deeds]


@pytest.mark.parametrize("code", [0, 2])
def test_a_run_that_came_to_its_end_has_done_all_of_its_plan(code: int) -> None:
    assert disagreement(code, {AGENT, OTHER}, done(OTHER, AGENT)) == ""
    assert disagreement(code, {AGENT, OTHER}, done(OTHER)).startswith("not done: [Deed(host='mainpc'")
    assert disagreement(code, {AGENT}, done(AGENT, OTHER)).startswith("not planned: [Deed(host='pc2'")
    assert disagreement(code, {AGENT}, [(AGENT, "failed")]).startswith("failed: ")


def test_who_holds_what_is_replaced_is_removed_and_made_again() -> None:
    made = done(HOLDER.instead("remove"), NETWORK, HOLDER)
    assert disagreement(0, {NETWORK, HOLDER}, made) == ""
    assert disagreement(0, {NETWORK, HOLDER}, made[:2]).startswith("not done: ")
    assert disagreement(0, {NETWORK}, made[:2]).startswith("not planned: ")


def test_a_run_that_failed_has_done_a_part_and_nothing_else() -> None:
    assert disagreement(4, {AGENT, OTHER}, [(OTHER, "done"), (AGENT, "failed")]) == ""
    assert disagreement(5, {AGENT}, []) == ""
    assert disagreement(1, {AGENT}, done(OTHER)).startswith("not planned: ")


def test_only_a_run_that_went_back_undoes_what_it_did() -> None:
    back = done(OTHER, OTHER.instead("remove"))
    assert disagreement(3, {OTHER}, back) == ""
    assert disagreement(4, {OTHER}, back).startswith("not planned: ")
