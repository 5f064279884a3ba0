"""The image of the test hosts: a bare Debian 13 server, built once for each set of inputs."""

import hashlib
import io
import platform
import tarfile
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from lab import apt
from lab.commands import as_root, run_logged
from lab.engine import Engine
from lab.errors import LabError
from lab.progress import Say, step

REPOSITORY = "cascade-lab-host"
BUILD_CONTAINER = "cascade-lab-build"
SUITE = "trixie"
PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "iptables",
    "kmod",
    "openssh-server",
    "procps",
    "python3-minimal",
    "sudo",
    "systemd",
    "systemd-sysv",
)
SETUP = Path(__file__).parent / "host" / "setup.sh"
CERTIFICATES = Path("/usr/local/share/ca-certificates")
REGISTRY_PATIENCE_S = 60


@dataclass(frozen=True)
class Inputs:
    """Everything that decides what the image holds."""

    setup: str
    packages: tuple[str, ...]
    mirrors: apt.Mirrors | None
    settings: str
    certificates: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        """Same inputs, same digest."""
        return hashlib.sha256(repr((self, SUITE, platform.machine())).encode()).hexdigest()[:12]

    @property
    def tag(self) -> str:
        """The image's name."""
        return f"{REPOSITORY}:{self.digest}"

    def files(self) -> dict[str, str]:
        """The files that the set-up reads inside the image."""
        return {
            "lab/setup.sh": self.setup,
            "lab/packages": "\n".join(self.packages),
            "lab/apt.conf": self.settings,
            "lab/debian.sources": deb822_sources(self.mirrors) if self.mirrors else "",
            **{f"lab/{name}": text for name, text in self.certificates},
        }


def inputs_of_this_machine() -> Inputs:
    """The inputs as this machine gives them now."""
    found = sorted(CERTIFICATES.glob("*.crt"))
    certificates = tuple((file.name, file.read_text()) for file in found)
    return Inputs(SETUP.read_text(), PACKAGES, apt.machine_mirrors(), _settings(), certificates)


def _settings() -> str:
    return apt.machine_settings() if which("apt-config") else ""


def deb822_sources(mirrors: apt.Mirrors) -> str:
    """The test hosts' package sources, on the mirrors of this machine."""
    archive = _stanza(mirrors.archive, f"{SUITE} {SUITE}-updates")
    return archive + ("\n" + _stanza(mirrors.security, f"{SUITE}-security") if mirrors.security else "")


def _stanza(uri: str, suites: str) -> str:
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    return f"Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nSigned-By: {keyring}\n"


def ensure_image(engine: Engine, lab_dir: Path, say: Say) -> str:
    """Return the name of the test hosts' image, built from this machine's inputs unless it is there."""
    inputs = inputs_of_this_machine()
    if not engine.does("image", "inspect", inputs.tag):
        with step(say, f"Building the test hosts' image {inputs.tag} (about a minute, once)"):
            _finish(engine, _base(engine, inputs, lab_dir, say), inputs, lab_dir, say)
    return inputs.tag


def remove_images(engine: Engine) -> None:
    """Remove every image of test hosts."""
    names = engine.run("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY).split()
    if names:
        engine.run("image", "rm", "--force", *names)


def _base(engine: Engine, inputs: Inputs, lab_dir: Path, say: Say) -> str:
    """A minimal Debian: from a registry that answers, else bootstrapped from the package mirror."""
    official = f"debian:{SUITE}"
    try:
        run_logged(
            [*engine.command, "pull", official], lab_dir / "pull.log", say, timeout_s=REGISTRY_PATIENCE_S
        )
    except LabError:
        say("  no registry answers; the image is bootstrapped from the package mirror")
        return _bootstrap(engine, inputs, lab_dir, say)
    return official


def _bootstrap(engine: Engine, inputs: Inputs, lab_dir: Path, say: Say) -> str:
    if not which("mmdebstrap"):
        apt.install(["mmdebstrap", "debian-archive-keyring"], lab_dir / "apt.log", say)
    archive = lab_dir / "base.tar"
    with step(say, "  Bootstrapping Debian from the package mirror"):
        run_logged(
            as_root(*bootstrap_argv(inputs.mirrors, archive)), lab_dir / "bootstrap.log", say, timeout_s=900
        )
    base = engine.run("import", str(archive), f"{REPOSITORY}:base", timeout_s=300).strip()
    archive.unlink()
    return base


def bootstrap_argv(
    mirrors: apt.Mirrors | None, target: Path, packages: tuple[str, ...] = PACKAGES
) -> list[str]:
    """The mmdebstrap call; without known mirrors it uses its own default."""
    include = f"--include={','.join(packages)}"
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase", include, SUITE, str(target)]
    if mirrors is None:
        return argv
    security = [f"deb {mirrors.security} {SUITE}-security main"] if mirrors.security else []
    return [
        *argv,
        f"deb {mirrors.archive} {SUITE} main",
        f"deb {mirrors.archive} {SUITE}-updates main",
        *security,
    ]


def _finish(engine: Engine, base: str, inputs: Inputs, lab_dir: Path, say: Say) -> None:
    """Run the set-up in a container of the base; only a finished one becomes the image."""
    if engine.does("container", "inspect", BUILD_CONTAINER):
        engine.run("rm", "--force", "--volumes", BUILD_CONTAINER)
    # The machine's own network has the right path and packet size for the mirror; a bridge may not.
    engine.run("create", "--name", BUILD_CONTAINER, "--network", "host", base, "sh", "/lab/setup.sh")
    engine.run("cp", "-", f"{BUILD_CONTAINER}:/", stdin=_tar(inputs.files()))
    with step(say, "  Setting up the bare server"):
        start = [*engine.command, "start", "--attach", BUILD_CONTAINER]
        run_logged(start, lab_dir / "setup.log", say, timeout_s=900)
    engine.run("commit", "--change", 'CMD ["/sbin/init"]', BUILD_CONTAINER, inputs.tag, timeout_s=300)
    engine.run("rm", "--force", "--volumes", BUILD_CONTAINER)


def _tar(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()
