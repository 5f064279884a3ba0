"""Plain Compose services in a fleet: networks, bare names, and places for replicas."""

from __future__ import annotations

from typing import Any

import pytest

from cascade.model.loader import group_of
from cascade.model.service import GroupFile
from cascade.model.strict import InvalidFiles, Problem
from tests.unit.test_fleet import INNER, group, small

SHARED = {"inner": {"external": True}}
NETWORKS = [{"name": "inner"}, {"name": "outer"}]


def plain(name: str, networks: Any = None, **services: Any) -> GroupFile:
    """A group of plain services, each of the given keys; all on `inner` unless they say otherwise."""
    found = {key: {"image": "alpha/image", "networks": ["inner"], **keys} for key, keys in services.items()}
    document = {"name": name, "services": found, "networks": networks or SHARED}
    return group_of(document, f"{name}.yaml")


def problems(*groups: GroupFile, **changes: Any) -> tuple[Problem, ...]:
    phases = [[group.name for group in groups]]
    with pytest.raises(InvalidFiles) as invalid:
        small(groups=list(groups), phases=phases, networks=NETWORKS, **changes)
    return invalid.value.problems


def fits(*groups: GroupFile) -> bool:
    phases = [[group.name for group in groups]]
    return bool(small(groups=list(groups), phases=phases, networks=NETWORKS))


def test_a_bare_name_that_two_groups_have_on_one_network_is_an_error_that_names_both() -> None:
    (problem,) = problems(plain("shop", db={}), plain("blog", db={}, web={}))
    assert (problem.file, problem.path) == ("blog.yaml", "services.db")
    assert problem.reason == "services.db of shop answers to db on inner too"
    assert problem.fix


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"db": {}}, {"DB": {}}),
        ({"db": {}}, {"web": {"networks": {"inner": {"aliases": ["db"]}}}}),
        ({"web": {"networks": {"inner": {"aliases": ["db"]}}}}, {"db": {}}),
    ],
)
def test_letter_case_and_aliases_make_no_difference(one: dict[str, Any], other: dict[str, Any]) -> None:
    (problem,) = problems(plain("shop", **one), plain("blog", **other))
    assert "answers to db on inner too" in problem.reason


def test_a_network_with_another_name_in_the_file_is_the_same_network() -> None:
    renamed = {"back": {"external": True, "name": "inner"}}
    (problem,) = problems(plain("shop", db={}), plain("blog", renamed, db={"networks": ["back"]}))
    assert "answers to db on inner too" in problem.reason


def test_an_agents_alias_must_not_be_the_bare_name_of_a_service() -> None:
    agents = group("alpha", "{networks: {inner: {aliases: [db]}}}", INNER)
    (problem,) = problems(plain("shop", db={}), agents)
    assert problem.reason == "services.db of shop answers to db on inner too"


def test_the_same_name_on_two_networks_or_as_an_alias_of_both_is_fine() -> None:
    outer = {"outer": {"external": True}}
    assert fits(plain("shop", db={}), plain("blog", outer, db={"networks": ["outer"]}))
    alias = {"networks": {"inner": {"aliases": ["common"]}}}
    assert fits(plain("shop", a=alias), plain("blog", b=alias))
    assert fits(plain("shop", a=alias, b=alias))


def test_a_group_that_is_not_enabled_takes_no_name() -> None:
    asleep = plain("blog", db={}).model_copy(update={"enabled": False})
    assert fits(plain("shop", db={}), asleep)


@pytest.mark.parametrize(
    ("service", "agents", "path"),
    [
        ("{networks: []}", [], "services.alpha.networks"),
        ("{networks: {}}", [{"name": "Fox", "port": 1, "health_port": 2}], "services.alpha.networks"),
    ],
)
def test_a_service_that_joins_no_network_is_an_error(service: str, agents: list[Any], path: str) -> None:
    (problem,) = problems(group("alpha", service, agents=agents))
    assert (problem.path, problem.reason) == (path, "it joins no network, and there is no default one")
    assert problem.fix == "write networks: [inner], and inner: {external: true} under networks: at the top"


def test_agents_that_all_join_networks_of_their_own_are_fine() -> None:
    fox = {"name": "Fox", "port": 1, "health_port": 2, "networks": ["inner"]}
    assert fits(group("alpha", "{networks: []}", agents=[fox]))


def test_a_service_joins_a_network_by_the_name_that_group_data_has_for_it() -> None:
    renamed = {"back": {"external": True, "name": "inner"}}
    fleet = small(groups=[plain("alpha", renamed, db={"networks": {"back": {"aliases": ["store"]}}})])
    (db,) = fleet.workloads["alpha"]
    assert db.networks("zoo") == {"inner": ("db.alpha.zoo", "db", "store")}


@pytest.mark.parametrize(
    ("most", "replicas", "fitting"), [(1, 2, True), (2, 4, True), (1, 3, False), (0, 9, True)]
)
def test_replicas_fit_on_the_hosts(most: int, replicas: int, fitting: bool) -> None:
    deploy = {"replicas": replicas, "placement": {"max_replicas_per_node": most}}
    shop = plain("shop", db={"deploy": deploy})
    if fitting:
        assert fits(shop)
    else:
        (problem,) = problems(shop)
        assert problem.path == "services.db.deploy.placement.max_replicas_per_node"
        assert problem.reason == "3 replicas do not fit on its 2 hosts, which take 2"
