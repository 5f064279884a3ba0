"""Steps carried out: what hosts are told to do, by pyinfra's own fake connector."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import resource
import shlex
import stat
import subprocess
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.api.config import Config
from pyinfra.api.connect import connect_all
from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory
from pyinfra.api.operations import run_ops
from pyinfra.api.state import State
from pyinfra.connectors.fake import FakeConnector
from pyinfra.context import ctx_config, ctx_host, ctx_inventory, ctx_state

from cascade.model.fleet import Fleet
from cascade.planning.desired import DAEMON_SETTINGS, SYSCTL_FILE, Stage
from cascade.planning.diff import Change
from cascade.planning.resource import Key, Kind
from operations.audit import COMMAND_FAILED
from operations.deploy import carry_out
from operations.host.engine import apply_settings, start_unit
from operations.host.system import install, set_sysctl, write_file
from operations.lock import Lost
from operations.run import Run, Stopped, WorkFailed
from operations.ssh import COMMAND_S
from tests.operations.conftest import LocalRun, Snapshots
from tests.operations.engine import Engine
from tests.operations.sheets import Sheets
from tests.readings import captured_readings

Responses = dict[str, Any]
Commands = Callable[[tuple[Change, ...]], Iterator[PyinfraCommand]]

HOSTILE = ("a; touch x", "a\ntouch x", "a'; touch x; '", 'a"$(touch x)"`touch x`', "a && touch x # ")


def change(kind: Kind, name: str, host: str = "pc2", **desired: Any) -> Change:
    return Change(Key(host, kind, name), "update", (), desired)


class Machine(FakeConnector):
    """pyinfra's fake host, which also remembers what it was sent, and tells its two scripts apart."""

    inputs: dict[str, str]

    def connect(self) -> None:
        self.inputs = {}

    def run_shell_command(  # type: ignore[override]
        self, command: StringCommand, *args: Any, **arguments: Any
    ) -> Any:
        self.inputs[str(command)] = arguments.get("_stdin") or ""
        if "def preflight(" in self.inputs[str(command)]:
            command = StringCommand("preflight")
        return super().run_shell_command(command, *args, **arguments)


@pytest.fixture
def machines(fleet: Fleet) -> Iterator[Callable[..., State]]:
    """Two fake hosts, connected; they answer to commands that contain a key with its value."""
    with ExitStack() as contexts:

        def connect(**responses: Responses) -> State:
            quick = {"fake_delay": 0.0, "fake_delay_jitter": 0.0}
            names = [(name, {**quick, "fake_responses": responses.get(name, {})}) for name in fleet.hosts]
            inventory, config = Inventory((names, {})), Config()  # type: ignore[no-untyped-call]
            for host in inventory:
                host.connector_cls = Machine
            state = State(inventory, config)
            state.cwd = str(Path.cwd())
            contexts.enter_context(ctx_state.use(state))
            contexts.enter_context(ctx_config.use(config))
            contexts.enter_context(ctx_inventory.use(inventory))
            connect_all(state)
            run = Run(state)
            run.fleet, run.trail = fleet, Sheets().trail()
            return state

        yield connect


@pytest.fixture
def pc2(machines: Callable[..., State]) -> Iterator[Callable[..., Host]]:
    """One of those hosts, for an operation of its own."""
    with ExitStack() as contexts:

        def connect(responses: Responses | None = None) -> Host:
            host = machines(pc2=responses or {}).inventory.get_host("pc2")
            contexts.enter_context(ctx_host.use(host))
            return host

        yield connect


def told(host: Host) -> list[str]:
    """Every command that the host was given, by a fact or by an operation."""
    assert isinstance(host.connector, Machine)
    return host.connector.executed_commands


def lines(commands: Iterator[PyinfraCommand | str]) -> list[str]:
    """What an operation yields, as the host's shell gets it."""
    return [
        command.get_raw_value() if isinstance(command, StringCommand) else str(command)
        for command in commands
    ]


@pytest.fixture
def packages(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs an installation where every program of it only says how it was called, or does this instead."""
    lock = tmp_path / "state" / "packages-lock"

    def run(*names: str, **programs: str) -> subprocess.CompletedProcess[str]:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name in ("apt-get", "dpkg", "flock"):
            does = programs.get(name.replace("-", "_"), f'echo "{name} $*" >> {tmp_path}/calls')
            (folder / name).write_text(f"#!/bin/sh\n{does}\n")
            (folder / name).chmod(0o755)
        (command,) = lines(install(tuple(change("package", name) for name in names)))
        return subprocess.run(
            ["/bin/sh", "-c", command.replace("/var/lib/cascade/packages-lock", str(lock))],
            env={"PATH": f"{folder}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run


def test_all_missing_packages_come_at_once_from_fresh_lists(
    packages: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = packages("curl", "iproute2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    turn, lists, installed = (tmp_path / "calls").read_text().splitlines()
    assert turn == "flock -w 900 9"
    assert lists.startswith("apt-get -y -o DPkg::Lock::Timeout=600 ")
    assert lists.endswith(" update")
    options = ["--no-install-recommends", "--no-remove", "--no-upgrade"]
    assert installed.split()[-7:] == ["install", *options, "--", "curl", "iproute2"]


def test_what_was_left_half_configured_is_mended_once_it_stands_in_the_way(
    packages: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    mended = tmp_path / "mended"
    interrupted = f'echo "$*" | grep -q " install " && ! test -e {mended} && echo interrupted && exit 100'
    done = packages(
        "curl", apt_get=f"{interrupted}\nexit 0", dpkg=f'test "$*" = "--configure -a" && : > {mended}'
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert mended.exists()


def test_an_installation_that_fails_again_tells_all_that_was_said(
    packages: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    held = "dpkg frontend lock was locked by another process with pid 7"
    done = packages(
        "curl",
        apt_get='case "$*" in *update*) ;; *) echo no lock; exit 100; esac',
        dpkg=f"echo {held}; exit 2",
    )
    assert (done.returncode, done.stdout) == (1, f"no lock\n{held}\n")


def test_an_earlier_installation_is_waited_for_with_an_end(
    packages: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    path = tmp_path / "state" / "packages-lock"
    path.parent.mkdir()
    with path.open("w") as earlier:
        fcntl.flock(earlier, fcntl.LOCK_EX)
        done = packages("curl", flock='test "$*" = "-w 900 9" && PATH=/usr/bin:/bin exec flock -w 0.1 9')
    assert done.returncode == 1
    assert (
        "packages-lock: an installation that an earlier run began has not ended in 15 minutes" in done.stdout
    )
    assert not (tmp_path / "calls").exists()


def test_nobody_else_can_hold_up_an_installation(
    packages: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    umask = os.umask(0o022)
    packages("curl", apt_get=f"touch {tmp_path}/installed")
    os.umask(umask)
    modes = [
        stat.S_IMODE((tmp_path / name).stat().st_mode)
        for name in ("state", "state/packages-lock", "installed")
    ]
    assert modes == [0o755, 0o600, 0o644]


def test_a_place_for_the_lock_that_cannot_be_made_is_told(
    packages: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("")
    done = packages("curl")
    assert done.returncode != 0
    assert str(tmp_path / "state") in done.stderr
    assert not (tmp_path / "calls").exists()


def test_what_an_installation_says_is_told_when_it_fails(
    packages: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = packages("curl", apt_get="echo no room >&2; exit 100")
    assert done.returncode == 1
    assert done.stdout == "no room\n"


def test_an_installation_has_more_time_than_other_commands(pc2: Callable[..., Host]) -> None:
    pc2()
    (command,) = install((change("package", "curl"),))
    assert command.connector_arguments["_timeout"] > COMMAND_S


Carried = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def carried(pc2: Callable[..., Host]) -> Carried:
    """Runs what an operation yields on this machine; less of its input arrives where `bytes_` says so."""
    pc2()

    def run(made: Change, bytes_: int | None = None, **how: Any) -> subprocess.CompletedProcess[str]:
        (command,) = write_file((made,))
        assert isinstance(command, StringCommand)
        return subprocess.run(
            ["/bin/sh", "-c", command.get_raw_value()],
            input=str(command.connector_arguments.get("_stdin", ""))[:bytes_],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            **how,
        )

    return run


OWNER, GROUP = str(os.getuid()), str(os.getgid())


def file_of(path: Path, content: str, mode: str = "640") -> Change:
    return change("file", str(path), content=content, mode=mode, owner=OWNER, group=GROUP)


def test_a_file_comes_whole_with_its_mode_in_a_folder_of_its_own(carried: Carried, tmp_path: Path) -> None:
    path = tmp_path / "a.d" / "b.conf"
    for content in ("a text\nof two lines", ""):
        assert carried(file_of(path, content)).returncode == 0
        assert path.read_text() == content
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.parent.stat().st_mode & 0o777 == 0o755
    assert [found.name for found in path.parent.iterdir()] == ["b.conf"]


def test_who_has_the_old_file_open_reads_the_old_file(carried: Carried, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with path.open() as opened:
        carried(file_of(path, "new")).check_returncode()
        assert opened.read() == "old"
    assert path.read_text() == "new"


def no_more_than(count: int) -> Callable[[], None]:
    """A disk that has room for so many bytes."""
    return partial(resource.setrlimit, resource.RLIMIT_FSIZE, (count, count))


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "a connection that is cut": ({"bytes_": 40}, "a did not arrive whole"),
    "a disk that is full": ({"preexec_fn": no_more_than(100)}, "File size limit exceeded"),
}


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(("fault", "reason"), FAULTS.values(), ids=FAULTS.keys())
def test_the_old_file_stays_whole(
    fault: dict[str, Any], reason: str, in_place: bool, carried: Carried, tmp_path: Path
) -> None:
    path, content = tmp_path / "a", "new " * 300
    path.write_text("old")
    made = config_file(str(path), content, OWNER, GROUP) if in_place else file_of(path, content)
    done = carried(made, **fault)
    assert done.returncode != 0
    assert reason in done.stderr
    assert f"{path} could not be written and is as it was: mend what is said above" in done.stderr
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["a"]


def test_what_a_killed_one_left_beside_is_no_hindrance(carried: Carried, tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "a", tmp_path / "elsewhere"
    (tmp_path / "a.cascade-new").symlink_to(elsewhere)
    carried(file_of(path, "new")).check_returncode()
    assert path.read_text() == "new"
    assert not elsewhere.exists()


def test_the_content_is_in_no_command(pc2: Callable[..., Host]) -> None:
    host = pc2()
    wanted = {"content": "a planted secret\n", "mode": "600", "owner": "root", "group": "root"}
    commands = lines(write_file((change("file", "/etc/a", **wanted), config_file("/a", "a planted secret"))))
    encoded = base64.b64encode(b"a planted").decode()[:10]
    assert not any(text in command for command in (*commands, *told(host)) for text in ("planted", encoded))


CONFIGS = "/var/lib/cascade/configs"


def config_file(path: str, data: str | None, owner: str = "0", group: str = "0", mode: str = "444") -> Change:
    """A file for host containers; without its data it comes from a release."""
    said = {"config": Path(path).name, "owner": owner, "group": group, "mode": mode}
    content = {} if data is None else {"data": base64.b64encode(data.encode()).decode()}
    return change("file", path, **said, **content)


def test_a_file_that_nobody_reads_is_removed(pc2: Callable[..., Host]) -> None:
    pc2()
    stray = Change(Key("pc2", "file", f"{CONFIGS}/a b"), "remove", (), {})
    assert lines(write_file((stray,))) == [f"rm -f -- '{CONFIGS}/a b'"]


def test_a_config_file_that_was_written_over_is_the_same_file_to_who_has_it_open(
    carried: Carried, tmp_path: Path
) -> None:
    """What a container has mounted is the file, not its name."""
    path = tmp_path / "a"
    path.write_text("changed by hand")
    with path.open() as mounted:
        carried(config_file(str(path), "right", OWNER, GROUP, "400")).check_returncode()
        assert mounted.read() == "right"
    assert path.stat().st_mode & 0o777 == 0o400
    assert [found.name for found in tmp_path.iterdir()] == ["a"]


def test_without_its_content_at_hand_a_config_file_comes_from_the_swarm(
    pc2: Callable[..., Host],
    run: LocalRun,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pc2()
    monkeypatch.setattr("operations.host.system.Run.of", lambda _: run)
    engine.answers = {"/v1.44/configs/a-1": {"ID": "c1", "Spec": {"Data": "cmlnaHQ="}}}
    (command,) = write_file((config_file(f"{CONFIGS}/a-1", None),))
    assert base64.b64decode(str(command.connector_arguments["_stdin"])) == b"right"


def test_a_value_that_differs_is_set(pc2: Callable[..., Host]) -> None:
    pc2({"sysctl": "net.core.somaxconn = 128"})
    assert lines(set_sysctl((change("sysctl", "net.core.somaxconn", value="4096"),))) == [
        "sysctl net.core.somaxconn=4096"
    ]


@pytest.mark.parametrize(
    ("shown", "value"),
    [("4096", "4096"), ("2377,4789", "2377,4789"), ("4096\t131072\t6291456", "4096 131072 6291456")],
)
def test_a_value_that_is_there_already_is_not_set(shown: str, value: str, pc2: Callable[..., Host]) -> None:
    pc2({"sysctl": f"net.some.setting = {shown}"})
    assert lines(set_sysctl((change("sysctl", "net.some.setting", value=value),))) == []


SHELL_CASES: dict[str, tuple[Commands, Callable[[str], Change]]] = {
    "a package": (install, lambda text: change("package", text)),
    "a file's path": (
        write_file,
        lambda text: change("file", f"/{text}", content="", mode="644", owner="root", group="root"),
    ),
    "a file's owner": (
        write_file,
        lambda text: change("file", "/etc/a", content="", mode="644", owner=text, group=text),
    ),
    "a config's path": (write_file, lambda text: config_file(f"/{text}", "a")),
    "a config's mode": (write_file, lambda text: config_file("/a", "a", mode=text)),
    "a config's owner": (write_file, lambda text: config_file("/a", "a", owner=text)),
    "a stray file": (
        write_file,
        lambda text: Change(Key("pc2", "file", f"/{text}"), "remove", (), {}),
    ),
    "a kernel setting": (set_sysctl, lambda text: change("sysctl", text, value="1")),
    "a kernel setting's value": (set_sysctl, lambda text: change("sysctl", "a.b", value=text)),
}
PROGRAMS = ("rm", "sh", "sysctl", "touch", "x")


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[list[str]], list[list[str]]]:
    """Runs commands in a shell where every program only writes down how it was called."""
    programs, calls = tmp_path / "bin", tmp_path / "calls"
    programs.mkdir()
    for name in PROGRAMS:
        program = programs / name
        program.write_text(f'#!/bin/sh\nfor a in {name} "$@"; do printf \'%s\\0\' "$a"; done >> {calls}\n')
        program.chmod(0o755)

    def run(commands: list[str]) -> list[list[str]]:
        found = []
        for command in commands:
            calls.unlink(missing_ok=True)
            subprocess.run(
                ["/bin/sh", "-c", command], cwd=tmp_path, env={"PATH": str(programs)}, check=True, timeout=5
            )
            found.append(calls.read_text().split("\0")[:-1])
        return found

    return run


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(("operation", "made"), SHELL_CASES.values(), ids=SHELL_CASES.keys())
def test_hostile_text_reaches_its_program_as_one_argument(
    operation: Commands,
    made: Callable[[str], Change],
    text: str,
    pc2: Callable[..., Host],
    shell: Callable[[list[str]], list[list[str]]],
) -> None:
    pc2()
    calls = shell(lines(operation((made(text),))))
    assert not any(call[0] in ("touch", "x") for call in calls)
    assert any(text in argument for call in calls for argument in call)
    for call in calls:
        assert "touch" not in call


OWNERS = '{"debug": true, "log-driver": "local"}'
STOPPED = {"systemctl is-active": {"success": False}}


def settings_written(host: Host) -> Any:
    """The settings that the host was given on standard input, to put beside the file."""
    assert isinstance(host.connector, Machine)
    written = {command: given for command, given in host.connector.inputs.items() if given}
    command, content = next((command, str(given)) for command, given in written.items())
    assert shlex.split(command)[-5:][:1] + shlex.split(command)[-1:] == [DAEMON_SETTINGS, "beside"]
    return json.loads(base64.b64decode(content))


def test_ours_are_merged_into_the_owners(pc2: Callable[..., Host]) -> None:
    host = pc2({"|| cat": OWNERS, **STOPPED})
    apply_settings(Run.of(host.state), host, change("daemon-settings", DAEMON_SETTINGS, icc=False))
    assert settings_written(host) == {"debug": True, "log-driver": "local", "icc": False}


def test_ours_win(pc2: Callable[..., Host]) -> None:
    host = pc2({"|| cat": OWNERS, **STOPPED})
    ours = {"log-driver": "json-file"}
    apply_settings(Run.of(host.state), host, change("daemon-settings", DAEMON_SETTINGS, **ours))
    assert settings_written(host) == {"debug": True, "log-driver": "json-file"}


def test_a_runtime_of_the_owners_stays_beside_ours(pc2: Callable[..., Host]) -> None:
    host = pc2({"|| cat": '{"runtimes": {"kata": {}}}', **STOPPED})
    ours: dict[str, Any] = {"runtimes": {"nvidia": {}}}
    apply_settings(Run.of(host.state), host, change("daemon-settings", DAEMON_SETTINGS, **ours))
    assert settings_written(host) == {"runtimes": {"kata": {}, "nvidia": {}}}


@pytest.mark.parametrize("text", [*HOSTILE, "-n", "%s\\n"])
def test_hostile_values_are_quoted(text: str, pc2: Callable[..., Host]) -> None:
    host = pc2(STOPPED)
    apply_settings(Run.of(host.state), host, change("daemon-settings", DAEMON_SETTINGS, **{text: text}))
    assert settings_written(host) == {text: text}


def test_they_are_tried_before_they_replace_the_owners(pc2: Callable[..., Host]) -> None:
    host = pc2({"dockerd --validate": {"success": False, "stderr": "no such key"}})
    with pytest.raises(WorkFailed, match="no such key"):
        apply_settings(Run.of(host.state), host, change("daemon-settings", DAEMON_SETTINGS, icc=False))
    assert not any(command.startswith("rm -f") or "restart" in command for command in told(host))


def test_an_engine_that_is_not_there_yet_is_neither_asked_nor_restarted(pc2: Callable[..., Host]) -> None:
    host = pc2({"command -v dockerd": {"success": False}, **STOPPED})
    apply_settings(Run.of(host.state), host, change("daemon-settings", DAEMON_SETTINGS, icc=False))
    assert not any("--validate" in command or "restart" in command for command in told(host))
    assert any(
        command.endswith(f"mv -T {DAEMON_SETTINGS}.cascade-new {DAEMON_SETTINGS}") for command in told(host)
    )


def test_when_the_engine_does_not_start_the_old_ones_come_back(pc2: Callable[..., Host]) -> None:
    host = pc2(
        {
            "systemctl restart": {"success": False},
            "journalctl": "unable to configure the Docker daemon",
        }
    )
    with pytest.raises(WorkFailed):
        apply_settings(Run.of(host.state), host, change("daemon-settings", DAEMON_SETTINGS, icc=False))
    back = f"mv -T {DAEMON_SETTINGS}.cascade-old {DAEMON_SETTINGS}; else rm -f {DAEMON_SETTINGS}; fi"
    assert any(command.endswith(back) for command in told(host))


def test_the_owners_secrets_are_in_no_command(pc2: Callable[..., Host]) -> None:
    proxies = '{"proxies": {"http-proxy": "http://me:planted@192.0.2.1"}}'
    host = pc2({"|| cat": proxies, **STOPPED})
    apply_settings(Run.of(host.state), host, change("daemon-settings", DAEMON_SETTINGS, icc=False))
    assert not any("planted" in command for command in told(host))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_units_name_is_quoted(text: str, pc2: Callable[..., Host]) -> None:
    host = pc2()
    start_unit(Run.of(host.state), host, change("unit", text))
    quoted = shlex.quote(text)
    assert told(host) == [f"systemctl unmask {quoted} && systemctl enable --now {quoted}"]


def test_a_unit_that_does_not_start_says_what_was_tried(pc2: Callable[..., Host]) -> None:
    host = pc2({"systemctl": {"success": False, "stderr": "Unit chrony.service not found."}})
    with pytest.raises(WorkFailed, match=r"systemctl unmask chrony.service.*Unit chrony.service not found."):
        start_unit(Run.of(host.state), host, change("unit", "chrony.service"))


def saying(snapshots: Snapshots) -> dict[str, Responses]:
    """Hosts that answer the one question with these snapshots, and the preflight's as in the lab."""
    readings = captured_readings("converged" if snapshots["mainpc"]["docker"] else "bare")
    return {
        host: {"python3 -IS -": packed(snapshot), "preflight": packed(readings[host])}
        for host, snapshot in snapshots.items()
    }


def packed(answer: Any) -> str:
    return base64.b64encode(zlib.compress(json.dumps(answer).encode())).decode()


def prepare(state: State) -> list[tuple[str, set[str]]]:
    """Runs deploy.py's stages on every host; the operations in order, with the hosts that they change."""
    for host in state.inventory:
        with ctx_host.use(host):
            for stage in get_args(Stage):
                carry_out(stage)
    return [
        (
            next(iter(state.op_meta[op].names)),
            {
                host.name
                for host in state.inventory
                if op in state.ops[host] and state.ops[host][op].operation_meta.will_change
            },
        )
        for op in state.get_op_order()  # type: ignore[no-untyped-call]
    ]


def test_on_converged_hosts_there_is_no_operation(
    machines: Callable[..., State], converged: Snapshots
) -> None:
    state = machines(**saying(converged))
    assert prepare(state) == []
    for host in state.inventory:
        assert told(host) == ["python3 -IS -"]


def test_the_dry_run_of_bare_hosts_names_every_step_and_does_nothing(
    machines: Callable[..., State], bare: Snapshots
) -> None:
    state = machines(**saying(bare))
    prepared = prepare(state)
    steps = [step for steps in Run.of(state).plan().steps.values() for step in steps]
    assert prepared == [(step.name, set(step.work)) for step in steps]
    for host in state.inventory:
        assert told(host) == ["python3 -IS -", "preflight"]
        assert state.ops[host].keys() == state.op_meta.keys()


def test_only_the_host_that_differs_is_touched(machines: Callable[..., State], converged: Snapshots) -> None:
    converged["pc2"]["sysctls"]["net.core.somaxconn"] = "128"
    converged["pc2"]["files"][SYSCTL_FILE]["mode"] = "666"
    state = machines(**saying(converged))
    assert prepare(state) == [
        (f"update file {SYSCTL_FILE}", {"pc2"}),
        ("update sysctl net.core.somaxconn", {"pc2"}),
    ]
    run_ops(state)
    mainpc, pc2 = state.inventory
    assert told(mainpc) == ["python3 -IS -", "preflight"]
    written, *_, set_ = told(pc2)[2:]
    assert shlex.split(written)[4] == SYSCTL_FILE
    assert set_ == "sysctl net.core.somaxconn=4096"
    assert isinstance(pc2.connector, Machine)
    content = base64.b64decode(str(pc2.connector.inputs[written])).decode()
    assert "net.core.somaxconn = 4096\n" in content
    assert state.failed_hosts == set()


def test_work_that_fails_stops_every_host(
    machines: Callable[..., State], converged: Snapshots, caplog: pytest.LogCaptureFixture
) -> None:
    converged["pc2"]["units"]["docker.service"]["enabled"] = False
    responses = saying(converged)
    responses["pc2"]["systemctl"] = {"success": False, "stderr": "a reason"}
    state = machines(**responses)
    prepare(state)
    run_ops(state)
    assert [host.name for host in state.failed_hosts] == ["pc2"]
    assert Run.of(state).code == 1
    started = "systemctl unmask docker.service docker.socket && systemctl enable --now docker.service"
    assert f"{started}: a reason" in caplog.text


def test_hosts_that_cannot_be_understood_end_the_run_before_any_operation(
    machines: Callable[..., State], converged: Snapshots, caplog: pytest.LogCaptureFixture
) -> None:
    converged["mainpc"]["files"][DAEMON_SETTINGS]["content"] = "{"
    converged["pc2"]["docker"] = {"error": "TimeoutError: timed out"}
    state = machines(**saying(converged))
    with pytest.raises(Stopped) as stopped:
        prepare(state)
    assert (stopped.value.code, Run.of(state).code) == (1, 1)
    assert f"mainpc: {DAEMON_SETTINGS}: " in caplog.text
    assert "pc2: Docker engine: TimeoutError: timed out" in caplog.text
    assert state.op_meta == {}


NONSENSE = {
    "a sentence": "not base64",
    "other data": "bm90IHpsaWI=",
    "no JSON": base64.b64encode(zlib.compress(b"no JSON")).decode(),
}


@pytest.mark.parametrize("answer", ["", {"success": False, "stderr": "sudo: a password is required"}])
def test_a_host_that_does_not_answer_is_unknown(
    answer: Any, machines: Callable[..., State], converged: Snapshots, caplog: pytest.LogCaptureFixture
) -> None:
    state = machines(**saying(converged) | {"pc2": {"python3 -IS -": answer}})
    with pytest.raises(Stopped):
        prepare(state)
    assert "pc2: state: could not be read" in caplog.text
    assert "mainpc: state" not in caplog.text
    assert state.failed_hosts == set()


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE.keys())
def test_a_host_that_answers_nonsense_is_unknown(
    answer: str,
    machines: Callable[..., State],
    converged: Snapshots,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(Stopped):
        prepare(machines(**saying(converged) | {"pc2": {"python3 -IS -": answer}}))
    assert "pc2: state: could not be read" in caplog.text


def test_prepared_work_is_a_marker_and_none_is_nothing(
    machines: Callable[..., State], bare: Snapshots
) -> None:
    state = machines(**saying(bare))
    prepare(state)
    for host in state.inventory:
        with ctx_host.use(host):
            for operation in state.ops[host].values():
                marker = ["true"] if operation.operation_meta.will_change else []
                assert lines(operation.command_generator()) == marker


def recorded(state: State) -> list[tuple[str, str, str, str]]:
    """What was written down: where, what, and what came of it."""
    return [
        (entry.host, f"{entry.action} {entry.kind} {entry.name}", entry.result, entry.reason)
        for entry in Run.of(state).trail.entries
    ]


def test_what_is_carried_out_is_written_down(machines: Callable[..., State], converged: Snapshots) -> None:
    converged["pc2"]["sysctls"]["net.core.somaxconn"] = "128"
    converged["mainpc"]["files"][SYSCTL_FILE]["mode"] = "666"
    state = machines(**saying(converged))
    run = Run.of(state)
    run.join()
    prepare(state)
    assert recorded(state) == []
    run_ops(state)
    assert sorted(recorded(state)) == [
        ("mainpc", f"update file {SYSCTL_FILE}", "done", ""),
        ("pc2", "update sysctl net.core.somaxconn", "done", ""),
    ]
    assert len(run.plan().changes) == 2


def test_a_command_of_pyinfras_own_that_fails_is_written_down(
    machines: Callable[..., State], converged: Snapshots
) -> None:
    converged["pc2"]["sysctls"]["net.core.somaxconn"] = "128"
    responses = saying(converged)
    responses["pc2"]["sysctl net.core"] = {"success": False, "stderr": "a reason"}
    state = machines(**responses)
    Run.of(state).join()
    prepare(state)
    run_ops(state)
    assert recorded(state) == [("pc2", "update sysctl net.core.somaxconn", "failed", COMMAND_FAILED)]


def test_work_that_fails_is_written_down_with_its_reason(
    machines: Callable[..., State], converged: Snapshots
) -> None:
    converged["pc2"]["units"]["docker.service"]["enabled"] = False
    responses = saying(converged)
    responses["pc2"]["systemctl"] = {"success": False, "stderr": "a reason"}
    state = machines(**responses)
    prepare(state)
    run_ops(state)
    ((host, what, result, reason),) = recorded(state)
    assert (host, what, result) == ("pc2", "update unit docker.service", "failed")
    assert reason.endswith("systemctl enable --now docker.service: a reason")


@pytest.mark.parametrize("kind", ["sysctl", "unit"])
def test_nothing_more_is_carried_out_by_a_run_that_lost_its_lock(
    kind: str, machines: Callable[..., State], converged: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "sysctl":
        converged["pc2"]["sysctls"]["net.core.somaxconn"] = "128"
    else:
        converged["pc2"]["units"]["docker.service"]["enabled"] = False
    state = machines(**saying(converged))
    run = Run.of(state)

    def check() -> None:
        raise Lost("this run's lock is gone")

    monkeypatch.setattr(run.lock, "check", check)
    prepare(state)
    before = told(state.inventory.get_host("pc2")).copy()
    run_ops(state)
    assert told(state.inventory.get_host("pc2")) == before
    assert (run.code, recorded(state)) == (1, [])
