"""What confines every container unless its file says otherwise, and the reasons of a file that does."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from cascade.model import seccomp
from cascade.model.fleet import Doubts, Fleet, misfits
from cascade.model.hardening import ProfileName, Weaker
from cascade.model.service import Service
from cascade.model.weaker import hardening_problems, weaknesses
from cascade.model.workload import Workload
from cascade.planning.desired import desired
from cascade.planning.rendering import explain
from cascade.planning.specs import container_body, service_spec
from cascade.planning.waves import rollout_order

Alpha = Callable[..., tuple[tuple[Workload, ...], Fleet]]
WHY = "It cannot do without."
FOX = {"name": "Fox", "port": 7000, "health_port": 8000}
# Each key that is weaker than the default, in every way to write that.
WEAK: list[tuple[str, dict[str, Any]]] = [
    ("user", {"user": "root"}),
    ("user", {"user": 0}),
    ("user", {"user": "0:1000"}),
    ("user", {"user": "00"}),
    ("read_only", {"read_only": False}),
    ("cap_drop", {"cap_drop": []}),
    ("cap_drop", {"cap_drop": ["NET_RAW", "MKNOD"]}),
    ("security_opt", {"security_opt": ["seccomp:unconfined"]}),
    ("pids_limit", {"pids_limit": -1}),
    ("pids_limit", {"pids_limit": 0}),
    ("pids_limit", {"deploy": {"resources": {"limits": {"pids": -1}}}}),
    ("init", {"init": False}),
    ("logging", {"logging": {"driver": "journald"}}),
    ("logging", {"logging": {"driver": "none"}}),
    ("logging", {"logging": {"driver": "json-file", "options": {"max-size": "-1"}}}),
    ("logging", {"logging": {"driver": "local", "options": {"max-size": "-1"}}}),
    ("volumes", {"volumes": ["/var/run/docker.sock:/sock:ro"]}),
    ("volumes", {"volumes": ["/run/docker.sock:/sock"]}),
    ("volumes", {"volumes": ["/:/host:ro"]}),
    ("volumes", {"volumes": ["//:/host:ro"]}),
    ("volumes", {"volumes": ["/srv/../etc/ssl:/ssl:ro"]}),
    ("volumes", {"volumes": ["/var/lib:/lib"]}),
    ("volumes", {"volumes": ["/var/lib/docker/volumes:/v"]}),
    ("volumes", {"volumes": [{"type": "bind", "source": "/proc", "target": "/p"}]}),
    ("devices", {"devices": ["/dev/snd"]}),
]
# What is as strict as the default, or stricter.
STRICT: list[dict[str, Any]] = [
    {},
    {"user": "1000:1000"},
    {"user": "nobody"},
    {"read_only": True},
    {"cap_drop": ["all", "NET_RAW"]},
    {"security_opt": ["no-new-privileges:true"]},
    {"pids_limit": 20},
    {"init": True},
    {"logging": {"driver": "local"}},
    {"logging": {"driver": "json-file", "options": {"tag": "a"}}},
    {"volumes": ["/srv/media:/media", "data:/data", "/etcetera:/e"]},
    {"ulimits": {"nofile": 10}},
]


def problems(service: dict[str, Any]) -> list[tuple[str, str]]:
    """The places and fixes of what is wrong with the confinement of a service."""
    read = Service.model_validate({"image": "a", **service})
    return [(found.path, found.fix) for found in hardening_problems("a.yaml", "services.a", read)]


def reasoned(key: str, keys: dict[str, Any]) -> dict[str, Any]:
    return {**keys, "x-security": {"exceptions": {key: WHY}}}


@pytest.mark.parametrize(("key", "keys"), WEAK)
def test_what_is_weaker_needs_a_reason_under_its_own_key(key: str, keys: dict[str, Any]) -> None:
    ((path, fix),) = problems(keys)
    assert path.split(".")[2] in (key, "deploy")
    assert fix == f"remove it, or write x-security: {{exceptions: {{{key}: why}}}}"
    assert problems(reasoned(key, keys)) == []


def test_every_key_that_can_have_a_reason_can_be_weaker() -> None:
    assert {key for key, _ in WEAK} | {"cap_add", "profile"} == set(get_args(Weaker))


@pytest.mark.parametrize("keys", STRICT)
def test_what_is_as_strict_as_the_default_needs_none(keys: dict[str, Any]) -> None:
    assert problems(keys) == []


@pytest.mark.parametrize("key", get_args(Weaker))
def test_a_reason_for_nothing_is_a_mistake(key: str) -> None:
    assert problems(reasoned(key, {})) == [(f"services.a.x-security.exceptions.{key}", "remove it")]


def test_the_profile_that_looks_into_processes_needs_a_reason() -> None:
    ((path, _),) = problems({"x-security": "debug"})
    assert path == "services.a.x-security"
    said = {"profile": "debug", "exceptions": {"profile": WHY}}
    assert problems({"x-security": said}) == []


def test_capabilities_are_for_root_alone() -> None:
    said = {"cap_add": ["CHOWN"], "x-security": {"exceptions": {"cap_add": WHY}}}
    assert [path for path, _ in problems(said)] == ["services.a.cap_add"]
    as_root = {"user": "0", "x-security": {"exceptions": {"cap_add": WHY, "user": WHY}}}
    assert problems(said | as_root) == []


def test_an_agent_shares_the_reasons_of_its_service_or_has_its_own() -> None:
    socket = {"volumes": ["/run/docker.sock:/sock"]}
    shared = {"x-agents": [FOX | socket], "devices": ["/dev/snd"]}
    reasons = {"exceptions": {"devices": WHY, "volumes": WHY}}
    assert [path for path, _ in problems(shared)] == [
        "services.a.devices",
        "services.a.x-agents[0].volumes",
    ]
    assert problems(shared | {"x-security": reasons}) == []
    own = {"x-agents": [FOX | socket | {"security": "gpu"}], "devices": ["/dev/snd"]}
    assert problems(own) == [
        (
            "services.a.x-agents[0].security",
            "remove it, or write security: {exceptions: {devices: why}}",
        ),
        (
            "services.a.x-agents[0].volumes",
            "remove it, or write security: {exceptions: {volumes: why}}",
        ),
    ]
    both = {"x-agents": [FOX | socket | {"security": reasons}], "devices": ["/dev/snd"]}
    assert problems(both) == []


@pytest.mark.parametrize(
    ("security", "refused"),
    [
        ("strict", ["services.a.x-security"]),
        ({"profile": "unconfined"}, ["services.a.x-security.profile"]),
        ({"exceptions": {"user": " ?!"}}, ["services.a.x-security.exceptions.user"]),
        ({"exceptions": {"user": None}}, ["services.a.x-security.exceptions.user"]),
        (["gpu"], ["services.a.x-security[0]"]),
        # Here nothing of what was meant for the user could not be read.
        ({"reason": "why"}, ["services.a.user", "services.a.x-security.reason"]),
        ({"exceptions": {"root": "why"}}, ["services.a.user", "services.a.x-security.exceptions.root"]),
    ],
)
def test_what_is_no_profile_and_no_reason_is_told_once(
    security: Any, refused: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "a.yaml"
    service = {"image": "a", "networks": ["n"], "user": "root", "x-security": security}
    file.write_text(
        yaml.safe_dump({"name": "a", "services": {"a": service}, "networks": {"n": {"external": True}}})
    )
    found = explain(file)
    told = [line for line in found.lines if line.becomes == "refused"]
    assert sorted(line.path for line in told) == refused
    assert all(line.fix for line in told)
    assert found.problems == ()


def test_every_profile_of_system_calls_has_its_name_here() -> None:
    assert set(get_args(ProfileName)) == set(seccomp.NAMES)
    assert Service(image="a").security.profile == seccomp.DEFAULT


def test_limits_and_log_options_of_a_file_stand_beside_the_default_ones() -> None:
    said = Service.model_validate(
        {"image": "a", "ulimits": {"rtprio": 9, "core": 5}, "logging": {"options": {"max-file": "2"}}}
    )
    assert {name: limit.hard for name, limit in said.ulimits.items()} == {
        "core": 5,
        "nofile": 65536,
        "rtprio": 9,
    }
    assert said.logging.options == {"max-size": "100m", "max-file": "2"}
    other = Service.model_validate({"image": "a", "logging": {"driver": "local"}})
    assert other.logging.options == {}


@pytest.mark.parametrize(
    ("service", "agents", "in_memory"),
    [
        ({}, [FOX], ["/tmp"]),
        ({"tmpfs": "/run"}, [FOX], ["/run", "/tmp"]),
        ({"tmpfs": "/tmp/"}, [FOX], ["/tmp/"]),
        ({"volumes": ["data:/tmp"]}, [FOX], []),
        ({}, [FOX | {"volumes": ["data:/tmp"]}], []),
        ({"read_only": False}, [FOX], []),
    ],
)
def test_tmp_is_in_memory_where_the_root_can_only_be_read(
    alpha: Alpha, service: Any, agents: Any, in_memory: list[str]
) -> None:
    (fox,), fleet = alpha(json.dumps(service), json.dumps(agents))
    mounts = service_spec(fox, fleet)["TaskTemplate"]["ContainerSpec"]["Mounts"]
    assert [mount["Target"] for mount in mounts if mount["Type"] == "tmpfs"] == in_memory


def test_an_agent_may_have_a_profile_of_its_own(alpha: Alpha) -> None:
    agents = [FOX, {"name": "Owl", "port": 1, "health_port": 2, "security": "gpu"}]
    (fox, owl), fleet = alpha('{"x-security": "database", "shm_size": "1G"}', json.dumps(agents))
    for workload, name in ((fox, "database"), (owl, "gpu")):
        options = container_body(workload, fleet)["HostConfig"]["SecurityOpt"]
        assert options[:2] == ["no-new-privileges=true", f"seccomp={seccomp.profile(name)}"]


def owners(fleet: Fleet) -> dict[str, Any]:
    found = desired(fleet, rollout_order(fleet))
    return {item.key.name: item.fields.get("owner") for item in found if item.key.kind == "volume"}


@pytest.mark.parametrize(
    ("user", "owner"),
    [(None, "10001:10001"), ("1000:44", "1000:44"), ("1000", "1000:0"), ("0", "0:0"), ("nobody", None)],
)
def test_a_volume_belongs_to_who_writes_it(alpha: Alpha, user: str | None, owner: str | None) -> None:
    said = {"volumes": ["data:/data", "shared:/read:ro"]} | ({"user": user} if user else {})
    _, fleet = alpha(json.dumps(said))
    assert owners(fleet) == {"alpha_data": owner, "common": None}


def test_two_users_of_one_volume_are_a_mistake(home_fleet: Fleet, group_of: Callable[..., Any]) -> None:
    top = {"networks": {"cascade-internal": {"external": True}}, "volumes": {"data": {"name": "common"}}}
    keys = {"networks": ["cascade-internal"], "volumes": ["data:/d"]}
    first, second = group_of(json.dumps(keys), **top), group_of(json.dumps(keys | {"user": "7:7"}), **top)

    def told(other: Any) -> list[str]:
        fleet = replace(home_fleet, groups={"alpha": first, "beta": other})
        return [str(found) for found in misfits(fleet, Doubts()) if "common" in found.reason]

    (said,) = told(second)
    assert said.startswith("alpha.yaml: services.alpha.volumes: alpha writes common as 7:7, alpha as 10001:")
    assert told(group_of(json.dumps(keys | {"user": "7:7", "volumes": ["data:/d:ro"]}), **top)) == []
    assert told(group_of(json.dumps(keys | {"user": "nobody"}), **top)) == []
    assert told(first) == []


def test_the_groups_of_the_seed_are_weaker_in_one_place_only(home_fleet: Fleet) -> None:
    found = {(name, weak.key) for _, name, service in home_fleet.services for weak in weaknesses("", service)}
    assert found == {("cascade-audio-realtime", "devices")}
    profiles = {name: service.security.profile for _, name, service in home_fleet.services}
    assert {name: profile for name, profile in profiles.items() if profile != seccomp.DEFAULT} == {
        "cascade-ai-engine": "gpu",
        "cascade-audio-realtime": "audio-realtime",
    }
