"""Group files are read strictly, and every mistake of every file comes in one report."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cascade.model.loader import load_group_files, read_group_file
from cascade.model.service import GroupFile
from cascade.model.strict import InvalidFiles, Problem

Read = Callable[[str], GroupFile]
Refuse = Callable[[str], list[tuple[str, str]]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads this text as a group file."""

    def reading(text: str) -> GroupFile:
        path = tmp_path / "alpha.yaml"
        path.write_text(text, encoding="utf-8")
        return read_group_file(path)

    return reading


@pytest.fixture
def refuse(read: Read, tmp_path: Path) -> Refuse:
    """Path and reason of each problem of this text; every one names the file."""

    def refusing(text: str) -> list[tuple[str, str]]:
        with pytest.raises(InvalidFiles) as invalid:
            read(text)
        assert {problem.file for problem in invalid.value.problems} == {str(tmp_path / "alpha.yaml")}
        return [(problem.path, problem.reason) for problem in invalid.value.problems]

    return refusing


WHOLE = """\
name: alpha
services:
  alpha:
    image: alpha/image
    networks:
      inner: {aliases: [den]}
    healthcheck: {test: "true"}
    ports: [{target: 7000, published: 80}]
    logging: {driver: local}
    ulimits:
      nofile: {soft: 1, hard: 2}
    volumes:
      - {type: volume, source: data, target: /data}
    deploy:
      placement: {constraints: []}
      resources:
        limits: {cpus: "1"}
        reservations: {cpus: "1"}
      restart_policy: {condition: any}
      update_config: {parallelism: 1}
    x-scale: {min: 1, max: 2}
    x-agents:
      - name: Fox
        port: 7000
        health_port: 8000
        health_check: {test: "true"}
networks:
  inner: {external: true}
volumes:
  data: {name: shared}
"""


def test_a_whole_file_is_read(read: Read) -> None:
    group = read(WHOLE)
    (fox,) = group.services["alpha"].agents
    assert (group.name, fox.name, fox.health_port) == ("alpha", "Fox", 8000)


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("name: alpha", "typo"),
        ("    image: alpha/image", "services.alpha.typo"),
        ("      inner: {aliases: [den]}", "services.alpha.networks.inner.typo"),
        ('    healthcheck: {test: "true"}', "services.alpha.healthcheck.typo"),
        ("    ports: [{target: 7000, published: 80}]", "services.alpha.ports[0].typo"),
        ("    logging: {driver: local}", "services.alpha.logging.typo"),
        ("      nofile: {soft: 1, hard: 2}", "services.alpha.ulimits.nofile.typo"),
        ("      - {type: volume, source: data, target: /data}", "services.alpha.volumes[0].typo"),
        ("      placement: {constraints: []}", "services.alpha.deploy.placement.typo"),
        ('        limits: {cpus: "1"}', "services.alpha.deploy.resources.limits.typo"),
        ('        reservations: {cpus: "1"}', "services.alpha.deploy.resources.reservations.typo"),
        ("      restart_policy: {condition: any}", "services.alpha.deploy.restart_policy.typo"),
        ("      update_config: {parallelism: 1}", "services.alpha.deploy.update_config.typo"),
        ("    x-scale: {min: 1, max: 2}", "services.alpha.x-scale.typo"),
        ("        port: 7000", "services.alpha.x-agents[0].typo"),
        ('        health_check: {test: "true"}', "services.alpha.x-agents[0].health_check.typo"),
        ("  inner: {external: true}", "networks.inner.typo"),
        ("  data: {name: shared}", "volumes.data.typo"),
    ],
)
def test_an_unknown_key_is_an_error_at_every_level(refuse: Refuse, line: str, path: str) -> None:
    inside = ", typo: 1}".join(line.rsplit("}", 1))
    beside = line + "\n" + " " * (len(line) - len(line.lstrip())) + "typo: 1"
    text = WHOLE.replace(line + "\n", (inside if "}" in line else beside) + "\n", 1)
    assert refuse(text) == [(path, "unknown key, or one that Cascade cannot honour")]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("name: alpha\nname: beta\n", "name"),
        ("name: alpha\nservices:\n  alpha:\n    image: a\n    image: b\n", "image"),
        ("name: alpha\nservices:\n  alpha: {image: a}\n  alpha: {image: b}\n", "alpha"),
        ("name: alpha\nservices:\n  alpha:\n    environment: {A: 1, 'A': 2}\n", "A"),
        ("name: alpha\nservices:\n  alpha:\n    x-agents: [{port: 1, port: 2}]\n", "port"),
        ("name: alpha\nx-unused: {a: 1, a: 1}\n", "a"),
    ],
)
def test_a_key_that_stands_twice_is_an_error(refuse: Refuse, text: str, key: str) -> None:
    ((path, reason),) = refuse(text)
    assert path == ""
    assert f"the key '{key}' stands twice" in reason
    assert "\n" not in reason
    assert "line" in reason


def test_the_same_key_in_two_maps_is_none(read: Read) -> None:
    group = read("name: a\nservices: {a: {image: i, environment: {A: 1}, labels: {A: 1}}}\n")
    assert group.services["a"].environment == group.services["a"].labels


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a Compose file"),
        ("# nothing\n", "not a Compose file"),
        ("hello", "not a Compose file"),
        ("- name: alpha\n", "not a Compose file"),
        ("a: [\n", "expected the node content"),
        ("name: alpha\n\t- x\n", "cannot start any token"),
        ("a: \x00", "special characters are not allowed"),
        ("a: 1\n---\na: 2\n", "expected a single document"),
        ("a: *gone\n", "undefined alias 'gone'"),
        ("a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
        ("a: !secret x\n", "could not determine a constructor"),
    ],
)
def test_what_is_no_compose_file_is_an_error(refuse: Refuse, text: str, reason: str) -> None:
    ((path, found),) = refuse(text)
    assert path == ""
    assert reason in found
    assert "\n" not in found


def test_a_file_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "alpha.yaml").write_bytes("name: Füchse".encode("latin-1"))
    with pytest.raises(InvalidFiles, match=r"alpha\.yaml: 'utf-8' codec can't decode"):
        read_group_file(tmp_path / "alpha.yaml")


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidFiles, match=r"gone\.yaml: .*No such file"):
        read_group_file(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("services: {}\n", [("name", "Field required")]),
        ("name: alpha\n", [("services", "Field required")]),
        ("name: Alpha\nservices: {}\n", [("name", "String should match pattern")]),
        ("name: '; touch x'\nservices: {}\n", [("name", "String should match pattern")]),
        ("name: -alpha\nservices: {}\n", [("name", "String should match pattern")]),
        ("name: alpha\nservices: [a]\n", [("services", "valid dictionary")]),
        ("name: alpha\nservices: {alpha: }\n", [("services.alpha", "valid dictionary")]),
        ("name: alpha\nservices: {alpha: {}}\n", [("services.alpha.image", "Field required")]),
        ("name: a\nservices: {}\nnetworks: {n: }\n", [("networks.n", "valid dictionary")]),
        ("name: a\nservices: {}\nnetworks: {n: {}}\n", [("networks.n.external", "Field required")]),
        (
            "name: a\nservices: {}\nnetworks: {n: {external: false}}\n",
            [("networks.n.external", "should be True")],
        ),
        ("name: a\nservices: {}\nversion: '3.9'\n", [("version", "unknown key")]),
        ("name: a\nservices: {}\nsecrets: {}\nnew: {}\n", [("secrets", "unknown"), ("new", "unknown")]),
        (
            "name: a\nservices: {a: {image: i, environment: [HOME, USER, A=1]}}\n",
            [("services.a.environment", "no value for HOME, USER: the deploying machine's environment")],
        ),
        (
            "name: a\nservices: {a: {image: i, x-agents: [{name: A, port: 1, health_port: 2, dns: a}]}}\n",
            [("services.a.x-agents[0].dns", "unknown key")],
        ),
        (
            "name: a\nservices: {a: {image: i, x-agents: [{environment: [B], name: A, port: 1}]}}\n",
            [
                ("services.a.x-agents[0].health_port", "Field required"),
                ("services.a.x-agents[0].environment", "no value for B"),
            ],
        ),
        (
            "name: a\nservices: {a: {image: i, stop_grace_period: soon, shm_size: big, volumes: [x]}}\n",
            [
                ("services.a.volumes[0]", "'x' is not `volume:/target`"),
                ("services.a.stop_grace_period", "'soon' is no duration"),
                ("services.a.shm_size", "'big' is no amount of memory"),
            ],
        ),
    ],
)
def test_every_problem_of_a_file_names_its_place(
    refuse: Refuse, text: str, problems: list[tuple[str, str]]
) -> None:
    found = refuse(text)
    assert [path for path, _ in found] == [path for path, _ in problems]
    for (_, reason), (_, expected) in zip(found, problems, strict=True):
        assert expected in reason
        assert "Value error" not in reason


@pytest.mark.parametrize(
    ("used", "reason"),
    [
        ("networks: [inner]", "services.a uses the network inner, which networks: does not declare"),
        ("networks: {inner: , outer: }", "services.a uses the network inner, outer, which networks:"),
        ("volumes: ['data:/data']", "services.a uses the volume data, which volumes: does not declare"),
        (
            "x-agents: [{name: A, port: 1, health_port: 2, networks: [inner]}]",
            "services.a uses the network inner, which networks: does not declare",
        ),
        (
            "x-agents: [{name: A, port: 1, health_port: 2, volumes: ['data:/data']}]",
            "services.a uses the volume data, which volumes: does not declare",
        ),
    ],
)
def test_a_name_that_is_used_but_not_declared_is_an_error(refuse: Refuse, used: str, reason: str) -> None:
    ((_, found),) = refuse(f"name: a\nservices:\n  a:\n    image: i\n    {used}\n")
    assert reason in found


def test_a_folder_of_the_host_needs_no_declaration(read: Read) -> None:
    group = read("name: a\nservices: {a: {image: i, volumes: ['/srv:/srv']}}\n")
    assert group.services["a"].volumes[0].type == "bind"


def test_fragments_with_anchors_and_merge_keys_are_fine(read: Read) -> None:
    group = read(
        """\
        x-check: &check {interval: 20s, retries: 3}
        x-environment: &environment {A: "1", B: "2"}
        name: alpha
        services:
          alpha:
            image: alpha/image
            environment:
              <<: *environment
              B: "3"
            x-agents:
              - &fox
                name: Fox
                port: 1
                health_port: 2
                health_check:
                  <<: *check
                  test: ["CMD", "true"]
              - <<: *fox
                name: Hen
        """
    )
    fox, hen = group.services["alpha"].agents
    assert group.services["alpha"].environment == {"A": "1", "B": "3"}
    assert (fox.name, hen.name, fox.port, hen.port) == ("Fox", "Hen", 1, 1)
    assert fox.health_check == hen.health_check
    assert fox.health_check
    assert (fox.health_check.interval, fox.health_check.retries) == (20, 3)


def test_a_merge_key_does_not_hide_a_key_that_stands_twice(refuse: Refuse) -> None:
    ((_, reason),) = refuse("x-b: &b {image: i}\nname: a\nservices: {a: {<<: *b, init: true, init: false}}\n")
    assert "the key 'init' stands twice" in reason


def test_an_empty_folder_is_an_error_that_says_what_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(InvalidFiles) as invalid:
        load_group_files(tmp_path)
    expected = Problem(str(tmp_path), "", "no group files (*.yaml) here: see `stacks` in group_data")
    assert invalid.value.problems == (expected,)


def test_a_folder_that_is_not_there_is_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(InvalidFiles, match="no group files"):
        load_group_files(tmp_path / "gone")


def test_the_group_files_of_a_folder_come_by_file_name(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\nservices: {{}}\n")
    (tmp_path / "README.md").write_text("not a group file")
    assert [group.name for group in load_group_files(tmp_path)] == ["a", "b", "c"]


def test_the_mistakes_of_several_files_come_in_one_report(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\nservices: {a: {image: i, privileged: true}}\n")
    (tmp_path / "b.yaml").write_text("name: [\n")
    (tmp_path / "c.yaml").write_text("name: c\nservices: {c: {}}\nversion: 3\n")
    (tmp_path / "d.yaml").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "e.yaml").write_text("name: e\nservices: {e: {image: i}}\n")
    (tmp_path / "f.yaml").mkdir()
    with pytest.raises(InvalidFiles) as invalid:
        load_group_files(tmp_path)
    found = [(Path(problem.file).name, problem.path) for problem in invalid.value.problems]
    assert found == [
        ("a.yaml", "services.a.privileged"),
        ("b.yaml", ""),
        ("c.yaml", "services.c.image"),
        ("c.yaml", "version"),
        ("d.yaml", ""),
        ("f.yaml", ""),
    ]
    assert str(invalid.value).splitlines() == [str(problem) for problem in invalid.value.problems]


def test_a_group_that_stands_in_two_files_is_an_error(tmp_path: Path) -> None:
    for file in ("one", "two"):
        (tmp_path / f"{file}.yaml").write_text("name: alpha\nservices: {}\n")
    with pytest.raises(InvalidFiles) as invalid:
        load_group_files(tmp_path)
    expected = Problem(str(tmp_path / "two.yaml"), "name", "another file has the group alpha too")
    assert invalid.value.problems == (expected,)


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("a.yaml", "b.c", "is wrong"), "a.yaml: b.c: is wrong"),
        (Problem("a.yaml", "", "x"), "a.yaml: x"),
    ],
)
def test_a_problem_says_where_and_what(problem: Problem, text: str) -> None:
    assert str(problem) == text
