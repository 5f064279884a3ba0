"""One run: what its files must say, its closing line, and the code it ends with."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.config import Config
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State, StateStage

from cascade.exit_codes import ERROR, GATE_FAILED, INVALID, ROLLED_BACK, UNREACHABLE
from cascade.model.fleet import Fleet
from cascade.model.strict import InvalidFiles
from cascade.planning.plan import make_plan
from cascade.planning.preflight import Finding
from cascade.planning.target import target_of
from operations.fleet import load_fleet
from operations.run import Run, Stopped, WorkFailed
from operations.signals import SIGNALS
from tests.fleets import ROOT, group_data, lab_fleet
from tests.operations.conftest import Snapshots

ADDRESSES = {"mainpc": "10.203.0.11", "pc2": "10.203.0.12"}


def exported(*names: str) -> dict[str, Any]:
    """What these files of group_data export, the later ones winning; pyinfra drops what they import."""
    return {
        name: value
        for file in names
        for name, value in group_data(file).items()
        if not isinstance(value, type)
    }


@pytest.fixture
def inventory(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Inventory]:
    """The lab's inventory as pyinfra puts it together; what is given wins."""
    monkeypatch.chdir(ROOT)

    def build(shared: dict[str, Any] | None = None, **hosts: dict[str, Any]) -> Inventory:
        images = dict(lab_fleet().settings.images)
        common = exported("all", "lab") | {"images": images, "ssh_user": "me"} | (shared or {})
        names = [
            (name, exported(name) | {"swarm_address": address} | hosts.get(name, {}))
            for name, address in ADDRESSES.items()
        ]
        return Inventory((names, common))  # type: ignore[no-untyped-call]

    return build


def problems(inventory: Inventory) -> list[str]:
    with pytest.raises(InvalidFiles) as invalid:
        load_fleet(inventory)
    return [str(problem) for problem in invalid.value.problems]


def test_the_labs_files_make_the_labs_fleet(inventory: Callable[..., Inventory]) -> None:
    fleet, expected = load_fleet(inventory()), lab_fleet()
    assert fleet.settings == expected.settings
    assert fleet.hosts == expected.hosts
    assert fleet.workloads == expected.workloads


def test_every_problem_of_hosts_settings_and_groups_comes_at_once(
    inventory: Callable[..., Inventory], tmp_path: Path
) -> None:
    found = problems(
        inventory(
            {"stacks": str(tmp_path), "networks": ({"name": "a", "subnet": "here"},)},
            mainpc={"swarm_role": "boss"},
            pc2={"reservation_scale": 0, "node_label": {"system": "pc2"}},
        )
    )
    assert {problem.rsplit(": ", 1)[0] for problem in found} == {
        "inventory: mainpc.swarm_role",
        "inventory: pc2.node_label",
        "inventory: pc2.reservation_scale",
        "group_data/all.py: networks[0].subnet",
        str(tmp_path),
    }


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("swarm_adress", "write swarm_address"),
        ("Packages", "write packages"),
        ("sshuser", "write ssh_user"),
        ("ssh_prot", "write ssh_port"),
        ("name", "remove it, or begin it with _ if it is a value of your own"),
    ],
)
def test_a_name_that_nothing_reads_is_a_mistake(
    name: str, fix: str, inventory: Callable[..., Inventory]
) -> None:
    found = problems(inventory(pc2={name: 1}))
    assert found == [f"inventory: pc2.{name}: nothing reads this; {fix}"]


@pytest.mark.parametrize("hostname", ["a..b", f"{'a' * 64}.lan"])
def test_a_hostname_that_nothing_can_look_up_is_a_mistake(
    hostname: str, inventory: Callable[..., Inventory]
) -> None:
    (found,) = problems(inventory(pc2={"ssh_hostname": hostname}))
    assert "pc2.ssh_hostname" in found
    assert "is no address or name of a host" in found


def test_names_of_pyinfra_and_names_with_an_underscore_are_nobodys_mistake(
    inventory: Callable[..., Inventory],
) -> None:
    load_fleet(inventory({"ssh_connect_retries": 1, "_shared": object()}))


def test_things_that_are_right_alone_must_fit_together(inventory: Callable[..., Inventory]) -> None:
    found = problems(inventory(pc2={"swarm_role": "manager", "swarm_address": ADDRESSES["mainpc"]}))
    assert found == [
        (
            "inventory: pc2.swarm_role: exactly one host is the manager, and mainpc is one already;"
            ' write swarm_role = "worker"'
        ),
        (
            "inventory: pc2.swarm_address: 10.203.0.11 is the address of mainpc too;"
            " write each host's own address"
        ),
    ]


def test_a_limit_that_fits_no_host_is_a_mistake_and_no_success(run: Run) -> None:
    config = Config()  # type: ignore[no-untyped-call]
    run.state.init(run.state.inventory, config, initial_limit=[])
    with pytest.raises(Stopped) as stopped:
        run.join()
    assert stopped.value.code == INVALID
    assert stopped.value.messages == (
        "no host is left by --limit: name one of mainpc, pc2, or a group of the inventory",
    )


@pytest.fixture
def run(fleet: Fleet) -> Run:
    """A run that has not begun anything."""
    run = Run(State(Inventory((list(ADDRESSES), {})), Config()))  # type: ignore[no-untyped-call]
    run.fleet = fleet
    return run


def planned(run: Run, snapshots: Snapshots, findings: tuple[Finding, ...] = ()) -> Run:
    """The run with the plan that it makes of these snapshots, after a preflight that found these."""
    run.snapshots = lambda *_: snapshots  # type: ignore[method-assign]
    run.preflight = lambda *_: findings  # type: ignore[method-assign]
    assert run.plan() is run.plan()
    return run


def test_the_closing_line_says_what_it_took(run: Run, converged: Snapshots) -> None:
    run.seconds.update({"start-up": 0.25, "connect": 0.1, "facts": 0.084, "gates": 12.0})
    run.execs.update({"pc2": 1, "mainpc": 2})
    run.writes = 3
    planned(run, converged).seconds |= {"facts": 0.084, "planning": 0.02}
    assert run.summary() == (
        "in sync; seconds: start-up 0.25, connect 0.10, facts 0.08, planning 0.02, changes 0.00, "
        "gates 12.00; SSH execs: mainpc 2, pc2 1; API writes: 3"
    )


def test_the_closing_line_says_how_it_ended(run: Run, bare: Snapshots, fleet: Fleet) -> None:
    number = len(make_plan(target_of(fleet), bare).changes)
    planned(run, bare)
    run.state.set_stage(StateStage.Prepare)
    assert run.summary().startswith(f"{number} changes planned; ")
    run.state.set_stage(StateStage.Execute)
    assert run.summary().startswith(f"{number} changes made; ")
    run.state.failed_hosts.update(run.state.inventory)
    assert run.summary().startswith("not finished; ")
    run.code = GATE_FAILED
    assert run.summary().startswith("failed with exit code 4; ")


def test_a_run_that_only_waits_behind_gates_does_not_call_itself_in_sync(
    run: Run, converged: Snapshots
) -> None:
    for task in converged["mainpc"]["docker"]["tasks"]:
        task["Status"]["State"] = "starting"
    assert not planned(run, converged).summary().startswith("in sync")


def test_a_refused_plan_ends_the_run_with_every_reason(
    run: Run, converged: Snapshots, caplog: pytest.LogCaptureFixture
) -> None:
    converged["mainpc"]["docker"]["cluster"]["SubnetSize"] = 20
    converged["pc2"]["docker"]["swarm"]["NodeAddr"] = "192.0.2.7"
    with pytest.raises(Stopped) as stopped:
        planned(run, converged)
    assert (stopped.value.code, run.code) == (ERROR, ERROR)
    assert "mainpc: swarm mainpc: subnet_size 20 → 24" in caplog.text
    assert "pc2: swarm pc2: address 192.0.2.7 → 10.203.0.12" in caplog.text


WARNING = Finding("pc2", "disk", "warning", "little room", "make some")
FAULTS = (
    Finding("pc2", "clock", "error", "an hour behind", "set it"),
    Finding("mainpc", "docker", "error", "a snap", "remove it"),
)


def test_errors_of_the_preflight_end_the_run_and_warnings_are_told(
    run: Run, bare: Snapshots, caplog: pytest.LogCaptureFixture
) -> None:
    fine = Finding("pc2", "system", "ok", "as it should be")
    with pytest.raises(Stopped) as stopped:
        planned(run, bare, (fine, WARNING, *FAULTS))
    assert (stopped.value.code, run.code) == (ERROR, ERROR)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "pc2: disk: little room; make some"),
        ("ERROR", "pc2: clock: an hour behind; set it"),
        ("ERROR", "mainpc: docker: a snap; remove it"),
    ]


def test_warnings_of_the_preflight_hold_up_nothing(
    run: Run, bare: Snapshots, caplog: pytest.LogCaptureFixture
) -> None:
    assert planned(run, bare, (WARNING,)).plan().changes
    assert "pc2: disk: little room; make some" in caplog.text


def test_a_fleet_in_sync_needs_no_preflight(run: Run, converged: Snapshots) -> None:
    assert planned(run, converged, FAULTS).plan().changes == ()


def test_notes_and_differences_are_told(
    run: Run, converged: Snapshots, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    converged["pc2"]["sysctls"]["net.core.somaxconn"] = "128"
    planned(run, converged)
    assert "pc2: sysctl net.core.somaxconn: value 128 → 4096" in caplog.text
    assert "port 26002 is not published" in caplog.text


def test_no_terminal_obeys_what_a_host_says(
    run: Run, converged: Snapshots, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    converged["pc2"]["sysctls"]["net.core.somaxconn"] = "\x1b[2J\nall is well"
    planned(run, converged)
    with pytest.raises(Stopped):
        run.fail(ERROR, "pc2: it said:\n\tnothing\x1b[2J")
    assert "value \\x1b[2J\\nall is well → 4096" in caplog.text
    assert caplog.messages[-1] == "pc2: it said:\n        nothing\\x1b[2J"


def test_seconds_are_counted_although_the_work_failed(run: Run) -> None:
    with pytest.raises(WorkFailed), run.timed("changes"):
        raise WorkFailed("a reason")
    assert run.seconds["changes"] > 0


def test_work_fails_with_an_error_unless_it_says_otherwise() -> None:
    assert (WorkFailed("a reason").code, WorkFailed("a reason", GATE_FAILED).code) == (ERROR, GATE_FAILED)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder like this project's, with an inventory and group_data of its own; its hosts do not exist."""
    for name in ("config.py", "deploy.py", "operations", "cascade", "lab", "templates"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "group_data").mkdir()
    for path in (ROOT / "group_data").iterdir():
        if path.name != "__pycache__":
            (tmp_path / "group_data" / path.name).symlink_to(path)
    (tmp_path / "inventory.py").write_text(
        "_nowhere = {'ssh_hostname': '127.0.0.1', 'ssh_port': 9}\n"
        "mainpc = [('mainpc', {**_nowhere, 'swarm_address': '10.203.0.11'})]\n"
        "pc2 = [('pc2', {**_nowhere, 'swarm_address': '10.203.0.12'})]\n"
    )
    return tmp_path


def pyinfra(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """pyinfra's own command line in that folder, without a terminal."""
    return subprocess.run(
        [Path(sys.executable).with_name("pyinfra"), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_wrong_files_end_the_run_before_any_connection(folder: Path) -> None:
    (folder / "group_data" / "inventory.py").write_text(
        "images = {}\nsysctl = {'a.b': '1'}\nabsent = frozenset(('moon',))\n"
    )
    done = pyinfra(folder, "inventory.py", "deploy.py", "--dry", "--json")
    assert done.returncode == INVALID
    assert "group_data/inventory.py: sysctl: nothing reads this; write sysctls" in done.stderr
    assert "group_data/inventory.py: absent: moon is nothing a machine can lack here" in done.stderr
    assert "failed with exit code 64" in done.stderr
    assert "Traceback" not in done.stderr
    assert "127.0.0.1" not in done.stderr
    assert done.stdout == ""


MISTAKES = {
    "a model refuses its values": (
        "from cascade.model.fleet import Overlay\nnetworks = (Overlay(name='a', subnet='1', intern=True),)\n",
        ("networks[0].subnet: '1' is no IPv4 network", "networks[0].intern: there is no such setting"),
    ),
    "a name that is not a person's to give": ("name = 'x'\n", ("name: nothing reads this",)),
    "a folder that is none": ("stacks = 3\n", ("stacks: 3 is no folder with group files",)),
    "a key that is not there": ("ssh_key = '/no/such/key'\n", ("ssh_key: there is no key /no/such/key",)),
}


@pytest.mark.parametrize(("written", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_in_group_data_is_told_without_a_traceback(
    folder: Path, written: str, said: tuple[str, ...]
) -> None:
    (folder / "group_data" / "inventory.py").write_text(written)
    done = pyinfra(folder, "inventory.py", "deploy.py", "-y")
    assert done.returncode == INVALID
    for words in said:
        assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_what_holds_for_the_system_must_not_differ_between_hosts(folder: Path) -> None:
    (folder / "group_data" / "pc2.py").unlink()
    (folder / "group_data" / "pc2.py").write_text("swarm_role = 'worker'\nsystem = 'another'\n")
    done = pyinfra(folder, "inventory.py", "deploy.py", "-y")
    assert done.returncode == INVALID
    assert "group_data/pc2.py: system: differs between mainpc and pc2" in done.stderr


def test_without_a_terminal_nobody_is_asked(folder: Path) -> None:
    done = pyinfra(folder, "inventory.py", "deploy.py")
    assert done.returncode == INVALID
    assert "there is no terminal to ask on: add --yes to deploy; `pyinfra … --dry` looks" in done.stderr
    assert "Traceback" not in done.stderr


def test_hosts_that_are_not_there_are_all_named_with_a_code_of_their_own(folder: Path) -> None:
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        (folder / "group_data" / "inventory.py").write_text(
            "from cascade.model.image import RegistryImage\n"
            "_image = RegistryImage(reference='a@sha256:' + '0' * 64)\n"
            f"images = dict.fromkeys({list(group_data('lab')['images'])}, _image)\n"
            f"ssh_hostname = '127.0.0.1'\nssh_port = {nobody_listens.getsockname()[1]}\n"
        )
        (folder / "inventory.py").write_text(
            "mainpc = [('mainpc', {'swarm_address': '10.203.0.11'})]\n"
            "pc2 = [('pc2', {'swarm_address': '10.203.0.12'})]\n"
        )
        done = pyinfra(folder, "inventory.py", "deploy.py", "-y")
    assert done.returncode == UNREACHABLE
    for host in ADDRESSES:
        assert f"[{host}]" in done.stderr
    assert "failed with exit code 6" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("stage", "code", "signal", "said"),
    [
        (StateStage.Prepare, ERROR, "", []),
        (StateStage.Prepare, ERROR, "SIGINT", ["nothing was changed"]),
        (StateStage.Execute, GATE_FAILED, "", []),
        (StateStage.Execute, UNREACHABLE, "", ["next: pyinfra -y lab.py deploy.py"]),
        (StateStage.Disconnect, ERROR, "SIGINT", ["next: pyinfra -y lab.py deploy.py"]),
    ],
)
def test_a_run_that_was_cut_off_says_where_things_stand(
    stage: StateStage,
    code: int,
    signal: str,
    said: list[str],
    run: Run,
    converged: Snapshots,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SIGNALS, "asked", signal)
    planned(run, converged).inventory_file = "lab.py"
    run.state.set_stage(stage)
    run.code = code
    assert [*run._where_it_stands()] == said


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes that a run ends this process with, which goes on."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


def reporting(run: Run, monkeypatch: pytest.MonkeyPatch, becomes: BaseException | bool) -> Run:
    """The run of a fleet with `--report`, and what becomes of the report."""

    def write(*_: Any) -> bool:
        if isinstance(becomes, BaseException):
            raise becomes
        return becomes

    options = run.fleet.options.model_copy(update={"report": "report.json"})
    run.fleet = replace(run.fleet, options=options)
    monkeypatch.setattr("operations.run.write_report", write)
    return run


@pytest.mark.parametrize("code", [ROLLED_BACK, GATE_FAILED, UNREACHABLE])
def test_whatever_becomes_of_the_report_the_run_ends_with_its_own_code(
    code: int,
    run: Run,
    exits: list[int],
    monkeypatch: pytest.MonkeyPatch,
    converged: Snapshots,
    capsys: pytest.CaptureFixture[str],
) -> None:
    planned(run, converged).code = code
    for becomes in (True, False, ValueError("no report")):
        with suppress(ValueError):
            reporting(run, monkeypatch, becomes).finish()
    assert exits == [code] * 3
    assert capsys.readouterr().err.endswith("ValueError: no report\n")


@pytest.mark.parametrize(
    ("becomes", "codes"), [(True, []), (False, [ERROR]), (ValueError("no report"), [ERROR])]
)
def test_a_report_that_is_not_written_is_no_success(
    becomes: BaseException | bool,
    codes: list[int],
    run: Run,
    exits: list[int],
    monkeypatch: pytest.MonkeyPatch,
    converged: Snapshots,
) -> None:
    planned(reporting(run, monkeypatch, becomes), converged)
    with suppress(ValueError):
        run.finish()
    assert exits == codes
