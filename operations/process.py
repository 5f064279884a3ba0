"""This process, so that a later one on the same machine can tell for certain that it is gone."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

Identity = dict[str, Any]

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NUMBERING = Path("/proc/self/ns/pid")
# In what the kernel says of a process behind its name: its state, and the tick in which it began.
_STATE, _STARTED = 0, 19
_ENDED = ("Z", "X")


def identity() -> Identity | None:
    """This process: the machine since its boot, the number, and when it began; None where nobody can say."""
    machine, told = _machine(), _told(os.getpid())
    return {"machine": machine, "pid": os.getpid(), "started": told[_STARTED]} if machine and told else None


def is_gone(seen: object) -> bool:
    """Whether a process began on this machine since its boot and has ended; False where nobody is certain."""
    match seen:
        case {"machine": str(machine), "pid": int(pid), "started": str(started)} if machine == _machine():
            return _has_ended(pid, started)
    return False


def _has_ended(pid: int, started: str) -> bool:
    try:
        # Finds processes too that /proc hides from this user.
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    told = _told(pid)
    return told is not None and (told[_STARTED] != started or told[_STATE] in _ENDED)


def _machine() -> str | None:
    """The machine since it booted, and the space in which its processes are numbered."""
    try:
        text = f"{_BOOT.read_text()}{_NUMBERING.readlink()}"
    except OSError:
        return None
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _told(pid: int) -> list[str] | None:
    """What the kernel says of a process behind its name, which may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
