"""The memory of GPUs as people and programs see it: a bar for each, and one for each agent that shares it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console

from cascade.model.strict import printable
from cascade.planning.gpu import Process, Vram

Document = dict[str, Any]

WIDTH = 40
_USED, _RESERVED, _FREE = "█", "▒", "░"


def gpu_document(vram: Vram) -> Document:
    """One GPU's memory as numbers."""
    return {
        "host": vram.host,
        "index": vram.gpu.index,
        "uuid": vram.gpu.uuid,
        "name": vram.gpu.name,
        "memory": vram.gpu.memory_mib,
        "used": vram.used_mib,
        "offered": vram.offered_mib,
        "agents": [
            {"name": sharer.name, "reserved": sharer.reserved_mib, "used": sharer.used_mib}
            for sharer in vram.sharers
        ],
        "others": None if vram.foreign is None else [_other(process) for process in vram.foreign],
    }


def _other(process: Process) -> Document:
    return {"pid": process.pid, "name": process.name, "used": process.mib}


def show_gpus(gpus: Iterable[Document], console: Console) -> None:
    """Prints them: what is used is full, what is reserved besides is shaded."""
    for gpu in gpus:
        for line in _lines(gpu):
            console.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def _lines(gpu: Document) -> Iterator[str]:
    yield f"{gpu['host']} GPU {gpu['index']}, {gpu['name']}"
    rows = [
        (
            "all",
            gpu["used"],
            gpu["offered"],
            f"{gpu['used']} of {gpu['memory']} MiB, {gpu['offered']} offered",
        ),
        *(
            (
                agent["name"],
                agent["used"] or 0,
                agent["reserved"],
                f"{_amount(agent['used'])} of {agent['reserved']} MiB",
            )
            for agent in gpu["agents"]
        ),
        *(
            (_named(other), other["used"] or 0, 0, f"{_amount(other['used'])} MiB")
            for other in gpu["others"] or ()
        ),
    ]
    width = max(len(name) for name, *_ in rows)
    for name, used, reserved, said in rows:
        yield f"  {name:<{width}}  {bar(used, reserved, gpu['memory'])}  {said}"


def _amount(mib: int | None) -> str:
    return "?" if mib is None else str(mib)


def _named(other: Document) -> str:
    return f"{other['name'] or 'process'} (PID {other['pid']})"


def bar(used: int, reserved: int, memory: int) -> str:
    """What is used of a GPU, what is reserved besides, and the rest; what there is shows, however little."""
    full, upto = (_cells(amount, memory) for amount in (used, max(used, reserved)))
    return _USED * full + _RESERVED * (upto - full) + _FREE * (WIDTH - upto)


def _cells(amount: int, memory: int) -> int:
    return max(0, min(WIDTH, -(-amount * WIDTH // memory))) if memory > 0 else 0
