"""What `cascade init` asks about a person's machines, and which answers make sense."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from cascade.model.wording import PLACEHOLDER

MACHINES = {"mainpc": "rtx4090", "pc2": "rtx3060"}
CODENAMES = {"debian": "trixie", "ubuntu": "noble"}
SOURCES = ("docker", "distribution")

Answers = Mapping[str, str]
Rule = Callable[[str], str | None]


@dataclass(frozen=True)
class Question:
    """One thing to know: what to ask, what is taken without an answer, and why an answer is refused.

    A default of None means that only the person can know: a placeholder stands there until they do.
    """

    key: str
    asks: str
    fault: Rule
    default: Callable[[Answers], str | None]

    def missing(self) -> str:
        """What the files say until somebody fills it in."""
        return f"{PLACEHOLDER} {self.asks}"


def _like(pattern: str, words: str) -> Rule:
    compiled = re.compile(pattern, re.ASCII)
    return lambda answer: None if compiled.fullmatch(answer) else f"write {words}"


def _one_of(*choices: str) -> Rule:
    return lambda answer: None if answer in choices else f"write {' or '.join(choices)}"


def _port(answer: str) -> str | None:
    fits = re.fullmatch(r"[1-9][0-9]{0,4}", answer, re.ASCII) and int(answer) < 65536
    return None if fits else "write a port from 1 to 65535"


def _swarm_address(answer: str) -> str | None:
    try:
        address = IPv4Address(answer)
    except ValueError:
        return "write a fixed IPv4 address like 192.168.1.11"
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return "write the address by which the other machine reaches this one"
    return None


def _path(answer: str) -> str | None:
    return None if answer.strip() and answer.isprintable() else "write a path"


def _fixed(value: str) -> Callable[[Answers], str | None]:
    return lambda _: value


def _unknown(_: Answers) -> None:
    return None


_NAME = _like(r"(?=.{1,63}$)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", "a name like mainpc: a-z, 0-9 and -, up to 63")
_ADDRESS = _like(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?", "a name or an IP address")
_USER = _like(r"[a-z_][a-z0-9_-]{0,31}", "a user name like deploy")
_LABEL = _like(r"(?=.{1,63}$)[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?", "a label like rtx4090: a-z, 0-9, ., _ and -")
_CODENAME = _like(r"[a-z]{1,32}", "a codename like trixie")
REGISTRY = _like(
    r"(?=.{1,200}$)[a-z0-9]+(?:[.-][a-z0-9]+)*(?::[0-9]{1,5})?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*",
    "a registry's address like registry.lan:5000/cascade",
)
FOLDER = _path


def _of_machine(machine: str, gpu: str) -> tuple[Question, ...]:
    def swarm_default(answers: Answers) -> str | None:
        address = answers[f"{machine}-address"]
        return None if _swarm_address(address) else address

    return (
        Question(f"{machine}-name", f"name of {machine}", _NAME, _fixed(machine)),
        Question(f"{machine}-address", f"SSH address of {machine}", _ADDRESS, _unknown),
        Question(f"{machine}-port", f"SSH port of {machine}", _port, _fixed("22")),
        Question(f"{machine}-user", f"user to deploy as on {machine}", _USER, _fixed("deploy")),
        Question(
            f"{machine}-swarm-address", f"fixed Swarm address of {machine}", _swarm_address, swarm_default
        ),
        Question(f"{machine}-gpu", f"GPU label of {machine}, as placements name it", _LABEL, _fixed(gpu)),
    )


QUESTIONS: tuple[Question, ...] = (
    *(question for machine, gpu in MACHINES.items() for question in _of_machine(machine, gpu)),
    Question("ssh-key", "private SSH key to deploy with", _path, _fixed("~/.ssh/id_ed25519")),
    Question("distribution", "distribution of both machines", _one_of(*CODENAMES), _fixed("debian")),
    Question(
        "codename",
        "its codename",
        _CODENAME,
        lambda answers: CODENAMES.get(answers["distribution"], "trixie"),
    ),
    Question("docker-source", "whose Docker packages", _one_of(*SOURCES), _fixed("docker")),
)


def image_source(image: str, registry: str | None, archives: str | None) -> tuple[str, str]:
    """The key and the value that say where an image of the group files comes from."""
    name = image.rpartition("/")[2]
    if registry:
        return "reference", f"{registry}/{name}@sha256:{PLACEHOLDER}"
    if archives:
        return "path", f"{archives.rstrip('/')}/{name}.tar"
    return "reference", f"{PLACEHOLDER} registry/{name}@sha256:digest"


def literal(value: object) -> str:
    """A text as Python writes it, in the quotes that its formatters prefer; whole numbers as they are."""
    if isinstance(value, int):
        return str(value)
    text = str(value)
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + "".join(_written(character, quote) for character in text) + quote


def _written(character: str, quote: str) -> str:
    if character in ("\\", quote):
        return f"\\{character}"
    return character if character.isprintable() else character.encode("unicode_escape").decode()
