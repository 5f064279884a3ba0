"""Settings of an engine: what dockerd would not start with, and what Swarm cannot live with."""

from __future__ import annotations

from typing import Any

import pytest

from cascade.model.daemon import daemon_faults, merged, ours_in

POOL = {"base": "10.202.0.0/16", "size": 24}


def faults(settings: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return dict(daemon_faults(settings))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"default-address-pools": [POOL], "log-driver": "json-file", "log-opts": {"max-size": "100m"}},
        {"live-restore": False, "iptables": True, "userns-remap": ""},
        {
            "default-runtime": "nvidia",
            "runtimes": {"nvidia": {"path": "nvidia-container-runtime", "args": []}},
        },
        {"node-generic-resources": ["gpu=GPU-1", "gpu=GPU-2", "vram=24000"]},
        {"dns": ["192.0.2.53", "fd00::1"], "bip": "10.9.0.1/24", "mtu": 1400, "debug": True},
        {"log-driver": "gelf", "log-opts": {"gelf-address": "udp://192.0.2.9:12201"}},
    ],
)
def test_settings_with_which_an_engine_starts_are_fine(settings: dict[str, Any]) -> None:
    assert faults(settings) == {}


# Refused by `dockerd --validate`, 26.1.5, in these or similar words; so were the types.
REFUSED_BY_DOCKERD = [
    ({"log-drivers": "x"}, "log-drivers", "is no setting of dockerd", "write log-driver"),
    ({"made-up-by-somebody": 1}, "made-up-by-somebody", "is no setting of dockerd", "remove it"),
    ({"oom-score-adjust": 1}, "oom-score-adjust", "is no setting of dockerd", "remove it"),
    ({"log-opts": {"max-file": 5}}, "log-opts", "max-file is 5, and no text", 'write it in quotes: "5"'),
    ({"mtu": "1400"}, "mtu", "'1400' is not a whole number", "write a whole number"),
    ({"mtu": True}, "mtu", "true is not a whole number", "write a whole number"),
    ({"icc": "no"}, "icc", "'no' is not true or false", "write true or false"),
    ({"dns": "192.0.2.1"}, "dns", "is not a list of texts", "write a list of texts"),
    ({"dns": ["router"]}, "dns", "'router' is no IP address", "write one like"),
    ({"ip": "router"}, "ip", "'router' is no IP address", "write one like"),
    ({"labels": [1]}, "labels", "1 is no text", "write each item in quotes"),
    ({"log-level": "loud"}, "log-level", "'loud' is not known here", "write one of debug"),
    ({"log-format": "xml"}, "log-format", "'xml' is not known here", "write one of text"),
    ({"node-generic-resources": ["gpu"]}, "node-generic-resources", "is not kind=value", "write ["),
    ({"node-generic-resources": ["g=a=b"]}, "node-generic-resources", "is not kind=value", "write ["),
    (
        {"node-generic-resources": ["g=a", "g=3"]},
        "node-generic-resources",
        "one of them is a number",
        "write [",
    ),
    (
        {"node-generic-resources": ["g=1", "g=3"]},
        "node-generic-resources",
        "one of them is a number",
        "write [",
    ),
]
# These it accepts, and then does not start, or starts no container.
REFUSED_LATER = [
    ({"default-runtime": "nvidia"}, "default-runtime", "there is no runtime 'nvidia'", 'write "runtimes"'),
    ({"log-driver": "json"}, "log-driver", "'json' is no log driver", "write one of"),
    ({"log-opts": {"max-sise": "1m"}}, "log-opts", "has no option 'max-sise'", "write one of"),
    ({"log-driver": "local", "log-opts": {"tag": "x"}}, "log-opts", "has no option 'tag'", "write one of"),
    ({"log-opts": {"max-file": "0"}}, "log-opts", "'0' is no max-file", 'write one like "3"'),
    ({"bip": "10.0.0.1"}, "bip", "is no address with its network", "write one like"),
    ({"bip": "here"}, "bip", "is no address with its network", "write one like"),
    ({"data-root": "docker"}, "data-root", "is no absolute path", "write one like"),
    ({"default-address-pools": POOL}, "default-address-pools", "a map is no list", "write one like ["),
    (
        {"default-address-pools": [{"base": "10.0.0.0/8"}]},
        "default-address-pools",
        "not just a base",
        "write",
    ),
    (
        {"default-address-pools": [{**POOL, "base": "10.0.0.1/8"}]},
        "default-address-pools",
        "host bits",
        "write",
    ),
    ({"default-address-pools": [{**POOL, "base": 10}]}, "default-address-pools", "no IPv4 network", "write"),
    (
        {"default-address-pools": [{**POOL, "size": 12}]},
        "default-address-pools",
        "12 is no size",
        "write a size",
    ),
    (
        {"default-address-pools": [{**POOL, "size": "24"}]},
        "default-address-pools",
        "is no size",
        "write a size",
    ),
]
NOT_IN_A_SWARM = [
    ({"live-restore": True}, "live-restore", "does not start on a node of a Swarm", "remove it"),
    ({"iptables": False}, "iptables", "no overlay network works", "remove it"),
    ({"ip-forward": False}, "ip-forward", "no overlay network works", "remove it"),
    ({"firewall-backend": "nftables"}, "firewall-backend", "Swarm does not work", "remove it"),
    ({"userns-remap": "default"}, "userns-remap", "would see other owners", "remove it"),
    ({"hosts": ["tcp://0.0.0.0:2375"]}, "hosts", "the engine's unit names its socket too", "remove it"),
]


@pytest.mark.parametrize(
    ("settings", "key", "reason", "fix"), [*REFUSED_BY_DOCKERD, *REFUSED_LATER, *NOT_IN_A_SWARM]
)
def test_what_an_engine_would_not_start_with_is_told(
    settings: dict[str, Any], key: str, reason: str, fix: str
) -> None:
    ((found, said),) = faults(settings).items()
    assert found == key
    assert reason in said[0]
    assert said[1].startswith(fix)


def test_every_setting_that_is_wrong_is_told() -> None:
    assert faults({"live-restore": True, "mtu": "x", "dns": 3}).keys() == {"live-restore", "mtu", "dns"}


NVIDIA = {"nvidia": {"path": "nvidia-container-runtime", "args": []}}
KATA = {"kata": {"runtimeType": "io.containerd.kata.v2"}}
OURS = {
    "default-runtime": "nvidia",
    "runtimes": NVIDIA,
    "node-generic-resources": ["gpu=GPU-1", "vram=19651"],
}
RESOURCES = "node-generic-resources"
FILES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, OURS),
    "other keys": ({"debug": True, "default-runtime": "runc"}, {**OURS, "debug": True}),
    "a runtime": ({"runtimes": KATA}, {**OURS, "runtimes": {**KATA, **NVIDIA}}),
    "our runtime otherwise": ({"runtimes": {"nvidia": {"path": "/opt/x"}}}, OURS),
    "resources": (
        {RESOURCES: ["fpga=2", "NVIDIA=1"]},
        {**OURS, RESOURCES: ["fpga=2", "NVIDIA=1", *OURS[RESOURCES]]},
    ),
    "several in one text": (
        {RESOURCES: ["fpga=2, gpu=GPU-0"]},
        {**OURS, RESOURCES: ["fpga=2", *OURS[RESOURCES]]},
    ),
    "another GPU of before": ({RESOURCES: ["gpu=GPU-0", "vram=1", "vram-1=2"]}, OURS),
    "no list and no map": ({RESOURCES: "gpu=GPU-0", "runtimes": ["kata"]}, OURS),
}


@pytest.mark.parametrize(("there", "together"), FILES.values(), ids=FILES)
def test_what_the_owner_has_beside_our_gpus_stays(there: dict[str, Any], together: dict[str, Any]) -> None:
    assert merged(there, OURS) == together
    assert ours_in(together, OURS) == OURS
    assert (ours_in(there, OURS) == OURS) == (there == together)


def test_memory_that_is_no_longer_offered_is_ours_to_take_away() -> None:
    ours = {RESOURCES: ["gpu=GPU-1"]}
    there = {RESOURCES: ["gpu=GPU-1", "vram=19651", "fpga=2"]}
    assert ours_in(there, ours) == {RESOURCES: ["gpu=GPU-1", "vram=19651"]}
    assert merged(there, ours) == {RESOURCES: ["fpga=2", "gpu=GPU-1"]}


def test_without_a_gpu_of_ours_those_of_the_owner_stay() -> None:
    there, ours = {RESOURCES: ["gpu=GPU-1", "fpga=2"]}, {RESOURCES: ["fpga=3"]}
    assert ours_in(there, ours) == {RESOURCES: ["fpga=2"]}
    assert merged(there, ours) == {RESOURCES: ["gpu=GPU-1", "fpga=3"]}
