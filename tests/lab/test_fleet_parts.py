"""A part of the fleet at a time, and the whole of it down and up again: nothing else is touched."""

from __future__ import annotations

import select
import signal
import subprocess
from collections.abc import Iterator

import pytest

from lab.hosts import host_named, open_lab
from tests.lab.conftest import REPLICAS, Checkout, containers, look, of_agent, on_host, steady
from tests.lab.releases import writes_of_a_release

STACKS = "group_data/stacks/cascade"
MEMORY, AUDIO, PC2_CORE = "cascade-memory-learning", "cascade-audio-realtime", "cascade-pc2-core"
MEMORY_REPLICAS, AUDIO_REPLICAS = 16, 7
KEPT = "/data/memory/kept"
REGISTRY = "docker ps -q --filter label=cascade.agent=ServiceRegistry"


def give(checkout: Checkout, group: str, agent: str, environment: str) -> None:
    """Changes one agent's environment in the files."""
    named = f"      - name: {agent}\n"
    checkout.change(f"{STACKS}/{group}.yaml", named, f"{named}        environment: {environment}\n")


def disable(checkout: Checkout, group: str) -> None:
    checkout.change(f"{STACKS}/{group}.yaml", f"name: {group}\n", f"name: {group}\nx-enabled: false\n")


def volumes() -> set[str]:
    return set(on_host("mainpc", "docker volume ls -q").split())


def of_group(group: str) -> dict[str, dict[str, str]]:
    return {id_: item for id_, item in containers().items() if item["group"] == group}


@pytest.fixture
def kept(fleet: Checkout) -> Iterator[None]:
    """A file in a volume, which must be there afterwards."""
    assert fleet
    path = f"/var/lib/docker/volumes/{MEMORY}_memory_data/_data/kept"
    on_host("mainpc", f"echo precious > {path}")
    yield
    assert on_host("mainpc", f"cat {path}") == "precious"


def test_one_group_is_deployed_and_a_change_in_another_waits(variant: Checkout) -> None:
    give(variant, "cascade-auxiliary", "CodeGenerator", "{CHANGED: 'yes'}")
    give(variant, "cascade-personality", "ToneDetector", "{CHANGED: 'yes'}")
    before, and_a_release = steady(), writes_of_a_release()
    done = variant.run("cascade", "apply", "--yes", "--group", "cascade-auxiliary", "inventories/lab.py").ok()
    assert done.writes == 1 + and_a_release
    assert {before[id_]["agent"] for id_ in before.keys() - steady().keys()} == {"CodeGenerator"}
    and_a_release = writes_of_a_release()
    rest = variant.run(
        "cascade", "apply", "--yes", "--from-group", "cascade-personality", "inventories/lab.py"
    )
    assert rest.ok().writes == 1 + and_a_release
    gone = {before[id_]["agent"] for id_ in before.keys() - steady().keys()}
    assert gone == {"CodeGenerator", "ToneDetector"}


@pytest.mark.usefixtures("kept")
def test_a_disabled_group_goes_and_comes_back_with_its_data(variant: Checkout) -> None:
    before = steady()
    disable(variant, MEMORY)
    disable(variant, AUDIO)
    *planned, recorded = variant.dry().planned
    assert recorded.startswith("record release ")
    assert planned == [
        f"{AUDIO}: remove 7 agents, which are not enabled",
        f"{MEMORY}: remove 8 agents, which are not enabled",
    ]
    variant.deploy().ok()
    left = containers()
    assert left.keys() == {id_ for id_, item in before.items() if item["group"] not in (MEMORY, AUDIO)}
    assert f"{MEMORY}_memory_data" in volumes()
    assert variant.dry().ok().planned == []
    status = variant.status().ok()
    assert MEMORY not in status.out
    for group in (MEMORY, AUDIO):
        variant.change(f"{STACKS}/{group}.yaml", "x-enabled: false\n", "")
    variant.deploy().ok()
    after = steady()
    assert left.keys() < after.keys()
    assert len(of_group(MEMORY)) == MEMORY_REPLICAS
    assert len(of_group(AUDIO)) == AUDIO_REPLICAS
    (one, *_) = of_agent("KnowledgeBase")
    assert on_host("mainpc", f"docker exec {one} cat {KEPT}") == "precious"


def test_with_pc2_switched_off_the_part_of_mainpc_deploys_and_says_what_waits(
    fleet: Checkout, variant: Checkout
) -> None:
    give(variant, "cascade-core", "ServiceRegistry", "{CHANGED: 'yes'}")
    give(variant, PC2_CORE, "CacheManager", "{CHANGED: 'yes'}")
    lab = open_lab(lambda _: None, fleet.path)
    before = on_host("mainpc", REGISTRY)
    lab.engine.run("stop", host_named("pc2").container)
    try:
        refused = variant.deploy()
        assert refused.code == 6
        assert on_host("mainpc", REGISTRY) == before
        and_a_release = writes_of_a_release()
        done = variant.deploy("--limit", "mainpc")
    finally:
        lab.engine.run("start", host_named("pc2").container)
        lab.up()
    assert (
        "pc2: left out by --limit; waiting for it: cascade-pc2-core (5 agents), cascade-pc2-apps (17 agents)"
        in done.err
    )
    assert f"{PC2_CORE}_cache-manager is skipped: it can only run on pc2, left out by --limit" in done.err
    assert done.code == 2, done.err
    assert done.writes == 1 + and_a_release
    assert on_host("mainpc", REGISTRY) != before
    and_a_release = writes_of_a_release()
    later = variant.deploy().ok()
    assert f"service {PC2_CORE}_cache-manager" in later.err
    assert later.writes == 1 + and_a_release
    assert len(steady()) == REPLICAS


def test_a_published_port_answers_where_the_closing_lines_say(variant: Checkout) -> None:
    variant.change(
        f"{STACKS}/cascade-auxiliary.yaml",
        "  cascade-auxiliary:\n",
        "  cascade-auxiliary:\n    ports: [{target: 5650, published: 15650, mode: host}]\n",
    )
    variant.change(
        f"{STACKS}/cascade-auxiliary.yaml",
        "      - name: CodeGenerator\n",
        "      - name: CodeGenerator\n        networks: [cascade-external]\n",
    )
    variant.change(
        f"{STACKS}/cascade-auxiliary.yaml",
        "  cascade-internal:\n    external: true\n",
        "  cascade-internal:\n    external: true\n  cascade-external:\n    external: true\n",
    )
    done = variant.deploy().ok()
    assert "cascade-auxiliary CodeGenerator answers on 10.203.0.11:15650/tcp" in done.err
    assert "cascade logs inventories/lab.py AGENT -f" in done.err
    assert "CodeGenerator" in on_host("pc2", "curl -fsS http://10.203.0.11:15650/")
    assert "CodeGenerator answers on 10.203.0.11:15650/tcp" in variant.run(
        "cascade", "status", "inventories/lab.py"
    ).out.replace("\n", " ")


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("ServiceRegistry", ["1@mainpc | stand-in for ServiceRegistry"]),
        ("audio-capture", ["stand-in for AudioCapture"]),
        (
            "cascade-request-handler/requestcoordinator",
            [f"{slot}@mainpc | stand-in for RequestCoordinator" for slot in (1, 2, 3)],
        ),
    ],
)
def test_the_log_of_an_agent_names_each_replica(name: str, lines: list[str], fleet: Checkout) -> None:
    shown = fleet.run("cascade", "logs", "inventories/lab.py", name).ok().out.splitlines()
    for line in lines:
        assert [found for found in shown if found.startswith(line)], shown


def test_a_followed_log_goes_on_until_it_is_interrupted(fleet: Checkout) -> None:
    argv = (fleet.venv / "bin/cascade", "logs", "inventories/lab.py", "CodeGenerator", "-n", "0", "-f")
    with subprocess.Popen(
        argv, cwd=fleet.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout
        assert following.stderr
        (one,) = of_agent("CodeGenerator")
        writer = ("docker", "exec", one, "sh", "-c", "echo hear this > /proc/1/fd/1")
        while following.poll() is None and not _heard(following.stdout.fileno()):
            on_host("mainpc", " ".join((*writer[:-1], f"'{writer[-1]}'")))
        following.send_signal(signal.SIGINT)
        out, err = following.communicate(timeout=30)
    assert "1@mainpc | hear this" in out
    assert following.returncode == 0, err
    assert "Traceback" not in err


def _heard(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0.5)[0])


def test_an_agent_that_nobody_knows_is_answered_with_those_that_come_near(fleet: Checkout) -> None:
    unknown = fleet.run("cascade", "logs", "inventories/lab.py", "vram")
    assert unknown.code == 64
    assert "is it VRAMOptimizerAgent" in unknown.err


@pytest.mark.usefixtures("kept")
def test_the_system_goes_down_and_comes_back_with_its_data(fleet: Checkout) -> None:
    before, cluster = volumes(), on_host("mainpc", "docker node ls -q")
    asked = fleet.run("cascade", "down", "inventories/lab.py")
    assert asked.code == 64
    assert "there is no terminal to ask on" in asked.err
    assert len(containers()) == REPLICAS
    part = fleet.run("cascade", "down", "--yes", "--group", PC2_CORE, "inventories/lab.py").ok()
    assert part.out.splitlines()[:2] == [f"- {PC2_CORE}: 5 agents", f"{PC2_CORE}: 5 agents stopped"]
    assert {item["group"] for item in containers().values()} == {
        path.stem for path in (fleet.path / STACKS).iterdir()
    } - {PC2_CORE}
    fleet.run("cascade", "down", "--yes", "inventories/lab.py").ok()
    assert containers() == {}
    assert on_host("mainpc", "docker service ls -q") == ""
    assert volumes() == before
    assert on_host("mainpc", "docker node ls -q") == cluster
    fleet.deploy().ok()
    assert len(steady()) == REPLICAS


def test_purging_destroys_data_and_cluster_only_when_the_system_is_named(fleet: Checkout) -> None:
    on_host("mainpc", "docker volume create theirs")
    ours = "/var/lib/cascade/configs/cascade-core_book-0123456789ab"
    on_host("mainpc", f"install -D /dev/null {ours}")
    purge = ("cascade", "down", "--yes", "--purge", "inventories/lab.py")
    assert fleet.run(*purge).code == 64
    assert fleet.run(*purge, "--confirm", "another").code == 64
    assert len(containers()) == REPLICAS
    fleet.run(*purge, "--confirm", "cascade").ok()
    assert containers() == {}
    assert volumes() == {"theirs"}
    assert look("mainpc", f"ls {ours} 2> /dev/null") == ""
    for host in ("mainpc", "pc2"):
        assert "inactive" in look(host, "docker info --format '{{.Swarm.LocalNodeState}}'")
    on_host("mainpc", "docker volume rm theirs")
    fleet.deploy().ok()
    assert len(steady()) == REPLICAS
