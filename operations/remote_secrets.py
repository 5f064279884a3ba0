"""Runs on a host, from standard input of `python3 -IS -`, as root: the secrets of its host containers.

Standard library of python3-minimal only. The deploying machine prepends TASK, which may hold a value; the
answer is one JSON object, which never does. A secret lies open in memory, and on the disk sealed with the
host's key.
"""

import base64
import json
import os
import subprocess
import sys
from typing import Any

TASK = globals().get("TASK", {})
OPEN, SEALED = "/run/cascade/secrets", "/var/lib/cascade/secrets"
FRESH = ".cascade-new"
TIMEOUT_S = 30
# An error shows no line of what was sent.
sys.tracebacklimit = 0


def main(task: Any) -> None:
    doing = {"put": put, "remove": remove}
    try:
        os.umask(0o077)
        doing[task["do"]](task)
        answer = {}
    except subprocess.CalledProcessError as failed:
        answer = {"error": "%s: %s" % (failed.args[1][0], failed.stderr.decode(errors="replace").strip())}
    except subprocess.TimeoutExpired as late:
        answer = {"error": "%s has not ended in %d s" % (late.cmd[0], TIMEOUT_S)}
    except OSError as error:
        answer = {"error": "%s: %s" % (error.filename, error.strerror)}
    print(json.dumps(answer), flush=True)


def put(task: Any) -> None:
    """Both files as they are to be; without a value the sealed one says what it is."""
    place = task["place"]
    sealed, opened = SEALED + "/" + place, OPEN + "/" + place
    for folder in (SEALED, OPEN):
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o700)
        os.makedirs(folder + "/" + os.path.dirname(place), exist_ok=True)
        clear(folder + "/" + os.path.dirname(place))
    name = "--name=" + os.path.basename(place)
    if task["value"] is None:
        value = run(["systemd-creds", "decrypt", name, "--", sealed, "-"])
        own(sealed, task)
    else:
        value = base64.b64decode(task["value"])
        seal(sealed, run(["systemd-creds", "encrypt", "--with-key=host", name, "-", "-"], value), task)
    if holds(opened, value):
        own(opened, task)
    else:
        write(opened, value, task)


def holds(path: str, content: bytes) -> bool:
    """Whether this is what a file holds; then a container goes on reading it without a break."""
    try:
        with open(path, "rb") as file:
            return file.read() == content
    except FileNotFoundError:
        return False


def seal(path: str, content: bytes, task: Any) -> None:
    """The old file or the new one, whatever happens."""
    fresh = path + FRESH
    write(fresh, content, task)
    os.rename(fresh, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def write(path: str, content: bytes, task: Any) -> None:
    """In its place: a container goes on reading the file that it began with."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.truncate(0)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    own(path, task)


def own(path: str, task: Any) -> None:
    os.chown(path, task["owner"], task["group"])
    os.chmod(path, task["mode"])


def remove(task: Any) -> None:
    for folder in (OPEN, SEALED):
        path = folder + "/" + task["place"]
        if os.path.exists(path):
            os.unlink(path)
        above = os.path.dirname(path)
        if os.path.isdir(above):
            clear(above)
            if not os.listdir(above):
                os.rmdir(above)


def clear(folder: str) -> None:
    """What a run that was cut off has left there."""
    for name in os.listdir(folder):
        if name.endswith(FRESH):
            os.unlink(folder + "/" + name)


def run(command: list[str], given: bytes = b"") -> bytes:
    done = subprocess.run(command, input=given, capture_output=True, timeout=TIMEOUT_S, check=True)
    return bytes(done.stdout)


if TASK:
    main(TASK)
