"""The test hosts and the stand-in agent, on this machine's real engine. No deployed fleet is needed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cascade.model.image import image_id
from lab import hosts, ssh
from lab.engine import Engine
from lab.errors import LabError
from lab.hosts import HOSTS, Host, Lab, open_lab
from lab.polling import until
from lab.progress import say_aloud
from lab.stand_in import REFERENCE, stand_in_archive

MAINPC, PC2 = HOSTS
AGENT = {"AGENT_NAME": "Echo", "PORT": "7200", "HEALTH_PORT": "8200", "REPLICA_SLOT": "2"}
HARDENED = (
    *("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
    *("--user=12345:12345", "--network=none", "--pids-limit=32"),
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    opened = open_lab(say_aloud)
    opened.up()
    yield opened
    opened.up()


@pytest.fixture(scope="module")
def bare(lab: Lab) -> Lab:
    lab.reset()
    return lab


def ask(lab: Lab, host: Host, command: str) -> str:
    return ssh.ask(host.ssh_port, lab.dir, command).strip()


def container_id(lab: Lab, host: Host) -> str | None:
    return lab.engine.inspect("container", host.container, "{{.Id}}")


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_a_host_starts_as_a_bare_server(bare: Lab, host: Host) -> None:
    assert ask(bare, host, "hostname") == host.name
    assert ask(bare, host, "id -un; sudo -n id -un") == "deploy\nroot"
    assert ask(bare, host, "command -v docker dockerd || echo none") == "none"
    assert ask(bare, host, "sudo ls -A /var/lib/docker") == ""
    assert ask(bare, host, "python3 -c 'import http' 2>&1 | tail -n 1 | cut -d: -f1") == "ModuleNotFoundError"
    assert host.address in ask(bare, host, "ip -4 -brief address show eth0")


def test_the_hosts_reach_each_other_by_their_swarm_addresses(bare: Lab) -> None:
    banner = f"exec 3<>/dev/tcp/{PC2.address}/22 && head -n 1 <&3"
    assert ask(bare, MAINPC, f"bash -c '{banner}'").startswith("SSH-2.0-")


def test_a_host_cannot_move_the_machines_clock(bare: Lab) -> None:
    refused = ask(bare, MAINPC, 'sudo date --set "$(date)" 2>&1 >/dev/null')
    assert "Operation not permitted" in refused


def test_each_host_has_a_host_key_of_its_own(bare: Lab) -> None:
    lines = (bare.dir / "known_hosts").read_text().split()
    assert len({key for key in lines if key.startswith("AAAA")}) == len(HOSTS)


def test_a_changed_host_key_is_refused(bare: Lab, tmp_path: Path) -> None:
    private = tmp_path / "id_ed25519"
    private.write_bytes((bare.dir / "id_ed25519").read_bytes())
    other = [line.split() for line in (bare.dir / "known_hosts").read_text().splitlines()]
    swapped = f"{other[0][0]} {other[1][1]} {other[1][2]}\n"
    (tmp_path / "known_hosts").write_text(swapped)
    with pytest.raises(LabError, match="does not match"):
        ssh.ask(MAINPC.ssh_port, tmp_path, "true")


def test_what_runs_and_answers_is_left_alone(bare: Lab) -> None:
    before = [container_id(bare, host) for host in HOSTS]
    booted = ask(bare, PC2, "systemctl show --value --property=UserspaceTimestampMonotonic")
    bare.up()
    assert [container_id(bare, host) for host in HOSTS] == before
    assert ask(bare, PC2, "systemctl show --value --property=UserspaceTimestampMonotonic") == booted


def test_a_stopped_host_is_started_and_keeps_what_it_had(bare: Lab) -> None:
    before = container_id(bare, PC2)
    ask(bare, PC2, "echo kept > ~/note")
    bare.engine.run("stop", PC2.container)
    assert [host.state for host in bare.status()] == ["running", "exited"]
    bare.up()
    assert container_id(bare, PC2) == before
    assert ask(bare, PC2, "cat ~/note") == "kept"


def test_a_rebooted_host_comes_back_with_the_same_key(bare: Lab) -> None:
    pinned = (bare.dir / "known_hosts").read_text()
    ask(bare, PC2, "touch /tmp/gone; echo kept > ~/note; sync")
    bare.reboot(PC2)
    assert ask(bare, PC2, "ls /tmp | grep -x gone; cat ~/note") == "kept"
    assert (bare.dir / "known_hosts").read_text() == pinned


def test_a_host_that_does_not_answer_is_replaced(bare: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "RETURN_TIMEOUT_S", 1)
    before = [container_id(bare, host) for host in HOSTS]
    bare.engine.run("exec", PC2.container, "systemctl", "stop", "ssh.service")
    bare.up()
    assert container_id(bare, MAINPC) == before[0]
    assert container_id(bare, PC2) != before[1]
    assert all(host.answers for host in bare.status())


def test_a_half_built_host_is_replaced(bare: Lab) -> None:
    bare.engine.run("rm", "--force", "--volumes", PC2.container)
    image = bare.engine.run("inspect", "--format", "{{.Image}}", MAINPC.container).strip()
    bare.engine.run("create", "--name", PC2.container, image)
    bare.up()
    assert all(host.answers for host in bare.status())


def test_a_lost_key_pair_is_made_anew_without_losing_the_hosts(bare: Lab) -> None:
    before = [container_id(bare, host) for host in HOSTS]
    for name in ("id_ed25519", "id_ed25519.pub", "known_hosts"):
        (bare.dir / name).unlink()
    assert not any(host.answers for host in bare.status())
    bare.up()
    assert [container_id(bare, host) for host in HOSTS] == before


def test_another_checkouts_hosts_are_replaced_and_that_is_said(bare: Lab, tmp_path: Path) -> None:
    (tmp_path / ".lab").mkdir()
    other = Lab(bare.engine, say_aloud, tmp_path)
    other.up()
    assert not any(host.answers for host in bare.status())
    said: list[str] = []
    Lab(bare.engine, said.append, bare.checkout).up()
    assert any(f"belongs to the checkout {tmp_path}" in line for line in said)
    assert all(host.answers for host in bare.status())
    assert not any(host.answers for host in other.status())


def test_a_reset_host_is_bare_and_keeps_downloaded_packages(bare: Lab) -> None:
    pinned = (bare.dir / "known_hosts").read_text()
    ask(bare, PC2, "echo lost > ~/note; sudo touch /var/lib/docker/lost /var/cache/apt/archives/kept.deb")
    bare.reset()
    assert ask(bare, PC2, "ls -A ~ | grep -x note; sudo ls -A /var/lib/docker") == ""
    assert "kept.deb" in ask(bare, PC2, "ls /var/cache/apt/archives")
    assert (bare.dir / "known_hosts").read_text() != pinned
    ask(bare, PC2, "sudo rm /var/cache/apt/archives/kept.deb")


class StandIn:
    """One running stand-in agent."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name

    def curl(self, *arguments: str) -> tuple[int, str]:
        line = 'curl "$@"; echo " $?"'
        said = self.engine.run("exec", self.name, "sh", "-c", line, "curl", *arguments)
        body, _, code = said.rstrip().rpartition(" ")
        return int(code), body

    def health(self) -> int:
        return self.curl("-f", "-s", "http://localhost:8200/health")[0]

    def is_healthy(self) -> None:
        if code := self.health():
            raise LabError(self.name, f"curl gave {code}", "read its log")

    def await_health(self) -> None:
        until(self.name, self.is_healthy, timeout_s=20, next_step="read its log")

    def state(self, field: str) -> str:
        return self.engine.run("inspect", "--format", f"{{{{.State.{field}}}}}", self.name).strip()

    def log(self) -> str:
        return self.engine.run("logs", self.name)

    def await_end(self) -> int:
        return int(self.engine.run("wait", self.name, timeout_s=60))


@pytest.fixture(scope="module")
def image(lab: Lab) -> Iterator[str]:
    archive = stand_in_archive(lab.dir)
    lab.engine.run("load", "--input", str(archive))
    yield image_id(archive)
    lab.engine.run("image", "rm", REFERENCE)


@contextmanager
def stand_in(engine: Engine, image: str, *options: str, **environment: str) -> Iterator[StandIn]:
    name = "cascade-test-stand-in"
    variables = [f"--env={key}={value}" for key, value in {**AGENT, **environment}.items()]
    engine.run("run", "--detach", "--name", name, *options, *variables, image)
    try:
        yield StandIn(engine, name)
    finally:
        engine.run("rm", "--force", "--volumes", name)


def test_the_engine_gives_the_image_the_id_that_was_computed(lab: Lab, image: str) -> None:
    assert lab.engine.inspect("image", REFERENCE, "{{.Id}}") == image


def test_a_stand_in_keeps_the_contract_without_any_privilege(lab: Lab, image: str) -> None:
    with stand_in(lab.engine, image, *HARDENED) as agent:
        agent.await_health()
        hostname = lab.engine.run("inspect", "--format", "{{.Config.Hostname}}", agent.name).strip()
        told = json.loads(agent.curl("-f", "http://localhost:7200/")[1])
        assert told == {"stand_in": True, "agent": "Echo", "group": "", "slot": "2", "hostname": hostname}
        health = json.loads(agent.curl("-f", "http://localhost:8200/health")[1])
        assert (health["status"], health["stand_in"]) == ("ok", True)
        assert "\nstand_in_uptime_seconds{" in agent.curl("http://localhost:8200/metrics")[1]
        assert agent.log().startswith("stand-in for Echo: this is no real agent")


def test_each_port_answers_only_for_itself(lab: Lab, image: str) -> None:
    with stand_in(lab.engine, image, *HARDENED) as agent:
        agent.await_health()
        assert agent.curl("-f", "-s", "http://localhost:7200/health") == (22, "")
        assert agent.curl("-f", "-s", "http://localhost:8200/") == (22, "")


def test_one_port_can_be_both(lab: Lab, image: str) -> None:
    with stand_in(lab.engine, image, *HARDENED, PORT="8200") as agent:
        agent.await_health()
        assert agent.curl("-f", "http://localhost:8200/")[0] == 0


def test_curl_gives_curls_exit_codes(lab: Lab, image: str) -> None:
    with stand_in(lab.engine, image, *HARDENED) as agent:
        agent.await_health()
        assert agent.curl("-fsS", "-m", "5", "http://127.0.0.1:8200/health")[0] == 0
        code, body = agent.curl("http://localhost:8200/nowhere")
        assert (code, "has no GET /nowhere" in body) == (0, True)
        assert agent.curl("-f", "http://localhost:8200/nowhere")[0] == 22
        assert agent.curl("http://localhost:8299/")[0] == 7
        assert agent.curl("--unknown", "http://localhost:8200/")[0] == 2


def test_answered_requests_leave_no_processes_behind(lab: Lab, image: str) -> None:
    with stand_in(lab.engine, image, *HARDENED) as agent:
        agent.await_health()
        for _ in range(10):
            assert agent.health() == 0
        listed = lab.engine.run("exec", agent.name, "ps")
        assert listed.count("answer]") <= 1


def test_sigterm_stops_a_stand_in_in_good_order(lab: Lab, image: str) -> None:
    with stand_in(lab.engine, image, *HARDENED) as agent:
        agent.await_health()
        lab.engine.run("stop", "--time", "30", agent.name)
        assert agent.state("ExitCode") == "0"
        assert "stopping on SIGTERM" in agent.log()


def test_a_stand_in_can_ignore_sigterm(lab: Lab, image: str) -> None:
    with stand_in(lab.engine, image, *HARDENED, STANDIN_IGNORE_SIGTERM="1") as agent:
        agent.await_health()
        lab.engine.run("stop", "--time", "1", agent.name)
        assert agent.state("ExitCode") == "137"


def test_a_slow_start_keeps_the_ports_closed(lab: Lab, image: str) -> None:
    with stand_in(lab.engine, image, *HARDENED, STANDIN_START_DELAY_S="2") as agent:
        assert agent.health() == 7
        assert agent.curl("http://localhost:7200/")[0] == 7
        agent.await_health()


def test_a_slow_start_can_still_be_stopped(lab: Lab, image: str) -> None:
    with stand_in(lab.engine, image, *HARDENED, STANDIN_START_DELAY_S="600") as agent:
        lab.engine.run("stop", "--time", "30", agent.name)
        assert agent.state("ExitCode") == "0"


def test_a_stand_in_turns_unhealthy_and_goes_on_running(lab: Lab, image: str) -> None:
    def is_unhealthy() -> None:
        if agent.health() != 22:
            raise LabError(agent.name, "is still healthy", "wait")

    with stand_in(lab.engine, image, *HARDENED, STANDIN_UNHEALTHY_AFTER_S="3") as agent:
        agent.await_health()
        until(agent.name, is_unhealthy, timeout_s=20, next_step="read its log")
        body = json.loads(agent.curl("http://localhost:8200/health")[1])
        assert (body["status"], body["stand_in"]) == ("unhealthy, as told", True)
        assert agent.state("Status") == "running"


@pytest.mark.parametrize(("told", "code"), [({}, 1), ({"STANDIN_EXIT_CODE": "7"}, 7)])
def test_a_stand_in_crashes_with_a_last_log_line(
    lab: Lab, image: str, told: dict[str, str], code: int
) -> None:
    with stand_in(lab.engine, image, *HARDENED, STANDIN_CRASH_AFTER_S="1", **told) as agent:
        assert agent.await_end() == code
        assert agent.log().splitlines()[-1].startswith(f"stand-in for Echo: crashing with exit code {code}")


def test_a_stand_in_eats_the_memory_it_is_told_to(lab: Lab, image: str) -> None:
    with stand_in(lab.engine, image, *HARDENED, "--memory=96m", STANDIN_EAT_MEMORY_MB="48") as agent:
        agent.await_health()
        status = lab.engine.run("exec", agent.name, "grep", "VmRSS", "/proc/1/status")
        assert int(status.split()[1]) >= 48 * 1024


def test_a_stand_in_that_eats_too_much_is_killed(lab: Lab, image: str) -> None:
    limits = ("--memory=32m", "--memory-swap=32m")
    with stand_in(lab.engine, image, *HARDENED, *limits, STANDIN_EAT_MEMORY_MB="96") as agent:
        assert agent.await_end() == 137
