"""The keys of daemon.json that `daemon_settings` may have, and what Swarm cannot live with.

Source: dockerd(8), "Daemon configuration file"; the engine refuses to start with any other key.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from ipaddress import IPv4Interface, IPv4Network, ip_address
from typing import Any

from cascade.model.gpu import GPU_KIND, VRAM
from cascade.model.log_driver import log_fault
from cascade.model.wording import shown

Fault = tuple[str, str]

_KINDS: dict[str, tuple[type, ...]] = {
    "true or false": (bool,),
    "a whole number": (int,),
    "a text": (str,),
    "a list of texts": (list, tuple),
    "a map": (dict,),
}
_NAMES = {
    "true or false": """
        allow-direct-routing debug experimental icc init ip-forward ip-forward-no-drop ip-masq ip6tables
        iptables ipv6 live-restore no-new-privileges raw-logs selinux-enabled tls tlsverify userland-proxy
    """,
    "a whole number": """
        max-concurrent-downloads max-concurrent-uploads max-download-attempts mtu
        network-control-plane-mtu network-diagnostic-port shutdown-timeout
    """,
    "a text": """
        bip bip6 bridge cgroup-parent containerd containerd-namespace containerd-plugins-namespace data-root
        default-cgroupns-mode default-gateway default-gateway-v6 default-ipc-mode default-runtime
        default-shm-size exec-root firewall-backend fixed-cidr fixed-cidr-v6 group host-gateway-ip init-path
        ip log-driver log-format log-level metrics-addr min-api-version pidfile seccomp-profile storage-driver
        swarm-default-advertise-addr tlscacert tlscert tlskey userland-proxy-path userns-remap
    """,
    "a list of texts": """
        authorization-plugins cdi-spec-dirs dns dns-opts dns-search exec-opts host-gateway-ips hosts
        insecure-registries labels node-generic-resources registry-mirrors storage-opts
    """,
    "a map": "builder default-network-opts default-ulimits features log-opts proxies runtimes",
}
_RESOURCES = "node-generic-resources"
_KIND_OF = {name: kind for kind, names in _NAMES.items() for name in names.split()}
_POOLS = "default-address-pools"

_REFUSED: dict[str, Callable[[Any], bool]] = {
    "live-restore": lambda value: value is True,
    "iptables": lambda value: value is False,
    "ip-forward": lambda value: value is False,
    "firewall-backend": lambda value: value == "nftables",
    "userns-remap": bool,
    "hosts": bool,
}
_WHY = {
    "live-restore": "an engine with it does not start on a node of a Swarm",
    "iptables": "without its rules no overlay network works",
    "ip-forward": "without forwarding no overlay network works",
    "firewall-backend": "Swarm does not work with nftables",
    "userns-remap": "host containers and mounts would see other owners",
    "hosts": "the engine's unit names its socket too, and with both it does not start",
}
_NUMBERED_VRAM = re.compile(rf"{VRAM}-\d+", re.ASCII)
_RESOURCE = re.compile(r"(?P<kind>[A-Za-z0-9][A-Za-z0-9_.-]*)=(?P<value>[^=\s,]+)")


def merged(there: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says, with our settings; runtimes and resources of the owner's stay beside ours."""
    return {**there, **{name: _beside(name, there.get(name), value) for name, value in ours.items()}}


def ours_in(there: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says of that which our settings say something of."""
    return {name: _of_ours(name, there[name], value) for name, value in ours.items() if name in there}


def _beside(name: str, there: Any, ours: Any) -> Any:
    if name == "runtimes" and isinstance(there, dict):
        return {**there, **ours}
    if name == _RESOURCES and isinstance(there, list):
        kinds = _kinds(ours)
        return [*(each for each in _single(there) if _kind(each) not in kinds), *ours]
    return ours


def _of_ours(name: str, there: Any, ours: Any) -> Any:
    if name == "runtimes" and isinstance(there, dict):
        return {runtime: said for runtime, said in there.items() if runtime in ours}
    if name == _RESOURCES and isinstance(there, list):
        kinds = _kinds(ours)
        return [each for each in _single(there) if _kind(each) in kinds]
    return there


def _single(resources: Iterable[Any]) -> Iterator[str]:
    """The engine takes several in one text too."""
    return (each.strip() for resource in resources for each in str(resource).split(","))


def _kinds(ours: Iterable[str]) -> set[str]:
    """What we offer of GPUs counts, and what we once did."""
    found = {_kind(each) for each in ours}
    return found | {VRAM} if GPU_KIND in found else found


def _kind(resource: str) -> str:
    kind = resource.partition("=")[0].strip()
    return VRAM if _NUMBERED_VRAM.fullmatch(kind) else kind


def daemon_faults(settings: Mapping[str, Any]) -> Iterator[tuple[str, Fault]]:
    """Key, reason and fix of everything with which an engine would not start, or not in a Swarm."""
    for name, value in settings.items():
        if fault := _fault(name, value):
            yield name, fault
    if not isinstance(settings.get("log-opts", {}), dict):
        return
    driver = settings.get("log-driver", "json-file")
    options: dict[str, Any] = settings.get("log-opts", {})
    if isinstance(driver, str) and (fault := log_fault(driver, options)):
        yield "log-opts" if "log-opts" in settings else "log-driver", fault
    runtime, runtimes = settings.get("default-runtime"), settings.get("runtimes", {})
    if isinstance(runtime, str) and isinstance(runtimes, dict) and runtime not in ("runc", *runtimes):
        fix = f'write "runtimes": {{"{runtime}": {{"path": "…"}}}} beside it'
        yield "default-runtime", (f"there is no runtime {shown(runtime)}", fix)


def _fault(name: str, value: Any) -> Fault | None:
    if name == _POOLS:
        return _pool_fault(value)
    if name not in _KIND_OF:
        near = get_close_matches(name, (*_KIND_OF, _POOLS), 1)
        return f"{shown(name)} is no setting of dockerd", f"write {near[0]}" if near else "remove it"
    kind = _KIND_OF[name]
    if not _is(kind, value):
        return f"{shown(value)} is not {kind}", f"write {kind}"
    if kind == "a list of texts" and (odd := [item for item in value if not isinstance(item, str)]):
        return f"{shown(odd[0])} is no text", "write each item in quotes"
    if name in _REFUSED and _REFUSED[name](value):
        return _WHY[name], "remove it"
    return _CHECKS[name](value) if name in _CHECKS else None


def _is(kind: str, value: Any) -> bool:
    return isinstance(value, _KINDS[kind]) and (kind == "true or false" or not isinstance(value, bool))


def _pool_fault(pools: Any) -> Fault | None:
    """Source: dockerd(8), `--default-address-pool base=<network>,size=<prefix>`."""
    fix = 'write one like [{"base": "10.202.0.0/16", "size": 24}]'
    if not isinstance(pools, (list, tuple)):
        return f"{shown(pools)} is no list", fix
    for pool in pools:
        if not isinstance(pool, dict) or pool.keys() != {"base", "size"}:
            return f"{pool} has not just a base and a size", fix
        try:
            base = IPv4Network(pool["base"] if isinstance(pool["base"], str) else "")
        except ValueError as error:
            return f"{shown(pool['base'])} is no IPv4 network: {error}", fix
        size = pool["size"]
        if not isinstance(size, int) or isinstance(size, bool) or not base.prefixlen <= size <= 30:
            sizes = f"write a size from {base.prefixlen} to 30"
            return f"{shown(size)} is no size of a network inside {base}", sizes
    return None


def ranges_of(settings: Mapping[str, Any]) -> Iterator[tuple[str, IPv4Network]]:
    """Where the engine puts networks of its own, by key; the settings must have been checked."""
    for pool in settings.get(_POOLS, ()):
        yield _POOLS, IPv4Network(pool["base"])
    if "bip" in settings:
        yield "bip", IPv4Interface(settings["bip"]).network


def _bridge_fault(address: str) -> Fault | None:
    try:
        assert IPv4Interface(address).network.num_addresses > 1
    except (ValueError, AssertionError):
        return f"{shown(address)} is no address with its network", "write one like 10.202.0.1/24"
    return None


def _resources_fault(resources: Any) -> Fault | None:
    """What keeps the engine from starting: of one kind there is one number, or names."""
    fix = 'write ["gpu=GPU-<uuid>"] or ["vram=24000"]'
    found = defaultdict(list)
    for resource in resources:
        match = _RESOURCE.fullmatch(resource)
        if match is None:
            return f"{shown(resource)} is not kind=value", fix
        found[match["kind"]].append(match["value"])
    for kind, values in found.items():
        if len(values) > 1 and any(value.isdigit() for value in values):
            return f"{kind} has more than one value, and one of them is a number", fix
    return None


def _addresses_fault(addresses: Any) -> Fault | None:
    for address in (addresses,) if isinstance(addresses, str) else addresses:
        try:
            ip_address(address)
        except ValueError:
            return f"{shown(address)} is no IP address", "write one like 192.0.2.53"
    return None


def _one_of(*known: str) -> Callable[[str], Fault | None]:
    def check(value: str) -> Fault | None:
        return (
            None
            if value in known
            else (f"{shown(value)} is not known here", f"write one of {', '.join(known)}")
        )

    return check


def _path_fault(path: str) -> Fault | None:
    return (
        None if path.startswith("/") else (f"{shown(path)} is no absolute path", "write one like /srv/docker")
    )


_CHECKS: dict[str, Callable[[Any], Fault | None]] = {
    "bip": _bridge_fault,
    "data-root": _path_fault,
    "default-gateway": _addresses_fault,
    "dns": _addresses_fault,
    "exec-root": _path_fault,
    "host-gateway-ip": _addresses_fault,
    "host-gateway-ips": _addresses_fault,
    "ip": _addresses_fault,
    "log-format": _one_of("text", "json"),
    "log-level": _one_of("debug", "info", "warn", "error", "fatal"),
    _RESOURCES: _resources_fault,
}
