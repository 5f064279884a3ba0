"""What a command says, and how it ends, when a host hangs up in the middle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cascade.exit_codes import UNREACHABLE
from tests.fleets import ROOT

# In a process of its own: the commands patch the standard library for gevent before all else.
SCRIPT = """
import pyinfra_cli
import sys
from contextlib import nullcontext
from types import SimpleNamespace
from paramiko import SSHException
from urllib3.exceptions import ProtocolError
from cascade.commands import down, logs
from operations.down import Standing
from tests.fleets import lab_fleet

command, error, inventory = sys.argv[1:]
state = SimpleNamespace(inventory=SimpleNamespace(get_host=str))
run = SimpleNamespace(fleet=lab_fleet(), state=state, locked=lambda _: nullcontext())
standing = Standing({"cascade-core": ()}, {}, (), (), (), (), (), (), (), ())

def hangs_up(*_, **__):
    yield "one"
    raise eval(error)("gone")

if command == "down":
    down.session = lambda *_: nullcontext(run)
    down.what_stands = lambda _: standing
    down.stop_agents = hangs_up
    down.command([inventory, "--yes"])
else:
    logs.load, logs.connected, logs.log_lines = lambda *_, **__: run, lambda _: nullcontext(), hangs_up
    logs.command([inventory, "ServiceRegistry", "-f"])
"""


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("down", "SSHException"),
        ("down", "EOFError"),
        ("down", "OSError"),
        ("logs", "SSHException"),
        ("logs", "EOFError"),
        ("logs", "ProtocolError"),
    ],
)
def test_a_host_that_hangs_up_is_unreachable(command: str, error: str, tmp_path: Path) -> None:
    inventory = tmp_path / "home.py"
    inventory.touch()
    argv = [sys.executable, "-c", SCRIPT, command, error, str(inventory)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == UNREACHABLE
    assert done.stdout.splitlines()[-1] == "one"
    (said,) = done.stderr.splitlines()
    assert said.endswith("the connection was lost: gone; run it again to go on")
