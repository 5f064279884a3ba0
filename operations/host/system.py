"""Packages, files and kernel settings of a host."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from pyinfra.api.command import PyinfraCommand, QuoteString, StringCommand
from pyinfra.context import ctx_state
from pyinfra.operations import server

from cascade.planning.desired import GPU_RUNTIME_SETTINGS, GPU_SCRIPT, GPU_SOURCES
from cascade.planning.diff import Change
from cascade.planning.resource import Fields
from operations.host.files import written
from operations.run import Run

Commands = Iterator[PyinfraCommand]
INSTALLING_S = 1800
# What an installation says is kept until its end: one whose connection is cut goes on, and the next one waits
# for it. What a switched off machine left half configured is mended when it stands in the way, because dpkg
# itself, unlike apt, does not wait for another package manager.
_INSTALL = """set -u
lock=/var/lib/cascade/packages-lock
mkdir -p -m 755 "${lock%/*}" && (umask 077 && : >>"$lock") && exec 9>>"$lock" || exit 1
flock -w 900 9 || {
    echo "$lock: an installation that an earlier run began has not ended in 15 minutes: run again when it has"
    exit 1
}
apt() {
    apt-get -y -o DPkg::Lock::Timeout=600 \\
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}
add() {
    apt install --no-install-recommends --no-remove --no-upgrade -- "$@"
}
install() {
    apt update && { add "$@" || { dpkg --configure -a && add "$@"; }; }
}
# Lists that their key does not sign, or that do not come, are an error, and no reason to take older ones. The
# owner's sources are only asked where the packages do not come without.
pin() {
    sources=$1 settings=$2 prepare=$3 && shift 3
    apt update -o APT::Update::Error-Mode=any -o Dir::Etc::SourceList="$sources" \\
        -o Dir::Etc::SourceParts=- -o APT::Get::List-Cleanup=0 || return
    # A package has systemd read its units anew, and writes its settings as it would have them.
    sh "$prepare" && cp -p -- "$settings" "$settings.cascade-kept" || return
    together "$@"
    ended=$?
    mv -T -- "$settings.cascade-kept" "$settings" && test $ended = 0 || return
    for package; do apt-mark hold -- "${package%%=*}" || return; done
}
together() {
    exactly "$@" || { dpkg --configure -a && apt update && exactly "$@"; }
}
exactly() {
    apt install --no-install-recommends --no-remove --allow-downgrades --allow-change-held-packages -- "$@"
}
export DEBIAN_FRONTEND=noninteractive
said=$("$@" 2>&1 9>&-) || { printf '%s\\n' "$said"; exit 1; }
"""


def install(changes: tuple[Change, ...]) -> Commands:
    """All missing packages at once, from fresh package lists; never in place of the owner's.

    Those that are to have one version get that one, in whose place ever, and keep it.
    """
    free = [change.key.name for change in changes if "version" not in change.desired]
    pinned = [
        f"{change.key.name}={change.desired['version']}" for change in changes if "version" in change.desired
    ]
    if free:
        yield _by_apt("install", *free)
    if pinned:
        yield _by_apt("pin", GPU_SOURCES, GPU_RUNTIME_SETTINGS, GPU_SCRIPT, *pinned)


def _by_apt(*words: str) -> StringCommand:
    quoted = (QuoteString(word) for word in words)
    return StringCommand("sh", "-c", QuoteString(_INSTALL), "packages", *quoted, _timeout=INSTALLING_S)


def write_file(changes: tuple[Change, ...]) -> Commands:
    """Files as they are wanted, and without those that nobody reads any more."""
    for change in changes:
        path, wanted = change.key.name, change.desired
        if change.action == "remove":
            yield StringCommand("rm", "-f", "--", QuoteString(path))
            continue
        owner = f"{wanted['owner']}:{wanted['group']}"
        if "config" in wanted:
            # A container goes on reading the file that it began with, whatever comes to its name.
            yield written(path, _content_of(wanted), mode=wanted["mode"], owner=owner, how="open")
        else:
            yield written(path, wanted["content"].encode(), mode=wanted["mode"], owner=owner)


def _content_of(wanted: Fields) -> bytes:
    """Of a config, from a file here or from the Swarm."""
    run = Run.of(ctx_state.get())
    manager = run.fleet.manager.name
    data = wanted.get("data") or run.client(manager).inspect_config(wanted["config"])["Spec"]["Data"]
    return base64.b64decode(data)


def set_sysctl(changes: tuple[Change, ...]) -> Commands:
    """The running kernel's value; the file that survives a reboot is a resource of its own."""
    for change in changes:
        yield from server.sysctl._inner(key=change.key.name, value=change.desired["value"])
