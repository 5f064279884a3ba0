"""Volumes and secrets: where they lie, whose they are and who sees the same; never what is in them."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from cascade.model.compose import Mount
from cascade.model.host import Host
from cascade.model.secrets import SecretUse
from cascade.model.workload import Workload
from tests.verify.evidence import SECRETS, Evidence, Replica
from tests.verify.expected import Expected
from tests.verify.mounts import PASSING, mount_of, same_file
from tests.verify.record import not_asked


@dataclass(frozen=True)
class Use:
    """A volume at its place in a replica."""

    workload: Workload
    mount: Mount
    replica: Replica

    def __str__(self) -> str:
        return f"{self.replica}: {self.mount.target}"

    @property
    def seen(self) -> Mapping[str, Any] | None:
        """What the replica finds there."""
        found: Mapping[str, Any] | None = self.replica.process["files"][self.mount.target]
        return found

    @property
    def mounted(self) -> Mapping[str, Any]:
        """The mount that the path lies on."""
        return mount_of(self.replica.process["mounts"], self.mount.target)


@pytest.fixture
def uses(volume: str, evidence: Evidence, expected: Expected) -> list[Use]:
    """Where replicas have a volume; a test of one that none has fails."""
    found = [one for one in _uses(evidence, expected) if one.mount.source == volume]
    assert found, f"no agent that has {volume} runs on any host"
    return found


def test_the_volume_is_a_plain_folder_of_every_host_that_runs_its_agents(
    volume: str, uses: list[Use], evidence: Evidence
) -> None:
    found = {use.replica.host: evidence.volume(use.replica.host, volume) for use in uses}
    assert {host: (one["Driver"], one["Options"] or {}) for host, one in found.items()} == dict.fromkeys(
        found, ("local", {})
    )


def test_every_replica_sees_at_its_place_the_folder_of_the_volume(
    volume: str, uses: list[Use], evidence: Evidence
) -> None:
    assert [
        str(use) for use in uses if not same_file(use.seen, _folder(evidence, use.replica.host, volume))
    ] == []


def test_all_agents_on_a_host_share_one_folder_of_the_volume(uses: list[Use]) -> None:
    first = {use.replica.host: use for use in reversed(uses)}
    if len(first) == len(uses):
        not_asked("one replica of one agent has it")
    assert [
        f"{use} is not {first[use.replica.host]}"
        for use in uses
        if not same_file(use.seen, first[use.replica.host].seen)
    ] == []


def test_the_volume_outlives_containers_and_hosts_that_start_again(uses: list[Use]) -> None:
    kinds = {str(use): use.mounted["kind"] for use in uses}
    assert {name: kind for name, kind in kinds.items() if kind in PASSING} == {}


def test_the_volume_belongs_to_the_user_of_those_who_write_to_it(
    volume: str, uses: list[Use], evidence: Evidence
) -> None:
    owners = {
        use.replica.host: use.workload.owner for use in uses if use.workload.owner and not use.mount.read_only
    }
    if not owners:
        not_asked("its agents only read it, or their user is told by name")
    folders = {host: _folder(evidence, host, volume) for host in owners}
    assert {host: f"{found['uid']}:{found['gid']}" for host, found in folders.items()} == owners


def test_the_volume_can_be_written_only_where_its_file_says(uses: list[Use]) -> None:
    options = {str(use): use.mounted["options"] for use in uses}
    said = {str(use): "ro" if use.mount.read_only else "rw" for use in uses}
    assert {name: found for name, found in options.items() if said[name] not in found} == {}


def test_agents_of_the_host_that_keep_data_keep_it_in_a_volume(
    node: Host, evidence: Evidence, expected: Expected
) -> None:
    keeping = [
        one
        for name, workload in expected.judged.items()
        if workload.keeps_data
        for one in evidence.replicas[name]
        if one.host == node.name
    ]
    if not keeping:
        not_asked("no agent is declared persistent that runs on it")
    lasting = {
        str(use.replica)
        for use in _uses(evidence, expected)
        if not use.mount.read_only and use.mounted["kind"] not in PASSING
    }
    assert [str(one) for one in keeping if str(one) not in lasting] == []


def test_secrets_of_agents_on_the_host_lie_in_memory_and_can_only_be_read(
    node: Host, evidence: Evidence, expected: Expected
) -> None:
    lying = {
        f"{one}: {use.path}": mount_of(one.process["mounts"], use.path)
        for one, use in _secrets(node, evidence, expected)
    }
    assert {
        place: (mount["kind"], mount["options"])
        for place, mount in lying.items()
        if mount["kind"] != "tmpfs" or "ro" not in mount["options"] or mount["target"] == "/"
    } == {}


def test_secrets_of_agents_on_the_host_have_the_owner_and_mode_of_their_file(
    node: Host, evidence: Evidence, expected: Expected
) -> None:
    found = {
        f"{one}: {use.path}": (_owned(one.process["files"][use.path]), (use.uid, use.gid, f"{use.mode:04o}"))
        for one, use in _secrets(node, evidence, expected)
    }
    assert {place: has for place, (has, said) in found.items() if has != said} == {}


def test_secrets_that_the_host_keeps_are_closed_to_all_but_root(
    node: Host, evidence: Evidence, expected: Expected
) -> None:
    kept = {path: found for path, found in evidence.files[node.name].items() if path in SECRETS and found}
    needed = any(
        one.host == node.name
        for name, workload in expected.workloads.items()
        if workload.kind == "container" and workload.secret_files
        for one in evidence.replicas[name]
    )
    if not kept and not needed:
        not_asked("no host container on it reads a secret")
    closed = dict.fromkeys(SECRETS if needed else kept, ("0", "0", "0700"))
    assert {path: _owned(found) for path, found in kept.items()} == closed


def _uses(evidence: Evidence, expected: Expected) -> Iterator[Use]:
    for name, workload in expected.workloads.items():
        for mount in workload.mounts:
            if mount.type == "volume":
                yield from (Use(workload, mount, one) for one in evidence.replicas[name])


def _folder(evidence: Evidence, host: str, volume: str) -> Mapping[str, Any]:
    found = evidence.files[host][evidence.volume(host, volume)["Mountpoint"]]
    assert found, f"the engine of {host} has the volume {volume}, and its folder is gone"
    return dict(found)


def _secrets(node: Host, evidence: Evidence, expected: Expected) -> list[tuple[Replica, SecretUse]]:
    found = [
        (one, use)
        for name, workload in expected.judged.items()
        for one in evidence.replicas[name]
        for _, use in workload.secret_files
        if one.host == node.name
    ]
    if not found:
        not_asked("no agent that runs on it reads a secret")
    return found


def _owned(found: Mapping[str, Any] | None) -> tuple[str, str, str] | None:
    """Owner, group and mode as a group file writes them; None for a file that is not there."""
    return (str(found["uid"]), str(found["gid"]), f"{stat.S_IMODE(found['mode']):04o}") if found else None
