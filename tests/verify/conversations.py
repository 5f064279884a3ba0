"""Who finds and reaches whom, asked from agents and hosts themselves: each kind of question put at once."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cascade.model.host import Host
from cascade.model.workload import Workload
from tests.verify.evidence import Evidence, Question, Remembered, Replica
from tests.verify.expected import Expected

Answers = Mapping[Question, Any]
# How long an attempt may last that is to fail.
REFUSED_WITHIN_S = 1
# How an attempt fails that arrives nowhere; who refuses it was reached.
NOWHERE = (
    "TimeoutError:",
    "PermissionError:",
    f"OSError: [Errno {errno.ENETUNREACH}]",
    f"OSError: [Errno {errno.EHOSTUNREACH}]",
)


class Conversations:
    """The answers by the name of the agent that they are about."""

    def __init__(self, evidence: Evidence, expected: Expected) -> None:
        self._evidence = evidence
        self._expected = expected
        self._system = expected.fleet.settings.system

    @Remembered
    def names(self) -> Mapping[str, Answers]:
        """What each alias of an agent resolves to, asked on each host of each of its networks."""
        return self._heard(self._about_names)

    @Remembered
    def connections(self) -> Mapping[str, Answers]:
        """Which addresses behind an agent's name take connections at its two ports, from each host."""
        return self._heard(self._about_ports)

    @Remembered
    def metrics(self) -> Mapping[str, Answers]:
        """What `/metrics` of each agent answers to the agents that monitor."""
        return self._heard(self._about_metrics)

    @Remembered
    def ways_out(self) -> Mapping[str, Answers]:
        """What becomes of connections from each replica of a closed agent to the SSH server of each host."""
        return self._heard(self._about_ways_out)

    @Remembered
    def outsiders(self) -> Mapping[str, Answers]:
        """What agents find and reach of one with which they share no network."""
        return self._heard(self._about_outsiders)

    @Remembered
    def doors(self) -> Mapping[str, Answers]:
        """Who answers the other hosts at the ports that an agent publishes."""
        return self._heard(self._about_doors)

    def shared_networks(self, one: Workload, other: Workload) -> set[str]:
        """The networks that two agents have in common."""
        return {*one.networks(self._system)} & {*other.networks(self._system)}

    def addresses(self, alias: str, network: str) -> list[str]:
        """What an alias is to resolve to on a network."""
        named = (
            one
            for one in self._expected.workloads.values()
            if alias in one.networks(self._system).get(network, ())
        )
        return sorted(address for one in named for address in self._addresses_of(one, network))

    def is_closed(self, workload: Workload) -> bool:
        """Whether all its networks are internal."""
        return all(self._expected.overlays[name].internal for name in workload.networks(self._system))

    def _heard(self, about: Any) -> Mapping[str, Answers]:
        questions = {name: list(about(one)) for name, one in self._expected.judged.items()}
        answers = self._evidence.answers(question for found in questions.values() for question in found)
        return {
            name: {question: answers[question] for question in found} for name, found in questions.items()
        }

    def _about_names(self, workload: Workload) -> Iterator[Question]:
        for network, aliases in workload.networks(self._system).items():
            for asker in self.askers(workload, network):
                yield from (Question(asker, "names", (alias,)) for alias in aliases)

    def _about_ports(self, workload: Workload) -> Iterator[Question]:
        if workload.declared is None:
            return
        for network, (name, *_) in workload.networks(self._system).items():
            for asker in self.askers(workload, network):
                for port in (workload.declared.port, workload.declared.health_port):
                    yield Question(asker, "reach", (name, port))

    def _about_metrics(self, workload: Workload) -> Iterator[Question]:
        if workload.declared is None:
            return
        (name, *_), *_ = workload.networks(self._system).values()
        for monitor in self.monitors:
            if self.shared_networks(monitor, workload):
                for asker in self._evidence.replicas[monitor.name][:1]:
                    yield Question(asker, "answered", (name, workload.declared.health_port, "/metrics"))

    def _about_ways_out(self, workload: Workload) -> Iterator[Question]:
        if self.is_closed(workload):
            for asker in self._evidence.replicas[workload.name]:
                for host in self._expected.fleet.hosts.values():
                    place = (host.swarm_address, host.ssh_port, REFUSED_WITHIN_S)
                    yield Question(asker, "connect", place)

    def _about_outsiders(self, workload: Workload) -> Iterator[Question]:
        (name, *_), *_ = workload.networks(self._system).values()
        port = workload.declared.health_port if workload.declared else None
        for asker in self._strangers(workload):
            yield Question(asker, "names", (name,))
            for network in workload.networks(self._system) if port else ():
                for address in self._addresses_of(workload, network):
                    yield Question(asker, "connect", (address, port, REFUSED_WITHIN_S))

    def _about_doors(self, workload: Workload) -> Iterator[Question]:
        running = {one.host for one in self._evidence.replicas[workload.name]}
        for port in self._expected.published(workload):
            for host in self._expected.fleet.hosts.values():
                open_here = self._expected.in_ingress(workload, port) or host.name in running
                if open_here and port.protocol == "tcp":
                    yield from self._knocks(host, port.published)

    def _knocks(self, host: Host, port: int) -> Iterator[Question]:
        others = [name for name in self._expected.fleet.hosts if name != host.name]
        for name in others or [host.name]:
            yield Question(itself(name), "connect", (host.swarm_address, port))

    @property
    def monitors(self) -> list[Workload]:
        """The agents that read the metrics of the others."""
        name = self._expected.fleet.settings.monitoring
        return [
            one for one in self._expected.workloads.values() if one.declared and one.declared.name == name
        ]

    def askers(self, workload: Workload, network: str) -> Iterator[Replica]:
        """One replica on each host of a network: another agent's, where there is one."""
        inside = [one for one in self._expected.workloads.values() if network in one.networks(self._system)]
        yield from self._one_on_each_host(sorted(inside, key=lambda one: one is workload))

    def _strangers(self, workload: Workload) -> Iterator[Replica]:
        found = self._expected.workloads.values()
        return self._one_on_each_host(one for one in found if not self.shared_networks(one, workload))

    def _one_on_each_host(self, workloads: Iterable[Workload]) -> Iterator[Replica]:
        first: dict[str, Replica] = {}
        for workload in workloads:
            for replica in self._evidence.replicas[workload.name]:
                first.setdefault(replica.host, replica)
        return iter(first.values())

    def _addresses_of(self, workload: Workload, network: str) -> list[str]:
        if not self._expected.balanced(workload):
            return [address_on(one, network) for one in self._evidence.replicas[workload.name]]
        service = self._evidence.service(workload.name)
        (identity,) = (one["Id"] for one in self._evidence.manager["networks"] if one["Name"] == network)
        virtual = service["Endpoint"].get("VirtualIPs") or ()
        return [one["Addr"].partition("/")[0] for one in virtual if one["NetworkID"] == identity]


def address_on(replica: Replica, network: str) -> str:
    """A replica's own address on a network; empty where it is not on it."""
    found = replica.container["NetworkSettings"]["Networks"].get(network) or {}
    address: str = found.get("IPAddress", "")
    return address


def itself(host: str) -> Replica:
    """A host, as the asker of a question: its first process has its network."""
    return Replica(host, {"Name": host, "State": {"Pid": 1}}, {})


def kept_out(answer: object) -> bool:
    """Whether nobody was found or reached; what else went wrong, as with a resolver, says nothing of that."""
    return answer["error"].startswith(NOWHERE) if isinstance(answer, dict) else answer == []
