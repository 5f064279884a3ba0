"""What the inventory and the group files ask for: the subjects of all tests, and nothing read from a host."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from cascade.model.compose import Port
from cascade.model.fleet import Fleet
from cascade.model.hardening import LIMITS
from cascade.model.host import Host
from cascade.model.networks import Overlay
from cascade.model.service import Service
from cascade.model.workload import Workload
from tests.verify.look import Unread


@dataclass(frozen=True)
class Expected:
    """A fleet, and which of its groups and hosts are judged: all where none is named."""

    fleet: Fleet
    only_groups: Collection[str] = ()
    only_hosts: Collection[str] = ()

    @cached_property
    def hosts(self) -> Mapping[str, Host]:
        """The hosts that are judged, by name."""
        return {
            name: host
            for name, host in self.fleet.hosts.items()
            if not self.only_hosts or name in self.only_hosts
        }

    @cached_property
    def workloads(self) -> Mapping[str, Workload]:
        """Every agent that is to run, judged or not, by the name of its service or container."""
        return {one.name: one for of_one in self.fleet.workloads.values() for one in of_one}

    @cached_property
    def judged(self) -> Mapping[str, Workload]:
        """The agents of the chosen groups that may run on a chosen host."""
        return {
            name: one
            for name, one in self.workloads.items()
            if not self.only_groups or one.group in self.only_groups
            if any(host in self.hosts for host in self.hosts_of(one))
        }

    @cached_property
    def judged_services(self) -> Mapping[str, Workload]:
        """Those that are services of the Swarm, and no containers of one host."""
        return {name: one for name, one in self.judged.items() if one.kind == "service"}

    @cached_property
    def judged_groups(self) -> Mapping[str, tuple[Workload, ...]]:
        """Those agents by group."""
        groups = dict.fromkeys(one.group for one in self.judged.values())
        return {name: tuple(one for one in self.judged.values() if one.group == name) for name in groups}

    @cached_property
    def overlays(self) -> Mapping[str, Overlay]:
        """The networks between the hosts, by name."""
        return {one.name: one for one in self.fleet.settings.networks}

    @cached_property
    def volumes(self) -> Mapping[str, str]:
        """The names of the volumes that the judged agents write to."""
        mounts = (mount for one in self.judged.values() for mount in one.mounts)
        return {mount.source: mount.source for mount in mounts if mount.type == "volume"}

    def hosts_of(self, workload: Workload) -> tuple[str, ...]:
        """The hosts that its constraints admit."""
        return tuple(host.name for host in self.fleet.meeting(workload.constraints))

    def counts_of(self, workload: Workload) -> range:
        """How many replicas there may be: any number inside a range that its file gives."""
        scale = workload.service.scale
        least, most = (scale.min, scale.max) if scale else (workload.replicas, workload.replicas)
        return range(least, most + 1)

    def agents_of(self, service: Service) -> tuple[str, ...]:
        """All that share the budget of a service, by name."""
        return tuple(name for name, one in self.workloads.items() if one.service is service)

    def paths_of(self, name: str) -> list[str]:
        """The files and folders in its containers that somebody asks about."""
        workload = self.workloads[name]
        secrets = (use.path for _, use in workload.secret_files)
        return ["/", *(mount.target for mount in workload.mounts), *secrets, *DEVICES]

    def variables_of(self, name: str) -> list[str]:
        """The variables that the image contract promises an agent."""
        declared = self.workloads[name].declared
        return [*declared.contract(), "REPLICA_SLOT"] if declared else []

    def pin_of(self, workload: Workload) -> str:
        """The one image that its file means."""
        pin = self.fleet.images[workload.service.image]
        if isinstance(pin, ValueError):
            raise Unread(f"nobody here knows which image is meant: {pin}")
        return pin

    def rlimits_of(self, workload: Workload) -> dict[str, tuple[int, int]]:
        """Soft and hard limits of its processes, but for what its hosts are said to be unable to set."""
        absent = {name for host in self.fleet.meeting(workload.constraints) for name in host.absent}
        found = {name: (limit.soft, limit.hard) for name, limit in workload.service.ulimits.items()}
        if "open-files" in absent and workload.service.ulimits.get("nofile") == LIMITS["nofile"]:
            del found["nofile"]
        if workload.realtime and "realtime" not in absent:
            found["rtprio"] = REALTIME
        return found

    def published(self, workload: Workload) -> tuple[Port, ...]:
        """The ports that can be published where it runs: on Swarm's ingress network only with IPVS."""
        lacking = any("ipvs" in host.absent for host in self.fleet.meeting(workload.constraints))
        return tuple(port for port in workload.ports if not (lacking and self.in_ingress(workload, port)))

    def in_ingress(self, workload: Workload, port: Port) -> bool:
        """Whether a port is published on every host; those of a host container are on its own."""
        return workload.kind == "service" and port.mode == "ingress"

    def balanced(self, workload: Workload) -> bool:
        """Whether its names lead to a virtual address, for the sake of the ports that it publishes."""
        return any(self.in_ingress(workload, port) for port in self.published(workload))


# Source: docs/reference/group-files.md, realtime_priority.
REALTIME = (95, 95)
DEVICES = ("/dev/nvidiactl", "/dev/nvidia-uvm", *(f"/dev/nvidia{number}" for number in range(8)))
