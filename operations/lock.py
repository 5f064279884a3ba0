"""The lock on the manager around everything that changes something."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any

import gevent
from pyinfra import logger
from pyinfra.api.command import StringCommand
from pyinfra.api.host import Host

from cascade.exit_codes import LOCKED
from cascade.model.strict import one_line
from cascade.polling import NotInTime, until
from operations.failed import WorkFailed
from operations.process import identity, is_gone
from operations.ssh import CONNECTION_LOST as CONNECTION_LOST
from operations.ssh import PATIENCE_S

EXPIRES_S = 90.0
BEAT_S = 20.0
# Later than this nobody can say without asking whether the lock is still held: a laptop may have slept.
STALE_S = 45.0
RETRY_S = 1.0

_SCRIPT = Path(__file__).with_name("remote_lock.py")

Answer = Mapping[str, Any]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Holder:
    """Who holds the lock, a `run` or a `person`, since when and what for; the seconds are the manager's.

    `gone` is a run of this machine whose process has ended without giving the lock back.
    """

    holder: str
    owner: str
    purpose: str
    acquired: datetime
    silent_s: float
    expires_s: float | None
    expired: bool
    gone: bool = False

    @classmethod
    def of(cls, seen: Answer) -> Holder:
        """From the words of the host, fit for any terminal."""
        return cls(
            holder=one_line(seen["holder"]),
            owner=one_line(seen["owner"]),
            purpose=one_line(seen["purpose"]),
            acquired=datetime.fromtimestamp(max(0, seen["acquired"]), UTC),
            silent_s=seen["silent_s"],
            expires_s=seen["expires_s"],
            expired=seen["expired"],
            gone=seen["holder"] == "run" and is_gone(seen.get("process")),
        )

    def __str__(self) -> str:
        return f"{self.owner} since {self.acquired:%Y-%m-%d %H:%M:%S} UTC, for: {self.purpose}"

    @property
    def signs(self) -> str:
        """What can be said of its end."""
        if self.expires_s is None:
            return "it does not expire"
        left = max(0, round(self.expires_s - self.silent_s))
        if self.holder == "run":
            return f"last heard of {max(0, round(self.silent_s))} s ago; expires after {left} s of silence"
        return f"it expires in {left} s"


@dataclass(frozen=True)
class Acquired:
    """Who was taken over from, for how long nobody had held the lock, and whether others were waited for.

    `idle_s` is None where nobody ever held it.
    """

    taken_from: Holder | None = None
    idle_s: float | None = None
    waited: bool = False

    def alone_for(self, seconds: float) -> bool:
        """Whether nobody else can have changed anything in so many seconds."""
        free = self.idle_s is None or self.idle_s > seconds
        return free and self.taken_from is None and not self.waited


class Stopwatch:
    """Counts on while the machine sleeps, and whatever somebody sets its clock to."""

    def __init__(self) -> None:
        self._wall, self._monotonic = time.time(), time.monotonic()

    @property
    def seconds(self) -> float:
        return max(time.time() - self._wall, time.monotonic() - self._monotonic)


class Held(WorkFailed):
    """Somebody else holds the lock."""

    def __init__(self, holder: Holder, host: str, inventory: str) -> None:
        self.holder = holder
        super().__init__(
            f"{host}: locked by {holder}; {holder.signs}. Nothing was changed. Next: wait for it with"
            f" --lock-wait 600 (pyinfra: --data lock_wait=600), look with `cascade lock status {inventory}`,"
            f" or, if nobody is at work any more, `cascade lock release {inventory} --force`",
            LOCKED,
        )


class Lost(WorkFailed):
    """The lock went into other hands while this run believed to hold it."""


def ask(host: Host, task: Answer) -> Answer:
    """Has the host do one task with its lock.

    Raises WorkFailed when nobody can say who holds it, and OSError and the like when the connection is lost.
    """
    text = f"import json\nTASK = json.loads({json.dumps(task)!r})\n{_SCRIPT.read_text()}"
    done, output = host.run_shell_command(
        StringCommand("python3 -IS -"), _sudo=True, _stdin=text, _timeout=PATIENCE_S
    )
    answer = _understood(output.stdout) if done else None
    if answer is None:
        said = one_line((output.stderr or output.stdout).strip().rpartition("\n")[2])
        raise WorkFailed(f"{host.name}: the lock could not be asked for: {said or 'no answer'}")
    if "error" in answer:
        raise WorkFailed(f"{host.name}: the lock is unknown: {one_line(answer['error'])}")
    return answer


def _understood(text: str) -> Answer | None:
    try:
        answer = json.loads(text)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def standing(host: Host) -> Holder | None:
    """Who holds the lock; one that has expired is told too."""
    seen = ask(host, {"do": "read"})["holder"]
    return seen and Holder.of(seen)


def left_behind(reading: object) -> bool:
    """Whether a lock, as a snapshot has its file, is of a run of this machine that was killed."""
    record = _understood(reading.get("content") or "") if isinstance(reading, dict) else None
    return bool(record and record.get("holder") == "run" and is_gone(record.get("process")))


def acquire_by_hand(
    host: Host, token: str, owner: str, purpose: str, expires_s: float | None, inventory: str
) -> Acquired:
    """A person's lock: it has no heartbeat and stands until it is released or `expires_s` is over."""
    task = {
        "do": "acquire",
        "token": token,
        "holder": "person",
        "owner": owner,
        "purpose": purpose,
        "expires_s": expires_s,
    }
    return _acquired(host, task, inventory)


def release_by_hand(host: Host, owner: str, force: bool) -> Answer:
    """What became of it: `free`, `released` with the holder that was, or `foreign` with the one that is."""
    return ask(host, {"do": "release", "owner": owner, "force": force})


def _acquired(host: Host, task: Answer, inventory: str) -> Acquired:
    answer = ask(host, task)
    if "held" in answer and Holder.of(answer["held"]).gone:
        answer = ask(host, {**task, "in_place_of": answer["held"]["process"]})
    if "held" in answer:
        raise Held(Holder.of(answer["held"]), host.name, inventory)
    taken = answer["taken_from"]
    return Acquired(taken and Holder.of(taken), answer["idle_s"])


class Lock:
    """The lock as a run holds it: with a heartbeat, and gone when the run is."""

    def __init__(self, token: str, owner: str) -> None:
        self.token, self.owner = token, owner
        self.host: Host | None = None
        self._lost: str = ""
        self._beating: Any = None
        self._one_at_a_time = RLock()
        self._heard = Stopwatch()

    def acquire(
        self, host: Host, purpose: str, inventory: str, wait_s: float = 0, tell: Tell = logger.warning
    ) -> Acquired:
        """Takes the lock, or waits so long for it; raises Held, or WorkFailed when nobody can say."""
        # Before anything is asked: an answer that is lost on its way may have been a yes.
        self.host = host
        task: Answer = {
            "do": "acquire",
            "token": self.token,
            "holder": "run",
            "owner": self.owner,
            "purpose": purpose,
            "expires_s": EXPIRES_S,
            "process": identity(),
        }
        waited_for: list[str] = []

        def attempt() -> Acquired:
            try:
                return _acquired(host, task, inventory)
            except Held as held:
                if wait_s and str(held.holder) not in waited_for:
                    waited_for.append(str(held.holder))
                    tell(f"{host.name}: waiting for {held.holder}; {held.holder.signs}")
                raise

        try:
            acquired = until(attempt, Held, deadline_s=wait_s, interval_s=RETRY_S)
        except NotInTime as late:
            self.host = None
            raise late.__cause__ or late from None
        self._heard = Stopwatch()
        self._beating = gevent.spawn(self._beat_on)
        if acquired.taken_from:
            tell(f"{host.name}: {_taken(acquired.taken_from)}")
        return replace(acquired, waited=bool(waited_for))

    def check(self) -> None:
        """Before each operation: raises Lost, or what stands in the way of finding out."""
        if self.host is None:
            return
        if not self._lost and self._heard.seconds > STALE_S:
            self._beat(self.host)
        if self._lost:
            raise Lost(self._lost)

    def release(self) -> None:
        """Gives the lock back, if it is held; raises Lost when somebody else has it by now."""
        if (host := self.host) is None:
            return
        # A greenlet that has ended is false.
        held = self._beating is not None
        if held:
            self._beating.kill()
        self.host = None
        if self._lost:
            return
        answer = ask(host, {"do": "release", "token": self.token, "force": False})
        if held and "released" not in answer:
            raise Lost(_lost(host, answer.get("foreign")))

    def _beat_on(self) -> None:
        """One beat after the other; what fails is tried again, and `check` has the last word."""
        while self.host and not self._lost:
            gevent.sleep(BEAT_S)
            try:
                self._beat(self.host)
            except (WorkFailed, *CONNECTION_LOST) as failure:
                logger.debug("no heartbeat: %s", failure)

    def _beat(self, host: Host) -> None:
        with self._one_at_a_time:
            answer = ask(host, {"do": "beat", "token": self.token})
            if "lost" in answer:
                self._lost = _lost(host, answer["lost"])
            else:
                self._heard = Stopwatch()


def _lost(host: Host, seen: Answer | None) -> str:
    now = f"{Holder.of(seen)} has it" if seen else "nobody has it, and others may have had it"
    return (
        f"{host.name}: this run's lock is gone: {now}. It was silent for too long, or somebody released it;"
        " what was begun stays as it is: run again to go on"
    )


def _taken(holder: Holder) -> str:
    silent = f"not heard of for {round(holder.silent_s)} s"
    return f"took the lock over from {holder}, {'whose process is gone' if holder.gone else silent}"
