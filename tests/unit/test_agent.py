"""Agents: their names, ports and the environment they are promised."""

import json
from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from cascade.model.agent import Agent, kebab_case


def agent(**keys: Any) -> Agent:
    return Agent.model_validate({"name": "Fox", "port": 7000, "health_port": 8000, **keys})


@pytest.mark.parametrize(
    ("name", "kebab"),
    [
        ("Executor", "executor"),
        ("ServiceRegistry", "service-registry"),
        ("VRAMOptimizerAgent", "vram-optimizer-agent"),
        ("STTService", "stt-service"),
        ("NLUAgent", "nlu-agent"),
        ("NLLBAdapter", "nllb-adapter"),
        ("StreamingTTSAgent", "streaming-tts-agent"),
        ("FixedStreamingTranslation", "fixed-streaming-translation"),
        ("Agent2Go", "agent2-go"),
        ("web_server", "web-server"),
        ("web-server", "web-server"),
        ("ABC", "abc"),
        ("aB", "a-b"),
    ],
)
def test_a_name_in_kebab_case(name: str, kebab: str) -> None:
    assert kebab_case(name) == kebab


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-Fox",
        "_Fox",
        "9Fox",
        "Fo x",
        "Fox;touch x",
        "Fox\n",
        "Fox/..",
        "Fox.alpha",
        "--help",
        "Füchsin",
        None,
    ],
)
def test_a_name_that_could_be_taken_for_something_else_is_refused(name: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        agent(name=name)
    assert [error["loc"] for error in refused.value.errors()] == [("name",)]


@pytest.mark.parametrize("key", ["port", "health_port"])
@pytest.mark.parametrize("value", [0, -1, 65536, 80.5, "http", None, "80:80", True])
def test_a_port_outside_the_range_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        agent(**{key: value})
    assert (key,) in [error["loc"] for error in refused.value.errors()]


@pytest.mark.parametrize("key", ["port", "health_port"])
@pytest.mark.parametrize("value", [1, 65535])
def test_the_first_and_the_last_port_are_ports(key: str, value: int) -> None:
    assert getattr(agent(**{key: value}), key) == value


def test_the_health_port_is_another_one() -> None:
    with pytest.raises(ValidationError, match="health_port 7000 is also the agent's port"):
        agent(health_port=7000)


@pytest.mark.parametrize("missing", ["name", "port", "health_port"])
def test_name_and_ports_are_required(missing: str) -> None:
    keys = {"name": "Fox", "port": 7000, "health_port": 8000}
    del keys[missing]
    with pytest.raises(ValidationError) as refused:
        Agent.model_validate(keys)
    assert [(error["loc"], error["type"]) for error in refused.value.errors()] == [((missing,), "missing")]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gpu_access", "always"),
        ("optional", "maybe"),
        ("startup_order", "first"),
        ("startup_order", True),
        ("depends_on", "Hen"),
        ("config", ["a"]),
        ("restart", "always"),
        ("healthcheck", {"test": "true"}),
    ],
)
def test_a_key_or_value_that_is_not_honoured_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        agent(**{key: value})
    assert [error["loc"] for error in refused.value.errors()] == [(key,)]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"since": date(2026, 11, 21)}, "since is 2026-11-21, which JSON cannot say: write it in quotes"),
        ({"a": {"b": [1, {"c": b"x"}]}}, r"a\.b\[1\]\.c is b'x', which JSON cannot say"),
        ({"a": {1: "a", "b": "c"}}, "the key 1 is no text"),
        ({"a": {None: "a"}}, "the key None is no text"),
        ({"a": float("nan")}, "a is nan, which JSON"),
        ({"a": [float("inf")]}, r"a\[0\] is inf, which JSON"),
        ({"a": {"b"}}, "a is {'b'}, which JSON"),
        ({"a": {"b": "{{.Node.ID}}"}}, r"Swarm would expand \{\{"),
        ({"a": {"{{b": 1}}, r"Swarm would expand \{\{"),
    ],
)
def test_settings_that_the_agent_would_not_get_as_written_are_refused(config: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason) as refused:
        agent(config=config)
    assert [error["loc"] for error in refused.value.errors()] == [("config",)]


def test_everything_that_json_cannot_say_is_named() -> None:
    with pytest.raises(ValidationError, match=r"a is nan, .*, the key 2 is no text: write it in quotes"):
        agent(config={"a": float("nan"), "b": {2: 2}})


def test_an_agent_that_says_nothing_has_no_flag() -> None:
    plain = agent()
    flags = (plain.optional, plain.realtime_priority, plain.load_balanced, plain.persistent, plain.state_sync)
    assert not any(flags)
    assert (plain.gpu_access, plain.startup_order, plain.depends_on) == (None, None, ())


def test_an_agent_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        agent().port = 1  # type: ignore[misc]


def test_the_contract_names_the_agent_and_its_ports() -> None:
    assert agent().contract() == {"AGENT_NAME": "Fox", "PORT": "7000", "HEALTH_PORT": "8000"}


def test_the_contract_says_when_state_is_kept_in_common() -> None:
    assert agent(state_sync=True).contract()["STATE_SYNC"] == "true"
    assert "STATE_SYNC" not in agent(state_sync=False).contract()


def test_the_contract_carries_the_settings_as_json_whatever_their_order() -> None:
    one = agent(config={"b": [1, None], "a": {"y": "ü", "x": "; touch x"}}).contract()["AGENT_CONFIG"]
    other = agent(config={"a": {"x": "; touch x", "y": "ü"}, "b": [1, None]}).contract()["AGENT_CONFIG"]
    assert one == other
    assert json.loads(one) == {"a": {"x": "; touch x", "y": "ü"}, "b": [1, None]}


def test_an_agent_shows_itself_as_json() -> None:
    assert json.loads(json.dumps(agent(cpus="0.5", memory_limit="1k").to_json()))["memory_limit"] == 1024


@pytest.mark.parametrize("deadline", ["0s", 0, "-1s", "soon", True, [], "1e400s"])
def test_a_deadline_is_some_time(deadline: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        agent(deadline=deadline)
    assert [error["loc"] for error in refused.value.errors()] == [("deadline",)]
