"""AppArmor on a host: the policy that its kernel holds."""

from __future__ import annotations

import shlex

from pyinfra.api.host import Host

from cascade.planning.desired import LOADER
from cascade.planning.diff import Change
from operations.host.shell import shell
from operations.run import Run


def load_profile(_run: Run, host: Host, change: Change) -> None:
    """Has the kernel take a profile's file in place of what it holds, for containers that run too."""
    shell(host, f"sh {LOADER} {shlex.quote(change.key.name)}")
