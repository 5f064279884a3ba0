"""Checks of a Docker engine that is there already, and of where images come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cascade.model.image import RegistryImage
from cascade.model.reference import PUBLIC_REGISTRY
from cascade.planning.checks.capacity import CONTAINERD_STORE, in_containerd, missing_images, wanted_images
from cascade.planning.checks.subject import Said, Subject
from cascade.planning.desired import ENGINE_PACKAGES
from cascade.planning.specs import LABEL_SYSTEM

_SOURCES = {"docker.io": "distribution", "docker-ce": "docker"}
# Where the images lie that are named without a registry.
PUBLIC_ADDRESS = f"registry-1.{PUBLIC_REGISTRY}:443"


def docker(subject: Subject) -> Iterator[Said]:
    """An engine that is there comes from where group_data says."""
    refused = list(_refused(subject))
    yield from refused
    packages, wanted = subject.part("packages"), subject.host.docker_source
    ours = [name for name in packages if name in _SOURCES]
    for package in ours:
        if (source := _SOURCES[package]) != wanted:
            yield _other_source(subject, package, source)
    if subject.part("dockerd") and not ours and not refused:
        path = subject.part("dockerd")
        yield Said(
            "error",
            f"{path} belongs to no package that Cascade knows ({', '.join(_SOURCES)})",
            f"on {subject.host.name}: remove this engine; what lies in /var/lib/docker stays, and the"
            " engine that Cascade installs takes it over",
        )
    if ours:
        yield Said("ok", f"{', '.join(ours)} is installed")
    elif not refused:
        yield Said("ok", f"none yet; {ENGINE_PACKAGES[wanted][0]} will be installed")


def _refused(subject: Subject) -> Iterator[Said]:
    """Engines that cannot be a node of this Swarm, with the way out."""
    packages = subject.part("packages")
    system = (subject.part("engine") or {}).get("system", "")
    if subject.part("snap"):
        yield Said(
            "error",
            "Docker is installed as a snap, which keeps its settings and data elsewhere",
            f"on {subject.host.name}: save what its containers hold, then `sudo snap remove docker`",
        )
    if subject.part("desktop") or "docker-desktop" in packages or "Docker Desktop" in system:
        yield Said(
            "error",
            "Docker Desktop is installed; its engine runs in a virtual machine that no other host reaches",
            f"on {subject.host.name}: save what its containers hold, then"
            " `sudo apt-get remove docker-desktop`",
        )
    if "podman-docker" in packages:
        yield Said(
            "error",
            "podman-docker is installed: its `docker` is Podman, which has no Swarm",
            f"on {subject.host.name}: `sudo apt-get remove podman-docker`; Podman itself may stay",
        )


def _other_source(subject: Subject, package: str, source: str) -> Said:
    host = subject.host
    wanted = ENGINE_PACKAGES[host.docker_source][0]
    keep = subject.setting(f'docker_source = "{source}"')
    return Said(
        "error",
        f"its engine is {package}, group_data wants {wanted} (docker_source = {host.docker_source!r})",
        f"{keep} to keep it; or on {host.name}: `sudo apt-get remove {package}` (images, volumes and"
        " containers in /var/lib/docker stay)",
    )


def restart(subject: Subject) -> Iterator[Said]:
    """A restart of the engine stops no container of the owner unless that is allowed."""
    if not _restarts(subject):
        yield Said("ok", "Docker is not restarted")
        return
    if not (harm := list(_harm(subject))):
        yield Said("ok", "Docker is restarted; no container of anybody else runs in it")
        return
    settings = ", ".join(_differing(subject))
    message = f"new settings ({settings}) restart Docker, which {' and '.join(harm)}"
    if subject.facts.allow_docker_restart:
        yield Said("warning", message, "allowed: start them again where their restart policy does not")
    else:
        option = "`--allow-docker-restart`, with pyinfra `--data allow_docker_restart=True`"
        yield Said("error", message, f"if they may stop, add {option}; or stop them yourself first")


def _harm(subject: Subject) -> Iterator[str]:
    """What a restart with the new settings does to things that are not Cascade's."""
    engine = subject.part("engine")
    system = subject.fleet.settings.system
    others = [item for item in engine["containers"] if not _of(item, system)]
    if names := ", ".join(f"{item['name']} ({item['image']})" for item in others):
        yield f"stops {names}"
    if engine["images_in_containerd"] and not in_containerd(subject.host, engine):
        yield "hides all images and containers that are in containerd's store, until that is set back"


def _restarts(subject: Subject) -> bool:
    """Whether this run would restart an engine that runs."""
    return bool(_differing(subject)) and subject.part("engine") is not None


def _differing(subject: Subject) -> list[str]:
    """The daemon's settings that the plan changes on this host."""
    for change in subject.facts.plan.changes:
        if (change.key.host, change.key.kind) == (subject.host.name, "daemon-settings"):
            return [field.path for field in change.fields] or sorted(change.desired)
    return []


def _of(container: Mapping[str, Any], system: str) -> bool:
    return bool(container["labels"].get(LABEL_SYSTEM) == system)


def registries_of(subject: Subject) -> dict[str, list[str]]:
    """The registries that this host must reach, with the images that it lacks from each."""
    found: dict[str, list[str]] = {}
    for source in missing_images(subject).values():
        if isinstance(source, RegistryImage):
            found.setdefault(_registry(source), []).append(source.reference)
    return found


def _registry(image: RegistryImage) -> str:
    """`HOST:PORT` of an image's registry."""
    name = image.parsed.registry
    if name == PUBLIC_REGISTRY:
        return PUBLIC_ADDRESS
    return name if ":" in name else f"{name}:{80 if image.insecure else 443}"


def images(subject: Subject) -> Iterator[Said]:
    """Images that this host lacks can be fetched from where they lie."""
    wanted, answers = registries_of(subject), subject.part("registries")
    proxy = (subject.part("engine") or {}).get("proxy")
    for registry, names in wanted.items():
        fault = answers[registry]
        if fault and proxy:
            yield Said("note", f"{registry} does not answer directly; Docker asks through its proxy {proxy}")
        elif fault:
            yield Said(
                "error",
                f"{registry} cannot be reached for {', '.join(names)}: {fault}",
                f"mend the name or the way to it from {subject.host.name}, or map these images in group_data"
                " to archives",
            )
    missing = missing_images(subject)
    from_here = [source for source in missing.values() if source.archive]
    if from_here and in_containerd(subject.host, subject.part("engine") or {}):
        yield Said(
            "error",
            "an archive's image keeps its ID in Docker's classic store only; this engine uses containerd's",
            subject.setting(f'daemon_settings = {{…, "features": {{"{CONTAINERD_STORE}": False}}}}'),
        )
    said = [f"{len(wanted_images(subject)) - len(missing)} there"]
    said += [f"{len(from_here)} sent from here"] if from_here else []
    said += [f"{', '.join(wanted)} answers for {len(missing) - len(from_here)}"] if wanted else []
    yield Said("ok", ", ".join(said))
