"""Inventories and group_data: every mistake of a file, and what is right in it all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from operations.python_files import PythonFiles


class Files:
    """One inventory's files, run as pyinfra would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = PythonFiles("inventory.py")

    def run(self, text: str, name: str = "group_data/home.py") -> dict[str, Any]:
        """What the file exports."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        found = self.files.execute(str(path), return_locals=True)
        return {key: found[key] for key in found["__all__"]}

    @property
    def said(self) -> list[str]:
        return [str(problem).partition("; ")[0] for problem in self.files.problems]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.chdir(tmp_path)
    return Files(tmp_path)


def test_a_file_that_is_right_exports_what_it_assigns_and_nothing_it_imports(files: Files) -> None:
    text = """\
from __future__ import annotations
from pathlib import Path
import os.path as where
_own = Path("a")
b = str(_own)
def double(text: Unknown) -> str: return text * 2
for c in (1, 2): pass
d = double(b)
"""
    found = files.run(text)
    assert {name: found[name] for name in ("_own", "b", "c", "d")} == {
        "_own": Path("a"),
        "b": "a",
        "c": 2,
        "d": "aa",
    }
    assert not found.keys() & {"Path", "where", "annotations"}
    assert files.said == []


def test_a_file_may_say_itself_what_it_exports(files: Files) -> None:
    assert files.run("__all__ = ['a']\na, b = 1, 2\n") == {"a": 1}


def test_what_stands_behind_a_mistake_is_read_and_checked(files: Files) -> None:
    found = files.run("a = 1 / 0\nb = 2\nc = [][1]\nd = 3\n")
    assert found == {"b": 2, "d": 3}
    assert files.said == [
        "group_data/home.py: line 1: division by zero",
        "group_data/home.py: line 3: list index out of range",
    ]
    assert files.files.lost == {"a", "c"}


def test_what_only_follows_from_a_mistake_is_not_told(files: Files) -> None:
    files.run("from nowhere import a\nb = a\nc = b + 1\nd = unknown\n")
    assert files.said == [
        "group_data/home.py: line 1: No module named 'nowhere'",
        "group_data/home.py: line 4: name 'unknown' is not defined",
    ]
    assert files.files.lost == {"a", "b", "c", "d"}


MODELS = "from cascade.model.fleet import Overlay, SwarmPool\nfrom cascade.model.image import RegistryImage\n"


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("a = Overlay(name='-', mtu=1)", ["a.name", "a.mtu"]),
        ("a = (Overlay(name='a'), Overlay(name='b', mtu=1), Overlay())", ["a[1].mtu", "a[2].name"]),
        (
            "a = {'x/y': RegistryImage(reference='Z'), 'b': RegistryImage()}",
            ["a['x/y'].reference", "a.b.reference"],
        ),
        ("a = dict(b=Overlay(name='-'))", ["a.b.name"]),
        ("a = {}\na['x'] = Overlay(name='-')", ["a.x.name"]),
        ("a: object = Overlay(name='-')", ["a.name"]),
        ("a = {n: Overlay(name=n) for n in ('ok', '-')}", ["a.name"]),
        ("_b = '-'\na = Overlay(name=_b)", ["a.name"]),
        ("a, b = Overlay(name='-'), 1", ["a.name"]),
    ],
)
def test_each_model_that_refuses_its_values_is_told_with_its_place(
    text: str, paths: list[str], files: Files
) -> None:
    files.run(MODELS + text)
    assert [problem.path for problem in files.files.problems] == paths
    assert all(problem.fix for problem in files.files.problems)


def test_nothing_is_made_twice_to_find_out_what_is_wrong(files: Files) -> None:
    files.run(f"{MODELS}_made = []\na = (_made.append(1), Overlay(name='-'))\nb = len(_made)\n")
    assert files.run("b = 1")["b"] == 1
    assert [problem.path for problem in files.files.problems] == ["a[1].name"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = (\n", "line 1: '(' was never closed"),
        ("a = 1\n  b = 2\n", "line 2: unexpected indent"),
        ("a = 1\x00\n", "source code string cannot contain null bytes"),
        ("raise RuntimeError('no\\nway')\n", "line 1: no way"),
        ("assert False\n", "line 1: AssertionError"),
        ("from cascade.model.fleet import Underlay\n", "line 1: cannot import name 'Underlay'"),
        (
            "import cascade.model.fleet\ncascade.model.fleet.Overlay('a')\n",
            "line 2: BaseModel.__init__() takes",
        ),
        ("open('/no/such/file')\n", "line 1: [Errno 2] No such file"),
        ("from pyinfra import inventory\ninventory.get_group('x')\n", "line 2: "),
        ("a = {}['x']\n", "line 1: there is no 'x' in it"),
        ("def a(): return a()\na()\n", "line 1: maximum recursion depth exceeded"),
    ],
)
def test_a_mistake_of_python_s_own_is_told_with_its_line(text: str, said: str, files: Files) -> None:
    files.run(text)
    (problem,) = files.files.problems
    assert str(problem).startswith(f"group_data/home.py: {said}")
    assert problem.fix


def test_a_file_that_is_no_text_and_one_that_is_too_large_are_told(files: Files) -> None:
    (files.folder / "binary.py").write_bytes(b"a = '\xff'")
    (files.folder / "large.py").write_text("#" * (1 << 20) + "\n")
    for name in ("binary", "large", "gone"):
        files.files.execute(str(files.folder / f"{name}.py"))
    assert [line.partition(".py: ")[2] for line in files.said] == [
        "not a text in UTF-8",
        "1048577 bytes, and such a file has at most 1048576",
        f"[Errno 2] No such file or directory: '{files.folder / 'gone.py'}'",
    ]
    assert files.files.lost == {"*"}


@pytest.mark.parametrize(
    ("written", "kept", "paths"),
    [
        ("a = ['one', ('two', {'b': 1})]", ["one", ("two", {"b": 1})], []),
        ("a = (['one'], {'b': 1})", (["one"], {"b": 1}), []),
        ("a = ['-oEvil', 'two']", ["two"], ["a[0]"]),
        ("a = [('one', 1), ('two', {}), 3, ['x']]", [("two", {})], ["a[0]", "a[2]", "a[3]"]),
        ("a = ['@docker/x', '@local', 'One', 'a b', '']", [], ["a[0]", "a[1]", "a[2]", "a[3]", "a[4]"]),
        ("a = ('one', {'b': 1})", [], ["a"]),
        ("a = {'one': {'b': 1}}", [], ["a"]),
        ("a = 'one'", [], ["a"]),
    ],
)
def test_a_group_of_an_inventory_is_a_list_of_hosts(
    written: str, kept: Any, paths: list[str], files: Files
) -> None:
    found = files.run(f"_shared = {{'x': 1}}\nfrom pathlib import Path\n{written}\n", "inventory.py")
    assert found["a"] == kept
    assert [problem.path for problem in files.files.problems] == paths
    assert all(problem.fix for problem in files.files.problems)
    assert ("hosts" in files.files.lost) == bool(paths)


@pytest.mark.parametrize(
    "text",
    [
        "import subprocess\na = subprocess.check_output(['false'])",
        "import yaml\na = yaml.safe_load('[')",
        "import json\na = json.loads('[')",
        "#\na = next(iter(()))",
    ],
)
def test_a_call_that_fails_is_a_mistake_of_its_line(files: Files, text: str) -> None:
    assert files.run(f"{text}\nb = 1")["b"] == 1
    (said,) = files.said
    assert said.startswith("group_data/home.py: line 2: ")
