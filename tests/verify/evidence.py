"""What the hosts show of themselves: each part read once, from all hosts, when a test asks."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from testinfra.host import Host as Machine

from tests.verify.expected import Expected
from tests.verify.look import Look, Unread, look_at, output
from tests.verify.machine import data_of, request_for

Read = TypeVar("Read")
Container = Mapping[str, Any]

WITNESS = Path(__file__).with_name("remote_witness.py").read_text()
MACHINE = Path(__file__).with_name("remote_machine.py").read_text()
# Where a host keeps the secrets of its host containers: in memory, and sealed.
SECRETS = ("/run/cascade/secrets", "/var/lib/cascade/secrets")
SERVICE = "com.docker.swarm.service.name"


@dataclass(frozen=True, eq=False)
class Replica:
    """A running container of an agent: the engine's answer, and what the kernel has of its first process."""

    host: str
    container: Container
    process: Mapping[str, Any]

    @property
    def pid(self) -> int:
        """Of its first process, on the host."""
        number: int = self.container["State"]["Pid"]
        return number

    def __str__(self) -> str:
        return f"{self.container['Name'].lstrip('/')} on {self.host}"


@dataclass(frozen=True)
class Question:
    """Something asked in the network of a replica.

    `names` (name): the addresses that Docker's resolver gives. `reach` (name, port): whether each of those
    takes a connection. `connect` (address, port, seconds): the address at the other end. `http` (address,
    port, path): the status of the answer. `answered` (name, port, path): that of each address of a name.
    """

    asker: Replica
    kind: str
    arguments: tuple[Any, ...]


class Ran(NamedTuple):
    """How a command ended on a host, and what it printed."""

    rc: int
    stdout: str
    stderr: str


class Remembered(Generic[Read]):
    """A property that is read once; what reading it raised is remembered too, and raised each time."""

    def __init__(self, read: Callable[[Any], Read]) -> None:
        self._read = read
        self.__doc__ = read.__doc__

    def __get__(self, instance: Any, owner: type) -> Read:
        """The value, or what reading it raised the first time."""
        kept = instance.__dict__.setdefault("kept", {})
        if self not in kept:
            kept[self] = Future()
            try:
                kept[self].set_result(self._read(instance))
            except Exception as error:  # noqa: BLE001 - it is raised below
                kept[self].set_exception(error)
        if fault := kept[self].exception():
            # Each raise would add to what the one before it left, for thousands of tests.
            raise fault.with_traceback(None)
        found: Read = kept[self].result()
        return found


class Evidence:
    """Everything is read as root through testinfra; nothing on a host is changed."""

    def __init__(self, machines: Mapping[str, Machine], expected: Expected) -> None:
        self.machines = machines
        self._expected = expected

    @Remembered
    def looks(self) -> Mapping[str, Look]:
        """What the controls of the CIS benchmark look at, by host."""
        hosts = self._expected.fleet.hosts
        return self.on_each(lambda name: look_at(self.machines[name], data_of(hosts[name])))

    @Remembered
    def engines(self) -> Mapping[str, Mapping[str, Any]]:
        """What each engine answers: info, containers, networks, volumes; a manager nodes, services, tasks."""
        return self.on_each(lambda name: self._witness(name, "engine", None))

    @Remembered
    def manager(self) -> Mapping[str, Any]:
        """What the engine of the manager answers."""
        return self.engines[self._expected.fleet.manager.name]

    @Remembered
    def hosts(self) -> Mapping[str, Mapping[str, Any]]:
        """What each machine shows of itself: packages, kernel, clock, units, the engine's sockets."""
        hosts, fleet = self._expected.fleet.hosts, self._expected.fleet
        return self.on_each(
            lambda name: self._told(name, MACHINE, "machine", request_for(hosts[name], fleet))
        )

    @Remembered
    def clocks(self) -> Mapping[str, float]:
        """By how many seconds each host's clock is wrong at least: what the asking took cannot be told."""
        return self.on_each(self._clock)

    @Remembered
    def replicas(self) -> Mapping[str, tuple[Replica, ...]]:
        """The running containers of each agent, by the name of its service or of its one container.

        One that ended between two questions is not among them.
        """
        processes = self.on_each(self._processes)
        found: dict[str, list[Replica]] = {name: [] for name in self._expected.workloads}
        for host, engine in self.engines.items():
            for container in engine["containers"]:
                name, identity = workload_of(container), container["Id"]
                if name in found and identity in processes[host]:
                    found[name].append(Replica(host, container, processes[host][identity]))
        return {name: tuple(of_one) for name, of_one in found.items()}

    @Remembered
    def files(self) -> Mapping[str, Mapping[str, Any]]:
        """What is at the place of each volume, and of the folders of secrets, by host and path."""
        return self.on_each(lambda name: self._witness(name, "files", self._places(name)))

    def volume(self, host: str, name: str) -> Mapping[str, Any]:
        """A volume as the engine of a host has it."""
        found = [one for one in self.engines[host]["volumes"] if one["Name"] == name]
        assert found, f"{host} has no volume {name}"
        return dict(found[0])

    @Remembered
    def health(self) -> Mapping[str, Any]:
        """By replica: the status of GET /health, asked in its own network."""
        asked = {
            str(one): Question(one, "http", ("127.0.0.1", workload.declared.health_port, "/health"))
            for name, workload in self._expected.judged.items()
            if workload.declared
            for one in self.replicas[name]
        }
        answers = self.answers(asked.values())
        return {replica: answers[question] for replica, question in asked.items()}

    def service(self, name: str) -> Mapping[str, Any]:
        """A service as the manager has it."""
        found = [one for one in self.manager["services"] if one["Spec"]["Name"] == name]
        assert found, f"{name}: the manager has no such service"
        return dict(found[0])

    def answers(self, questions: Iterable[Question]) -> Mapping[Question, Any]:
        """What came back, asked on all hosts at once; a failure is {"error": why}."""
        asked: dict[str, dict[int, list[Question]]] = {name: {} for name in self.machines}
        for question in questions:
            asked[question.asker.host].setdefault(question.asker.pid, []).append(question)
        found: dict[Question, Any] = {}
        for of_host in self.on_each(lambda name: self._answers(name, asked[name])).values():
            found |= of_host
        return found

    def ran(self, host: str, command: str) -> Ran:
        """What came of a command; one that does not end in time is left alone, and unknown."""
        return Ran(*self._told(host, MACHINE, "ran", command))

    def on_each(self, read: Callable[[str], Read]) -> dict[str, Read]:
        """What is read from each host, from all at the same time."""
        with ThreadPoolExecutor(len(self.machines)) as pool:
            return dict(zip(self.machines, pool.map(read, self.machines), strict=True))

    def _places(self, host: str) -> list[str]:
        return [*(one["Mountpoint"] for one in self.engines[host]["volumes"]), *SECRETS]

    def _processes(self, host: str) -> Mapping[str, Any]:
        request = {
            container["Id"]: {
                "pid": container["State"]["Pid"],
                "paths": self._expected.paths_of(workload_of(container)),
                "variables": self._expected.variables_of(workload_of(container)),
            }
            for container in self.engines[host]["containers"]
            if workload_of(container) in self._expected.workloads
        }
        return dict(self._witness(host, "processes", request))

    def _answers(self, host: str, asked: Mapping[int, list[Question]]) -> dict[Question, Any]:
        request = [
            {"pid": pid, "questions": [(one.kind, *one.arguments) for one in of_one]}
            for pid, of_one in asked.items()
        ]
        answered = self._witness(host, "probes", request) if request else []
        return {
            question: answer
            for of_one, answers in zip(asked.values(), answered, strict=True)
            for question, answer in zip(of_one, answers, strict=True)
        }

    def _clock(self, host: str) -> float:
        before = time.time()
        there = float(output(self.machines[host], "date +%s.%N"))
        return max(before - there, there - time.time(), 0.0)

    def _witness(self, host: str, part: str, request: object) -> Any:
        return self._told(host, WITNESS, part, request)

    def _told(self, host: str, program: str, part: str, request: object) -> Any:
        argv = ("python3", "-IBS", "-c", program, part, json.dumps(request))
        done = self.machines[host].run(shlex.join(argv))
        if done.rc:
            raise Unread(f"{host}: {part}: {_last_line(done.stderr) or f'exit code {done.rc}'}")
        return json.loads(done.stdout)


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def workload_of(container: Container) -> str:
    """The name of the service that a container is of, or its own."""
    name: str = container["Config"]["Labels"].get(SERVICE) or container["Name"].lstrip("/")
    return name
