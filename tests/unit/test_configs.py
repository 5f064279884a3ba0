"""Configs: read with their group file, checked, and named after what they hold."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cascade.model.configs import LARGEST_BYTES
from cascade.model.fleet import Doubts, Fleet, misfits
from cascade.model.loader import examine_group_file, read_group_file
from cascade.model.service import GroupFile
from cascade.model.strict import InvalidFiles
from cascade.model.workload import Workload
from cascade.planning.desired import Desired
from cascade.planning.resource import Key
from cascade.planning.specs import container_body, service_spec
from cascade.planning.target import Target, recorded, target_of

Alpha = Callable[..., tuple[tuple[Workload, ...], Fleet]]
RED = "colour: red"
DIGEST = hashlib.sha256(RED.encode()).hexdigest()
SETTINGS = f"alpha_settings-{DIGEST[:12]}"
OTHER = f"taken-{hashlib.sha256(b'x').hexdigest()[:12]}"
FOLDER = "/var/lib/cascade/configs"


def written(folder: Path, service: dict[str, Any], **top: Any) -> Path:
    """A group file with one service."""
    path = folder / "alpha.yaml"
    document = {"name": "alpha", "services": {"one": {"image": "a", **service}}, **top}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def group(folder: Path, service: dict[str, Any], **top: Any) -> GroupFile:
    return read_group_file(written(folder, service, **top))


def problems(folder: Path, service: dict[str, Any], **top: Any) -> dict[str, tuple[str, str]]:
    found = examine_group_file(written(folder, service, **top)).problems
    assert all(problem.reason and problem.fix for problem in found)
    return {problem.path: (problem.reason, problem.fix) for problem in found}


def test_a_config_has_what_stands_in_the_file_beside_its_group_file(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "app.bin").write_bytes(b"\x00\xff\n")
    found = group(tmp_path, {}, configs={"app": {"file": "./more/app.bin"}}).swarm_configs["app"]
    assert found.data == b"\x00\xff\n"
    assert found.name == f"alpha_app-{hashlib.sha256(found.data).hexdigest()[:12]}"


def test_a_config_has_the_content_that_is_written_in_the_group_file(tmp_path: Path) -> None:
    configs = {"app": {"content": "price: 5 $$\n"}, "own": {"content": RED, "name": "shared.conf"}}
    found = group(tmp_path, {}, configs=configs).swarm_configs
    assert found["app"].data == b"price: 5 $\n"
    assert found["own"].name == f"shared.conf-{DIGEST[:12]}"


def test_another_content_is_another_config(tmp_path: Path) -> None:
    names = {
        group(tmp_path, {}, configs={"app": {"content": text}}).swarm_configs["app"].name
        for text in ("a", "b", "a")
    }
    assert len(names) == 2


@pytest.mark.parametrize(
    ("config", "path", "reason", "fix"),
    [
        ({}, "configs.app.file", "is missing", "add file: with a path"),
        ({"file": "none.conf"}, "configs.app.file", "'none.conf' cannot be read: no such file", "put"),
        ({"file": "."}, "configs.app.file", "'.' cannot be read: not a plain file", "put"),
        ({"file": "x" * 300}, "configs.app.file", "cannot be read: File name too long", "put"),
        ({"file": 5}, "configs.app.file", "5 is no path of a file", "write one like ./app.conf"),
        ({"file": None}, "configs.app.file", "nothing is no path of a file", "write one like ./app.conf"),
        ({"file": "empty"}, "configs.app.file", "'empty' is empty", "write something in it"),
        ({"file": "huge"}, "configs.app.file", "'huge' has 1000000 bytes", "write at most 999999 into it"),
        ({"content": ""}, "configs.app.content", "it is empty", "write something in it"),
        ({"content": "cost: $PRICE"}, "configs.app.content", "a $ in it names a variable", "write the value"),
        ({"content": 5}, "configs.app.content", "5 is no text", "write it in quotes"),
        (
            {"content": "a", "file": "full"},
            "configs.app.content",
            "stands beside file",
            "give one of the two",
        ),
        (
            {"content": "a", "name": "a b"},
            "configs.app.name",
            "'a b' is no name",
            "write one like",
        ),
        (
            {"content": "a", "name": "n" * 52},
            "configs.app.name",
            "is too long",
            "write name: with",
        ),
        ({"environment": "APP"}, "configs.app.environment", "environment is not passed on", "write content:"),
        ({"external": True}, "configs.app.external", "a config comes from the files", "write file:"),
        ({"content": "a", "template_driver": "golang"}, "configs.app.template_driver", "what a", "write the"),
        ({"content": "a", "labels": {"a": "b"}}, "configs.app.labels", "Cascade's labels only", "remove it"),
        (None, "configs.app", "nothing is no map", "write one like"),
    ],
)
def test_what_no_config_can_be_made_of_is_told_in_its_place(
    config: Any, path: str, reason: str, fix: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "full").write_text("a")
    (tmp_path / "huge").write_bytes(b"a" * (LARGEST_BYTES + 1))
    found = problems(tmp_path, {"configs": ["app"]}, configs={"app": config})
    assert path in found
    assert reason in found[path][0]
    assert found[path][1].startswith(fix)
    assert set(found) == {path}


def test_a_file_that_nobody_may_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").write_text("a")

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    written(tmp_path, {}, configs={"app": {"file": "closed"}})
    is_file = os.stat
    monkeypatch.setattr(Path, "stat", lambda path, **_: refuse() if path.name == "closed" else is_file(path))
    (problem,) = examine_group_file(tmp_path / "alpha.yaml").problems
    assert problem.reason == "'closed' cannot be read: Permission denied"


def test_the_largest_content_that_fits_is_taken(tmp_path: Path) -> None:
    (tmp_path / "full").write_bytes(b"a" * LARGEST_BYTES)
    configs = {"one": {"file": "full"}, "two": {"content": "a" * 300_000}}
    found = group(tmp_path, {}, configs=configs).swarm_configs
    assert len(found["one"].data) == LARGEST_BYTES
    assert len(found["two"].data) == 300_000


def test_the_longest_name_that_fits_is_taken(tmp_path: Path) -> None:
    found = group(tmp_path, {}, configs={"a": {"content": "a", "name": "n" * 51}}).swarm_configs["a"]
    assert len(found.name) == 64


USES: tuple[tuple[Any, str, str], ...] = (
    (["gone"], "services.one.configs", "gone is not declared under configs:"),
    (["app", "app"], "services.one.configs", "more than one thing is mounted on /app"),
    (
        [{"source": "app", "target": "/x"}, {"source": "b", "target": "/x/"}],
        "services.one.configs",
        "more than one thing is mounted on /x",
    ),
    (
        [{"source": "app", "target": "/data"}],
        "services.one.configs",
        "one thing is mounted on /data",
    ),
    ([{"source": "app", "target": "/run"}], "services.one.configs", "more than one thing is mounted on /run"),
    (
        ["app", {"source": "app", "target": "/x", "mode": "0400"}],
        "services.one.configs",
        "app stands twice with different owners or modes",
    ),
    (
        [{"source": "app", "target": "/srv"}],
        "services.one.configs",
        "/srv is a file, and /srv/deep is mounted below it",
    ),
    ([{"source": "app", "target": "x"}], "services.one.configs[0].target", "'x' is no absolute path"),
    ([{"source": "app", "target": "/"}], "services.one.configs[0].target", "nothing can be mounted on /"),
    ([{"source": "app", "mode": "abc"}], "services.one.configs[0].mode", "'abc' is no octal number"),
    (
        [{"source": "app", "mode": 0o1777}],
        "services.one.configs[0].mode",
        "01777 is more than",
    ),
    ([{"source": "app", "mode": 440}], "services.one.configs[0].mode", "440 without a 0 in front is 0670"),
    ([{"source": "app", "uid": "me"}], "services.one.configs[0].uid", "'me' is no number of a user"),
    ([{"source": "app", "gid": -1}], "services.one.configs[0].gid", "'-1' is no number of a user"),
    ([{"source": "app", "gid": 2**32 - 1}], "services.one.configs[0].gid", "is no number of a user"),
    ([{"source": "app", "uid": "9" * 5000}], "services.one.configs[0].uid", "is no number of a user"),
    ([{"target": "/x"}], "services.one.configs[0].source", "is missing"),
    ([5], "services.one.configs[0]", "5 is no map"),
    ([{"source": "app", "driver": "x"}], "services.one.configs[0].driver", "not a key of Compose"),
)


@pytest.mark.parametrize(("uses", "path", "reason"), USES, ids=lambda value: str(value)[:40])
def test_a_use_that_cannot_be_is_told_in_its_place(uses: Any, path: str, reason: str, tmp_path: Path) -> None:
    service = {"configs": uses, "volumes": ["data:/data", "/srv:/srv/deep"], "tmpfs": ["/run"]}
    configs = {"app": {"content": "a"}, "b": {"content": "b"}}
    found = problems(tmp_path, service, configs=configs, volumes={"data": None})
    assert set(found) == {path}
    assert reason in found[path][0]


def test_an_agents_own_mount_is_no_place_for_a_config_of_its_group(tmp_path: Path) -> None:
    agent = {"name": "Fox", "port": 1, "health_port": 2, "volumes": ["/srv:/own"]}
    service = {"x-agents": [agent], "configs": [{"source": "app", "target": "/own"}]}
    path = tmp_path / "one.yaml"
    document = {
        "name": "one",
        "services": {"one": {"image": "a", **service}},
        "configs": {"app": {"content": "a"}},
    }
    path.write_text(yaml.safe_dump(document))
    (problem,) = examine_group_file(path).problems
    assert (problem.path, problem.reason) == (
        "services.one.configs",
        "more than one thing is mounted on /own",
    )


@pytest.mark.parametrize(
    ("written_as", "mode"), [(None, 0o444), (0o440, 0o440), ("0400", 0o400), ("0o777", 0o777), (0, 0)]
)
def test_a_mode_is_read_as_compose_reads_it(written_as: Any, mode: int, tmp_path: Path) -> None:
    use = {"source": "app"} | ({} if written_as is None else {"mode": written_as})
    (found,) = group(tmp_path, {"configs": [use]}, configs={"app": {"content": "a"}}).services["one"].configs
    assert (found.mode, found.path, found.uid, found.gid) == (mode, "/app", "0", "0")


def of_target(target: Target, kind: str) -> list[Desired]:
    return [item for item in target.resources if item.stage == "configs" and item.key.kind == kind]


USED = "configs: [settings, {source: other, target: /etc/fox.conf, uid: '07', gid: 8, mode: 0440}]"


def test_every_agent_of_a_service_reads_its_configs(alpha: Alpha) -> None:
    workloads, fleet = alpha(f"{{{USED}}}", "[{name: Fox}, {name: Owl}]")
    assert len(workloads) == 2
    for workload in workloads:
        container = service_spec(workload, fleet)["TaskTemplate"]["ContainerSpec"]
        assert container["Configs"] == [
            {"File": {"Name": "/settings", "UID": "0", "GID": "0", "Mode": 0o444}, "ConfigName": SETTINGS},
            {"File": {"Name": "/etc/fox.conf", "UID": "7", "GID": "8", "Mode": 0o440}, "ConfigName": OTHER},
        ]


def test_a_service_that_reads_no_config_is_posted_as_before(alpha: Alpha) -> None:
    (fox,), fleet = alpha("{}")
    assert "Configs" not in service_spec(fox, fleet)["TaskTemplate"]["ContainerSpec"]
    assert of_target(target_of(fleet), "config") == []


def test_a_host_container_reads_its_configs_from_files_of_its_host(alpha: Alpha) -> None:
    (fox,), fleet = alpha(f"{{devices: [/dev/snd], volumes: ['data:/data'], {USED}}}")
    mounts = container_body(fox, fleet)["HostConfig"]["Mounts"]
    assert [mount["Target"] for mount in mounts] == ["/data", "/tmp", "/settings", "/etc/fox.conf"]
    assert mounts[2:] == [
        {
            "Type": "bind",
            "Source": f"{FOLDER}/{SETTINGS}",
            "Target": "/settings",
            "ReadOnly": True,
        },
        {
            "Type": "bind",
            "Source": f"{FOLDER}/{OTHER}.440.7.8",
            "Target": "/etc/fox.conf",
            "ReadOnly": True,
        },
    ]


def test_a_config_is_made_once_in_the_swarm_whoever_reads_it(alpha: Alpha) -> None:
    _, fleet = alpha("{configs: [settings]}", "[{name: Fox}, {name: Owl}]")
    (item,) = of_target(target_of(fleet), "config")
    assert item.key == Key(fleet.manager.name, "config", SETTINGS)
    assert item.fields == {
        "labels": {"cascade.system": "cascade", "cascade.group": "alpha", "cascade.config": "settings"},
        "sha256": DIGEST,
        "data": base64.b64encode(RED.encode()).decode(),
    }
    assert of_target(target_of(fleet), "file") == []


def test_what_a_host_container_reads_is_in_the_swarm_and_a_file_of_its_host(alpha: Alpha) -> None:
    (fox,), fleet = alpha(f"{{devices: [/dev/snd], {USED}}}")
    target = target_of(fleet)
    assert [item.key.name for item in of_target(target, "config")] == [SETTINGS, OTHER]
    (host,) = fleet.eligible(fox)
    files = {item.key: item.fields for item in of_target(target, "file")}
    assert {key: (fields["mode"], fields["owner"], fields["group"]) for key, fields in files.items()} == {
        Key(host.name, "file", f"{FOLDER}/{SETTINGS}"): ("444", "0", "0"),
        Key(host.name, "file", f"{FOLDER}/{OTHER}.440.7.8"): ("440", "7", "8"),
    }
    assert [fields["config"] for fields in files.values()] == [SETTINGS, OTHER]


def test_configs_come_before_what_reads_them_and_the_swarms_before_files(alpha: Alpha) -> None:
    _, fleet = alpha(f"{{devices: [/dev/snd], {USED}}}")
    order = [(item.stage, item.key.kind) for item in target_of(fleet).resources]
    configs = [place for place in order if place[0] == "configs"]
    assert configs == [("configs", "config")] * 2 + [("configs", "file")] * 2
    assert order.index(configs[0]) < order.index(("rollout", "container"))


def test_a_config_that_nobody_reads_is_not_made(alpha: Alpha) -> None:
    _, fleet = alpha("{configs: [settings]}")
    assert [item.key.name for item in of_target(target_of(fleet), "config")] == [SETTINGS]


def test_a_release_has_the_digest_of_a_config_and_not_what_it_holds(alpha: Alpha) -> None:
    _, fleet = alpha("{configs: [settings]}")
    (item,) = of_target(target_of(fleet), "config")
    assert recorded(item.fields).keys() == {"labels", "sha256"}


def test_the_files_name_the_configs_of_groups_that_are_not_to_run(alpha: Alpha) -> None:
    _, fleet = alpha(f"{{devices: [/dev/snd], {USED}}}")
    stopped = {name: found.model_copy(update={"enabled": False}) for name, found in fleet.groups.items()}
    target = target_of(Fleet(fleet.settings, fleet.hosts, stopped))
    assert of_target(target, "config") == []
    assert Key(fleet.manager.name, "config", SETTINGS) in target.known
    assert {key.name for key in target.known if key.kind == "file"} == {
        f"{FOLDER}/{SETTINGS}",
        f"{FOLDER}/{OTHER}.440.7.8",
    }


def test_containers_that_read_one_config_differently_have_a_file_each(
    home_fleet: Fleet, tmp_path: Path
) -> None:
    services = {
        name: {
            "image": "cascade/core",
            "devices": ["/dev/snd"],
            "networks": ["cascade-internal"],
            "configs": [{"source": "app", "mode": mode}],
            "deploy": {"placement": {"constraints": ["node.role == manager"]}},
        }
        for name, mode in (("one", 0o444), ("two", 0o400), ("three", 0o400))
    }
    path = tmp_path / "shop.yaml"
    networks = {"cascade-internal": {"external": True}}
    configs = {"app": {"content": "a"}}
    path.write_text(
        yaml.safe_dump({"name": "shop", "services": services, "networks": networks, "configs": configs})
    )
    settings = home_fleet.settings.model_copy(update={"phases": (("shop",),)})
    fleet = Fleet(settings, home_fleet.hosts, {"shop": read_group_file(path)})
    name = fleet.groups["shop"].swarm_configs["app"].name
    assert [item.key.name for item in of_target(target_of(fleet), "file")] == [
        f"{FOLDER}/{name}",
        f"{FOLDER}/{name}.400.0.0",
    ]


def test_a_mistake_in_a_config_hides_no_other_and_makes_none(tmp_path: Path) -> None:
    configs = {"app": {"file": "none"}, "b": {"content": ""}, "a b": {"content": "x"}}
    found = problems(tmp_path, {"configs": ["app", "b", "gone"], "privileged": True}, configs=configs)
    assert set(found) == {
        "configs.app.file",
        "configs.b.content",
        "configs['a b']",
        "services.one.configs",
        "services.one.privileged",
    }
    assert found["services.one.configs"][0].startswith("gone ")


def test_a_group_file_that_is_no_file_finds_nothing_beside_it() -> None:
    with pytest.raises(InvalidFiles, match="no such file"):
        read_group_of_nowhere()


def read_group_of_nowhere() -> None:
    from cascade.model.loader import group_of

    group_of({"name": "a", "services": {}, "configs": {"a": {"file": "no-such"}}}, "/nowhere/a.yaml")


@pytest.mark.parametrize(
    ("name", "configs", "path"),
    [
        ("b", {"x": {"content": "b", "name": "a_one"}}, "configs.x"),
        ("a_b", {"One": {"content": "b", "name": "A_ONE"}}, "configs.One"),
        ("b", {"x": {"content": "b"}, "y": {"content": "c", "name": "b_x"}}, "configs.y"),
    ],
)
def test_a_name_in_the_swarm_is_one_configs(
    name: str, configs: Any, path: str, home_fleet: Fleet, tmp_path: Path
) -> None:
    groups = {}
    for group_name, own in (("a", {"one": {"content": "a"}}), (name, configs)):
        file = tmp_path / f"{group_name}.yaml"
        services = {f"{group_name}-web": {"image": "cascade/core", "networks": ["cascade-internal"]}}
        networks = {"cascade-internal": {"external": True}}
        file.write_text(
            yaml.safe_dump({"name": group_name, "services": services, "networks": networks, "configs": own})
        )
        groups[group_name] = read_group_file(file)
    settings = home_fleet.settings.model_copy(update={"phases": (tuple(groups),)})
    fleet = Fleet(settings, home_fleet.hosts, groups)
    (problem,) = misfits(fleet, Doubts(frozenset(), {}))
    assert problem.path == path
    assert "in the Swarm too" in problem.reason
