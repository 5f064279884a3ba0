"""The two virtual machines: Debian 13 under QEMU, each with a kernel of its own."""

import base64
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from lab import keys, ssh
from lab.commands import output
from lab.errors import LabError
from lab.hosts import AUTHORIZED_KEYS, CHECKOUT, Found, HostStatus, Verdict, decide, recipe
from lab.polling import until
from lab.progress import Say, step
from lab.vm_accelerator import QEMU, accelerator
from lab.vm_image import ROOT_LABEL, VmImage, ensure_tools, ensure_vm_image, remove_vm_images

MEMORY_MIB = 2048
PROCESSORS = 2
CACHE_SIZE = "2G"
# Under emulation a boot takes minutes where two machines share two cores.
BOOT_TIMEOUT_S = 600
STOP_TIMEOUT_S = 30
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"


@dataclass(frozen=True)
class VirtualHost:
    """One virtual machine; `wire_port` is its end of the wire to the other one, on the loopback."""

    name: str
    address: str
    ssh_port: int
    wire_port: int
    number: int

    def mac(self, card: int) -> str:
        """The hardware address of one of its cards."""
        return f"52:54:00:ca:{card:02x}:{self.number:02x}"


VIRTUAL_HOSTS = (
    VirtualHost("mainpc", "10.204.0.11", 22043, 22045, 11),
    VirtualHost("pc2", "10.204.0.12", 22044, 22046, 12),
)


def qemu_argv(host: VirtualHost, image: VmImage, folder: Path, other: VirtualHost) -> list[str]:
    """The arguments of QEMU for a machine, without the way its processor runs.

    Its first card reaches out, and is how SSH reaches it; its second one is wired to the other machine.
    """
    return [
        *("-name", f"cascade-vm-{host.name}", "-smp", str(PROCESSORS), "-m", str(MEMORY_MIB)),
        *("-nodefaults", "-display", "none", "-daemonize", "-pidfile", str(folder / "pid")),
        *("-serial", f"file:{folder / 'console.log'}"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", kernel_line(host)),
        *("-drive", f"file={folder / 'disk.qcow2'},format=qcow2,if=virtio,discard=unmap"),
        *("-drive", f"file={folder / 'apt.raw'},format=raw,if=virtio,discard=unmap"),
        *("-device", "virtio-rng-pci"),
        *("-netdev", f"user,id=outside,hostfwd=tcp:127.0.0.1:{host.ssh_port}-:22"),
        *("-device", f"virtio-net-pci,netdev=outside,mac={host.mac(0)},romfile="),
        *("-netdev", f"socket,id=wire,udp=127.0.0.1:{other.wire_port},localaddr=127.0.0.1:{host.wire_port}"),
        *("-device", f"virtio-net-pci,netdev=wire,mac={host.mac(1)},romfile="),
        *("-smbios", f"type=11,path={folder / 'credentials'}"),
    ]


def kernel_line(host: VirtualHost) -> str:
    """The kernel's command line: the disk, the name, and the addresses of both cards."""
    outside, wire = "ip=eth0:dhcp", f"ip={host.address}:::255.255.255.0::eth1:none"
    names = f"net.ifnames=0 systemd.hostname={host.name}"
    return f"root=LABEL={ROOT_LABEL} rw console=ttyS0 {names} {outside} {wire}"


def credentials(public_key: str, host_key: str) -> str:
    """What systemd in the machine writes at each boot: who may log in, and the machine's SSH key."""
    lines = (
        _tmpfile(AUTHORIZED_KEYS, "0600 deploy deploy", public_key),
        _tmpfile(HOST_KEY, "0600 root root", host_key),
    )
    return f"io.systemd.credential.binary:tmpfiles.extra={_base64(''.join(lines))}"


def _tmpfile(path: str, access: str, content: str) -> str:
    return f"f+~ {path} {access} - {_base64(content)}\n"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def process_of(folder: Path, proc: Path = Path("/proc")) -> int | None:
    """The process of the machine in a folder; None where none runs."""
    try:
        pid = int((folder / "pid").read_text())
        argv = (proc / str(pid) / "cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ValueError):
        return None
    # The number may be another process's by now.
    return pid if str(folder / "pid").encode() in argv else None


@dataclass(frozen=True)
class VmLab:
    """The virtual machines of one checkout."""

    say: Say
    checkout: Path = CHECKOUT

    @property
    def dir(self) -> Path:
        """The checkout's folder for keys, logs and archives."""
        return self.checkout / ".lab"

    def folder(self, host: VirtualHost) -> Path:
        """Where a machine's disks and its console's log lie."""
        return self.dir / "vm" / host.name

    def up(self) -> None:
        """Both machines run and answer; what runs and answers already is left alone."""
        (self.dir / "vm").mkdir(parents=True, exist_ok=True)
        ensure_tools(self.dir, self.say)
        image = ensure_vm_image(self.dir, self.say)
        if stopped := [host for host in VIRTUAL_HOSTS if self._settle(host, image)]:
            self._start(stopped, image)
        with step(self.say, "Waiting until both machines answer"):
            for host in VIRTUAL_HOSTS:
                self._wait(host)

    def reset(self) -> None:
        """Both machines are bare again; the image and the downloaded packages stay."""
        with step(self.say, "Stopping both machines and emptying their disks"):
            for host in VIRTUAL_HOSTS:
                self._stop(host)
                (self.folder(host) / "disk.qcow2").unlink(missing_ok=True)
        self.up()

    def reboot(self, host: VirtualHost) -> None:
        """Reboot a machine in good order, and wait until it answers again."""
        with step(self.say, f"Rebooting {host.name}"):
            before = self._boot_id(host)
            ssh.ask(host.ssh_port, self.dir, "sudo systemctl reboot")
            self._wait(host, before)

    def down(self, *, everything: bool = False) -> None:
        """Stop both machines and remove their disks, and on request their image too."""
        with step(self.say, "Removing both virtual machines"):
            for host in VIRTUAL_HOSTS:
                self._remove(host)
        if everything:
            with step(self.say, "Removing the virtual machines' image"):
                remove_vm_images(self.dir)

    def status(self) -> list[HostStatus]:
        """How each machine is doing."""
        return [self._status_of(host) for host in VIRTUAL_HOSTS]

    def _status_of(self, host: VirtualHost) -> HostStatus:
        found = self._found(host)
        state, owner = (found.state, found.checkout) if found else ("absent", None)
        answers = state == "running" and ssh.answers(host.ssh_port, self.dir)
        return HostStatus(host.name, state, host.address, host.ssh_port, owner, answers)

    def _found(self, host: VirtualHost) -> Found | None:
        folder = self.folder(host)
        state = "running" if process_of(folder) else "exited" if (folder / "disk.qcow2").exists() else None
        noted = folder / "recipe"
        return (
            Found(state, str(self.checkout), noted.read_text() if noted.exists() else "") if state else None
        )

    def _start(self, hosts: list[VirtualHost], image: VmImage) -> None:
        way = accelerator(image, self.say)
        for host in hosts:
            self._let_in(host)
            output([QEMU, *way.argv, *self._argv(host, image)])

    def _argv(self, host: VirtualHost, image: VmImage) -> list[str]:
        other = next(another for another in VIRTUAL_HOSTS if another != host)
        return qemu_argv(host, image, self.folder(host), other)

    def _settle(self, host: VirtualHost, image: VmImage) -> bool:
        """Keep a machine, make it or make it anew; whether it has to be started."""
        made_from = recipe(self._argv(host, image))
        verdict, reason = decide(self._found(host), str(self.checkout), made_from)
        self.say(f"{host.name}: {verdict.value}, because {reason}")
        if verdict is Verdict.REPLACE:
            self._remove(host)
        if verdict in (Verdict.REPLACE, Verdict.CREATE):
            self._create(host, image, made_from)
        return verdict is not Verdict.KEEP

    def _create(self, host: VirtualHost, image: VmImage, made_from: str) -> None:
        folder = self.folder(host)
        folder.mkdir(exist_ok=True)
        (folder / "recipe").write_text(made_from)
        if not (folder / "apt.raw").exists():
            path = f"PATH={os.environ.get('PATH', '')}:/usr/sbin:/sbin"
            make = ("mke2fs", "-q", "-t", "ext4", "-L", "cascade-apt")
            output(["env", path, *make, str(folder / "apt.raw"), CACHE_SIZE])
        base = ("-F", "qcow2", "-b", str(image.disk))
        output(["qemu-img", "create", "-q", "-f", "qcow2", *base, str(folder / "disk.qcow2")])

    def _let_in(self, host: VirtualHost) -> None:
        """Give the machine its SSH key and this checkout's public one, and pin the former."""
        folder = self.folder(host)
        keys.pin(self.dir, host.ssh_port, keys.ensure_key_pair(folder))
        file = folder / "credentials"
        file.touch(mode=0o600)
        file.write_text(credentials(keys.ensure_key_pair(self.dir), keys.private_key(folder).read_text()))

    def _wait(self, host: VirtualHost, not_this_boot: str = "") -> None:
        def attempt() -> None:
            ssh.require_running(host.name, host.ssh_port, self.dir)
            if self._boot_id(host) == not_this_boot:
                raise LabError(host.name, "has not gone down yet", "look at it")

        look = f"read {self.folder(host) / 'console.log'}, or run `cascade lab reset --vm`"
        until(host.name, attempt, timeout_s=BOOT_TIMEOUT_S, next_step=look, interval_s=0.5)

    def _boot_id(self, host: VirtualHost) -> str:
        return ssh.ask(host.ssh_port, self.dir, "cat /proc/sys/kernel/random/boot_id")

    def _stop(self, host: VirtualHost) -> None:
        """Switch a machine off, as if its plug were pulled."""
        pid = process_of(self.folder(host))
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)

        def attempt() -> None:
            if process_of(self.folder(host)):
                raise LabError(host.name, f"QEMU still runs as process {pid}", "end it by hand")

        until(host.name, attempt, timeout_s=STOP_TIMEOUT_S, next_step=f"end process {pid} by hand")

    def _remove(self, host: VirtualHost) -> None:
        self._stop(host)
        if self.folder(host).exists():
            shutil.rmtree(self.folder(host))
