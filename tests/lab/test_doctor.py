"""`cascade doctor` on bare hosts with one thing wrong at a time; nothing is changed, whatever it finds."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.hosts import HOSTS
from tests.lab.conftest import ROOT, Checkout, Finished, docker, on_host

MAINPC, PC2 = (host.name for host in HOSTS)
# What a person could find changed, but for the lock's own files: a deployment is refused under the lock.
STATE = """
find /etc /usr/bin /usr/local /root -xdev -printf '%p %s %m %T@\\n' | sort | sha256sum
ls -A /var/lib/docker /var/lib/containerd 2>&1 | sort
ls -A /var/lib/cascade 2> /dev/null | grep -v '^lock'
sha256sum < /var/lib/dpkg/status
ss -H -lntu | awk '{print $1, $5}' | sort -u
iptables-save | grep -v '^#' | sed 's/\\[[0-9:]*\\]//'
if command -v docker > /dev/null; then docker ps -a --no-trunc --format '{{.ID}} {{.State}}'; fi
"""
RULE = "INPUT -p udp --dport 7946 -j DROP"
LISTENER = (
    "import socket; held = socket.create_server(('', 2377));"
    " exec('while True:\\n    connection, _ = held.accept()\\n    connection.close()')"
)


@pytest.fixture(scope="module")
def bare() -> Iterator[Checkout]:
    """Both hosts as bare servers, for all tests of this file; bare again afterwards."""
    here = Checkout(ROOT, ROOT / ".venv")
    here.run("cascade", "lab", "reset").ok()
    yield here
    here.run("cascade", "lab", "reset").ok()


def state() -> list[str]:
    """What a person could find changed on the hosts."""
    return [on_host(host.name, STATE) for host in HOSTS]


def doctor(checkout: Checkout, *options: str) -> tuple[Finished, dict[str, Any]]:
    """A look at the hosts that must leave them as they are, and what it says for programs."""
    before = state()
    done = checkout.run("cascade", "doctor", "inventories/lab.py", "--json", *options)
    assert state() == before
    return done, json.loads(done.out)


def refused(checkout: Checkout) -> str:
    """A deployment that must end before any change; what it says."""
    before = state()
    done = checkout.deploy()
    assert (done.code, done.writes) == (1, 0)
    assert state() == before
    return done.err


@contextmanager
def wrong(host: str, inject: str, undo: str) -> Iterator[None]:
    on_host(host, inject)
    try:
        yield
    finally:
        on_host(host, undo)


def no_space(host: str) -> Any:
    return wrong(host, "mount -t tmpfs -o size=64m none /var/lib/docker", "umount /var/lib/docker")


def taken_port(host: str) -> Any:
    """Somebody's program on the Swarm's port."""
    program = f"systemd-run --quiet --unit=taken python3 -c {shlex.quote(LISTENER)}"
    ready = "timeout 10 sh -c 'until ss -Hlnt sport = 2377 | grep -q .; do :; done'"
    return wrong(host, f"{program} && {ready}", "systemctl stop taken")


def without(path: str, host: str) -> Any:
    return wrong(host, f"mv {path} /var/tmp/away", f"mv /var/tmp/away {path}")


def skewed_clock(host: str) -> Any:
    """No container may set its machine's clock, and a time namespace leaves the time of day alone.

    So libfaketime shifts the time of day for every python3 on this host: exactly what the check reads
    there. The host's other programs and the deploying machine keep the right time.
    """
    program = '#!/bin/sh\\nexec faketime -f +90s /usr/bin/python3.real "$@"\\n'
    return wrong(
        host,
        "apt-get update -q > /dev/null && apt-get install -qy --no-install-recommends faketime > /dev/null"
        " && mv /usr/bin/python3 /usr/bin/python3.real"
        f" && printf '{program}' > /usr/bin/python3 && chmod 755 /usr/bin/python3",
        "mv /usr/bin/python3.real /usr/bin/python3",
    )


def the_only(found: dict[str, Any]) -> dict[str, str]:
    """The one error; there must be no warning beside it."""
    (finding,) = (each for each in found["findings"] if each["level"] in ("error", "warning"))
    assert (finding["level"], found["ready"]) == ("error", False)
    return dict(finding)


def test_bare_hosts_are_ready(bare: Checkout) -> None:
    done, found = doctor(bare)
    assert (done.code, found["ready"]) == (0, True)
    assert found["hosts"].keys() == {MAINPC, PC2}
    assert {each["level"] for each in found["findings"]} <= {"note"}
    text = bare.run("cascade", "doctor", "inventories/lab.py").ok().out
    assert "2377/tcp, 4789/udp, 7946/tcp, 7946/udp reached from pc2" in text
    assert text.endswith("ready: 0 errors and 0 warnings on 2 hosts\n")


def test_no_space(bare: Checkout) -> None:
    with no_space(PC2):
        done, found = doctor(bare)
    finding = the_only(found)
    assert (done.code, finding["host"], finding["check"]) == (1, PC2, "disk")
    assert "/var/lib/docker: 64.0 MB free, 1.0 GB needed" in finding["message"]
    assert "mount a larger disk at /var/lib/docker" in finding["next_step"]


def test_a_skewed_clock(bare: Checkout) -> None:
    with skewed_clock(PC2):
        done, found = doctor(bare)
    finding = the_only(found)
    assert (done.code, finding["host"], finding["check"]) == (1, PC2, "clock")
    assert finding["message"].startswith(("89.", "90."))
    assert "s ahead of this machine's" in finding["message"]
    assert "set that of the machine that carries it" in finding["next_step"]


def test_a_blocked_port_and_the_command_that_opens_it(bare: Checkout) -> None:
    with wrong(PC2, f"iptables -I {RULE}", f"iptables -D {RULE}"):
        done, found = doctor(bare)
        finding = the_only(found)
        assert (done.code, finding["host"], finding["check"]) == (1, PC2, "swarm-ports")
        assert "mainpc (10.203.0.11) gets no answer on 7946/udp" in finding["message"]
        command = finding["next_step"].split("`")[1]
        with wrong(PC2, command, command.replace(" -I ", " -D ")):
            assert doctor(bare)[0].code == 0


def test_a_taken_port_which_a_deployment_refuses_too(bare: Checkout) -> None:
    with taken_port(MAINPC):
        done, found = doctor(bare)
        said = refused(bare)
    finding = the_only(found)
    assert (done.code, finding["host"], finding["check"]) == (1, MAINPC, "swarm-ports")
    assert "2377/tcp, which the Swarm needs, is held by python3 (PID " in finding["message"]
    assert "stop it" in finding["next_step"]
    assert finding["message"].split("(")[0] in said
    assert finding["next_step"] in said


def test_no_python3_which_a_deployment_refuses_too(bare: Checkout) -> None:
    with without("/usr/bin/python3", PC2):
        done, found = doctor(bare)
        said = refused(bare)
    finding = the_only(found)
    assert (done.code, finding["host"], finding["check"]) == (1, PC2, "python3")
    assert finding["next_step"] == "`cascade bootstrap USER@127.0.0.1:22042`"
    assert finding["next_step"] in said
    assert found["hosts"][PC2]["others"] == "unchecked"
    assert found["hosts"][MAINPC]["disk"] == "ok"


def test_no_sudo(bare: Checkout) -> None:
    with without("/etc/sudoers.d/deploy", PC2):
        done, found = doctor(bare)
    finding = the_only(found)
    assert (done.code, finding["host"], finding["check"]) == (1, PC2, "sudo")
    assert "deploy may not use sudo without a password: sudo: " in finding["message"]
    assert finding["next_step"] == "`cascade bootstrap USER@127.0.0.1:22042`"


def test_a_small_machine(bare: Checkout, tmp_path: Path) -> None:
    small = bare.variant(tmp_path / "small")
    small.change("group_data/lab.py", "reservation_scale = 0.08", "reservation_scale = 1.0")
    done, found = doctor(small)
    assert done.code == 1
    errors = [each for each in found["findings"] if each["level"] == "error"]
    assert {each["check"] for each in errors} == {"reservations"}
    of_mainpc = next(each for each in errors if each["host"] == MAINPC)
    assert "reservations 19.0 CPU / 53.0 GB, mainpc has " in of_mainpc["message"]
    advised = of_mainpc["next_step"].split("`")[1]
    # The file that gave the wrong value: one of lower precedence would change nothing.
    assert f"set `{advised}` in group_data/lab.py, or fewer replicas" in of_mainpc["next_step"]
    small.change("group_data/lab.py", "reservation_scale = 1.0", advised)
    _, found = doctor(small, "--limit", MAINPC)
    assert (found["ready"], found["hosts"][MAINPC]["reservations"]) == (True, "ok")
    assert PC2 not in found["hosts"]


def test_two_wrong_things_at_once(bare: Checkout) -> None:
    with no_space(MAINPC), taken_port(MAINPC):
        done, found = doctor(bare)
        said = refused(bare)
    errors = [each for each in found["findings"] if each["level"] == "error"]
    assert done.code == 1
    assert [(each["host"], each["check"]) for each in errors] == [(MAINPC, "disk"), (MAINPC, "swarm-ports")]
    for each in errors:
        assert each["next_step"].split(";")[0] in said


def test_an_unreachable_host_holds_up_no_other(bare: Checkout) -> None:
    subprocess.run((*docker(), "stop", "cascade-lab-pc2"), check=True, capture_output=True)
    try:
        done = bare.run("cascade", "doctor", "inventories/lab.py", "--json")
    finally:
        bare.run("cascade", "lab", "up").ok()
    found = json.loads(done.out)
    finding = the_only(found)
    assert (done.code, finding["host"], finding["check"]) == (6, PC2, "reachable")
    assert "127.0.0.1 port 22042" in finding["next_step"]
    assert found["hosts"][MAINPC]["disk"] == "ok"


def test_mistakes_in_the_files_are_json_too(bare: Checkout, tmp_path: Path) -> None:
    broken = bare.variant(tmp_path / "broken")
    broken.change("group_data/all.py", 'docker_source = "docker"', 'docker_source = "elsewhere"')
    broken.change("group_data/lab.py", 'docker_source = "distribution"', "")
    done = broken.run("cascade", "doctor", "inventories/lab.py", "--json")
    found = json.loads(done.out)
    assert (done.code, found["ready"]) == (64, False)
    assert any("docker_source" in each["message"] for each in found["findings"])


def test_an_unknown_host_key_is_refused_until_its_fingerprint_is_given(
    bare: Checkout, tmp_path: Path
) -> None:
    new = bare.variant(tmp_path / "new")
    known = new.path / "known_hosts"
    new.change("inventories/lab.py", 'str(_lab / "known_hosts")', repr(str(known)))
    done, found = doctor(new)
    errors = [each for each in found["findings"] if each["level"] == "error"]
    assert (done.code, [each["host"] for each in errors]) == (6, [MAINPC, PC2])
    assert all("`cascade doctor INVENTORY --trust`" in each["next_step"] for each in errors)

    shown = {
        name: on_host(name, "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub") for name in (MAINPC, PC2)
    }
    options = [f"--fingerprint={line.split()[1]}" for line in shown.values()]
    done, found = doctor(new, "--trust", options[0])
    finding = the_only(found)
    assert (done.code, finding["host"], finding["check"]) == (1, PC2, "host-key")
    assert found["hosts"][MAINPC]["disk"] == "ok"
    assert len(known.read_text().splitlines()) == 1

    assert doctor(new, "--trust", *options)[0].code == 0
    assert doctor(new)[0].code == 0


def answered(checkout: Checkout, answer: str) -> tuple[int, str]:
    """How the doctor ends when a person at a terminal answers its one question."""
    master, slave = pty.openpty()
    environment = {**os.environ, "PATH": f"{checkout.venv}/bin:{os.environ['PATH']}"}
    argv = ("cascade", "doctor", "inventories/lab.py")
    with subprocess.Popen(
        argv,
        cwd=checkout.path,
        env=environment,
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as asking:
        os.write(master, f"{answer}\n".encode())
        _, err = asking.communicate(timeout=60)
    os.close(master)
    os.close(slave)
    return asking.returncode, err


@pytest.fixture
def foreign(bare: Checkout) -> None:
    """An engine of the owner's with a container of theirs; the last test's, for only a reset removes it."""
    on_host(MAINPC, "mkdir -p /etc/docker && echo '{\"debug\": false}' > /etc/docker/daemon.json")
    on_host(MAINPC, "apt-get update -q > /dev/null")
    on_host(MAINPC, "apt-get install -qy --no-install-recommends docker.io docker-cli > /dev/null")
    load = (*docker(), "exec", "-i", "cascade-lab-mainpc", "docker", "load", "-q")
    with (bare.path / ".lab" / "stand-in.tar").open("rb") as archive:
        loaded = subprocess.run(load, stdin=archive, capture_output=True, check=True, text=True).stdout
    environment = "--env AGENT_NAME=Owner --env PORT=7000 --env HEALTH_PORT=8000"
    image = loaded.split(":", 1)[1].strip()
    on_host(MAINPC, f"docker run -d --network none --name owners-web {environment} {image}")


@pytest.mark.usefixtures("foreign")
def test_an_engine_of_the_owners_with_a_container_that_a_restart_would_stop(bare: Checkout) -> None:
    done, found = doctor(bare)
    finding = the_only(found)
    assert (done.code, finding["host"], finding["check"]) == (1, MAINPC, "docker-restart")
    assert "restart Docker, which stops owners-web" in finding["message"]
    assert "--allow-docker-restart" in finding["next_step"]
    said = refused(bare)
    assert "restart Docker, which stops owners-web" in said
    assert "--data allow_docker_restart=True" in said

    allowed, found = doctor(bare, "--allow-docker-restart")
    assert (allowed.code, found["ready"]) == (2, True)

    code, asked = answered(bare, "y")
    assert (code, "owners-web" in asked) == (2, True)
    assert answered(bare, "n")[0] == 1

    running = on_host(MAINPC, "docker inspect -f '{{.State.Running}}' owners-web")
    assert running == "true"
