"""What `cascade plan` says of captured hosts: the lines for people, and the document for programs."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from typing import Any

import pytest

from cascade.documents import PlanDocument, json_of
from cascade.model.fleet import Fleet
from cascade.plan_report import ON_HOSTS, plan_document, plan_lines
from cascade.planning.diff import Change
from cascade.planning.plan import Plan, make_plan
from cascade.planning.preflight import Finding
from cascade.planning.release import LABEL_OPERATOR
from cascade.planning.removal import PRUNABLE
from cascade.planning.resource import Key, Unknown
from cascade.planning.specs import LABEL_DIGEST, LABEL_RELEASE, LABEL_SYSTEM
from cascade.planning.target import target_of
from tests.operations.test_drift import DAEMON, MEMORY, REGISTRY, SYSCTLS, WAKE_WORD, container, spec, task
from tests.schemas import valid

Snapshots = dict[str, Any]
UNCONFINED = "its kernel has no AppArmor, so containers there are not confined by it"
INVENTORY = "/somewhere/inventory.py"
UNREACHABLE = Unknown("pc2", "host", "does not answer; is it on?")


def plan_of(fleet: Fleet, snapshots: Snapshots, **options: Any) -> Plan:
    return make_plan(target_of(fleet), snapshots, **options)


def document_of(plan: Plan, *findings: Finding, unreachable: bool = False) -> PlanDocument:
    document = plan_document(plan, INVENTORY, findings, unreachable)
    valid("plan", json_of(PlanDocument, document))
    return document


def lines_of(document: PlanDocument) -> list[str]:
    return list(plan_lines(document))


@pytest.fixture
def recorded(fleet: Fleet, converged: Snapshots) -> Snapshots:
    """The hosts with a last release that says what the files say."""
    labels = {LABEL_SYSTEM: "cascade", LABEL_RELEASE: "1", LABEL_OPERATOR: "me"}
    labels[LABEL_DIGEST] = target_of(fleet).digest
    converged["mainpc"]["docker"]["configs"] = [{"Name": "release", "Labels": labels, "sha256": ""}]
    return converged


def by_hand(snapshots: Snapshots) -> Snapshots:
    """A little of everything."""
    changed = copy.deepcopy(snapshots)
    file = changed["pc2"]["files"][SYSCTLS]
    file["content"] = file["content"].replace("somaxconn = 4096", "somaxconn = 128\napi_key = planted-one")
    file["mode"] = "666"
    changed["pc2"]["packages"]["curl"] = None
    changed["pc2"]["files"][DAEMON]["content"] = changed["pc2"]["files"][DAEMON]["content"].replace(
        "100m", "10m"
    )
    spec(changed, REGISTRY)["Mode"] = {"Replicated": {"Replicas": 7}}
    task(changed, MEMORY)["ContainerSpec"]["Env"] += ["DB_PASSWORD=planted-two", "DEBUG=1"]
    container(changed, WAKE_WORD)["HostConfig"]["Memory"] = 1 << 24
    return changed


def test_every_change_has_its_line_in_its_place(fleet: Fleet, recorded: Snapshots) -> None:
    lines = lines_of(document_of(plan_of(fleet, by_hand(recorded))))
    of_text = [line.strip() for line in lines if line.startswith(" " * 8)]
    assert [line for line in of_text if line[0] in "+-"] == [
        "--- observed",
        "+++ desired",
        "-net.core.somaxconn = 128",
        "-api_key = ***",
        "+net.core.somaxconn = 4096",
    ]
    found = [line for line in lines if not line.startswith(" " * 8)]
    assert found[:29] == [
        "pc2",
        "  + package curl",
        f"  ~ file {SYSCTLS}",
        "      ~ mode 666 → 644",
        found[4],
        f"  ~ daemon-settings {DAEMON}",
        "      ~ log-opts.max-size 10m → 100m",
        "cascade-core wave 1/4, then its gate: 1 agent healthy",
        f"  ~ service {REGISTRY}",
        "      ~ replicas 7 → 1",
        "cascade-memory-learning wave 1/1, then its gate: 8 agents healthy",
        f"  ~ service {MEMORY} (restarts)",
        "      - env DB_PASSWORD = ***",
        "      - env DEBUG = 1",
        "cascade-audio-realtime wave 1/1, then its gate: 7 agents healthy",
        f"  -/+ container {WAKE_WORD}: cannot be changed in place: memory limit (restarts)",
        found[16],
        "cascade-pc2-core wave 1/1, then its gate: 5 agents healthy",
        "cascade-pc2-apps wave 1/1, then its gate: 17 agents healthy",
        "restarts",
        "  cascade-memory-learning: MemoryClient (persistent): its tasks change",
        "  cascade-audio-realtime: WakeWordDetector: it is replaced",
        found[22],
        found[23],
        "notes",
        found[25],
        *(f"  {name}: {UNCONFINED}" for name in ("mainpc", "pc2")),
        "1 to add, 4 to change, 1 to replace, 0 to remove",
    ]
    assert found[4].startswith("      ~ content sha256 ")
    assert found[16].startswith("      ~ memory limit 16 MiB → ")
    assert found[22].startswith("  cascade-pc2-core: ObservabilityHub, ")
    assert found[23].endswith(", TieredResponder: the engine of pc2 restarts")


def test_no_secret_is_shown(fleet: Fleet, recorded: Snapshots) -> None:
    document = document_of(plan_of(fleet, by_hand(recorded)))
    assert "planted" not in json_of(PlanDocument, document) + "\n".join(plan_lines(document))


def test_bare_hosts_are_built_from_the_system_up_to_the_last_wave(fleet: Fleet, bare: Snapshots) -> None:
    document = document_of(plan_of(fleet, bare))
    lines = lines_of(document)
    titles = [line for line in lines if not line.startswith(" ")]
    assert titles[:4] == [
        "mainpc",
        "pc2",
        "Swarm",
        "cascade-core wave 1/4, then its gate: 1 agent healthy",
    ]
    assert len(document.waves) == len(target_of(fleet).waves)
    assert sum(line.startswith(("  + service ", "  + container ")) for line in lines) == 69
    assert lines[-2:] == ["afterwards: release 1", lines[-1]]
    assert lines[-1].endswith(" to change, 0 to replace, 0 to remove")
    assert document.exit_code == 2
    on_pc2 = [change.kind for change in document.changes if change.host == "pc2" and change.kind in ON_HOSTS]
    assert on_pc2 == sorted(on_pc2, key=ON_HOSTS.index)


def test_a_wave_whose_gate_nobody_can_hold_is_shown_without_one(fleet: Fleet, recorded: Snapshots) -> None:
    spec(recorded, REGISTRY)["Mode"] = {"Replicated": {"Replicas": 7}}
    document = document_of(replace(plan_of(fleet, recorded), steps={}))
    assert lines_of(document)[:2] == ["cascade-core wave 1/4", f"  ~ service {REGISTRY}"]


def test_nothing_to_do_is_said_in_a_line_and_in_the_exit_code(fleet: Fleet, recorded: Snapshots) -> None:
    document = document_of(plan_of(fleet, recorded))
    assert lines_of(document)[-1] == "0 to add, 0 to change, 0 to replace, 0 to remove"
    assert (document.exit_code, document.release, document.waves) == (0, None, ())


def test_a_release_that_would_only_be_written_down_is_a_note(fleet: Fleet, converged: Snapshots) -> None:
    converged["mainpc"]["docker"]["configs"] = []
    document = document_of(plan_of(fleet, converged))
    assert "nothing differs; a deployment would only record this as release 1" in document.notes
    assert (document.exit_code, document.release) == (0, 1)


def test_agents_that_are_down_are_a_note(fleet: Fleet, recorded: Snapshots) -> None:
    recorded["mainpc"]["docker"]["tasks"].clear()
    document = document_of(plan_of(fleet, recorded))
    assert any(note.startswith("not healthy now, so a deployment would wait") for note in document.notes)
    assert document.exit_code == 0


def test_the_order_in_which_hosts_answer_changes_nothing(fleet: Fleet, recorded: Snapshots) -> None:
    changed = by_hand(recorded)
    first = json_of(PlanDocument, document_of(plan_of(fleet, changed)))
    shuffled = dict(reversed(changed.items()))
    for listed in ("services", "networks", "tasks", "nodes"):
        random.Random(7).shuffle(shuffled["mainpc"]["docker"][listed])
    assert json_of(PlanDocument, document_of(plan_of(fleet, shuffled))) == first


def planted(snapshots: Snapshots) -> Snapshots:
    """With a volume of the system that nobody names."""
    labels = {LABEL_SYSTEM: "cascade"}
    volume = {"Name": "left-over", "Driver": "local", "Labels": labels, "Options": None}
    snapshots["pc2"]["docker"]["volumes"].append(volume)
    return snapshots


def test_what_nobody_wants_any_more_is_listed_and_goes_only_with_prune(
    fleet: Fleet, recorded: Snapshots
) -> None:
    document = document_of(plan_of(fleet, planted(recorded)))
    lines = lines_of(document)
    title = lines.index("no longer wanted; removed only with --prune")
    assert lines[title + 1] == "  - pc2 volume left-over"
    assert (document.exit_code, document.counts.remove) == (2, 0)
    pruned = document_of(plan_of(fleet, recorded, prune=PRUNABLE))
    assert lines_of(pruned)[:2] == ["pc2", "  - volume left-over"]
    assert (pruned.unwanted, pruned.counts.remove) == ((), 1)


def test_agents_of_a_group_that_is_off_go_before_the_rollout(fleet: Fleet, recorded: Snapshots) -> None:
    groups = {
        name: group.model_copy(update={"enabled": name != "cascade-pc2-apps"})
        for name, group in fleet.groups.items()
    }
    smaller = Fleet(fleet.settings, fleet.hosts, groups, fleet.options)
    document = document_of(plan_of(smaller, recorded))
    lines = lines_of(document)
    assert lines[0] == "agents that go"
    assert all(line.startswith("  - service cascade-pc2-apps_") for line in lines[1:18])
    assert document.counts.remove == 17


def test_a_host_that_is_down_leaves_the_plan_of_the_others(fleet: Fleet, recorded: Snapshots) -> None:
    changed = by_hand(recorded)
    changed["mainpc"]["packages"]["curl"] = None
    only = {"mainpc": changed["mainpc"]}
    document = document_of(plan_of(fleet, only, lost=[UNREACHABLE]), unreachable=True)
    lines = lines_of(document)
    assert lines[:2] == ["mainpc", "  + package curl"]
    assert f"  ~ service {REGISTRY}" in lines
    assert lines[lines.index("unknown") + 1] == "  pc2: host: does not answer; is it on?"
    assert {change.host for change in document.changes} == {"mainpc"}
    assert (document.exit_code, document.release) == (6, None)
    assert not any("--limit" in note for note in document.notes)


def test_what_the_manager_knows_of_a_host_that_is_down_is_compared(fleet: Fleet, recorded: Snapshots) -> None:
    name = "cascade-pc2-core_cache-manager"
    spec(recorded, name)["Mode"] = {"Replicated": {"Replicas": 9}}
    document = document_of(plan_of(fleet, {"mainpc": recorded["mainpc"]}, lost=[UNREACHABLE]))
    assert [change.name for change in document.changes] == [name]
    assert document.exit_code == 1


def test_without_the_manager_the_other_host_is_compared_all_the_same(
    fleet: Fleet, recorded: Snapshots
) -> None:
    recorded["pc2"]["packages"]["curl"] = None
    lost = [Unknown("mainpc", "host", "does not answer")]
    document = document_of(plan_of(fleet, {"pc2": recorded["pc2"]}, lost=lost), unreachable=True)
    assert [(change.kind, change.name) for change in document.changes] == [("package", "curl")]
    assert (document.exit_code, document.waves) == (6, ())


def test_a_refusal_stands_beside_what_could_be_done(fleet: Fleet, recorded: Snapshots) -> None:
    recorded["pc2"]["packages"]["curl"] = None
    recorded["pc2"]["docker"]["swarm"]["NodeAddr"] = "192.0.2.7"
    document = document_of(plan_of(fleet, recorded))
    lines = lines_of(document)
    assert "  + package curl" in lines
    assert "docker swarm leave --force" in lines[lines.index("this plan would be refused") + 1]
    assert document.exit_code == 1


@pytest.mark.parametrize(
    ("level", "title", "code"), [("error", "this plan would be refused", 1), ("warning", "warnings", 2)]
)
def test_what_the_preflight_finds_is_part_of_the_plan(
    fleet: Fleet, recorded: Snapshots, level: Any, title: str, code: int
) -> None:
    recorded["pc2"]["packages"]["curl"] = None
    finding = Finding("pc2", "disk", level, "2 GB are missing", "make room")
    document = document_of(plan_of(fleet, recorded), finding, Finding("pc2", "clock", "ok", "fine"))
    lines = lines_of(document)
    assert lines[lines.index(title) + 1] == "  pc2: disk: 2 GB are missing; make room"
    assert document.exit_code == code
    assert not [line for line in lines if "clock" in line]


def test_a_host_cannot_draw_on_the_terminal(fleet: Fleet, recorded: Snapshots) -> None:
    recorded["pc2"]["sysctls"]["net.core.somaxconn"] = "1\x1b[2J\n+ forged"
    recorded["pc2"]["packages"] = {"error": "\x1b[2J"}
    lines = lines_of(document_of(plan_of(fleet, recorded)))
    assert "  pc2: packages: \\x1b[2J" in lines
    assert "      ~ value 1\\x1b[2J\\n+ forged → 4096" in lines


def test_a_change_of_a_host_that_the_target_does_not_name_has_its_place_too(
    fleet: Fleet, recorded: Snapshots
) -> None:
    plan = plan_of(fleet, recorded)
    stray = Change(Key("pc3", "volume", "x"), "remove", (), {}, {"driver": "local"})
    document = document_of(replace(plan, changes=(stray,)))
    assert lines_of(document)[:2] == ["pc3", "  - volume x"]
