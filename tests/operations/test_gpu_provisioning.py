"""The container toolkit on hosts with GPUs: what is planned, and what hosts are told to do."""

from __future__ import annotations

import base64
import json
import re
import shlex
import subprocess
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api.command import StringCommand
from pyinfra.api.host import Host

from cascade.exit_codes import ERROR
from cascade.model.fleet import Fleet
from cascade.model.gpu import Gpu, HostGpu
from cascade.model.options import Options
from cascade.planning.checks.subject import Facts, Subject
from cascade.planning.checks.toolkit import sources
from cascade.planning.desired import (
    DAEMON_SETTINGS,
    GPU_FILES,
    GPU_KEY,
    GPU_PACKAGES,
    GPU_RUNTIME_SETTINGS,
    GPU_SCRIPT,
    GPU_SOURCES,
    GPU_UNIT,
    OTHER_GPU_SOURCES,
    render,
)
from cascade.planning.diff import Change
from cascade.planning.plan import make_plan
from cascade.planning.resource import Key
from cascade.planning.steps import Recheck
from cascade.planning.target import Target, target_of
from operations.host.engine import recheck
from operations.host.gpu import prepare_gpu, write_key
from operations.host.system import install
from operations.run import Stopped, WorkFailed
from operations.snapshot import query_for
from tests.fleets import ROOT
from tests.operations.conftest import LocalRun, Snapshots
from tests.operations.test_look import kept

RESOURCES = "node-generic-resources"
UUID = "GPU-22222222-2222-4222-8222-222222222222"
# Docker's, which stands for NVIDIA's.
CONTENT = (ROOT / "templates/etc/apt/keyrings/docker.asc.j2").read_text()
FINGERPRINT = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
OTHER = "0" * 40
NOT_ALONE = "it is not one armored OpenPGP public key and nothing else"
URL = "http://192.0.2.1/key?a=1;touch x"


def with_gpu(fleet: Fleet, **said: Any) -> Fleet:
    """The fleet with a GPU in PC2."""
    gpu = HostGpu(**{"key": FINGERPRINT, **said})
    absent = fleet.hosts["pc2"].absent - {"gpu"}
    host = fleet.hosts["pc2"].model_copy(update={"gpu": gpu, "absent": absent})
    gpus = {"pc2": (Gpu(0, UUID, "RTX 3060", 12288),)}
    return replace(fleet, hosts={**fleet.hosts, "pc2": host}, gpus=gpus)


def of_nvidia(target: Target) -> dict[Key, Any]:
    return {item.key: item.fields for item in target.resources if item.stage == "gpu"}


@pytest.fixture
def equipped(fleet: Fleet, converged: Snapshots) -> Snapshots:
    """The converged hosts as if PC2 had a GPU, set up."""
    target, snapshot = target_of(with_gpu(fleet)), converged["pc2"]
    for key, fields in of_nvidia(target).items():
        if key.kind == "file":
            told = {name: fields[name] for name in ("content", "mode", "owner", "group")}
            snapshot["files"][key.name] = {**told, "sha256": "", "changed": 0.0}
    owned = {"mode": "644", "owner": "root", "group": "root"}
    snapshot["files"][GPU_KEY] = {"content": CONTENT, "sha256": "", "changed": 0.0, **owned}
    snapshot["packages"] |= dict.fromkeys(GPU_PACKAGES, "1.19.0-1")
    snapshot["held"] = list(GPU_PACKAGES)
    snapshot["units"][GPU_UNIT] = {"enabled": True, "active": True}
    gpu = {"uuid": UUID, "lost": "", "persistence": True, "power_limit": 170_000}
    described = {"index": 0, "name": "RTX 3060", "memory_total": 12288 * 2**20, "memory_used": 0, "mig": None}
    snapshot["gpu"] = {
        "module": "580.95.05",
        "nvml": "ok",
        "said": "",
        "driver": "580.95.05",
        "library": "580.95.05",
        "cuda": "13.0",
        "dev_char": True,
        "toolkit": "1.19.0-1",
        "cdi": [],
        "containers": {},
        "gpus": [{**gpu, **described, "processes": []}],
    }
    return converged


def changes(fleet: Fleet, snapshots: Snapshots) -> list[str]:
    """What is to be done about the toolkit and the GPU; the rest of the fleet is not what this is about."""
    target = target_of(fleet)
    ours = of_nvidia(target)
    found = [change for change in make_plan(target, snapshots).changes if change.key in ours]
    return [
        ": ".join(filter(None, (str(change.key), ", ".join(map(str, change.fields))))) for change in found
    ]


def test_a_host_without_gpus_gets_nothing_of_nvidia(fleet: Fleet) -> None:
    assert of_nvidia(target_of(fleet)) == {}
    declared = fleet.hosts["pc2"].model_copy(update={"gpu": HostGpu()})
    absent = replace(fleet, hosts={**fleet.hosts, "pc2": declared})
    assert "gpu" in declared.absent
    assert of_nvidia(target_of(absent)) == {}
    none = declared.model_copy(update={"gpu": None, "absent": frozenset()})
    assert of_nvidia(target_of(replace(fleet, hosts={**fleet.hosts, "pc2": none}))) == {}


def test_a_host_with_gpus_gets_the_key_before_the_packages_and_these_before_the_engine(fleet: Fleet) -> None:
    resources = target_of(with_gpu(fleet)).resources
    kinds = [item.key.kind for item in resources if item.stage == "gpu"]
    assert kinds == ["signing-key", *["file"] * len(GPU_FILES), *["package"] * 4, "unit", "gpu"]
    stages = [item.stage for item in resources if item.key.host == "pc2"]
    assert stages.index("gpu") < stages.index("engine")


def test_what_is_set_up_is_not_touched_again(fleet: Fleet, equipped: Snapshots) -> None:
    assert changes(with_gpu(fleet), equipped) == []


@pytest.mark.parametrize(
    ("part", "name", "value", "found"),
    [
        ("packages", GPU_PACKAGES[0], "1.19.1-1", "version 1.19.1-1 → 1.19.0-1"),
        ("packages", GPU_PACKAGES[3], None, ""),
        ("units", GPU_UNIT, {"enabled": False, "active": True}, "enabled False → True"),
        ("files", GPU_SOURCES, None, ""),
        ("files", GPU_KEY, None, ""),
    ],
)
def test_what_is_no_longer_so_is_made_so(
    fleet: Fleet, equipped: Snapshots, part: str, name: str, value: Any, found: str
) -> None:
    equipped["pc2"][part][name] = value
    (change,) = changes(with_gpu(fleet), equipped)
    assert f" {name} on pc2" in change
    assert change.endswith(found)


def test_a_package_that_is_not_held_is_held_again(fleet: Fleet, equipped: Snapshots) -> None:
    equipped["pc2"]["held"].remove(GPU_PACKAGES[1])
    assert changes(with_gpu(fleet), equipped) == [f"package {GPU_PACKAGES[1]} on pc2: held False → True"]


def test_holds_that_cannot_be_read_are_unknown_and_other_packages_are_not(
    fleet: Fleet, equipped: Snapshots
) -> None:
    equipped["pc2"]["held"] = {"error": "OSError: no"}
    plan = make_plan(target_of(with_gpu(fleet)), equipped)
    assert sorted(unknown.what for unknown in plan.unknown) == sorted(
        f"package {name}" for name in GPU_PACKAGES
    )


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"mode": "600"}, "mode 600 → 644"),
        ({"content": CONTENT + CONTENT}, f"fingerprint none: {NOT_ALONE} → "),
        ({"content": "hello"}, f"fingerprint none: {NOT_ALONE} → "),
        ({"content": None}, f"fingerprint none: {NOT_ALONE} → "),
    ],
)
def test_another_key_in_its_place_is_a_difference(
    fleet: Fleet, equipped: Snapshots, said: dict[str, Any], found: str
) -> None:
    equipped["pc2"]["files"][GPU_KEY] |= said
    (change,) = changes(with_gpu(fleet), equipped)
    assert found in change


def test_a_new_key_in_the_files_is_fetched(fleet: Fleet, equipped: Snapshots) -> None:
    (change,) = changes(with_gpu(fleet, key=OTHER), equipped)
    assert change.endswith(f"fingerprint {FINGERPRINT} → {OTHER}")


@pytest.mark.parametrize(
    ("of_gpu", "of_host", "found"),
    [
        ({"persistence": False}, {}, "persistence False → True"),
        ({}, {"dev_char": False}, "dev_char False → True"),
        ({"power_limit": 170_999}, {}, ""),
        ({"persistence": None}, {}, ""),
    ],
)
def test_a_gpu_is_set_as_far_as_its_driver_can(
    fleet: Fleet, equipped: Snapshots, of_gpu: dict[str, Any], of_host: dict[str, Any], found: str
) -> None:
    equipped["pc2"]["gpu"]["gpus"][0] |= of_gpu
    equipped["pc2"]["gpu"] |= of_host
    assert changes(with_gpu(fleet), equipped) == ([f"gpu {UUID} on pc2: {found}"] if found else [])


def test_runtimes_and_resources_of_the_owners_are_no_difference(fleet: Fleet, equipped: Snapshots) -> None:
    target = target_of(with_gpu(fleet))
    ours = target.wanted[Key("pc2", "daemon-settings", DAEMON_SETTINGS)]
    runtimes = {"kata": {}, **ours["runtimes"]}
    owners = {"runtimes": runtimes, RESOURCES: ["fpga=2", *ours[RESOURCES]]}
    for said, differs in (({}, False), ({"runtimes": {"kata": {}}}, True), ({RESOURCES: ["fpga=2"]}, True)):
        equipped["pc2"]["files"][DAEMON_SETTINGS]["content"] = json.dumps({**ours, **owners, **said})
        changed = {change.key.kind for change in make_plan(target, equipped).changes}
        assert ("daemon-settings" in changed) == differs


def test_a_power_limit_is_compared_in_watts(fleet: Fleet, equipped: Snapshots) -> None:
    assert not [line for line in changes(with_gpu(fleet, power_limit=170), equipped) if "gpu GPU" in line]
    assert [line for line in changes(with_gpu(fleet, power_limit=150), equipped) if "gpu GPU" in line] == [
        f"gpu {UUID} on pc2: power_limit 170 → 150"
    ]


def test_only_a_host_with_gpus_is_asked_about_holds_and_other_sources(fleet: Fleet) -> None:
    wanted = target_of(with_gpu(fleet)).resources
    asked = query_for("pc2", wanted, "cascade")
    assert asked["held"] == list(GPU_PACKAGES)
    assert {GPU_KEY, *OTHER_GPU_SOURCES} <= {*asked["files"]}
    others = query_for("mainpc", wanted, "cascade")
    assert "held" not in others
    assert not {GPU_KEY, *OTHER_GPU_SOURCES} & {*others["files"]}


@pytest.mark.parametrize("path", [path for path in (*GPU_FILES,) if path.startswith("/etc/apt/")])
def test_apt_is_told_of_nothing_that_is_not_in_the_files(fleet: Fleet, path: str) -> None:
    host = with_gpu(fleet, repository="https://192.0.2.1/deb", toolkit="1.20.3-2").hosts["pc2"]
    text = render(path, host=host, packages=GPU_PACKAGES)
    assert ("https://192.0.2.1/deb/$(ARCH)" in text) == (path == GPU_SOURCES)
    assert ("Pin: version 1.20.3-2\n" in text) == ("preferences" in path)


DRIVER_PACKAGES = """
    firmware-nvidia-gsp libcuda1 libcudadebugger1 libegl-nvidia-tesla-535-0 libegl-nvidia0
    libgl1-nvidia-glvnd-glx libgles-nvidia1 libgles-nvidia2 libglx-nvidia0 libnvcuvid1
    libnvidia-compute-550-server libnvidia-ml1 libnvoptix1
    linux-modules-nvidia-580-generic linux-objects-nvidia-580-6.8.0-40-generic
    linux-signatures-nvidia-6.8.0-40-generic nvidia-driver nvidia-driver-580-open nvidia-firmware-580
    nvidia-kernel-dkms xserver-xorg-video-nvidia xserver-xorg-video-nvidia-580
"""
OTHER_PACKAGES = "firmware-linux libcudart12 libegl1 libgl1 libgles2 libglx0 linux-image-amd64 nvme-cli"


def test_no_part_of_the_driver_is_upgraded_unattended(fleet: Fleet) -> None:
    """Their expressions are matched from the beginning of a name."""
    text = render("/etc/apt/apt.conf.d/52cascade-nvidia", host=with_gpu(fleet).hosts["pc2"], packages=())
    kept = [re.compile(pattern) for pattern in re.findall(r'^    "(.*)";$', text, re.MULTILINE)]

    def left_alone(names: str) -> list[str]:
        return [name for name in names.split() if any(pattern.match(name) for pattern in kept)]

    assert left_alone(DRIVER_PACKAGES) == DRIVER_PACKAGES.split()
    assert left_alone(OTHER_PACKAGES) == []


# Of an RTX 4080 in a laptop, with which nvidia-smi ends well.
NOT_SUPPORTED = """\
Changing power management limit is not supported for GPU: 00000000:01:00.0.
Treating as warning and moving on.
All done."""
DEVICES = ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm")
NULL = "1:3"


def prepared(
    script: str, folder: Path, devices: Sequence[str] = DEVICES, **does: str
) -> subprocess.CompletedProcess[str]:
    """Runs the script where these are the driver's devices, and programs write down how they were called."""
    (folder / "bin").mkdir()
    (folder / "dev").mkdir(exist_ok=True)
    for device in devices:
        (folder / "dev" / device).symlink_to("/dev/null")
    for name in {"nvidia-smi", "modprobe", *does}:
        text = f'#!/bin/sh\necho "{name} $*" >>{folder}/calls\n{does.get(name, "")}\n'
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    return subprocess.run(
        ["/bin/sh", "-c", script.replace("/dev/", f"{folder}/dev/")],
        env={"PATH": f"{folder}/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def gpu_script(fleet: Fleet, limit: int | None = None) -> str:
    return render(GPU_SCRIPT, host=with_gpu(fleet, power_limit=limit).hosts["pc2"], packages=())


@pytest.mark.parametrize("limit", [None, 300])
@pytest.mark.parametrize("fails", ["", "echo not supported; exit 3", f"echo '{NOT_SUPPORTED}'"])
def test_a_setting_that_a_card_does_not_know_is_told_and_the_devices_are_linked(
    fleet: Fleet, tmp_path: Path, limit: int | None, fails: str
) -> None:
    done = prepared(gpu_script(fleet, limit), tmp_path, **{"nvidia-smi": fails})
    settings = ["persistence-mode=1", *([f"power-limit={limit}"] if limit else [])]
    asked = [f"nvidia-smi --{setting}" for setting in settings]
    assert (tmp_path / "calls").read_text().splitlines() == asked
    told = [line for line in done.stderr.splitlines() if line.startswith("nvidia-smi ")]
    assert [line.partition(": ")[0] for line in told] == (asked if fails else [])
    assert done.stderr.count("not supported") == len(told)
    assert done.returncode == 0
    assert (tmp_path / "dev/char" / NULL).readlink() == tmp_path / "dev/nvidia-uvm"


@pytest.mark.parametrize("helper", ["nvidia-modprobe", "modprobe"])
def test_the_device_that_cuda_needs_is_asked_for_where_it_is_not_there(
    helper: str, fleet: Fleet, tmp_path: Path
) -> None:
    makes = f"ln -s /dev/null {tmp_path}/dev/nvidia-uvm"
    done = prepared(gpu_script(fleet), tmp_path, ["nvidiactl"], **{helper: makes})
    assert (done.returncode, done.stderr) == (0, "")
    (asked,) = (tmp_path / "calls").read_text().splitlines()[1:]
    assert asked.startswith(f"{helper} ")
    assert (tmp_path / "dev/char" / NULL).readlink() == tmp_path / "dev/nvidia-uvm"


def test_a_link_to_something_else_is_put_right(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "dev/char").mkdir(parents=True)
    (tmp_path / "dev/char" / NULL).symlink_to("/dev/gone")
    assert prepared(gpu_script(fleet), tmp_path, ["nvidia-uvm"]).returncode == 0
    assert (tmp_path / "dev/char" / NULL).readlink() == tmp_path / "dev/nvidia-uvm"


@pytest.mark.parametrize(("devices", "said"), [([], "there is no device"), (["nvidia-uvm"], "ln: ")])
def test_devices_without_links_are_a_failure(
    devices: Sequence[str], said: str, fleet: Fleet, tmp_path: Path
) -> None:
    refuses = {"ln": "echo 'ln: no' >&2; exit 1"} if devices else {}
    done = prepared(gpu_script(fleet), tmp_path, devices, **refuses)
    assert done.returncode == 1
    assert said in done.stderr


def test_docker_does_not_wait_for_ever_for_a_gpu_that_hangs(fleet: Fleet) -> None:
    """Without a bound of its own a unit that runs once has none."""
    unit = render(f"/etc/systemd/system/{GPU_UNIT}", host=with_gpu(fleet).hosts["pc2"], packages=())
    lines = unit.splitlines()
    assert {"Type=oneshot", "Before=docker.service"} <= {*lines}
    (bound,) = (line.removeprefix("TimeoutStartSec=") for line in lines if "TimeoutStartSec" in line)
    assert 0 < int(bound) <= 120


def change(kind: Any, name: str, **desired: Any) -> Change:
    return Change(Key("pc2", kind, name), "update", (), desired)


PINNED = tuple(
    change("package", name, installed=True, version="1.19.0-1", held=True) for name in GPU_PACKAGES[:2]
)


SETTINGS = 'swarm-resource = "DOCKER_RESOURCE_GPU"\n'


def apt_run(tmp_path: Path, made: tuple[Change, ...], **does: str) -> list[tuple[int, str]]:
    """Runs installations with programs that only write down how they were called, or do this instead."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    for name in ("apt-get", "apt-mark", "dpkg", "flock"):
        more = does.get(name.replace("-", "_"), "")
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/calls\n{more}\n')
        (folder / name).chmod(0o755)
    (tmp_path / "config.toml").write_text(SETTINGS)
    (tmp_path / "prepare-gpus").write_text(
        f"echo prepare-gpus >>{tmp_path}/calls\n{does.get('prepares', '')}\n"
    )
    ended = []
    for command in install(made):
        assert isinstance(command, StringCommand)
        script = command.get_raw_value().replace("/var/lib/cascade/packages-lock", f"{tmp_path}/lock")
        for place in (GPU_RUNTIME_SETTINGS, GPU_SCRIPT):
            script = script.replace(place, str(tmp_path / Path(place).name))
        path = {"PATH": f"{folder}:/usr/bin:/bin"}
        done = subprocess.run(
            ["/bin/sh", "-c", script], env=path, capture_output=True, text=True, check=False
        )
        ended.append((done.returncode, done.stdout))
    return ended


def calls(tmp_path: Path) -> list[str]:
    """The calls without the options that every one has."""
    lines = (tmp_path / "calls").read_text().splitlines()
    return [re.sub(r" -y -o DPkg::Lock\S+ (-o Dpkg\S+ )*", " ", line) for line in lines]


def test_packages_of_one_version_come_together_and_stay(tmp_path: Path) -> None:
    assert apt_run(tmp_path, PINNED) == [(0, "")]
    _, signed, prepared, installed, *held = calls(tmp_path)
    assert "APT::Update::Error-Mode=any" in signed
    assert f"Dir::Etc::SourceList={GPU_SOURCES} " in signed
    assert prepared == "prepare-gpus"
    names = [f"{name}=1.19.0-1" for name in GPU_PACKAGES[:2]]
    assert installed.endswith(" -- " + " ".join(names))
    assert "--allow-downgrades" in installed
    assert held == [f"apt-mark hold -- {name}" for name in GPU_PACKAGES[:2]]


REWRITES = "case $* in *install*) echo '#swarm-resource' >{}/config.toml; {};; esac"


@pytest.mark.parametrize(("ends", "code"), [("exit 0", 0), ("exit 100", 1)])
def test_settings_that_a_package_rewrites_are_as_they_were(ends: str, code: int, tmp_path: Path) -> None:
    ((ended, _),) = apt_run(tmp_path, PINNED, apt_get=REWRITES.format(tmp_path, ends))
    assert ended == code
    assert (tmp_path / "config.toml").read_text() == SETTINGS
    assert not (tmp_path / "config.toml.cascade-kept").exists()
    assert any("hold" in line for line in calls(tmp_path)) == (code == 0)


def test_devices_without_links_install_nothing(tmp_path: Path) -> None:
    assert apt_run(tmp_path, PINNED, prepares="echo no device; exit 1") == [(1, "no device\n")]
    assert calls(tmp_path)[-1] == "prepare-gpus"


def test_sources_of_the_owners_are_asked_only_where_the_packages_do_not_come_without(tmp_path: Path) -> None:
    lacking = f'case "$*" in *install*) test -e {tmp_path}/lists;; *update) touch {tmp_path}/lists;; esac'
    assert apt_run(tmp_path, PINNED, apt_get=lacking) == [(0, "")]
    asked = [line for line in calls(tmp_path) if "update" in line or "install" in line]
    assert [" install " in line for line in asked] == [False, True, False, True]
    assert asked[2] == "apt-get update"


def test_lists_that_their_key_does_not_sign_install_nothing(tmp_path: Path) -> None:
    refused = 'case "$*" in *Error-Mode*) echo not signed; exit 100;; esac'
    assert apt_run(tmp_path, PINNED, apt_get=refused) == [(1, "not signed\n")]
    assert not [line for line in calls(tmp_path) if " install " in line or "hold" in line]


def test_packages_of_any_version_are_installed_as_ever_beside_them(tmp_path: Path) -> None:
    assert apt_run(tmp_path, (change("package", "curl", installed=True), *PINNED)) == [(0, ""), (0, "")]
    installed = [line for line in calls(tmp_path) if " install " in line]
    assert installed[0].endswith("--no-upgrade -- curl")
    assert "curl" not in installed[1]


def test_a_package_that_cannot_be_held_ends_the_run(tmp_path: Path) -> None:
    assert apt_run(tmp_path, PINNED, apt_mark="echo no; exit 1") == [(1, "no\n")]


class Fetching:
    """A host that answers to the fetching of a key, and remembers what it was told to write.

    `says` is what its other programs say.
    """

    name = "pc2"

    def __init__(self, answer: bytes | None, says: str = "") -> None:
        self.answer, self.says = answer, says
        self.fetched, self.written, self.logged = list[str](), list[str](), list[str]()

    def log(self, line: str, _function: Any) -> None:
        self.logged.append(line)

    def run_shell_command(self, command: StringCommand, **_: Any) -> Any:
        line = command.get_raw_value()
        if "apt-helper" not in line:
            self.written.append(line)
            return True, type("Output", (), {"stdout": self.says, "output": ""})
        self.fetched += shlex.split(line)[-2:-1]
        if self.answer is None:
            return False, type("Output", (), {"stdout": "", "output": "E: Failed to fetch"})
        said = base64.encodebytes(self.answer).decode()
        return True, type("Output", (), {"stdout": said, "output": said})


WANTED = {"fingerprint": FINGERPRINT, "url": URL, "mode": "644", "owner": "root", "group": "root"}


def fetch(answer: bytes | None, fingerprint: str = FINGERPRINT) -> Fetching:
    host = Fetching(answer)
    wanted = WANTED | {"fingerprint": fingerprint}
    write_key(None, host, change("signing-key", GPU_KEY, **wanted))  # type: ignore[arg-type]
    return host


def test_the_key_is_fetched_by_the_host_and_written_when_it_is_the_one() -> None:
    host = fetch(CONTENT.encode())
    assert host.fetched == [URL]
    (line,) = host.written
    assert f" {GPU_KEY} 644 root:root " in line


@pytest.mark.parametrize(
    ("answer", "wanted", "said"),
    [
        (CONTENT.encode(), OTHER, f"gives the key {FINGERPRINT}, and gpu.key in group_data is {OTHER}"),
        (CONTENT.encode() * 2, FINGERPRINT, f"gives no key: {NOT_ALONE}"),
        (b"<html>", FINGERPRINT, f"gives no key: {NOT_ALONE}"),
        (None, FINGERPRINT, "cannot be fetched: E: Failed to fetch"),
    ],
)
def test_another_key_is_not_written(
    answer: bytes | None, wanted: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[StringCommand] = []
    monkeypatch.setattr("operations.host.gpu.written", lambda *_, **__: written.append(StringCommand("true")))
    with pytest.raises(WorkFailed, match=re.escape(said)):
        fetch(answer, wanted)
    assert written == []


@pytest.mark.parametrize("said", ["", "nvidia-smi --power-limit=300: not\nsupported"])
def test_a_gpu_is_set_by_the_script_that_sets_it_at_each_start(said: str) -> None:
    host, run = Fetching(None, said), SimpleNamespace(warned=False)
    prepare_gpu(run, host, change("gpu", UUID))  # type: ignore[arg-type]
    assert host.written == [f"sh {GPU_SCRIPT} 2>&1"]
    assert run.warned == bool(said)
    assert [line.endswith(said.replace("\n", " ")) for line in host.logged] == [True] * bool(said)


@pytest.mark.parametrize(("kind", "name"), [("gpu", UUID), ("unit", "docker.service")])
def test_a_setting_that_a_card_does_not_take_is_no_fault_of_an_engine_that_was_started(
    kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operations.host.engine.ENGINE_DEADLINE_S", 0.0)
    plan = SimpleNamespace(unknown=(), stopped=frozenset(), changes=(change(kind, name),))
    run, started = SimpleNamespace(fresh_plan=lambda: plan), Recheck(("pc2",))
    with nullcontext() if kind == "gpu" else pytest.raises(WorkFailed, match=f"{name}: run again"):
        recheck(run, None, started)  # type: ignore[arg-type]


NVIDIAS = "https://nvidia.github.io/libnvidia-container/stable/deb"


@pytest.mark.parametrize(
    ("text", "level"),
    [
        (f"deb [signed-by=/usr/share/keyrings/nvidia.gpg] {NVIDIAS}/$(ARCH) /\n", "error"),
        (f"# deb [signed-by=/usr/share/keyrings/nvidia.gpg] {NVIDIAS}/$(ARCH) /\n", "ok"),
        (f"deb [signed-by={GPU_KEY}] {NVIDIAS}/$(ARCH) /\n", "ok"),
        ("deb https://192.0.2.1/deb /\n", "ok"),
    ],
)
@pytest.mark.parametrize("path", OTHER_GPU_SOURCES)
def test_a_source_that_names_the_repository_with_another_key_is_found_before(
    fleet: Fleet, equipped: Snapshots, path: str, text: str, level: str
) -> None:
    fleet = with_gpu(fleet)
    equipped["pc2"]["files"][path] = {"content": text}
    plan = make_plan(target_of(fleet), equipped)
    facts = Facts(fleet, plan, equipped, {}, {})
    found = [said for said in sources(Subject(fleet.hosts["pc2"], facts)) if said.level != "ok"]
    assert [said.level for said in found] == ([] if level == "ok" else [level])
    assert all(f"`sudo rm {path}`" in said.next_step for said in found)


def test_a_gpu_that_another_has_replaced_is_unknown_and_not_in_sync(
    fleet: Fleet, equipped: Snapshots
) -> None:
    other = "GPU-33333333-3333-4333-8333-333333333333"
    equipped["pc2"]["gpu"]["gpus"][0]["uuid"] = other
    plan = make_plan(target_of(with_gpu(fleet)), equipped)
    (unknown,) = plan.unknown
    assert str(unknown) == (
        f"pc2: GPU: there is no {UUID} any more: put it back, deploy, which takes what is there now,"
        " or go back to another release"
    )


ANOTHER = {"uuid": "GPU-33333333-3333-4333-8333-333333333333"}


@pytest.mark.parametrize(
    ("part", "of_gpu", "said"),
    [
        ({}, ANOTHER, f"pc2: GPU: there is no {UUID} any more: put it back"),
        ({"nvml": "missing", "gpus": []}, {}, "pc2: GPU: the driver is not installed"),
        ({"nvml": "no-gpu", "gpus": []}, {}, "pc2: GPU: the driver finds no GPU"),
    ],
    ids=["another GPU", "no driver", "no GPU"],
)
@pytest.mark.parametrize("declared", [True, False])
def test_a_release_whose_gpu_is_gone_is_not_gone_back_to(
    declared: bool,
    part: dict[str, Any],
    of_gpu: dict[str, Any],
    said: str,
    run: LocalRun,
    equipped: Snapshots,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = with_gpu(run.fleet)
    equipped["mainpc"]["docker"]["release"] = kept(target_of(fleet))
    equipped["pc2"]["gpu"]["gpus"][0] |= of_gpu
    equipped["pc2"]["gpu"] |= part
    run.fleet = replace(fleet if declared else run.fleet, options=Options(rollback="3"))

    def take(host: Host, query: dict[str, Any]) -> Any:
        snapshot = equipped[host.name]
        return {name: told for name, told in snapshot.items() if name != "gpu" or "gpu" in query}

    monkeypatch.setattr(run.state.inventory, "get_active_hosts", lambda: [*run.state.inventory])
    monkeypatch.setattr("operations.run.take_snapshot", take)
    with pytest.raises(Stopped) as stopped:
        run.plan()
    assert stopped.value.code == ERROR
    (message,) = stopped.value.messages
    assert message.startswith(said)
