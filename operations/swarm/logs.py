"""The log of a workload, line by line, without control characters.

Source: Docker Engine API, logs of services and containers, and "Stream format" of attach.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cascade.planning.resource import Key
from operations.engine_client import API_VERSION, TIMEOUT_S, EngineClient
from operations.run import Run

LAST_LINES = 20
_FRAME_HEADER = struct.Struct(">B3xI")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[^\x20-\x7e\t\u00a0-\U0010ffff]")
_TASK = "com.docker.swarm.task.id"
_PIECE_BYTES = 1 << 16


def plain(text: str) -> str:
    """Text that a terminal shows and does not obey."""
    return _CONTROL.sub("", text)


def last_words(run: Run, agent: Key) -> list[str]:
    """The last lines of an agent's log."""
    return list(log_lines(run, agent, tail=LAST_LINES, origin=False))[-LAST_LINES:]


def log_lines(run: Run, agent: Key, *, tail: int, follow: bool = False, origin: bool = True) -> Iterator[str]:
    """The last lines, and with `follow` each further one as it comes.

    With `origin` the lines of a service begin with replica and node. Raises docker.errors.NotFound when
    there is no such agent. The engine of the agent's host has the whole log: the manager's for a service.
    """
    client = run.client(agent.host)
    named = origin and agent.kind == "service"
    answer = client.get(
        f"{client.base_url}/v{API_VERSION}/{agent.kind}s/{agent.name}/logs",
        params={"stdout": 1, "stderr": 1, "tail": tail, "follow": int(follow), "details": int(named)},
        stream=True,
        timeout=(TIMEOUT_S, None if follow else TIMEOUT_S),
    )
    client._raise_for_status(answer)
    name_origin = _origins(client) if named else str
    for line in _lines(_payloads(answer)):
        yield plain(name_origin(line))


def _origins(client: EngineClient) -> Callable[[str], str]:
    """Turns the details before a line into the replica and the node that wrote it."""
    nodes = {node["ID"]: node["Description"]["Hostname"] for node in client.nodes()}
    known: dict[str, str] = {}

    def name_origin(line: str) -> str:
        details, _, text = line.partition(" ")
        found = dict(pair.partition("=")[::2] for pair in details.split(","))
        if not (task := found.get(_TASK)):
            return line
        if task not in known:
            inspected = client.inspect_task(task)
            node = nodes.get(inspected["NodeID"], inspected["NodeID"])
            known[task] = f"{inspected['Slot']}@{node}"
        return f"{known[task]} | {text}"

    return name_origin


def _payloads(answer: Any) -> Iterator[bytes]:
    """What was written, as it arrives; a terminal's log has no frames around it."""
    raw = answer.raw
    if answer.headers.get("Content-Type") == "application/vnd.docker.raw-stream":
        yield from iter(lambda: raw.read1(_PIECE_BYTES), b"")
        return
    while len(header := raw.read(_FRAME_HEADER.size)) == _FRAME_HEADER.size:
        _stream, length = _FRAME_HEADER.unpack(header)
        yield raw.read(length)


def _lines(payloads: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for payload in payloads:
        *whole, rest = (rest + payload).split(b"\n")
        yield from (line.decode(errors="replace").rstrip("\r") for line in whole)
    if rest:
        yield rest.decode(errors="replace")
