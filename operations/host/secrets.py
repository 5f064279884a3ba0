"""The secrets of host containers: open in their host's memory, and sealed on its disk for its next start."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyinfra.api.host import Host

from cascade.planning.diff import Change
from operations.host.shell import shell
from operations.run import Run, WorkFailed

_SCRIPT = Path(__file__).parents[1] / "remote_secrets.py"
# No dump of its memory. A program that takes dumps gets them whatever the limit is, but for a limit of one
# byte; where the limit is zero already, not everybody may raise it.
_NO_DUMPS = "prlimit --pid $$ --core=1:1 2>/dev/null || prlimit --pid $$ --core=0:0 2>/dev/null"
_COMMAND = f"{_NO_DUMPS}; exec python3 -IS -"


def keep_secret(run: Run, host: Host, change: Change) -> None:
    """Puts a secret in its place, or takes it away; a value travels on standard input and nowhere else."""
    if change.action == "remove":
        forget_secret(host, change.key.name)
        return
    wanted = change.desired
    value = run.opened.values[wanted["stored"]].data if "stored" in wanted else None
    _ask(
        host,
        {
            "do": "put",
            "place": change.key.name,
            "mode": int(wanted["mode"], 8),
            "owner": int(wanted["owner"]),
            "group": int(wanted["group"]),
            "value": None if value is None else base64.b64encode(value).decode(),
        },
    )


def forget_secret(host: Host, place: str) -> None:
    """Removes a secret of a host container from the host's memory and disk, if it is there."""
    _ask(host, {"do": "remove", "place": place})


def _ask(host: Host, task: Mapping[str, Any]) -> None:
    text = f"import json\nTASK = json.loads({json.dumps(task)!r})\n{_SCRIPT.read_text()}"
    answer = json.loads(shell(host, _COMMAND, text))
    if error := answer.get("error"):
        raise WorkFailed(f"{host.name}: the secret {task['place']}: {error}")
