"""One deployed fleet for all tests: a fresh copy of the project runs script/demo on bare hosts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cascade.exit_codes import ATTENTION
from lab.engine import reachable_engine
from lab.errors import LabError
from lab.hosts import HOSTS
from lab.polling import until
from lab.stand_in import SCRIPTS, image_archive
from tests.lab import deeds

REPLICAS = 114
OTHER_IMAGE = "trial/other:lab"
LONGEST_BY_HAND_S = 240
ROOT = Path(__file__).parents[2]
LOCAL = ("config.py", "deploy.py", "templates", ".lab")
SUMMARY = re.compile(
    r"^\s*(?P<verdict>.*); seconds: .*; SSH execs: (?P<execs>.*); API writes: (?P<writes>\d+)$"
)


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def ok(self) -> Finished:
        assert self.code == 0, f"exit code {self.code}\n{self.out[-4000:]}\n{self.err[-6000:]}"
        return self

    @property
    def summary(self) -> re.Match[str]:
        found = SUMMARY.match(self.err.rstrip().splitlines()[-1])
        assert found, self.err[-2000:]
        return found

    @property
    def writes(self) -> int:
        return int(self.summary["writes"])

    @property
    def execs(self) -> dict[str, int]:
        pairs = (item.split() for item in self.summary["execs"].split(", "))
        return {host: int(count) for host, count in pairs}

    @property
    def planned(self) -> list[str]:
        """The names of the operations that a dry run found to change something."""
        assert self.code in (0, ATTENTION), f"exit code {self.code}\n{self.err[-6000:]}"
        return [step["name"] for step in json.loads(self.out)["plan"] if step["hosts_with_change"]]

    @property
    def document(self) -> Any:
        """What it printed as JSON."""
        try:
            return json.loads(self.out)
        except ValueError as error:
            raise AssertionError(f"exit code {self.code}\n{self.out}\n{self.err[-6000:]}") from error


@dataclass(frozen=True)
class Checkout:
    """A copy of the project, or a variant of one, from which a person deploys."""

    path: Path
    venv: Path

    def run(self, *argv: str) -> Finished:
        """Runs a command; one that deploys must do exactly what `cascade plan` says that it will do."""
        if not (question := deeds.question(argv)):
            return self.run_alone(*argv)
        plan = self.run_alone(*question)
        since = time.time()
        done = self.run_alone(*argv)
        if plan.code in (0, ATTENTION):
            assert_as_planned(deeds.planned(plan.document), done, since)
        else:
            assert done.code not in (0, ATTENTION), f"no plan: {plan.out[-4000:]}{plan.err[-4000:]}"
            assert_as_planned(set(), done, since)
        return done

    def run_alone(self, *argv: str) -> Finished:
        """Runs a command and nothing else."""
        environment = {**os.environ, "PATH": f"{self.venv}/bin:{os.environ['PATH']}"}
        environment.pop("VIRTUAL_ENV", None)
        done = subprocess.run(
            argv,
            cwd=self.path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def deploy(self, *options: str) -> Finished:
        return self.run("pyinfra", "-y", *options, "inventories/lab.py", "deploy.py")

    def restore(self) -> None:
        """Brings back what a test has changed; that such a run does what its plan says, the tests show."""
        self.run_alone("pyinfra", "-y", "inventories/lab.py", "deploy.py").ok()

    def dry(self) -> Finished:
        return self.run("pyinfra", "--dry", "--json", "inventories/lab.py", "deploy.py")

    def drift(self) -> Finished:
        return self.run("cascade", "drift", "inventories/lab.py", "--json")

    def plan(self) -> Finished:
        return self.run("cascade", "plan", "inventories/lab.py", "--json")

    def status(self) -> Finished:
        return self.run("cascade", "status", "inventories/lab.py", "--json")

    def variant(self, path: Path) -> Checkout:
        """The same system with files of its own to change."""
        path.mkdir()
        for name in LOCAL:
            (path / name).symlink_to(self.path / name)
        for name in ("group_data", "inventories"):
            shutil.copytree(self.path / name, path / name)
        return Checkout(path, self.venv)

    def change(self, file: str, old: str, new: str) -> None:
        """Edits a file, which must have exactly one such place."""
        target = self.path / file
        text = target.read_text()
        assert text.count(old) == 1, f"{file} has {text.count(old)} places {old!r}"
        target.write_text(text.replace(old, new))


@dataclass(frozen=True)
class Evidence:
    """What was seen while the fleet was first deployed; `unlike_plan` is what was not done as planned."""

    bare_dry_run: Finished
    demo: Finished
    unlike_plan: str
    checkout: Checkout = field(repr=False)
    created: dict[str, datetime]
    healthy: dict[str, datetime]


@cache
def docker() -> tuple[str, ...]:
    """The command that reaches this machine's engine, with sudo where it takes that."""
    engine = reachable_engine()
    assert engine, "no Docker engine answers on this machine"
    return engine.command


def on_host(name: str, command: str) -> str:
    """Runs a command as root on a test host, past Cascade."""
    argv = (*docker(), "exec", f"cascade-lab-{name}", "sh", "-c", command)
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=LONGEST_BY_HAND_S)
    assert done.returncode == 0, f"{name}: {command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def trail(since: float) -> Iterator[tuple[deeds.Deed, str]]:
    """What was written down on the hosts since then; a host that is switched off has no say."""
    command = f"journalctl --sync; journalctl -t cascade _UID=0 -o cat --no-pager --since @{since:.6f}"
    for host in HOSTS:
        argv = (*docker(), "exec", host.container, "sh", "-c", command)
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        yield from deeds.written(host.name, done.stdout if done.returncode == 0 else "")


def assert_as_planned(plan: set[deeds.Deed], done: Finished, since: float) -> None:
    """What was executed is what was planned."""
    wrong = deeds.disagreement(done.code, plan, trail(since))
    assert not wrong, f"exit code {done.code}; {wrong}\n{done.err[-6000:]}"


def look(name: str, command: str) -> str:
    """What a command on a test host prints, whatever its exit code says."""
    return on_host(name, f"{command}; true")


def containers() -> dict[str, dict[str, Any]]:
    """Every running agent of both hosts by container ID: name, host, start."""
    found = {}
    for host in HOSTS:
        ids = on_host(host.name, "docker ps -q --no-trunc --filter label=cascade.system=cascade").split()
        for item in json.loads(on_host(host.name, f"docker inspect {' '.join(ids)}")) if ids else []:
            labels = item["Config"]["Labels"]
            found[item["Id"]] = {
                "host": host.name,
                "workload": labels.get("com.docker.swarm.service.name", item["Name"].lstrip("/")),
                "group": labels["cascade.group"],
                "agent": labels["cascade.agent"],
                "started": item["State"]["StartedAt"],
                "health": item["State"].get("Health", {}).get("Status"),
            }
    return found


def steady() -> dict[str, dict[str, Any]]:
    """The running containers once the engines have stopped whatever was replaced."""

    def attempt() -> dict[str, dict[str, Any]]:
        found = containers()
        if len(found) != REPLICAS:
            raise LabError("the engines", f"run {len(found)} agents, not {REPLICAS}", "look at the tasks")
        return found

    return until("the engines", attempt, timeout_s=60, next_step="look at the services' tasks")


def of_agent(agent: str, group: str | None = None) -> dict[str, dict[str, Any]]:
    """The running containers of one agent."""
    return {
        id_: item
        for id_, item in containers().items()
        if item["agent"] == agent and group in (None, item["group"])
    }


def copy_of_project(target: Path) -> None:
    """What a fresh clone would hold, uncommitted changes included."""
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def _timeline() -> tuple[dict[str, datetime], dict[str, datetime]]:
    """When the engines created each workload, and when the last of its replicas was healthy."""
    created: dict[str, datetime] = {}
    healthy: dict[str, datetime] = {}
    ids = on_host("mainpc", "docker service ls -q").split()
    services = json.loads(on_host("mainpc", f"docker service inspect {' '.join(ids)}"))
    for service in services:
        created[service["Spec"]["Name"]] = _time(service["CreatedAt"])
    tasks = on_host("mainpc", f"docker inspect $(docker service ps -q --no-trunc {' '.join(ids)})")
    names = {service["ID"]: service["Spec"]["Name"] for service in services}
    for task in json.loads(tasks):
        if task["Status"]["State"] == "running":
            name, when = names[task["ServiceID"]], _time(task["Status"]["Timestamp"])
            healthy[name] = max(when, healthy.get(name, when))
    audio = "docker ps -q --filter label=cascade.group=cascade-audio-realtime --filter label=cascade.digest"
    for container in json.loads(on_host("mainpc", f"docker inspect $({audio})")):
        name = container["Name"].lstrip("/")
        created[name] = _time(container["Created"])
        checks = container["State"]["Health"]["Log"]
        healthy[name] = min(_time(check["End"]) for check in checks if check["ExitCode"] == 0)
    return created, healthy


def _time(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp[:26].rstrip("Z") + "+00:00")


@pytest.fixture(scope="session")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    here = Checkout(ROOT, ROOT / ".venv")
    here.run("cascade", "lab", "up").ok()
    here.run("cascade", "lab", "reset").ok()
    bare, plan = here.dry(), here.plan()
    copy = tmp_path_factory.mktemp("clone") / "cascade"
    copy.mkdir()
    copy_of_project(copy)
    checkout = Checkout(copy, copy / ".venv")
    since = time.time()
    demo = checkout.run("script/demo")
    unlike_plan = deeds.disagreement(demo.code, deeds.planned(plan.document), trail(since))
    created, healthy = _timeline() if demo.code == 0 else ({}, {})
    yield Evidence(bare, demo, unlike_plan, checkout, created, healthy)
    here.run("cascade", "lab", "up").ok()


@pytest.fixture(scope="session")
def fleet(evidence: Evidence) -> Checkout:
    """The checkout whose fleet runs; a test that changes the fleet brings it back."""
    evidence.demo.ok()
    return evidence.checkout


@pytest.fixture
def variant(fleet: Checkout, tmp_path: Path) -> Iterator[Checkout]:
    """A copy of the deployed files to change and deploy; afterwards the fleet is as before."""
    yield fleet.variant(tmp_path / "variant")
    fleet.restore()


def kernel_of_the_lab() -> str:
    """What group_data/lab.py says of the kernel that the hosts share, for other systems on them."""
    text = (ROOT / "group_data/lab.py").read_text()
    return text[text.index("# All of all.py") :]


def project_with(path: Path, system: str, settings: str = "") -> Checkout:
    """The project with the small system of a folder beside this file in place of the fleet."""
    path.mkdir()
    for name in LOCAL:
        (path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "inventories", path / "inventories")
    shutil.copytree(ROOT / "group_data", path / "group_data", ignore=shutil.ignore_patterns("stacks"))
    shutil.copytree(Path(__file__).with_name(system), path, dirs_exist_ok=True)
    with (path / "group_data/lab.py").open("a") as file:
        file.write(kernel_of_the_lab() + settings)
    return Checkout(path, ROOT / ".venv")


def small_system(path: Path) -> Checkout:
    """The small system of tests/lab/trial."""
    checkout = project_with(path, "trial")
    busybox = (ROOT / ".lab/busybox").read_bytes()
    scripts = {file.name: file.read_bytes() for file in SCRIPTS.iterdir()}
    other = image_archive(busybox, scripts | {"other": b""}, OTHER_IMAGE)
    (path / "group_data/other.tar").write_bytes(other)
    return checkout


@pytest.fixture(scope="session")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The small system, deployed on hosts that were bare; a test that changes it brings it back."""
    here = Checkout(ROOT, ROOT / ".venv")
    here.run("cascade", "lab", "up").ok()
    here.run("cascade", "lab", "reset").ok()
    checkout = small_system(tmp_path_factory.mktemp("small") / "trial")
    checkout.deploy().ok()
    return checkout


@pytest.fixture
def trial_variant(trial: Checkout, tmp_path: Path) -> Iterator[Checkout]:
    """A copy of the small system's files to change and deploy; afterwards it runs as before."""
    from tests.lab.trial_system import settled

    settled()
    yield trial.variant(tmp_path / "variant")
    trial.restore()


@pytest.fixture(scope="session")
def gpu_trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """The system whose hosts have stand-ins for GPUs, deployed on hosts that were bare."""
    from tests.lab.gpu_system import equip, gpu_system

    here = Checkout(ROOT, ROOT / ".venv")
    here.run("cascade", "lab", "up").ok()
    here.run("cascade", "lab", "reset").ok()
    equip()
    checkout = gpu_system(tmp_path_factory.mktemp("gpus") / "gpus")
    checkout.deploy().ok()
    yield checkout
    here.run("cascade", "lab", "reset").ok()


@pytest.fixture
def gpu_variant(gpu_trial: Checkout, tmp_path: Path) -> Iterator[Checkout]:
    """A copy of its files to change and deploy; afterwards it runs as before."""
    yield gpu_trial.variant(tmp_path / "variant")
    gpu_trial.restore()
