"""What gives a host's containers their GPUs: the key of the toolkit's repository, and the GPUs' settings."""

from __future__ import annotations

import base64
import binascii
import shlex

from pyinfra import logger
from pyinfra.api.host import Host

from cascade.model.openpgp import NoKey, fingerprints
from cascade.model.strict import printable
from cascade.planning.desired import GPU_SCRIPT
from cascade.planning.diff import Change
from operations.host.files import written
from operations.host.shell import shell
from operations.run import Run, WorkFailed

# Far more than a key has.
_LARGEST_BYTES = 256 * 1024
# By apt's own helper, which every host has, through the proxies that apt goes through.
_FETCH = """set -eu
file=$(mktemp)
trap 'rm -f -- "$file"' EXIT
said=$(/usr/lib/apt/apt-helper -o APT::Sandbox::User=root download-file "$1" "$file" 2>&1) ||
    { printf '%s\\n' "$said" >&2; exit 1; }
head -c "$2" -- "$file" | base64
"""


def write_key(_run: Run, host: Host, change: Change) -> None:
    """Has the host fetch the key, and keeps it if it is the one; else raises WorkFailed."""
    wanted, url = change.desired, change.desired["url"]
    key = _fetched(host, url)
    try:
        found = fingerprints(key)
    except NoKey as error:
        raise WorkFailed(f"{url} gives no key: {error}; nothing was written") from error
    if found != (wanted["fingerprint"],):
        raise WorkFailed(
            f"{url} gives the key {' '.join(found)}, and gpu.key in group_data is {wanted['fingerprint']}:"
            " nothing was written. If the owner of the repository says that it has a new key, write that"
            " one there"
        )
    owner = f"{wanted['owner']}:{wanted['group']}"
    command = written(change.key.name, key, mode=wanted["mode"], owner=owner)
    done, output = host.run_shell_command(command, _sudo=True, **command.connector_arguments)
    if not done:
        raise WorkFailed(output.output or f"{change.key.name}: no output")


def _fetched(host: Host, url: str) -> bytes:
    """What the host gets from an address; raises WorkFailed."""
    line = shlex.join(("sh", "-c", _FETCH, "fetch", url, str(_LARGEST_BYTES)))
    try:
        return base64.b64decode(shell(host, line))
    except WorkFailed as failure:
        said = printable(str(failure).removeprefix(f"{line}: "))
        raise WorkFailed(f"{url} cannot be fetched: {said}") from failure
    except binascii.Error as error:
        raise WorkFailed(f"{url} cannot be fetched: the answer came in parts: {error}") from error


def prepare_gpu(run: Run, host: Host, _change: Change) -> None:
    """Sets the GPUs as they are to be, all of a host at once; warns of what a card does not take."""
    if said := shell(host, f"sh {GPU_SCRIPT} 2>&1"):
        words = " ".join(said.split())
        host.log(printable(f"a GPU is not set as group_data says: {words}"), logger.warning)
        run.warned = True
