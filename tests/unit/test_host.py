"""What a host's settings may say."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cascade.model.host import Host

PLAIN = {
    "name": "pc2",
    "swarm_address": "10.0.0.2",
    "swarm_role": "worker",
    "distribution": "debian",
    "codename": "trixie",
    "docker_source": "docker",
}
HOSTILE = ("-oEvil", "a; touch x", "a b", "", "a\n", "$(touch x)", "../a")


def test_a_plain_host_is_fine() -> None:
    assert Host(**PLAIN, packages=("libc6-dev", "g++"), sysctls={"net.ipv4.ip_forward": "1"})


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("make", [lambda name: {"packages": (name,)}, lambda name: {"sysctls": {name: "1"}}])
def test_a_name_that_a_command_would_take_for_something_else_is_refused(make: Any, name: str) -> None:
    with pytest.raises(ValidationError, match=r"is no name of a (package|kernel setting): write one like"):
        Host(**PLAIN, **make(name))
