"""The Docker engine of a host: its settings and its process."""

from __future__ import annotations

import json
import shlex
from typing import Any

import docker.errors
import requests
from paramiko import SSHException
from pyinfra.api.host import Host

from cascade.model.daemon import merged
from cascade.planning.desired import SETTINGS_STAMP, stamp
from cascade.planning.diff import Change
from cascade.planning.steps import Recheck
from operations.host.exchange import Exchange
from operations.host.files import FRESH, How, written
from operations.host.shell import shell, succeeds
from operations.polling import poll
from operations.run import Run, WorkFailed

ENGINE_DEADLINE_S = 90.0
DOCKER_UNIT = "docker.service"
# A unit does not start while one that it requires is masked.
_REQUIRED = {DOCKER_UNIT: ("docker.socket",)}


def apply_settings(run: Run, host: Host, change: Change) -> None:
    """Merges our settings into the owner's file; a running engine is restarted, and put back if it fails."""
    path = change.key.name
    new = f"{path}{FRESH}"
    settings = merged(_owners_settings(host, path), change.desired)
    # As closed to others as the old one is.
    _write(host, path, f"{json.dumps(settings, indent=2, sort_keys=True)}\n", "beside")
    if succeeds(host, "command -v dockerd"):
        shell(host, f"dockerd --validate --config-file={new}")
    running = succeeds(host, f"systemctl is-active --quiet {DOCKER_UNIT}")
    exchange = Exchange(host, change)
    exchange.keep()
    shell(host, f"mv -T {new} {path}")
    if running:
        _restart(run, host, path, exchange)
    exchange.settle()
    _write(host, SETTINGS_STAMP, stamp(settings), "moved")


def _owners_settings(host: Host, path: str) -> dict[str, Any]:
    content = shell(host, f"test ! -e {path} || cat {path}")
    settings: dict[str, Any] = json.loads(content or "{}")
    return settings


def _write(host: Host, path: str, content: str, how: How) -> None:
    command = written(path, content.encode(), how=how)
    done, output = host.run_shell_command(command, _sudo=True, **command.connector_arguments)
    if not done:
        raise WorkFailed(output.output or f"{path}: no output")


def _restart(run: Run, host: Host, path: str, exchange: Exchange) -> None:
    run.forget_client(host.name)
    restart = f"systemctl reset-failed {DOCKER_UNIT}; systemctl restart {DOCKER_UNIT}"
    if not succeeds(host, restart):
        log = shell(host, f"journalctl -u {DOCKER_UNIT} -n 5 --no-pager -o cat")
        shell(host, exchange.going_back)
        back = "runs again" if succeeds(host, restart) else "does not start either"
        raise WorkFailed(f"it did not start with the new {path}; with the old one it {back}. It said: {log}")
    wait_for_engine(run, host)


def start_unit(run: Run, host: Host, change: Change) -> None:
    """Enables and starts a unit, masked or not; Docker counts as started when it answers."""
    unit = shlex.quote(change.key.name)
    masked = shlex.join((change.key.name, *_REQUIRED.get(change.key.name, ())))
    shell(host, f"systemctl unmask {masked} && systemctl enable --now {unit}")
    if change.key.name == DOCKER_UNIT:
        run.forget_client(host.name)
        wait_for_engine(run, host)


def wait_for_engine(run: Run, host: Host) -> None:
    """Until the engine answers; raises WorkFailed when its API is too old for Cascade."""
    if refusal := poll("the Docker engine", lambda: _ping(run, host), ENGINE_DEADLINE_S):
        raise WorkFailed(f"the Docker engine is too old, Cascade needs 25 or later: {refusal}")


def _ping(run: Run, host: Host) -> str:
    """What the engine has against this client, or an empty string."""
    try:
        run.client(host.name).ping()
    except docker.errors.APIError as error:
        if error.is_client_error():
            return str(error.explanation)
        raise WorkFailed(str(error)) from error
    except (requests.RequestException, SSHException) as error:
        run.forget_client(host.name)
        raise WorkFailed(str(error)) from error
    return ""


def recheck(run: Run, _host: Host, started: Recheck) -> None:
    """Reads the fleet again; raises WorkFailed when the started engines do not hold what is wanted."""

    def in_sync() -> None:
        plan = run.fresh_plan()
        if plan.unknown or plan.stopped:
            stopped = (f"{name}: its engine does not run" for name in sorted(plan.stopped))
            raise WorkFailed(", ".join([*map(str, plan.unknown), *stopped]))
        differing = [str(change) for change in plan.changes if _concerns(change, started)]
        if differing:
            raise WorkFailed(f"{', '.join(differing)}: run again to mend this")

    poll(f"what {', '.join(started.hosts)} holds", in_sync, ENGINE_DEADLINE_S)


def _concerns(change: Change, started: Recheck) -> bool:
    """Whether this lies on a started host, or is its place in the Swarm; a card may take no setting."""
    here = change.key.host in started.hosts and change.key.kind != "gpu"
    return here or change.key.name in started.hosts
