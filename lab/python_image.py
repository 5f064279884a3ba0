"""A root file system with Python and what services use with it, for workloads that run under a profile."""

import hashlib
import platform
from pathlib import Path
from shutil import which

from lab import apt
from lab.commands import as_root, run_logged
from lab.image import SUITE, bootstrap_argv
from lab.progress import Say, say_aloud, step

PACKAGES = (
    "openssl",
    "python3",
    "python3-gevent",
    "python3-numpy",
    "python3-redis",
    "python3-zmq",
    "redis-server",
)


def python_archive(lab_dir: Path, say: Say = say_aloud) -> Path:
    """Return an archive for `docker import`, made from distribution packages unless it is there."""
    lab_dir.mkdir(exist_ok=True)
    archive = lab_dir / archive_name()
    if archive.exists():
        return archive
    for older in lab_dir.glob("python-*.tar"):
        older.unlink()
    if not which("mmdebstrap"):
        apt.install(["mmdebstrap", "debian-archive-keyring"], lab_dir / "apt.log", say)
    fresh = archive.with_suffix(".new.tar")
    with step(say, f"Bootstrapping Python to {archive.name} (half a minute, once)"):
        argv = as_root(*bootstrap_argv(apt.machine_mirrors(), fresh, PACKAGES))
        run_logged(argv, lab_dir / "python.log", say, timeout_s=900)
    fresh.replace(archive)
    return archive


def archive_name() -> str:
    """Same packages of the same distribution, same name."""
    digest = hashlib.sha256(repr((PACKAGES, SUITE, platform.machine())).encode()).hexdigest()
    return f"python-{digest[:12]}.tar"
