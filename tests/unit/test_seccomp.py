"""The seccomp profiles: what each allows, and that each difference carries its reason."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from cascade.model.seccomp import DEFAULT, NAMES, Rules, profile, rules
from cascade.model.security import _fault


def allowed(name: str) -> set[str]:
    """What a profile allows whatever the arguments are."""
    (without,) = [rule for rule in json.loads(profile(name))["syscalls"] if _is_free(rule)]
    return set(without["names"])


def _is_free(rule: dict[str, Any]) -> bool:
    return rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule


def test_the_file_names_the_profiles_that_the_model_names() -> None:
    assert tuple(rules().profiles) == NAMES
    assert not rules().profiles[DEFAULT]


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_is_compact_json_that_the_engine_can_read(name: str) -> None:
    document = json.loads(profile(name))
    assert not _fault(document)
    assert profile(name) == json.dumps(document, sort_keys=True, separators=(",", ":"))
    assert document["defaultAction"] == "SCMP_ACT_ERRNO"
    assert [each["subArchitectures"] for each in document["archMap"]] == [[], []]


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_allows_what_the_default_allows_and_what_it_gives_back(name: str) -> None:
    given_back = {call for addition in rules().profiles[name] for call in addition.calls}
    assert allowed(name) - allowed(DEFAULT) == given_back
    assert allowed(name) >= allowed(DEFAULT)


def test_tests_can_tell_what_seccomp_refused_by_its_error() -> None:
    told, usual = json.loads(profile("gpu", refused_with=133)), json.loads(profile("gpu"))
    assert (told.pop("defaultErrnoRet"), usual.pop("defaultErrnoRet")) == (133, 1)
    assert told == usual


def test_clone3_is_answered_as_if_the_kernel_did_not_have_it() -> None:
    last = json.loads(profile(DEFAULT))["syscalls"][-1]
    assert last == {"action": "SCMP_ACT_ERRNO", "errnoRet": 38, "names": ["clone3"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"refused": [{"calls": "read", "reason": "no"}]}, "read stands twice"),
        ({"absent": [{"calls": "read", "reason": "no"}]}, "read stands twice"),
        ({"profiles": {"debug": [{"calls": "bpf", "reason": "no"}]}}, "debug adds bpf"),
        ({"refused": [{"calls": "ptrace", "reason": ""}]}, "at least 1 character"),
        ({"refused": [{"calls": "", "reason": "no"}]}, "at least 1 item"),
        ({"allowed": [{"purpose": "files", "calls": "read", "cases": []}]}, "Extra inputs"),
    ],
)
def test_data_that_contradict_each_other_are_refused(change: dict[str, Any], said: str) -> None:
    usual = {"allowed": [{"purpose": "files", "calls": "read"}], "limited": [], "absent": [], "refused": []}
    with pytest.raises(ValidationError, match=said):
        Rules.model_validate({**usual, "profiles": {}, **change})


@pytest.mark.parametrize("name", NAMES)
def test_a_realtime_order_is_left_to_those_who_need_it(name: str) -> None:
    cases = [
        rule["args"][0]["value"]
        for rule in json.loads(profile(name))["syscalls"]
        if rule["names"] == ["sched_setscheduler"]
    ]
    assert cases == [0, 3, 5]
    assert ("sched_setscheduler" in allowed(name)) == (name == "audio-realtime")
