"""One run of Cascade: its connections, its plan, its counts, its exit code."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from threading import RLock
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import click
from pyinfra import logger
from pyinfra.api.command import StringCommand
from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import BaseStateCallback, State, StateStage

from cascade.closing import again, closing_lines
from cascade.documents import Diagnosis
from cascade.exit_codes import ATTENTION, ERROR, INVALID, UNREACHABLE
from cascade.model.fleet import Fleet
from cascade.model.strict import InvalidFiles, Problem, printable, printable_lines
from cascade.planning.desired import LOCK_FILE, Desired
from cascade.planning.diff import Change
from cascade.planning.drift import spared_by
from cascade.planning.plan import Plan, make_plan
from cascade.planning.plan_file import NoPlan, PlanFile, moved, saved_changes
from cascade.planning.plan_file import read as read_plan
from cascade.planning.preflight import Finding, errors, worth_saying
from cascade.planning.progress import where_it_stands
from cascade.planning.release import ROLLBACK, purpose_of
from cascade.planning.removal import PRUNABLE, REMOVABLE
from cascade.planning.resource import Key, Unknown
from cascade.planning.steps import GATE_NAME
from cascade.secrets.store import NOTHING_OPEN
from operations.audit import COMMAND_FAILED, Trail
from operations.engine_client import EngineClient
from operations.failed import WorkFailed as WorkFailed
from operations.fleet import Secrets, load_fleet, load_system
from operations.lock import CONNECTION_LOST, EXPIRES_S, Lock, Lost, Stopwatch, left_behind
from operations.look import Look, look
from operations.operator import operator
from operations.preflight import Ask, ask_on_terminal, at_once, never, preflight, why_unread
from operations.python_files import PythonFiles
from operations.report import write_report
from operations.signals import SIGNALS, Interrupted
from operations.snapshot import query_for, take_snapshot
from operations.ssh import PATIENCE_S, connect_patiently, is_cut, look_after
from operations.ssh import transport_of as transport_of
from operations.terminal import stay_alive_while_asking
from operations.trust import why_not

_SPINNER = "PYINFRA_PROGRESS"
_NO_FAULT = (None, ATTENTION)
_RUNS: WeakKeyDictionary[State, Run] = WeakKeyDictionary()


class Stopped(SystemExit):
    """Ends the run with its own exit code; what there is to say has been said."""

    def __init__(self, code: int, messages: tuple[str, ...] = ()) -> None:
        super().__init__(code)
        self.messages = messages


class Run:
    """What a run must know once."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.code: int | None = None
        self.inventory_file = ""
        self.files: PythonFiles | None = None
        self.check_images = True
        self.secrets: Secrets = "named"
        self.opened = NOTHING_OPEN
        self.unopened: tuple[Problem, ...] = ()
        self.ask: Ask = never
        self.quiet = False
        self.ended = False
        self.changing = False
        self.warned = False
        self.began = time.monotonic()
        self.saved: PlanFile | None = None
        self.rolled_out: list[Change] = []
        self.ended_before: dict[Key, frozenset[str]] = {}
        self.gpus_free: set[str] = set()
        self.diagnoses: list[Diagnosis] = []
        self.steps_ended: set[str] = set()
        self.hosts_asked = False
        self.holding = False
        self.purpose = "deploy"
        self.id = secrets.token_hex(6)
        self.lock = Lock(self.id, operator())
        self.trail = Trail(operator(), self.id)
        self.seconds = defaultdict(float, {"start-up": time.process_time()})
        self.execs: Counter[str] = Counter()
        self.writes = 0
        self._clients: dict[str, EngineClient] = {}
        self._planning = RLock()
        self.connecting_since = 0.0
        self.operation_since = 0.0
        self.spinner = os.environ.get(_SPINNER, "on")
        # It shows a traceback of its own for a host that hangs up; the run says that in a line.
        logging.getLogger("paramiko").setLevel(logging.CRITICAL)
        _RUNS[state] = self

    @classmethod
    def begin(cls, state: State) -> Run:
        """Joins a run of the pyinfra command line; called by config.py.

        pyinfra shows a traceback for a mistake in group_data, and offers no moment between loading the
        inventory and connecting, so its loading and its `init` are extended.
        """
        import pyinfra_cli.cli

        run = cls(state)
        atexit.register(run.finish)
        run.obey_signals()
        stay_alive_while_asking()
        run.changing = _would_change()
        run.secrets = "open" if _would_compare() else "named"
        if _would_ask():
            run.ask = ask_on_terminal
        if _would_ask() and not sys.stdin.isatty():
            run.fail(INVALID, "there is no terminal to ask on: add --yes to deploy; `pyinfra … --dry` looks")
        initialise = state.init
        pyinfra_cli.cli.make_inventory = partial(run.load, pyinfra_cli.cli.make_inventory)
        pyinfra_cli.cli._exit = partial(run.end, pyinfra_cli.cli._exit)

        def initialise_and_check(*args: Any, **kwargs: Any) -> None:
            initialise(*args, **kwargs)
            run.join()

        state.init = initialise_and_check  # type: ignore[method-assign]
        return run

    @staticmethod
    def of(state: State) -> Run:
        """The run that this pyinfra state belongs to."""
        return _RUNS[state]

    def load(self, load: Callable[..., Inventory], *args: Any, **kwargs: Any) -> Inventory:
        """Loads an inventory and checks all files; says every problem and raises Stopped if there is one."""
        try:
            inventory = self.read(load, *args, **kwargs)
        except InvalidFiles as invalid:
            self.fail(INVALID, *map(str, invalid.problems))
        if path := self.fleet.options.plan_file:
            self.saved = self._saved_plan(path)
        elif self.fleet.options.rollback or self.fleet.options.repair:
            for problem in self.unopened:
                logger.warning(f"going on without a value: {problem}")
        return inventory

    def _saved_plan(self, path: str) -> PlanFile:
        try:
            return read_plan(Path(path).read_text(encoding="utf-8"))
        except NoPlan as error:
            self.fail(INVALID, f"{path} {error}")
        except (OSError, UnicodeDecodeError) as error:
            self.fail(INVALID, f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")

    def read(self, load: Callable[..., Inventory], *args: Any, **kwargs: Any) -> Inventory:
        """Loads an inventory and checks all files, before anything else; raises InvalidFiles."""
        self.inventory_file = str(args[0])
        files = self.files = PythonFiles(self.inventory_file)
        with self.timed("start-up"):
            with files.reading():
                inventory = load(*args, **kwargs)
            system = load_system(inventory, self.check_images, files, self.secrets)
            self.fleet, self.opened, self.unopened = system.fleet, system.opened, system.unopened
        return inventory

    def join(self) -> None:
        """Listens to what pyinfra does; a run that `--limit` leaves no host would be called a success."""
        if self.state.limit_hosts == []:
            hosts = ", ".join(self.fleet.hosts)
            self.fail(
                INVALID, f"no host is left by --limit: name one of {hosts}, or a group of the inventory"
            )
        self.state.add_callback_handler(_Listener())
        self.state.should_raise_failed_hosts = None

    @cached_property
    def fleet(self) -> Fleet:
        return load_fleet(self.state.inventory, self.check_images)

    @property
    def chosen_hosts(self) -> list[str]:
        """The hosts that `--limit` leaves, whether they are reached or not."""
        return [host.name for host in self.state.inventory if self.state.is_host_in_limit(host)]

    def obey_signals(self) -> None:
        """From here on a signal ends the run: between two changes, and at once while there are none."""
        SIGNALS.take_over(lambda: self.at_work, partial(self.fail, ERROR))

    @property
    def at_work(self) -> bool:
        """Whether an end at any moment would cut a change in two."""
        return self.holding or self.state.current_stage == StateStage.Execute

    def refuse(self, unknown: Iterable[Unknown]) -> None:
        """Ends the run where something could not be read."""
        if faults := [str(fault) for fault in unknown]:
            self.fail(ERROR, *faults)

    def refuse_without_manager(self, snapshots: Collection[str]) -> None:
        """Ends the run where nobody was asked who knows what runs."""
        if (manager := self.fleet.manager.name) not in snapshots:
            self.fail(ERROR, f"{manager}: it is the manager and alone knows what runs: do not leave it out")

    def fail(self, code: int, *messages: str) -> NoReturn:
        """Says what is wrong and ends the run before anything is touched."""
        for message in messages:
            logger.error(printable_lines(message))
        self.code = code
        raise Stopped(code, messages)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Counts the seconds of the block for the closing line."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[part] += time.monotonic() - began

    def plan(self) -> Plan:
        """The run's one plan: the first caller makes it, from one snapshot per host."""
        with self._planning:
            if self.code:
                raise Stopped(self.code)
            return self._plan

    @cached_property
    def _plan(self) -> Plan:
        since = Stopwatch()
        seen, plan = self._looked()
        if self.changing and (any(plan.steps.values()) or self._left_behind(seen)):
            seen, plan = self._locked(seen, plan, since)
        self.trail.release = plan.release_number or None
        if plan.changes:
            self._heed(self.preflight(seen.snapshots, plan))
        for agent in plan.skipped:
            logger.warning(str(agent))
        for note in (*plan.notes, *plan.unconfined_notes, *plan.differences()):
            logger.info(printable(note))
        return plan

    def _looked(self) -> tuple[Look, Plan]:
        seen = look(self)
        self.purpose = purpose_of(self.fleet.options, seen.release)
        plan = self.plan_of(seen)
        if plan.refused:
            self.fail(ERROR, *map(str, plan.unknown), *plan.refused)
        self.refuse(plan.unknown)
        if self.saved and (since := moved(self.saved.changes, saved_changes(plan.changes))):
            self.fail(ERROR, *since, "the hosts have moved since the plan was made: make it anew")
        return seen, plan

    def _left_behind(self, seen: Look) -> bool:
        """Whether a run of this machine was killed before it could give the lock back."""
        manager = seen.snapshots.get(self.fleet.manager.name)
        return bool(manager and left_behind(manager["files"].get(LOCK_FILE)))

    def _locked(self, seen: Look, plan: Plan, since: Stopwatch) -> tuple[Look, Plan]:
        """The same under the lock; made anew where others may have changed something since it was begun."""
        if not self.take_lock(self.purpose, since):
            logger.warning("others were at work since the hosts were read: they are read again")
            seen, plan = self._looked()
        if not any(plan.steps.values()):
            self.let_go()
        return seen, plan

    def take_lock(self, purpose: str, since: Stopwatch) -> bool:
        """Takes the lock or ends the run; whether nobody else can have held it since then."""
        self.obey_signals()
        manager, inventory = self._manager(), self.inventory_file
        wait_s = self.fleet.options.lock_wait
        try:
            acquired = self.lock.acquire(manager, f"{purpose}, {inventory}", inventory, wait_s)
        except WorkFailed as failure:
            self.fail(failure.code, str(failure))
        except CONNECTION_LOST as failure:
            self.fail(UNREACHABLE, f"{manager.name}: the connection was lost: {failure}")
        return acquired.alone_for(since.seconds)

    def _manager(self) -> Host:
        """The host that keeps the lock, also where `--limit` leaves it out of everything else."""
        host = self.state.inventory.get_host(self.fleet.manager.name)
        host.connect(reason="it keeps the lock")
        if not host.connected:
            step = "bring it back first, or nobody knows who else is at work"
            self.fail(UNREACHABLE, f"{host.name}: it keeps the lock and cannot be reached: {step}")
        return host

    def let_go(self) -> None:
        """Ends what must not outlive the run: its lines in the journals, and its lock."""
        for failure in self.trail.close():
            logger.warning(failure)
        try:
            self.lock.release()
        except Lost as lost:
            self.code = ERROR if self.code in _NO_FAULT else self.code
            logger.error(str(lost))
        except (WorkFailed, *CONNECTION_LOST) as failure:
            logger.warning(f"the lock stays for {EXPIRES_S:.0f} s and then expires: {failure}")

    @contextmanager
    def locked(self, purpose: str) -> Iterator[None]:
        """The lock for the length of a block that changes something, for a command that has shown what."""
        self.take_lock(purpose, Stopwatch())
        self.holding = True
        try:
            yield
        except Interrupted as interrupted:
            raise WorkFailed(str(interrupted)) from interrupted
        finally:
            self.holding = False
            self.let_go()
        if self.code:
            raise Stopped(self.code)

    @contextmanager
    def on_record(self, host: Host, work: object) -> Iterator[None]:
        """A block that changes something on a host: only under the lock, and never without a line of it."""
        SIGNALS.pause_point()
        self.lock.check()
        with self.trail.of(host, work):
            yield

    @property
    def audit(self) -> list[dict[str, str]]:
        """What was changed so far, in order."""
        return self.trail.documents

    def fresh_plan(self) -> Plan:
        """A plan from the hosts as they are now."""
        return self.plan_of(look(self))

    def plan_of(self, seen: Look) -> Plan:
        """The plan that follows from what was seen of the hosts."""
        options = self.fleet.options
        kinds = PRUNABLE if options.prune else REMOVABLE if options.rollback else ()
        with self.timed("planning"):
            plan = make_plan(seen.target, seen.snapshots, kinds, seen.last, lost=seen.lost)
            if options.repair:
                spare = spared_by(plan, options.repair)
                plan = make_plan(seen.target, seen.snapshots, kinds, seen.last, spare, seen.lost)
        return plan

    def preflight(self, snapshots: dict[str, Any], plan: Plan) -> tuple[Finding, ...]:
        """What there is to say of the hosts before this plan is carried out."""
        with self.timed("facts"):
            return preflight(self, snapshots, plan, self.ask)

    def _heed(self, findings: Iterable[Finding]) -> None:
        """Says what the preflight found, and ends the run where something stands in its way."""
        findings = worth_saying(findings)
        wrong = errors(findings)
        for finding in findings:
            if finding not in wrong:
                logger.warning(printable(str(finding)))
        if wrong:
            self.fail(ERROR, *map(str, wrong))

    def snapshots(self, wanted: Iterable[Desired], release: str | None = None) -> dict[str, Any]:
        """What every host of the run says of itself; ends the run where one cannot be read."""
        found = self.read_snapshots(self.state.inventory.get_active_hosts(), wanted, release)
        if unread := sorted(name for name, reading in found.items() if reading is None):
            self.fail(ERROR, *why_unread(self, unread))
        return found

    def read_snapshots(
        self, hosts: Iterable[Host], wanted: Iterable[Desired], release: str | None = None
    ) -> dict[str, Any]:
        """What these hosts say of themselves, read from all at once; None for one that could not be read.

        `release` asks for a release with its data: `last`, `previous` or a number. A release may have GPUs
        where the files declare none.
        """
        wanted, system = tuple(wanted), self.fleet.settings.system
        with_gpus = {item.key.host for item in wanted if item.key.kind == "gpu"}

        def read(host: Host) -> Any:
            gpu = self.fleet.hosts[host.name].has_gpu or host.name in with_gpus
            return take_snapshot(host, query_for(host.name, wanted, system, release, gpu))

        with self.timed("facts"):
            return at_once(hosts, read)

    def refuse_without_hosts(self) -> None:
        """Ends the run between two operations where a host is gone: before the first, each is asked.

        Since the hosts were read a person may have thought for a night.
        """
        hosts = [] if self.hosts_asked else self.state.inventory.get_active_hosts()
        self.hosts_asked = True
        answers = at_once(hosts, _answers)
        if lost := sorted({*self.cut_off, *(name for name, there in answers.items() if not there)}):
            self.fail(
                UNREACHABLE, *(f"{name}: the connection was lost; nothing more is begun" for name in lost)
            )

    @property
    def cut_off(self) -> list[str]:
        """The hosts whose connection was lost."""
        return [host.name for host in self.state.inventory if is_cut(host)]

    def client(self, name: str) -> EngineClient:
        """The host's Docker Engine, over its SSH connection; one client per host."""
        if name not in self._clients:
            host = self.state.inventory.get_host(name)
            self._clients[name] = EngineClient(transport_of(host), self._wrote)
        return self._clients[name]

    def forget_client(self, name: str) -> None:
        """Drops a client whose engine was restarted."""
        if client := self._clients.pop(name, None):
            client.close()

    def _wrote(self) -> None:
        self.writes += 1

    def connected(self, host: Host) -> None:
        """Looks after a new connection, and counts what is opened in it."""
        look_after(host)
        transport = transport_of(host)
        open_session = transport.open_session

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.execs[host.name] += 1
            return open_session(*args, **kwargs)

        transport.open_session = counted  # type: ignore[method-assign]

    def end(self, leave: Callable[[], None]) -> None:
        """pyinfra has come to its end: what is still to be done is no success, and no error either."""
        self.ended = True
        if self.code is None and "_plan" in self.__dict__ and not self.state.failed_hosts:
            looked = self.state.current_stage < StateStage.Execute
            if self.warned or self._plan.skipped or (looked and (self._plan.changes or self._plan.unwanted)):
                self.code = ATTENTION
        leave()

    def finish(self) -> None:
        """The closing line and the report; then the run's own exit code, whatever becomes of those."""
        try:
            self._close()
            self._report()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            self._leave()

    def _leave(self) -> None:
        """Ends the process where the run has a code; pyinfra's own holds otherwise."""
        fault = sys.exc_info()[1]
        if fault:
            self.code = self.code or ERROR
        if isinstance(fault, Exception):
            sys.excepthook(type(fault), fault, fault.__traceback__)
        if self.code is not None:
            os._exit(self.code)

    def _close(self) -> None:
        cut_off = self.code is None and self.state.current_stage == StateStage.Execute
        if cut_off or SIGNALS.asked:
            self.code = self.code or ERROR
        if self.state.initialised:
            self.state.pool.kill()
        self.let_go()
        for line in self._where_it_stands():
            logger.error(line)
        if self._deployed:
            if self.purpose.startswith(ROLLBACK):
                logger.info(f"{self.purpose}: done in {time.monotonic() - self.began:.1f} s")
            for line in closing_lines(self.fleet, self.inventory_file):
                logger.info(line)
        if self.code or "_plan" in self.__dict__:
            logger.info(self.summary())

    def _report(self) -> None:
        path = self.fleet.options.report if "fleet" in self.__dict__ else None
        if path and not write_report(self, path, self.__dict__.get("_plan")):
            self.code = self.code or ERROR

    def _where_it_stands(self) -> Iterator[str]:
        """Where a run ended that neither came to its end nor failed at a gate, which says it by itself."""
        if self.state.current_stage < StateStage.Execute:
            if SIGNALS.asked:
                yield "nothing was changed"
        elif self.code in (ERROR, UNREACHABLE) and "_plan" in self.__dict__:
            begun = {change.key for change in self.rolled_out}
            yield from where_it_stands(self._plan, self.steps_ended, begun)
            yield f"next: {self.again}"

    @property
    def again(self) -> str:
        """The command that goes on where this run ended."""
        options = self.fleet.options.model_dump(exclude_defaults=True, exclude={"plan_file", "lock_wait"})
        limit = self.chosen_hosts if len(self.chosen_hosts) < len(self.fleet.hosts) else ()
        return again(self.inventory_file, limit, options, asking=self.ask is not never)

    @property
    def _deployed(self) -> bool:
        """Whether this run has changed the fleet, to its end."""
        planned = self.__dict__.get("_plan")
        ended = self.state.current_stage > StateStage.Execute and not self.state.failed_hosts
        return bool(self.code in _NO_FAULT and planned and planned.changes and ended)

    def summary(self) -> str:
        """One line: what was found or done, the seconds by part, and what it cost."""
        parts = ("start-up", "connect", "facts", "planning", "changes", "gates")
        seconds = ", ".join(f"{part} {self.seconds[part]:.2f}" for part in parts)
        execs = ", ".join(f"{name} {count}" for name, count in sorted(self.execs.items()))
        return f"{self._verdict()}; seconds: {seconds}; SSH execs: {execs}; API writes: {self.writes}"

    def _verdict(self) -> str:
        if self.code not in _NO_FAULT:
            return f"failed with exit code {self.code}"
        plan = self._plan
        if self.state.failed_hosts:
            return "not finished"
        if not plan.changes:
            return "nothing changed, agents waited for" if plan.steps.get("rollout") else "in sync"
        executed = self.state.current_stage >= StateStage.Execute
        return f"{len(plan.changes)} changes {'made' if executed else 'planned'}"


def _would_change() -> bool:
    """Whether pyinfra's command line is going to deploy, perhaps after a question."""
    options = click.get_current_context().params
    looks = any(options[name] for name in ("dry", "debug_facts", "debug_operations"))
    answers = options["yes"] or not options["json_output"]
    return "debug-inventory" not in options["operations"] and not looks and answers


def _would_compare() -> bool:
    """Whether pyinfra's command line is going to compare the hosts with the files, or to change them."""
    return "debug-inventory" not in click.get_current_context().params["operations"]


def _would_ask() -> bool:
    """Whether pyinfra's command line is going to ask before it deploys."""
    return _would_change() and not click.get_current_context().params["yes"]


def _answers(host: Host) -> bool:
    try:
        answered, _ = host.run_shell_command(StringCommand("true"), _timeout=PATIENCE_S)
    except CONNECTION_LOST:
        return False
    return bool(answered)


def _is_gate(state: State, op_hash: str) -> bool:
    return any(name.endswith(GATE_NAME) for name in state.get_op_meta(op_hash).names)


class _Listener(BaseStateCallback):
    """Tells the run what pyinfra does."""

    @staticmethod
    def host_before_connect(state: State, host: Host) -> None:
        """pyinfra would take an unknown key silently, unless an inventory says otherwise."""
        host.connector.data["ssh_strict_host_key_checking"] = "yes"
        connect_patiently(host)
        run = Run.of(state)
        run.connecting_since = run.connecting_since or time.monotonic()

    @staticmethod
    def host_connect(state: State, host: Host) -> None:
        run = Run.of(state)
        run.seconds["connect"] = time.monotonic() - run.connecting_since
        run.connected(host)

    @staticmethod
    def host_connect_error(state: State, host: Host, error: Exception) -> None:
        Run.of(state).code = UNREACHABLE
        if not Run.of(state).quiet and (reason := why_not(host, error)):
            logger.error(reason)

    @staticmethod
    def operation_start(state: State, op_hash: str) -> None:
        """A gate draws its own live line, which pyinfra's spinner would write over."""
        run = Run.of(state)
        if SIGNALS.asked:
            raise Stopped(ERROR)
        run.refuse_without_hosts()
        run.operation_since = time.monotonic()
        os.environ[_SPINNER] = "off" if _is_gate(state, op_hash) else run.spinner

    @staticmethod
    def operation_end(state: State, op_hash: str) -> None:
        run = Run.of(state)
        run.steps_ended.update(state.get_op_meta(op_hash).names)
        part = "gates" if _is_gate(state, op_hash) else "changes"
        run.seconds[part] += time.monotonic() - run.operation_since

    @staticmethod
    def operation_host_error(state: State, host: Host, _op: str, *_: Any) -> None:
        run = Run.of(state)
        run.code = run.code or (UNREACHABLE if is_cut(host) else ERROR)
        try:
            run.trail.end(host, COMMAND_FAILED)
        except (WorkFailed, *CONNECTION_LOST) as failure:
            logger.warning(f"{host.name}: this failure is not in its journal: {failure}")
