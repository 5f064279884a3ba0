"""The preflight's shell: reads every host at once, and asks a person where only a person may say yes."""

from __future__ import annotations

import re
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import gevent
from paramiko import SSHException
from pyinfra.api.command import StringCommand
from pyinfra.api.exceptions import ConnectError, PyinfraError
from pyinfra.api.host import Host
from pyinfra.context import ctx_host

from cascade.exit_codes import UNREACHABLE
from cascade.model.strict import printable
from cascade.planning.checks.network import calls_among
from cascade.planning.checks.subject import Facts, Skew, own_file
from cascade.planning.gpu import Vram, vram_of
from cascade.planning.plan import Plan
from cascade.planning.preflight import (
    Finding,
    errors,
    examine,
    first_findings,
    look_of,
    of_plan,
    query_for,
)
from cascade.planning.target import target_of
from operations.look import Look, files_as_read
from operations.snapshot import Preflight, answer_of
from operations.sources import EVERYBODYS, Sources
from operations.trust import Refused, meet, place_of, why_not

if TYPE_CHECKING:
    from operations.run import Run

SCRIPT = Path(__file__).with_name("remote_preflight.py")
LOOK_S = 20
# Needs nothing but a shell, and says of each thing whether it is there.
LOOK = (
    'echo "user $(id -un)";'
    ' if said=$(sudo -n sh -c : 2>&1); then said=yes; fi; printf "sudo %s\\n" "$said" | head -n 1;'
    ' echo "python3 $(command -v python3)"'
)

_ADVICE = re.compile(r"; |\. (?=If )")

Ask = Callable[[Iterable[Finding]], bool]
T = TypeVar("T")


def at_once(hosts: Iterable[Host], work: Callable[[Host], T]) -> dict[str, T]:
    """The same work on every host at the same time, and what came of it."""

    def on(host: Host) -> T:
        with ctx_host.use(host):
            return work(host)

    jobs = {host.name: gevent.spawn(on, host) for host in hosts}
    gevent.joinall(list(jobs.values()), raise_error=True)
    return {name: job.value for name, job in jobs.items()}


def preflight(run: Run, snapshots: Mapping[str, Any], plan: Plan, ask: Ask) -> tuple[Finding, ...]:
    """Checks the hosts of these snapshots before a plan is carried out; nothing is changed.

    `ask` is called when all that is wrong is a restart of Docker that stops somebody's containers. Hosts
    that are ready nodes of the Swarm have proven their ports to each other.
    """
    facts = _known(run, snapshots, plan)
    return _judged(gather(run, facts, prove_ports=not all(map(facts.ready, snapshots))), ask)


def _known(run: Run, snapshots: Mapping[str, Any], plan: Plan) -> Facts:
    sources = Sources(run.state.inventory, run.files)

    def file_of(host: str, setting: str) -> str:
        """The file that gives the host this setting, unless that is everybody's or there is none."""
        found = sources.file_defining(host, setting)
        return own_file(host, setting) if found in (None, EVERYBODYS) else found

    allowed = run.fleet.options.allow_docker_restart
    return Facts(run.fleet, plan, snapshots, {}, {}, allow_docker_restart=allowed, file_of=file_of)


def gather(run: Run, facts: Facts, prove_ports: bool) -> Facts:
    """Reads the hosts of the snapshots, all at the same time, so that they can call each other."""
    if prove_ports:
        members = {name for name in facts.snapshots if facts.in_swarm(name)}
        facts = replace(facts, calls=calls_among(run.fleet, facts.snapshots, members))
    word = secrets.token_hex(8)
    hosts = [run.state.inventory.get_host(name) for name in facts.snapshots]
    found = at_once(hosts, lambda host: _read(host, query_for(facts, host.name, word)))
    return replace(
        facts,
        readings={name: reading for name, (reading, _) in found.items() if reading},
        skews={name: skew for name, (_, skew) in found.items() if skew},
    )


def _read(host: Host, query: dict[str, Any]) -> tuple[Any, Skew | None]:
    """A host's reading, and its clock held against the middle of the time in which it was read.

    The script says how long it ran, so only the way to it and back is uncertain.
    """
    sent = time.time()
    reading = answer_of(host, query, SCRIPT, Preflight)
    if reading is None:
        return None, None
    clock = reading["clock"]
    under_way = max(0.0, time.time() - sent - clock["took"])
    return reading, Skew(clock["at"] - (sent + under_way / 2), under_way / 2)


def _unread(host: str) -> Finding:
    step = f"log in and try `sudo python3 -c 1` on {host}"
    return Finding(host, "state", "error", "could not be read", step)


def _judged(facts: Facts, ask: Ask) -> tuple[Finding, ...]:
    """The findings; a restart of Docker is asked about when nothing else is in the way."""
    unread = [_unread(name) for name in facts.snapshots if name not in facts.readings]
    findings = (*unread, *examine(facts))
    wrong = errors(findings)
    restarts = [finding for finding in wrong if finding.check == "docker-restart"]
    if not restarts or len(restarts) < len(wrong) or not ask(restarts):
        return findings
    return examine(replace(facts, allow_docker_restart=True))


def ask_on_terminal(restarts: Iterable[Finding]) -> bool:
    """Whether a person says yes; nobody is asked who cannot answer."""
    if not sys.stdin.isatty():
        return False
    for finding in restarts:
        click.echo(printable(f"{finding.host}: {finding.message}"), err=True)
    try:
        return click.confirm("May Docker be restarted, and these stop?", err=True)
    except click.Abort:
        return False


def never(_restarts: Iterable[Finding]) -> bool:
    """The answer where nobody is to be asked."""
    return False


def first_look(host: Host) -> tuple[Finding, ...]:
    """Whether the host can be asked at all: one command for a shell, without sudo and python3."""
    try:
        _, output = host.run_shell_command(StringCommand(LOOK), _timeout=LOOK_S)
    except (SSHException, EOFError, OSError) as error:
        step = "look at the host and its network, and run it again"
        return (Finding(host.name, "reachable", "error", f"the connection was lost: {error}", step),)
    return first_findings(host.name, look_of(output.stdout_lines), _bootstrap(host))


def _bootstrap(host: Host) -> str:
    """The command that makes a deploy user with sudo and python3."""
    place, user = place_of(host), host.data.dict().get("ssh_user")
    port = f":{place.port}" if place.port else ""
    named = f" --user {user}" if user not in (None, "deploy") else ""
    return f"cascade bootstrap{named} USER@{place.hostname}{port}"


def why_unread(run: Run, names: Iterable[str]) -> list[str]:
    """What stands in the way of reading these hosts, each with its next step."""
    return [str(finding) for finding in unread(run, names)]


def unread(run: Run, names: Iterable[str]) -> list[Finding]:
    """Why these hosts could not be read."""
    looks = at_once(map(run.state.inventory.get_host, names), first_look)
    return [finding for name, look in looks.items() for finding in errors(look) or (_unread(name),)]


@dataclass(frozen=True)
class Diagnosed:
    """What was found, and how the memory of the GPUs stands that could be read."""

    findings: tuple[Finding, ...]
    gpus: tuple[Vram, ...]


def diagnose(run: Run, ask: Ask) -> Diagnosed:
    """Everything about the hosts of a connected run; one that cannot be asked holds up no other."""
    looks = at_once(run.state.inventory.get_active_hosts(), first_look)
    readable = [run.state.inventory.get_host(name) for name, look in looks.items() if not errors(look)]
    target = target_of(run.fleet)
    taken = run.read_snapshots(readable, target.named)
    snapshots = {name: snapshot for name, snapshot in taken.items() if snapshot is not None}
    unread = [_unread(name) for name, snapshot in taken.items() if snapshot is None]
    plan = run.plan_of(Look(files_as_read(run, snapshots), snapshots))
    found = _judged(gather(run, _known(run, snapshots, plan), prove_ports=True), ask)
    first = (finding for look in looks.values() for finding in look)
    gpus = vram_of(plan.target.wanted, plan.target.manager, snapshots)
    return Diagnosed((*first, *unread, *of_plan(plan), *found), gpus)


def by_host(run: Run, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """In the order of the inventory, and for each host in the order in which they were found."""
    order = [*run.fleet.hosts]
    return tuple(sorted(findings, key=lambda finding: order.index(finding.host)))


def connect_each(run: Run, trusting: bool, fingerprints: tuple[str, ...]) -> tuple[Finding, ...]:
    """Connects every host of the run that can be reached, and says why the others cannot."""
    run.quiet = True
    hosts = [host for host in run.state.inventory if run.state.is_host_in_limit(host)]
    refused = {host.name: _met(host, fingerprints) for host in hosts} if trusting else {}
    known = [host for host in hosts if refused.get(host.name) is None]
    tried = at_once(known, _connected)
    for host in known:
        if host.connected:
            run.state.activate_host(host)
    faults = {**refused, **tried}
    return tuple(finding for host in hosts if (finding := faults[host.name]))


def _met(host: Host, fingerprints: tuple[str, ...]) -> Finding | None:
    try:
        meet(place_of(host), fingerprints)
    except Refused as refused:
        check = "reachable" if refused.code == UNREACHABLE else "host-key"
        return _refusal(host, check, str(refused))
    return None


def _connected(host: Host) -> Finding | None:
    try:
        host.connect(show_errors=False, raise_exceptions=True)
    except ConnectError as error:
        if reason := why_not(host, error):
            return _refusal(host, "reachable", reason)
        place = place_of(host)
        where = f"{place.hostname}{f' port {place.port}' if place.port else ''}"
        step = f"is it on, is {where} right in the inventory, and may this user and key log in?"
        return Finding(host.name, "reachable", "error", str(error), step)
    except PyinfraError as error:
        step = "give a private key that this user may read, without a passphrase"
        return Finding(host.name, "reachable", "error", str(error), step)
    return None


def _refusal(host: Host, check: str, reason: str) -> Finding:
    """The words of operations.trust, in which the advice comes last."""
    message, *step = _ADVICE.split(reason.removeprefix(f"{host.name}: "), maxsplit=1)
    return Finding(host.name, check, "error", message, "".join(step))
