"""The log drivers of the engine and the options of those that keep logs on the host.

Source: the Docker documentation, "Configure logging drivers". An unknown driver or option is only noticed
when a container starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cascade.model.wording import shown

_DRIVERS = (
    "awslogs",
    "fluentd",
    "gcplogs",
    "gelf",
    "journald",
    "json-file",
    "local",
    "none",
    "splunk",
    "syslog",
)
_LABELLING = {"labels", "labels-regex", "env", "env-regex", "tag"}
_DELIVERY = {"mode", "max-buffer-size"}
_OPTIONS: dict[str, set[str]] = {
    "json-file": {"max-size", "max-file", "compress"} | _LABELLING | _DELIVERY,
    "local": {"max-size", "max-file", "compress"} | _DELIVERY,
    "journald": _LABELLING | _DELIVERY,
    "none": set(),
}
_SHAPES = {
    "max-size": (re.compile(r"\d+(?:\.\d+)?[kmgKMG]?[bB]?|-1"), "10m"),
    "max-buffer-size": (re.compile(r"\d+(?:\.\d+)?[kmgKMG]?[bB]?"), "4m"),
    "max-file": (re.compile(r"[1-9]\d*"), "3"),
    "compress": (re.compile(r"true|false"), "true"),
    "mode": (re.compile(r"blocking|non-blocking"), "non-blocking"),
}


def log_fault(driver: str, options: Mapping[str, object]) -> tuple[str, str] | None:
    """Reason and fix of what would keep a container with these logs from starting."""
    if driver not in _DRIVERS:
        return f"{shown(driver)} is no log driver", f"write one of {', '.join(_DRIVERS)}"
    known = _OPTIONS.get(driver)
    for name, value in options.items():
        if known is not None and name not in known:
            fix = f"write one of {', '.join(sorted(known))}" if known else "remove it"
            return f"the log driver {driver} has no option {shown(name)}", fix
        if not isinstance(value, str):
            return f"the log option {name} is {shown(value)}, and no text", f'write it in quotes: "{value}"'
        shape, example = _SHAPES.get(name, (None, ""))
        if shape and shape.fullmatch(value) is None:
            return f"{shown(value)} is no {name}", f'write one like "{example}"'
    return None
