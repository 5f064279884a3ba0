"""Checks of what goes between the hosts, and into them: ports."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import permutations
from typing import Any

from cascade.model.fleet import Fleet
from cascade.model.host import Host
from cascade.planning.checks.subject import Call, Facts, Said, Subject
from cascade.planning.specs import LABEL_SYSTEM, published_ports

MANAGEMENT = (2377, "tcp")
GOSSIP_TCP, GOSSIP_UDP = (7946, "tcp"), (7946, "udp")
OVERLAY = (4789, "udp")

Spot = tuple[int, str]


def swarm_ports(fleet: Fleet, host: Host) -> tuple[Spot, ...]:
    """The ports on which a node of the Swarm is called by the others."""
    management = (MANAGEMENT,) if host is fleet.manager else ()
    return (*management, GOSSIP_TCP, GOSSIP_UDP, OVERLAY)


def calls_among(fleet: Fleet, hosts: Collection[str], members: Collection[str]) -> tuple[Call, ...]:
    """What each of these hosts is to try at each other one.

    On a member of a Swarm the Swarm itself answers; by UDP it answers nobody else, so that is not tried.
    """
    return tuple(
        Call(caller, callee, port, protocol)
        for caller, callee in permutations(hosts, 2)
        for port, protocol in swarm_ports(fleet, fleet.hosts[callee])
        if protocol == "tcp" or callee not in members
    )


def published(fleet: Fleet, host: Host) -> dict[Spot, str]:
    """The ports that the fleet's workloads publish on a host, with whose each is."""
    found: dict[Spot, str] = {}
    for workloads in fleet.workloads.values():
        for workload in workloads:
            hosts = fleet.eligible(workload)
            for port in published_ports(workload, hosts):
                ingress = port["PublishMode"] == "ingress" and workload.kind == "service"
                if ingress or host in hosts:
                    found[port["PublishedPort"], port["Protocol"]] = workload.name
            if workload.kind == "container" and host in hosts:
                found |= {(port.published, port.protocol): workload.name for port in workload.ports}
    return found


def between_hosts(subject: Subject) -> Iterator[Said]:
    """Every port that the others must reach here is the Swarm's to take, and was reached."""
    yield from _held(subject)
    calls = subject.facts.calls
    if calls is None:
        yield Said("ok", "not tried: every host is a ready node of the Swarm")
    elif not (to_here := [call for call in calls if call.callee == subject.host.name]):
        yield Said("ok", "no other host to try it with")
    else:
        yield from _called(subject, to_here)


def _held(subject: Subject) -> Iterator[Said]:
    """Ports that somebody else has; the overlay's is held by the kernel itself, which shares it."""
    wanted = swarm_ports(subject.fleet, subject.host)
    for spot, holder in _holders(subject, wanted).items():
        if holder is None and spot == OVERLAY:
            continue
        if holder is None or holder["name"] != "dockerd":
            yield Said(
                "error",
                f"{_spot(spot)}, which the Swarm needs, is held by {_who(holder)}",
                f"on {subject.host.name}: stop it, or give it another port",
            )


def _holders(subject: Subject, wanted: Iterable[Spot]) -> dict[Spot, Mapping[str, Any] | None]:
    """Who listens on which of these ports; None stands for the kernel."""
    listening = {(item["port"], item["protocol"]): item["holder"] for item in subject.part("sockets")}
    return {spot: listening[spot] for spot in wanted if spot in listening}


def _spot(spot: Spot) -> str:
    return f"{spot[0]}/{spot[1]}"


def _who(holder: Mapping[str, Any] | None) -> str:
    return f"{holder['name']} (PID {holder['pid']})" if holder else "the kernel"


def _called(subject: Subject, to_here: list[Call]) -> Iterator[Said]:
    if not subject.part("address")["here"]:
        yield Said("unchecked", f"{subject.host.swarm_address} must be on an interface first")
        return
    answered, reached = _proven(subject.facts), set()
    held = _holders(subject, swarm_ports(subject.fleet, subject.host))
    for caller in sorted({call.caller for call in to_here}):
        calls = [call for call in to_here if call.caller == caller]
        reached |= {(call.port, call.protocol) for call in calls if call in answered}
        taken = {spot for spot, holder in held.items() if spot[1] == "udp"}
        missed = [
            (call.port, call.protocol)
            for call in calls
            if call not in answered and (call.port, call.protocol) not in taken
        ]
        if missed:
            yield _blocked(subject, caller, missed)
    yield from _by_the_swarm(subject, sorted({call.caller for call in to_here}))
    if OVERLAY in held and held[OVERLAY] is None and not subject.facts.in_swarm(subject.host.name):
        yield Said(
            "warning",
            f"{_spot(OVERLAY)} could not be tried: the kernel has it for a VXLAN that is not the Swarm's",
            f"on {subject.host.name}: see whose it is with `ip -d link show type vxlan`",
        )
    if reached:
        others = ", ".join(sorted({call.caller for call in to_here}))
        yield Said("ok", f"{', '.join(map(_spot, sorted(reached)))} reached from {others}")


def _proven(facts: Facts) -> set[Call]:
    """The calls that got through, by what the caller heard and by what the callee received."""
    proven = set()
    for name, reading in facts.readings.items():
        heard = reading["probes"]
        proven |= {Call(name, peer, port, protocol) for peer, port, protocol in heard.get("answered", ())}
        proven |= {Call(peer, name, port, protocol) for peer, port, protocol in heard.get("reached", ())}
    return proven


def _blocked(subject: Subject, caller: str, missed: list[Spot]) -> Said:
    host, peer = subject.host, subject.fleet.hosts[caller]
    if (reading := subject.facts.readings.get(caller)) is None:
        return Said("unchecked", f"{caller}, which was to try these ports, could not be read")
    if fault := reading["probes"].get("error"):
        return Said("error", f"{caller} could not try its ports: {fault}", f"mend that on {caller} first")
    source, firewall = peer.swarm_address, subject.part("firewall")
    commands = [_opening(firewall, source, port, protocol) for port, protocol in missed]
    where = (
        f"on {host.name}: `{' && '.join(commands)}`" if firewall else f"no firewall of {host.name} is known"
    )
    return Said(
        "error",
        f"{caller} ({source}) gets no answer on {', '.join(map(_spot, missed))}",
        f"{where}; if it stays so, look at {caller} and at what lies between the two",
    )


def _opening(firewall: str | None, source: str, port: int, protocol: str) -> str:
    """The command that lets one host reach one port, for the firewall in force."""
    family = "ipv6" if ":" in source else "ipv4"
    if firewall == "ufw":
        return f"sudo ufw allow from {source} to any port {port} proto {protocol}"
    if firewall == "firewalld":
        target = f'port port="{port}" protocol="{protocol}"'
        rule = f'rule family="{family}" source address="{source}" {target} accept'
        return f"sudo firewall-cmd --permanent --add-rich-rule='{rule}' && sudo firewall-cmd --reload"
    if firewall == "nft":
        ip = "ip6" if family == "ipv6" else "ip"
        return f"sudo nft insert rule inet filter input {ip} saddr {source} {protocol} dport {port} accept"
    table = "ip6tables" if family == "ipv6" else "iptables"
    return f"sudo {table} -I INPUT -s {source} -p {protocol} --dport {port} -j ACCEPT"


def _by_the_swarm(subject: Subject, callers: list[str]) -> Iterator[Said]:
    """What is known of UDP where the Swarm itself has the ports."""
    facts, host = subject.facts, subject.host
    if not facts.in_swarm(host.name):
        return
    udp = f"{_spot(GOSSIP_UDP)} and {_spot(OVERLAY)} are the Swarm's and answer only nodes"
    apart = [name for name in (host.name, *callers) if facts.in_swarm(name) and not facts.ready(name)]
    if apart:
        yield Said(
            "warning",
            f"{udp}; {fleet_manager(facts)} does not see {', '.join(apart)} ready",
            "look with `docker node ls` on the manager and `journalctl -u docker` on the node",
        )
    else:
        yield Said("ok", f"{udp}; the manager sees this one ready")


def fleet_manager(facts: Facts) -> str:
    """The name of the host that knows the Swarm's nodes."""
    return facts.fleet.manager.name


def published_free(subject: Subject) -> Iterator[Said]:
    """The fleet's published ports belong to nobody else on this host."""
    wanted = published(subject.fleet, subject.host)
    owners = _owners(subject)
    holders = _holders(subject, wanted)
    for spot, workload in sorted(wanted.items()):
        owner = owners.get(spot) or _stranger(subject, holders, spot)
        if owner:
            yield Said(
                "error",
                f"{_spot(spot)}, which {workload} publishes, is held by {owner}",
                f"on {subject.host.name}: stop it or move it, or publish another port in the group file",
            )
    free = ", ".join(map(_spot, sorted(wanted)))
    yield Said("ok", f"{free} free or ours" if free else "none are published here")


def _owners(subject: Subject) -> dict[Spot, str]:
    """The containers and services that publish ports and are not of this system."""
    system = subject.fleet.settings.system
    engine = subject.part("engine") or {"containers": ()}
    found = {
        (port, protocol): f"the container {item['name']} ({item['image']})"
        for item in engine["containers"]
        if item["labels"].get(LABEL_SYSTEM) != system
        for port, protocol in item["ports"]
    }
    services = subject.facts.engine(subject.fleet.manager.name).get("services", ())
    if subject.facts.in_swarm(subject.host.name):
        for service in services:
            if (service["Spec"].get("Labels") or {}).get(LABEL_SYSTEM) != system:
                for port in (service.get("Endpoint") or {}).get("Ports") or ():
                    spot = port.get("PublishedPort", 0), port["Protocol"]
                    found[spot] = f"the service {service['Spec']['Name']}"
    return found


def _stranger(subject: Subject, holders: Mapping[Spot, Mapping[str, Any] | None], spot: Spot) -> str | None:
    """Who listens on a port without the engine's help, if it is not a container of this system."""
    if spot not in holders:
        return None
    holder = holders[spot]
    if holder is None:
        return "the kernel"
    if holder["name"] in ("dockerd", "docker-proxy"):
        return None
    for item in (subject.part("engine") or {"containers": ()})["containers"]:
        if item["id"] in holder["containers"]:
            ours = item["labels"].get(LABEL_SYSTEM) == subject.fleet.settings.system
            return None if ours else f"{_who(holder)} of the container {item['name']}"
    return _who(holder)
