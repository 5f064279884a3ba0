"""Secrets: named in group files, checked there, delivered under names that say nothing of their values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cascade.model.fleet import Doubts, Fleet, misfits
from cascade.model.loader import examine_group_file, read_group_file
from cascade.model.secrets import Generate, Secret, longest_name
from cascade.model.service import GroupFile
from cascade.model.workload import Workload
from cascade.planning.desired import UNSEALING_FILES, UNSEALING_UNIT
from cascade.planning.resource import Key
from cascade.planning.specs import container_body, service_spec
from cascade.planning.target import target_of

Alpha = Callable[..., tuple[tuple[Workload, ...], Fleet]]
DECLARED = {"app": {"external": True}, "b": {"external": True}, "same": {"external": True, "name": "app"}}
AGENT = {"name": "Fox", "port": 1, "health_port": 2}


def written(folder: Path, service: dict[str, Any], **top: Any) -> Path:
    """A group file with one service."""
    path = folder / "alpha.yaml"
    document = {"name": "alpha", "services": {"alpha": {"image": "a", **service}}, **top}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def group(folder: Path, service: dict[str, Any], **top: Any) -> GroupFile:
    return read_group_file(written(folder, service, **top))


def problems(folder: Path, service: dict[str, Any], **top: Any) -> dict[str, str]:
    found = examine_group_file(written(folder, service, **top)).problems
    assert all(problem.reason and problem.fix for problem in found)
    return {problem.path: problem.reason for problem in found}


def test_a_group_file_names_values_of_the_store_and_how_they_are_made(tmp_path: Path) -> None:
    secrets = {
        "app": {"external": True},
        "b": {"external": True, "name": "other"},
        "made": {"x-generate": {"bytes": 16, "encoding": "base64url"}},
        "usual": {"x-generate": {}, "name": "key"},
    }
    assert group(tmp_path, {}, secrets=secrets).stored_secrets == {
        "app": Secret("app"),
        "b": Secret("other"),
        "made": Secret("made", Generate(bytes=16, encoding="base64url")),
        "usual": Secret("key", Generate(bytes=32, encoding="hex")),
    }


@pytest.mark.parametrize(
    ("secret", "path", "reason"),
    [
        ({}, "secrets.app.external", "is missing"),
        (None, "secrets.app", "nothing is no map"),
        ({"external": False}, "secrets.app.external", "false is not known here"),
        ({"external": True, "x-generate": {}}, "secrets.app.x-generate", "stands beside external"),
        ({"x-generate": {"bytes": 8}}, "secrets.app.x-generate.bytes", "8"),
        ({"x-generate": {"bytes": 5000}}, "secrets.app.x-generate.bytes", "5000"),
        ({"x-generate": {"encoding": "rot13"}}, "secrets.app.x-generate.encoding", "rot13"),
        ({"x-generate": {"length": 8}}, "secrets.app.x-generate.length", "not a key"),
        ({"file": "./app"}, "secrets.app.file", "would lie open"),
        ({"environment": "APP"}, "secrets.app.environment", "environment is not passed on"),
        ({"external": True, "name": "../app"}, "secrets.app.name", "is no name of a secret"),
        ({"external": True, "name": "cascade-name-key"}, "secrets.app.name", "the store's own key"),
        ({"external": True, "labels": {"a": "b"}}, "secrets.app.labels", "Cascade's labels only"),
        ({"external": True, "driver": "vault"}, "secrets.app.driver", "the Swarm itself keeps"),
    ],
)
def test_what_no_secret_can_be_made_of_is_told_in_its_place(
    secret: Any, path: str, reason: str, tmp_path: Path
) -> None:
    found = problems(tmp_path, {"secrets": ["app"]}, secrets={"app": secret})
    assert set(found) == {path}
    assert reason in found[path]


@pytest.mark.parametrize(
    ("uses", "path", "reason"),
    [
        (["gone"], "alpha.secrets", "gone is not declared under secrets:"),
        (["app", "app"], "alpha.secrets", "more than one thing is mounted on /run/secrets/app"),
        (
            ["app", {"source": "b", "target": "app"}],
            "alpha.secrets",
            "more than one thing is mounted on /run/secrets/app",
        ),
        (
            [{"source": "app", "target": "/run/secrets/../secrets/x"}, {"source": "b", "target": "x"}],
            "alpha.secrets",
            "more than one thing is mounted on /run/secrets/x",
        ),
        ([{"source": "app", "target": "/data"}], "alpha.secrets", "more than one thing is mounted on /data"),
        ([{"source": "app", "target": "/conf"}], "alpha.secrets", "more than one thing is mounted on /conf"),
        (
            [{"source": "app", "target": "/srv"}],
            "alpha.secrets",
            "/srv is a file, and /srv/deep is mounted below it",
        ),
        (
            ["app", {"source": "same", "target": "x", "mode": "0400"}],
            "alpha.secrets",
            "app stands twice with different owners or modes",
        ),
        ([{"source": "app", "target": "../app"}], "alpha.secrets[0].target", "is no file below /run/secrets"),
        ([{"source": "app", "target": "."}], "alpha.secrets[0].target", "is no file below /run/secrets"),
        ([{"source": "app", "target": ""}], "alpha.secrets[0].target", "is no file below /run/secrets"),
        ([{"source": "app", "target": "/"}], "alpha.secrets[0].target", "nothing can be mounted on /"),
        ([{"source": "app", "target": "{{x}}"}], "alpha.secrets[0].target", "Swarm would expand {{"),
        ([{"source": "app", "mode": 0o4755}], "alpha.secrets[0].mode", "04755 is more than"),
        ([{"source": "app", "uid": "me"}], "alpha.secrets[0].uid", "'me' is no number of a user"),
        ([{"target": "x"}], "alpha.secrets[0].source", "is missing"),
    ],
)
def test_a_use_that_cannot_be_is_told_in_its_place(uses: Any, path: str, reason: str, tmp_path: Path) -> None:
    service = {
        "secrets": uses,
        "configs": [{"source": "conf", "target": "/conf"}],
        "volumes": ["data:/data", "/srv:/srv/deep"],
    }
    top = {"secrets": DECLARED, "volumes": {"data": None}, "configs": {"conf": {"content": "a"}}}
    found = problems(tmp_path, service, **top)
    assert set(found) == {f"services.{path}"}
    assert reason in found[f"services.{path}"]


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (["gone"], "gone is not declared under secrets:"),
        (["app"], "more than one thing is mounted on /run/secrets/app"),
        ([{"source": "b", "target": "/own"}], "more than one thing is mounted on /own"),
        ([{"source": "same", "target": "x", "mode": 0}], "app stands twice with different owners or modes"),
    ],
)
def test_an_agents_own_secrets_are_checked_beside_what_it_inherits(
    own: Any, reason: str, tmp_path: Path
) -> None:
    agent = AGENT | {"volumes": ["/srv:/own"], "secrets": own}
    found = problems(tmp_path, {"secrets": ["app"], "x-agents": [agent]}, secrets=DECLARED)
    assert set(found) == {"services.alpha.x-agents[0].secrets"}
    assert reason in found["services.alpha.x-agents[0].secrets"]


def test_an_agent_has_its_services_secrets_and_its_own(workloads: Any) -> None:
    agents = "[{name: Fox, secrets: [{source: b, target: /etc/b}]}, {name: Owl}]"
    found = workloads("{secrets: [{source: same, mode: 0400}]}", agents, secrets=DECLARED)
    said = {
        name: [(secret.name, use.path, use.mode) for secret, use in workload.secret_files]
        for name, workload in found.items()
    }
    same = ("app", "/run/secrets/same", 0o400)
    assert said == {"Fox": [same, ("b", "/etc/b", 0o444)], "Owl": [same]}


@pytest.mark.parametrize(
    ("environment", "delivered"),
    [
        ({"APP_FILE": "/run/secrets/app"}, True),
        ({"APP_FILE": "/run/secrets/./app"}, True),
        ({"APP_FILE": "/run/secrets/b"}, False),
        ({"APP_FILE": "/run/secrets/app.txt"}, False),
        ({"APP_FILE": "/run/secrets/deep/file"}, True),
        ({"APP_FILE": "/run/secrets/conf"}, True),
        ({"APP_FILE": "/etc/b"}, True),
        ({"APP_FILE": "/run/secrets"}, True),
        ({"APP": "/run/secrets/b"}, True),
    ],
)
def test_a_variable_names_a_secret_that_is_delivered(
    environment: dict[str, str], delivered: bool, tmp_path: Path
) -> None:
    service = {
        "environment": environment,
        "secrets": ["app"],
        "volumes": ["/srv:/run/secrets/deep"],
        "configs": [{"source": "conf", "target": "/run/secrets/conf"}],
    }
    found = problems(tmp_path, service, secrets=DECLARED, configs={"conf": {"content": "a"}})
    assert set(found) == (set() if delivered else {"services.alpha.environment"})


def test_every_agent_that_gets_a_variable_gets_its_secret(tmp_path: Path) -> None:
    service = {"environment": {"APP_FILE": "/run/secrets/app"}}
    agents = [AGENT | {"secrets": ["app"]}, {"name": "Owl", "port": 3, "health_port": 4}]
    assert problems(tmp_path, service | {"x-agents": agents[:1]}, secrets=DECLARED) == {}
    assert set(problems(tmp_path, service | {"x-agents": agents}, secrets=DECLARED)) == {
        "services.alpha.environment"
    }
    own = [AGENT | {"environment": {"B_FILE": "/run/secrets/b"}}]
    assert set(problems(tmp_path, {"x-agents": own}, secrets=DECLARED)) == {
        "services.alpha.x-agents[0].environment"
    }


def test_a_secret_that_could_not_be_read_leaves_its_variable_alone(tmp_path: Path) -> None:
    service = {"environment": {"APP_FILE": "/run/secrets/app"}, "secrets": [{"source": "app", "mode": "x"}]}
    assert set(problems(tmp_path, service, secrets=DECLARED)) == {"services.alpha.secrets[0].mode"}


def shop(home_fleet: Fleet, folder: Path, *declared: dict[str, Any]) -> Fleet:
    """A fleet of groups a, b, …, each with these secrets."""
    groups = {}
    for name, secrets in zip("ab", declared, strict=False):
        file = folder / f"{name}.yaml"
        services = {f"{name}-web": {"image": "cascade/core", "networks": ["cascade-internal"]}}
        networks = {"cascade-internal": {"external": True}}
        file.write_text(
            yaml.safe_dump({"name": name, "services": services, "networks": networks, "secrets": secrets})
        )
        groups[name] = read_group_file(file)
    settings = home_fleet.settings.model_copy(update={"phases": (tuple(groups),)})
    return Fleet(settings, home_fleet.hosts, groups)


@pytest.mark.parametrize(
    ("one", "other", "path", "reason"),
    [
        ({"x": {"external": True}}, {"X": {"external": True}}, "secrets.X", "has the name x in the Swarm"),
        (
            {"x": {"x-generate": {}}},
            {"x": {"x-generate": {"bytes": 16}}},
            "secrets.x.x-generate",
            "generates x in another way",
        ),
        (
            {"x": {"external": True}},
            {"y": {"external": True, "name": "n" * 44}},
            "secrets.y.name",
            "is too long for a name in the Swarm",
        ),
    ],
)
def test_what_groups_say_of_one_store_fits_together(
    one: Any, other: Any, path: str, reason: str, home_fleet: Fleet, tmp_path: Path
) -> None:
    (problem,) = misfits(shop(home_fleet, tmp_path, one, other), Doubts())
    assert problem.path == path
    assert reason in problem.reason


def test_groups_share_a_value_and_one_of_them_says_how_it_is_made(home_fleet: Fleet, tmp_path: Path) -> None:
    longest = "n" * longest_name(home_fleet.settings.system)
    one = {"x": {"external": True}, "y": {"x-generate": {}}}
    other = {"x": {"x-generate": {}}, "long": {"external": True, "name": longest}}
    fleet = shop(home_fleet, tmp_path, one, other)
    assert list(misfits(fleet, Doubts())) == []
    assert {name: secret.generate is not None for name, secret in fleet.secrets.items()} == {
        "x": True,
        "y": True,
        longest: False,
    }
    assert len(fleet.swarm_secret(longest)) == 64


USED = "secrets: [password, {source: token, target: fox/token, uid: '07', gid: 8, mode: 0440}]"
DIGITS = {"password": "0123456789ab", "key": "fedcba987654"}


def test_every_agent_of_a_service_reads_its_secrets(alpha: Alpha) -> None:
    workloads, fleet = alpha(f"{{{USED}}}", "[{name: Fox}, {name: Owl}]")
    assert len(workloads) == 2
    for workload in workloads:
        container = service_spec(workload, replace(fleet, digits=DIGITS))["TaskTemplate"]["ContainerSpec"]
        assert container["Secrets"] == [
            {
                "File": {"Name": "/run/secrets/password", "UID": "0", "GID": "0", "Mode": 0o444},
                "SecretName": "cascade_password-0123456789ab",
            },
            {
                "File": {"Name": "/run/secrets/fox/token", "UID": "7", "GID": "8", "Mode": 0o440},
                "SecretName": "cascade_key-fedcba987654",
            },
        ]


def test_another_value_is_another_spec_and_a_closed_one_has_no_digits(alpha: Alpha) -> None:
    (fox,), fleet = alpha(f"{{{USED}}}")
    digests = {
        service_spec(fox, replace(fleet, digits=digits))["Labels"]["cascade.digest"]
        for digits in (DIGITS, DIGITS | {"key": "0" * 12}, DIGITS)
    }
    assert len(digests) == 2
    closed = service_spec(fox, fleet)["TaskTemplate"]["ContainerSpec"]["Secrets"]
    assert [item["SecretName"] for item in closed] == [
        "cascade_password-************",
        "cascade_key-" + "*" * 12,
    ]


def test_a_service_that_reads_no_secret_is_posted_as_before(alpha: Alpha) -> None:
    (fox,), fleet = alpha("{}")
    assert "Secrets" not in service_spec(fox, fleet)["TaskTemplate"]["ContainerSpec"]


def test_a_host_container_reads_its_secrets_from_memory_of_its_host(alpha: Alpha) -> None:
    (fox,), fleet = alpha(f"{{devices: [/dev/snd], volumes: ['data:/data'], {USED}}}")
    mounts = container_body(fox, replace(fleet, digits=DIGITS))["HostConfig"]["Mounts"]
    assert [mount["Target"] for mount in mounts] == [
        "/data",
        "/tmp",
        "/run/secrets/password",
        "/run/secrets/fox/token",
    ]
    folder = "/run/cascade/secrets/alpha_fox"
    assert [(mount["Source"], mount["ReadOnly"]) for mount in mounts[2:]] == [
        (f"{folder}/cascade_password-0123456789ab", True),
        (f"{folder}/cascade_key-fedcba987654", True),
    ]


def stage(fleet: Fleet) -> list[tuple[str, str]]:
    return [(item.key.kind, item.key.name) for item in target_of(fleet).resources if item.stage == "secrets"]


def test_a_secret_is_made_once_in_the_swarm_whoever_reads_it(alpha: Alpha) -> None:
    _, fleet = alpha(f"{{{USED}}}", "[{name: Fox}, {name: Owl}]")
    assert stage(replace(fleet, digits=DIGITS)) == [
        ("secret", "cascade_key-fedcba987654"),
        ("secret", "cascade_password-0123456789ab"),
    ]


def test_what_a_host_container_reads_is_on_its_host_alone(alpha: Alpha) -> None:
    _, fleet = alpha(f"{{devices: [/dev/snd], {USED}}}")
    fleet = replace(fleet, digits=DIGITS)
    assert stage(fleet) == [
        *(("file", path) for path in UNSEALING_FILES),
        ("unit", UNSEALING_UNIT),
        ("secret-file", "alpha_fox/cascade_key-fedcba987654"),
        ("secret-file", "alpha_fox/cascade_password-0123456789ab"),
    ]
    fields = target_of(fleet).wanted[Key("mainpc", "secret-file", "alpha_fox/cascade_key-fedcba987654")]
    assert fields == {
        "in_place": True,
        "sealed": True,
        "mode": "440",
        "owner": "7",
        "group": "8",
        "stored": "key",
    }


def test_without_its_value_open_nothing_says_that_it_is_at_hand(alpha: Alpha) -> None:
    _, fleet = alpha(f"{{{USED}}}")
    found = {key: fields for key, fields in target_of(fleet).wanted.items() if key.kind == "secret"}
    assert len(found) == 2
    assert not any("stored" in fields for fields in found.values())


def test_the_files_name_the_secrets_of_groups_that_are_not_to_run(alpha: Alpha) -> None:
    _, fleet = alpha(f"{{devices: [/dev/snd], {USED}}}")
    stopped = {name: found.model_copy(update={"enabled": False}) for name, found in fleet.groups.items()}
    fleet = Fleet(fleet.settings, fleet.hosts, stopped, digits=DIGITS)
    assert stage(fleet) == []
    assert {key.name for key in target_of(fleet).known if key.kind == "secret-file"} == {
        "alpha_fox/cascade_key-fedcba987654",
        "alpha_fox/cascade_password-0123456789ab",
    }
