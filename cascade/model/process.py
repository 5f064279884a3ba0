"""What a container's process may be given; the engine finds most mistakes only when it starts one."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from cascade.model.names import check_host_name, fits
from cascade.model.reference import repository_of
from cascade.model.wording import shown

# Source: docker/go-units, ulimit.go.
_ULIMITS = """
    core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack
"""
# Source: signal(7).
_SIGNALS = """
    ABRT ALRM BUS CHLD CONT FPE HUP ILL INT IO KILL PIPE PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP
    TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ
"""
_LAST_SIGNAL = 64
# Source: opencontainers/runc, validator.go: settings of a container's own namespaces.
_NAMESPACED = re.compile(
    r"net\..+|fs\.mqueue\..+|kernel\.(?:msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced)"
)

_check_user = fits(
    r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?", "is no user", "1000:1000 or nobody"
)
check_variable = fits(r"[^=\s]+", "is no name of a variable", "LOG_LEVEL")


def _image(name: str) -> str:
    repository_of(name)
    return name


def _host_name(name: str) -> str:
    return check_host_name(name) if name else name


def _working_dir(path: str) -> str:
    if path and not path.startswith("/"):
        raise ValueError(f"{shown(path)} is no absolute path: write one like /app")
    return path


def _signal(signal: object) -> object:
    """A name with or without SIG, or a number."""
    name = str(signal)
    number = int(name) if name.isdecimal() and len(name) < len("100") else 0
    realtime = re.fullmatch(r"RTM(?:IN|AX)(?:[+-]\d{1,2})?", name.upper().removeprefix("SIG"))
    if name.upper().removeprefix("SIG") in _SIGNALS.split() or realtime or 1 <= number <= _LAST_SIGNAL:
        return name
    raise ValueError(f"{shown(signal)} is no signal: write one like SIGTERM")


def check_ulimit(name: str) -> str:
    """Raises ValueError for a limit that the engine does not know."""
    known = _ULIMITS.split()
    if name not in known:
        raise ValueError(f"{shown(name)} is no limit of the engine's: write one of {', '.join(known)}")
    return name


def _namespaced(name: str) -> str:
    if _NAMESPACED.fullmatch(name) is None:
        raise ValueError(
            f"{shown(name)} is no kernel setting of a container's own:"
            " write it under sysctls of the host in group_data, or remove it"
        )
    return name


ImageName = Annotated[str, AfterValidator(_image)]
User = AfterValidator(_check_user)
WorkingDir = Annotated[str, AfterValidator(_working_dir)]
HostName = AfterValidator(_host_name)
StopSignal = Annotated[str, BeforeValidator(_signal)]
UlimitName = Annotated[str, AfterValidator(check_ulimit)]
OwnSysctl = Annotated[str, AfterValidator(_namespaced)]
