"""The cgroups that removed test hosts leave behind on a cgroup v1 machine.

There a host's own engine makes its containers' cgroups beside those of this machine's engine, and
nobody removes them when the host goes: a hundred for each fleet, in each of a dozen controllers.
"""

import os
import time
from pathlib import Path

CONTROLLERS = Path("/sys/fs/cgroup")
OLD_ENOUGH_S = 60


def remove_leftovers(controllers: Path = CONTROLLERS, old_enough_s: float = OLD_ENOUGH_S) -> int:
    """Remove containers' cgroups without any process, sparing those just being filled; say how many."""
    leftovers = [group for group in controllers.glob("*/docker/*/") if _is_leftover(group, old_enough_s)]
    return sum(_remove(group) for group in leftovers)


def _is_leftover(group: Path, old_enough_s: float) -> bool:
    try:
        old = time.time() - group.stat().st_mtime >= old_enough_s
        return old and not any(procs.read_text() for procs in group.rglob("cgroup.procs"))
    except OSError:
        # It went away on its own while it was looked at.
        return False


def _remove(group: Path) -> bool:
    """Remove a cgroup from its leaves up; the kernel refuses, harmlessly, when one has come to use."""
    try:
        for folder, _, _ in os.walk(group, topdown=False):
            Path(folder).rmdir()
    except OSError:
        return False
    return True
