"""Drift of every kind, made by hand, is repaired by a plain run that touches nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.lab.conftest import Checkout, look, on_host, steady

AUDIO = "cascade-audio-realtime"


@dataclass(frozen=True)
class Drift:
    """What somebody did on a host, how it looks when it is mended, and whose containers may be new."""

    name: str
    host: str
    by_hand: str
    look: str
    mended: str
    operation: str
    restarts: tuple[str, ...] = ()
    restarts_host: str = ""


DRIFTS = (
    Drift(
        name="a file was edited",
        host="pc2",
        by_hand="cd /etc/sysctl.d; echo 'vm.swappiness = 1' >> 90-cascade.conf; chmod 666 90-cascade.conf",
        look="tail -n 1 /etc/sysctl.d/90-cascade.conf; stat -c %a /etc/sysctl.d/90-cascade.conf",
        mended="net.ipv4.tcp_keepalive_time = 600\n644",
        operation="update file /etc/sysctl.d/90-cascade.conf",
    ),
    Drift(
        name="a package was removed",
        host="pc2",
        by_hand="apt-get remove -y -q curl",
        look="dpkg-query -W -f '${db:Status-Status}' curl",
        mended="installed",
        operation="install curl",
    ),
    Drift(
        name="the engine's package was removed",
        host="pc2",
        by_hand="apt-get remove -y -q docker.io",
        look="dpkg-query -W -f '${db:Status-Status} ' docker.io; systemctl is-active docker.service",
        mended="installed active",
        operation="install docker.io",
        restarts_host="pc2",
    ),
    Drift(
        name="a unit was stopped and disabled",
        host="pc2",
        by_hand="systemctl disable --now docker.service docker.socket",
        look="systemctl is-enabled docker.service; systemctl is-active docker.service",
        mended="enabled\nactive",
        operation="update unit docker.service",
        restarts_host="pc2",
    ),
    Drift(
        name="a daemon setting was changed",
        host="pc2",
        by_hand="sed -i 's/100m/1m/' /etc/docker/daemon.json",
        look='grep -o \'"max-size": "[^"]*"\' /etc/docker/daemon.json',
        mended='"max-size": "100m"',
        operation="update daemon-settings /etc/docker/daemon.json",
        restarts_host="pc2",
    ),
    Drift(
        name="a sysctl was changed",
        host="mainpc",
        by_hand="sysctl -q -w net.core.somaxconn=128",
        look="sysctl -n net.core.somaxconn",
        mended="4096",
        operation="update sysctl net.core.somaxconn",
    ),
    Drift(
        name="a node label was changed",
        host="mainpc",
        by_hand="docker node update --label-add gpu=none --label-add owner=alice pc2",
        look="docker node inspect pc2 --format '{{.Spec.Labels.gpu}} {{.Spec.Labels.owner}}'",
        mended="rtx3060 alice",
        operation="update node pc2",
    ),
    Drift(
        name="a service's environment was changed",
        host="mainpc",
        by_hand="docker service update -q --detach --env-add HAND=made cascade-core_unified-system-agent",
        look="docker service inspect -f '{{json .Spec}}' cascade-core_unified-system-agent | grep -c =made",
        mended="0",
        operation="cascade-core wave 4/4: update service cascade-core_unified-system-agent",
        restarts=("UnifiedSystemAgent",),
    ),
    Drift(
        name="a service was removed",
        host="mainpc",
        by_hand="docker service rm cascade-pc2-core_cache-manager",
        look="docker service ls -q --filter name=cascade-pc2-core_cache-manager | wc -l",
        mended="1",
        operation="cascade-pc2-core wave 1/1: create service cascade-pc2-core_cache-manager",
        restarts=("CacheManager",),
    ),
    Drift(
        name="a network was removed, with what used it",
        host="mainpc",
        by_hand=(
            "docker service rm cascade-request-handler_request-coordinator cascade-pc2-apps_unified-web-agent"
            " cascade-pc2-apps_remote-connector-agent; docker network rm cascade-external;"
            " while docker network inspect cascade-external > /dev/null 2>&1; do sleep 0.2; done"
        ),
        look="docker network ls -q --filter name=cascade-external | wc -l",
        mended="1",
        operation="create network cascade-external",
        restarts=("RequestCoordinator", "UnifiedWebAgent", "RemoteConnectorAgent"),
    ),
    Drift(
        name="a host container was stopped",
        host="mainpc",
        by_hand="docker stop cascade-audio-realtime_wake-word-detector",
        look="docker inspect -f '{{.State.Running}}' cascade-audio-realtime_wake-word-detector",
        mended="true",
        operation=f"{AUDIO} wave 1/1: update container {AUDIO}_wake-word-detector",
        restarts=("WakeWordDetector",),
    ),
    Drift(
        name="a volume that nothing holds was removed",
        host="mainpc",
        by_hand=(
            "docker service scale -d cascade-core_system-digital-twin=0;"
            " until docker rm -f $(docker ps -aq --filter volume=cascade-core_redis_data) 2> /dev/null;"
            " docker volume rm cascade-core_redis_data 2> /dev/null;"
            " do sleep 0.2; done"
        ),
        look="docker volume ls -q --filter label=cascade.system=cascade | grep -c redis_data",
        mended="1",
        operation="create volume cascade-core_redis_data",
        restarts=("SystemDigitalTwin",),
    ),
)


@pytest.mark.parametrize("drift", DRIFTS, ids=lambda drift: drift.name.replace(" ", "-"))
def test_a_plain_run_repairs_drift_and_touches_nothing_else(fleet: Checkout, drift: Drift) -> None:
    before = steady()
    on_host(drift.host, drift.by_hand)
    assert look(drift.host, drift.look) != drift.mended
    planned = fleet.dry().ok().planned
    assert drift.operation in planned
    fleet.deploy().ok()
    after = steady()
    assert look(drift.host, drift.look) == drift.mended
    changed = {
        (item["host"], item["agent"])
        for both in (before, after)
        for id_, item in both.items()
        if id_ not in before or id_ not in after
    }
    assert all(agent in drift.restarts or host == drift.restarts_host for host, agent in changed)
    assert fleet.dry().ok().planned == []
