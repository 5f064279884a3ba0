"""Every container of the deployed fleet is confined, as its engine tells and as its kernel does."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from lab.hosts import HOSTS
from tests.lab.by_hand import update_service
from tests.lab.conftest import REPLICAS, Checkout, look, on_host, steady
from tests.lab.mutations import BODY, found
from tests.lab.test_fleet_mutations import assert_in_sync, findings

OLDER_API = "/v1.41"
USER, SERVICE = "10001:10001", "cascade-core_service-registry"
VOLUME = "cascade-memory-learning_memory_data"
# What the kernel says of the first process in a container, and how it has the root file system.
STATUS = """\
for pid in {pids}; do
    echo $pid $(awk '/^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):/ {{print $2}}' /proc/$pid/status) \
        $(awk '$2 == "/" {{split($4, options, ","); print options[1]}}' /proc/$pid/mounts)
done
"""
CONFINED = [USER.partition(":")[0], "0000000000000000", "0000000000000000", "1", "2", "ro"]


@pytest.fixture(scope="module")
def inspected(fleet: Checkout) -> dict[str, dict[str, Any]]:
    """Every container of the fleet by ID, as its engine has it, with its host."""
    assert fleet
    everything = {}
    by_host: dict[str, list[str]] = {host.name: [] for host in HOSTS}
    for id_, item in steady().items():
        by_host[item["host"]].append(id_)
    for host, ids in by_host.items():
        for container in json.loads(on_host(host, f"docker inspect {' '.join(ids)}")):
            everything[container["Id"]] = container | {"Host": host}
    assert len(everything) == REPLICAS
    return everything


def weak(container: dict[str, Any]) -> Iterator[str]:
    """What a container has that it must not have, or lacks."""
    config, host = container["Config"], container["HostConfig"]
    limits = [host[name] for name in ("Memory", "NanoCpus", "PidsLimit")]
    options = {text.partition("=")[0] for text in host["SecurityOpt"]}
    expected = {
        "privileged": not host["Privileged"],
        "root": config["User"] == USER,
        "no limits": all(limit and limit > 0 for limit in limits),
        "no health check": container["State"]["Health"]["Status"] == "healthy",
        "image not pinned": config["Image"].startswith("sha256:") or "@sha256:" in config["Image"],
        "root can be written": host["ReadonlyRootfs"],
        "capabilities": (host["CapDrop"], host["CapAdd"] or []) == (["ALL"], []),
        "no security options": {"no-new-privileges", "seccomp"} <= options,
        "namespaces of the host": not {"host"} & {host["PidMode"], host["IpcMode"], host["NetworkMode"]},
        "no first process": host["Init"] is True,
        "logs without a bound": host["LogConfig"]["Config"].get("max-size") == "100m",
        "socket of the engine": "docker.sock" not in json.dumps(container["Mounts"]),
    }
    yield from (name for name, well in expected.items() if not well)


def test_no_container_is_weaker_than_the_files_give_reasons_for(inspected: dict[str, Any]) -> None:
    found = {container["Name"]: list(weak(container)) for container in inspected.values()}
    assert {name: faults for name, faults in found.items() if faults} == {}


def test_the_kernel_confines_the_first_process_of_every_container(inspected: dict[str, Any]) -> None:
    told = {}
    for host in HOSTS:
        ours = [container for container in inspected.values() if container["Host"] == host.name]
        pids = " ".join(str(container["State"]["Pid"]) for container in ours)
        for line in on_host(host.name, STATUS.format(pids=pids)).splitlines():
            pid, *status = line.split()
            told[host.name, pid] = status
    assert len(told) == REPLICAS
    assert {place: status for place, status in told.items() if status != CONFINED} == {}


def test_the_user_of_an_agent_writes_its_volumes_and_nothing_else(inspected: dict[str, Any]) -> None:
    written = set()
    for id_, container in inspected.items():
        for mount in container["Mounts"]:
            if mount["Type"] == "volume":
                probe = shlex.quote(f"{mount['Destination']}/probe-{id_[:12]}")
                done = f"touch {probe} && rm {probe} && echo written"
                assert in_container(container, done) == "written", container["Name"]
                written.add(mount["Name"])
    assert len(written) == 7
    one = next(iter(inspected.values()))
    assert in_container(one, "touch /tmp/a && rm /tmp/a && echo written") == "written"
    assert "Read-only file system" in in_container(one, "touch /a 2>&1")


def in_container(container: dict[str, Any], command: str) -> str:
    return look(container["Host"], f"docker exec {container['Id']} sh -c {shlex.quote(command)}")


def test_a_volume_that_is_root_s_is_found_and_given_back_with_all_that_is_in_it(fleet: Checkout) -> None:
    folder = on_host("mainpc", f"docker volume inspect {VOLUME} --format '{{{{.Mountpoint}}}}'")
    odd = shlex.quote(f"{folder}/a'; b")
    on_host("mainpc", f"mkdir {odd} && ln -s /etc/hostname {odd}/link && chown -Rh 0:0 {folder}")
    try:
        drift = fleet.drift()
        assert findings(drift.document) == dict.fromkeys(
            found("mainpc", "volume", VOLUME, "owner"), "automatic"
        )
        fleet.deploy().ok()
        owners = on_host("mainpc", f"stat -c %u:%g {folder} {odd} {odd}/link; stat -c %u /etc/hostname")
        assert owners.split() == [USER, USER, USER, "0"]
        assert_in_sync(fleet)
    finally:
        on_host("mainpc", f"rm -r {odd}")


def test_a_service_whose_profile_an_older_api_stripped_is_found_and_repaired(fleet: Checkout) -> None:
    form = f"docker service inspect {SERVICE} --format '{{{{json .Spec.TaskTemplate.ContainerSpec}}}}'"
    well = json.loads(on_host("mainpc", form))
    assert well["Privileges"]["Seccomp"]["Mode"] == "custom"
    update_service(SERVICE, lambda _: None, OLDER_API)
    stripped = json.loads(on_host("mainpc", form)).get("Privileges") or {}
    assert not {"Seccomp", "NoNewPrivileges"} & {name for name, value in stripped.items() if value}

    drift = fleet.drift()
    assert drift.code == 2
    finding = found("mainpc", "service", SERVICE, f"{BODY}.Privileges")
    assert finding[0] in findings(drift.document)
    assert {item.name for item in findings(drift.document)} == {SERVICE}

    fleet.run("cascade", "drift", "inventories/lab.py", "--repair").ok()
    assert json.loads(on_host("mainpc", form)) == well
    assert_in_sync(fleet)
    (container,) = [item for item in steady().values() if item["workload"] == SERVICE]
    assert container["health"] == "healthy"
