"""The virtual machines as the tests on them see them: past Cascade, as root."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any

from lab import ssh
from lab.errors import LabError
from lab.polling import until
from lab.vm import VIRTUAL_HOSTS
from tests.lab.conftest import ROOT, Checkout, Finished

INVENTORY = "inventories/vm.py"
# Emulated processors: what takes a container host seconds takes these minutes.
RETURN_S = 900
COMMAND_S = 180


def on_machine(name: str, command: str) -> str:
    """Runs a command as root on a machine, and returns what it prints; an exit code but 0 is an error."""
    host = next(host for host in VIRTUAL_HOSTS if host.name == name)
    line = f"sudo sh -c {shlex.quote(command)} 2>&1; echo; echo $?"
    said, _, code = ssh.ask(host.ssh_port, ROOT / ".lab", line, COMMAND_S).rstrip().rpartition("\n")
    assert code == "0", f"{name}: {command}: exit code {code}: {said}"
    return said.strip()


@dataclass(frozen=True)
class Container:
    """A running agent's container."""

    machine: str
    id: str
    name: str
    kind: str
    profile: str

    def run(self, script: str) -> str:
        """Runs a script of the shell inside, as who the agent is."""
        return on_machine(self.machine, f"docker exec {self.id} sh -c {shlex.quote(script)}")


def containers() -> list[Container]:
    """Every running agent of both machines, as the engines and the kernel have it."""
    return [container for host in VIRTUAL_HOSTS for container in _on(host.name)]


def _on(machine: str) -> list[Container]:
    listed = on_machine(machine, "docker ps --quiet --no-trunc --filter label=cascade.system=cascade").split()
    if not listed:
        return []
    found: list[dict[str, Any]] = json.loads(on_machine(machine, f"docker inspect {' '.join(listed)}"))
    pids = " ".join(f"/proc/{item['State']['Pid']}/attr/current" for item in found)
    profiles = on_machine(machine, f"cat {pids}").splitlines()
    return [
        Container(
            machine,
            item["Id"],
            item["Name"].lstrip("/"),
            "service" if "com.docker.swarm.service.name" in item["Config"]["Labels"] else "host container",
            profile,
        )
        for item, profile in zip(found, profiles, strict=True)
    ]


def deploy(checkout: Checkout) -> Finished:
    """Deploys onto the machines."""
    return checkout.run_alone("pyinfra", "-y", INVENTORY, "deploy.py")


def planned(checkout: Checkout) -> list[str]:
    """What a deployment would do now."""
    return checkout.run_alone("pyinfra", "--dry", "--json", INVENTORY, "deploy.py").planned


def healthy(checkout: Checkout) -> None:
    """Waits until every agent is healthy again."""

    def attempt() -> None:
        status = checkout.run_alone("cascade", "status", INVENTORY, "--json")
        if status.code:
            raise LabError("the fleet", (status.out + status.err)[-2000:], "look at cascade status")

    until("the fleet", attempt, timeout_s=RETURN_S, next_step="look at cascade status", interval_s=5)
