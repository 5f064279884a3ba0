"""Looks for values on the machine where it runs, and says where they are, never what they are.

It is given to Python as its argument, on hosts too, where there is nothing but Python's own library. Its
standard input begins with a line of JSON: `needles`, a label for each form of a value in base64, and what to
look through. Where values are is all that it prints. It writes nothing, and has no value in its arguments.
"""

import base64
import json
import os
import select
import stat
import subprocess
import sys

Needles = dict[bytes, str]
BATCH = 400
INTERVAL_S = 0.03
SMALL = 4 << 20


def labels(data: bytes, needles: Needles) -> list[str]:
    """Which values are in there."""
    return sorted({label for needle, label in needles.items() if needle in data})


def walk(folders: list[str], but: list[str]) -> list[str]:
    """Every regular file below these folders, on their own file systems only."""
    found = []
    for folder in folders:
        if not os.path.isdir(folder):
            continue
        device = os.stat(folder).st_dev
        for path, below, names in os.walk(folder):
            below[:] = [name for name in below if _stays(os.path.join(path, name), device, but)]
            found += [file for file in (os.path.join(path, name) for name in names) if _is_file(file)]
    return [file for file in found if file not in but]


def _stays(path: str, device: int, but: list[str]) -> bool:
    try:
        return path not in but and os.lstat(path).st_dev == device
    except FileNotFoundError:
        return False


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def in_files(needles: Needles, folders: list[str], but: list[str]) -> list[str]:
    """Where values are in files or in their names; grep reads what may be gigabytes."""
    files = walk(folders, but)
    named = [(file, labels(os.fsencode(file), needles)) for file in files]
    found = [f"the name of a file: {', '.join(there)}" for _, there in named if there]
    for start in range(0, len(files), BATCH):
        names = grep(needles, b"", "-lZs", "--", *files[start : start + BATCH]).split(b"\0")
        hits = [os.fsdecode(name) for name in names if name]
        found += [f"{hit}: {', '.join(labels(_read(hit), needles))}" for hit in hits]
    return found


def grep(needles: Needles, data: bytes, *options: str) -> bytes:
    """What grep says, which has the needles from a file that is in no folder."""
    patterns = os.memfd_create("patterns")
    os.write(patterns, b"\n".join(needles) + b"\n")
    argv = ["grep", "-aF", "-f", f"/proc/self/fd/{patterns}", *options]
    plain = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(
        argv, pass_fds=[patterns], input=data, stdout=subprocess.PIPE, env=plain, check=False
    )
    os.close(patterns)
    if done.returncode > 1 and "-lZs" not in options:
        raise RuntimeError(f"grep ended with {done.returncode}")
    return done.stdout


def in_output(needles: Needles, command: str) -> list[str]:
    """Which values a command on this machine prints."""
    done = subprocess.run(
        ["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if not grep(needles, done.stdout, "-m1"):
        return []
    return [f"{command}: {', '.join(labels(done.stdout, needles))}"]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(SMALL * 64)
    except OSError:
        return b""


def sample(needles: Needles, folders: list[str], but: list[str]) -> dict[str, object]:
    """Looks at all processes, and at files that come and go, until standard input has more."""
    seen: set[int] = set()
    found: set[str] = set()
    passes = 0
    while True:
        passes += 1
        for where, data in (*_processes(), *_fleeting(folders, but, seen)):
            if hash(data) not in seen:
                seen.add(hash(data))
                found |= {f"{where}: {label}" for label in labels(data, needles)}
        if passes == 1:
            print("watching", flush=True)
        if select.select([sys.stdin], [], [], INTERVAL_S)[0]:
            return {"found": sorted(found), "passes": passes}


def _processes() -> list[tuple[str, bytes]]:
    found = []
    for process in filter(str.isdecimal, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            if data := _read(f"/proc/{process}/{name}"):
                found.append((f"{name} of a process", data))
    return found


def _fleeting(folders: list[str], but: list[str], seen: set[int]) -> list[tuple[str, bytes]]:
    found = []
    for file in walk(folders, but):
        try:
            known = os.lstat(file)
        except FileNotFoundError:
            continue
        version = hash((file, known.st_ino, known.st_mtime_ns, known.st_size))
        if version not in seen and known.st_size <= SMALL:
            seen.add(version)
            found.append((file, _read(file)))
    return found


def _line() -> bytes:
    """Nothing after it is read, so that it can be seen when there is more."""
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as file:
        return file.readline()


def main() -> None:
    """Does what the first line of standard input asks for."""
    asked = json.loads(_line())
    needles = {base64.b64decode(needle): label for needle, label in asked["needles"].items()}
    folders, but = asked["folders"], asked["but"]
    if asked["sample"]:
        answer = sample(needles, folders, but)
    else:
        found = in_files(needles, folders, but)
        for command in asked["commands"]:
            found += in_output(needles, command)
        answer = {"found": found, "files": len(walk(folders, but))}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
