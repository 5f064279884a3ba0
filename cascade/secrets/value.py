"""A secret value in this process's memory."""

from __future__ import annotations

import ctypes
import resource
import sys
from contextlib import suppress
from typing import Any, NoReturn

# The Swarm takes less than 512,000 bytes.
LARGEST_BYTES = 500_000
_PR_SET_DUMPABLE = 4


class Value:
    """The bytes of a secret. Whatever prints, compares, copies or stores it gets `***` or an error."""

    __slots__ = ("data",)
    __hash__ = None  # type: ignore[assignment]

    data: bytes

    def __init__(self, data: bytes) -> None:
        object.__setattr__(self, "data", data)

    def __setattr__(self, _name: str, _value: Any) -> NoReturn:
        raise TypeError("a secret value does not change")

    def __repr__(self) -> str:
        return "***"

    def __reduce_ex__(self, _protocol: Any) -> NoReturn:
        raise TypeError("a secret value is neither copied nor stored")


def forbid_core_dumps() -> None:
    """From here on a crash of this process, or of one that it starts, leaves no image of its memory.

    Nor do others of the same user read the memory of this one.
    """
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    # Not everybody may raise a limit of zero.
    with suppress(ValueError):
        # A program that takes dumps gets them whatever the limit is, but for a limit of one byte.
        resource.setrlimit(resource.RLIMIT_CORE, (1, most or 1))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
