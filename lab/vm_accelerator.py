"""How this machine runs virtual machines: with KVM where that boots a kernel, else with QEMU's emulation."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

from lab.progress import Say, step
from lab.vm_image import VmImage

QEMU = "qemu-system-x86_64"
TRIAL_TIMEOUT_S = 60
# The first process of the trial ends at once, which the kernel reports so: user space has run.
USER_SPACE_RAN = b"Attempted to kill init"
# QEMU does not end by itself then, it halts the machine.
KVM_GAVE_UP = b"KVM internal error"


@dataclass(frozen=True)
class Accelerator:
    """One way to run a machine's processor."""

    accel: str
    cpu: str

    @property
    def argv(self) -> list[str]:
        """The arguments for QEMU."""
        return ["-machine", "q35", "-accel", self.accel, "-cpu", self.cpu]


EMULATION = Accelerator("tcg,thread=multi", "max")
# Machines that are themselves virtual may refuse a register that their processor has.
HARDWARE = (Accelerator("kvm", "host"), Accelerator("kvm", "host,-arch-capabilities"))


def accelerator(image: VmImage, say: Say, device: Path = Path("/dev/kvm")) -> Accelerator:
    """The first way that boots the image's kernel as far as user space."""
    if device.exists():
        with step(say, "Trying whether KVM boots a machine here"):
            found = next((way for way in HARDWARE if _boots(way, image)), None)
        if found:
            return found
    say("KVM does not boot a machine here: QEMU emulates the processor, which takes ten times longer")
    return EMULATION


def _boots(way: Accelerator, image: VmImage) -> bool:
    machine = ["-m", "512", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"]
    boot = ["-kernel", str(image.kernel), "-initrd", str(image.initrd)]
    line = ["-append", "console=ttyS0 rdinit=/bin/true panic=-1"]
    with subprocess.Popen(
        [QEMU, *way.argv, *machine, *boot, *line],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as trial:
        deadline = Timer(TRIAL_TIMEOUT_S, trial.kill)
        deadline.start()
        try:
            return _reaches_user_space(trial)
        finally:
            deadline.cancel()
            trial.kill()


def _reaches_user_space(trial: subprocess.Popen[bytes]) -> bool:
    assert trial.stdout is not None
    for line in trial.stdout:
        if USER_SPACE_RAN in line:
            return True
        if KVM_GAVE_UP in line:
            return False
    return False
