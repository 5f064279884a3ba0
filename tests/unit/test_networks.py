"""Ranges of addresses that meet, networks that are too small, names and subnets that are none."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cascade.model.host import Host
from cascade.model.networks import Overlay, SwarmPool, name_problems, size_problems, subnet_problems

POOL = SwarmPool.model_validate({"pool": "10.201.0.0/16"})
POOLS = {"default-address-pools": [{"base": "10.202.0.0/16", "size": 24}]}
OVERLAY = {"name": "inner", "subnet": "10.20.0.0/16"}


def host(settings: dict[str, Any] = POOLS, name: str = "one", address: str = "192.0.2.1") -> Host:
    return Host(
        name=name,
        swarm_address=address,
        swarm_role="manager",
        distribution="debian",
        codename="trixie",
        docker_source="docker",
        daemon_settings=settings,
    )


def overlays(*written: dict[str, Any]) -> tuple[Overlay, ...]:
    return tuple(map(Overlay.model_validate, written))


def meeting(
    networks: tuple[Overlay, ...] = (), pool: SwarmPool = POOL, *hosts: Host
) -> list[tuple[str, str]]:
    """Path and fix of what meets."""
    machines = {machine.name: machine for machine in hosts or (host(),)}
    return [(problem.path, problem.fix) for problem in subnet_problems(networks, pool, machines)]


def test_ranges_beside_each_other_do_not_meet() -> None:
    outer = {"name": "outer", "subnet": "10.21.0.0/16"}
    assert meeting(overlays(OVERLAY, outer, {"name": "free"})) == []


@pytest.mark.parametrize(
    ("networks", "pool", "hosts", "path"),
    [
        ([OVERLAY, {"name": "b", "subnet": "10.20.9.0/24"}], "10.201.0.0/16", [], "networks[1].subnet"),
        ([OVERLAY], "10.16.0.0/12", [], "swarm_pool.pool"),
        (
            [{"name": "a", "subnet": "10.202.0.0/24"}],
            "10.201.0.0/16",
            [],
            "one.daemon_settings.default-address-pools",
        ),
        ([], "10.202.0.0/15", [], "one.daemon_settings.default-address-pools"),
        ([OVERLAY], "10.201.0.0/16", [host({**POOLS, "bip": "10.20.0.1/24"})], "one.daemon_settings.bip"),
        ([OVERLAY], "10.201.0.0/16", [host(address="10.20.3.4")], "networks[0].subnet"),
        ([], "10.201.0.0/16", [host(address="10.201.3.4")], "swarm_pool.pool"),
        ([], "10.201.0.0/16", [host(address="10.202.3.4")], "one.daemon_settings.default-address-pools"),
    ],
)
def test_ranges_that_meet_are_named_at_the_one_that_can_move(
    networks: list[dict[str, Any]], pool: str, hosts: list[Host], path: str
) -> None:
    swarm_pool = SwarmPool.model_validate({"pool": pool})
    found = meeting(overlays(*networks), swarm_pool, *hosts)
    assert found == [(path, "write a range that is free, like 10.210.0.0/16")]


@pytest.mark.parametrize("subnet", ["172.17.0.0/16", "172.20.0.0/16", "172.31.255.0/24"])
def test_an_engine_without_ranges_of_its_own_takes_docker_s(subnet: str) -> None:
    bare = host({})
    found = meeting(overlays({"name": "a", "subnet": subnet}), POOL, bare)
    fix = 'add "default-address-pools": [{"base": "10.210.0.0/16", "size": 24}]'
    assert found == [("one.daemon_settings", fix)]
    assert meeting(overlays({"name": "a", "subnet": "172.32.0.0/16"}), POOL, bare) == []


def test_docker_itself_keeps_out_of_the_range_that_a_host_is_in() -> None:
    assert meeting((), POOL, host({}, address="172.17.3.4")) == []


def test_a_free_range_is_free_of_everything_in_the_files() -> None:
    taken = overlays(
        OVERLAY, {"name": "b", "subnet": "10.210.0.0/15"}, {"name": "c", "subnet": "10.20.0.0/24"}
    )
    assert [fix for _, fix in meeting(taken)] == ["write a range that is free, like 10.212.0.0/16"]


def test_settings_of_an_engine_that_are_wrong_are_told_elsewhere() -> None:
    assert meeting(overlays(OVERLAY), POOL, host({"default-address-pools": "here"})) == []


def sizes(
    networks: tuple[Overlay, ...], pool: dict[str, Any], joining: dict[str, int]
) -> list[tuple[str, str]]:
    swarm_pool = SwarmPool.model_validate(pool)
    return [(problem.path, problem.fix) for problem in size_problems(networks, swarm_pool, joining)]


@pytest.mark.parametrize(
    ("network", "pool", "joining", "problem"),
    [
        ({"subnet": "10.20.0.0/29"}, {}, 5, None),
        ({"subnet": "10.20.0.0/29"}, {}, 6, ("networks[0].subnet", "write a /28 or larger")),
        ({}, {"subnet_size": 28}, 13, None),
        ({}, {"subnet_size": 28}, 14, ("swarm_pool.subnet_size", "write a /27 or larger")),
        ({}, {"subnet_size": 12}, 0, ("swarm_pool.subnet_size", "write a number from 16 to 29")),
        ({}, {"subnet_size": 30}, 0, ("swarm_pool.subnet_size", "write a number from 16 to 29")),
        ({}, {"subnet_size": 17}, 0, None),
        ({}, {"subnet_size": 16}, 0, ("swarm_pool.pool", "write a larger one, like 10.201.0.0/16")),
    ],
)
def test_a_network_has_room_for_all_that_join_it(
    network: dict[str, Any], pool: dict[str, Any], joining: int, problem: tuple[str, str] | None
) -> None:
    found = sizes(overlays({"name": "a", **network}), {"pool": "10.201.0.0/16", **pool}, {"a": joining})
    assert found == ([problem] if problem else [])


def test_two_networks_have_two_names() -> None:
    (problem,) = name_problems(overlays({"name": "a"}, {"name": "b"}, {"name": "a"}))
    assert (problem.path, problem.reason) == ("networks[2].name", "a stands twice")


@pytest.mark.parametrize(
    ("subnet", "said"),
    [
        ("10.20.0.0", "has no prefix: write one like 10.210.0.0/16"),
        ("10.20.0.1/16", "write 10.20.0.0/16"),
        ("10.20.0.0/33", "is no IPv4 network"),
        ("fd00::/64", "is no IPv4 network"),
        ("here; touch x", "is no IPv4 network"),
        (5, "is no IPv4 network"),
        (["10.0.0.0/8"], "is no IPv4 network"),
    ],
)
def test_a_subnet_is_written_as_its_first_address_and_its_prefix(subnet: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Overlay.model_validate({"name": "a", "subnet": subnet})


@pytest.mark.parametrize(
    "name", ["", "-a", "a b", "a\n", "ingress", "bridge", "docker_gwbridge", "; touch x"]
)
def test_a_name_that_the_engine_has_or_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="write one like cascade-internal"):
        Overlay.model_validate({"name": name})
