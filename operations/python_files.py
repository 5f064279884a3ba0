"""Inventories and group_data are Python: run statement by statement, so that each mistake is found."""

from __future__ import annotations
import __future__

import ast
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

from pydantic import ValidationError
from pyinfra.api.exceptions import PyinfraError
from yaml import YAMLError

from cascade.model.names import check_dns_name
from cascade.model.strict import Problem, Strict, path_of, problems_of

# What a mistake in a file of plain values raises.
_MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    NameError,
    OSError,
    PyinfraError,
    RuntimeError,
    StopIteration,
    SubprocessError,
    SyntaxError,
    TypeError,
    ValueError,
    YAMLError,
)
_LARGEST_BYTES = 1024 * 1024
_FUTURES = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
_HOSTS = 'write mainpc = [("mainpc", {"ssh_hostname": "192.0.2.11", "swarm_address": "192.0.2.11"})]'

Location = tuple[int | str, ...]
Namespace = dict[str, Any]


class PythonFiles:
    """What the files of one inventory define, their mistakes, and the names that a mistake took away."""

    def __init__(self, inventory: str) -> None:
        self.inventory = shown_path(inventory)
        self.problems: list[Problem] = []
        self.lost: set[str] = set()
        self._defining: dict[tuple[str, str], str] = {}
        self._path = inventory

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While pyinfra loads an inventory; its own way ends at the first mistake, with a traceback."""
        import pyinfra_cli.inventory

        original = pyinfra_cli.inventory.exec_file
        pyinfra_cli.inventory.exec_file = self.execute
        try:
            yield
        finally:
            pyinfra_cli.inventory.exec_file = original

    def file_defining(self, group: str, name: str) -> str:
        """The file that gave a group of the inventory this value."""
        return self._defining.get((group, name), self.inventory)

    def execute(self, filename: str, return_locals: bool = False, **_: Any) -> Namespace:
        """In place of pyinfra's function of this name: what a file defines."""
        file = _File(filename)
        namespace = file.run()
        self.problems += file.problems
        self.lost |= file.lost
        exported = [name for name in namespace if name not in file.imported and not name.startswith("__")]
        if Path(filename).resolve() == Path(self._path).resolve():
            wrong = list(_mend_groups(file, namespace, exported))
            self.problems += wrong
            if wrong or file.lost:
                self.lost.add("hosts")
        else:
            self._defining |= {(Path(filename).stem, name): file.shown for name in exported}
        return {"__all__": exported, **namespace} if return_locals else {}


def shown_path(filename: str) -> str:
    """A file's path as a person would write it, from the folder that the run stands in."""
    path = Path(filename).resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename


class _File:
    """One file as it runs."""

    def __init__(self, filename: str) -> None:
        self.filename = filename
        self.shown = shown_path(filename)
        self.problems: list[Problem] = []
        self.lost: set[str] = set()
        self.imported: set[str] = set()
        self.assigned: set[str] = set()

    def run(self) -> Namespace:
        """What the file defines, as far as it is right."""
        namespace: Namespace = {"__file__": self.filename}
        try:
            source = _source_of(Path(self.filename))
            statements = ast.parse(source, self.filename).body
            flags = compile(source, self.filename, "exec", dont_inherit=True).co_flags & _FUTURES
        except _MISTAKES as error:
            self.problems.append(self._general(error))
            self.lost.add("*")
            return namespace
        for statement in statements:
            self._note(statement)
            code = compile(ast.Module([statement], []), self.filename, "exec", flags=flags, dont_inherit=True)
            try:
                exec(code, namespace)  # noqa: S102 - these files are Python, as in every run of pyinfra
            except _MISTAKES as error:
                self.problems += self._mistakes(statement, error, namespace)
                self.lost |= _bound(statement)
        return namespace

    def _note(self, statement: ast.stmt) -> None:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            self.imported |= _bound(statement)
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
            self.assigned |= _bound(statement)

    def _mistakes(self, statement: ast.stmt, error: BaseException, namespace: Namespace) -> Iterable[Problem]:
        if isinstance(error, NameError) and error.name in self.lost:
            return []
        if not isinstance(error, ValidationError):
            return [self._general(error)]
        inside = [
            problem
            for location, refused in _refused_models(statement, namespace)
            for problem in problems_of(refused, self.shown, path_of(location))
        ]
        root = ", ".join(sorted(_bound(statement))) or error.title
        return inside or problems_of(error, self.shown, root)

    def _general(self, error: BaseException) -> Problem:
        """A mistake of Python's own, with its line."""
        if isinstance(error, SyntaxError) and error.lineno:
            text = (error.text or "").strip()
            return Problem(self.shown, f"line {error.lineno}", error.msg, f"correct this: {text}")
        if isinstance(error, UnicodeDecodeError):
            return Problem(self.shown, "", "not a text in UTF-8", "save it as UTF-8")
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == self.filename
        ]
        where = f"line {lines[-1]}" if lines else ""
        said = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, KeyError):
            said = f"there is no {said} in it"
        return Problem(self.shown, where, said, _advice(error))


def _source_of(path: Path) -> str:
    if path.stat().st_size > _LARGEST_BYTES:
        raise ValueError(f"{path.stat().st_size} bytes, and such a file has at most {_LARGEST_BYTES}")
    return path.read_text(encoding="utf-8")


def _advice(error: BaseException) -> str:
    match error:
        case ModuleNotFoundError():
            return "correct the name of the module, or remove the import"
        case ImportError():
            return "correct the name that is imported"
        case NameError():
            return "put it in quotes if it is a text, or define it above"
        case TypeError() if "positional argument" in str(error):
            return 'write each value with its name, like Overlay(name="cascade-internal")'
        case OSError():
            return "put a readable file there, or remove it"
    return "correct that line"


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement makes."""
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return {statement.name}
    parts = statement.targets if isinstance(statement, ast.Assign) else [statement]
    nodes = [node for part in parts for node in ast.walk(part)]
    stored = [node for node in nodes if isinstance(getattr(node, "ctx", None), ast.Store)]
    return {str(_place(node)[0]) for node in stored if isinstance(node, ast.expr) and _place(node)}


def _refused_models(statement: ast.stmt, namespace: Namespace) -> Iterator[tuple[Location, ValidationError]]:
    """Each model of a statement that refuses its values, with its place; not those around it."""
    if isinstance(statement, ast.Assign):
        for target, value in _pairs(statement.targets[0], statement.value):
            yield from _refused_in(value, _place(target), namespace)
    elif isinstance(statement, ast.AnnAssign) and statement.value:
        yield from _refused_in(statement.value, _place(statement.target), namespace)


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What `a, b = 1, 2` assigns to which."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        yield from zip(target.elts, value.elts, strict=False)
    else:
        yield target, value


def _place(target: ast.expr) -> Location:
    """What `name` and `name["key"]` call."""
    if isinstance(target, ast.Subscript):
        key = (str(target.slice.value),) if isinstance(target.slice, ast.Constant) else ()
        return (*_place(target.value), *key)
    return (target.id,) if isinstance(target, ast.Name) else ()


def _refused_in(
    node: ast.expr, location: Location, namespace: Namespace
) -> Iterator[tuple[Location, ValidationError]]:
    below = [
        found for part, place in _parts(node) for found in _refused_in(part, (*location, *place), namespace)
    ]
    yield from below
    if below or not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        return
    model = namespace.get(node.func.id)
    if not (isinstance(model, type) and issubclass(model, Strict)):
        return
    try:
        eval(compile(ast.Expression(node), "", "eval"), namespace)  # noqa: S307 - a part of the statement
    except ValidationError as error:
        yield location, error
    except _MISTAKES:
        return  # It stands in a loop: then the whole statement's error is what there is to say.


def _parts(node: ast.expr) -> Iterator[tuple[ast.expr, Location]]:
    """What stands in an expression, and where."""
    if isinstance(node, ast.Call):
        yield from ((keyword.value, (keyword.arg or "",)) for keyword in node.keywords)
    elif isinstance(node, (ast.Tuple, ast.List)):
        yield from ((part, (number,)) for number, part in enumerate(node.elts))
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            yield value, (str(key.value),) if isinstance(key, ast.Constant) else ()


def _mend_groups(file: _File, namespace: Namespace, exported: list[str]) -> Iterator[Problem]:
    """Leaves in the groups the hosts that pyinfra can take, and says what it would pass over."""
    for name in exported:
        if name.startswith("_") or name not in file.assigned:
            continue
        value = namespace[name]
        hosts = value[0] if _has_data(value) else value
        if not isinstance(hosts, list):
            reason = "no list of hosts, so nothing reads it"
            yield Problem(file.shown, name, reason, f"{_HOSTS}, or begin the name with _")
            namespace[name] = []
            continue
        wrong = [(number, fault) for number, host in enumerate(hosts) for fault in _host_faults(host)]
        for number, (reason, fix) in wrong:
            yield Problem(file.shown, path_of([name, number]), reason, fix)
        kept = [host for number, host in enumerate(hosts) if number not in dict(wrong)]
        namespace[name] = (kept, value[1]) if _has_data(value) else kept


def _has_data(value: object) -> bool:
    """A group of hosts with data of its own: `([…], {…})`."""
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[0], list)
        and isinstance(value[1], dict)
    )


def _host_faults(host: object) -> Iterator[tuple[str, str]]:
    named = (
        isinstance(host, tuple) and len(host) == 2 and isinstance(host[0], str) and isinstance(host[1], dict)
    )
    if not isinstance(host, str) and not named:
        yield "no host", _HOSTS
        return
    name = host if isinstance(host, str) else host[0]  # type: ignore[index]
    if name.startswith("@"):
        yield f"{name!r}: Cascade reaches hosts over SSH only", "write a name, and ssh_hostname beside it"
        return
    try:
        check_dns_name(name)
    except ValueError as error:
        problem = Problem.saying("", "", str(error))
        yield problem.reason, problem.fix
