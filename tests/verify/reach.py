"""How OpenSSH reaches the hosts of an inventory, as pyinfra would."""

from __future__ import annotations

from collections.abc import Mapping
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
    ConnectTimeout 30
    ServerAliveInterval 15
    ControlMaster auto
    ControlPath {control_path}
    ControlPersist 60
"""
DEFAULTS = {"ssh_port": 22, "ssh_user": "root"}


def ssh_config(name: str, data: Mapping[str, Any]) -> str:
    """How OpenSSH reaches a host, with pinned keys only; what the inventory does not say is OpenSSH's own."""
    known = {**DEFAULTS, "ssh_hostname": name, **data, "name": name}
    lines = (line for line in SSH_CONFIG.splitlines(keepends=True) if _is_said(line, known))
    return "".join(lines).format(**known)


def _is_said(line: str, known: Mapping[str, Any]) -> bool:
    words = line.split()
    if words[0] in ("ControlMaster", "ControlPersist"):
        return "control_path" in known
    if words[0] == "IdentitiesOnly":
        return "ssh_key" in known
    return "{" not in line or line.partition("{")[2].partition("}")[0] in known
