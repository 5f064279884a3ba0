"""`cascade verify` catches every sabotage, passes when all is repaired, and changes nothing."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import Any
from xml.etree import ElementTree

import pytest

from lab.errors import LabError
from lab.hosts import HOSTS
from lab.polling import until
from tests.lab.conftest import Checkout, Finished, look, on_host, steady
from tests.lab.sabotages import SABOTAGES, Sabotage

AT_LEAST = 30
GREEDY = "cascade-ai-engine_vram-optimizer-agent"
# More than the 512 MiB that it may have.
APPETITE_MB = 700
# Everything that a person or a package keeps on a host: name, mode, owner, size and time of each file.
NOT_KEPT = ("/dev", "/proc", "/run", "/sys", "/tmp", "/var/lib/docker", "/var/log")
FILES = (
    f"find / -xdev \\( {' -o '.join(f'-path {path}' for path in NOT_KEPT)} \\) -prune"
    " -o -printf '%p %m %u %g %s %T@\\n'"
)
PACKAGES = "dpkg-query -W"
CONTAINERS = "docker ps -a --no-trunc --format '{{.ID}} {{.Image}} {{.State}}' | sort"
OBJECTS = "docker images -a --no-trunc -q; docker volume ls -q | sort; docker network ls --no-trunc -q | sort"
OF_THE_SWARM = (
    "docker service ls -q | xargs docker service inspect; docker node ls -q | xargs docker node inspect"
)


def verify(checkout: Checkout, *options: str) -> Finished:
    return checkout.run_alone("cascade", "verify", "inventories/lab.py", "--json", *options)


def wrong(document: Any, *outcomes: str) -> dict[tuple[str, str], str]:
    """The tests that did not pass by sentence and subject, each with what it saw."""
    return {
        (one["test"], one["subject"]): one["reason"]
        for one in document["results"]
        if one["outcome"] in (outcomes or ("failed", "unknown"))
    }


def state_of(host: str) -> dict[str, set[str]]:
    """What a host is made of, line by line."""
    asked = {
        "files": FILES,
        "packages": PACKAGES,
        "containers": CONTAINERS,
        "objects": OBJECTS,
        "swarm": OF_THE_SWARM if host == "mainpc" else "true",
    }
    return {name: set(look(host, command).splitlines()) for name, command in asked.items()}


@pytest.fixture(scope="module")
def sabotaged(fleet: Checkout) -> Any:
    """What a verification says after every sabotage at once; the fleet is repaired behind it."""
    steady()
    try:
        for sabotage in SABOTAGES:
            sabotage.make()
        settled()
        return verify(fleet).document
    finally:
        fleet.restore()
        for sabotage in SABOTAGES:
            if sabotage.undo:
                on_host(sabotage.host, sabotage.undo)


def settled() -> None:
    """Waits until no service is being updated, and each runs as many replicas as it is to."""
    command = "docker service ls -q | xargs docker service inspect --format '{{json .}}'"

    def attempt() -> None:
        services = [json.loads(line) for line in on_host("mainpc", command).splitlines()]
        busy = [
            one["Spec"]["Name"]
            for one in services
            if (one.get("UpdateStatus") or {}).get("State") not in (None, "completed")
        ]
        if busy:
            raise LabError("the Swarm", f"still updates {', '.join(busy)}", "look at their tasks")

    until("the Swarm", attempt, timeout_s=120, next_step="look at the services' tasks")


def test_the_table_of_sabotages_is_as_long_as_it_must_be() -> None:
    assert len({one.name for one in SABOTAGES}) == len(SABOTAGES) >= AT_LEAST
    assert len({(one.caught, one.subject) for one in SABOTAGES}) == len(SABOTAGES)


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda one: one.name.replace(" ", "-"))
def test_a_sabotage_is_caught_by_the_test_that_names_it(sabotage: Sabotage, sabotaged: Any) -> None:
    assert (sabotage.caught, sabotage.subject) in wrong(sabotaged, "failed")


def test_nothing_but_the_sabotages_is_caught(sabotaged: Any) -> None:
    spoilt = [pattern for one in SABOTAGES for pattern in one.spoils]
    assert {
        (test, subject): seen
        for (test, subject), seen in wrong(sabotaged).items()
        if not any(fnmatchcase(f"{subject}: {test}", pattern) for pattern in spoilt)
    } == {}


@pytest.fixture(scope="module")
def sound(
    fleet: Checkout, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Any, Any, ElementTree.Element]:
    """A verification of the whole fleet, what the hosts were made of before and after, and its junit XML."""
    settled()
    steady()
    junit = tmp_path_factory.mktemp("verified") / "junit.xml"
    before = {host.name: state_of(host.name) for host in HOSTS}
    done = verify(fleet, "--junit", str(junit))
    after = {host.name: state_of(host.name) for host in HOSTS}
    assert done.code in (0, 2), done.err
    return done.document, before, after, ElementTree.parse(junit).getroot()


def test_a_sound_fleet_passes_and_what_the_lab_lacks_is_counted_apart(sound: Any) -> None:
    document, *_ = sound
    assert wrong(document) == {}
    assert document["exit_code"] == 0
    areas = {one["area"] for one in document["results"] if one["outcome"] == "passed"}
    assert areas >= {"host", "docker", "swarm", "network", "security", "agents", "data"}
    assert all(one["reason"] for one in document["results"] if one["outcome"] in ("not there", "excepted"))


def test_every_agent_is_judged_in_every_area_that_is_about_agents(sound: Any) -> None:
    document, *_ = sound
    judged = {(one["area"], one["subject"]) for one in document["results"]}
    agents = {subject for area, subject in judged if area == "agents" and "_" in subject}
    assert len(agents) == 69
    assert {subject for area, subject in judged if area == "security"} >= agents


def test_junit_has_the_same_tests(sound: Any) -> None:
    document, _, _, junit = sound
    assert len(junit.findall(".//testcase")) == len(document["results"])


def test_nothing_on_the_hosts_changes(sound: Any) -> None:
    _, before, after, _ = sound
    assert {
        (host, what): found
        for host, seen in before.items()
        for what in seen
        if (found := sorted(seen[what] ^ after[host][what]))
    } == {}


def test_where_nothing_may_be_missing_what_the_lab_lacks_fails(fleet: Checkout) -> None:
    done = verify(fleet, "--strict", "--area", "gpu")
    assert done.code == 2
    assert done.document["counts"]["not there"] == 0
    assert done.document["counts"]["failed"] > 0
    assert all(reason.startswith("not there: ") for reason in wrong(done.document).values())


def test_an_agent_that_eats_more_than_its_memory_is_stopped_by_the_kernel_and_caught(fleet: Checkout) -> None:
    before = steady()
    on_host(
        "mainpc",
        "docker service update -q --detach --no-resolve-image"
        f" --env-add STANDIN_EAT_MEMORY_MB={APPETITE_MB} {GREEDY}",
    )
    try:
        ended = until("the kernel", out_of_memory, timeout_s=120, next_step="look at the agent's tasks")
        assert ended["ExitCode"] == 137
        found = verify(fleet, "-k", GREEDY)
        assert found.code == 2
        assert ("no task of the service keeps failing", GREEDY) in wrong(found.document)
    finally:
        fleet.restore()
    after = steady()
    assert {id_ for id_, item in before.items() if item["workload"] != GREEDY} <= after.keys()


def out_of_memory() -> Any:
    """How a container of the agent ended that was stopped because it had no memory left."""
    command = f"docker ps -aq --filter label=com.docker.swarm.service.name={GREEDY} | xargs docker inspect"
    found = [one["State"] for one in json.loads(on_host("mainpc", command))]
    ended = [state for state in found if state["OOMKilled"] and not state["Running"]]
    if not ended:
        raise LabError(GREEDY, "has not been stopped", "look at its limit of memory")
    return ended[0]
