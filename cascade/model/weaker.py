"""What a group file makes weaker than the default, each with the reason that it carries, or without one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from posixpath import normpath
from typing import NamedTuple

from cascade.model.compose import Logging, Mount
from cascade.model.hardening import Security, Weaker, is_root
from cascade.model.service import Service
from cascade.model.strict import Problem

# What the host itself is made of: with these a container changes or reads more than its own.
_SYSTEM_FOLDERS = """
    /bin /boot /dev /etc /lib /lib32 /lib64 /proc /root /run /sbin /sys /usr
    /var/lib/cascade /var/lib/containerd /var/lib/docker /var/run /var/spool/cron
"""
_WHOLE = ("/", "/var", "/var/lib", "/var/spool")


class Weakness(NamedTuple):
    """A key that is weaker than the default, where it stands, and what it does."""

    key: Weaker
    path: str
    what: str


def hardening_problems(file: str, path: str, service: Service) -> Iterator[Problem]:
    """What is weaker without a reason, reasons for nothing, and capabilities that have no effect."""
    if service.cap_add and not is_root(service.user):
        reason = f"the user {service.user} gets none of them: no new privileges are given to anybody but root"
        fix = 'remove it, or write user: "0" with a reason'
        yield Problem(file, f"{path}.cap_add", reason, fix)
    shared = [*weaknesses(path, service)]
    here = [*shared]
    for number, agent in enumerate(service.agents):
        at = f"{path}.x-agents[{number}]"
        own = [*_of_mounts(at, agent.volumes)]
        if agent.security is None:
            here += own
        else:
            at = f"{at}.security"
            inherited = (found._replace(path=at) for found in shared)
            yield from _compared(file, at, agent.security, [*inherited, *own])
    if not service.agents or any(agent.security is None for agent in service.agents):
        yield from _compared(file, f"{path}.x-security", service.security, here)


def _compared(file: str, path: str, security: Security, weak: list[Weakness]) -> Iterator[Problem]:
    """The reasons that are written beside what they are for."""
    if security.profile == "debug":
        weak = [*weak, Weakness("profile", path, "the profile debug lets a process look into others")]
    for found in weak:
        if found.key not in security.exceptions:
            reason = f"{found.what}, which is weaker than the default, and no reason is written"
            fix = f"remove it, or write {path.rpartition('.')[2]}: {{exceptions: {{{found.key}: why}}}}"
            yield Problem(file, found.path, reason, fix)
    for key in sorted(security.exceptions.keys() - {found.key for found in weak}):
        reason = f"a reason for nothing: {key} is not weaker than the default"
        yield Problem(file, f"{path}.exceptions.{key}", reason, "remove it")


def weaknesses(path: str, service: Service) -> Iterator[Weakness]:
    """What a service makes weaker for all of its containers."""
    if is_root(service.user):
        yield Weakness("user", f"{path}.user", "it runs as root")
    if not service.read_only:
        yield Weakness("read_only", f"{path}.read_only", "its root file system can be written")
    if service.cap_add:
        names = ", ".join(sorted(set(service.cap_add)))
        yield Weakness("cap_add", f"{path}.cap_add", f"it has {names}")
    if "ALL" not in service.cap_drop:
        yield Weakness("cap_drop", f"{path}.cap_drop", "it keeps capabilities")
    for option in service.security_opt:
        if option.name == "seccomp":
            what = "no system call is denied" if option.value == "unconfined" else "a profile of its own"
            yield Weakness("security_opt", f"{path}.security_opt", what)
    if not service.pids:
        key = "deploy.resources.limits.pids" if service.pids_limit is None else "pids_limit"
        yield Weakness("pids_limit", f"{path}.{key}", "it may start any number of processes")
    if not service.init:
        yield Weakness("init", f"{path}.init", "no first process takes care of the others")
    if what := _unbounded(service.logging):
        yield Weakness("logging", f"{path}.logging", what)
    if service.devices:
        names = ", ".join(device.source for device in service.devices)
        yield Weakness("devices", f"{path}.devices", f"it has {names} of the host")
    yield from _of_mounts(path, service.volumes)


def _unbounded(logging: Logging) -> str:
    if logging.driver not in ("json-file", "local"):
        return f"{logging.driver} takes the logs, and bounds nothing"
    return "its logs have no bound" if logging.options.get("max-size") == "-1" else ""


def _of_mounts(path: str, mounts: Iterable[Mount]) -> Iterator[Weakness]:
    sources = [mount.source for mount in mounts if mount.type == "bind" and _is_of_the_system(mount.source)]
    if sources:
        yield Weakness("volumes", f"{path}.volumes", f"it reaches {', '.join(sources)} of the host")


def _is_of_the_system(source: str) -> bool:
    path = f"/{normpath(source).lstrip('/')}"
    below = any(f"{path}/".startswith(f"{folder}/") for folder in _SYSTEM_FOLDERS.split())
    return below or path in _WHOLE
