"""What each machine is asked about itself, and how its answers are understood."""

from __future__ import annotations

from datetime import datetime
from posixpath import normpath
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from cascade.model.fleet import Fleet
from cascade.model.host import Host

JOIN_PORT, GOSSIP_PORT = 2377, 7946
CLOCKS = ("systemd-timesyncd.service", "chrony.service", "ntpsec.service", "openntpd.service")
# The engine, and what has to be done before it starts containers again: profiles and secrets put in place.
UNITS = ("docker.service", "containerd.service")
PROFILES_UNIT, SECRETS_UNIT = "cascade-apparmor.service", "cascade-secrets.service"
ENGINES = {
    "distribution": frozenset({"docker.io"}),
    "docker": frozenset({"docker-ce", "docker-ce-cli", "containerd.io"}),
}
# What images and overlay networks rest on; the last one balances what is published on all hosts.
MODULES = ("overlay", "vxlan", "ip_vs")
# Source: moby, where an engine keeps its data that is told nothing else.
DATA = "/var/lib/docker"


def request_for(host: Host, fleet: Fleet) -> dict[str, Any]:
    """What is asked on a host."""
    manager = fleet.manager
    others = [[one.swarm_address, GOSSIP_PORT] for one in fleet.hosts.values()]
    return {
        "packages": sorted({*host.packages, *frozenset().union(*ENGINES.values())}),
        "sysctls": sorted(host.sysctls),
        "units": [*UNITS, PROFILES_UNIT, SECRETS_UNIT, *CLOCKS],
        "modules": list(MODULES),
        "folders": ["/", data_of(host)],
        "sshd": host.ssh_hardening,
        "reach": [[manager.swarm_address, JOIN_PORT], *others],
        "certificate": certificate_of(host),
    }


def data_of(host: Host) -> str:
    """Where the engine of a host keeps its data."""
    return normpath(str(host.daemon_settings.get("data-root", DATA)))


def certificate_of(host: Host) -> str:
    """Where a node of a Swarm keeps its certificate."""
    return f"{data_of(host)}/swarm/certificates/swarm-node.crt"


def kept_sysctls(text: str) -> dict[str, str]:
    """What a reboot sets by name: of several values the last one that is read. Source: sysctl.d(5).

    Patterns are left out: a name that stands by itself counts before them.
    """
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.split("=", 1) for line in lines if "=" in line and line[0] not in "#;")
    named = ((key.strip().removeprefix("-"), value) for key, value in pairs)
    return {dotted(key): words(value) for key, value in named if "*" not in key}


def dotted(name: str) -> str:
    """A setting's name with dots, and slashes where a part has dots of its own."""
    first = next((sign for sign in name if sign in "./"), ".")
    return name.translate(str.maketrans("./", "/.")) if first == "/" else name


def words(value: str) -> str:
    """A setting's value: the kernel puts tabs between numbers where people write spaces."""
    return " ".join(value.split())


def members_of_node(certificate: str) -> dict[str, str]:
    """The node and its role that a certificate of a Swarm names."""
    subject = x509.load_pem_x509_certificate(certificate.encode()).subject
    attributes = {"node": NameOID.COMMON_NAME, "role": NameOID.ORGANIZATIONAL_UNIT_NAME}
    return {key: str(subject.get_attributes_for_oid(oid)[0].value) for key, oid in attributes.items()}


def validity(certificate: str) -> tuple[datetime, datetime]:
    """Since when and until when a certificate counts."""
    found = x509.load_pem_x509_certificate(certificate.encode())
    return found.not_valid_before_utc, found.not_valid_after_utc


def is_signed_by(certificate: str, authority: str) -> bool:
    """Whether one certificate was signed with the key of the other."""
    found, issuer = (x509.load_pem_x509_certificate(one.encode()) for one in (certificate, authority))
    try:
        found.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True
