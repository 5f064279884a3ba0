"""Answers to `cascade init`: what makes sense, what stands for what nobody said, and how Python writes it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from cascade.model.answers import FOLDER, QUESTIONS, REGISTRY, Question, image_source, literal

HOSTILE = (
    '"; import os; os.system("touch x"); "',
    "'''\nimport os\n",
    "a\\",
    "\\N{BULLET}\\x41",
    "{{ 7 * 7 }}{% raw %}",
    "$(touch x) `touch x` ; touch x",
    "-oProxyCommand=touch x",
    "both ' and \"",
    "\x00\x1b[2J\u202e\u2028\ud800",
    "line\r\nline\ttab",
    "é 日本 🙂",
)


def question(key: str) -> Question:
    return next(question for question in QUESTIONS if question.key == key)


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_is_written_is_one_literal_with_that_value(text: str) -> None:
    written = literal(text)
    assert ast.literal_eval(written) == text
    assert "\n" not in written


def test_literals_are_in_the_quotes_that_formatters_prefer(tmp_path: Path) -> None:
    texts = [text for text in HOSTILE if "\ud800" not in text]
    file = tmp_path / "literals.py"
    file.write_text("values = [\n" + "".join(f"    {literal(text)},\n" for text in texts) + "]\n")
    command = [str(Path(sys.executable).with_name("ruff")), "format", "--isolated", "--check", str(file)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("text", [*HOSTILE, "", " ", "-", "a b", "x" * 300])
def test_answers_that_name_something_refuse_hostile_values(text: str) -> None:
    paths = ("ssh-key",)
    taken = [item.key for item in QUESTIONS if item.key not in paths and item.fault(text) is None]
    assert taken == []
    assert REGISTRY(text) is not None


def test_paths_are_any_printable_text() -> None:
    for fault in (question("ssh-key").fault, FOLDER):
        assert [fault(text) for text in ("~/my keys/id", 'a"b', "$(x)")] == [None] * 3
        assert all(fault(text) for text in ("", " ", "a\nb", "a\x00b"))


GOOD = {
    "mainpc-name": ("mainpc", "a", "a-1"),
    "mainpc-address": ("192.168.1.11", "mainpc.lan", "fe80::1", "Host"),
    "mainpc-port": ("1", "22", "65535"),
    "mainpc-user": ("deploy", "_a", "a-b_1"),
    "mainpc-swarm-address": ("10.0.0.1", "192.168.1.11"),
    "mainpc-gpu": ("rtx4090", "none", "a.b_c-d"),
    "distribution": ("debian", "ubuntu"),
    "codename": ("trixie", "noble"),
    "docker-source": ("docker", "distribution"),
}
BAD = {
    "mainpc-name": ("Mainpc", "-a", "a-", "a.b", "@local", "x" * 64),
    "mainpc-address": ("-a", "a b", "user@host", "a/b", "host:"),
    "mainpc-port": ("0", "65536", "22a", "-1", "٢٢"),
    "mainpc-user": ("Deploy", "1a", "a.b", "a:b", "x" * 33),
    "mainpc-swarm-address": ("127.0.0.1", "0.0.0.0", "224.0.0.1", "mainpc", "fe80::1", "10.0.0.0/24"),
    "mainpc-gpu": ("RTX", "a b", "-a"),
    "distribution": ("fedora", "Debian"),
    "codename": ("Trixie", "24.04"),
    "docker-source": ("snap",),
}


@pytest.mark.parametrize("key", GOOD)
def test_answers_are_taken_or_refused_with_what_to_write(key: str) -> None:
    fault = question(key).fault
    assert [text for text in GOOD[key] if fault(text)] == []
    assert [text for text in BAD[key] if not (fault(text) or "").startswith("write ")] == []


def test_the_swarm_address_is_the_ssh_address_where_that_can_be_one() -> None:
    default = question("pc2-swarm-address").default
    found = [default({"pc2-address": address}) for address in ("192.168.1.12", "127.0.0.1", "pc2.lan")]
    assert found == ["192.168.1.12", None, None]


def test_the_codename_follows_the_distribution() -> None:
    default = question("codename").default
    assert [default({"distribution": name}) for name in ("debian", "ubuntu")] == ["trixie", "noble"]


def test_images_come_from_a_registry_a_folder_or_are_left_to_fill_in() -> None:
    digest = "@sha256:CHANGE-ME"
    assert image_source("a/core", "lan:5000/x", None) == ("reference", f"lan:5000/x/core{digest}")
    assert image_source("a/core", None, "images/") == ("path", "images/core.tar")
    assert image_source("core", None, None)[1].startswith("CHANGE-ME")


@pytest.mark.parametrize("prefix", ["registry.lan:5000/cascade", "ghcr.io/me/agents", "localhost:5000"])
def test_a_registry_is_an_address_with_folders(prefix: str) -> None:
    assert REGISTRY(prefix) is None


@pytest.mark.parametrize("prefix", ["https://lan", "LAN", "lan/", "/lan", "lan/../x", "lan@sha256", "a b"])
def test_a_prefix_that_no_reference_could_have_is_refused(prefix: str) -> None:
    assert REGISTRY(prefix) is not None
