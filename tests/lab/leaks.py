"""A hunter for values that have left their place: in outputs, in files, in processes, here and on the hosts.

A canary is a value that can be told from everything else, in whatever way it is written down.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

from lab.hosts import HOSTS
from tests.lab.conftest import Checkout, Finished, docker
from tests.lab.remote_leaks import labels

SCRIPT = Path(__file__).with_name("remote_leaks.py").read_text()
HERE = "this machine"
SAMPLED = ("/tmp", "/var/tmp", "/dev/shm", "/run/user")
ON_HOSTS = ("/etc", "/home", "/opt", "/root", "/srv", "/var", "/run", "/tmp", "/dev/shm", "/usr/local")
# Where host containers have them from; the engine's are on file systems of their own.
THEIR_PLACE = "/run/cascade/secrets"
INSPECTED = (
    "docker ps -aq --no-trunc | xargs -r docker inspect",
    "docker image ls -q | xargs -r docker inspect",
    "docker volume ls -q | xargs -r docker volume inspect",
    "docker network ls -q | xargs -r docker network inspect",
    "docker info",
    "journalctl --sync; journalctl --no-pager --output export --all",
    "systemctl show --all '*'",
)
INSPECTED_ON_MANAGER = (
    "docker service ls -q | xargs -r docker service inspect",
    "docker service ls -q | xargs -r docker service ps -q --no-trunc | xargs -r docker inspect",
    "docker secret ls -q | xargs -r docker secret inspect",
    "docker config ls -q | xargs -r docker config inspect",
    "docker node ls -q | xargs -r docker node inspect",
)
_PACKED = re.compile(rb"[A-Za-z0-9+/]{40,}={0,2}")
_LETTERS = 24


def forms(marker: bytes) -> set[bytes]:
    """How a run of bytes is written down: as it is, in base64 wherever, hex, a URL, numbers."""
    percent = "".join(f"%{byte:02x}" for byte in marker)
    numbers = [", ".join(map(str, marker)), " ".join(map(str, marker)), ",".join(map(str, marker))]
    texts = [marker.hex(), marker.hex().upper(), percent, percent.upper(), quote_from_bytes(marker), *numbers]
    once = set(_base64(marker))
    texts += [repr(marker)[2:-1], json.dumps(marker.decode("latin-1"))[1:-1]]
    return {marker, *map(str.encode, texts), *once, *(form for inner in once for form in _base64(inner))}


def _base64(data: bytes) -> Iterator[bytes]:
    """The characters that are the same whatever stands before and after."""
    for before in range(3):
        shifted = bytes(before) + data
        begin, end = -(-before * 8 // 6), len(shifted) * 8 // 6
        yield base64.b64encode(shifted)[begin:end]
        yield base64.urlsafe_b64encode(shifted)[begin:end]


def digests(value: bytes) -> set[bytes]:
    """What somebody could test a guess with, as far as it needs no key."""
    names = ("md5", "sha1", "sha256", "sha512", "blake2b")
    made = [hashlib.new(name, value).hexdigest() for name in names]
    return {digest[:12].encode() for digest in made}


def needles_of(canaries: Mapping[str, bytes]) -> dict[bytes, str]:
    """Every form of every canary, with its name."""
    found: dict[bytes, str] = {}
    for name, value in canaries.items():
        for marker in markers(value):
            found |= dict.fromkeys(forms(marker), name)
        found |= dict.fromkeys(digests(value), f"digest of {name}")
    return found


def markers(value: bytes) -> set[bytes]:
    """Parts of a value that are nowhere else, from its begin, its middle and its end."""
    starts = {0, len(value) // 3, max(0, len(value) - _LETTERS)}
    found = {value[start : start + _LETTERS].strip(b"\n") for start in starts}
    # Many lines are many patterns to grep, and a short one is everywhere.
    assert all(len(marker) >= _LETTERS // 2 and b"\n" not in marker for marker in found)
    return found


def unpacked(data: bytes) -> Iterator[bytes]:
    """What is in there, and what stands in it compressed, as snapshots and releases do."""
    yield data
    for match in _PACKED.finditer(data):
        packed = match[0][: len(match[0]) // 4 * 4]
        try:
            yield zlib.decompress(base64.b64decode(packed))
        except (ValueError, zlib.error):
            continue


@dataclass(frozen=True)
class Hunter:
    """Who knows what must be nowhere."""

    needles: Mapping[bytes, str]

    def in_bytes(self, data: bytes) -> list[str]:
        """The names of the canaries in there."""
        return sorted({name for part in unpacked(data) for name in labels(part, dict(self.needles))})

    def outputs(self, what: str, *streams: bytes) -> None:
        """Fails where an output holds one."""
        found = {name for stream in streams for name in self.in_bytes(stream)}
        assert not found, f"{what} shows {', '.join(sorted(found))}"

    def host(self, name: str, *, but: Sequence[str] = (THEIR_PLACE,)) -> list[str]:
        """Where they are on a host, in files, journals and what its engine says."""
        commands = [*INSPECTED, *(INSPECTED_ON_MANAGER if name == HOSTS[0].name else ())]
        return self._asked(name, ON_HOSTS, but, commands)

    def here(self, *folders: Path, but: Sequence[Path] = ()) -> list[str]:
        """Where they are in folders of this machine."""
        return self._asked(HERE, [str(folder) for folder in folders], [str(path) for path in but], [])

    def _asked(
        self, machine: str, folders: Sequence[str], but: Sequence[str], commands: Sequence[str]
    ) -> list[str]:
        line = self._question(folders, but, commands, sample=False)
        done = subprocess.run(_argv(machine), input=line, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        answer = json.loads(done.stdout)
        assert answer["files"], f"{machine}: nothing was looked through"
        return [f"{machine}: {found}" for found in answer["found"]]

    def _question(
        self, folders: Sequence[str], but: Sequence[str], commands: Sequence[str], *, sample: bool
    ) -> bytes:
        needles = {base64.b64encode(needle).decode(): label for needle, label in self.needles.items()}
        said = {"needles": needles, "folders": list(folders), "but": list(but), "commands": list(commands)}
        return json.dumps({**said, "sample": sample}).encode() + b"\n"

    @contextmanager
    def watching(self, *folders: Path) -> Iterator[None]:
        """Looks at all processes and at files that come and go meanwhile; fails at the end."""
        samplers: dict[str, subprocess.Popen[bytes]] = {}
        with ExitStack() as ends:
            for machine in (HERE, *(host.name for host in HOSTS)):
                there = [str(folder) for folder in folders] if machine == HERE else SAMPLED
                sampler = subprocess.Popen(_argv(machine), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                ends.enter_context(sampler)
                assert sampler.stdin
                sampler.stdin.write(self._question(there, (), (), sample=True))
                sampler.stdin.flush()
                samplers[machine] = sampler
            for sampler in samplers.values():
                assert sampler.stdout
                sampler.stdout.readline()
            yield
            answers = {machine: _ended(sampler) for machine, sampler in samplers.items()}
        found = [f"{machine}: {where}" for machine, answer in answers.items() for where in answer["found"]]
        assert not found, "\n".join(found)


def _argv(machine: str) -> list[str]:
    """Python with the script as its argument; what it is to look for comes by standard input."""
    if machine == HERE:
        return [sys.executable, "-IS", "-c", SCRIPT]
    return [*docker(), "exec", "-i", f"cascade-lab-{machine}", "python3", "-IS", "-c", SCRIPT]


def _ended(sampler: subprocess.Popen[bytes]) -> dict[str, Any]:
    out, _ = sampler.communicate(b"end\n")
    assert sampler.returncode == 0
    answer: dict[str, Any] = json.loads(out)
    return answer


@dataclass(frozen=True)
class Hunted(Checkout):
    """A checkout each command of which is looked through."""

    hunter: Hunter

    def variant(self, path: Path) -> Hunted:
        """The same system with files of its own to change, looked through for the same."""
        return Hunted(super().variant(path).path, self.venv, self.hunter)

    def hunting(self, canaries: Mapping[str, bytes]) -> Hunted:
        """The same checkout, looked through for these, too."""
        return Hunted(self.path, self.venv, Hunter({**self.hunter.needles, **needles_of(canaries)}))

    def run_alone(self, *argv: str) -> Finished:
        """Runs a command, and fails where it shows a canary."""
        done = super().run_alone(*argv)
        self.hunter.outputs(" ".join(argv), done.out.encode(), done.err.encode())
        return done


def hunted(checkout: Checkout, canaries: Mapping[str, bytes]) -> Hunted:
    """The same checkout, with a hunter for these."""
    return Hunted(checkout.path, checkout.venv, Hunter({})).hunting(canaries)
