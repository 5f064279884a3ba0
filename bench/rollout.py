"""How much slower than the engine itself is a first rollout? Prints both and their ratio.

    .venv/bin/python -m bench.rollout [ROUNDS]

The lab's hosts must be deployed (script/demo). Each round removes all workloads and posts the same specs
with the same waves and gates straight to the manager's socket; then removes them again and has
`pyinfra -y inventories/lab.py deploy.py` roll them out. Both end with every agent healthy.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cascade.planning.target import target_of
from lab.engine import reachable_engine
from operations.session import session

ROOT = Path(__file__).parents[1]
INVENTORY = ROOT / "inventories/lab.py"
REMOVE_ALL = (
    'ids=$(docker service ls -q); [ -z "$ids" ] || docker service rm $ids > /dev/null;'
    'ids=$(docker ps -aq --filter label=cascade.digest); [ -z "$ids" ] || docker rm -f $ids > /dev/null'
)
ENGINE = reachable_engine()
DOCKER = ENGINE.command if ENGINE else ("docker",)
NO_CONTAINERS = 'until [ -z "$(docker ps -q)" ]; do sleep 0.2; done'


def on_host(name: str, *argv: str, stdin: str = "") -> str:
    done = subprocess.run(
        (*DOCKER, "exec", "--interactive", f"cascade-lab-{name}", *argv),
        input=stdin,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def remove_all() -> None:
    on_host("mainpc", "sh", "-c", REMOVE_ALL)
    for name in ("mainpc", "pc2"):
        on_host(name, "sh", "-c", NO_CONTAINERS)


def waves() -> list[list[dict[str, Any]]]:
    with session(INVENTORY) as run:
        target = target_of(run.fleet)
    return [
        [
            {
                "kind": member.kind,
                "name": member.name,
                "replicas": member.replicas,
                "body": {key: value for key, value in target.wanted[member.key].items() if key != "running"},
            }
            for member in wave.members
        ]
        for wave in target.waves
    ]


def direct(specs: list[list[dict[str, Any]]]) -> float:
    script = (
        f"import json\nWAVES = json.loads({json.dumps(specs)!r})\n{(ROOT / 'bench/direct.py').read_text()}"
    )
    return float(on_host("mainpc", "python3", "-IS", "-", stdin=script))


def cascade() -> tuple[float, float]:
    """Seconds of the whole command, and of its changes and gates alone."""
    began = time.monotonic()
    done = subprocess.run(
        (ROOT / ".venv/bin/pyinfra", "-y", INVENTORY, "deploy.py"),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    whole = time.monotonic() - began
    parts = dict(re.findall(r"(changes|gates) (\d+\.\d+)", done.stderr.splitlines()[-1]))
    return whole, sum(map(float, parts.values()))


def main(rounds: int) -> None:
    specs = waves()
    ratios = []
    for number in range(1, rounds + 1):
        remove_all()
        bound = direct(specs)
        remove_all()
        whole, rollout = cascade()
        ratios.append(whole / bound)
        print(
            f"round {number}: socket {bound:.1f} s, cascade {whole:.1f} s (rollout alone {rollout:.1f} s), "
            f"ratio {whole / bound:.2f}"
        )
    print(f"median ratio of the whole command: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
