"""Why Swarm finds no node for a task: the arithmetic that its own words leave out.

Source: SwarmKit, manager/scheduler: a node must be ready, have left what is reserved, meet all constraints
and have those ports free that are published on the host itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cascade.model.gpu import VRAM

Task = Mapping[str, Any]
Node = Mapping[str, Any]
Amounts = Mapping[str, int]
Cause = Literal["insufficient_resources", "constraints_not_satisfied", "host_port_in_use", "no_suitable_node"]

_HOLDING = ("assigned", "accepted", "preparing", "ready", "starting", "running")
_UNITS = {"CPU": 10**9, "GB memory": 2**30}


@dataclass(frozen=True)
class Cluster:
    """The Swarm as its manager sees it: nodes and tasks as the Engine API has them, services by their IDs."""

    nodes: tuple[Node, ...]
    tasks: tuple[Task, ...]
    services: Mapping[str, Mapping[str, Any]]

    def name_of(self, task: Task) -> str:
        """The name of the service that a task belongs to."""
        return str(self._spec_of(task).get("Name", task["ServiceID"]))

    def host_ports(self, task: Task) -> set[tuple[int, str]]:
        """The ports that a task publishes on its host itself."""
        ports = self._spec_of(task).get("EndpointSpec", {}).get("Ports") or ()
        return {
            (port["PublishedPort"], port["Protocol"])
            for port in ports
            if port.get("PublishMode") == "host" and port.get("PublishedPort")
        }

    def on(self, node: Node) -> Iterator[Task]:
        """The tasks that hold something of a node."""
        return (
            task
            for task in self.tasks
            if task.get("NodeID") == node["ID"] and task["Status"]["State"] in _HOLDING
        )

    def makes_room(self, task: Task, waiting: Task) -> bool:
        """Whether a task is about to stop, or will be to let this one, its successor, in."""
        order = self._spec_of(waiting).get("UpdateConfig", {}).get("Order", "stop-first")
        same = (task["ServiceID"], task.get("Slot")) == (waiting["ServiceID"], waiting.get("Slot"))
        stops = task["DesiredState"] not in ("running", "ready")
        return stops or (same and order == "stop-first") or self._is_being_replaced(task, waiting)

    def _is_being_replaced(self, task: Task, waiting: Task) -> bool:
        """Whether an update of another service goes on, after which this task may hold less, or be gone."""
        service = task["ServiceID"]
        updating = self.services.get(service, {}).get("UpdateStatus", {}).get("State") == "updating"
        waits_too = any(
            one["ServiceID"] == service and one["Status"]["State"] == "pending" for one in self.tasks
        )
        return updating and service != waiting["ServiceID"] and not waits_too

    def _spec_of(self, task: Task) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.services.get(task["ServiceID"], {}).get("Spec", {})
        return found


@dataclass(frozen=True)
class Unplaced:
    """Why a task will find no node, with the names and numbers."""

    cause: Cause
    detail: str


def why_unplaced(task: Task, cluster: Cluster) -> Unplaced | None:
    """None where a node may still come free: one that is away comes back, what stops lets go."""
    constraints = tuple(task["Spec"].get("Placement", {}).get("Constraints") or ())
    nodes = sorted(cluster.nodes, key=_name)
    eligible = [node for node in nodes if all(_meets(node, one) for one in constraints)]
    if not eligible:
        return Unplaced("constraints_not_satisfied", "; ".join(_unmet(constraints, nodes)))
    if any(node["Status"]["State"] != "ready" for node in eligible):
        return None
    ready = [node for node in eligible if node["Spec"]["Availability"] == "active"]
    if not ready:
        inactive = (f"{_name(node)} is set to {node['Spec']['Availability']}" for node in eligible)
        return Unplaced("no_suitable_node", ", ".join(inactive))
    short = [list(_short(node, task, cluster)) for node in ready]
    held = [list(_held(node, task, cluster)) for node in ready]
    if all(one or other for one, other in zip(short, held, strict=True)):
        cause: Cause = "insufficient_resources" if any(short) else "host_port_in_use"
        return Unplaced(cause, "; ".join(line for lines in (*short, *held) for line in lines))
    if any(one in task["Status"]["Err"] for one in ("insufficient resources", "host-mode port")):
        return None
    return Unplaced("no_suitable_node", _words(task["Status"]["Err"]))


def _words(error: str) -> str:
    return error.removeprefix("no suitable node").strip(" ()")


def _name(node: Node) -> str:
    return str(node["Description"].get("Hostname") or node["ID"])


def _meets(node: Node, constraint: str) -> bool:
    """What this knows nothing of is taken as met."""
    equal = "==" in constraint
    key, _, value = (part.strip() for part in constraint.partition("==" if equal else "!="))
    known = _attribute(node, key)
    return known is None or (known.lower() == value.lower()) is equal


def _attribute(node: Node, key: str) -> str | None:
    if key.startswith("node.labels."):
        return str((node["Spec"].get("Labels") or {}).get(key.removeprefix("node.labels."), ""))
    return {
        "node.id": node["ID"],
        "node.hostname": _name(node),
        "node.role": node["Spec"].get("Role", ""),
    }.get(key)


def _unmet(constraints: Iterable[str], nodes: list[Node]) -> Iterator[str]:
    for constraint in constraints:
        if names := [_name(node) for node in nodes if not _meets(node, constraint)]:
            yield f"{constraint} is not met by {', '.join(names)}"


def _short(node: Node, task: Task, cluster: Cluster) -> Iterator[str]:
    """What a node has too little of for a task, even when all that is to stop has stopped."""
    has = _amounts(node["Description"]["Resources"])
    taken, kept = Counter[str](), Counter[str]()
    for other in cluster.on(node):
        taken.update(_reserved(other))
        kept.update({} if cluster.makes_room(other, task) else _reserved(other))
    for what, asked in _reserved(task).items():
        if asked > has.get(what, 0) - kept[what]:
            offered = has.get(what, 0) - taken[what]
            unit = f"{_shown(what, offered)} {_unit(what)}"
            yield f"{_name(node)} offers {unit}, {_shown(what, asked)} requested"


def _held(node: Node, task: Task, cluster: Cluster) -> Iterator[str]:
    wanted = cluster.host_ports(task)
    for other in cluster.on(node):
        for port, protocol in sorted(wanted & cluster.host_ports(other)):
            if not cluster.makes_room(other, task):
                yield f"{port}/{protocol} on {_name(node)} is held by {cluster.name_of(other)}"


def _reserved(task: Task) -> Amounts:
    return _amounts((task["Spec"].get("Resources") or {}).get("Reservations") or {})


def _amounts(resources: Mapping[str, Any]) -> Amounts:
    found = Counter({"CPU": resources.get("NanoCPUs", 0), "GB memory": resources.get("MemoryBytes", 0)})
    for item in resources.get("GenericResources") or ():
        if discrete := item.get("DiscreteResourceSpec"):
            found[discrete["Kind"]] += discrete["Value"]
        elif named := item.get("NamedResourceSpec"):
            found[named["Kind"]] += 1
    return {what: amount for what, amount in found.items() if amount}


def _unit(what: str) -> str:
    """Memory of a GPU is counted in MiB, whatever Swarm calls it."""
    if what == VRAM:
        return "MiB"
    return f"MiB of {what}" if what.startswith(f"{VRAM}-") else what


def _shown(what: str, amount: int) -> str:
    """With as many decimals as it takes to see that the one is less than the other."""
    if what not in _UNITS:
        return str(amount)
    whole = f"{max(amount, 0) / _UNITS[what]:.3f}".rstrip("0")
    return f"{whole}0" if whole.endswith(".") else whole
