"""Releases on the manager: written down, kept so many, and what only older ones needed goes with them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import docker.errors
from pyinfra.api.host import Host

from cascade.planning.audit import Deed
from cascade.planning.observed import Labels, needs_in, releases_in, secrets_before
from cascade.planning.release import (
    Kept,
    NoRelease,
    Release,
    config_name,
    decoded,
    encoded,
    needs,
    next_number,
    release_in,
    target_of_release,
)
from cascade.planning.resource import Key
from cascade.planning.specs import LABEL_CONFIG, LABEL_DIGEST, LABEL_RELEASE, LABEL_SECRET, LABEL_SYSTEM
from cascade.planning.steps import Record
from cascade.planning.target import Target
from operations.engine_client import EngineClient
from operations.host.secrets import forget_secret
from operations.operator import operator
from operations.preflight import why_unread
from operations.run import Run, WorkFailed

GIT_S = 10


def record(run: Run, host: Host, work: Record) -> None:
    """Writes a release down, unless it says the same as the last one; lets the oldest go."""
    client, target = run.client(host.name), work.target
    configs = configs_of(client, target.system)
    kept = releases_among(configs, target.system)
    if kept and kept[-1].get(LABEL_DIGEST) == target.digest:
        return
    release = _release(run, next_number(kept), target)
    labels = release.labels(target)
    with run.on_record(host, Deed("create", "release", str(release.number))):
        client.create_config(config_name(target.system, release.number), encoded(target, run.audit), labels)
    _let_go(run, host, configs, [*kept, labels], target)
    host.log(f"release {release.number} recorded")


def configs_of(client: EngineClient, system: str) -> list[Any]:
    """Every config of a system on its manager, the releases among them."""
    found: list[Any] = client.configs({"label": f"{LABEL_SYSTEM}={system}"})
    return found


def releases_among(configs: Iterable[Any], system: str) -> list[Labels]:
    """The labels of the releases among these configs, the oldest first."""
    return list(releases_in({"configs": [config["Spec"] for config in configs]}, system))


def kept_releases(run: Run, host: Host) -> tuple[Kept, ...]:
    """Every release that the manager keeps, the oldest first; raises WorkFailed where nobody can say."""
    system = run.fleet.settings.system
    if not _has_configs(run, host):
        return ()
    found = run.client(host.name).configs({"label": f"{LABEL_SYSTEM}={system}"})
    specs = [config["Spec"] for config in found]
    data = {spec["Labels"].get(LABEL_RELEASE): spec["Data"] for spec in specs}
    known = releases_in({"configs": specs}, system)
    return tuple(_kept(release_in(labels), data[labels[LABEL_RELEASE]]) for labels in known)


def _has_configs(run: Run, host: Host) -> bool:
    """Whether anything of this system can be kept there; a host without an engine or a Swarm has nothing."""
    snapshot = run.read_snapshots([host], ())[host.name]
    if snapshot is None:
        raise WorkFailed("; ".join(why_unread(run, [host.name])))
    engine = snapshot["docker"] or {}
    if engine.get("stopped"):
        raise WorkFailed(f"{host.name}: its engine does not run: `pyinfra … deploy.py` starts it")
    if "error" in engine:
        raise WorkFailed(f"{host.name}: its engine cannot be read: {engine['error']}")
    return bool(engine.get("configs"))


def _kept(release: Release, data: str) -> Kept:
    try:
        return Kept(release, target_of_release(decoded(data), release))
    except NoRelease as error:
        return Kept(release, None, str(error))


def _release(run: Run, number: int, target: Target) -> Release:
    revision, dirty = revision_of(Path(run.inventory_file).absolute().parent)
    return Release(
        number=number,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        operator=operator(),
        revision=revision,
        dirty=dirty,
        purpose=run.purpose,
        digest=target.digest,
    )


def revision_of(folder: Path) -> tuple[str, bool]:
    """The git revision that a folder is at and whether its files differ from it; none outside of git."""
    revision = _git(folder, "rev-parse", "HEAD").strip()
    return revision, bool(revision and _git(folder, "status", "--porcelain").strip())


def _git(folder: Path, *command: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *command],
            capture_output=True,
            timeout=GIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace")


def _let_go(run: Run, host: Host, configs: Iterable[Any], earlier: list[Labels], target: Target) -> None:
    """Removes releases beyond those kept, and configs and secrets that none of the kept ones needs."""
    kept = earlier[-run.fleet.settings.releases_kept :]
    numbers = {labels[LABEL_RELEASE] for labels in kept}
    needed = {*needs(target), *(key for labels in kept for key in needs_in(labels))}
    for config in configs:
        labels, name = config["Spec"]["Labels"], config["Spec"]["Name"]
        is_release = LABEL_RELEASE in labels
        superseded = LABEL_CONFIG in labels and Key(host.name, "config", name) not in needed
        if superseded or (is_release and labels[LABEL_RELEASE] not in numbers):
            _remove_unused(run, host, Key(host.name, "config", name), config["ID"])
    known = {key for labels in earlier for key in needs_in(labels)}
    if any(key.kind == "secret" for key in known):
        _let_go_secrets(run, host, needed, target.system)
    for key in sorted(key for key in known - needed if key.kind == "secret-file"):
        keeper = run.state.inventory.get_host(key.host)
        if keeper.connected:
            with run.on_record(keeper, Deed("remove", key.kind, key.name)):
                forget_secret(keeper, key.name)


def _let_go_secrets(run: Run, host: Host, needed: set[Key], system: str) -> None:
    """Of those that no release needs, all but where the Swarm may still take a service back to them."""
    client = run.client(host.name)
    stay = {*needed, *(key for service in client.services() for key in secrets_before(host.name, service))}
    for secret in client.secrets({"label": f"{LABEL_SYSTEM}={system}"}):
        key = Key(host.name, "secret", secret["Spec"]["Name"])
        if LABEL_SECRET in secret["Spec"]["Labels"] and key not in stay:
            _remove_unused(run, host, key, secret["ID"])


def _remove_unused(run: Run, host: Host, key: Key, id_: str) -> None:
    """What somebody's service still uses stays."""
    remove = {"config": EngineClient.remove_config, "secret": EngineClient.remove_secret}[key.kind]
    try:
        with run.on_record(host, Deed("remove", key.kind, key.name)):
            remove(run.client(host.name), id_)
    except docker.errors.APIError as error:
        if error.status_code not in (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST):
            raise
