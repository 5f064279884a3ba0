"""Only cgroups that nobody uses are swept away."""

from pathlib import Path

from lab.cgroups import remove_leftovers


def cgroup(root: Path, name: str, processes: str | None = None) -> Path:
    group = root / "memory" / "docker" / name / "system.slice"
    group.mkdir(parents=True)
    if processes is not None:
        (group / "cgroup.procs").write_text(processes)
    return group.parent


def test_an_empty_cgroup_goes_with_its_children(tmp_path: Path) -> None:
    left = cgroup(tmp_path, "left")
    assert remove_leftovers(tmp_path, old_enough_s=0) == 1
    assert not left.exists()


def test_a_cgroup_with_a_process_below_it_stays(tmp_path: Path) -> None:
    used = cgroup(tmp_path, "used", "4242\n")
    assert remove_leftovers(tmp_path, old_enough_s=0) == 0
    assert (used / "system.slice").exists()


def test_a_cgroup_just_made_stays(tmp_path: Path) -> None:
    new = cgroup(tmp_path, "new")
    assert remove_leftovers(tmp_path, old_enough_s=3600) == 0
    assert new.exists()


def test_a_cgroup_that_the_kernel_holds_stays_without_an_error(tmp_path: Path) -> None:
    held = cgroup(tmp_path, "held", "")
    assert remove_leftovers(tmp_path, old_enough_s=0) == 0
    assert held.exists()
