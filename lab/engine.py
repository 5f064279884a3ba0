"""A Docker engine on this machine: the one that is there, or one that is installed and started."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from lab import apt
from lab.commands import as_root, output, succeeds
from lab.errors import LabError
from lab.polling import until
from lab.progress import Say, step

DAEMON_LOG = Path("/run/cascade-lab-dockerd.log")
PID_FILES = {"dockerd": Path("/run/docker.pid"), "containerd": Path("/run/docker/containerd/containerd.pid")}


@dataclass(frozen=True)
class Engine:
    """The docker command that reaches the engine of this machine."""

    command: tuple[str, ...] = ("docker",)

    def run(self, *args: str, stdin: bytes = b"", timeout_s: float = 120) -> str:
        """Run a docker command and return what it prints."""
        return output([*self.command, *args], stdin=stdin, timeout_s=timeout_s)

    def does(self, *args: str) -> bool:
        """Whether a docker command ends with 0."""
        return succeeds([*self.command, *args])

    def inspect(self, kind: str, name: str, form: str) -> str | None:
        """One value of `docker <kind> inspect`, or None where there is no such object."""
        if not self.does(kind, "inspect", name):
            return None
        # Only the newline goes: the value may begin or end with an empty field.
        return self.run(kind, "inspect", "--format", form, name).removesuffix("\n")


def reachable_engine() -> Engine | None:
    """The engine that answers now, asked without and then with sudo; None where none does."""
    candidates: Sequence[Engine] = [Engine()]
    if os.geteuid() != 0 and which("sudo"):
        candidates = [Engine(), Engine(("sudo", "-n", "docker"))]
    return next((engine for engine in candidates if _answers(engine)), None)


def ensure_engine(log_dir: Path, say: Say) -> Engine:
    """Make sure that a Docker engine answers on this machine, and return the way to it."""
    if engine := reachable_engine():
        return engine
    if not (which("docker") and which("dockerd", path=_ROOT_PATH)):
        apt.install(_packages(), log_dir / "apt.log", say)
    with step(say, "Starting the Docker engine of this machine"):
        _start_engine(say)
        return until("the Docker engine", _engine_that_answers, timeout_s=60, next_step=_where_to_look())


_ROOT_PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"


def _answers(engine: Engine) -> bool:
    return succeeds([*engine.command, "version", "--format", "{{.Server.Version}}"], timeout_s=20)


def _engine_that_answers() -> Engine:
    if engine := reachable_engine():
        return engine
    raise LabError("the Docker engine", f"does not answer yet; {_daemon_words()}", _where_to_look())


def _packages() -> list[str]:
    """Debian 13 keeps the command line in a package of its own, which is only recommended."""
    return ["docker.io", "docker-cli"] if apt.has_candidate("docker-cli") else ["docker.io"]


def _start_engine(say: Say) -> None:
    if _runs_systemd():
        output(as_root("systemctl", "start", "docker"), timeout_s=90)
        return
    for program, pid_file in PID_FILES.items():
        _remove_stale(program, pid_file, say)
    if not _is_alive("dockerd", PID_FILES["dockerd"]):
        # A session of its own keeps the daemon alive when the script that needed it ends.
        line = f"cd / && PATH={_ROOT_PATH} exec setsid --fork dockerd >{DAEMON_LOG} 2>&1 </dev/null"
        output(as_root("sh", "-c", line))


def _runs_systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def _remove_stale(program: str, pid_file: Path, say: Say) -> None:
    if succeeds(as_root("test", "-e", str(pid_file))) and not _is_alive(program, pid_file):
        say(f"  removing {pid_file}, which an earlier {program} left behind")
        output(as_root("rm", "-f", str(pid_file)))


def _is_alive(program: str, pid_file: Path) -> bool:
    """Whether the process that a pid file names still is that program."""
    if not succeeds(as_root("test", "-e", str(pid_file))):
        return False
    process = Path("/proc", output(as_root("cat", str(pid_file))).strip() or "none")
    return is_running(process, program)


def is_running(process: Path, program: str) -> bool:
    """Whether a folder of /proc is of that program, and not only of its unreaped remains."""
    try:
        status = (process / "status").read_text()
    except FileNotFoundError:
        return False
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return fields["Name"] == program and not fields["State"].startswith("Z")


def _daemon_words() -> str:
    if not DAEMON_LOG.exists():
        return "it has no log yet"
    return f"its last words: {DAEMON_LOG.read_text(errors='replace')[-400:].strip()}"


def _where_to_look() -> str:
    return "read `journalctl -u docker`" if _runs_systemd() else f"read {DAEMON_LOG}"
