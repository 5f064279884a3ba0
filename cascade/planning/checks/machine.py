"""Checks of the machine itself: its system, clock, address, kernel, devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cascade.model.fleet import Fleet
from cascade.model.host import Host
from cascade.planning.checks.subject import Said, Subject
from cascade.planning.desired import ENGINE_PACKAGES
from cascade.planning.specs import LABEL_SYSTEM, published_ports

SUPPORTED = {
    ("debian", "bookworm"): "Debian 12",
    ("debian", "trixie"): "Debian 13",
    ("ubuntu", "jammy"): "Ubuntu 22.04",
    ("ubuntu", "noble"): "Ubuntu 24.04",
}
ARCHITECTURES = ("x86_64", "aarch64")
_PUSHED_OUT_BY = {
    "systemd-timesyncd": ("chrony", "ntpsec", "openntpd"),
    "docker.io": ("containerd.io",),
    "containerd.io": ("containerd", "runc"),
}
SKEW_WARNING_S, SKEW_ERROR_S = 1.0, 30.0
_LOADED_BY = {"overlay": "overlay", "vxlan": "vxlan", "ipvs": "ip_vs"}
_NEEDED_FOR = {"overlay": "images and containers", "vxlan": "networks across hosts"}


def system(subject: Subject) -> Iterator[Said]:
    """The distribution is one that Cascade knows, and the one that group_data says."""
    found, host = subject.part("os"), subject.host
    name = (found["distribution"], found["codename"])
    shown = " ".join(filter(None, (found["distribution"], found["codename"] or found["version"])))
    if name not in SUPPORTED:
        known = ", ".join(SUPPORTED.values())
        yield Said("error", f"{shown} is not supported", f"install one of {known}")
    elif name != (host.distribution, host.codename):
        files = f"{host.distribution} {host.codename}"
        lines = f'distribution = "{name[0]}"` and `codename = "{name[1]}"'
        yield Said("error", f"it is {shown}, group_data says {files}", subject.setting(lines))
    if found["machine"] not in ARCHITECTURES:
        known = " or ".join(ARCHITECTURES)
        yield Said("error", f"its architecture {found['machine']} is not supported", f"use {known}")
    yield Said("ok", f"{shown}, {found['machine']}")


def packages(subject: Subject) -> Iterator[Said]:
    """What is to be installed pushes out nothing that the owner has installed."""
    installed, host = subject.part("packages"), subject.host
    changes = [change for change in subject.facts.plan.changes if change.key.host == host.name]
    missing = [change.key.name for change in changes if change.key.kind == "package"]
    for package in missing:
        if others := [name for name in _PUSHED_OUT_BY.get(package, ()) if name in installed]:
            yield Said(
                "error",
                f"{', '.join(others)} is installed, and cannot be beside {package}, which is to come",
                f"to keep it, {_without(subject, package)}; or, if nothing needs it, on {host.name}:"
                f" `sudo apt-get remove {' '.join(others)}`",
            )
    yield Said("ok", f"{len(missing)} to install" if missing else "all there")


def _without(subject: Subject, package: str) -> str:
    """How the host does without a package of Cascade's."""
    host = subject.host
    if package in ENGINE_PACKAGES[host.docker_source]:
        (other,) = ENGINE_PACKAGES.keys() - {host.docker_source}
        return subject.setting(f'docker_source = "{other}"')
    absent = subject.setting(_absent_line(host, "clock"))
    return f"take {package} out of packages in {subject.facts.file_of(host.name, 'packages')}, and {absent}"


def clock(subject: Subject) -> Iterator[Said]:
    """The host's clock agrees with the deploying machine's, as well as the round trip can tell."""
    skew = subject.facts.skews[subject.host.name]
    off = abs(skew.ahead)
    way = "ahead of" if skew.ahead > 0 else "behind"
    message = f"{off:.1f} s {way} this machine's, give or take {skew.within:.1f} s"
    if "clock" in subject.host.absent:
        remedy = "it has no clock of its own: set that of the machine that carries it, or this machine's"
    else:
        remedy = f"on {subject.host.name}: `sudo timedatectl set-ntp true`; or this machine's clock is wrong"
    if off - skew.within > SKEW_ERROR_S:
        yield Said("error", message, remedy)
    elif off - skew.within > SKEW_WARNING_S:
        yield Said("warning", message, remedy)
    elif skew.within > SKEW_WARNING_S:
        yield Said("warning", f"could only be compared to within {skew.within:.1f} s", "look again later")
    else:
        yield Said("ok", message)


def address(subject: Subject) -> Iterator[Said]:
    """The Swarm's address lies on an interface, for good."""
    found, wanted = subject.part("address"), subject.host.swarm_address
    if not found["here"]:
        others = ", ".join(found["others"]) or "none"
        yield Said(
            "error",
            f"{wanted} is on no interface ({found['reason']}); its addresses are {others}",
            f"correct swarm_address of {subject.host.name} in the inventory, or give the host this address",
        )
    elif found["dynamic"]:
        yield Said(
            "warning",
            f"{wanted} is lent by DHCP; a Swarm does not survive another address",
            "configure it as a fixed address, or reserve it for this host at the DHCP server",
        )
    elif found["dynamic"] is None:
        yield Said("note", f"{wanted}; without the command `ip` nobody can say whether it is fixed")
    else:
        yield Said("ok", wanted)


def kernel(subject: Subject) -> Iterator[Said]:
    """What containers and overlay networks need of the kernel."""
    found = subject.part("kernel")
    for feature, needed_for in _NEEDED_FOR.items():
        if not found[feature]:
            yield _lacking(found, feature, needed_for)
    if not found["ipvs"] and (ports := ingress_ports(subject.fleet)) and "ipvs" not in subject.host.absent:
        lacking = _lacking(found, "ipvs", f"published ports in ingress mode ({', '.join(map(str, ports))})")
        without = subject.setting(_absent_line(subject.host, "ipvs"))
        yield Said("error", lacking.message, f"{lacking.next_step}; or, to do without these ports, {without}")
    parts = [
        *(feature for feature in _NEEDED_FOR if found[feature]),
        "IPVS" if found["ipvs"] else "no IPVS",
        "AppArmor" if found["apparmor"] else "no AppArmor, so containers are not confined by it",
        f"cgroup v{found['cgroup']}",
    ]
    yield Said("ok" if found["apparmor"] else "note", ", ".join(parts))


def _lacking(found: Mapping[str, Any], feature: str, needed_for: str) -> Said:
    module = _LOADED_BY[feature]
    if found[feature] is None:
        message = f"{found['release']} does not say whether it has {module}, needed for {needed_for}"
        return Said("error", message, f"`sudo modprobe {module}`, and look again")
    message = f"{found['release']} has no {module}, needed for {needed_for}"
    return Said("error", message, "install the distribution's own kernel and reboot")


def _absent_line(host: Host, name: str) -> str:
    names = ", ".join(f'"{each}"' for each in sorted({*host.absent, name}))
    return f"absent = frozenset({{{names}}})"


def ingress_ports(fleet: Fleet) -> tuple[int, ...]:
    """The ports that the Swarm itself is to publish, on every host."""
    return tuple(
        sorted(
            port["PublishedPort"]
            for workloads in fleet.workloads.values()
            for workload in workloads
            if workload.kind == "service"
            for port in published_ports(workload, fleet.eligible(workload))
            if port["PublishMode"] == "ingress"
        )
    )


def wanted_devices(fleet: Fleet, host: Host) -> dict[str, list[str]]:
    """The devices of this host's containers, with who wants each."""
    wanted: dict[str, list[str]] = {}
    for workloads in fleet.workloads.values():
        for workload in workloads:
            if host not in fleet.eligible(workload):
                continue
            for device in workload.service.devices:
                if device.source not in host.absent:
                    wanted.setdefault(device.source, []).append(workload.name)
    return wanted


def devices(subject: Subject) -> Iterator[Said]:
    """The devices of host containers are there, and nobody else has them open."""
    wanted = wanted_devices(subject.fleet, subject.host)
    found = subject.part("devices")
    for device, agents in wanted.items():
        if not found[device]["present"]:
            line = subject.setting(_absent_line(subject.host, device))
            message = f"there is no {device}, which {', '.join(agents)} needs"
            yield Said("error", message, f"plug it in or load its driver; or, to do without, {line}")
        elif users := [user for user in found[device]["users"] if not _ours(subject, user)]:
            names = ", ".join(f"{user['name']} (PID {user['pid']})" for user in users)
            yield Said(
                "warning",
                f"{device} is in use by {names}",
                f"stop it if {', '.join(agents)} must have the device alone",
            )
    yield Said("ok", f"{', '.join(wanted)} there and free" if wanted else "none needed")


def _ours(subject: Subject, process: Mapping[str, Any]) -> bool:
    """Whether a process runs in a container of this system."""
    engine = subject.part("engine") or {"containers": ()}
    system = subject.fleet.settings.system
    ours = {item["id"] for item in engine["containers"] if item["labels"].get(LABEL_SYSTEM) == system}
    return not ours.isdisjoint(process["containers"])
