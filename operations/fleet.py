"""From pyinfra's inventory and group_data to the fleet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

from pyinfra.api.inventory import Inventory
from pyinfra.connectors.ssh import ConnectorData

from cascade.model.fleet import Doubts, Fleet, FleetSettings, misfits
from cascade.model.host import Host
from cascade.model.loader import Reading, examine_group_files
from cascade.model.names import fits
from cascade.model.networks import SETTINGS
from cascade.model.options import Options
from cascade.model.salvage import salvage
from cascade.model.service import GroupFile
from cascade.model.strict import InvalidFiles, Problem, Strict, path_of
from cascade.model.wording import PLACEHOLDER, UNFILLED, line_for, placeholder, shown, wording
from cascade.secrets.identity import identity_path
from cascade.secrets.store import NOTHING_OPEN, Opened, missing, open_values, open_what_can_be
from operations.python_files import PythonFiles
from operations.sources import COMMAND_LINE, EVERYBODYS, Sources
from operations.stand_ins import stand_ins

Model = TypeVar("Model", bound=Strict)
Values = Mapping[str, Any]
Secrets = Literal["named", "there", "open", "open what can be"]

_SSH = get_type_hints(ConnectorData)
_SSH_CHECKS = {
    "ssh_hostname": fits(
        r"(?!.*\.\.)(?!.*[^.]{64})[A-Za-z0-9][A-Za-z0-9:%._-]*",
        "is no address or name of a host",
        "192.0.2.11",
    ),
    "ssh_user": fits(r"[A-Za-z_][A-Za-z0-9_.-]*", "is no name of a user", "deploy"),
}
_OF_ALL_HOSTS = (*FleetSettings.model_fields, *Options.model_fields, "stacks")
_KNOWN = sorted((Host.model_fields.keys() | set(_OF_ALL_HOSTS) | _SSH.keys()) - {"name"})

# In place of what is missing or wrong, so that the rest can be checked; nothing is said about these.
_STAND_INS: dict[type[Strict], Values] = {
    Host: {
        "codename": "none",
        "distribution": "debian",
        "docker_source": "docker",
        "swarm_address": "203.0.113.1",
        "swarm_role": "worker",
    },
    FleetSettings: {
        "images": {},
        "images.*": {"reference": f"unknown@sha256:{'0' * 64}"},
        "networks": (),
        "phases": (),
        "swarm_pool": {"pool": "10.0.0.0/8"},
        "system": "none",
    },
    Options: {},
}


def load_fleet(inventory: Inventory, check_images: bool = True, files: PythonFiles | None = None) -> Fleet:
    """The fleet without the values of its secrets; raises InvalidFiles with every problem."""
    return load_system(inventory, check_images, files).fleet


@dataclass(frozen=True)
class System:
    """A fleet, the values of its secrets that are open, and why others are not, where that is no error."""

    fleet: Fleet
    opened: Opened
    unopened: tuple[Problem, ...]


def load_system(
    inventory: Inventory,
    check_images: bool = True,
    files: PythonFiles | None = None,
    secrets: Secrets = "named",
) -> System:
    """Everything the files say, checked as one, and the values that were opened; raises InvalidFiles.

    `files` are those that the inventory was read from, with the mistakes that were found in them. `secrets`
    says what is asked of the store: nothing, that each value is `there`, to `open` it, or to `open what can
    be`. No more than that is asked by who goes back to a release, whose values the hosts have.
    """
    examination = _Examination(inventory, files, secrets)
    fleet = examination.fleet(check_images)
    return System(fleet, examination.opened, tuple(examination.unopened))


class _Examination:
    """What the files say as far as they can be read, and every problem of them."""

    def __init__(self, inventory: Inventory, files: PythonFiles | None, secrets: Secrets) -> None:
        self.secrets = secrets
        self.opened = NOTHING_OPEN
        self.unopened: list[Problem] = []
        self.sources = Sources(inventory, files)
        self.data: dict[str, Values] = {host.name: host.data.dict() for host in inventory}
        self.shared: Values = next(iter(self.data.values()), inventory.get_data())
        self.problems: list[Problem] = list(files.problems) if files else []
        self.lost = files.lost if files else set()
        self.doubtful = set(_KNOWN) | {"hosts"} if "*" in self.lost else set(self.lost)
        self.doubtful_of: dict[str, frozenset[str]] = {}

    def fleet(self, check_images: bool) -> Fleet:
        options = self._model(Options, self.shared, "", COMMAND_LINE) or Options()
        hosts = {name: self._host(name, _used(values, options)) for name, values in self.data.items()}
        settings = self._model(FleetSettings, _used(self.shared, options), "", SETTINGS)
        readings = self._readings()
        if self.data:
            self._say(self._disagreements())
        groups = {reading.group.name: reading.group for reading in readings if reading.group}
        if settings and options.stand_ins and not self.problems:
            settings = settings.model_copy(update={"images": stand_ins(groups.values())})
        elif options.stand_ins or not check_images:
            self.doubtful.add("images")
        if settings is None or None in hosts.values():
            raise InvalidFiles(sorted(self.problems, key=lambda problem: problem.file))
        found = {name: host for name, host in hosts.items() if host}
        fleet = Fleet(settings, found, groups, options, self._digits(settings, groups, options))
        by_file = {reading.file: reading for reading in readings}
        doubts = Doubts(frozenset(self.doubtful), by_file, self.doubtful_of)
        self._say(misfits(fleet, doubts))
        if self.problems:
            raise InvalidFiles(sorted(self.problems, key=lambda problem: problem.file))
        return fleet

    def _host(self, name: str, values: Values) -> Host | None:
        for key in filter(values.__contains__, _KNOWN):
            places = list(_placeholders(values[key], (key,)))
            self.doubtful |= {key} if places else set()
            self._say(Problem(SETTINGS, path_of(at, name), *placeholder(str(at[-1]))) for at in places)
        self._say(_strays(name, values))
        self._say(_ssh_problems(name, values))
        self._say(_hardening_problems(name, values))
        return self._model(Host, {**values, "name": name}, name, SETTINGS)

    def _model(self, model: type[Model], values: Values, root: str, file: str) -> Model | None:
        """The model of what is right; what a file that could not be read may define is not missing."""
        known = {name: value for name, value in values.items() if name in model.model_fields}
        found = salvage(model, known, _STAND_INS[model])
        self.doubtful |= found.doubtful
        self.doubtful_of[root] = found.doubtful | self.lost
        unread = self.lost if "*" not in self.lost else set(_KNOWN)
        self._say(
            Problem(file, path_of(error["loc"], root), *wording(error, python=True))
            for error in found.errors
            if error["type"] != "missing" or error["loc"][0] not in unread
        )
        return found.model

    def _digits(
        self, settings: FleetSettings, groups: Mapping[str, GroupFile], options: Options
    ) -> dict[str, str]:
        """Those of the values that are opened; what is wrong with the store is said like all else."""
        unclear = any(problem.path.startswith("secrets.") for problem in self.problems)
        if self.secrets == "named" or unclear or self.doubtful & {"system", "secrets", "identity"}:
            return {}
        stored = [found for group in groups.values() for found in group.stored_secrets.values()]
        names = {found.name for found in stored}
        generated = {found.name for found in stored if found.generate}
        folder, identity = Path(settings.secrets), identity_path(settings.identity)
        if self.secrets == "there":
            self._say(missing(folder, names, generated))
            return {}
        store = folder, identity, settings.system, names, generated
        if self.secrets == "open what can be" or options.rollback or options.repair:
            self.opened, self.unopened = open_what_can_be(*store)
        else:
            try:
                self.opened = open_values(*store)
            except InvalidFiles as invalid:
                self._say(list(invalid.problems))
        return {name: self.opened.keyed_digest(name) for name in self.opened.values}

    def _readings(self) -> list[Reading]:
        stacks = self.shared.get("stacks")
        fix = f"write `{line_for('stacks')}`"
        if stacks is None:
            self.doubtful.add("groups")
            if not {"stacks", "*", "hosts"} & self.lost and self.data:
                self._say([Problem(SETTINGS, "stacks", "is missing", fix.replace("write", "add"))])
            return []
        if not isinstance(stacks, str) or not _there(stacks, Path.is_dir):
            self.doubtful.add("groups")
            self._say([Problem(SETTINGS, "stacks", f"{shown(stacks)} is no folder with group files", fix)])
            return []
        readings, problems = examine_group_files(Path(stacks))
        if any(reading.group is None or reading.doubts("name") for reading in readings) or not readings:
            self.doubtful.add("groups")
        self._say(problems)
        return readings

    def _disagreements(self) -> Iterator[Problem]:
        """What holds for the system as a whole must be the same for every host."""
        (first, reference), *others = self.data.items()
        for host, values in others:
            for name in _OF_ALL_HOSTS:
                if values.get(name) != reference.get(name):
                    files = {at: self.sources.file_defining(at, name) for at in (host, first)}
                    at = next((at for at, file in files.items() if file not in (None, EVERYBODYS)), host)
                    reason = f"differs between {first} and {host}, and it is one value for all hosts"
                    fix = f"write it once, in {EVERYBODYS}"
                    yield Problem(SETTINGS, path_of([name], at), reason, fix)

    def _say(self, problems: Iterator[Problem] | list[Problem]) -> None:
        """Each once, and nothing more about a placeholder or about what a wrong value lies in."""
        for problem in map(self.sources.located, problems):
            beside = [said for said in self.problems if said.file == problem.file]
            inside = any(said.path.startswith(f"{problem.path}.") for said in beside)
            unfilled = any(said.path == problem.path and said.reason == UNFILLED for said in beside)
            if not (inside or unfilled or problem in beside):
                self.problems.append(problem)


def _used(values: Values, options: Options) -> Values:
    """What this run uses of a host's values: a rehearsal needs no images."""
    return {**values, "images": {}} if options.stand_ins else values


def _strays(host: str, values: Values) -> Iterator[Problem]:
    """A name that nothing reads is a mistake, not data."""
    for name in values:
        if name not in _KNOWN and not name.startswith("_"):
            near = get_close_matches(name, _KNOWN, 1) if name != "name" else []
            fix = f"write {near[0]}" if near else "remove it, or begin it with _ if it is a value of your own"
            yield Problem(SETTINGS, path_of([name], host), "nothing reads this", fix)


def _ssh_problems(host: str, values: Values) -> Iterator[Problem]:
    """What pyinfra's connector would not take, or would take for something else."""
    for name, kind in _SSH.items():
        if name not in values or name in Host.model_fields:
            continue
        value, path = values[name], path_of([name], host)
        if not isinstance(value, kind) and not (kind is float and isinstance(value, int)):
            yield Problem(SETTINGS, path, f"{shown(value)} is no {kind.__name__}", f"write {_KINDS[kind]}")
        elif name in _SSH_CHECKS:
            try:
                _SSH_CHECKS[name](value)
            except ValueError as error:
                yield Problem.saying(SETTINGS, path, str(error))
        elif name == "ssh_key" and not _there(value, Path.is_file):
            fix = "write the path of a private key; `cascade bootstrap` makes one, `cascade lab up` the lab's"
            yield Problem(SETTINGS, path, f"there is no key {value}", fix)


def _hardening_problems(host: str, values: Values) -> Iterator[Problem]:
    """Who would be locked out must not close the door."""
    if values.get("ssh_hardening") is not True:
        return
    path = path_of(["ssh_hardening"], host)
    if values.get("ssh_user", "root") == "root":
        fix = 'write ssh_user = "deploy" beside it, which `cascade bootstrap` makes, or leave SSH as it is'
        yield Problem(SETTINGS, path, "it closes SSH to root, and ssh_user names nobody else", fix)
    if "ssh_password" in values:
        fix = "write ssh_key in place of ssh_password, or leave SSH as it is"
        yield Problem(SETTINGS, path, "it closes SSH to passwords, and this host is reached with one", fix)


def _there(path: str, kind: Callable[[Path], bool]) -> bool:
    """Not so for what no path can be: too long, or the home of a user who is not there."""
    try:
        return kind(Path(path).expanduser())
    except (OSError, RuntimeError):
        return False


_KINDS = {str: 'a text in quotes, like "deploy"', bool: "True or False", int: "a number like 2"}
_KINDS |= {float: "a number like 0.5", dict: 'a map like {"timeout": 10}'}


def _placeholders(value: Any, place: tuple[int | str, ...]) -> Iterator[tuple[int | str, ...]]:
    """Where a value still holds what somebody was to change."""
    if isinstance(value, Strict):
        value = value.model_dump()
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _placeholders(item, (*place, str(key)))
            if PLACEHOLDER in str(key):
                yield (*place, str(key))
    elif isinstance(value, (list, tuple, set, frozenset)):
        for number, item in enumerate(value):
            yield from _placeholders(item, (*place, number))
    elif isinstance(value, (str, Path)) and PLACEHOLDER in str(value):
        yield place
