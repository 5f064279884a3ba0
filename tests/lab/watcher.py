"""A test host as the machine that keeps watch: the project, its environment, and elsewhere the files."""

from __future__ import annotations

import io
import platform
import shlex
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from lab.hosts import HOSTS
from tests.lab.conftest import ROOT, Checkout, Finished, docker, on_host

NAME = "pc2"
PROGRAM = "/srv/cascade/.venv/bin/cascade"
# The files lie under a name that is hard to write into a unit.
FILES = '/srv/it\'s 100% "odd" $HOME'
METRICS = "/srv/node 100% exporter"
INVENTORY = "inventories/lab.py"
_PACKAGES = "python3 python3-venv libpam-systemd"
_GLIBC = ("2_34", "2_28", "2_17", "2_12", "2_5")
_NOT_THERE = {".venv", ".lab", "__pycache__"}


@dataclass(frozen=True)
class Watcher:
    """What a person does on that machine, as the user `deploy`, in the folder of the files."""

    def run(self, *argv: str) -> Finished:
        """A command of that user."""
        line = f"cd {shlex.quote(FILES)} && XDG_RUNTIME_DIR=/run/user/$(id -u) exec {shlex.join(argv)}"
        command = (*docker(), "exec", "--user", "deploy", f"cascade-lab-{NAME}", "sh", "-c", line)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return Finished(done.returncode, done.stdout, done.stderr)

    def drift(self, *options: str, scope: str) -> Finished:
        """`cascade drift`, with sudo where it is for the system."""
        sudo = ("sudo",) if scope == "system" else ()
        return self.run(*sudo, PROGRAM, "drift", INVENTORY, *options)

    def read(self, path: str) -> str:
        """A text file of that machine."""
        return on_host(NAME, f"cat {shlex.quote(path)}") + "\n"

    def write(self, path: str, text: str) -> None:
        """A file of the user's on that machine."""
        put({path: text.encode()})


def put(files: dict[str, bytes]) -> None:
    """Files on that machine, the user's, by their absolute paths."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size, member.mode, member.uid, member.gid = len(content), 0o700, 1000, 1000
            archive.addfile(member, io.BytesIO(content))
    command = (*docker(), "cp", "--archive", "-", f"cascade-lab-{NAME}:/")
    subprocess.run(command, input=buffer.getvalue(), check=True, capture_output=True)


def set_up(fleet: Checkout, scratch: Path) -> Watcher:
    """The project with an environment of that machine's Python; the lab's files with the hosts' addresses."""
    on_host(
        NAME,
        "apt-get update -q > /dev/null; DEBIAN_FRONTEND=noninteractive apt-get install -y -q "
        f"--no-install-recommends {_PACKAGES} > /dev/null; loginctl enable-linger deploy",
    )
    version = on_host(NAME, "python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'")
    wheels = scratch / "wheels"
    _download(version, wheels)
    project = fleet.path
    put(
        {
            **_under("/srv/wheels", wheels),
            **_under("/srv/cascade", project),
            **_under(FILES, project / "group_data", "group_data"),
            f"{FILES}/{INVENTORY}": _inventory(project / INVENTORY),
            f"{FILES}/.lab/known_hosts": _known_hosts(fleet.path / ".lab/known_hosts"),
            **{
                f"{FILES}/.lab/{name}": (fleet.path / ".lab" / name).read_bytes()
                for name in ("id_ed25519", "stand-in.tar")
            },
        }
    )
    on_host(
        NAME,
        "cd /srv/cascade && python3 -m venv .venv && .venv/bin/pip install -q --no-index"
        " --find-links /srv/wheels -c constraints.txt -e .",
    )
    on_host(NAME, f"install -d -o deploy {shlex.quote(METRICS)}; chown -R deploy {shlex.quote(FILES)}")
    return Watcher()


def _download(version: str, folder: Path) -> None:
    """The pinned packages for that machine's Python, got the way that script/setup gets them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    platforms = [f"--platform=manylinux_{glibc}_{platform.machine()}" for glibc in _GLIBC]
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--only-binary=:all:",
        f"--python-version={version}",
    ]
    subprocess.run([*pip, *platforms, "-c", ROOT / "constraints.txt", "-d", folder, *wanted], check=True)


def _under(target: str, folder: Path, inside: str = "") -> dict[str, bytes]:
    """The files of a folder by where they go."""
    return {
        str(Path(target, inside, path.relative_to(folder))): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not _NOT_THERE & set(path.relative_to(folder).parts)
    }


def _inventory(path: Path) -> bytes:
    """The lab's inventory for a machine on the hosts' own network."""
    text = path.read_text().replace('    "ssh_hostname": "127.0.0.1",\n', "")
    for host in HOSTS:
        text = text.replace(f'"ssh_port": {host.ssh_port}', f'"ssh_hostname": "{host.address}"')
    return text.encode()


def _known_hosts(path: Path) -> bytes:
    text = path.read_text()
    for host in HOSTS:
        text = text.replace(f"[127.0.0.1]:{host.ssh_port}", host.address)
    return text.encode()
