"""How OpenSSH reaches the hosts of an inventory, read as pyinfra reads it."""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SSH_CONFIG = """\
Host {name}
    HostName {ssh_hostname}
    Port {ssh_port}
    User {ssh_user}
    IdentityFile {ssh_key}
    IdentitiesOnly yes
    UserKnownHostsFile {ssh_known_hosts_file}
    StrictHostKeyChecking yes
    BatchMode yes
"""
DEFAULTS = {"ssh_port": 22, "ssh_user": "root"}


def hosts_of(inventory: Path) -> dict[str, Mapping[str, Any]]:
    """The hosts that an inventory names, and how SSH reaches them."""
    groups = runpy.run_path(str(inventory))
    listed = (group for name, group in groups.items() if not name.startswith("_") and isinstance(group, list))
    entries = (item if isinstance(item, tuple) else (item, {}) for group in listed for item in group)
    return dict(entries)


def ssh_config(name: str, data: Mapping[str, Any]) -> str:
    """How OpenSSH reaches a host, with pinned keys only; what the inventory does not say is OpenSSH's own."""
    known = {**DEFAULTS, "ssh_hostname": name, **data, "name": name}
    lines = (line for line in SSH_CONFIG.splitlines(keepends=True) if _is_said(line, known))
    return "".join(lines).format(**known)


def _is_said(line: str, known: Mapping[str, Any]) -> bool:
    return "{" not in line or line.partition("{")[2].partition("}")[0] in known
