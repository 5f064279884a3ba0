"""Group files are read strictly, and every mistake of every file comes in one report."""

import re
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


AGENT = "{name: A, port: 1, health_port: 2}"

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
    assert refuse(text) == [(path, "not a key of Compose")]


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
    assert re.fullmatch(r"line \d+, column \d+", path)
    assert f"the key '{key}' stands twice" in reason


def test_an_anchor_that_overrides_what_it_merges_says_nothing_twice_wherever_it_is_used(read: Read) -> None:
    group = read(
        """\
        x-first: &first {A: "1"}
        x-deep: {within: {another: {map: &second {<<: *first, A: "2"}}}}
        name: alpha
        services:
          alpha:
            image: alpha/image
            environment: {<<: *second, B: "3"}
            labels: *second
        """
    )
    assert group.services["alpha"].environment == {"A": "2", "B": "3"}
    assert group.services["alpha"].labels == {"A": "2"}


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
        ("a: !!timestamp soon\n", "'soon' is no timestamp"),
        ("a: !!int abc\n", "'abc' is no int"),
        ("a: !!int ''\n", "'' is no int"),
        ("a: !!float x\n", "'x' is no float"),
        ("a: !!bool maybe\n", "'maybe' is no bool"),
        ("a: !!binary ä\n", "failed to convert base64 data into ascii"),
        ("{a: b}: c\n", "found unhashable key"),
        ("a: {[b]: c}\n", "found unhashable key"),
        ("a: {<<: b}\n", "expected a mapping or list of mappings for merging"),
        (f"a: {'[' * 2000}\n", "nested too deeply, or within itself"),
        ("name: a\nservices: &s {a: *s}\n", "it has more than 50000 values, aliases written out"),
    ],
)
def test_what_is_no_compose_file_is_an_error(refuse: Refuse, text: str, reason: str) -> None:
    ((path, found),) = refuse(text)
    assert re.fullmatch(r"|line \d+, column \d+", path)
    assert reason in found


def test_a_file_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "alpha.yaml").write_bytes("name: Füchse".encode("latin-1"))
    with pytest.raises(InvalidFiles, match=r"alpha\.yaml: not a text in UTF-8"):
        read_group_file(tmp_path / "alpha.yaml")


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidFiles, match=r"gone\.yaml: cannot be read: no such file"):
        read_group_file(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("services: {a: {image: i}}\n", [("name", "is missing")]),
        ("name: a\nservices: {}\n", [("services", "there is no service")]),
        (
            f"name: a\nservices: {{b: {{image: i, x-agents: [{AGENT}]}}}}\n",
            [("services.b", "a service with x-agents must have the name of its group, a")],
        ),
        (
            f"name: a\nservices: {{b: {{image: i}}, a: {{image: i, x-agents: [{AGENT}]}}}}\n",
            [("services.a", "a service with x-agents must be the only one of its file")],
        ),
        (
            "name: a\nservices: {a: {image: i, agents: [{name: A}]}}\n",
            [("services.a.agents", "unknown key")],
        ),
        (
            "name: a\nservices: {a: {image: i, networks: [{b: c}]}}\n",
            [("services.a.networks", "{'b': 'c'} is no name of a network")],
        ),
        (
            "name: a\nservices: {a: {image: i, environment: ['A=1', 'A=2'], labels: {'': x}}}\n",
            [("services.a.environment", "A stands twice"), ("services.a.labels['']", "it is empty")],
        ),
        ("name: alpha\n", [("services", "is missing")]),
        ("name: Alpha\nservices: {a: {image: i}}\n", [("name", "is no name of a group")]),
        ("name: '; touch x'\nservices: {a: {image: i}}\n", [("name", "is no name of a group")]),
        ("name: -alpha\nservices: {a: {image: i}}\n", [("name", "is no name of a group")]),
        ("name: alpha\nservices: [a]\n", [("services", "a list is no map")]),
        (
            "name: alpha\nservices: {alpha: }\n",
            [("services.alpha", "nothing is no map")],
        ),
        ("name: alpha\nservices: {alpha: {}}\n", [("services.alpha.image", "is missing")]),
        ("name: a\nservices: {a: {image: i}}\nnetworks: {n: }\n", [("networks.n", "no network of its own")]),
        (
            "name: a\nservices: {a: {image: i}}\nnetworks: {n: {external: false}}\n",
            [("networks.n", "no network of its own")],
        ),
        (
            "name: a\nservices: {}\nmodels: {}\nnew: {}\n",
            [("models", "runners"), ("new", "not a key of Compose"), ("services", "there is no service")],
        ),
        (
            "name: a\nservices: {a: {image: i, environment: [HOME, USER, A=1]}}\n",
            [
                ("services.a.environment.HOME", "no value, and"),
                ("services.a.environment.USER", "no value, and"),
            ],
        ),
        (
            "name: a\nservices: {a: {image: i, x-agents: [{name: A, port: 1, health_port: 2, dns: a}]}}\n",
            [("services.a.x-agents[0].dns", "not a key of Compose")],
        ),
        (
            "name: a\nservices: {a: {image: i, x-agents: [{environment: [B], name: A, port: 1}]}}\n",
            [
                ("services.a.x-agents[0].health_port", "is missing"),
                ("services.a.x-agents[0].environment.B", "no value, and the deploying"),
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
    ("used", "problems"),
    [
        ("networks: [inner]", [("networks", "inner")]),
        ("networks: {outer: , inner: }", [("networks", "inner"), ("networks", "outer")]),
        ("volumes: ['data:/data', 'b:/b']", [("volumes", "b"), ("volumes", "data")]),
        (
            "x-agents: [{name: A, port: 1, health_port: 2, networks: [inner], volumes: ['data:/data']}]",
            [("x-agents[0].networks", "inner"), ("x-agents[0].volumes", "data")],
        ),
    ],
)
def test_every_name_that_is_used_but_not_declared_is_an_error(
    refuse: Refuse, used: str, problems: list[tuple[str, str]]
) -> None:
    assert refuse(f"name: a\nservices:\n  a:\n    image: i\n    {used}\n") == [
        (f"services.a.{path}", f"{name} is not declared under {path.rpartition('.')[2]}:")
        for path, name in problems
    ]


def test_all_that_does_not_fit_together_in_a_file_comes_in_one_report(refuse: Refuse) -> None:
    agent = "port: 1, health_port: 2"
    found = refuse(
        f"""\
        name: a
        services:
          a:
            image: i
            command: echo $HOME
            networks: [inner]
            tmpfs: [/run]
            volumes: ['/srv:/srv', '/opt:/srv/']
            x-agents:
              - {{name: FooBar, {agent}, depends_on: [Gone], volumes: ['/run:/run']}}
              - {{name: Foo_Bar, {agent}, depends_on: [Foo_Bar]}}
              - {{name: Foobar, {agent}}}
        """
    )
    assert found[0][0] == "services.a.command"
    assert sorted(found[1:]) == [
        ("services", "FooBar, Foo_Bar would have the same name"),
        ("services", "FooBar, Foobar would have the same name"),
        ("services.a.networks", "inner is not declared under networks:"),
        ("services.a.volumes", "more than one thing is mounted on /srv"),
        ("services.a.x-agents", "cycle in the start order: Foo_Bar → Foo_Bar"),
        ("services.a.x-agents[0].depends_on", "the group has no agent Gone"),
        ("services.a.x-agents[0].volumes", "more than one thing is mounted on /run"),
    ]


@pytest.mark.parametrize(
    ("names", "same"),
    [
        (["Fox", "Hen", "Fox"], "Fox, Fox"),
        (["Fox", "Hen", "fox"], "Fox, fox"),
        (["web_server", "web-server"], "web_server, web-server"),
        (["WebServer", "web_server"], "WebServer, web_server"),
        (["WebServer", "Webserver"], "WebServer, Webserver"),
    ],
)
def test_names_that_are_one_in_the_swarm_or_on_the_network_are_an_error(
    refuse: Refuse, names: list[str], same: str
) -> None:
    agents = ", ".join(f"{{name: {name}, port: 1, health_port: 2}}" for name in names)
    found = refuse(f"name: a\nservices: {{a: {{image: i, x-agents: [{agents}]}}}}\n")
    assert found == [("services", f"{same} would have the same name")]


def test_services_without_agents_may_be_several_with_names_of_their_own(read: Read, refuse: Refuse) -> None:
    assert list(read("name: a\nservices: {web: {image: i}, db: {image: i}}\n").services) == ["web", "db"]
    found = refuse("name: a\nservices: {web-db: {image: i}, web_db: {image: i}}\n")
    assert found == [("services", "web-db, web_db would have the same name")]


@pytest.mark.parametrize("text", ["${A}", "$A", "$_a", "x${A:-b}", "$$$A", "a $$ ${B}"])
def test_a_variable_is_an_error_because_none_is_put_in(refuse: Refuse, text: str) -> None:
    ((path, reason),) = refuse(
        f"name: a\nservices: {{a: {{image: i, environment: {{B: '1'}}, command: [run, '{text}']}}}}\n"
    )
    assert path == "services.a.command[1]"
    assert reason == "a $ in it names a variable, and Cascade puts none in"


@pytest.mark.parametrize(
    ("written", "meant"),
    [("$$A", "$A"), ("$${A}", "${A}"), ("$$$$", "$$"), ("a$", "a$"), ("$1", "$1"), ("$(id)", "$(id)")],
)
def test_two_dollars_are_a_plain_one(read: Read, written: str, meant: str) -> None:
    group = read(
        f"name: a\nservices: {{a: {{image: i, environment: ['A={written}'], labels: {{B: '{written}'}}}}}}\n"
    )
    assert (group.services["a"].environment, group.services["a"].labels) == ({"A": meant}, {"B": meant})


def test_a_fragment_that_nothing_uses_may_hold_anything(read: Read) -> None:
    assert read("x-a: {b: '${C}'}\nname: a\nservices: {a: {image: i}}\n").name == "a"


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
    fix = "put them there, or name their folder as `stacks` in group_data"
    expected = Problem(str(tmp_path), "", "no group files (*.yaml) here", fix)
    assert invalid.value.problems == (expected,)


def test_a_folder_that_is_not_there_is_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(InvalidFiles, match="no group files"):
        load_group_files(tmp_path / "gone")


def test_the_group_files_of_a_folder_come_by_file_name(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\nservices: {{{name}: {{image: i}}}}\n")
    (tmp_path / "d.yml").write_text("name: d\nservices: {d: {image: i}}\n")
    (tmp_path / "README.md").write_text("not a group file")
    groups = load_group_files(tmp_path)
    assert [group.name for group in groups] == ["a", "b", "c", "d"]
    assert [Path(group.file).name for group in groups] == ["a.yaml", "b.yaml", "c.yaml", "d.yml"]


def test_the_mistakes_of_several_files_come_in_one_report(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\nservices: {a: {image: i, privileged: true}}\n")
    (tmp_path / "b.yaml").write_text("name: [\n")
    (tmp_path / "c.yaml").write_text("name: c\nservices: {c: {}}\nverson: 3\n")
    (tmp_path / "d.yaml").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "e.yaml").write_text("name: e\nservices: {e: {image: i}}\n")
    (tmp_path / "f.yml").mkdir()
    with pytest.raises(InvalidFiles) as invalid:
        load_group_files(tmp_path)
    found = [(Path(problem.file).name, problem.path) for problem in invalid.value.problems]
    assert found == [
        ("a.yaml", "services.a.privileged"),
        ("b.yaml", "line 2, column 1"),
        ("c.yaml", "verson"),
        ("c.yaml", "services.c.image"),
        ("d.yaml", ""),
        ("f.yml", ""),
    ]
    assert str(invalid.value).splitlines() == [str(problem) for problem in invalid.value.problems]


def test_a_group_that_stands_in_two_files_is_an_error(tmp_path: Path) -> None:
    for file in ("one", "two"):
        (tmp_path / f"{file}.yaml").write_text("name: alpha\nservices: {alpha: {image: i}}\n")
    with pytest.raises(InvalidFiles) as invalid:
        load_group_files(tmp_path)
    (problem,) = invalid.value.problems
    assert (problem.file, problem.path) == (str(tmp_path / "two.yaml"), "name")
    assert problem.reason == f"{tmp_path / 'one.yaml'} has the group alpha too"


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("a.yaml", "b.c", "is wrong"), "a.yaml: b.c: is wrong"),
        (Problem("a.yaml", "", "x"), "a.yaml: x"),
        (Problem("a.yaml", "b", "x", "write y"), "a.yaml: b: x; write y"),
        (Problem("a.yaml", "b\nc", "\x1b[31m"), "a.yaml: b\\nc: \\x1b[31m"),
    ],
)
def test_a_problem_says_where_and_what(problem: Problem, text: str) -> None:
    assert str(problem) == text


@pytest.mark.parametrize(
    ("networks", "path"),
    [("'a b': {external: true}", "networks"), ("n: {external: true, name: bridge}", "networks.n.name")],
)
def test_a_network_that_no_engine_would_make_is_an_error(refuse: Refuse, networks: str, path: str) -> None:
    text = f"name: a\nservices: {{a: {{image: a}}}}\nnetworks: {{{networks}}}\n"
    ((found, _),) = refuse(text)
    assert found == path


def test_two_ways_to_write_one_mount_point_are_an_error(refuse: Refuse) -> None:
    text = "name: a\nservices: {a: {image: a, volumes: ['/x:/a/b', '/y:/a//b/']}}\n"
    assert refuse(text) == [("services.a.volumes", "more than one thing is mounted on /a/b")]


def test_a_service_that_waits_for_what_is_not_there_is_not_told_to_wait_for_itself(read: Read) -> None:
    with pytest.raises(InvalidFiles) as invalid:
        read("name: a\nservices: {a: {image: a, depends_on: [db]}}\n")
    (problem,) = invalid.value.problems
    assert (problem.reason, problem.fix) == ("the file has no service db", "remove it")


def test_the_names_that_may_be_meant_are_the_other_agents_in_the_order_of_the_file(read: Read) -> None:
    agents = ["{name: B, port: 1, health_port: 2}", "{name: C, port: 3, health_port: 4, depends_on: [D]}"]
    agents += ["{name: A, port: 5, health_port: 6}"]
    with pytest.raises(InvalidFiles) as invalid:
        read(f"name: a\nservices: {{a: {{image: a, x-agents: [{', '.join(agents)}]}}}}\n")
    (problem,) = invalid.value.problems
    assert problem.fix == "write one of B, A, or remove it"
