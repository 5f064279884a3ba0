"""A plain Compose group next to the fleet: what it says under many keys reaches the engines and stays."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from lab.errors import LabError
from lab.polling import until
from tests.lab.conftest import Checkout, look, of_agent, on_host

FILE = "group_data/stacks/cascade/shop.yaml"
SHOP = """\
version: "3.9"
name: shop
x-check: &check {interval: 2s, timeout: 2s, retries: 3, start_period: 20s, start_interval: 250ms}
services:
  db:
    image: cascade/core
    hostname: cellar
    user: "65534:65534"
    working_dir: /tmp
    environment: [AGENT_NAME=db, PORT=5432, HEALTH_PORT=8432]
    healthcheck: {<<: *check, test: "curl -f http://localhost:8432/health"}
    restart: always
    volumes:
      - {type: volume, source: data, target: /data, volume: {nocopy: true}}
      - {type: bind, source: /srv, target: /srv, read_only: true, bind: {propagation: rprivate}}
      - {type: tmpfs, target: /cache, tmpfs: {size: 1M, mode: "1777"}}
    tmpfs: /tmp:size=2M,mode=1777
    dns: 192.0.2.53
    dns_search: [shop.example, example]
    dns_opt: ["ndots:1"]
    group_add: [44, "100"]
    tty: true
    stdin_open: true
    pids_limit: 120
    sysctls: {net.core.somaxconn: 1024}
    extra_hosts: {hole: 192.0.2.9, six: ["2001:db8::1", "2001:db8::2"]}
    ulimits: {nofile: {soft: 512, hard: 1024}, core: 0}
    labels: [owner=me, flag]
    logging: {driver: json-file, options: {max-size: 1m}}
    networks: {inner: {aliases: [cellar, store]}}
    stop_signal: SIGTERM
    stop_grace_period: 3s
    deploy:
      mode: replicated
      endpoint_mode: dnsrr
      labels: {team: blue, quiet: }
      placement:
        constraints: [node.labels.system == mainpc]
        preferences: [{spread: node.labels.system}]
        max_replicas_per_node: 1
      resources: {limits: {cpus: 0.5, memory: 64M, pids: 120}, reservations: {cpus: 0.01, memory: 6M}}
      update_config: {parallelism: 1, delay: 1s, order: stop-first, monitor: 2s, failure_action: pause}
  web:
    image: cascade/core
    depends_on: {db: {condition: service_healthy}}
    environment: {AGENT_NAME: web, PORT: 8080, HEALTH_PORT: 8081}
    healthcheck: {<<: *check, test: [CMD, curl, -f, "http://localhost:8081/health"]}
    restart: on-failure:5
    read_only: true
    tmpfs: [/tmp, /run]
    cap_drop: [ALL]
    init: true
    expose: ["8080"]
    ports: [{target: 8080, published: "18080", mode: host, name: web, app_protocol: http}]
    networks: [inner, cascade-external]
    deploy: {placement: {constraints: [node.labels.system == pc2]}}
  tool:
    image: cascade/core
    depends_on: [web]
    shm_size: 32M
    user: "65534:65534"
    environment: {AGENT_NAME: tool, PORT: 7000, HEALTH_PORT: 7001}
    healthcheck: {<<: *check, test: [CMD-SHELL, "curl -f http://localhost:7001/health"]}
    restart: unless-stopped
    dns: [192.0.2.53]
    dns_search: example
    dns_opt: ["ndots:1"]
    group_add: ["44"]
    tty: true
    stdin_open: true
    pids_limit: 120
    labels: {owner: me}
    volumes: ["data:/data", {type: tmpfs, target: /cache}]
    networks: [inner]
    deploy:
      labels: {team: blue}
      placement: {constraints: [node.labels.system == mainpc]}
      resources: {limits: {memory: 64M}}
networks:
  inner: {external: true, name: cascade-internal}
  cascade-external: {external: true}
volumes:
  data: {driver: local}
"""


@pytest.fixture
def shop(variant: Checkout) -> Iterator[Checkout]:
    """The fleet's files with such a group; afterwards nothing of it is left."""
    (variant.path / FILE).write_text(SHOP)
    variant.change("group_data/all.py", '"cascade-pc2-apps"),', '"cascade-pc2-apps", "shop"),')
    yield variant
    variant.change(FILE, "name: shop\n", "name: shop\nx-enabled: false\n")
    variant.deploy().ok()

    def forget() -> None:
        if look("mainpc", "docker volume rm shop_data 2>&1") != "shop_data":
            raise LabError("the volume", "is in use", "look at the containers that use it")

    until("the volume", forget, timeout_s=60, next_step="look at the containers that use it")


def inspected(kind: str, name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(on_host("mainpc", f"docker {kind} inspect {name}"))
    return found[0]


def inside(agent: str, command: str) -> str:
    """Runs a command in the container of one of the group's services."""
    ((id_, item),) = of_agent(agent, "shop").items()
    return on_host(item["host"], f"docker exec {id_} sh -c {shlex.quote(command)}")


def test_a_plain_compose_group_runs_as_it_says_and_nothing_of_it_drifts(shop: Checkout) -> None:
    done = shop.deploy().ok()
    assert shop.dry().ok().planned == []

    steps = [f"shop wave {number}/3" for number in (1, 2, 3)]
    assert sorted(steps, key=done.err.index) == steps
    assert {item["health"] for name in ("db", "web", "tool") for item in of_agent(name, "shop").values()} == {
        "healthy"
    }

    assert json.loads(inside("web", "curl -f -s -m 5 http://db:5432/"))["agent"] == "db"
    assert json.loads(inside("web", "curl -f -s -m 5 http://store:5432/"))["agent"] == "db"
    assert json.loads(inside("db", "curl -f -s -m 5 http://web:8080/"))["agent"] == "web"
    assert json.loads(inside("tool", "curl -f -s -m 5 http://db:5432/"))["agent"] == "db"
    assert json.loads(inside("db", "curl -f -s -m 5 http://tool:7000/"))["agent"] == "tool"
    assert json.loads(on_host("pc2", "curl -f -s -m 5 http://localhost:18080/"))["agent"] == "web"

    spec = inspected("service", "shop_db")["Spec"]
    task = spec["TaskTemplate"]
    assert (spec["Labels"]["team"], spec["Labels"]["quiet"]) == ("blue", "")
    assert (task["ContainerSpec"]["Labels"]["owner"], task["ContainerSpec"]["Labels"]["flag"]) == ("me", "")
    assert task["Placement"]["MaxReplicas"] == 1
    assert task["Resources"]["Limits"]["Pids"] == 120

    assert inside("db", "hostname; pwd; id -u; ulimit -n").split() == ["cellar", "/tmp", "65534", "512"]
    assert {"44", "100"} <= set(inside("db", "id -G").split())
    assert "hole" in inside("db", "cat /etc/hosts")
    assert "shop.example" in inside("db", "cat /etc/resolv.conf")
    assert inside("db", "cat /proc/sys/net/core/somaxconn") == "1024"
    assert "size=1024k" in inside("db", "grep ' /cache ' /proc/mounts")

    tool = inspected("container", "shop_tool")
    assert (tool["HostConfig"]["PidsLimit"], tool["HostConfig"]["GroupAdd"]) == (120, ["44"])
    assert (tool["Config"]["Tty"], tool["Config"]["OpenStdin"]) == (True, True)
    assert (tool["Config"]["Labels"]["owner"], tool["Config"]["Labels"]["team"]) == ("me", "blue")
