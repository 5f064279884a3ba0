"""Files on hosts: whole and written through to the disk, or as they were."""

from __future__ import annotations

import base64
import hashlib
from typing import Literal

from pyinfra.api.command import QuoteString, StringCommand

FRESH = ".cascade-new"
# Beside its place first. A connection that is cut in the middle ends the input early, and the sum says so.
_SCRIPT = f"""set -eu
path=$1 mode=$2 owner=$3 sum=$4 how=$5 new=$1{FRESH} state="is as it was"
failed() {{
    rm -f -- "$new"
    echo "$path could not be written and $state: mend what is said above, then run again" >&2
}}
trap 'test $? = 0 || failed' EXIT
(umask 022; mkdir -p -- "${{path%/*}}/")
umask 077
rm -f -- "$new"
base64 -d > "$new"
test "$(sha256sum < "$new")" = "$sum  -" || {{ echo "$path did not arrive whole" >&2; exit 1; }}
if test -n "$mode"; then chown -- "$owner" "$new"; chmod -- "$mode" "$new"
elif test -e "$path"; then chown --reference="$path" -- "$new"; chmod --reference="$path" -- "$new"
else chmod 644 -- "$new"
fi
sync -- "$new"
if test "$how" = beside; then exit 0; fi
if test "$how" = open && test -e "$path"; then
    state="may be half written"
    cp -T -- "$new" "$path"
    chown -- "$owner" "$path"
    chmod -- "$mode" "$path"
    sync -- "$path"
    rm -- "$new"
else
    mv -T -- "$new" "$path"
    sync -- "${{path%/*}}/"
fi
"""

How = Literal["moved", "open", "beside"]


def written(
    path: str, content: bytes, *, mode: str = "", owner: str = "", how: How = "moved"
) -> StringCommand:
    """The command that writes a file, its content on standard input; without a mode as the one that is there.

    `open` keeps the file itself where there is one, so that who has it open reads on in it; `beside` leaves
    it at its name with FRESH at the end.
    """
    arguments = (path, mode, owner, hashlib.sha256(content).hexdigest(), how)
    return StringCommand(
        "sh",
        "-c",
        QuoteString(_SCRIPT),
        "write",
        *(QuoteString(argument) for argument in arguments),
        _stdin=base64.encodebytes(content).decode() or "\n",
    )
