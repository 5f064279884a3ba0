"""Where a deployed system is reached from outside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cascade.model.fleet import Fleet
from cascade.model.workload import Workload
from cascade.planning.specs import published_ports


@dataclass(frozen=True)
class Address:
    """One published port on one host; the host's address is its own on the Swarm's network."""

    group: str
    agent: str
    host: str
    address: str
    port: int
    protocol: str

    def __str__(self) -> str:
        return f"{self.address}:{self.port}/{self.protocol}"


def addresses(fleet: Fleet) -> tuple[Address, ...]:
    """Every published port of the run's groups, in the order of the phases."""
    return tuple(
        address
        for workloads in fleet.workloads.values()
        for workload in workloads
        for address in _of_workload(fleet, workload)
    )


def _of_workload(fleet: Fleet, workload: Workload) -> Iterator[Address]:
    """An ingress port answers on every host, any other where the workload may run."""
    eligible = fleet.eligible(workload)
    for port in published_ports(workload, eligible):
        ingress = port["PublishMode"] == "ingress" and workload.kind == "service"
        for host in fleet.hosts.values() if ingress else eligible:
            yield Address(
                group=workload.group,
                agent=workload.agent,
                host=host.name,
                address=host.swarm_address,
                port=port["PublishedPort"],
                protocol=port["Protocol"],
            )
