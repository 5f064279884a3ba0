"""`cascade plan` in each folder that is named, in one process: its exit code and all that it says, as JSON.

The identity of a folder lies beside it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pyinfra_cli  # noqa: F401 - its import patches the standard library, before all else
from click.testing import CliRunner

from cascade.commands.plan import command

inventory, *folders = sys.argv[1:]
told = {}
for folder in folders:
    os.chdir(folder)
    os.environ["CASCADE_IDENTITY"] = str(Path(folder).parent / "home" / "identity")
    done = CliRunner().invoke(command, [inventory])
    told[folder] = (done.exit_code, done.output)
sys.stdout.write(json.dumps(told))
