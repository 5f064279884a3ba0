"""Journal, modes and SSH of a host: real files and a real shell, with systemd and sshd that write down."""

from __future__ import annotations

import getpass
import grp
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.exceptions import ConnectError

from cascade.model.fleet import Fleet
from cascade.planning.desired import JOURNAL_SETTINGS, PERMISSIONS, SSH_SETTINGS, render
from cascade.planning.diff import Change
from cascade.planning.observed import observe
from cascade.planning.plan import make_plan
from cascade.planning.resource import Key
from cascade.planning.target import target_of
from operations.host import ssh_server
from operations.host.hardening import limit_journal, set_permissions
from operations.host.ssh_server import harden_ssh
from operations.run import WorkFailed
from tests.fleets import group_data
from tests.operations.conftest import Snapshots

CLOSED = "permitrootlogin no\npasswordauthentication no\nkbdinteractiveauthentication no\n"
# With a file `picky` the service does not take the wanted settings.
SYSTEMCTL = """
case $* in
is-active*) test -e "$STATE/armed" ;;
stop*) rm "$STATE/armed" ;;
*) test ! -e "$STATE/picky" || ! grep -qs wanted "$FILE" ;;
esac
"""


class Machine:
    """A host whose commands run here, on files of a test; what systemd and sshd are told is written down."""

    name = "pc2"
    state = None

    def __init__(self, folder: Path, path: Path) -> None:
        self.folder, self.path, self.answers = folder, path, True
        self.connected: list[str] = []
        (folder / "bin").mkdir()
        self.program("systemctl", SYSTEMCTL)
        self.program("systemd-run", 'touch "$STATE/armed"; for last; do :; done; echo "$last" >"$STATE/back"')
        self.program("sshd", f'test -e "$STATE/wrong" && exit 255; printf "{CLOSED}"')
        machine = self

        class Connector:
            def __init__(self, *_: object) -> None:
                pass

            def connect(self) -> None:
                machine.connected.append(path.read_text())
                if not machine.answers:
                    raise ConnectError("Authentication error")

            def run_shell_command(self, *_: object, **__: object) -> Any:
                return True, None

            def disconnect(self) -> None:
                machine.connected.append("closed")

        self.connector = Connector()

    def program(self, name: str, script: str) -> None:
        program = self.folder / "bin" / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >>"$STATE/said"\n{script}\n')
        program.chmod(0o755)

    @property
    def said(self) -> list[str]:
        """What systemd and sshd were told, but for the questions."""
        lines = (self.folder / "said").read_text().splitlines()
        return [line.partition(" --")[0] for line in lines if "is-active" not in line]

    def run_shell_command(self, command: Any, **arguments: Any) -> Any:
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "STATE": str(self.folder),
            "FILE": str(self.path),
        }
        ran = subprocess.run(
            ["sh", "-c", command.get_raw_value()],
            input=arguments.get("_stdin") or "",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return ran.returncode == 0, type("Output", (), {"stdout": ran.stdout, "output": ran.stderr})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "00-cascade.conf"


@pytest.fixture
def machine(tmp_path: Path, path: Path) -> Machine:
    return Machine(tmp_path, path)


def change(path: Path) -> Change:
    group = grp.getgrgid(os.getgid()).gr_name
    fields = {"content": "wanted\n", "mode": "644", "owner": getpass.getuser(), "group": group}
    return Change(Key("pc2", "file", str(path)), "create", (), fields)


def do(work: Callable[..., None], machine: Machine, path: Path) -> None:
    work(None, machine, change(path))


def left(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


def test_the_way_back_is_armed_before_and_called_off_after_a_new_connection(
    machine: Machine, path: Path
) -> None:
    do(harden_ssh, machine, path)
    assert machine.said == [
        "systemd-run",
        "sshd -t",
        "sshd -T",
        "systemctl restart ssh.service",
        "systemctl stop cascade-ssh-revert.timer",
    ]
    assert machine.connected == ["wanted\n", "closed"]
    assert (path.read_text(), left(path)) == ("wanted\n", [path.name])


@pytest.mark.parametrize("old", ["old\n", None])
@pytest.mark.parametrize("wrong", ["sshd -t", "sshd -T", "restart", "connection"])
def test_whatever_goes_wrong_the_old_way_stays_open(
    machine: Machine, path: Path, wrong: str, old: str | None
) -> None:
    path.parent.mkdir()
    if old:
        path.write_text(old)
    if wrong == "sshd -t":
        (machine.folder / "wrong").touch()
    elif wrong == "sshd -T":
        machine.program("sshd", 'printf "permitrootlogin yes\\n"')
    elif wrong == "restart":
        (machine.folder / "picky").touch()
    else:
        machine.answers = False
    with pytest.raises(WorkFailed, match="the way in are as they were before"):
        do(harden_ssh, machine, path)
    assert (path.read_text() if path.exists() else None) == old
    assert left(path) == ([path.name] if old else [])
    assert machine.said[-1] == "systemctl stop cascade-ssh-revert.timer"


@pytest.mark.parametrize("old", ["old\n", None])
def test_the_host_goes_back_by_itself_when_nobody_calls_it_off(
    machine: Machine, path: Path, old: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the deploying machine dies between the restart and the new connection."""

    def killed(_host: object) -> None:
        raise KeyboardInterrupt

    path.parent.mkdir()
    if old:
        path.write_text(old)
    monkeypatch.setattr(ssh_server, "_prove", killed)
    with pytest.raises(KeyboardInterrupt):
        do(harden_ssh, machine, path)
    assert path.read_text() == "wanted\n"
    machine.run_shell_command(Raw((machine.folder / "back").read_text()))
    assert (path.read_text() if path.exists() else None) == old


@pytest.mark.parametrize("old", ["old\n", None])
def test_a_proof_that_comes_when_the_host_has_gone_back_is_none(
    machine: Machine, path: Path, old: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(_host: object) -> None:
        (machine.folder / "armed").unlink()
        machine.run_shell_command(Raw((machine.folder / "back").read_text()))

    path.parent.mkdir()
    if old:
        path.write_text(old)
    monkeypatch.setattr(ssh_server, "_prove", late)
    with pytest.raises(WorkFailed, match="longer than 60 s, so the host went back"):
        do(harden_ssh, machine, path)
    assert (path.read_text() if path.exists() else None) == old


def test_what_an_earlier_run_left_unproven_goes_before_another_one_begins(
    machine: Machine, path: Path
) -> None:
    path.parent.mkdir()
    path.write_text("unproven\n")
    path.with_name(f"{path.name}.cascade-old").write_text("old\n")
    (machine.folder / "armed").touch()
    machine.answers = False
    with pytest.raises(WorkFailed):
        do(harden_ssh, machine, path)
    assert path.read_text() == "old\n"


class Raw(str):
    """A command as it is."""

    def get_raw_value(self) -> str:
        return str(self)


def test_the_journals_limits_are_read_at_once(machine: Machine, path: Path) -> None:
    do(limit_journal, machine, path)
    assert machine.said == ["systemctl restart systemd-journald.service"]
    assert (path.read_text(), left(path)) == ("wanted\n", [path.name])


def test_limits_that_the_journal_does_not_start_with_go_again(machine: Machine, path: Path) -> None:
    path.parent.mkdir()
    path.write_text("old\n")
    (machine.folder / "picky").touch()
    with pytest.raises(WorkFailed, match="systemctl restart systemd-journald"):
        do(limit_journal, machine, path)
    assert (path.read_text(), left(path)) == ("old\n", [path.name])


def test_a_path_gets_its_mode_and_owner(machine: Machine, tmp_path: Path) -> None:
    socket = tmp_path / "a; touch x 'b"
    socket.touch(mode=0o777)
    fields = change(socket).desired
    key = Key("pc2", "permissions", str(socket))
    set_permissions(None, machine, Change(key, "update", (), {**fields, "mode": "660"}))  # type: ignore[arg-type]
    assert socket.stat().st_mode & 0o7777 == 0o660
    assert not (tmp_path / "x").exists()


DOCKER_SOCKET = "/run/docker.sock"


def with_modes(snapshots: Snapshots, **of_socket: str) -> Snapshots:
    """Every path as it is wanted, but for the engine's socket on pc2."""
    for snapshot in snapshots.values():
        snapshot["permissions"] = {
            path: {"mode": mode, "owner": owner, "group": group}
            for path, (mode, owner, group) in PERMISSIONS.items()
        }
    snapshots["pc2"]["permissions"][DOCKER_SOCKET] |= of_socket
    return snapshots


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"mode": "666"}, ["mode 666 → 660"]),
        ({"group": "users"}, ["group users → docker"]),
        ({"mode": "600"}, []),
        ({"mode": "4660"}, ["mode 4660 → 660"]),
        ({"mode": "rw"}, ["mode rw → 660"]),
    ],
)
def test_a_mode_that_allows_more_is_a_difference_and_one_that_allows_less_is_none(
    fleet: Fleet, converged: Snapshots, found: dict[str, str], said: list[str]
) -> None:
    plan = make_plan(target_of(fleet), with_modes(converged, **found))
    changes = [change for change in plan.changes if change.key.kind == "permissions"]
    assert [str(field) for change in changes for field in change.fields] == said


def test_what_is_not_there_has_no_mode_and_is_not_unknown(fleet: Fleet, converged: Snapshots) -> None:
    snapshots = with_modes(converged)
    snapshots["pc2"]["permissions"][DOCKER_SOCKET] = None
    plan = make_plan(target_of(fleet), snapshots)
    assert (plan.changes, plan.unknown) == ((), ())


def test_a_mode_that_cannot_be_read_is_unknown(fleet: Fleet, converged: Snapshots) -> None:
    snapshots = with_modes(converged)
    snapshots["pc2"]["permissions"][DOCKER_SOCKET] = {"error": "PermissionError: no"}
    observed = observe(target_of(fleet), snapshots)
    assert [str(unknown) for unknown in observed.unknown] == [
        f"pc2: permissions {DOCKER_SOCKET}: PermissionError: no"
    ]


def test_ssh_is_left_as_it_is_unless_it_is_asked_for(fleet: Fleet) -> None:
    def files(fleet: Fleet) -> set[str]:
        return {item.key.name for item in target_of(fleet).resources if item.key.kind == "file"}

    assert JOURNAL_SETTINGS in files(fleet)
    assert SSH_SETTINGS not in files(fleet)
    asked = {name: host.model_copy(update={"ssh_hardening": True}) for name, host in fleet.hosts.items()}
    assert SSH_SETTINGS in files(Fleet(fleet.settings, asked, fleet.groups))


def test_the_servers_settings_say_what_the_server_is_asked_for_after(fleet: Fleet) -> None:
    text = render(SSH_SETTINGS, host=fleet.manager).lower().splitlines()
    assert set(CLOSED.splitlines()) <= set(text)


def test_the_lab_has_the_settings_of_every_inventory_but_what_fails_in_a_container() -> None:
    everywhere, lab = group_data("all"), group_data("lab")
    settings = {
        key: value for key, value in everywhere["daemon_settings"].items() if key != "default-ulimits"
    }
    assert lab["daemon_settings"] == settings
    assert lab["sysctls"] == {
        key: value for key, value in everywhere["sysctls"].items() if key.startswith("net.")
    }
