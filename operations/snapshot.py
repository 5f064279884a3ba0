"""The one fact: everything Cascade manages on a host, in one exec."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from paramiko import SSHException
from pyinfra.api.exceptions import FactProcessError
from pyinfra.api.facts import FactBase
from pyinfra.api.host import Host

from cascade.planning.desired import (
    DAEMON_SETTINGS,
    LOCK_FILE,
    OTHER_GPU_SOURCES,
    SETTINGS_STAMP,
    Desired,
)
from cascade.planning.observed import Snapshot as Reading
from cascade.planning.resource import Kind
from cascade.planning.specs import LABEL_RELEASE, LABEL_SYSTEM
from cascade.planning.understood import NotUnderstood, understood, understood_preflight
from operations.ssh import PATIENCE_S

_SCRIPT = Path(__file__).with_name("remote_snapshot.py")
_PROBE = Path(__file__).with_name("remote_gpu.py")
_LARGEST_BYTES = 64 * 1024 * 1024
READ_BY_NAME: tuple[Kind, ...] = (
    "package",
    "sysctl",
    "file",
    "unit",
    "apparmor",
    "permissions",
    "signing-key",
    "container",
    "config",
    "secret",
)
_READ_WHOLE = (DAEMON_SETTINGS, SETTINGS_STAMP, LOCK_FILE)


class Answer(FactBase[Reading]):
    """Runs a script on standard input; an answer that cannot be read leaves the fact unknown, None."""

    checked: Callable[[Any], Reading]

    def command(self) -> str:
        return "python3 -IS -"

    def process(self, output: list[str]) -> Reading:
        try:
            return self.checked(_unpacked("".join(output)))
        except (ValueError, zlib.error, RecursionError) as error:
            raise FactProcessError(f"the answer cannot be understood: {error}") from error


class Snapshot(Answer):
    """Everything Cascade manages on a host, each part with its shape."""

    checked = staticmethod(understood)


class Preflight(Answer):
    """What the preflight checks on a host, each part with its shape."""

    checked = staticmethod(understood_preflight)


def _unpacked(text: str) -> Any:
    """The JSON that a script compressed; never more than the largest, however small it came."""
    unpacking = zlib.decompressobj()
    data = unpacking.decompress(base64.b64decode(text), _LARGEST_BYTES)
    if not unpacking.eof:
        raise NotUnderstood(f"it is cut off, or has more than {_LARGEST_BYTES} bytes")
    return json.loads(data)


def take_snapshot(host: Host, query: dict[str, Any]) -> Reading | None:
    """What a host says of everything that the query asks for; None where it could not be asked."""
    return answer_of(host, query, _SCRIPT, Snapshot)


def answer_of(host: Host, query: dict[str, Any], script: Path, fact: type[Answer]) -> Reading | None:
    """What the script answers to the query on this host; None where it could not be asked."""
    probe = f"PROBE = {packed_probe()!r}\n" if query.get("gpu") else ""
    text = f"import json\nQUERY = json.loads({json.dumps(query)!r})\n{probe}{script.read_text()}"
    try:
        reading: Reading | None = host.get_fact(
            fact, _sudo=True, _stdin=text, _ignore_errors=True, _timeout=PATIENCE_S
        )
    except (SSHException, EOFError, OSError):
        return None
    return reading


@cache
def packed_probe() -> str:
    """The probe of GPUs with the source of the module that it takes along, compressed, in base64."""
    return base64.b64encode(zlib.compress(probe_source().encode())).decode()


def probe_source() -> str:
    """The probe of GPUs as a host runs it: a script that needs nothing but python3."""
    module = find_spec("pynvml")
    assert module is not None
    source = Path(str(module.origin)).read_text(encoding="utf-8")
    return f"PYNVML = {source!r}\n{_PROBE.read_text(encoding='utf-8')}"


def query_for(
    host: str, wanted: Iterable[Desired], system: str, release: str | None = None, gpu: bool = False
) -> dict[str, Any]:
    """What to read on a host, so that it can be compared with what is wanted there.

    `release` asks the manager for a release with its data: `last`, `previous`, or a number; `gpu` asks the
    driver for the host's GPUs, which takes longer than all the rest.
    """
    names: dict[str, list[str]] = {kind: [] for kind in READ_BY_NAME}
    held = []
    for item in wanted:
        if item.key.host == host and item.key.kind in names:
            names[item.key.kind].append(item.key.name)
            held += [item.key.name] if "held" in item.fields else []
    keys = names["signing-key"]
    return {
        "packages": names["package"],
        **({"held": held} if held else {}),
        "sysctls": names["sysctl"],
        "files": [*names["file"], *keys, *(OTHER_GPU_SOURCES if keys else ()), *_READ_WHOLE],
        "contents": [*_READ_WHOLE],
        "units": names["unit"],
        "profiles": names["apparmor"],
        "permissions": names["permissions"],
        "containers": names["container"],
        "configs": names["config"],
        "secrets": names["secret"],
        "label": f"{LABEL_SYSTEM}={system}",
        "release_label": LABEL_RELEASE,
        "release": release,
        **({"gpu": True} if gpu else {}),
    }
