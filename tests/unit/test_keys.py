"""Every key of the Compose Specification is honoured or refused by name; any other is answered too."""

from pathlib import Path
from typing import Any

import pytest

from cascade.model.keys import honoured_keys, key_of, refusals
from cascade.model.loader import group_of
from cascade.model.refused import REFUSED
from cascade.model.strict import InvalidFiles
from cascade.planning.destinations import DESTINATIONS, NO_EFFECT, destination
from cascade.planning.specs import container_body, service_spec

# Source: the Compose Specification's schema, compose-spec.json of 2025; written as in refused.py.
COMPOSE = (Path(__file__).with_name("compose") / "keys.txt").read_text().split()
KEYS = {key for key in REFUSED if " = " not in key}
VALUES = [key.split(" = ") for key in REFUSED if " = " in key]


def refused_by_name(key: str) -> bool:
    return any(key == known or key.startswith(f"{known}.") for known in KEYS)


def at(key: str, value: object) -> dict[str, Any]:
    """A document with this value under this key."""
    document: Any = value
    for part in reversed(key.replace("*", "one").split(".")):
        document = {part: document}
    found: dict[str, Any] = document
    return found


def test_every_key_of_compose_is_honoured_or_refused_by_name() -> None:
    assert len(COMPOSE) > 300
    assert [key for key in COMPOSE if not (key in honoured_keys() or refused_by_name(key))] == []


def test_no_key_is_honoured_and_refused() -> None:
    assert [key for key in honoured_keys() if refused_by_name(key)] == []


def test_what_is_honoured_or_refused_is_a_key_of_compose_or_an_extension() -> None:
    honoured = {key for key in honoured_keys() if not any(part[:2] == "x-" for part in key.split("."))}
    assert honoured <= set(COMPOSE)
    assert KEYS - set(COMPOSE) == {"services.*.agents"}


def test_every_refusal_says_why_and_what_to_do() -> None:
    for key, refusal in REFUSED.items():
        assert refusal.reason, key
        assert refusal.fix, key


@pytest.mark.parametrize("key", sorted(key for key in COMPOSE if refused_by_name(key)))
def test_a_refused_key_is_named_with_its_reason_and_what_to_write(key: str) -> None:
    found = {".".join(map(str, place)): refusal for place, refusal in refusals(at(key, "x"))}
    known = next(known for known in KEYS if key == known or key.startswith(f"{known}."))
    assert found[known.replace("*", "one")] == REFUSED[known]


@pytest.mark.parametrize(("key", "value"), VALUES)
def test_a_refused_value_is_named_with_its_reason_and_any_other_is_not(key: str, value: str) -> None:
    place = key.replace("*", "one")
    written: object = {"true": True, "false": False, "0": 0}.get(value, value)
    for said in (written, value):
        found = {".".join(map(str, at_)): refusal for at_, refusal in refusals(at(key, said))}
        assert found[place] == REFUSED[f"{key} = {value}"]
    assert place not in {".".join(map(str, at_)) for at_, _ in refusals(at(key, "other"))}


@pytest.mark.parametrize(
    ("place", "reason", "fix"),
    [
        ("typo", "not a key of Compose", "remove it, or keep it under an x- key at the top of the file"),
        ("service", "not a key of Compose", "write services, if that is meant"),
        ("services.one.enviroment", "not a key of Compose", "write environment, if that is meant"),
        ("services.one.secret", "not a key of Compose", "write secrets, if that is meant"),
        ("services.one.x-agent", "an x- key that nothing reads", "write x-agents, if that is meant"),
        ("services.one.replicas", "not a key of Compose in this place", "write it under deploy"),
        (
            "services.one.memory",
            "not a key of Compose in this place",
            "write it under deploy.resources.limits",
        ),
        ("services.one.deploy.resources.limits.cpu", "not a key of Compose", "write cpus, if that is meant"),
        ("services.one.agents", "unknown key", "write it as x-agents"),
        ("networks.one.extern", "not a key of Compose", "write external, if that is meant"),
    ],
)
def test_an_unknown_key_comes_with_the_nearest_known_one(place: str, reason: str, fix: str) -> None:
    found = {".".join(map(str, where)): refusal for where, refusal in refusals(at(place, "x"))}
    assert found[place] == (reason, fix)


def test_keys_in_lists_are_found_with_their_number() -> None:
    ports = [{"target": 1}, {"target": 1, "host_ip": "127.0.0.1"}, "80:80"]
    found = list(refusals({"services": {"one": {"ports": ports}}}))
    assert found == [(("services", "one", "ports", 1, "host_ip"), REFUSED["services.*.ports.host_ip"])]


@pytest.mark.parametrize(
    "document",
    [
        {"services": "one"},
        {"services": {"one": None}},
        {"services": {"one": {"deploy": [1], "ports": {"target": 1}, "healthcheck": "x"}}},
        {"networks": ["a"], "volumes": None},
        {"services": {1: {"image": "a"}}},
    ],
)
def test_what_has_another_form_is_left_to_the_models(document: dict[str, Any]) -> None:
    assert list(refusals(document)) == []


def test_a_key_that_is_refused_hides_no_other_mistake() -> None:
    document = {
        "name": "a",
        "services": {
            "one": {
                "image": "i",
                "privileged": True,
                "volumes": [{"type": "npipe", "source": "a", "target": "/a"}],
                "stop_grace_period": "soon",
                "deploy": {"mode": "global"},
            }
        },
        "networks": {"back": {"driver": "bridge"}},
    }
    with pytest.raises(InvalidFiles) as invalid:
        group_of(document, "a.yaml")
    assert sorted(problem.path for problem in invalid.value.problems) == [
        "networks.back",
        "networks.back.driver",
        "services.one.deploy.mode",
        "services.one.privileged",
        "services.one.stop_grace_period",
        "services.one.volumes[0].type",
    ]


@pytest.mark.parametrize(
    ("network", "overlay"),
    [
        (None, 'Overlay(name="one")'),
        ({}, 'Overlay(name="one")'),
        ({"external": False, "name": "shared"}, 'Overlay(name="shared")'),
        ({"internal": True}, 'Overlay(name="one", internal=True)'),
        (
            {
                "ipam": {"config": [{"subnet": "10.9.0.0/24"}]},
                "driver_opts": {"com.docker.network.driver.mtu": 1400},
            },
            'Overlay(name="one", subnet="10.9.0.0/24", mtu=1400)',
        ),
        ({"ipam": {"config": "odd"}, "driver_opts": ["odd"]}, 'Overlay(name="one")'),
    ],
)
def test_a_network_of_the_files_own_comes_with_its_line_for_group_data(network: Any, overlay: str) -> None:
    found = dict(refusals({"networks": {"one": network}}))
    assert found["networks", "one"].fix.endswith(overlay)


def test_a_network_of_the_fleet_is_no_problem_and_may_have_another_name_in_the_file() -> None:
    networks = {"back": {"external": True, "name": "inner"}}
    assert list(refusals({"networks": networks})) == []
    services = {"one": {"image": "i", "networks": ["back"]}}
    group = group_of({"name": "a", "services": services, "networks": networks}, "a.yaml")
    assert group.network_names() == {"back": "inner"}


def test_two_keys_for_one_network_are_an_error() -> None:
    networks = {"back": {"external": True, "name": "inner"}, "inner": {"external": True}}
    document = {"name": "a", "services": {"one": {"image": "i"}}, "networks": networks}
    with pytest.raises(InvalidFiles, match="networks: more than one key stands for the network inner"):
        group_of(document, "a.yaml")


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({"restart": "no", "deploy": {"restart_policy": {"condition": "any"}}}, "restart"),
        ({"restart": "no", "deploy": {"restart_policy": {}}}, "restart"),
        ({"pids_limit": 5, "deploy": {"resources": {"limits": {"pids": 6}}}}, "pids_limit"),
        ({"deploy": {"endpoint_mode": "dnsrr"}, "ports": ["80:80"]}, "deploy.endpoint_mode"),
    ],
)
def test_two_places_that_say_different_things_are_an_error(keys: dict[str, Any], path: str) -> None:
    document = {"name": "a", "services": {"one": {"image": "i", **keys}}}
    with pytest.raises(InvalidFiles) as invalid:
        group_of(document, "a.yaml")
    (problem,) = invalid.value.problems
    assert problem.path == f"services.one.{path}"
    assert problem.fix


@pytest.mark.parametrize(
    "keys",
    [
        {"restart": "no", "deploy": {"replicas": 2}},
        {"pids_limit": 5, "deploy": {"resources": {"limits": {"pids": 5}}}},
        {"deploy": {"endpoint_mode": "dnsrr"}, "ports": [{"target": 1, "published": 1, "mode": "host"}]},
    ],
)
def test_two_places_that_agree_are_fine(keys: dict[str, Any]) -> None:
    assert group_of({"name": "a", "services": {"one": {"image": "i", **keys}}}, "a.yaml")


def test_every_honoured_key_has_a_destination_or_only_holds_others() -> None:
    without = {key for key in honoured_keys() if destination(key) is None}
    holders = {
        key for key in honoured_keys() if any(other.startswith(f"{key}.") for other in honoured_keys())
    }
    assert without <= holders
    assert {key.rpartition(".*")[0] if key.endswith(".*") else key for key in DESTINATIONS} <= honoured_keys()


def resolves(spec: Any, path: str) -> bool:
    for part in path.split("."):
        if part not in spec:
            return False
        spec = spec[part]
    return True


def test_every_destination_is_a_place_in_what_is_posted(rich: Any) -> None:
    service, body = service_spec(*rich("service")), container_body(*rich("container"))
    for key, found in DESTINATIONS.items():
        for container, spec in ((False, service), (True, body)):
            place = found.of(container)
            # These two make a host container, so they have no place in a service.
            only_container = key in ("services.*.devices", "services.*.shm_size") and not container
            if place[0].isupper() and not only_container:
                assert resolves(spec, place), (key, place)
            else:
                assert place.startswith(NO_EFFECT) or place[0].islower() or only_container, (key, place)


@pytest.mark.parametrize(
    ("place", "key"),
    [
        (("services", "one", "environment", "A"), "services.*.environment"),
        (("services", "one", "ports", 0, "target"), "services.*.ports.target"),
        (("volumes", "data"), "volumes.*"),
        (("services", "one", "networks", "back", "aliases", 0), "services.*.networks.*.aliases"),
        (("x-anything", "a"), ""),
    ],
)
def test_a_place_in_a_file_belongs_to_a_key(place: tuple[int | str, ...], key: str) -> None:
    assert key_of(place) == key
