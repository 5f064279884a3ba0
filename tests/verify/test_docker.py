"""The engine of each host runs, with the declared settings, for root alone."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Mapping
from typing import Any

from cascade.model.host import Host
from tests.verify.evidence import Evidence
from tests.verify.expected import Expected
from tests.verify.machine import ENGINES, UNITS
from tests.verify.record import not_asked

Engine = Mapping[str, Any]
# A process may start in the second in which its settings were written.
TOLERANCE_S = 2
SNAPSHOTTER = ["driver-type", "io.containerd.snapshotter.v1"]


def _reach_one_another(engine: Engine) -> bool:
    options = (one["Options"] for one in engine["networks"] if one["Name"] == "bridge")
    return any(one.get("com.docker.network.bridge.enable_icc") != "false" for one in options)


def _pools(engine: Engine) -> list[dict[str, Any]]:
    pools = engine["info"].get("DefaultAddressPools") or []
    return [{"base": pool["Base"], "size": pool["Size"]} for pool in pools]


# Where a running engine tells what it goes by, by the key of daemon.json.
TOLD: dict[str, Callable[[Engine], Any]] = {
    "data-root": lambda engine: engine["info"]["DockerRootDir"],
    "debug": lambda engine: engine["info"]["Debug"],
    "default-address-pools": _pools,
    "default-runtime": lambda engine: engine["info"]["DefaultRuntime"],
    "experimental": lambda engine: engine["info"]["ExperimentalBuild"],
    "icc": _reach_one_another,
    "labels": lambda engine: engine["info"]["Labels"],
    "live-restore": lambda engine: engine["info"]["LiveRestoreEnabled"],
    "log-driver": lambda engine: engine["info"]["LoggingDriver"],
    "storage-driver": lambda engine: engine["info"]["Driver"],
}


def test_the_engine_runs_and_starts_with_its_host(node: Host, evidence: Evidence) -> None:
    units = evidence.hosts[node.name]["units"]
    right = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled"}
    assert {name: units[name] for name in UNITS} == dict.fromkeys(UNITS, right)


def test_the_engine_is_of_the_declared_source_alone(node: Host, evidence: Evidence) -> None:
    packages = evidence.hosts[node.name]["packages"]
    known = frozenset().union(*ENGINES.values())
    found = {name for name, state in packages.items() if state == "installed" and name in known}
    assert found == ENGINES[node.docker_source]


def test_daemon_json_has_every_declared_setting(node: Host, evidence: Evidence) -> None:
    text = evidence.hosts[node.name]["engine"]["settings"]
    found = json.loads(text) if text else {}
    assert {key: found.get(key) for key in node.daemon_settings} == node.daemon_settings


def test_the_running_engine_read_daemon_json_as_it_is_now(node: Host, evidence: Evidence) -> None:
    engine = evidence.hosts[node.name]["engine"]
    assert engine["started"], "the engine does not run"
    too_old = engine["started"] + TOLERANCE_S < (engine["settings_written"] or 0)
    assert not too_old, "the engine started before daemon.json was written"


def test_the_running_engine_tells_the_declared_settings(node: Host, evidence: Evidence) -> None:
    declared = {key: value for key, value in node.daemon_settings.items() if key in TOLD}
    assert {key: TOLD[key](evidence.engines[node.name]) for key in declared} == declared


def test_images_are_kept_in_the_declared_store(node: Host, evidence: Evidence) -> None:
    declared = node.daemon_settings.get("features", {}).get("containerd-snapshotter")
    if declared is None:
        not_asked("group_data leaves the choice of the store to the engine")
    assert (SNAPSHOTTER in (evidence.engines[node.name]["info"]["DriverStatus"] or ())) is declared


def test_no_proxy_in_user_space_stands_before_a_published_port(node: Host, evidence: Evidence) -> None:
    if node.daemon_settings.get("userland-proxy", True):
        not_asked("group_data lets the engine start proxies")
    assert evidence.hosts[node.name]["engine"]["proxies"] == []


def test_the_socket_of_the_engine_is_closed_to_others(node: Host, evidence: Evidence) -> None:
    found = evidence.hosts[node.name]["engine"]["socket"]
    assert found, "there is no /run/docker.sock"
    assert found["uid"] == 0
    assert not found["mode"] & stat.S_IRWXO, f"its mode is {stat.S_IMODE(found['mode']):o}"


def test_no_container_starts_again_and_again_or_is_dead(node: Host, evidence: Evidence) -> None:
    states = evidence.engines[node.name]["states"]
    assert {name: state for name, state in states.items() if state in ("restarting", "dead")} == {}


def test_no_host_container_of_the_system_runs_that_no_file_declares(
    node: Host, evidence: Evidence, expected: Expected
) -> None:
    system = expected.fleet.settings.system
    found = {
        container["Name"].lstrip("/"): container["Config"]["Labels"]
        for container in evidence.engines[node.name]["containers"]
    }
    declared = {name for name, one in expected.workloads.items() if one.kind == "container"}
    of_services = "com.docker.swarm.service.name"
    own = {name for name, labels in found.items() if labels.get("cascade.system") == system}
    assert sorted(name for name in own - declared if of_services not in found[name]) == []
