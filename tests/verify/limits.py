"""What the kernel is to hold of limits that a file declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

# Source: Linux, fs/proc/base.c, lnames; the names are those of setrlimit(2).
KERNELS_NAMES = {
    "as": "Max address space",
    "core": "Max core file size",
    "cpu": "Max cpu time",
    "data": "Max data size",
    "fsize": "Max file size",
    "locks": "Max file locks",
    "memlock": "Max locked memory",
    "msgqueue": "Max msgqueue size",
    "nice": "Max nice priority",
    "nofile": "Max open files",
    "nproc": "Max processes",
    "rss": "Max resident set",
    "rtprio": "Max realtime priority",
    "rttime": "Max realtime timeout",
    "sigpending": "Max pending signals",
    "stack": "Max stack size",
}
Limit = tuple[int, int]
_NANO = 10**9


def memory(limit: str | None) -> float:
    """How much that is; the kernel writes "max", or has no such file, where it limits nothing."""
    return inf if limit is None or limit == "max" else int(limit)


def cpu_quotas(nano_cpus: int, period: str | None) -> set[str]:
    """The quotas that stand for a limit: in whole microseconds, or with systemd in whole percents above.

    None where the kernel has no period to limit anything in.
    """
    if period is None:
        return set()
    quota = nano_cpus * int(period) // _NANO
    percents = -(-quota * 100 // int(period))
    return {str(quota), str(percents * int(period) // 100)}


def unequal_limits(
    found: Mapping[str, Sequence[str]], declared: Mapping[str, Limit]
) -> dict[str, Sequence[str] | None]:
    """What the kernel has where it is not soft and hard limit as declared; -1 is any number."""
    kernels = {name: found.get(KERNELS_NAMES[name]) for name in declared}
    return {
        name: has
        for name, has in kernels.items()
        if list(has or ()) != [_said(number) for number in declared[name]]
    }


def _said(number: int) -> str:
    return "unlimited" if number == -1 else str(number)
