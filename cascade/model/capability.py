"""Linux capabilities, as `cap_add` and `cap_drop` name them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

# Source: capabilities(7).
_NAMES = """
    AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE
    DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE
    MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID
    SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE
    SYS_TIME SYS_TTY_CONFIG SYSLOG WAKE_ALARM
"""
_KNOWN = frozenset(_NAMES.split())


def _engine_name(name: str) -> str:
    """`sys_nice` and `CAP_SYS_NICE` as the engine names it."""
    bare = name.upper().removeprefix("CAP_")
    if bare == "ALL":
        return bare
    if bare not in _KNOWN:
        raise ValueError(f"{name!r} is no Linux capability: write one like NET_ADMIN, or ALL")
    return f"CAP_{bare}"


Capability = Annotated[str, AfterValidator(_engine_name)]
