"""The two test hosts: containers with systemd and sshd on a network of their own."""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeVar

from lab import keys, ssh
from lab.cgroups import remove_leftovers
from lab.engine import Engine, ensure_engine, reachable_engine
from lab.errors import LabError
from lab.image import ensure_image, remove_images
from lab.machine import Machine, this_machine
from lab.polling import until
from lab.progress import Say, step

CHECKOUT = Path(__file__).resolve().parent.parent
NETWORK = "cascade-lab"
SUBNET = "10.203.0.0/24"
CHECKOUT_LABEL = "cascade.lab.checkout"
RECIPE_LABEL = "cascade.lab.recipe"
MTU_OPTION = "com.docker.network.driver.mtu"
AUTHORIZED_KEYS = "/home/deploy/.ssh/authorized_keys"
UNPAUSE = "docker unpause $(docker ps --quiet --filter status=paused)"
BOOT_TIMEOUT_S = 90
RETURN_TIMEOUT_S = 90

T = TypeVar("T")


@dataclass(frozen=True)
class Host:
    """One test host: its Swarm address differs from the address that SSH reaches it by."""

    name: str
    address: str
    ssh_port: int

    @property
    def container(self) -> str:
        """The container's name."""
        return f"cascade-lab-{self.name}"

    @property
    def docker_volume(self) -> str:
        """Where the host keeps its own Docker data."""
        return f"{self.container}-docker"

    @property
    def cache_volume(self) -> str:
        """Where the host keeps downloaded packages, also over a reset."""
        return f"{self.container}-apt"


HOSTS = (Host("mainpc", "10.203.0.11", 22041), Host("pc2", "10.203.0.12", 22042))


class Verdict(Enum):
    """What becomes of a host that may exist already."""

    CREATE = "create"
    START = "start"
    KEEP = "keep"
    REPLACE = "replace"


@dataclass(frozen=True)
class Found:
    """What the engine says about an existing host."""

    state: str
    checkout: str
    recipe: str


@dataclass(frozen=True)
class HostStatus:
    """What a person wants to know about one host."""

    name: str
    state: str
    address: str
    ssh_port: int
    checkout: str | None
    answers: bool


def decide(found: Found | None, checkout: str, recipe: str) -> tuple[Verdict, str]:
    """What to do with a host, and why."""
    if found is None:
        return Verdict.CREATE, "there is none yet"
    if found.checkout != checkout:
        return (
            Verdict.REPLACE,
            f"it belongs to {f'the checkout {found.checkout}' if found.checkout else 'no checkout'}",
        )
    if found.recipe != recipe:
        return Verdict.REPLACE, "it was made from an older image or other settings"
    if found.state == "running":
        return Verdict.KEEP, "it runs"
    if found.state == "exited":
        return Verdict.START, "it was stopped"
    return Verdict.REPLACE, f"it is half-built (state {found.state})"


def run_argv(host: Host, machine: Machine, image: str) -> list[str]:
    """The arguments of `docker run` for a host, without its labels."""
    return [
        *("run", "--detach", "--tty", "--name", host.container, "--hostname", host.name),
        *("--network", NETWORK, "--ip", host.address, "--publish", f"127.0.0.1:{host.ssh_port}:22"),
        *("--volume", f"{host.docker_volume}:/var/lib/docker"),
        *("--volume", f"{host.cache_volume}:/var/cache/apt/archives"),
        *("--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "--stop-signal", "SIGRTMIN+3"),  # noqa: S108
        *_privileges(machine),
        *_cgroups(machine),
        image,
    ]


def _privileges(machine: Machine) -> list[str]:
    """All that a server may do on this machine, but for moving its clock.

    Each capability is named: --privileged and ALL fail, on some engines, where the machine lacks one,
    and so does dropping it on others.
    """
    capabilities = [f"--cap-add={name}" for name in machine.capabilities if name != "SYS_TIME"]
    apparmor = ["--security-opt", "apparmor=unconfined"] if machine.has_apparmor else []
    modules = ["--volume", "/lib/modules:/lib/modules:ro"] if machine.has_kernel_modules else []
    unconfined = ["--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined"]
    return ["--cap-drop=ALL", *capabilities, *unconfined, *apparmor, *modules]


def _cgroups(machine: Machine) -> list[str]:
    shared = ["--cgroupns=host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"]
    if machine.cgroup_version != 1:
        return shared
    force = "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"
    command_line = f"SYSTEMD_PROC_CMDLINE=systemd.unified_cgroup_hierarchy=0 {force}"
    return [*shared, "--env", command_line, "--env", force]


def recipe(argv: Sequence[str]) -> str:
    """A short name for everything a host is made from."""
    return hashlib.sha256("\0".join(argv).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Lab:
    """The test hosts of one checkout."""

    engine: Engine
    say: Say
    checkout: Path = CHECKOUT

    @property
    def dir(self) -> Path:
        """The checkout's folder for keys, logs and archives."""
        return self.checkout / ".lab"

    def up(self) -> None:
        """Both hosts run and answer; what runs and answers already is left alone."""
        image = ensure_image(self.engine, self.dir, self.say)
        machine = this_machine(self.engine)
        self._ensure_network(machine)
        self._on_both(lambda host: self._settle(host, run_argv(host, machine, image)))

    def reset(self) -> None:
        """Both hosts are bare again; the image and the downloaded packages stay."""
        with step(self.say, "Removing both hosts and their Docker data"):
            self._on_both(self._remove)
            self._sweep()
        self.up()

    def reboot(self, host: Host) -> None:
        """Restart a host as a reboot would, and wait until it answers again."""
        with step(self.say, f"Rebooting {host.name}"):
            self.engine.run("restart", host.container)
            self._let_in(host, BOOT_TIMEOUT_S)

    def down(self, *, everything: bool = False) -> None:
        """Remove both hosts, their volumes and the network, and on request the image too."""
        with step(self.say, "Removing both hosts, their volumes and their network"):
            self._on_both(self._remove)
            self._sweep()
            for host in HOSTS:
                self._remove_volume(host.cache_volume)
            if self.engine.does("network", "inspect", NETWORK):
                self.engine.run("network", "rm", NETWORK)
        if everything:
            with step(self.say, "Removing the test hosts' image"):
                remove_images(self.engine)

    def status(self) -> list[HostStatus]:
        """How each host is doing."""
        return self._on_both(self._status_of)

    def found(self, host: Host) -> Found | None:
        """What the engine knows of a host."""
        labels = [f'{{{{index .Config.Labels "{label}"}}}}' for label in (CHECKOUT_LABEL, RECIPE_LABEL)]
        line = self.engine.inspect("container", host.container, "\t".join(["{{.State.Status}}", *labels]))
        return Found(*line.split("\t")) if line else None

    def _status_of(self, host: Host) -> HostStatus:
        found = self.found(host)
        if found is None:
            return HostStatus(host.name, "absent", host.address, host.ssh_port, None, answers=False)
        ours = found.checkout == str(self.checkout) and found.state == "running"
        answers = ours and ssh.answers(host.ssh_port, self.dir)
        return HostStatus(host.name, found.state, host.address, host.ssh_port, found.checkout, answers)

    def _settle(self, host: Host, argv: list[str]) -> None:
        verdict, reason = decide(self.found(host), str(self.checkout), recipe(argv))
        with step(self.say, f"{host.name}: {verdict.value}, because {reason}"):
            if verdict is Verdict.START:
                self.engine.run("start", host.container)
            if verdict in (Verdict.KEEP, Verdict.START) and self._comes_back(host):
                return
            self._remove(host)
            self._create(host, argv)

    def _comes_back(self, host: Host) -> bool:
        try:
            self._let_in(host, RETURN_TIMEOUT_S)
        except LabError as error:
            self.say(f"{host.name}: replace, because it does not answer: {error.what}")
            return False
        return True

    def _create(self, host: Host, argv: list[str]) -> None:
        labels = {CHECKOUT_LABEL: str(self.checkout), RECIPE_LABEL: recipe(argv)}
        labelled = [part for name, value in labels.items() for part in ("--label", f"{name}={value}")]
        self.engine.run(argv[0], *labelled, *argv[1:])
        self._let_in(host, BOOT_TIMEOUT_S)

    def _let_in(self, host: Host, timeout_s: float) -> None:
        """Wait until the host is up and lets this checkout's key in, and this checkout knows its key."""
        look = f"look with `docker logs {host.container}`, or make the hosts anew with `cascade lab reset`"
        public = keys.ensure_key_pair(self.dir)

        def attempt() -> None:
            self._exec(host, f"cat > {AUTHORIZED_KEYS}", stdin=public.encode())
            keys.pin(self.dir, host.ssh_port, self._exec(host, "cat /etc/ssh/ssh_host_ed25519_key.pub"))
            ssh.require_running(host.name, host.ssh_port, self.dir)

        until(host.name, attempt, timeout_s=timeout_s, next_step=look)

    def _exec(self, host: Host, line: str, stdin: bytes = b"") -> str:
        return self.engine.run(
            "exec", "--interactive", host.container, "sh", "-ec", line, stdin=stdin, timeout_s=30
        )

    def _remove(self, host: Host) -> None:
        if self.found(host):
            # A frozen process cannot be killed on a cgroup v1 machine, and its host would stay with it.
            self.engine.does("exec", host.container, "sh", "-c", UNPAUSE)
            self.engine.run("rm", "--force", "--volumes", host.container)
        self._remove_volume(host.docker_volume)

    def _remove_volume(self, volume: str) -> None:
        if self.engine.does("volume", "inspect", volume):
            self.engine.run("volume", "rm", volume)

    def _sweep(self) -> None:
        if os.geteuid() == 0 and this_machine(self.engine).cgroup_version == 1:
            remove_leftovers()

    def _ensure_network(self, machine: Machine) -> None:
        wanted = f"{SUBNET} {machine.mtu}"
        form = f'{{{{range .IPAM.Config}}}}{{{{.Subnet}}}}{{{{end}}}} {{{{index .Options "{MTU_OPTION}"}}}}'
        existing = self.engine.inspect("network", NETWORK, form)
        if existing == wanted:
            return
        with step(self.say, f"Making the network {NETWORK} ({SUBNET}, MTU {machine.mtu})"):
            if existing:
                self._on_both(self._remove)
                self.engine.run("network", "rm", NETWORK)
            self.engine.run(
                "network", "create", "--subnet", SUBNET, "--opt", f"{MTU_OPTION}={machine.mtu}", NETWORK
            )

    def _on_both(self, action: Callable[[Host], T]) -> list[T]:
        with ThreadPoolExecutor(len(HOSTS)) as pool:
            return list(pool.map(action, HOSTS))


def open_lab(say: Say, checkout: Path = CHECKOUT) -> Lab:
    """The lab of a checkout, on an engine that answers: installed and started when there is none."""
    lab_dir = checkout / ".lab"
    lab_dir.mkdir(exist_ok=True)
    return Lab(ensure_engine(lab_dir, say), say, checkout)


def host_named(name: str) -> Host:
    """The host of that name."""
    return next(host for host in HOSTS if host.name == name)


@contextmanager
def only_one(checkout: Path) -> Iterator[None]:
    """Let one command at a time change a checkout's hosts."""
    lab_dir = checkout / ".lab"
    lab_dir.mkdir(exist_ok=True)
    with (lab_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LabError(
                "the lab", "another command is changing it", "wait until that one has ended"
            ) from error
        yield


def statuses(checkout: Path = CHECKOUT) -> list[HostStatus]:
    """How the hosts are doing, without starting or changing anything."""
    engine = reachable_engine()
    if engine is None:
        return [
            HostStatus(host.name, "no engine", host.address, host.ssh_port, None, answers=False)
            for host in HOSTS
        ]
    return Lab(engine, lambda _: None, checkout).status()
