"""Inside a container of the lab's engine: what each profile denies, and what must work under all of them."""

from __future__ import annotations

import json
import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from cascade.model.seccomp import NAMES, profile
from lab.python_image import python_archive
from tests.lab.conftest import ROOT, Checkout, docker, on_host
from tests.lab.probe.remote_probe import REFUSED
from tests.lab.probe.remote_workloads import WORKLOADS

PROBE = Path(__file__).with_name("probe")
ROWS: list[dict[str, Any]] = yaml.safe_load((PROBE / "table.yaml").read_text())
IMAGE = "probe/python:lab"
FOLDER = "/var/lib/probe"
EPERM = 1
HARDENED = (
    *("--user", "10001:10001", "--read-only", "--tmpfs", "/tmp:size=64m,mode=1777", "--init"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pids-limit", "512"),
    *("--ulimit", "nofile=16384:16384", "--ulimit", "core=0:0", "--network", "none"),
    *("--volume", f"{FOLDER}:/srv/probe:ro", "--entrypoint", "python3"),
)


def title(row: dict[str, Any]) -> str:
    return str(row.get("what") or f"{row['call']}{row['arguments']}")


def wanted(row: dict[str, Any], name: str) -> list[str]:
    """The answers that are right under a profile."""
    answer = row.get("but", {}).get(name, row["answer"])
    return answer if isinstance(answer, list) else [answer]


@pytest.fixture(scope="module")
def engine(trial: Checkout) -> None:
    """MainPC's engine with an image of Python, and the programs and profiles in a folder of the host."""
    assert trial
    host = "cascade-lab-mainpc"
    with python_archive(ROOT / ".lab").open("rb") as archive:
        argv = (*docker(), "exec", "--interactive", host, "docker", "import", "-", IMAGE)
        subprocess.run(argv, stdin=archive, check=True, capture_output=True)
    on_host("mainpc", f"rm -rf {FOLDER}; mkdir -p {FOLDER}")
    subprocess.run((*docker(), "cp", f"{PROBE}/.", f"{host}:{FOLDER}"), check=True, capture_output=True)
    put("rows.json", json.dumps(ROWS))


def put(name: str, text: str) -> None:
    """A file in the probe's folder on MainPC."""
    argv = (*docker(), "exec", "--interactive", "cascade-lab-mainpc", "tee", f"{FOLDER}/{name}")
    subprocess.run(argv, input=text, text=True, check=True, capture_output=True)


def inside(name: str, refused_with: int, *program: str) -> Any:
    """What a program in a hardened container says under a profile, which refuses with this error."""
    put("profile.json", profile(name, refused_with))
    seccomp = ("--security-opt", f"seccomp={FOLDER}/profile.json")
    argv = ("docker", "run", "--rm", "--interactive", *HARDENED, *seccomp, IMAGE, *program)
    return json.loads(on_host("mainpc", f"{shlex.join(argv)} < {FOLDER}/rows.json"))


@cache
def answers(name: str) -> list[str | None]:
    """What comes of each row under a profile that refuses with an error of its own."""
    found: list[str | None] = inside(name, REFUSED, "/srv/probe/remote_probe.py")
    return found


@cache
def failures(name: str) -> dict[str, str]:
    """What each workload that failed under a profile said; the others said nothing."""
    found: dict[str, str] = inside(name, EPERM, "/srv/probe/remote_workloads.py")
    return found


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", range(len(ROWS)), ids=map(title, ROWS))
def test_a_call_gets_the_answer_of_its_profile(name: str, number: int) -> None:
    assert (answer := answers(name)[number]) is None or answer in wanted(ROWS[number], name)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("workload", [workload.__name__ for workload in WORKLOADS])
def test_what_services_do_works_under_every_profile(name: str, workload: str) -> None:
    assert not failures(name)[workload]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", NAMES)
def test_what_is_refused_is_said_to_be_not_permitted(name: str) -> None:
    seccomp = [number for number, row in enumerate(ROWS) if wanted(row, name) == ["seccomp"]]
    found: list[str | None] = inside(name, EPERM, "/srv/probe/remote_probe.py")
    assert len(seccomp) >= 40
    assert {found[number] for number in seccomp} - {None} == {"EPERM"}
