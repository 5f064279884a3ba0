"""The units of a watch: systemd takes them, whatever the paths are called."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from cascade.watch.units import Scope, Watch, faults, metrics_of, render, seconds_of, watch_name

ODD = 'it\'s 100% "odd" $HOME ü; x'
WATCH = Watch(
    system="cascade",
    inventory=Path("/srv/cascade/inventories/home.py"),
    folder=Path("/srv/cascade"),
    program=Path("/srv/cascade/.venv/bin/cascade"),
    every="15m",
    scope="system",
    user="owner",
)
systemd_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze; tests/lab asks the test hosts' own"
)


def service(watch: Watch) -> str:
    return render(watch)[f"{watch.name}.service"]


def written(watch: Watch, folder: Path) -> list[str]:
    """The unit files in a folder, as arguments."""
    for name, text in render(watch).items():
        (folder / name).write_text(text)
    return [str(folder / name) for name in render(watch)]


def analyze(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
    return subprocess.run(
        ["systemd-analyze", *argv], env=environment, capture_output=True, text=True, check=False
    )


def oddly_named(tmp_path: Path, scope: Scope = "system") -> Watch:
    """A watch whose every path is hard to write into a unit."""
    folder = tmp_path / ODD
    folder.mkdir()
    program = tmp_path / "100% $HOME ü; x"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    inventory = folder / f"{ODD}.py"
    return replace(
        WATCH, inventory=inventory, folder=folder, program=program, scope=scope, metrics=folder / "metrics"
    )


@systemd_analyze
@pytest.mark.parametrize("scope", ["system", "user"])
def test_systemd_has_nothing_to_say_of_units_with_odd_paths(tmp_path: Path, scope: Scope) -> None:
    units = written(oddly_named(tmp_path, scope), tmp_path)
    done = analyze(tmp_path, *(["--user"] if scope == "user" else []), "verify", "--man=no", *units)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@systemd_analyze
def test_systemd_would_tell_of_a_program_that_is_not_there(tmp_path: Path) -> None:
    watch = oddly_named(tmp_path)
    watch.program.unlink()
    assert analyze(tmp_path, "verify", "--man=no", *written(watch, tmp_path)).returncode != 0


@systemd_analyze
def test_the_system_service_is_hardly_exposed(tmp_path: Path) -> None:
    unit, _ = written(WATCH, tmp_path)
    done = analyze(tmp_path, "security", "--offline=true", "--no-pager", "--threshold=14", unit)
    assert done.returncode == 0, done.stdout


def test_the_check_is_one_line_of_words() -> None:
    watch = replace(WATCH, metrics=Path("/var/lib/node exporter"))
    assert (
        'ExecStart=:"/srv/cascade/.venv/bin/cascade" drift'
        f' --publish %S/cascade-drift/{watch.name} "--metrics" "/var/lib/node exporter"'
        ' "--" "inventories/home.py"\n'
    ) in service(watch)


def test_an_inventory_outside_the_folder_is_named_in_full() -> None:
    assert '"/etc/home.py"' in service(replace(WATCH, inventory=Path("/etc/home.py")))


def test_specifiers_and_quotes_in_paths_are_taken_as_they_stand() -> None:
    text = service(replace(WATCH, folder=Path("/srv/100%h"), metrics=Path('/srv/"%i"')))
    assert "WorkingDirectory=/srv/100%%h\n" in text
    assert 'ReadWritePaths="/srv/\\"%%i\\""\n' in text


def test_a_system_service_runs_as_the_person_who_installs_it() -> None:
    assert "User=owner\n" in service(WATCH)
    assert "User=" not in service(replace(WATCH, scope="user"))


def test_a_user_service_asks_for_nothing_that_only_root_can_do() -> None:
    for line in ("CapabilityBoundingSet=", "PrivateDevices=yes", "After=network-online.target"):
        assert f"{line}\n" in service(WATCH)
        assert line not in service(replace(WATCH, scope="user"))


def test_drift_is_no_failure_of_the_unit() -> None:
    assert "SuccessExitStatus=2\n" in service(WATCH)


def test_two_inventories_have_two_names() -> None:
    here, there = Path("/srv/a/inventories/home.py"), Path("/srv/b/inventories/home.py")
    assert watch_name(here) != watch_name(there)
    assert watch_name(here) == watch_name(here)


def test_a_name_has_only_signs_that_systemd_takes_in_names() -> None:
    assert watch_name(Path("/srv/it's 100%.py")).startswith("cascade-drift-it_s_100_-")


@pytest.mark.parametrize(("every", "seconds"), [("1m", 60), ("15m", 900), ("2h", 7200), ("7d", 604800)])
def test_a_time_between_checks_has_a_unit(every: str, seconds: int) -> None:
    assert seconds_of(every) == seconds


@pytest.mark.parametrize("every", ["", "15", "0m", "15 m", "15m\n", "30s", "8d", "-1m", "\u0661m", "1h30m"])
def test_any_other_time_is_told_with_an_example(every: str) -> None:
    with pytest.raises(ValueError, match="write one like 15m"):
        seconds_of(every)


@pytest.mark.parametrize("name", ["a\nUser=root", "a\\", "a ", "a\x1b[0m", "a\u202e"])
def test_a_path_that_no_unit_can_hold_is_refused(name: str) -> None:
    (fault,) = faults(replace(WATCH, folder=Path("/srv", name), inventory=Path("/srv/home.py")))
    assert fault.startswith("the working folder: ")
    assert fault.isprintable()


@pytest.mark.parametrize("sign", ["'", '"'])
def test_a_program_whose_path_has_quotes_is_refused(sign: str) -> None:
    (fault,) = faults(replace(WATCH, program=Path(f"/srv/it{sign}s/cascade")))
    assert "has quotes" in fault


def test_a_folder_that_a_private_tmp_hides_is_refused() -> None:
    (fault,) = faults(replace(WATCH, folder=Path("/tmp/cascade")))
    assert "lies in /tmp" in fault
    assert faults(WATCH) == []


@pytest.mark.parametrize("metrics", [None, Path("/var/lib/node 100% exporter")])
def test_an_installed_service_tells_where_its_metrics_are(metrics: Path | None) -> None:
    assert metrics_of(service(replace(WATCH, metrics=metrics))) == metrics
