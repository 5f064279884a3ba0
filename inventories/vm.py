"""Two virtual machines on this machine: `cascade lab up --vm` makes them, this inventory reaches them."""

from pathlib import Path

_lab = Path(__file__).resolve().parent.parent / ".lab"

_shared = {
    "ssh_hostname": "127.0.0.1",
    "ssh_user": "deploy",
    "ssh_key": str(_lab / "id_ed25519"),
    "ssh_known_hosts_file": str(_lab / "known_hosts"),
    "ssh_strict_host_key_checking": "yes",
    # An emulated processor may take longer than pyinfra waits for the keys to be agreed on.
    "ssh_paramiko_connect_kwargs": {"timeout": 60, "banner_timeout": 60, "auth_timeout": 60},
}

mainpc = [
    ("mainpc", {**_shared, "ssh_port": 22043, "swarm_address": "10.204.0.11"}),
]

pc2 = [
    ("pc2", {**_shared, "ssh_port": 22044, "swarm_address": "10.204.0.12"}),
]
