"""The test hosts' image: its name follows its inputs, its sources the machine's mirrors."""

from dataclasses import replace
from pathlib import Path

import pytest

from lab import image
from lab.apt import Mirrors, parse_deb822
from lab.image import Inputs

MIRRORS = Mirrors("http://mirror.example/debian", "http://mirror.example/security")
INPUTS = Inputs("setup", ("sudo",), MIRRORS, "", ())


def test_the_same_inputs_give_the_same_name() -> None:
    assert replace(INPUTS).tag == INPUTS.tag


@pytest.mark.parametrize(
    "changed",
    [
        replace(INPUTS, setup="another"),
        replace(INPUTS, packages=("sudo", "kmod")),
        replace(INPUTS, mirrors=None),
        replace(INPUTS, settings='Acquire::Retries "3";\n'),
        replace(INPUTS, certificates=(("ca.crt", "text"),)),
    ],
)
def test_another_input_gives_another_name(changed: Inputs) -> None:
    assert changed.tag != INPUTS.tag


def test_the_hosts_sources_are_those_that_apt_would_read() -> None:
    read = parse_deb822(image.deb822_sources(MIRRORS))
    assert [(source.uri, source.suite) for source in read] == [
        ("http://mirror.example/debian", "trixie"),
        ("http://mirror.example/debian", "trixie-updates"),
        ("http://mirror.example/security", "trixie-security"),
    ]


def test_bootstrapping_uses_the_mirrors_of_this_machine() -> None:
    argv = image.bootstrap_argv(MIRRORS, Path("base.tar"))
    assert argv[-3:] == [
        "deb http://mirror.example/debian trixie main",
        "deb http://mirror.example/debian trixie-updates main",
        "deb http://mirror.example/security trixie-security main",
    ]


def test_bootstrapping_without_known_mirrors_names_none() -> None:
    assert image.bootstrap_argv(None, Path("base.tar"))[-2:] == ["trixie", "base.tar"]


def test_a_bare_server_has_neither_docker_nor_a_whole_python() -> None:
    assert not {"docker.io", "docker-cli", "python3"} & set(image.PACKAGES)
