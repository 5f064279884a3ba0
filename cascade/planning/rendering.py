"""What becomes of files: the Engine API's specs of workloads, and of a foreign Compose file each line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Literal

from cascade.model.document import read_document, read_nodes
from cascade.model.fleet import Doubts, Fleet, FleetSettings, Overlay, SwarmPool, misfits
from cascade.model.gpu import HostGpu
from cascade.model.host import Host
from cascade.model.image import RegistryImage
from cascade.model.keys import key_of
from cascade.model.lines import Leaf, leaves
from cascade.model.loader import examine_document
from cascade.model.service import GroupFile
from cascade.model.strict import InvalidFiles, Problem, path_of
from cascade.model.workload import Workload
from cascade.planning.destinations import NO_EFFECT, destination
from cascade.planning.redaction import REDACTED, redacted, secrets_of, shows
from cascade.planning.specs import LABEL_DIGEST, container_body, service_spec

Becomes = Literal["honoured", "no effect", "refused"]
Document = dict[str, Any]

_LAST_PART = re.compile(r"(?:\.[^.\[\]]+|\[[^\[\]]*\]|^[^.\[\]]+)$")
_ABOUT_THE_WHOLE = re.compile(r"services(?:\.[^.\[\]]+|\[[^\[\]]*\])?")
_QUOTED = re.compile(r"(['\"]).*(?:\1|…)", re.DOTALL)
# How many hosts there are is the fleet's, and none is known where there is only a file.
_OF_THE_FLEET = ".max_replicas_per_node"


@dataclass(frozen=True)
class Line:
    """What becomes of one value: where it ends up, or why it does not and what to write instead."""

    line: int
    path: str
    becomes: Becomes
    text: str
    fix: str = ""


@dataclass(frozen=True)
class Explanation:
    """Every value of a Compose file, problems of more than one value, and the specs if it has no problem."""

    file: str
    name: str
    lines: tuple[Line, ...]
    problems: tuple[Problem, ...]
    needs: Mapping[str, tuple[str, ...]]
    workloads: tuple[Document, ...]

    @property
    def refused(self) -> bool:
        return bool(self.problems) or any(line.becomes == "refused" for line in self.lines)

    def counts(self) -> dict[Becomes, int]:
        found = Counter(line.becomes for line in self.lines)
        return {"honoured": found["honoured"], "no effect": found["no effect"], "refused": found["refused"]}

    def document(self) -> Document:
        problems = [problem.document() for problem in self.problems]
        return {**asdict(self), "problems": problems, "refused": self.refused}


def rendered(fleet: Fleet) -> list[Document]:
    """The specs of a fleet's chosen groups by name, fit to be shown."""
    found = [workload for workloads in fleet.workloads.values() for workload in workloads]
    return [_document(workload, fleet) for workload in sorted(found, key=lambda workload: workload.name)]


def _document(workload: Workload, fleet: Fleet) -> Document:
    make = service_spec if workload.kind == "service" else container_body
    return {
        "name": workload.name,
        "kind": workload.kind,
        "why_container": workload.why_container,
        "hosts": [host.name for host in fleet.eligible(workload)],
        "spec": redacted(make(workload, fleet)),
    }


def explain(path: Path) -> Explanation:
    """What becomes of each value of a Compose file; raises InvalidFiles if it is none."""
    document = read_document(path)
    if not isinstance(document, dict):
        raise InvalidFiles(examine_document(document, str(path)).problems)
    found = leaves(read_nodes(path))
    document.setdefault("name", _project_name(path))
    reading = examine_document(document, str(path))
    problems = list(reading.problems)
    fleet = _fleet(reading.group) if reading.group else None
    if fleet:
        doubts = Doubts(frozenset({"images"}), {str(path): reading})
        problems += [one for one in misfits(fleet, doubts) if not one.path.endswith(_OF_THE_FLEET)]
    lines, elsewhere = _lines(found, problems, _containers(document), secrets_of(document))
    name = reading.group.name if reading.group else ""
    workloads = tuple(_shown(fleet)) if fleet and not problems else ()
    return Explanation(str(path), name, tuple(lines), tuple(elsewhere), _needs(reading.group), workloads)


def _project_name(path: Path) -> str:
    """The folder's name as Compose makes a project's name of it."""
    return re.sub(r"[^a-z0-9_-]", "", path.resolve().parent.name.lower()).lstrip("-_") or "compose"


class _AnyHost(Host):
    """A machine that has whatever is asked for; of a GPU only where the file shares one."""

    def meets(self, constraint: str) -> bool:
        return bool(constraint)


_HOST = _AnyHost(
    name="host",
    swarm_address="192.0.2.1",
    swarm_role="manager",
    distribution="debian",
    codename="trixie",
    docker_source="docker",
    absent=frozenset({"gpu"}),
)
_SHARING = _HOST.model_copy(update={"absent": frozenset(), "gpu": HostGpu()})


def _fleet(group: GroupFile) -> Fleet:
    """A fleet that has what the file asks for, so that the file's own mistakes are all there are."""
    stand_in = RegistryImage(reference=f"image@sha256:{'0' * 64}")
    settings = FleetSettings(
        system="cascade",
        phases=((group.name,),),
        networks=tuple(Overlay(name=name) for name in sorted(set(group.network_names().values()))),
        swarm_pool=SwarmPool(pool=IPv4Network("10.0.0.0/8"), subnet_size=16),
        images={service.image: stand_in for service in group.services.values()},
    )
    enabled = group.model_copy(update={"enabled": True})
    shared = any(service.gpu for service in group.services.values())
    return Fleet(settings, {_HOST.name: _SHARING if shared else _HOST}, {group.name: enabled})


def _shown(fleet: Fleet) -> Iterator[Document]:
    """The specs with the images' names as the file has them: what they are pinned to, group_data says."""
    images = {
        workload.name: workload.service.image for found in fleet.workloads.values() for workload in found
    }
    for document in rendered(fleet):
        spec, image = document["spec"], images[document["name"]]
        container = spec["TaskTemplate"]["ContainerSpec"] if document["kind"] == "service" else spec
        container["Image"] = image
        del spec["Labels"][LABEL_DIGEST]
        yield {name: value for name, value in document.items() if name != "hosts"}


def _needs(group: GroupFile | None) -> dict[str, tuple[str, ...]]:
    """What group_data must declare before such a file can be deployed."""
    if group is None:
        return {}
    images = {service.image for service in group.services.values()}
    return {"images": tuple(sorted(images)), "networks": tuple(sorted(set(group.network_names().values())))}


def _discreet(problem: Problem, about: str, secrets: Iterable[str]) -> Problem:
    """The problem without its quotations when what it is about gives a secret away."""
    if not any(shows(about, secret) for secret in secrets):
        return problem
    reason, fix = (_QUOTED.sub(REDACTED, text) for text in (problem.reason, problem.fix))
    return Problem(problem.file, problem.path, reason, fix)


def _containers(document: Document) -> set[str]:
    """The services that become host containers."""
    services = document.get("services")
    found = services.items() if isinstance(services, dict) else ()
    return {
        str(name) for name, keys in found if isinstance(keys, dict) and {"devices", "shm_size"} & keys.keys()
    }


def _lines(
    found: list[Leaf], problems: list[Problem], containers: set[str], secrets: list[str]
) -> tuple[list[Line], list[Problem]]:
    """Each value with the problem that says most about it, and the problems that are of no single value."""
    matched: dict[Leaf, Problem] = {}
    for problem in sorted(problems, key=lambda problem: len(problem.path)):
        matched |= dict.fromkeys(_leaves_of(problem.path, found), problem)
    shown = {leaf: _discreet(problem, leaf.text, secrets) for leaf, problem in matched.items()}
    lines = [_line(leaf, shown.get(leaf), containers) for leaf in found]
    elsewhere = [problem for problem in problems if problem not in matched.values()]
    return lines, [_discreet(problem, problem.reason + problem.fix, secrets) for problem in elsewhere]


def _leaves_of(path: str, found: Iterable[Leaf]) -> list[Leaf]:
    """The values that a problem is about: those below its path, or the short form that it is part of."""
    while path and not _ABOUT_THE_WHOLE.fullmatch(path):
        if inside := [leaf for leaf in found if any(_lies_in(name, path) for name in _names(leaf))]:
            return inside
        path = _LAST_PART.sub("", path)
    return []


def _names(leaf: Leaf) -> Iterator[str]:
    """The leaf's path; for `KEY=value` or a name in a list also the path that it has as a map."""
    yield path_of(leaf.place)
    if leaf.place and isinstance(leaf.place[-1], int):
        yield path_of((*leaf.place[:-1], leaf.text.partition("=")[0]))


def _lies_in(name: str, path: str) -> bool:
    return name == path or name.startswith((f"{path}.", f"{path}["))


def _line(leaf: Leaf, problem: Problem | None, containers: set[str]) -> Line:
    path = path_of(leaf.place)
    if problem:
        return Line(leaf.line, path, "refused", problem.reason, problem.fix)
    text = _becomes(leaf, containers)
    return Line(leaf.line, path, "no effect" if text.startswith(NO_EFFECT) else "honoured", text)


def _becomes(leaf: Leaf, containers: set[str]) -> str:
    first, key = str(leaf.place[0]), key_of(leaf.place)
    if first.startswith("x-") and first != key:
        return f"{NO_EFFECT}: a place for YAML anchors"
    found = destination(key)
    if found is None:
        return f"{NO_EFFECT}: there is nothing in it"
    return found.of(first == "services" and str(leaf.place[1]) in containers)
