"""Compose files in the shapes that people have: each renders or is refused key by key; nothing is dropped."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cascade.model.strict import path_of
from cascade.planning.rendering import Explanation, explain
from cascade.planning.specs import service_spec

FOLDER = Path(__file__).with_name("compose")


def outcomes() -> dict[str, set[str]]:
    """The refused paths of each file."""
    found: dict[str, set[str]] = {}
    name = ""
    for line in (FOLDER / "outcomes.txt").read_text().splitlines():
        if line.startswith(" "):
            found[name].add(line.strip())
        elif not line.startswith("#"):
            name = line
            found[name] = set()
    return found


OUTCOMES = outcomes()
SHAPES = sorted(OUTCOMES)
RENDERED = sorted(name for name, refused in OUTCOMES.items() if not refused)


def shape(name: str) -> Explanation:
    return explain(FOLDER / name)


def refused_paths(found: Explanation) -> set[str]:
    lines = {line.path for line in found.lines if line.becomes == "refused"}
    return lines | {problem.path for problem in found.problems}


def said(value: Any, place: tuple[int | str, ...] = ()) -> Iterator[tuple[int | str, ...]]:
    """Where a document says something, as a YAML reader that is not Cascade's finds it."""
    if value and isinstance(value, dict):
        for key, item in value.items():
            yield from said(item, (*place, str(key)))
    elif value and isinstance(value, list):
        for number, item in enumerate(value):
            yield from said(item, (*place, number))
    else:
        yield place


def written(node: yaml.Node) -> Iterator[int]:
    """The lines on which values stand, whether anything refers to them or not."""
    if node.value and isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield from written(value)
    elif node.value and isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from written(value)
    else:
        yield node.start_mark.line + 1


def test_every_file_of_the_folder_has_an_outcome() -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} == set(SHAPES)
    assert len(SHAPES) >= 18


@pytest.mark.parametrize("name", SHAPES)
def test_exactly_what_cannot_be_honoured_is_refused(name: str) -> None:
    found = shape(name)
    assert refused_paths(found) == OUTCOMES[name]
    assert found.refused is bool(OUTCOMES[name])


@pytest.mark.parametrize("name", SHAPES)
def test_every_refusal_says_why_and_what_to_write(name: str) -> None:
    found = shape(name)
    for line in found.lines:
        if line.becomes == "refused":
            assert line.text, line
            assert line.fix, line
    assert all(problem.reason and problem.fix for problem in found.problems)


@pytest.mark.parametrize("name", SHAPES)
def test_nothing_that_a_file_says_is_left_out_of_the_report(name: str) -> None:
    text = (FOLDER / name).read_text()
    found = shape(name)
    assert sorted(line.path for line in found.lines) == sorted(map(path_of, said(yaml.safe_load(text))))
    node = yaml.compose(text)
    assert node
    assert set(written(node)) == {line.line for line in found.lines}


def test_each_value_has_its_own_line_also_when_it_was_merged(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(
        "x-one: &one\n  restart: always\n  user: a\nx-two: &two {user: b, tty: true}\nservices:\n  web:\n"
        "    <<: [*one, *two]\n    image: i\n    networks: [n]\n    tty: false\n"
        "networks:\n  n: {external: true}\nvolumes: {}\n"
    )
    assert [(line.line, line.path) for line in explain(path).lines if not line.path.startswith("x-")] == [
        (2, "services.web.restart"),
        (3, "services.web.user"),
        (8, "services.web.image"),
        (9, "services.web.networks[0]"),
        (10, "services.web.tty"),
        (12, "networks.n.external"),
        (13, "volumes"),
    ]


@pytest.mark.parametrize("name", RENDERED)
def test_what_is_honoured_becomes_specs_that_can_be_posted(name: str) -> None:
    found = shape(name)
    services = yaml.safe_load((FOLDER / name).read_text())["services"]
    assert [item["name"] for item in found.workloads] == sorted(f"{found.name}_{key}" for key in services)
    assert json.loads(json.dumps(found.document()))["workloads"] == list(found.workloads)


def test_a_file_with_a_refusal_becomes_no_specs() -> None:
    assert [name for name in SHAPES if shape(name).workloads] == RENDERED


def specs(name: str) -> dict[str, Any]:
    found = shape(name)
    return {item["name"].removeprefix(f"{found.name}_"): item["spec"] for item in found.workloads}


def test_short_and_long_forms_of_the_same_become_the_same(tmp_path: Path) -> None:
    forms = {
        "short": """
            ports: ["80:8080"]
            volumes: ["data:/data", "/srv:/srv:ro"]
            environment: [A=1, B=]
            networks: [n]
            extra_hosts: ["hole:192.0.2.9"]
            ulimits: {nofile: 10}
            dns: 192.0.2.53
            tmpfs: /run
            command: run 'a b'
            healthcheck: {test: exit 0}
            devices: [/dev/snd]
            x-security: {exceptions: {devices: It plays.}}
            restart: on-failure:2
            depends_on: []
            """,
        "long": """
            ports: [{target: 8080, published: "80", mode: ingress, protocol: tcp}]
            volumes:
              - {type: volume, source: data, target: /data}
              - {type: bind, source: /srv, target: /srv, read_only: true}
            environment: {A: 1, B: ""}
            networks: {n: {}}
            extra_hosts: {hole: 192.0.2.9}
            ulimits: {nofile: {soft: 10, hard: 10}}
            dns: [192.0.2.53]
            tmpfs: [/run]
            command: [run, a b]
            healthcheck: {test: [CMD-SHELL, exit 0]}
            devices: [{source: /dev/snd, target: /dev/snd, permissions: rwm}]
            x-security: {profile: python-service, exceptions: {devices: It plays.}}
            deploy: {restart_policy: {condition: on-failure, max_attempts: 2}}
            depends_on: {}
            """,
    }
    found = {}
    for name, keys in forms.items():
        path = tmp_path / f"{name}.yaml"
        head = (
            "name: one\nnetworks: {n: {external: true}}\nvolumes: {data: }\nservices:\n  one:\n    image: a\n"
        )
        path.write_text(head + re.sub(r"(?m)^ {12}", "    ", keys))
        explained = explain(path)
        assert not explained.refused, explained.lines
        found[name] = explained.workloads
    assert found["short"] == found["long"]


def test_merged_fragments_reach_the_services_and_their_own_values_win() -> None:
    found = specs("anchors.yaml")
    environments = {name: spec["TaskTemplate"]["ContainerSpec"]["Env"][:2] for name, spec in found.items()}
    assert environments == {"one": ["LEVEL=debug", "MODE=a"], "two": ["LEVEL=info", "MODE=a"]}
    policies = {name: spec["TaskTemplate"]["RestartPolicy"]["Condition"] for name, spec in found.items()}
    assert policies == {"one": "any", "two": "on-failure"}


def test_a_device_or_shared_memory_makes_a_host_container() -> None:
    found = {item["name"]: (item["kind"], item["why_container"]) for item in shape("devices.yaml").workloads}
    assert found["audio_browser"] == ("container", "shm_size")
    assert found["audio_capture"][0] == "container"
    lines = {line.path: line.text for line in shape("devices.yaml").lines}
    assert lines["services.capture.group_add[0]"] == "HostConfig.GroupAdd"
    assert lines["services.capture.deploy.update_config.order"].startswith("no effect: a host container")


def test_services_of_a_file_find_each_other_by_their_bare_names() -> None:
    db = specs("queue-workers.yaml")["broker"]
    assert db["TaskTemplate"]["Networks"] == [
        {"Target": "jobs", "Aliases": ["broker", "broker.jobs.cascade"]},
    ]


@pytest.mark.parametrize("name", RENDERED)
def test_no_password_of_a_file_is_shown(name: str) -> None:
    shown = json.dumps(shape(name).document())
    assert "not-for-all" not in shown
    assert "not for all" not in shown


def test_a_refusal_does_not_quote_a_password(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    long = "sesame" * 20
    path.write_text(
        "services:\n  one:\n    image: a\n    environment:\n"
        "      DB_PASSWORD: pa$word-sesame\n      TOKEN: '{{tok-sesameen}}'\n      URL: 'x://u:a$bc-sesame@h/'\n"
        f"      LONG_KEY: '$a{long}'\n"
        "    command: [run, --password, 'pa$cmd-sesame']\n"
        "  two:\n    image: a\n    environment: ['A_SECRET=b$cd-sesame']\n"
        "    command: 'run --token $ab-sesame'\n"
    )
    found = explain(path)
    assert {line.path for line in found.lines if line.becomes == "refused"} == {
        "services.one.environment.DB_PASSWORD",
        "services.one.environment.TOKEN",
        "services.one.environment.URL",
        "services.one.environment.LONG_KEY",
        "services.one.command[2]",
        "services.two.environment[0]",
        "services.two.command",
    }
    assert "sesame" not in json.dumps(found.document())


def test_a_problem_inside_a_short_form_is_told_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(
        "services:\n  one:\n    image: a\n    networks: [n]\n    volumes:\n"
        "      - /srv:/srv\n      - '/srv/{{.Task.Slot}}:/slot'\n"
        "    environment: [A=1, 'B={{.Node.ID}}']\n    tmpfs: ['/run:size=half']\n"
        "networks: {n: {external: true}}\n"
    )
    found = [(line.line, line.path) for line in explain(path).lines if line.becomes == "refused"]
    assert found == [
        (7, "services.one.volumes[1]"),
        (8, "services.one.environment[1]"),
        (9, "services.one.tmpfs[0]"),
    ]
    assert explain(path).problems == ()


def test_a_file_without_a_name_has_its_folders(tmp_path: Path) -> None:
    folder = tmp_path / "_My Shop.2"
    folder.mkdir()
    (folder / "compose.yaml").write_text(
        "services: {web: {image: a, networks: [n]}}\nnetworks: {n: {external: true}}\n"
    )
    assert explain(folder / "compose.yaml").name == "myshop2"


def test_a_network_of_the_files_own_comes_with_the_line_for_group_data() -> None:
    problems = {problem.path: problem.fix for problem in shape("own-networks.yaml").problems}
    assert problems["networks.back"] == (
        "write back: {external: true} here, and in group_data networks"
        ' Overlay(name="back", subnet="10.9.0.0/24", internal=True)'
    )


def test_what_group_data_must_have_is_said() -> None:
    assert shape("web-database.yaml").needs == {
        "images": ("postgres:16", "shop/web:3.2"),
        "networks": ("front", "shop-back"),
    }


def test_the_specs_of_a_file_are_those_of_the_fleet_but_for_image_and_digest(home_fleet: Any) -> None:
    """One that stands in both: a group file rendered alone says what is posted where there is no GPU."""
    hosts = {name: host.model_copy(update={"gpu": None}) for name, host in home_fleet.hosts.items()}
    home_fleet = replace(home_fleet, hosts=hosts)
    (workload,) = (w for w in home_fleet.workloads["cascade-pc2-core"] if w.agent == "CacheManager")
    found = explain(Path(home_fleet.groups["cascade-pc2-core"].file))
    (alone,) = (item["spec"] for item in found.workloads if item["name"] == workload.name)
    posted = service_spec(workload, home_fleet)
    posted["TaskTemplate"]["ContainerSpec"]["Image"] = workload.service.image
    del posted["Labels"]["cascade.digest"]
    assert alone == posted
