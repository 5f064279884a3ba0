"""Configs and security options on a running fleet: they arrive, they change, and hands are undone."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from lab.errors import LabError
from lab.polling import until
from tests.lab.conftest import Checkout, containers, of_agent, on_host

STACKS = "group_data/stacks/cascade"
FILE = f"{STACKS}/tinted.yaml"
FOLDER = "/var/lib/cascade/configs"
AUDIO, AUDIO_AGENTS = "cascade-audio-realtime", 7
TINTED = """\
name: tinted
x-all: &all
  image: cascade/core
  networks: [cascade-internal]
  configs:
    - plain
    - {source: tint, target: /etc/deep/tint.bin, uid: "10001", gid: "10001", mode: 0400}
  security_opt: ["no-new-privileges:true", "seccomp:./tinted.json"]
  x-security: {exceptions: {security_opt: It shows whose profile is in force.}}
x-check: &check {interval: 2s, timeout: 2s, retries: 3, start_period: 20s, start_interval: 250ms}
services:
  web:
    <<: *all
    environment: {AGENT_NAME: web, PORT: 8080, HEALTH_PORT: 8081}
    healthcheck: {<<: *check, test: [CMD, curl, -f, "http://localhost:8081/health"]}
    deploy: {placement: {constraints: [node.labels.system == pc2]}}
  tool:
    <<: *all
    shm_size: 32M
    environment: {AGENT_NAME: tool, PORT: 7000, HEALTH_PORT: 7001}
    healthcheck: {<<: *check, test: [CMD, curl, -f, "http://localhost:7001/health"]}
    deploy: {placement: {constraints: [node.labels.system == mainpc]}}
configs:
  plain: {content: "price: 5 $$\\n"}
  tint: {file: ./tinted.bin}
networks:
  cascade-internal: {external: true}
"""
PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
}
RED, BLUE = b"\x00red\xff'; touch x\n", b"\x00blue\n"


def named(group: str, config: str, data: bytes) -> str:
    return f"{group}_{config}-{hashlib.sha256(data).hexdigest()[:12]}"


def tint(data: bytes) -> str:
    return named("tinted", "tint", data)


@pytest.fixture(scope="module")
def files(fleet: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """The fleet's files with such a group, and a config for the host containers of another."""
    variant = fleet.variant(tmp_path_factory.mktemp("tinted") / "variant")
    (variant.path / FILE).write_text(TINTED)
    (variant.path / STACKS / "tinted.json").write_text(json.dumps(PROFILE, indent=2))
    variant.change("group_data/all.py", '"cascade-pc2-apps"),', '"cascade-pc2-apps", "tinted"),')
    variant.change(
        f"{STACKS}/{AUDIO}.yaml",
        "    init: true\n",
        "    init: true\n    configs: [{source: levels, target: /etc/levels, gid: '10001', mode: 0440}]\n",
    )
    variant.change(
        f"{STACKS}/{AUDIO}.yaml",
        "networks:\n  cascade-internal:\n",
        "configs:\n  levels: {content: 'level: 1'}\n\nnetworks:\n  cascade-internal:\n",
    )
    yield variant
    variant.change(FILE, "name: tinted\n", "name: tinted\nx-enabled: false\n")
    variant.deploy().ok()
    fleet.deploy().ok()
    assert fleet.dry().ok().planned == []


@pytest.fixture
def tinted(files: Checkout) -> Checkout:
    """The same, deployed."""
    (files.path / STACKS / "tinted.bin").write_bytes(RED)
    files.deploy().ok()
    return files


def only(agent: str, group: str) -> tuple[str, str]:
    """The one container of an agent, and its host, once its predecessor has stopped."""

    def attempt() -> tuple[str, str]:
        found = of_agent(agent, group)
        if len(found) != 1:
            raise LabError(agent, f"has {len(found)} containers", "look at its tasks")
        ((id_, item),) = found.items()
        return id_, item["host"]

    return until(agent, attempt, timeout_s=60, next_step="look at its tasks")


def inside(agent: str, command: str, group: str = "tinted") -> str:
    """What a command prints in an agent's container."""
    id_, host = only(agent, group)
    return on_host(host, f"docker exec {id_} sh -c {shlex.quote(command)}; true")


def held(agent: str) -> dict[str, Any]:
    """What an agent has of its configs and its security."""
    status = dict(line.split(":\t", 1) for line in inside(agent, "cat /proc/self/status").splitlines())
    return {
        "tint": bytes.fromhex(inside(agent, "od -An -tx1 -v /etc/deep/tint.bin").replace(" ", "")),
        "plain": inside(agent, "cat /plain"),
        "modes": inside(agent, "ls -ln /etc/deep/tint.bin /plain | cut -c1-10").split(),
        "owner": inside(agent, "stat -c %u:%g /etc/deep/tint.bin"),
        "no new privileges": status["NoNewPrivs"],
        "seccomp": status["Seccomp"],
        "mkdir": inside(agent, "mkdir /tmp/x 2>&1 && rmdir /tmp/x && echo allowed"),
    }


def wanted(data: bytes) -> dict[str, Any]:
    return {
        "tint": data,
        "plain": "price: 5 $",
        "modes": ["-r--------", "-r--r--r--"],
        "owner": "10001:10001",
        "no new privileges": "1",
        "seccomp": "2",
        "mkdir": "mkdir: can't create directory '/tmp/x': Operation not permitted",
    }


def configs() -> set[str]:
    return set(
        on_host("mainpc", "docker config ls --format '{{.Name}}' --filter label=cascade.config").split()
    )


def started() -> dict[str, str]:
    """Which containers run, by ID, with their agents."""
    return {id_: f"{item['group']}/{item['agent']}" for id_, item in containers().items()}


def api(method: str, path: str, body: str = "") -> Any:
    """A call of the manager's engine, past every client."""
    data = f"-H 'Content-Type: application/json' -d {shlex.quote(body)}" if body else ""
    text = on_host("mainpc", f"curl -s -X {method} {data} --unix-socket /run/docker.sock 'http://d{path}'")
    return json.loads(text) if text else None


def test_configs_arrive_change_and_restart_their_readers_alone(tinted: Checkout) -> None:
    assert tinted.dry().planned == []
    assert {agent: held(agent) for agent in ("web", "tool")} == dict.fromkeys(("web", "tool"), wanted(RED))
    levels = {inside(item["agent"], "cat /etc/levels", AUDIO) for item in audio().values()}
    assert (levels, len(audio())) == ({"level: 1"}, AUDIO_AGENTS)
    assert tint(RED) in configs()

    before = started()
    (tinted.path / STACKS / "tinted.bin").write_bytes(BLUE)
    planned = tinted.dry().planned
    assert [name for name in planned if not name.startswith("record release")] == [
        f"create config {tint(BLUE)}",
        f"create file {FOLDER}/{tint(BLUE)}.400.10001.10001",
        "tinted wave 1/1: update service tinted_web",
        "tinted wave 1/1: replace container tinted_tool",
        "tinted wave 1/1: gate",
        f"remove file {FOLDER}/{tint(RED)}.400.10001.10001",
    ]
    tinted.deploy().ok()
    after = started()
    assert {agent: held(agent) for agent in ("web", "tool")} == dict.fromkeys(("web", "tool"), wanted(BLUE))
    assert {name for id_, name in after.items() if id_ not in before} == {"tinted/web", "tinted/tool"}
    assert tinted.dry().planned == []
    assert {tint(RED), tint(BLUE)} <= configs(), "a rollback needs the one before"
    assert on_host("mainpc", f"ls {FOLDER}").split() == [
        f"{named(AUDIO, 'levels', b'level: 1')}.440.0.10001",
        named("tinted", "plain", b"price: 5 $\n"),
        f"{tint(BLUE)}.400.10001.10001",
    ]


def test_a_rollback_brings_back_what_configs_held_in_services_and_host_containers(tinted: Checkout) -> None:
    (tinted.path / STACKS / "tinted.bin").write_bytes(BLUE)
    tinted.deploy().ok()
    back = tinted.run("cascade", "rollback", "inventories/lab.py", "--yes").ok()
    assert "rollback to" in back.err
    assert {agent: held(agent) for agent in ("web", "tool")} == dict.fromkeys(("web", "tool"), wanted(RED))
    drift = tinted.run("cascade", "drift", "inventories/lab.py", "--json").ok()
    assert json.loads(drift.out)["files"]["differ"]


def audio() -> dict[str, Any]:
    return {id_: item for id_, item in containers().items() if item["group"] == AUDIO}


def test_what_hands_do_to_a_config_is_found_and_undone(tinted: Checkout) -> None:
    levels = named(AUDIO, "levels", b"level: 1")
    path, before = f"{FOLDER}/{levels}.440.0.10001", started()
    hands = {
        f"echo 'level: 9' > {path}": f"update file {path}",
        f"chmod 666 {path}": f"update file {path}",
        f"chown 1000 {path}": f"update file {path}",
        f"echo stray > {FOLDER}/stray": f"remove file {FOLDER}/stray",
        f"docker config rm {levels}": f"create config {levels}",
        f"docker config rm {levels} && echo a | docker config create {levels} -": f"replace config {levels}",
    }
    for done, expected in hands.items():
        on_host("mainpc", done)
        assert tinted.dry().planned == [expected], done
        tinted.deploy().ok()
        assert tinted.dry().planned == [], done
        assert inside("WakeWordDetector", "cat /etc/levels", AUDIO) == "level: 1", done
    labels = on_host("mainpc", f"docker config inspect {levels} --format '{{{{json .Spec.Labels}}}}'")
    assert json.loads(labels) == {
        "cascade.system": "cascade",
        "cascade.group": AUDIO,
        "cascade.config": "levels",
    }
    assert started() == before


def test_a_config_that_was_exchanged_under_its_reader_is_replaced_with_it(tinted: Checkout) -> None:
    use = f"source={tint(RED)},target=/etc/deep/tint.bin,uid=10001,gid=10001,mode=0400"
    on_host(
        "mainpc",
        f"docker service update -q --config-rm {tint(RED)} tinted_web"
        f" && docker service update -q --force tinted_web && docker config rm {tint(RED)}"
        f" && echo other | docker config create {tint(RED)} -"
        f" && docker service update -q --config-add {use} tinted_web",
    )
    assert held("web")["tint"] == b"other\n"
    planned = tinted.dry().planned
    assert f"replace config {tint(RED)}" in planned
    assert any(name.endswith("replace service tinted_web") for name in planned)
    tinted.deploy().ok()
    assert held("web") == wanted(RED)
    assert tinted.dry().planned == []


def test_security_that_a_client_of_an_old_api_stripped_is_found_and_brought_back(tinted: Checkout) -> None:
    service = api("GET", "/v1.43/services/tinted_web")
    version = service["Version"]["Index"]
    api("POST", f"/v1.43/services/{service['ID']}/update?version={version}", json.dumps(service["Spec"]))
    spec = api("GET", "/v1.44/services/tinted_web")["Spec"]
    privileges = spec["TaskTemplate"]["ContainerSpec"]["Privileges"]
    assert not privileges.get("NoNewPrivileges")
    assert not privileges.get("Seccomp")

    planned = tinted.dry().planned
    assert planned == ["tinted wave 1/1: update service tinted_web", "tinted wave 1/1: gate"]
    done = tinted.deploy().ok()
    assert "TaskTemplate.ContainerSpec.Privileges" in done.err
    assert held("web") == wanted(RED)
    assert tinted.dry().planned == []
