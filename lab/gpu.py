"""Stand-ins for a GPU on a test host: NVIDIA's library and programs, and its container toolkit's repository.

They are compiled, packed and signed on this machine, once for each version of their sources, and laid on a
host only when a test asks for GPUs there: the hosts of `cascade lab up` are bare.
"""

import hashlib
import io
import platform
import shutil
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which

from lab import apt
from lab.commands import output
from lab.engine import Engine
from lab.progress import Say, say_aloud, step

SOURCES = Path(__file__).parent / "stand-in-gpu"
HOME = "opt/stand-in-gpu"
STATE = "/var/lib/nvidia-stand-in/state"
PORT = 8041
REPOSITORY = f"http://127.0.0.1:{PORT}/deb"
KEY_URL = f"http://127.0.0.1:{PORT}/gpgkey"
KEYS = ("first", "second")
VERSIONS = ("1.19.0-1", "1.19.1-1")
FLAGS = ("-O1", "-s", "-Wall", "-Wextra", "-Werror")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# What each package holds, and what it needs.
PACKAGES: dict[str, tuple[tuple[str, ...], str]] = {
    "libnvidia-container1": ((), ""),
    "libnvidia-container-tools": ((), "libnvidia-container1 (= {version})"),
    "nvidia-container-toolkit-base": (("nvidia-ctk", "nvidia-container-runtime"), ""),
    "nvidia-container-toolkit": (
        (),
        "nvidia-container-toolkit-base (= {version}), libnvidia-container-tools (= {version})",
    ),
}
# What dpkg runs once a package's files are there.
CONFIGURED_BY = {"nvidia-container-toolkit-base": "postinst"}
UNITS = ("stand-in-driver.service", "stand-in-repository.service")
_WHOLE_PYTHON = (
    "python3 -c 'import ctypes, http.server' 2>/dev/null || { export DEBIAN_FRONTEND=noninteractive;"
    " apt-get -qq update && apt-get -qq -y install --no-install-recommends python3 >/dev/null; }"
)
# The host's own, whatever proxies its apt goes through.
NO_PROXY = 'Acquire::http::Proxy::127.0.0.1 "DIRECT";\n'


@dataclass(frozen=True)
class StandInGpu:
    """One GPU as the stand-in driver tells of it, in MiB and watts; `code` is NVML's for calls about it.

    A card with -1 watts knows no power limit.
    """

    uuid: str
    total: int = 24564
    used: int = 300
    persistence: bool = False
    watts: int = 450
    mig: int = -1
    code: int = 0
    name: str = "Stand-in RTX 4090"


@dataclass(frozen=True)
class StandInProcess:
    """A process on a GPU, by its index there; the memory is in MiB."""

    gpu: int
    pid: int
    memory: int
    name: str


@dataclass(frozen=True)
class StandInDriver:
    """All that the stand-in driver of a host says. Without a module none is loaded.

    `init` is what the library's start returns, `untold` what calls about processes do.
    """

    gpus: tuple[StandInGpu, ...] = ()
    processes: tuple[StandInProcess, ...] = ()
    library: str = "580.95.05"
    module: str | None = "580.95.05"
    cuda: int = 13000
    init: int = 0
    untold: int = 0

    def text(self) -> str:
        """The state as the stand-ins read it."""
        lines = [f"library {self.library}", f"cuda {self.cuda}", f"init {self.init}", f"untold {self.untold}"]
        lines += [f"module {self.module}"] if self.module else []
        lines += [
            f"gpu {gpu.uuid} {gpu.total} {gpu.used} {int(gpu.persistence)} {gpu.watts} {gpu.mig} {gpu.code}"
            f" {gpu.name}"
            for gpu in self.gpus
        ]
        lines += [f"process {item.gpu} {item.pid} {item.memory} {item.name}" for item in self.processes]
        return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True)
class StandIns:
    """What was made of the sources: an archive of a host's files, and the fingerprints of the keys."""

    archive: Path
    fingerprints: dict[str, str] = field(default_factory=dict)


def stand_in_gpus(lab_dir: Path, say: Say = say_aloud) -> StandIns:
    """The stand-ins, made unless these same sources made those that are there."""
    place = lab_dir / f"stand-in-gpu-{_digest()}"
    if not (place / "files.tar").exists():
        with step(say, "Compiling the stand-ins for GPUs and signing their repository"):
            _ensure_programs(lab_dir, say)
            for old in lab_dir.glob("stand-in-gpu-*"):
                shutil.rmtree(old)
            _make(place)
    prints = {key: (place / f"{key}.fingerprint").read_text().strip() for key in KEYS}
    return StandIns(place / "files.tar", prints)


def give_gpus(engine: Engine, container: str, stand_ins: StandIns, driver: StandInDriver) -> None:
    """Lays the stand-ins on a host, and starts them; a bare host's python3 has neither ctypes nor http."""
    engine.run("exec", container, "sh", "-ec", _WHOLE_PYTHON, timeout_s=300)
    engine.run("cp", "-", f"{container}:/", stdin=stand_ins.archive.read_bytes())
    set_driver(engine, container, driver)
    units = " ".join(UNITS)
    start = f"systemctl daemon-reload && systemctl enable --quiet {units} && systemctl restart {units}"
    engine.run("exec", container, "sh", "-ec", f"ldconfig && {start}")


def set_driver(engine: Engine, container: str, driver: StandInDriver) -> None:
    """Lets the host's driver say this from now on, as if it had been loaded so."""
    write = f"mkdir -p {Path(STATE).parent} && cat >{STATE}.new && mv {STATE}.new {STATE}"
    engine.run(
        "exec", "-i", container, "sh", "-ec", f"{write} && /{HOME}/load-driver", stdin=driver.text().encode()
    )


def _digest() -> str:
    found = hashlib.sha256(repr((VERSIONS, PACKAGES, platform.machine())).encode())
    for file in (*sorted(SOURCES.iterdir()), Path(__file__)):
        found.update(file.name.encode() + file.read_bytes())
    return found.hexdigest()[:12]


def _ensure_programs(lab_dir: Path, say: Say) -> None:
    needed = {"gcc": ("gcc", "libc6-dev"), "gpg": ("gnupg",)}
    missing = [package for program, packages in needed.items() if not which(program) for package in packages]
    if missing:
        apt.install(missing, lab_dir / "apt.log", say)


def _make(place: Path) -> None:
    """In a folder beside its place, so that an interrupted run leaves none."""
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        fresh = Path(folder) / "made"
        root = fresh / "root"
        _files(root)
        prints = _repository(root / HOME / "apt", fresh)
        for key, fingerprint in prints.items():
            (fresh / f"{key}.fingerprint").write_text(fingerprint)
        (fresh / "files.tar").write_bytes(_tar(root))
        shutil.rmtree(root)
        fresh.rename(place)


def _files(root: Path) -> None:
    """The library, the programs and the units, at their places on a host."""
    home, library = root / HOME, root / f"usr/lib/{platform.machine()}-linux-gnu"
    units, settings = root / "etc/systemd/system", root / "etc/apt/apt.conf.d"
    for folder in (home, library, units, settings, root / "usr/bin"):
        folder.mkdir(parents=True)
    nvml, state = SOURCES / "nvml.c", SOURCES / "state.c"
    soname = "libnvidia-ml.so.1"
    shared = ("-shared", "-fPIC", f"-Wl,-soname,{soname}")
    output(["gcc", *FLAGS, *shared, "-o", str(library / "libnvidia-ml-stand-in.so"), str(nvml), str(state)])
    (library / soname).symlink_to("libnvidia-ml-stand-in.so")
    smi = str(SOURCES / "nvidia-smi.c")
    output(["gcc", *FLAGS, "-static", "-o", str(home / "nvidia-smi"), smi, str(state)])
    (root / "usr/bin/nvidia-smi").symlink_to(f"/{HOME}/nvidia-smi")
    for name in ("add-gpus", "load-driver"):
        _copy(SOURCES / name, home / name, 0o755)
    for name in UNITS:
        _copy(SOURCES / name, units / name, 0o644)
    (settings / "91stand-in").write_text(NO_PROXY)


def _copy(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
    target.chmod(mode)


def _repository(apt_folder: Path, work: Path) -> dict[str, str]:
    """The packages and their lists, signed by each of the keys; the first one's signature is in place."""
    architecture = ARCHITECTURES.get(platform.machine(), platform.machine())
    lists = apt_folder / "deb" / architecture
    lists.mkdir(parents=True)
    entries = [_package(lists, work, name, version) for version in VERSIONS for name in PACKAGES]
    packages = "\n".join(entries).encode()
    (lists / "Packages").write_bytes(packages)
    (work / "Release").write_text(
        "Origin: Cascade's stand-ins\nLabel: stand-in\nDate: Thu, 01 Jan 2026 00:00:00 UTC\n"
        f"Architectures: {architecture}\nSHA256:\n {_sha256(packages)} {len(packages)} Packages\n"
    )
    prints = {key: _signed(key, apt_folder, lists, work) for key in KEYS}
    shutil.copy(apt_folder / "first.asc", apt_folder / "gpgkey")
    shutil.copy(lists / "InRelease.first", lists / "InRelease")
    return prints


def _package(lists: Path, work: Path, name: str, version: str) -> str:
    """Packs one stand-in package; returns its entry in the list of packages."""
    files, needs = PACKAGES[name]
    tree = work / f"{name}-{version}"
    for file in files:
        _copy(SOURCES / file, tree / "usr/bin" / file, 0o755)
    depends = f"Depends: {needs.format(version=version)}\n" if needs else ""
    control = (
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: the lab's stand-ins\n{depends}"
        f"Description: stand-in for {name} of NVIDIA Container Toolkit\n"
    )
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(control)
    if name in CONFIGURED_BY:
        _copy(SOURCES / CONFIGURED_BY[name], tree / "DEBIAN/postinst", 0o755)
    archive = lists / f"{name}_{version}_stand-in.deb"
    output(["dpkg-deb", "--root-owner-group", "--build", str(tree), str(archive)])
    content = archive.read_bytes()
    return f"{control}Filename: {archive.name}\nSize: {len(content)}\nSHA256: {_sha256(content)}\n"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _signed(key: str, apt_folder: Path, lists: Path, work: Path) -> str:
    """Makes a key and signs the repository with it; returns the key's fingerprint."""
    home = work / f"gnupg-{key}"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode=loopback", "--passphrase="]
    output([*gpg, "--quick-generate-key", f"stand-in, the {key} key", "ed25519", "sign", "never"])
    output([*gpg, "--armor", "--output", str(apt_folder / f"{key}.asc"), "--export"])
    signing = ["--clearsign", "--output", str(lists / f"InRelease.{key}"), str(work / "Release")]
    output([*gpg, *signing])
    listed = output([*gpg, "--with-colons", "--list-keys"]).splitlines()
    output(["gpgconf", "--homedir", str(home), "--kill", "all"])
    shutil.rmtree(home)
    return next(line.split(":")[9] for line in listed if line.startswith("fpr:"))


def _tar(root: Path) -> bytes:
    """Everything below a folder, owned by root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in _in_order(root):
            archive.add(path, arcname=str(path.relative_to(root)), recursive=False, filter=_roots)
    return buffer.getvalue()


def _in_order(root: Path) -> Iterable[Path]:
    return sorted(
        path for path in root.rglob("*") if path.is_symlink() or not path.is_dir() or _new(path, root)
    )


def _new(folder: Path, root: Path) -> bool:
    """Folders that every host has keep their own mode."""
    return folder.is_relative_to(root / HOME)


def _roots(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member
