"""The stand-in agent's image: busybox and three scripts, written as an archive for `docker load`.

It is built without an engine and holds no time of day, so that the same inputs give the same image ID.
"""

import hashlib
import io
import json
import platform
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from lab import apt
from lab.progress import Say, say_aloud, step

REFERENCE = "cascade/stand-in:lab"
SCRIPTS = Path(__file__).parent / "stand-in"
APPLETS = (
    "awk cat env grep head hostname id ip ls nc netstat nslookup ping printf ps sh sleep timeout tr wc wget"
)
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
EPOCH = "1970-01-01T00:00:00Z"
LABELS = {
    "cascade.stand-in": "true",
    "org.opencontainers.image.title": "Cascade stand-in agent",
    "org.opencontainers.image.description": "Keeps an agent's image contract in tests; it is no real agent.",
}


@dataclass(frozen=True)
class Entry:
    """One file, folder or link of the image."""

    mode: int
    content: bytes = b""
    link: str = ""
    folder: bool = False


def stand_in_archive(lab_dir: Path, say: Say = say_aloud) -> Path:
    """Return the archive of the stand-in image, built unless these same inputs made the one that is there."""
    lab_dir.mkdir(exist_ok=True)
    archive = lab_dir / "stand-in.tar"
    image = image_archive(_busybox(lab_dir, say), _scripts())
    if archive.exists() and archive.read_bytes() == image:
        return archive
    with step(say, f"Writing the stand-in agent's image {REFERENCE} to {archive.name}"):
        _replace(archive, image)
    return archive


def image_archive(busybox: bytes, scripts: dict[str, bytes], reference: str = REFERENCE) -> bytes:
    """A `docker save` archive with one layer."""
    layer = layer_tar(root_file_system(busybox, scripts))
    config = json.dumps(image_config(hashlib.sha256(layer).hexdigest()), sort_keys=True).encode()
    config_name, layer_name = f"{hashlib.sha256(config).hexdigest()}.json", "layer.tar"
    manifest = [{"Config": config_name, "RepoTags": [reference], "Layers": [layer_name]}]
    return layer_tar(
        {
            config_name: Entry(0o644, config),
            layer_name: Entry(0o644, layer),
            "manifest.json": Entry(0o644, json.dumps(manifest).encode()),
        }
    )


def root_file_system(busybox: bytes, scripts: dict[str, bytes]) -> dict[str, Entry]:
    """Every path of the image, in order."""
    folders = {name: Entry(0o755, folder=True) for name in ("bin", "dev", "etc", "proc", "stand-in", "sys")}
    return {
        **folders,
        "tmp": Entry(0o1777, folder=True),
        "etc/passwd": Entry(0o644, b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"),
        "etc/group": Entry(0o644, b"root:x:0:\nnogroup:x:65534:\n"),
        "bin/busybox": Entry(0o755, busybox),
        **{f"bin/{applet}": Entry(0o777, link="busybox") for applet in APPLETS.split()},
        "bin/curl": Entry(0o777, link="../stand-in/curl"),
        **{f"stand-in/{name}": Entry(0o755, content) for name, content in sorted(scripts.items())},
    }


def image_config(layer_digest: str) -> dict[str, object]:
    """The image's configuration: what runs, as whom, and that it is a stand-in."""
    return {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "config": {
            "Cmd": None,
            "Entrypoint": ["/stand-in/stand-in"],
            "Env": ["PATH=/bin"],
            "Labels": LABELS,
            "StopSignal": "SIGTERM",
            "User": "65534:65534",
            "WorkingDir": "/",
        },
        "created": EPOCH,
        "history": [{"created": EPOCH, "created_by": "lab/stand_in.py"}],
        "os": "linux",
        "rootfs": {"diff_ids": [f"sha256:{layer_digest}"], "type": "layers"},
    }


def layer_tar(entries: dict[str, Entry]) -> bytes:
    """A tar whose bytes depend on names, modes and contents alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, entry in entries.items():
            archive.addfile(_member(name, entry), io.BytesIO(entry.content))
    return buffer.getvalue()


def _member(name: str, entry: Entry) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode, member.size, member.linkname = entry.mode, len(entry.content), entry.link
    if entry.folder:
        member.type = tarfile.DIRTYPE
    elif entry.link:
        member.type = tarfile.SYMTYPE
    return member


def _scripts() -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in SCRIPTS.iterdir()}


def _busybox(lab_dir: Path, say: Say) -> bytes:
    """A static busybox: the one kept from before, this machine's, or the one that apt downloads."""
    kept = lab_dir / "busybox"
    if not kept.exists():
        _replace(kept, _static_busybox_here() or _downloaded_busybox(lab_dir, say))
    return kept.read_bytes()


def _static_busybox_here() -> bytes | None:
    found = which("busybox")
    return Path(found).read_bytes() if found and is_static(Path(found).read_bytes()) else None


def is_static(program: bytes) -> bool:
    """Whether an ELF program asks for no dynamic loader."""
    return program.startswith(b"\x7fELF") and b"/ld-linux" not in program[:4096]


def _downloaded_busybox(lab_dir: Path, say: Say) -> bytes:
    with step(say, "Fetching busybox-static with apt"), tempfile.TemporaryDirectory(dir=lab_dir) as folder:
        apt.unpack("busybox-static", Path(folder), lab_dir / "apt.log", say)
        program = next(
            path for path in Path(folder).rglob("busybox") if path.is_file() and path.parent.name == "bin"
        )
        return program.read_bytes()


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that an interrupted run leaves the old one or the new one, never a half."""
    fresh = path.with_suffix(path.suffix + ".new")
    fresh.write_bytes(content)
    fresh.replace(path)
