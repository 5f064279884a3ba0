"""The report of a deployment, however it ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.host import Host

from cascade.exit_codes import ERROR, GATE_FAILED, INVALID, UNREACHABLE
from cascade.model.fleet import Fleet
from cascade.planning.audit import Deed
from cascade.planning.plan import make_plan
from cascade.planning.steps import Gate
from cascade.planning.target import target_of
from operations.report import reported, write_report
from operations.swarm.diagnosis import diagnose_refusal
from tests.operations.conftest import LocalRun, Snapshots
from tests.schemas import valid


@pytest.fixture
def written(run: LocalRun, fleet: Fleet, converged: Snapshots, tmp_path: Path) -> Any:
    """Gives what a run reports of itself that had planned for hosts in which all is well."""

    def read() -> Any:
        run.inventory_file = "inventories/lab.py"
        assert write_report(run, str(tmp_path / "report.json"), make_plan(target_of(fleet), converged))
        return valid("report", (tmp_path / "report.json").read_text())

    return read


def test_it_names_the_run_the_release_and_every_change(run: LocalRun, host: Host, written: Any) -> None:
    config, release = Deed("create", "config", "settings"), Deed("create", "release", "7")
    with run.on_record(host, release):
        pass
    with pytest.raises(OSError, match="disk is full"), run.on_record(host, config):
        raise OSError("the disk is full")
    run.ended = True
    report = written()
    assert report["release"] == 7
    assert report["inventory"].startswith("/")
    assert (report["run"], report["exit_code"], report["purpose"]) == (run.id, 0, "deploy")
    assert [(one["result"], one["reason"]) for one in report["changes"]] == [
        ("done", ""),
        ("failed", "the disk is full"),
    ]


def test_a_run_that_did_not_come_to_its_end_is_no_success(run: LocalRun, written: Any) -> None:
    assert written()["exit_code"] == ERROR
    run.ended = True
    assert written()["exit_code"] == 0
    run.state.failed_hosts.update(run.state.inventory)
    assert written()["exit_code"] == ERROR


def test_it_has_the_diagnoses_and_the_exit_code(run: LocalRun, fleet: Fleet, written: Any) -> None:
    (wave, *_) = target_of(fleet).waves
    (one, *_) = wave.members
    run.diagnoses.append(diagnose_refusal(run, Gate(wave, {one.name: 1}, 0.0), one, "no"))
    run.code = GATE_FAILED
    report = written()
    assert report["exit_code"] == GATE_FAILED
    assert [(found["name"], found["cause"]) for found in report["diagnoses"]] == [(one.name, "refused")]


def test_one_that_cannot_be_written_is_told(
    run: LocalRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    assert not write_report(run, str(tmp_path / "file" / "report.json"), None)
    assert "the report cannot be written" in caplog.text


@pytest.mark.parametrize(("end", "code"), [(UNREACHABLE, UNREACHABLE), (0, 0), (None, 0), ("a reason", 1)])
def test_a_look_that_ends_the_deployment_is_reported(end: Any, code: int, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with pytest.raises(SystemExit), reported(path, Path("lab.py"), "deploy"):
        raise SystemExit(end)
    report = valid("report", path.read_text())
    assert (report["exit_code"], report["run"], report["changes"]) == (code, "", [])


def test_a_deployment_that_goes_on_reports_for_itself(tmp_path: Path) -> None:
    with reported(tmp_path / "report.json", Path("lab.py"), "deploy"):
        pass
    assert not (tmp_path / "report.json").exists()


def test_apply_reports_mistakes_in_the_files_too(tmp_path: Path) -> None:
    (tmp_path / "lab.py").write_text("mainpc = ['mainpc']\n")
    cascade = Path(sys.executable).with_name("cascade")
    argv = [str(cascade), "apply", "lab.py", "--yes", "--report", "folder/report.json"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == INVALID, done.stderr
    assert valid("report", (tmp_path / "folder/report.json").read_text())["exit_code"] == INVALID
