"""What a container's process may be given, told before the engine finds it when it starts one."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cascade.model.service import Service
from cascade.model.wording import wording

HOSTILE = ("; touch x", "$(touch x)", "a\nb", "-rf /", "a b", "../x", "\x1b[31m")


def service(**keys: Any) -> Service:
    return Service.model_validate({"image": "web", **keys})


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("image", ["web", "cascade/core", "registry.lan:5000/a/b:1.2", f"a@sha256:{'0' * 64}"]),
        ("user", ["1000", "1000:1000", "nobody:nogroup", 1000]),
        ("working_dir", ["", "/app", "/a b"]),
        ("hostname", ["", "fox", "fox.den"]),
        ("stop_signal", ["SIGTERM", "TERM", "term", "15", 15, "SIGRTMIN+3"]),
        ("ulimits", [{"nofile": 5}, {"memlock": -1}, {"core": {"soft": 0, "hard": -1}}, {"rtprio": "95"}]),
        ("sysctls", [{"net.core.somaxconn": 5}, ["net.ipv4.tcp_syncookies=0"], {"kernel.shmmax": "1"}]),
        ("logging", [{"driver": "local", "options": {"max-size": "1m", "compress": "false"}}, {}]),
        (
            "logging",
            [{"driver": "journald", "options": {"tag": "x"}}, {"driver": "splunk", "options": {"a": 1}}],
        ),
        ("networks", [{"a": {"aliases": ["core", "Core.Cascade", "web_1"]}}]),
        ("environment", [{"A": "; touch x"}, {"a.b-c": "$(touch x)"}, ["A=a\nb"]]),
        ("command", [list(HOSTILE)]),
        ("labels", [{"a": "; touch x"}]),
    ],
)
def test_what_the_engine_takes_is_fine(key: str, values: list[Any]) -> None:
    for value in values:
        assert service(**{key: value})


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("image", ["", "Web", "web:", "a//b", "https://web", *HOSTILE]),
        ("user", ["", ":0", "a:b:c", *HOSTILE]),
        ("working_dir", ["app", "./app", "C:\\app"]),
        ("hostname", ["-fox", "fox-", "f" * 64, "fox_den", *HOSTILE]),
        ("stop_signal", ["SIGNOPE", "0", "65", "-9", 99, "9" * 5000, *HOSTILE]),
        ("ulimits", [{"files": 1}, {"RLIMIT_NOFILE": 1}, {"nofile": -2}, {"nofile": "many"}]),
        ("ulimits", [{"nofile": {"soft": 2, "hard": 1}}, {"nofile": {"soft": -1, "hard": 1}}]),
        ("sysctls", [{"vm.swappiness": 1}, {"kernel.hostname": "x"}, {"net": 1}, {"kernel.panic": 1}]),
        ("logging", [{"driver": "json"}, {"options": {"max-sice": "1m"}}, {"options": {"max-file": "0"}}]),
        ("logging", [{"driver": "none", "options": {"tag": "x"}}, {"options": {"max-size": "; touch x"}}]),
        ("networks", [{"a": {"aliases": [alias]}} for alias in ("", "-a", "a" * 254, *HOSTILE)]),
        ("environment", [{"A B": 1}, {"": 1}, ["=1"], {"A\n": 1}]),
        ("command", ["echo 'a", 'echo "']),
    ],
)
def test_what_the_engine_would_only_refuse_later_is_refused_with_a_fix(key: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValidationError) as refused:
            service(**{key: value})
        for error in refused.value.errors():
            assert error["loc"][0] == key
            assert not wording(error)[1].startswith("see "), (value, error["msg"])
