"""Tries what rows of table.yaml say, each in a process of its own, and prints the answers as JSON.

It runs inside the container, where this file and the rows come in through the command line and stdin.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import platform
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

REFUSED = 133
# mov eax, 20 (getpid); int 0x80; ret
_INT80 = bytes.fromhex("b814000000cd80c3")
_X32_GETPID = 0x40000000 + 39
_CAPABILITY_VERSION_3 = 0x20080522
_SECONDS_FOR_ONE = 20

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_page = mmap.mmap(-1, mmap.PAGESIZE)
_buffers: dict[str, Any] = {
    "@buffer": ctypes.create_string_buffer(4096),
    "@capabilities": (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0),
    "@page": ctypes.c_char.from_buffer(_page),
    "@priority": ctypes.c_int(1),
}


def _argument(value: int | str) -> ctypes.c_void_p | ctypes.c_long | ctypes.c_char_p:
    if isinstance(value, int):
        return ctypes.c_long(value)
    if value == "@pid":
        return ctypes.c_long(os.getpid())
    if value in _buffers:
        return ctypes.cast(ctypes.byref(_buffers[value]), ctypes.c_void_p)
    return ctypes.c_char_p(value.encode())


def _call(number: int, *arguments: int | str) -> str:
    if _libc.syscall(ctypes.c_long(number), *map(_argument, arguments)) == -1:
        raise OSError(ctypes.get_errno(), "")
    return "works"


def _int80() -> str:
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(_INT80)
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
    return "works"


def _write(path: str) -> str:
    Path(path).write_text("probe")
    return "works"


def _read(path: str) -> str:
    with Path(path).open("rb") as file:
        return "works" if file.read(1) else "empty"


def _run(path: str) -> str:
    Path(path).write_text("#!/bin/sh\n")
    Path(path).chmod(0o755)
    os.execv(path, [path])


def _status(field: str) -> str:
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return next(words[1] for words in lines if words[0] == f"{field}:")


def _limit(number: int) -> str:
    soft, hard = resource.getrlimit(number)
    return str(hard) if soft == hard else f"{soft} of {hard}"


def _fork_until_refused() -> str:
    """One process more than a container may have; each ends when this one does."""
    waiting, ending = os.pipe()
    for _ in range(1000):
        if os.fork() == 0:
            os.close(ending)
            os.read(waiting, 1)
            os._exit(0)
    return "works"


OPERATIONS: dict[str, Callable[..., str]] = {
    "int80": _int80,
    "x32": lambda: _call(_X32_GETPID),
    "write": _write,
    "read": _read,
    "run": _run,
    "status": _status,
    "limit": _limit,
    "fork_until_refused": _fork_until_refused,
}


def _attempt(row: dict[str, Any]) -> str:
    try:
        if "operation" in row:
            return OPERATIONS[row["operation"]](*row.get("arguments", ()))
        return _call(_number(row), *row["arguments"])
    except OSError as error:
        number = error.errno or 0
        return "seccomp" if number == REFUSED else errno.errorcode.get(number, str(number))


def _number(row: dict[str, Any]) -> int:
    number: int = row["number"][("x86_64", "aarch64").index(platform.machine())]
    return number


def answer(row: dict[str, Any]) -> str:
    """What came of one row: a word that the child says, or the signal that ended it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.setpgid(0, 0)
        signal.alarm(_SECONDS_FOR_ONE)
        os.write(writing, _attempt(row).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        # Of more than one process that could write, only the first word counts.
        word = said.read(32).decode()
    _, status = os.waitpid(child, 0)
    _end_group(child)
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else word


def _end_group(leader: int) -> None:
    """Ends what a row has left behind."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def main() -> None:
    """Reads rows, tries those of this machine, prints an answer for each; `null` for one of another."""
    machine = platform.machine()
    rows = json.load(sys.stdin)
    absent = [row for row in rows if row.get("only", machine) != machine or _has_no_number(row)]
    print(json.dumps([None if row in absent else answer(row) for row in rows]))


def _has_no_number(row: dict[str, Any]) -> bool:
    return "number" in row and _number(row) is None


if __name__ == "__main__":
    main()
