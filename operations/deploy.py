"""Carries out the plan, one stage at a time, as pyinfra operations."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import docker.errors
import requests
from pyinfra import logger
from pyinfra.api.command import FunctionCommand, PyinfraCommand, StringCommand
from pyinfra.api.host import Host
from pyinfra.api.operation import operation
from pyinfra.api.state import State
from pyinfra.context import ctx_host, ctx_state

from cascade.exit_codes import ERROR, UNREACHABLE
from cascade.model.strict import printable_lines
from cascade.planning.desired import JOURNAL_SETTINGS, SSH_SETTINGS, Stage
from cascade.planning.diff import Change
from cascade.planning.resource import Kind
from cascade.planning.steps import Gate, Recheck, Record, Work
from operations.host.confinement import load_profile
from operations.host.engine import apply_settings, recheck, start_unit
from operations.host.gpu import prepare_gpu, write_key
from operations.host.hardening import limit_journal, set_permissions
from operations.host.secrets import keep_secret
from operations.host.ssh_server import harden_ssh
from operations.host.system import install, set_sysctl, write_file
from operations.releases import record
from operations.run import Run, WorkFailed
from operations.signals import SIGNALS, Interrupted
from operations.ssh import CONNECTION_LOST
from operations.swarm.cluster import join, settle
from operations.swarm.images import deliver_image
from operations.swarm.objects import create_config, create_network, create_secret, create_volume
from operations.swarm.removal import remove
from operations.swarm.rollout import pass_gate, roll_out_container, roll_out_service

Commands = Iterator[PyinfraCommand]
Call = Callable[[Run, Host, Change], None]

_ON_HOST: dict[Kind, Callable[[tuple[Change, ...]], Commands]] = {
    "package": install,
    "file": write_file,
    "sysctl": set_sysctl,
}
_BY_CALL: dict[Kind, Call] = {
    "apparmor": load_profile,
    "permissions": set_permissions,
    "signing-key": write_key,
    "gpu": prepare_gpu,
    "daemon-settings": apply_settings,
    "unit": start_unit,
    "swarm": join,
    "node": settle,
    "network": create_network,
    "volume": create_volume,
    "config": create_config,
    "secret": create_secret,
    "secret-file": keep_secret,
    "image": deliver_image,
}
# Files that somebody must be told to read, who may not like what they say.
_BY_PATH: dict[str, Call] = {JOURNAL_SETTINGS: limit_journal, SSH_SETTINGS: harden_ssh}
# These write down themselves what they do, and what they undo.
_ROLLED_OUT: dict[Kind, Call] = {"service": roll_out_service, "container": roll_out_container}


def carry_out(stage: Stage) -> None:
    """Every step of a stage as one operation on every host, so that all hosts keep the same order.

    pyinfra orders operations by how many come before them on each host: a host that left some out would
    run ahead of the others.
    """
    host = ctx_host.get()
    for step in host.loop(Run.of(ctx_state.get()).plan().steps.get(stage, ())):
        work(step.work.get(host.name), name=step.name, _sudo=True)  # type: ignore[call-arg, misc]


@operation()
def work(assigned: Work | None) -> Generator[PyinfraCommand, None, None]:
    """Prepared, it says whether there is work; executed, it does it."""
    if assigned is None:
        return
    if not ctx_state.get().is_executing:
        yield StringCommand("true")
    elif isinstance(assigned, Gate):
        yield _call(pass_gate, assigned)
    elif isinstance(assigned, Recheck):
        yield _call(recheck, assigned)
    elif isinstance(assigned, Record):
        yield _call(record, assigned)
    elif assigned[0].action == "remove" and assigned[0].key.kind not in (*_ON_HOST, "secret-file"):
        yield _call(_on_record(remove), assigned)
    elif call := _BY_PATH.get(assigned[0].key.name):
        yield from (_call(_on_record(call), change) for change in assigned)
    elif (kind := assigned[0].key.kind) in _ON_HOST:
        yield _call(_begin, assigned)
        yield from _ON_HOST[kind](assigned)
        yield _call(_end, assigned)
    elif kind in _BY_CALL:
        yield from (_call(_on_record(_BY_CALL[kind]), change) for change in assigned)
    else:
        yield from (_call(_ROLLED_OUT[kind], change) for change in assigned)


def _on_record(function: Callable[[Run, Host, Any], None]) -> Callable[[Run, Host, Any], None]:
    """The same with a line in the host's journal."""

    def change(run: Run, host: Host, subject: Any) -> None:
        with run.on_record(host, subject):
            function(run, host, subject)

    return change


def _begin(run: Run, host: Host, changes: tuple[Change, ...]) -> None:
    """Before commands that pyinfra runs itself; it asks for none after one that failed."""
    run.trail.begin(host, changes)


def _end(run: Run, host: Host, _changes: tuple[Change, ...]) -> None:
    run.trail.end(host)


def _call(function: Callable[[Run, Host, Any], None], subject: Any) -> FunctionCommand:
    """A command that runs here; what the host or its engine answers ends the run without a traceback."""

    def call(state: State, host: Host) -> bool:
        run = Run.of(state)
        try:
            SIGNALS.pause_point()
            run.lock.check()
            function(run, host, subject)
        except Interrupted as interrupted:
            run.code = ERROR
            host.log_styled(str(interrupted), log_func=logger.error, fg="red")
            return False
        except (WorkFailed, docker.errors.DockerException, *CONNECTION_LOST) as failure:
            run.code, said = _told(run, failure)
            host.log_styled(printable_lines(said), log_func=logger.error, fg="red")
            return False
        return True

    return FunctionCommand(call, (), {})


def _told(run: Run, failure: Exception) -> tuple[int, str]:
    """The exit code of a failure and what to say of it; the engine's calls end with a connection too."""
    if isinstance(failure, WorkFailed):
        return failure.code, str(failure)
    if lost := run.cut_off:
        return UNREACHABLE, f"the connection to {', '.join(lost)} was lost"
    if isinstance(failure, (docker.errors.DockerException, requests.RequestException)):
        return ERROR, str(failure)
    return UNREACHABLE, f"the connection was lost: {failure or type(failure).__name__}"
