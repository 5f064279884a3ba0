"""The disk, kernel and initial RAM disk of the virtual machines, built once for each set of inputs."""

import os
import platform
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import which

from lab import apt
from lab.commands import as_root, output, run_logged
from lab.errors import LabError
from lab.image import PACKAGES, Inputs, bootstrap_argv, inputs_of_this_machine
from lab.progress import Say, step

VM_SETUP = Path(__file__).parent / "host" / "vm.sh"
VM_PACKAGES = (
    *PACKAGES,
    "e2fsprogs",
    "initramfs-tools",
    "libnss-myhostname",
    "linux-image-cloud-amd64",
)
TOOLS = {
    "mke2fs": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
}
DISK = "8G"
ROOT_LABEL = "cascade-root"
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


@dataclass(frozen=True)
class VmImage:
    """What every virtual machine starts from; its folder is named after what it was built from."""

    folder: Path

    @property
    def disk(self) -> Path:
        """The root file system, which machines read and never write."""
        return self.folder / "root.qcow2"

    @property
    def kernel(self) -> Path:
        """Debian's kernel for cloud machines."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Its initial RAM disk."""
        return self.folder / "initrd"


def vm_inputs() -> Inputs:
    """What the image is built from, as this machine gives it now."""
    inputs = inputs_of_this_machine()
    return replace(inputs, setup=inputs.setup + VM_SETUP.read_text(), packages=VM_PACKAGES)


def ensure_tools(lab_dir: Path, say: Say) -> None:
    """Install what builds and runs virtual machines, unless it is there."""
    if platform.machine() != "x86_64":
        raise LabError(
            "this machine", f"is no x86_64 but {platform.machine()}", "use `cascade lab up` without --vm"
        )
    if missing := [package for tool, package in TOOLS.items() if not which(tool, path=_PATH)]:
        apt.install([*missing, "debian-archive-keyring"], lab_dir / "apt.log", say)


def ensure_vm_image(lab_dir: Path, say: Say) -> VmImage:
    """The image of the virtual machines, built from this machine's inputs unless it is there."""
    inputs = vm_inputs()
    image = VmImage(lab_dir / "vm" / f"image-{inputs.digest}")
    if not image.folder.exists():
        with step(say, f"Building the disk of the virtual machines, {image.folder.name} (minutes, once)"):
            _build(image, inputs, lab_dir, say)
    return image


def remove_vm_images(lab_dir: Path) -> None:
    """Remove every image of virtual machines."""
    for folder in (lab_dir / "vm").glob("image-*"):
        shutil.rmtree(folder)


def _build(image: VmImage, inputs: Inputs, lab_dir: Path, say: Say) -> None:
    """Build in a folder of another name, so that only a finished image has the right one."""
    work = lab_dir / "vm" / "build"
    output(as_root("rm", "-rf", "--one-file-system", str(work)))
    _lay_out(inputs, work / "seed")
    root, fresh = work / "root", work / "image"
    fresh.mkdir()
    with step(say, "  Bootstrapping Debian with a kernel from the package mirror"):
        run_logged(
            as_root(*vm_bootstrap_argv(inputs, work)), lab_dir / "vm-bootstrap.log", say, timeout_s=1800
        )
    with step(say, "  Writing the disk"):
        _write_disk(root, VmImage(fresh))
    fresh.rename(image.folder)
    output(as_root("rm", "-rf", "--one-file-system", str(work)))


def _lay_out(inputs: Inputs, seed: Path) -> None:
    for name, text in inputs.files().items():
        file = seed / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def vm_bootstrap_argv(inputs: Inputs, work: Path) -> list[str]:
    """The mmdebstrap call that fills a folder and runs the set-up inside it."""
    program, *rest = bootstrap_argv(inputs.mirrors, work / "root", inputs.packages)
    hooks = (f"copy-in '{work / 'seed' / 'lab'}' /", 'chroot "$1" sh /lab/setup.sh')
    return [program, *(f"--customize-hook={hook}" for hook in hooks), "--format=directory", *rest]


def _write_disk(root: Path, image: VmImage) -> None:
    raw = image.folder / "root.raw"
    kernel = output(as_root("sh", "-c", f"echo {root}/boot/vmlinuz-*")).strip()
    version = Path(kernel).name.removeprefix("vmlinuz-")
    for source, target in ((kernel, image.kernel), (f"{root}/boot/initrd.img-{version}", image.initrd)):
        output(as_root("cp", source, str(target)))
    make = ("env", f"PATH={_PATH}", "mke2fs", "-q", "-t", "ext4", "-L", ROOT_LABEL)
    output(as_root(*make, "-d", str(root), str(raw), DISK), timeout_s=600)
    output(
        as_root("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(image.disk)), timeout_s=600
    )
    output(as_root("rm", str(raw)))
    for file in (image.disk, image.kernel, image.initrd):
        output(as_root("chown", str(os.getuid()), str(file)))
