"""Networks across the hosts, and the ranges of addresses that must not meet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from cascade.model.daemon import daemon_faults, ranges_of
from cascade.model.host import Host
from cascade.model.names import fits
from cascade.model.quantities import Whole
from cascade.model.strict import Problem, Strict, twice
from cascade.model.wording import shown

SETTINGS = "group_data"
# Source: moby, libnetwork/ipamutils: where an engine without default-address-pools puts its bridges.
_AUTOMATIC = tuple(map(IPv4Network, ("172.17.0.0/16", "172.18.0.0/15", "172.20.0.0/14", "172.24.0.0/13")))
_ENGINES_OWN = ("bridge", "docker_gwbridge", "host", "ingress", "none")
# An overlay's first and last address, and its gateway.
_NOBODYS = 3
_LARGEST_SIZE = 29


def _subnet(value: object) -> object:
    """An IPv4 network as a person writes it, without bits of a host in it."""
    example = "write one like 10.210.0.0/16"
    if isinstance(value, IPv4Network):
        return value
    try:
        network = IPv4Network(value if isinstance(value, str) else "", strict=False)
    except ValueError:
        raise ValueError(f"{shown(value)} is no IPv4 network: {example}") from None
    if "/" not in str(value):
        raise ValueError(f"{value} has no prefix: {example}")
    if str(network) != value:
        raise ValueError(f"{value} is no IPv4 network with its prefix: write {network}")
    return network


def _not_the_engines(name: str) -> str:
    if name in _ENGINES_OWN:
        raise ValueError(f"{name} is a network of the engine's own: write one like cascade-internal")
    return name


_check_name = fits(r"[A-Za-z0-9][A-Za-z0-9_.-]*", "is no name of a network", "cascade-internal")


def check_network(name: str) -> str:
    """Raises ValueError for what the engine would not make a network of."""
    return _not_the_engines(_check_name(name))


Subnet = Annotated[IPv4Network, BeforeValidator(_subnet)]
NetworkName = Annotated[str, AfterValidator(check_network)]


class Overlay(Strict):
    """A network across all hosts."""

    name: NetworkName
    subnet: Subnet | None = None
    internal: bool = False
    attachable: bool = True
    mtu: Annotated[Whole, Field(ge=576, le=65535)] | None = None


class SwarmPool(Strict):
    """Where the Swarm takes the subnets of networks that name none."""

    pool: Subnet
    subnet_size: Whole = 24


@dataclass(frozen=True)
class Claim:
    """A range of addresses that somebody uses, and the place in the files that says so."""

    path: str
    who: str
    network: IPv4Network
    movable: bool = True


def subnet_problems(
    networks: tuple[Overlay, ...], swarm_pool: SwarmPool, hosts: Mapping[str, Host]
) -> Iterator[Problem]:
    """Ranges that meet: the engine takes them, and containers find nobody or do not start."""
    swarms = [*_overlay_claims(networks), Claim("swarm_pool.pool", "swarm_pool", swarm_pool.pool)]
    engines = [claim for host in hosts.values() for claim in _engine_claims(host)]
    addresses = [claim for host in hosts.values() for claim in _address_claims(host)]
    bridges = [claim for claim in engines if claim.movable]
    pairs = [
        *combinations(swarms, 2),
        *((swarm, engine) for engine in engines for swarm in swarms),
        *((address, claim) for address in addresses for claim in (*swarms, *bridges)),
    ]
    free = _free([claim.network for claim in (*swarms, *engines, *addresses)])
    for one, other in pairs:
        if one.network.overlaps(other.network):
            reason = f"{one.network} of {one.who} lies in the same range as {other.network} of {other.who}"
            if other.movable:
                yield Problem(SETTINGS, other.path, reason, f"write a range that is free, like {free}")
            else:
                pools = f'add "default-address-pools": [{{"base": "{free}", "size": 24}}]'
                yield Problem(SETTINGS, other.path, reason, pools)


def _overlay_claims(networks: Iterable[Overlay]) -> Iterator[Claim]:
    for number, overlay in enumerate(networks):
        if overlay.subnet:
            yield Claim(f"networks[{number}].subnet", f"the network {overlay.name}", overlay.subnet)


def _engine_claims(host: Host) -> Iterator[Claim]:
    """Where an engine puts its bridges; its settings are somebody else's to check."""
    path = f"{host.name}.daemon_settings"
    if any(daemon_faults(host.daemon_settings)):
        return
    for key, network in ranges_of(host.daemon_settings):
        yield Claim(f"{path}.{key}", key, network)
    for network in () if "default-address-pools" in host.daemon_settings else _AUTOMATIC:
        yield Claim(path, "Docker's automatic choice", network, movable=False)


def _address_claims(host: Host) -> Iterator[Claim]:
    network = IPv4Network(f"{IPv4Address(host.swarm_address)}/32")
    yield Claim(f"{host.name}.swarm_address", f"the host {host.name}", network)


def _free(taken: list[IPv4Network]) -> str:
    """A range that nothing in the files uses."""
    candidates = (IPv4Network(f"10.{number}.0.0/16") for number in (*range(210, 256), *range(210)))
    unused = (network for network in candidates if not any(map(network.overlaps, taken)))
    return str(next(unused, "192.168.210.0/24"))


def size_problems(
    networks: tuple[Overlay, ...], swarm_pool: SwarmPool, joining: Mapping[str, int]
) -> Iterator[Problem]:
    """Too few addresses for the containers and hosts that join a network, by its name."""
    pool, size = swarm_pool.pool, swarm_pool.subnet_size
    if not pool.prefixlen <= size <= _LARGEST_SIZE:
        fix = f"write a number from {pool.prefixlen} to {_LARGEST_SIZE}"
        yield Problem(SETTINGS, "swarm_pool.subnet_size", f"/{size} is no part of {pool}", fix)
        return
    unnumbered = 1 + sum(overlay.subnet is None for overlay in networks)
    if 2 ** (size - pool.prefixlen) < unnumbered:
        reason = f"{pool} has no room for {unnumbered} networks of /{size}, Swarm's own among them"
        yield Problem(SETTINGS, "swarm_pool.pool", reason, "write a larger one, like 10.201.0.0/16")
    for number, overlay in enumerate(networks):
        has = overlay.subnet.num_addresses if overlay.subnet else 2 ** (32 - size)
        wants = joining.get(overlay.name, 0) + _NOBODYS
        if has < wants:
            path = f"networks[{number}].subnet" if overlay.subnet else "swarm_pool.subnet_size"
            reason = f"{overlay.name} has {has} addresses, and its containers and hosts need {wants}"
            yield Problem(SETTINGS, path, reason, f"write a /{32 - (wants - 1).bit_length()} or larger")


def name_problems(networks: Iterable[Overlay]) -> Iterator[Problem]:
    """Two networks of one name."""
    names = [overlay.name for overlay in networks]
    for name in twice(names):
        number = len(names) - 1 - names[::-1].index(name)
        yield Problem(SETTINGS, f"networks[{number}].name", f"{name} stands twice", "remove one of the two")
