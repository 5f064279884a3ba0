"""Runs on the manager, from standard input of `python3 -IS -`, as root: the one lock around every change.

Standard library of python3-minimal only. The deploying machine prepends TASK; the answer is one JSON object.
Whatever changes the lock happens behind the guard, so that of two who find an expired lock one takes it over.
"""

import fcntl
import json
import os
import signal
import sys
import time
from typing import Any

TASK = globals().get("TASK", {})
FOLDER = "/var/lib/cascade"
LOCK, COUNT, GUARD = FOLDER + "/lock", FOLDER + "/lock-count", FOLDER + "/lock-guard"
BOOT = "/proc/sys/kernel/random/boot_id"
GUARD_S = 10
MOST_BYTES = 1 << 16
LARGEST = 1 << 37
NUMBER, TEXT = (int, float), (str,)
SIGN = {"heartbeat": NUMBER, "boot": TEXT, "uptime_s": NUMBER}
RECORD = {
    "token": TEXT,
    "holder": TEXT,
    "owner": TEXT,
    "purpose": TEXT,
    "acquired": NUMBER,
    "expires_s": (int, float, type(None)),
    **SIGN,
}
TURNS = {"count": (int,), **SIGN}


class Refused(Exception):
    """Nobody can say who holds the lock; the message says why, and what to do."""


def main(task: Any) -> None:
    doing = {"acquire": acquire, "beat": beat, "release": release, "read": read}
    try:
        if task["do"] != "read":
            os.umask(0o022)
            os.makedirs(FOLDER, exist_ok=True)
            guard()
        answer = doing[task["do"]](task)
    except Refused as refused:
        answer = {"error": str(refused)}
    except OSError as error:
        answer = {"error": "%s: %s" % (error.filename or FOLDER, error.strerror)}
    print(json.dumps(answer), flush=True)


def guard() -> None:
    """One at a time, until this process ends; closed to others, who could hold it for ever."""

    def late(*_: Any) -> None:
        raise Refused("%s is held by another process: is this host at its limit?" % GUARD)

    signal.signal(signal.SIGALRM, late)
    signal.alarm(GUARD_S)
    fcntl.flock(os.open(GUARD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), fcntl.LOCK_EX)
    signal.alarm(0)


def acquire(task: Any) -> Any:
    """Takes the lock where it is free, or its holder has expired or is known to be gone."""
    holder = standing()
    if holder and not expired(holder) and not is_in_place_of(holder, task):
        return {"held": seen(holder)}
    last = turns()
    changed_hands()
    record = {name: task[name] for name in ("token", "holder", "owner", "purpose", "expires_s")}
    record["process"] = task.get("process")
    write({**record, "acquired": time.time(), **sign()}, in_place_of=holder)
    return {"acquired": True, "idle_s": last and age(last), "taken_from": holder and seen(holder)}


def is_in_place_of(holder: Any, task: Any) -> bool:
    """Nobody else's lock is hit, whoever took it since its holder was told to the one who asks."""
    return holder.get("process") is not None and holder["process"] == task.get("in_place_of")


def beat(task: Any) -> Any:
    """A sign of life, also after the expiry if nobody has taken over meanwhile."""
    holder = standing()
    if holder is None or holder["token"] != task["token"]:
        return {"lost": holder and seen(holder)}
    write({**holder, **sign()}, in_place_of=holder)
    return {"beating": True}


def release(task: Any) -> Any:
    """Ends a lock: a run's by its token, a person's by the name of its owner, anybody's by force."""
    try:
        holder = standing()
    except Refused:
        if not task["force"]:
            raise
        holder = None
    else:
        if holder is None:
            return {"free": True}
        if not (task["force"] or is_of(holder, task)):
            return {"foreign": seen(holder)}
    changed_hands()
    os.unlink(LOCK)
    return {"released": holder and seen(holder)}


def is_of(holder: Any, task: Any) -> bool:
    if "token" in task:
        return bool(holder["token"] == task["token"])
    return holder["holder"] == "person" and bool(holder["owner"] == task["owner"])


def read(_task: Any) -> Any:
    holder = standing()
    return {"holder": holder and seen(holder)}


def standing() -> Any:
    """The record that is there, or None; what is no record is unknown and never absent."""
    return read_record(
        LOCK,
        RECORD,
        "so nobody can say who holds the lock: look at it; when nothing is being deployed,"
        " `cascade lock release INVENTORY --force` removes it",
    )


def turns() -> Any:
    """How often the lock has changed hands, and when it did last."""
    return read_record(COUNT, TURNS, "remove it when nothing is being deployed")


def read_record(path: str, types: Any, step: str) -> Any:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            record = json.loads(file.read(MOST_BYTES))
        faults = [name for name in types if not fits(record[name], types[name])]
        if faults:
            raise ValueError("no value of Cascade's stands under %s" % ", ".join(faults))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = "%s: %s" % (type(error).__name__, error)
        raise Refused("%s cannot be understood (%s), %s" % (path, reason, step)) from None
    return record


def fits(value: Any, types: Any) -> bool:
    if not isinstance(value, types) or isinstance(value, bool):
        return False
    return not isinstance(value, NUMBER) or -LARGEST < value < LARGEST


def expired(record: Any) -> bool:
    return record["expires_s"] is not None and age(record) > record["expires_s"]


def age(record: Any) -> float:
    """Seconds since the last sign of life.

    By the clock that runs since the boot: the wall clock jumps when a deployment brings time synchronisation.
    """
    if record["boot"] == boot():
        return uptime() - float(record["uptime_s"])
    return max(time.time() - float(record["heartbeat"]), uptime())


def sign() -> Any:
    return {"heartbeat": time.time(), "boot": boot(), "uptime_s": uptime()}


def boot() -> str:
    with open(BOOT, encoding="utf-8") as file:
        return file.read().strip()


def uptime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def seen(record: Any) -> Any:
    """What others may know of a lock, with the seconds that this host counts."""
    shown = {name: record[name] for name in ("holder", "owner", "purpose", "acquired", "expires_s")}
    shown["process"] = record.get("process")
    return {**shown, "silent_s": age(record), "expired": expired(record)}


def write(record: Any, in_place_of: Any) -> None:
    """The whole record at once: the file is new and complete, or another's and untouched."""
    fresh = LOCK + ".new"
    place(fresh, json.dumps(record, indent=2, sort_keys=True) + "\n")
    if in_place_of:
        os.replace(fresh, LOCK)
        return
    try:
        os.link(fresh, LOCK)
    finally:
        os.unlink(fresh)


def changed_hands() -> None:
    """So that a run can tell whether somebody held the lock since it began to look at the hosts."""
    last = turns()
    place(COUNT + ".new", json.dumps({"count": last["count"] + 1 if last else 1, **sign()}) + "\n")
    os.replace(COUNT + ".new", COUNT)


def place(path: str, content: str) -> None:
    """Written through to the disk: a lock that a power cut had emptied would stop everybody."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


if TASK:
    main(TASK)
else:
    sys.exit("TASK is missing")
