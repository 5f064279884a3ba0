"""Who runs this, as far as this machine can say."""

from __future__ import annotations

import getpass
import os
import socket


def operator() -> str:
    """`user@machine`; a user without a name is told by the number."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
