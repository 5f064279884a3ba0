"""The small system with secrets: values of every kind, for agents of every kind on both hosts."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import LabError
from lab.hosts import HOSTS
from lab.polling import until
from tests.lab.conftest import Checkout, docker, look, on_host
from tests.lab.leaks import Hunted, hunted
from tests.lab.trial_system import Document, edit, merge

LAB, STORE = "inventories/lab.py", "group_data/secrets"
GENERATED = "made"
BREAKING = "breaks-the-web"
LARGEST = 500_000
MAINPC, PC2 = HOSTS

# A value under another name than the group's, and two values that are equal.
_EXTERNAL = {"external": True}
_SOURCES: dict[str, Document] = {
    "text": _EXTERNAL,
    "binary": _EXTERNAL,
    "large": _EXTERNAL,
    "key": {"external": True, "name": "web.key"},
    "same": _EXTERNAL,
    "twin": _EXTERNAL,
    GENERATED: {"x-generate": {"bytes": 32, "encoding": "base64"}},
}
_BINARY = {
    "source": "binary",
    "target": "/etc/keys/deep/binary.bin",
    "uid": "65534",
    "gid": "65533",
    "mode": 0o400,
}
_KEY = {"source": "key", "target": "tls/web.pem", "gid": "65534", "mode": 0o440}
_MADE = {"source": GENERATED, "target": "made.txt", "uid": "1000", "mode": 0o400}


@dataclass(frozen=True)
class Lies:
    """How a value lies in a container."""

    value: bytes = field(repr=False)
    mode: str = "444"
    owner: str = "0:0"


# What each agent has, by the path in its containers: the value's name in the store, mode and owner.
_TEXT = {"/run/secrets/text": ("text", "444", "0:0")}
_MADE_THERE = {"/run/secrets/made.txt": (GENERATED, "400", "1000:0")}
_BOTH = {
    "/etc/keys/deep/binary.bin": ("binary", "400", "65534:65533"),
    "/run/secrets/tls/web.pem": ("web.key", "440", "0:65534"),
}
_LARGE = {"/run/secrets/large": ("large", "444", "0:0")}
USES = {
    "first_registry": _TEXT,
    "first_twin": _TEXT | _MADE_THERE,
    "middle_web": _TEXT | _BOTH,
    "middle_tool": _TEXT | _BOTH | _LARGE | _MADE_THERE,
    "last_reporter": _LARGE,
    "last_extra": {f"/run/secrets/{name}": (name, "444", "0:0") for name in ("same", "twin")},
}


def fresh() -> dict[str, bytes]:
    """A value for each name but the generated one; none is ever made twice."""
    same = _word()
    noise = secrets.token_bytes(LARGEST).replace(b"\n", b"\r")
    return {
        "text": _word() + "\"'$HOME ${A} $$ {{ b }} %s \\ \u00e4\n\t".encode() + _word(30),
        "binary": b"\0\xff\xfe" + _word() + b"\r\n\0\n\xff" + _word(30) + b"\n",
        "large": (_word() + noise)[: LARGEST - 40] + _word(40),
        "web.key": _word(),
        "same": same,
        "twin": same,
    }


def _word(length: int = 96) -> bytes:
    return secrets.token_hex(length // 2).encode()


def declare(checkout: Checkout) -> None:
    """Has the groups' files name the secrets."""
    for group, change in (("first", _first), ("middle", _middle), ("last", _last)):
        edit(checkout, group, change)


def _first(document: Document) -> None:
    document["secrets"] = _declared("text", GENERATED)
    service = document["services"]["first"]
    merge(service, {"secrets": ["text"], "environment": {"TEXT_FILE": "/run/secrets/text"}})
    merge(service["x-agents"][1], {"secrets": [_MADE]})


def _middle(document: Document) -> None:
    document["secrets"] = _declared("text", "binary", "large", "key", GENERATED)
    services = document["services"]
    # An agent that one value breaks.
    healthy = f"! grep -q {BREAKING} /run/secrets/text && curl -f http://localhost:8001/health"
    services["web"]["healthcheck"]["test"] = ["CMD", "sh", "-c", healthy]
    services["web"]["secrets"] = ["text", _BINARY, _KEY]
    services["tool"]["secrets"] = ["text", _BINARY, _KEY, {"source": "large"}, _MADE]
    services["tool"]["environment"]["LARGE_FILE"] = "/run/secrets/large"


def _last(document: Document) -> None:
    document["secrets"] = _declared("large", "same", "twin")
    reporter, extra = document["services"]["last"]["x-agents"]
    reporter["secrets"] = ["large"]
    extra["secrets"] = ["same", "twin"]


def _declared(*names: str) -> Document:
    return {name: _SOURCES[name] for name in names}


@dataclass(frozen=True)
class Given:
    """What a command that reads or prints values ended with; they are bytes, and stand in no message."""

    code: int
    out: bytes = field(repr=False)
    err: str


def give(checkout: Checkout, *argv: str, data: bytes = b"") -> Given:
    """Runs `cascade secrets` with a value on its standard input."""
    environment = {**os.environ, "PATH": f"{checkout.venv}/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        ("cascade", "secrets", *argv),
        cwd=checkout.path,
        env=environment,
        input=data,
        capture_output=True,
        check=False,
    )
    return Given(done.returncode, done.stdout, done.stderr.decode())


def set_values(checkout: Checkout, values: dict[str, bytes]) -> None:
    """Puts values into the store, and says nothing of them."""
    for name, value in values.items():
        done = give(checkout, "set", LAB, name, data=value)
        assert done.code == 0, done.err
        if isinstance(checkout, Hunted):
            checkout.hunter.outputs(f"set {name}", done.out, done.err.encode())


def value_of(checkout: Checkout, name: str) -> bytes:
    """A value out of the store."""
    done = give(checkout, "get", LAB, name)
    assert done.code == 0, done.err
    return done.out


def with_secrets(checkout: Checkout, identity: Path) -> tuple[Hunted, dict[str, bytes]]:
    """The small system's files with a store of their own, and what is in it."""
    declare(checkout)
    settings = checkout.path / "group_data/lab.py"
    settings.write_text(f"{settings.read_text()}\nidentity = {str(identity)!r}\n")
    checkout.run("cascade", "secrets", "init", LAB).ok()
    values = fresh()
    set_values(checkout, values)
    values[GENERATED] = value_of(checkout, GENERATED)
    return hunted(checkout, values), values


def wanted(values: dict[str, bytes]) -> dict[str, dict[str, Lies]]:
    """What every agent is to have."""
    return {
        agent: {path: Lies(values[name], mode, owner) for path, (name, mode, owner) in uses.items()}
        for agent, uses in USES.items()
    }


def held(agent: str) -> dict[str, Lies]:
    """What an agent has in its containers, which are all alike."""

    def attempt() -> dict[str, Lies]:
        found = [_of_container(host, id_, USES[agent]) for host, id_ in _containers(agent)]
        if not found or any(other != found[0] for other in found):
            raise LabError(agent, f"{len(found)} containers, not all alike", "look at its tasks")
        return found[0]

    return until(agent, attempt, timeout_s=60, next_step="look at its tasks")


def all_held() -> dict[str, dict[str, Lies]]:
    """What every agent has."""
    return {agent: held(agent) for agent in USES}


def _containers(agent: str) -> Iterator[tuple[str, str]]:
    listed = "docker ps --no-trunc --filter label=cascade.system=trial --format '{{.Names}} {{.ID}}'"
    for host in HOSTS:
        for line in on_host(host.name, listed).splitlines():
            name, id_ = line.split()
            if name.split(".")[0] == agent:
                yield host.name, id_


def _of_container(host: str, id_: str, uses: dict[str, tuple[str, str, str]]) -> dict[str, Lies]:
    found = {}
    for path in uses:
        mode, owner = _inside(host, id_, f"stat -c '%a %u:%g' {path}").decode().split()
        found[path] = Lies(_inside(host, id_, f"cat {path}"), mode, owner)
    return found


def _inside(host: str, id_: str, command: str) -> bytes:
    """What a command prints in a container, to the byte."""
    inner = ("docker", "exec", "--privileged", "--user", "0", id_, "sh", "-c", command)
    done = subprocess.run(
        (*docker(), "exec", f"cascade-lab-{host}", *inner), capture_output=True, check=False
    )
    if done.returncode:
        raise LabError(host, f"{command}: {done.stderr.decode()}", "look at the container")
    return done.stdout


def sealed() -> set[str]:
    """The names of the values that the host container has on its host for a reboot."""
    return set(look(MAINPC.name, "ls /var/lib/cascade/secrets/middle_tool").split())


def in_swarm() -> dict[str, str]:
    """The small system's secrets in the Swarm by what they are called there: each one's name in the store."""
    form = '{{.Spec.Name}} {{index .Spec.Labels "cascade.secret"}}'
    listed = "docker secret ls -q --filter label=cascade.system=trial"
    lines = on_host(MAINPC.name, f"{listed} | xargs -r docker secret inspect --format '{form}'").splitlines()
    return dict(line.split() for line in lines)
