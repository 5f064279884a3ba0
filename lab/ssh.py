"""Asking a test host over SSH, as the deployment does: with the lab's key and pinned host keys only."""

import logging
from pathlib import Path

import paramiko

from lab import keys
from lab.errors import LabError

USER = "deploy"
TIMEOUT_S = 10
UP = ("running", "degraded")

# A host that still boots hangs up; paramiko would print a traceback for each such try.
_QUIET = logging.getLogger("lab.ssh")
_QUIET.addHandler(logging.NullHandler())


def ask(port: int, lab_dir: Path, command: str, timeout_s: float = TIMEOUT_S) -> str:
    """Run a command as the deploy user on the host behind a loopback port and return what it prints."""
    with paramiko.SSHClient() as client:
        client.set_log_channel(_QUIET.name)
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        try:
            client.load_host_keys(str(keys.known_hosts(lab_dir)))
            _connect(client, port, lab_dir)
            _, stdout, _ = client.exec_command(command, timeout=timeout_s)
            return stdout.read().decode()
        except (OSError, EOFError, paramiko.SSHException) as error:
            where = f"SSH on 127.0.0.1:{port}"
            raise LabError(where, str(error) or type(error).__name__, "see `cascade lab status`") from error


def answers(port: int, lab_dir: Path) -> bool:
    """Whether an authenticated command gets an answer."""
    try:
        return ask(port, lab_dir, "echo here").strip() == "here"
    except LabError:
        return False


def require_running(name: str, port: int, lab_dir: Path) -> None:
    """Raise unless the host's systemd says over SSH that it has finished booting."""
    state = ask(port, lab_dir, "systemctl is-system-running").strip()
    if state not in UP:
        raise LabError(name, f"systemd says {state or 'nothing'}", "wait until it has booted")


def _connect(client: paramiko.SSHClient, port: int, lab_dir: Path) -> None:
    client.connect(
        "127.0.0.1",
        port=port,
        username=USER,
        key_filename=str(keys.private_key(lab_dir)),
        allow_agent=False,
        look_for_keys=False,
        timeout=TIMEOUT_S,
        banner_timeout=TIMEOUT_S,
        auth_timeout=TIMEOUT_S,
    )
