"""The check that a timer makes, in the sandbox of its unit; a test host is the machine that keeps watch."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cascade.watch.units import watch_name
from lab.errors import LabError
from lab.polling import until
from tests.lab import watcher
from tests.lab.conftest import Checkout, look, on_host
from tests.lab.promtool import check_metrics
from tests.lab.watcher import FILES, INVENTORY, METRICS, Watcher

WATCH = watch_name(Path(FILES, INVENTORY))
SERVICE, TIMER = f"{WATCH}.service", f"{WATCH}.timer"
METRICS_FILE = f"{METRICS}/{WATCH}.prom"
HEARD = f"{METRICS}/heard"
RESULTS = {
    "system": f"/var/lib/cascade-drift/{WATCH}/result.json",
    "user": f"/home/deploy/.local/state/cascade-drift/{WATCH}/result.json",
}
UNITS = {"system": "/etc/systemd/system", "user": "/home/deploy/.config/systemd/user"}
SCOPES = ("system", "user")
DRIFT = "sysctl -qw net.core.somaxconn=1234"
MENDED = "sysctl -qw net.core.somaxconn=4096"
# What a check has no business with. Each line says what became of one attempt.
PROBE = """
import ctypes, json, mmap, os, pathlib, socket, subprocess, sys

def home(): pathlib.Path.home().joinpath("planted").touch()
def files(): pathlib.Path("planted").touch()
def temporary(): open("/tmp/secret").close()
def root(): subprocess.run(["sudo", "-n", "true"], check=True, capture_output=True)
def others(): open("/proc/1/cmdline").close()
def kernel(): open("/proc/sys/kernel/ostype").close()
def netlink(): socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()
def code(): mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC).close()
def personality():
    if ctypes.CDLL(None, use_errno=True).personality(8) == -1:
        raise OSError(ctypes.get_errno(), "personality")

said = {}
for attempt in (home, files, temporary, root, others, kernel, netlink, code, personality):
    try:
        attempt()
        said[attempt.__name__] = "done"
    except (OSError, subprocess.CalledProcessError) as error:
        said[attempt.__name__] = type(error).__name__
json.dump(said, open(sys.argv[1], "w"))
"""
ATTEMPTS = {"home", "files", "temporary", "root", "others", "kernel", "netlink", "code", "personality"}


@pytest.fixture(scope="module")
def machine(fleet: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Watcher:
    """The machine that keeps watch, with a hook that keeps the document it was given."""
    made = watcher.set_up(fleet, tmp_path_factory.mktemp("watcher"))
    settings = f"{FILES}/group_data/lab.py"
    made.write(settings, f"{made.read(settings)}\non_drift = ('cp', '/dev/stdin', {HEARD!r})\n")
    return made


@pytest.fixture(scope="module", params=SCOPES)
def installed(request: pytest.FixtureRequest, machine: Watcher) -> Iterator[str]:
    """A scope in which the watch is installed, without anything left of it afterwards."""
    name: str = request.param
    yield name
    on_host("mainpc", MENDED)
    machine.drift("--uninstall", f"--{name}", scope=name).ok()
    on_host(watcher.NAME, f"rm -f {shlex.quote(HEARD)}")


@pytest.fixture
def scope(installed: str, machine: Watcher) -> str:
    """The scope, with the watch as every test begins with it: no timer checks in the midst of a test."""
    options = (f"--{installed}", "--every", "1d", "--metrics", METRICS)
    machine.drift("--install", *options, scope=installed).ok()
    systemctl(machine, installed, "stop", TIMER)
    return installed


def systemctl(machine: Watcher, scope: str, *words: str) -> str:
    """What the scope's systemd says."""
    return machine.run(
        *(("sudo", "systemctl") if scope == "system" else ("systemctl", "--user")), *words
    ).out.strip()


def result(machine: Watcher, scope: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.read(RESULTS[scope]))
    return found


def journal(machine: Watcher, scope: str, *options: str) -> str:
    """What the unit has said, as its user reads it."""
    words = ("sudo", "journalctl", "-u") if scope == "system" else ("journalctl", "--user-unit")
    return machine.run(*words, SERVICE, "-q", "-o", "cat", *options).ok().out


def sample(machine: Watcher, name: str) -> str:
    """The value of a metric that has no labels of its own."""
    found = re.search(rf"^cascade_drift_{name}{{.*}} (\S+)$", machine.read(METRICS_FILE), re.MULTILINE)
    return found[1] if found else "absent"


def test_the_timer_finds_drift_and_its_end_and_tells_everybody(machine: Watcher, scope: str) -> None:
    machine.drift("--install", f"--{scope}", "--every", "1m", "--metrics", METRICS, scope=scope).ok()
    first = result(machine, scope)
    assert (first["in_sync"], first["exit_code"], first["findings"]) == (True, 0, [])
    assert look(watcher.NAME, f"ls {shlex.quote(HEARD)} 2> /dev/null") == ""

    on_host("mainpc", DRIFT)
    if scope == "user":
        # It has the same timer, and a minute is long.
        systemctl(machine, scope, "start", SERVICE)

    def checked_again() -> dict[str, Any]:
        found = result(machine, scope)
        if found["checked_at"] == first["checked_at"]:
            raise LabError(watcher.NAME, "the timer has made no check", f"see `systemctl status {TIMER}`")
        return found

    found = until(watcher.NAME, checked_again, timeout_s=90, next_step="look at the timer")
    ((place, desired, observed),) = [
        ((each["host"], each["kind"], each["name"]), each["desired"], each["observed"])
        for each in found["findings"]
    ]
    assert place == ("mainpc", "sysctl", "net.core.somaxconn")
    assert (str(desired), str(observed), found["exit_code"]) == ("4096", "1234", 2)
    assert "drift: mainpc sysctl net.core.somaxconn" in journal(machine, scope, "--priority", "warning")
    assert json.loads(machine.read(HEARD)) == found
    assert sample(machine, "exit_code") == "2.0"
    assert 'host="mainpc"' in machine.read(METRICS_FILE)
    assert check_metrics(machine.read(METRICS_FILE)) == ""
    assert systemctl(machine, scope, "show", "-p", "Result", "--value", SERVICE) == "success"

    on_host("mainpc", MENDED)
    systemctl(machine, scope, "start", SERVICE)
    assert result(machine, scope)["exit_code"] == 0
    assert json.loads(machine.read(HEARD))["in_sync"] is True
    assert sample(machine, "in_sync") == "1.0"
    assert "cascade_drift_findings{" not in machine.read(METRICS_FILE)
    assert "in sync" in journal(machine, scope, "-n", "4")


def test_a_check_that_cannot_be_made_fails_the_unit_and_says_why(machine: Watcher, scope: str) -> None:
    # The daemon of a connection that is open goes on.
    on_host("mainpc", "systemctl stop ssh.socket ssh.service")
    try:
        systemctl(machine, scope, "start", SERVICE)
    finally:
        on_host("mainpc", "systemctl start ssh.service")
    found = result(machine, scope)
    assert (found["exit_code"], found["in_sync"]) == (6, False)
    assert "mainpc" in {item["host"] for item in found["unknown"]}
    assert "unknown: mainpc" in journal(machine, scope, "--priority", "err")
    assert sample(machine, "exit_code") == "6.0"
    assert json.loads(machine.read(HEARD)) == found
    assert systemctl(machine, scope, "is-failed", SERVICE) == "failed"


def test_files_with_mistakes_are_told_by_every_check(machine: Watcher, scope: str) -> None:
    settings = f"{FILES}/group_data/lab.py"
    right = machine.read(settings)
    machine.write(settings, f"{right}\nreservation_scale = 7\n")
    try:
        systemctl(machine, scope, "start", SERVICE)
    finally:
        machine.write(settings, right)
    assert result(machine, scope)["exit_code"] == 64
    assert sample(machine, "exit_code") == "64.0"
    assert "reservation_scale" in journal(machine, scope)


def test_systemd_has_nothing_to_say_of_the_units(machine: Watcher, scope: str) -> None:
    user = () if scope == "system" else ("--user",)
    units = [f"{UNITS[scope]}/{unit}" for unit in (SERVICE, TIMER)]
    verified = machine.run("systemd-analyze", *user, "verify", "--man=no", *units).ok()
    assert (verified.out, verified.err) == ("", "")
    threshold = "--threshold=14" if scope == "system" else "--threshold=60"
    machine.run("systemd-analyze", *user, "security", "--no-pager", threshold, SERVICE).ok()


def test_a_second_installation_changes_only_what_differs(machine: Watcher, scope: str) -> None:
    def install(every: str) -> str:
        options = (f"--{scope}", "--every", every, "--metrics", METRICS)
        return machine.drift("--install", *options, scope=scope).ok().out

    def seen() -> str:
        units = on_host(watcher.NAME, f"stat -c '%i %y' {UNITS[scope]}/{WATCH}.*")
        return units + systemctl(machine, scope, "show", "-p", "ActiveEnterTimestamp", TIMER)

    assert "the timer is started" in install("1d")
    before = seen()
    assert "nothing was to do" in install("1d")
    assert seen() == before
    changed = install("2h")
    assert f"{WATCH}: {TIMER}\n" in changed
    assert f"{WATCH}: {SERVICE}\n" not in changed
    assert "OnUnitActiveUSec=2h" in systemctl(machine, scope, "show", "-p", "TimersMonotonic", TIMER)


def test_metrics_that_are_no_longer_wanted_do_not_stay(machine: Watcher, scope: str) -> None:
    assert WATCH in look(watcher.NAME, f"ls {shlex.quote(METRICS)}")
    machine.drift("--install", f"--{scope}", "--every", "1d", scope=scope).ok()
    assert WATCH not in look(watcher.NAME, f"ls {shlex.quote(METRICS)}")


def test_nothing_is_left_of_a_watch_that_was_taken_away(machine: Watcher, scope: str) -> None:
    assert look(watcher.NAME, f"find / -xdev -path '*{WATCH}*' -not -path '/proc/*' | wc -l") != "0"
    assert f"{WATCH} is removed" in machine.drift("--uninstall", f"--{scope}", scope=scope).ok().out
    assert look(watcher.NAME, f"find / -xdev -path '*{WATCH}*' -not -path '/proc/*'") == ""
    assert systemctl(machine, scope, "is-active", TIMER) == "inactive"
    assert "nothing was to do" in machine.drift("--uninstall", f"--{scope}", scope=scope).ok().out


def test_the_sandbox_denies_what_a_check_has_no_business_with(machine: Watcher, scope: str) -> None:
    machine.write("/srv/probe.py", PROBE)
    on_host(watcher.NAME, "touch /tmp/secret; chmod 644 /tmp/secret")
    outside = f"{METRICS}/outside"
    machine.run("python3", "/srv/probe.py", outside).ok()
    assert json.loads(machine.read(outside)) == dict.fromkeys(ATTEMPTS, "done")
    machine.run("rm", "planted", "/home/deploy/planted", outside).ok()

    said = f"{METRICS}/said"
    override = (
        f'[Service]\nExecStart=\nExecStart=:/usr/bin/python3 /srv/probe.py "{said.replace("%", "%%")}"\n'
    )
    folder = f"{UNITS[scope]}/{SERVICE}.d"
    machine.write(f"{folder}/probe.conf", override)
    try:
        systemctl(machine, scope, "daemon-reload")
        systemctl(machine, scope, "start", SERVICE)
        denied = {attempt for attempt, end in json.loads(machine.read(said)).items() if end != "done"}
    finally:
        on_host(watcher.NAME, f"rm -r {folder} {shlex.quote(said)}")
        systemctl(machine, scope, "daemon-reload")
    # A user's own systemd cannot take these away.
    assert denied >= ATTEMPTS - ({"others", "kernel"} if scope == "user" else set())
