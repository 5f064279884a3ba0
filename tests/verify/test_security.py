"""What confines each agent, by what the kernel says of its processes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import pytest

from cascade.model.apparmor import ENGINES_PROFILE, profile_of_group
from cascade.model.hardening import is_root
from cascade.model.host import Host
from cascade.model.workload import Workload
from tests.verify.confinement import (
    NODES,
    allowed_capabilities,
    apparmor_label,
    capabilities,
    declared_targets,
    device_nodes,
    groups,
    holds_engine,
    identity,
    is_of_gpus,
    is_within,
    kilobytes,
    seccomp_profile,
    undeclared,
)
from tests.verify.evidence import Evidence, Replica
from tests.verify.expected import Expected
from tests.verify.record import not_asked

Replicas = tuple[Replica, ...]
Process = Mapping[str, str]
SETS = ("CapPrm", "CapEff", "CapInh", "CapAmb")
SHOWN = 80
SOCKETS = ("/docker.sock", "/containerd.sock")
OWN_NAMESPACES = ("ipc", "mnt", "net", "pid", "uts")


def _processes(replicas: Replicas) -> Iterator[tuple[Replica, Process]]:
    for replica in replicas:
        assert replica.process["confinements"], f"{replica}: the kernel shows no process of it"
        for process in replica.process["confinements"]:
            yield replica, process


def _wrong(replicas: Replicas, key: str, right: Callable[[str], bool]) -> dict[str, str]:
    """The processes of which the kernel says something else, each by its replica and program."""
    return {
        f"{process['Name']} in {replica}": process[key]
        for replica, process in _processes(replicas)
        if not right(process[key])
    }


def _each(replicas: Replicas, found: Callable[[Replica], Any]) -> dict[str, Any]:
    """What is found of each replica, of those of which there is something."""
    return {str(one): wrong for one in replicas if (wrong := found(one))}


def test_every_process_runs_as_the_declared_user(workload: Workload, replicas: Replicas) -> None:
    user = workload.service.user
    if is_root(user):
        not_asked("its file lets it run as root, and so as everybody")
    uids = {str(one): identity(user, one.process["accounts"])[0] for one in replicas}
    assert "0" not in uids.values()
    assert {
        f"{process['Name']} in {one}": process["Uid"]
        for one, process in _processes(replicas)
        if set(process["Uid"].split()) != {uids[str(one)]}
    } == {}


def test_every_process_is_in_the_declared_groups_alone(workload: Workload, replicas: Replicas) -> None:
    if is_root(workload.service.user):
        not_asked("its file lets it run as root, and so as everybody")
    found = {
        f"{process['Name']} in {one}": {*process["Gid"].split(), *process["Groups"].split()}
        - groups(workload, one.process["accounts"])
        for one, process in _processes(replicas)
    }
    assert {name: foreign for name, foreign in found.items() if foreign} == {}


def test_no_process_has_a_capability_that_is_not_declared(workload: Workload, replicas: Replicas) -> None:
    service = workload.service
    allowed = allowed_capabilities(service.cap_add, service.cap_drop)
    assert _beyond(replicas, SETS, allowed if is_root(service.user) else frozenset()) == {}


def test_no_process_can_ever_gain_a_capability_that_is_not_declared(
    workload: Workload, replicas: Replicas
) -> None:
    allowed = allowed_capabilities(workload.service.cap_add, workload.service.cap_drop)
    assert _beyond(replicas, ("CapBnd",), allowed) == {}


def _beyond(replicas: Replicas, kinds: Collection[str], allowed: frozenset[str]) -> dict[str, list[str]]:
    """The capabilities that a process has in one of these sets, and should not have."""
    return {
        f"{kind} of {process['Name']} in {replica}": sorted(capabilities(process[kind]) - allowed)
        for replica, process in _processes(replicas)
        for kind in kinds
        if capabilities(process[kind]) - allowed
    }


def test_no_process_can_gain_privileges(replicas: Replicas) -> None:
    assert _wrong(replicas, "NoNewPrivs", "1".__eq__) == {}


def test_the_kernel_filters_the_system_calls_of_every_process(workload: Workload, replicas: Replicas) -> None:
    if seccomp_profile(workload) == "unconfined":
        not_asked("its file takes the filter of system calls away")
    assert _wrong(replicas, "Seccomp", "2".__eq__) == {}


def test_the_filter_of_system_calls_is_the_declared_one(workload: Workload, replicas: Replicas) -> None:
    right = _parsed(seccomp_profile(workload))

    def other(one: Replica) -> list[str]:
        pairs = (option.partition("=") for option in one.container["HostConfig"]["SecurityOpt"] or ())
        given = [value for name, _, value in pairs if name == "seccomp"]
        wrong = [value[:SHOWN] for value in given if _parsed(value) != right]
        return wrong if given else ["the engine's own"]

    assert _each(replicas, other) == {}


def _parsed(profile: str) -> Any:
    return profile if profile == "unconfined" else json.loads(profile)


def test_apparmor_confines_every_process_by_the_profile_of_its_kind(
    workload: Workload, replicas: Replicas, evidence: Evidence, expected: Expected
) -> None:
    confined = tuple(one for one in replicas if evidence.hosts[one.host]["apparmor"])
    if not confined:
        pytest.skip("the kernel of its host has no AppArmor")
    labels = {one.host: apparmor_label(workload, expected.fleet.hosts[one.host]) for one in confined}
    assert {
        f"{process['Name']} in {one}": process["AppArmor"]
        for one, process in _processes(confined)
        if process["AppArmor"] != labels[one.host]
    } == {}


def test_the_profiles_of_containers_are_in_the_kernel(
    node: Host, evidence: Evidence, expected: Expected
) -> None:
    if not evidence.hosts[node.name]["apparmor"]:
        pytest.skip("the kernel of the host has no AppArmor")
    alone = (one for one in expected.workloads.values() if one.kind == "container")
    needed = {profile_of_group(one.group) for one in alone if node.name in expected.hosts_of(one)}
    right = {f"{name} ({node.apparmor_mode})" for name in {ENGINES_PROFILE, *needed}}
    assert sorted(right - set(evidence.hosts[node.name]["profiles"])) == []


def test_the_root_file_system_is_read_only_where_its_file_says_nothing_else(
    workload: Workload, replicas: Replicas
) -> None:
    if not workload.service.read_only:
        not_asked("its file lets it write to its root file system")
    assert _each(replicas, lambda one: [] if "ro" in _mounted(one, "/")["options"] else ["writable"]) == {}


def _mounted(replica: Replica, target: str) -> Mapping[str, Any]:
    """What is mounted somewhere: of several the last one, which covers the others."""
    return next(
        (mount for mount in reversed(replica.process["mounts"]) if mount["target"] == target),
        {"kind": "nothing", "options": [], "settings": []},
    )


def test_nothing_is_mounted_but_what_its_file_declares(
    workload: Workload, replicas: Replicas, evidence: Evidence, expected: Expected
) -> None:
    declared = declared_targets(workload)

    def foreign(one: Replica) -> list[str]:
        driver = evidence.engines[one.host]["info"]["Driver"]
        found = undeclared(one.process["mounts"], declared, driver)
        return [path for path in found if not (_has_gpu(workload, one, expected) and is_of_gpus(path))]

    assert _each(replicas, foreign) == {}


def _has_gpu(workload: Workload, replica: Replica, expected: Expected) -> bool:
    return workload.uses_gpu and expected.fleet.hosts[replica.host].has_gpu


def test_file_systems_in_memory_are_small_and_no_program_starts_from_them(
    workload: Workload, replicas: Replicas
) -> None:
    sizes = {mount.target: mount.size for mount in workload.tmpfs}
    sizes |= {mount.target: mount.tmpfs.size for mount in workload.mounts if mount.type == "tmpfs"}

    def wrong(one: Replica) -> dict[str, Any]:
        found = {target: _mounted(one, target) for target in sizes}
        return {target: mount for target, mount in found.items() if not _is_small(mount, sizes[target])}

    assert _each(replicas, wrong) == {}


def _is_small(mount: Mapping[str, Any], size: int | None) -> bool:
    closed = {"nosuid", "nodev", "noexec"} <= set(mount["options"])
    return mount["kind"] == "tmpfs" and closed and (size is None or kilobytes(size) in mount["settings"])


def test_no_replica_has_the_socket_of_the_engine(replicas: Replicas) -> None:
    def found(one: Replica) -> list[str]:
        sources = [mount.get("Source") or "" for mount in one.container["Mounts"]]
        sockets = [mount["root"] for mount in one.process["mounts"] if mount["root"].endswith(SOCKETS)]
        return [source for source in sources if holds_engine(source)] + sockets

    assert _each(replicas, found) == {}


def test_settings_of_the_kernel_can_only_be_read(replicas: Replicas) -> None:
    def writable(one: Replica) -> list[str]:
        return [path for path in ("/proc/sys", "/sys") if "ro" not in _mounted(one, path)["options"]]

    assert _each(replicas, writable) == {}


def test_no_replica_shares_a_namespace_with_its_host(replicas: Replicas, evidence: Evidence) -> None:
    def shared(one: Replica) -> list[str]:
        host = evidence.hosts[one.host]["namespaces"]
        return [kind for kind in OWN_NAMESPACES if one.process["namespaces"][kind] == host[kind]]

    assert _each(replicas, shared) == {}


def test_no_two_replicas_of_a_host_share_a_namespace(node: Host, evidence: Evidence) -> None:
    here = [one for found in evidence.replicas.values() for one in found if one.host == node.name]
    counts = Counter(one.process["namespaces"][kind] for one in here for kind in OWN_NAMESPACES)
    often = {namespace for namespace, count in counts.items() if count > 1}
    assert _each(tuple(here), lambda one: sorted(often & set(one.process["namespaces"].values()))) == {}


def test_no_replica_is_privileged(replicas: Replicas) -> None:
    assert [str(one) for one in replicas if one.container["HostConfig"]["Privileged"]] == []


def test_every_replica_has_the_devices_that_its_file_gives_and_no_others(
    workload: Workload, replicas: Replicas, expected: Expected
) -> None:
    def wrong(one: Replica) -> list[str]:
        given = device_nodes(workload, expected.fleet.hosts[one.host])
        found = set(one.process["device_nodes"]) - NODES
        if _has_gpu(workload, one, expected):
            found = {path for path in found if not is_of_gpus(path)}
        missing = {path for path in given if not any(is_within(node, [path]) for node in found)}
        return sorted(missing | {path for path in found if not is_within(path, given)})

    assert _each(replicas, wrong) == {}
