"""Runs on a host, as root: takes an image's archive in, and keeps a record of what Cascade delivered.

Standard library of python3-minimal only. The deploying machine prepends TASK and sends this script on
standard input; it answers with one JSON object a line. For `receive` the archive follows on standard
input, once the offset to go on from has been agreed on.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from typing import Any

TASK = globals().get("TASK", {})
FOLDER = "/var/lib/cascade/images"
RECORD = FOLDER + "/delivered.json"
PIECE = 1 << 18
HEARTBEAT_PIECES = 1 << 10
HEARTBEAT_S = 5
# The first wait is long: the sender reads as much of its archive as there is of it here.
AGREE_S, IDLE_S, LOCK_S = 300, 30, 45
LOAD_S = 3600


class Refused(Exception):
    """It cannot be done; the message says why, and what to do."""


def tell(**message: Any) -> None:
    """To a sender that may be gone: what was received whole is loaded all the same."""
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(message), flush=True)


def main(task: Any) -> None:
    os.umask(0o022)
    os.makedirs(os.path.dirname(FOLDER), exist_ok=True)
    os.umask(0o077)
    os.makedirs(FOLDER, exist_ok=True)
    try:
        {"receive": receive, "record": record, "forget": forget, "list": show}[task["do"]](task)
    except (Refused, OSError, ValueError) as error:
        tell(error=str(error))


def receive(task: Any) -> None:
    """Goes on where an interrupted delivery ended, if what is here is what is being sent."""
    image, size = task["image"], task["size"]
    path = part_of(image)
    with open(path, "a+b") as part:
        lock(part)
        have = os.path.getsize(path)
        digest = hash_of(part, have) if have <= size else None
        tell(have=have, sha256=digest.hexdigest() if digest else None)
        offset = int(line_in(AGREE_S))
        digest = digest if digest and offset == have else hashlib.sha256()
        part.truncate(offset)
        room(size - offset)
        take_in(part, size - offset, digest)
        if line_in(AGREE_S) != digest.hexdigest():
            part.truncate(0)
            raise Refused("the archive arrived with other content than it was sent with: run again")
        tell(received=size)
        load(image, task["tags"], path)
        os.unlink(path)
    tell(done=True)


def part_of(image: str) -> str:
    if not re.fullmatch("sha256:[0-9a-f]{64}", image):
        raise Refused("%r is no image ID: save the image again with `docker save`" % image)
    return "%s/%s.part" % (FOLDER, image.partition(":")[2])


def lock(file: Any) -> None:
    """One delivery of an image at a time: one whose sender is gone ends by itself."""

    def late(*_: Any) -> None:
        raise Refused("another delivery of this image is at work on this host: run again when it has ended")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(LOCK_S)
    fcntl.flock(file, fcntl.LOCK_EX)
    signal.alarm(0)


def hash_of(file: Any, length: int) -> Any:
    """The digest of a file's beginning, with a sign of life now and then."""
    digest, left, pieces = hashlib.sha256(), length, 0
    file.seek(0)
    while left:
        piece = file.read(min(PIECE, left))
        digest.update(piece)
        left -= len(piece)
        pieces += 1
        if pieces % HEARTBEAT_PIECES == 0:
            tell(reading=length - left)
    return digest


def room(needed: int) -> None:
    disk = os.statvfs(FOLDER)
    free = disk.f_bavail * disk.f_frsize
    if free < needed:
        raise Refused(
            "there are %.1f MB free under %s, and %.1f MB are to come: free some, or `cascade images prune`"
            % (free / 1e6, FOLDER, needed / 1e6)
        )


def take_in(part: Any, length: int, digest: Any) -> None:
    while length:
        piece = bytes_in(min(PIECE, length), IDLE_S)
        part.write(piece)
        digest.update(piece)
        length -= len(piece)
    part.flush()


def bytes_in(most: int, wait_s: int) -> bytes:
    """What comes next; nothing buffers here, so that what was not asked for stays in the pipe."""
    if not select.select([0], [], [], wait_s)[0]:
        raise Refused("nothing came for %d s" % wait_s)
    piece = os.read(0, most)
    if not piece:
        raise Refused("the sender is gone")
    return piece


def line_in(wait_s: int) -> str:
    line = b""
    while not line.endswith(b"\n"):
        line += bytes_in(1, wait_s)
    return line.decode().strip()


def load(image: str, tags: Any, path: str) -> None:
    """Recorded first: an image that arrives just before a power cut can still be pruned."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    note(image, tags)
    command = ["docker", "load", "--input", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        said = outcome(process).decode(errors="replace")
    if process.returncode:
        drop([image])
        raise Refused("docker load: %s" % " ".join(said.split())[-400:])
    tell(loaded=" ".join(said.split())[-400:])


def outcome(process: Any) -> bytes:
    """What it printed, with a sign of life now and then until it ends."""
    for _ in range(LOAD_S // HEARTBEAT_S):
        try:
            said: bytes = process.communicate(timeout=HEARTBEAT_S)[0]
        except subprocess.TimeoutExpired:
            tell(loading=True)
        else:
            return said
    process.kill()
    raise Refused("docker load did not end within %d s: is the host's disk at its limit?" % LOAD_S)


def record(task: Any) -> None:
    note(task["image"], [])
    tell(done=True)


def forget(task: Any) -> None:
    drop(task["images"])
    for image in task["parts"]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part_of(image))
    tell(done=True)


def show(_: Any) -> None:
    parts = [name for name in sorted(os.listdir(FOLDER)) if name.endswith(".part")]
    sizes = {"sha256:" + name[: -len(".part")]: os.path.getsize(FOLDER + "/" + name) for name in parts}
    tell(delivered=delivered(), parts=sizes)


def delivered() -> Any:
    try:
        with open(RECORD, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


def note(image: str, tags: Any) -> None:
    change(lambda known: known.update({image: {"tags": tags, "at": int(time.time())}}))


def drop(images: Any) -> None:
    change(lambda known: [known.pop(image, None) for image in images])


def change(edit: Any) -> None:
    """Changes the record so that it is the old one or the new one at any time."""
    folder = os.open(FOLDER, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        known = delivered()
        edit(known)
        with open(RECORD + ".new", "w", encoding="utf-8") as file:
            json.dump(known, file, indent=2, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(RECORD + ".new", RECORD)
    finally:
        os.close(folder)


if TASK:
    main(TASK)
else:
    sys.exit("TASK is missing")
