"""Whom volumes belong to on their hosts, and what is done where that is somebody else."""

from collections.abc import Callable
from typing import Any

import pytest

from cascade.planning.diff import diff
from cascade.planning.observed import Observed, observe
from cascade.planning.resource import Key
from cascade.planning.target import Target, target_of

DATA = Key("mainpc", "volume", "alpha_data")
OURS = "10001:10001"
FAULT = {"Labels": None, "Fault": "OSError: no such folder"}


@pytest.fixture
def looked(alpha: Callable[..., Any]) -> Callable[..., tuple[Target, Observed]]:
    """What the files say of a volume, and a host as it is with one of this owner."""

    def look(owner: str | None, driver: str = "local", mode: str = "") -> tuple[Target, Observed]:
        _, fleet = alpha(f"{{volumes: ['data:/data{mode}']}}")
        host = fleet.manager.name
        volume = {"Name": DATA.name, "Driver": driver, "Options": None, "Owner": owner} | FAULT
        target = target_of(fleet)
        docker = {
            "api": "1.45",
            "started": 0,
            "swarm": {
                "LocalNodeState": "inactive",
                "ControlAvailable": False,
                "NodeAddr": "",
                "NodeID": "",
            },
            "images": [],
            "volumes": [volume],
            "containers": [],
        }
        snapshot = {
            "packages": {},
            "sysctls": {},
            "units": {},
            "files": {"/etc/docker/daemon.json": None},
            "apparmor": None,
            "docker": docker,
        }
        assert host == DATA.host
        return target, observe(target, {host: snapshot})

    return look


def changes(target: Target, observed: Observed) -> list[str]:
    found = diff({DATA: target.wanted[DATA]}, observed.resources)
    return [f"{change.action}: {', '.join(map(str, change.fields))}" for change in found.values()]


def test_a_volume_of_its_writers_is_as_it_is_to_be(looked: Callable[..., tuple[Target, Observed]]) -> None:
    assert changes(*looked(OURS)) == []


def test_one_of_somebody_else_is_given_to_its_writers(
    looked: Callable[..., tuple[Target, Observed]],
) -> None:
    assert changes(*looked("0:0")) == [f"update: owner 0:0 → {OURS}"]


def test_an_owner_does_not_make_another_driver_good(looked: Callable[..., tuple[Target, Observed]]) -> None:
    (change,) = changes(*looked("0:0", driver="nfs"))
    assert change.startswith("replace: driver nfs → local")


def test_whom_an_unread_volume_belongs_to_matters_to_nobody(
    looked: Callable[..., tuple[Target, Observed]],
) -> None:
    target, observed = looked(None, mode=":ro")
    assert changes(target, observed) == []
    assert observed.unknown == []


def test_an_owner_that_cannot_be_read_is_unknown_and_not_somebody_else(
    looked: Callable[..., tuple[Target, Observed]],
) -> None:
    _, observed = looked(None)
    assert [str(unknown) for unknown in observed.unknown] == [
        "mainpc: volume alpha_data: OSError: no such folder"
    ]
    assert observed.unreadable(DATA, "mainpc")
    assert DATA not in observed.resources
