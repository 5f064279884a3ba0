"""What is done to a fleet behind its owner's back, and the test of tests/verify whose name says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.lab.by_hand import recreate_container, update_service
from tests.lab.conftest import on_host

MANAGER = "mainpc"
AUDIO = "cascade-audio-realtime"
SETTINGS = "/etc/docker/daemon.json"
FOREIGN_PORT = 30471


@dataclass(frozen=True)
class Sabotage:
    """What somebody did on a host, and what is to be caught: a test's sentence and its subject.

    `undo` is for what no deployment brings back. `beside` are other tests of the same subject that may fail
    for the same reason.
    """

    name: str
    host: str
    by_hand: str | Callable[[], None]
    caught: str
    subject: str
    undo: str = ""
    beside: tuple[str, ...] = ()

    def make(self) -> None:
        """Does it."""
        if isinstance(self.by_hand, str):
            on_host(self.host, self.by_hand)
        else:
            self.by_hand()


def of_service(name: str, service: str, options: str, caught: str, *beside: str) -> Sabotage:
    """A service that somebody updated with the command line."""
    by_hand = f"docker service update -q --detach --no-resolve-image {options} {service}"
    return Sabotage(name, MANAGER, by_hand, caught, service, beside=beside)


def of_spec(name: str, service: str, change: Callable[[Any], object], caught: str, *beside: str) -> Sabotage:
    """A service whose spec somebody changed."""
    return Sabotage(name, MANAGER, partial(update_service, service, change), caught, service, beside=beside)


def of_container(
    name: str, agent: str, change: Callable[[Any], object], caught: str, *beside: str
) -> Sabotage:
    """A host container that somebody made anew."""
    container = f"{AUDIO}_{agent}"
    by_hand = partial(recreate_container, container, change)
    return Sabotage(name, MANAGER, by_hand, caught, container, beside=beside)


def first_process(service: str) -> str:
    """The shell's words for the first process of an agent with one replica."""
    found = f"docker ps -q --filter label=com.docker.swarm.service.name={service}"
    return f"$(docker inspect -f '{{{{.State.Pid}}}}' $({found}))"


def _without_seccomp(spec: Any) -> None:
    spec["TaskTemplate"]["ContainerSpec"]["Privileges"]["Seccomp"] = {"Mode": "unconfined"}


def _host(key: str, value: object) -> Callable[[Any], None]:
    return lambda body: body["HostConfig"].__setitem__(key, value)


def _without_health_check(body: Any) -> None:
    body["Healthcheck"] = {"Test": ["NONE"]}
