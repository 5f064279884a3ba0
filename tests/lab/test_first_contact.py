"""From two machines with nothing but a user with a password to a healthy system, as a new user goes."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab.hosts import HOSTS
from tests.lab.conftest import ROOT, Checkout, Finished, copy_of_project, kernel_of_the_lab, look, on_host
from tests.terminal import at_terminal

PASSWORD = "pl4nted; touch /x $(id) 'q\" end"
SETTINGS = """
from cascade.model.compose import HealthTiming

reservation_scale = 0.08
absent = frozenset(("gpu", "/dev/snd", "realtime", "open-files", "ipvs", "clock"))
health_timing = HealthTiming(interval=30, start_interval=0.25)
"""
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"


@dataclass(frozen=True)
class Story:
    """What a new user did, and what they saw."""

    checkout: Checkout
    key: Path
    init: Finished
    first: dict[str, Finished]
    second: Finished
    here: bytes = field(repr=False)
    there: dict[str, bytes] = field(repr=False)
    trust: Finished
    deploy: Finished
    status: Finished

    def bootstrap(self, host: str, *options: str, login: str = "owner", words: str = PASSWORD) -> Finished:
        """Another bootstrap, by a script: the password comes on standard input."""
        argv = bootstrap_argv(login, host, self.key, "--password-stdin", *options)
        done = subprocess.run(
            [self.checkout.venv / "bin" / argv[0], *argv[1:]],
            cwd=self.checkout.path,
            input=f"{words}\n",
            capture_output=True,
            text=True,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)


def port_of(host: str) -> int:
    return next(known.ssh_port for known in HOSTS if known.name == host)


def bootstrap_argv(login: str, host: str, key: Path, *options: str) -> list[str]:
    return ["cascade", "bootstrap", f"{login}@127.0.0.1:{port_of(host)}", "--key", str(key), *options]


def fingerprint_of(host: str) -> str:
    """As the machine's owner reads it on its own console."""
    return on_host(host, f"ssh-keygen -lf {HOST_KEY}.pub").split()[1]


def typed(checkout: Checkout, argv: list[str], *answers: tuple[str, str]) -> Finished:
    """A command at a terminal, in the checkout."""
    return Finished(
        *at_terminal([str(checkout.venv / "bin" / argv[0]), *argv[1:]], checkout.path, *answers), ""
    )


def leave_only_a_password(host: str) -> None:
    """A user with a password, with which sudo works too; no deploy user, no key, no way around."""
    on_host(
        host,
        "useradd --create-home --shell /bin/bash owner; useradd --create-home --shell /bin/bash guest\n"
        f"printf '%s\\n' {shlex.quote(f'owner:{PASSWORD}')} {shlex.quote(f'guest:{PASSWORD}')} | chpasswd\n"
        "echo 'owner ALL=(ALL:ALL) ALL' >/etc/sudoers.d/owner; chmod 440 /etc/sudoers.d/owner\n"
        "rm /etc/sudoers.d/deploy; userdel --remove deploy 2>/dev/null\n"
        "echo 'PasswordAuthentication yes' >/etc/ssh/sshd_config.d/owner.conf; systemctl restart ssh",
    )


@contextmanager
def watched() -> Iterator[tuple[set[bytes], dict[str, bytes]]]:
    """The arguments and environments of all processes, here and on the hosts, again and again."""
    here: set[bytes] = set()
    there: dict[str, bytes] = {}
    ended = threading.Event()

    def look_around() -> None:
        while not ended.is_set():
            for process in Path("/proc").iterdir():
                for part in ("cmdline", "environ") if process.name.isdigit() else ():
                    with suppress(OSError):
                        here.add((process / part).read_bytes())

    loop = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ"
    for host in HOSTS:
        on_host(host.name, "touch /run/watched")
        on_host(
            host.name,
            f"(while [ -e /run/watched ]; do {loop} >>/run/seen; done) >/dev/null 2>&1 </dev/null &",
        )
    thread = threading.Thread(target=look_around)
    thread.start()
    try:
        yield here, there
    finally:
        ended.set()
        thread.join()
        for host in HOSTS:
            on_host(host.name, "rm /run/watched")
            there[host.name] = on_host(host.name, "tr '\\0' ' ' </run/seen").encode()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    here = Checkout(ROOT, ROOT / ".venv")
    here.run("cascade", "lab", "reset").ok()
    for host in HOSTS:
        leave_only_a_password(host.name)
    on_host("pc2", "apt-get -qq -y purge python3-minimal && apt-get -qq -y autoremove --purge")
    assert look("pc2", "command -v python3") == ""
    folder = tmp_path_factory.mktemp("first-contact")
    checkout, key = Checkout(folder / "cascade", ROOT / ".venv"), folder / "keys" / "id_ed25519"
    checkout.path.mkdir()
    copy_of_project(checkout.path)
    yield told(here, checkout, key)
    here.run("cascade", "lab", "reset").ok()


def told(here: Checkout, checkout: Checkout, key: Path) -> Story:
    """The way of docs/tutorial/first-deployment.md."""
    machines = [
        option
        for host in HOSTS
        for name, value in (
            ("address", "127.0.0.1"),
            ("port", host.ssh_port),
            ("swarm-address", host.address),
        )
        for option in (f"--{host.name}-{name}", str(value))
    ]
    shared = ("--ssh-key", str(key), "--docker-source", "distribution", "--archives", "images")
    init = checkout.run("cascade", "init", *machines, *shared)
    if not (here.path / ".lab/stand-in.tar").exists():
        here.run("cascade", "lab", "up").ok()
    (checkout.path / "images").mkdir()
    written = (checkout.path / "group_data/home.py").read_text()
    for archive in re.findall(r'"(images/.*\.tar)"', written):
        shutil.copy(here.path / ".lab/stand-in.tar", checkout.path / archive)
    (checkout.path / "group_data/home.py").write_text(written + SETTINGS + kernel_of_the_lab())
    with watched() as (arguments_here, there):
        first = {
            "mainpc": typed(
                checkout,
                bootstrap_argv("owner", "mainpc", key),
                ("Is this the key of 127.0.0.1 port 22041?", "y"),
                ("Password of owner at 127.0.0.1 port 22041:", PASSWORD),
            ),
            "pc2": typed(
                checkout,
                bootstrap_argv("owner", "pc2", key, "--fingerprint", fingerprint_of("pc2")),
                ("Password of owner at 127.0.0.1 port 22042:", PASSWORD),
            ),
        }
    second = checkout.run(*bootstrap_argv("owner", "pc2", key))
    trust = checkout.run("cascade", "doctor", "inventories/home.py", "--trust")
    deploy = checkout.run("pyinfra", "-y", "inventories/home.py", "deploy.py")
    status = checkout.run("cascade", "status", "inventories/home.py", "--json")
    return Story(checkout, key, init, first, second, b"\n".join(arguments_here), there, trust, deploy, status)


def test_init_leaves_nothing_open_when_everything_was_given(story: Story) -> None:
    assert "CHANGE-ME" not in story.init.ok().out
    assert "cascade bootstrap USER@127.0.0.1:22041 --key " in story.init.out


def test_a_password_on_a_terminal_makes_a_deploy_user_with_key_and_sudo(story: Story) -> None:
    for host, finished in story.first.items():
        assert "deploy logs in with" in finished.ok().out
        assert fingerprint_of(host) in finished.out
        assert on_host(host, "stat -c '%U %a' /home/deploy/.ssh/authorized_keys") == "deploy 600"
        assert on_host(host, "getent shadow deploy | cut -d: -f2") == "*"
        assert on_host(host, "stat -c '%U %a' /etc/sudoers.d/90-cascade-deploy") == "root 440"
        assert on_host(host, "visudo -c -q; ls -A /etc/sudoers.d").split() == [
            "90-cascade-deploy",
            "README",
            "owner",
        ]
    assert "made a new key" in story.first["mainpc"].out
    assert "installing python3" not in story.first["mainpc"].out
    assert "installing python3" in story.first["pc2"].out
    assert story.key.stat().st_mode & 0o777 == 0o600


def test_the_second_time_nothing_is_to_do_and_no_password_is_asked_for(story: Story) -> None:
    assert "nothing was to do" in story.second.ok().out


def test_the_password_is_in_no_argument_no_environment_and_no_journal(story: Story) -> None:
    secret = PASSWORD.encode()
    assert b"bootstrap" in story.here
    assert secret not in story.here
    for host in HOSTS:
        assert b"sudo -k -S" in story.there[host.name]
        assert secret not in story.there[host.name]
        journal = on_host(host.name, "journalctl --no-pager --output=cat --all")
        assert "COMMAND=/usr/bin/sh" in journal
        assert "pl4nted" not in journal
    for finished in (*story.first.values(), story.second, story.deploy):
        assert "pl4nted" not in finished.out + finished.err
    for path in story.checkout.path.rglob("*"):
        if path.is_file() and path.stat().st_size < 1_000_000 and "tests" not in path.parts:
            assert secret not in path.read_bytes()


def test_accepted_keys_are_known_to_the_doctor(story: Story) -> None:
    for host in HOSTS:
        assert f"{host.name} [127.0.0.1]:{host.ssh_port} {fingerprint_of(host.name)}" in story.trust.err
    assert story.trust.err.count(": known\n") == 2
    assert story.trust.code in (0, 2), story.trust.err


def test_the_whole_system_becomes_healthy(story: Story) -> None:
    story.deploy.ok()
    document = json.loads(story.status.ok().out)
    assert document["healthy"] is True
    assert sum(len(group["agents"]) for group in document["groups"]) == 69


def test_a_wrong_password_is_told(story: Story) -> None:
    refused = story.bootstrap("mainpc", "--user", "other", words="wrong")
    assert refused.code == 1
    assert "owner may not log in at 127.0.0.1 port 22041: the password is wrong" in refused.err
    assert "Traceback" not in refused.err


def test_a_user_who_may_not_use_sudo_is_told_what_to_do(story: Story) -> None:
    refused = story.bootstrap("pc2", "--user", "other", login="guest")
    assert refused.code == 1
    assert "guest may not use sudo" in refused.err
    assert "adduser guest sudo" in refused.err
    assert look("pc2", "getent passwd other") == ""


def test_without_a_terminal_the_password_is_not_asked_for(story: Story) -> None:
    refused = story.checkout.run(*bootstrap_argv("owner", "mainpc", story.key, "--user", "other"))
    assert refused.code == 64
    assert "--password-stdin" in refused.err


def test_root_gets_sudo_where_it_is_missing_and_other_keys_stay(story: Story) -> None:
    on_host(
        "pc2",
        f"printf '%s\\n' {shlex.quote(f'root:{PASSWORD}')} | chpasswd\n"
        "echo 'PermitRootLogin yes' >/etc/ssh/sshd_config.d/root.conf; systemctl restart ssh\n"
        "useradd --create-home other; install -d -m 755 /home/other/.ssh\n"
        "printf '# mine\\nssh-ed25519 AAAA me' >/home/other/.ssh/authorized_keys\n"
        "SUDO_FORCE_REMOVE=yes apt-get -qq -y purge sudo",
    )
    missing = story.bootstrap("pc2", "--user", "other")
    assert missing.code == 1
    assert "there is no sudo, and owner is not root" in missing.err
    done = story.bootstrap("pc2", "--user", "other", login="root").ok()
    assert "installing sudo" in done.err
    assert "making the user" not in done.err
    lines = on_host("pc2", "cat /home/other/.ssh/authorized_keys").splitlines()
    assert lines[:2] == ["# mine", "ssh-ed25519 AAAA me"]
    assert lines[2].split()[:2] == story.key.with_name("id_ed25519.pub").read_text().split()[:2]
    assert on_host("pc2", "stat -c '%U %a' /home/other/.ssh") == "other 700"


@pytest.fixture
def another_key(story: Story) -> Iterator[Story]:
    """pc2 shows a host key that nobody has accepted."""
    on_host(
        "pc2",
        f"mv {HOST_KEY} {HOST_KEY}.old; mv {HOST_KEY}.pub {HOST_KEY}.pub.old\n"
        f"ssh-keygen -q -t ed25519 -N '' -f {HOST_KEY}; systemctl restart ssh",
    )
    yield story
    on_host(
        "pc2",
        f"mv {HOST_KEY}.old {HOST_KEY}; mv {HOST_KEY}.pub.old {HOST_KEY}.pub; systemctl restart ssh",
    )


def test_a_changed_host_key_aborts_everything(another_key: Story) -> None:
    checkout, known = another_key.checkout, another_key.checkout.path / "inventories/known_hosts"
    recorded = known.read_text()
    on_host("mainpc", "sysctl -q -w net.core.somaxconn=128")
    codes = {
        ("pyinfra", "-y", "inventories/home.py", "deploy.py"): 6,
        ("cascade", "status", "inventories/home.py"): 6,
        ("cascade", "doctor", "inventories/home.py"): 6,
        ("cascade", "doctor", "inventories/home.py", "--trust", "--fingerprint", fingerprint_of("pc2")): 1,
        tuple(bootstrap_argv("owner", "pc2", another_key.key)): 1,
    }
    for argv, code in codes.items():
        refused = checkout.run(*argv)
        assert refused.code == code, (argv, refused.err)
        said = " ".join((refused.out + refused.err).split())
        assert "THE HOST KEY HAS CHANGED" in said, argv
        assert re.search(rf"{re.escape(str(known.name))} line 2 has SHA256:", said), said
        assert f"the host shows {fingerprint_of('pc2')}" in said
        assert "Traceback" not in refused.err
    assert look("mainpc", "sysctl -n net.core.somaxconn") == "128"
    assert known.read_text() == recorded
