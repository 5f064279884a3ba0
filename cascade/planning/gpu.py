"""What hosts say of their GPUs: which they have, what ails them, and who has how much of their memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cascade.model.gpu import Gpu
from cascade.model.strict import one_line
from cascade.planning.desired import DAEMON_SETTINGS
from cascade.planning.resource import Fields, Key

MIB = 2**20
GPU = "GPU"
GpuPart = Mapping[str, Any]
Snapshot = Mapping[str, Any]

_VISIBLE = "NVIDIA_VISIBLE_DEVICES="
_LOST = "lost: "
_STEPS = {
    "missing": (
        "install it and reboot: on Debian nvidia-driver, which is in non-free; on Ubuntu by"
        " `sudo ubuntu-drivers install`"
    ),
    "no-driver": (
        "`sudo modprobe nvidia` there says why; a new kernel needs its headers, Secure Boot a signed module"
    ),
    "no-gpu": (
        "`lspci -d 10de:` there shows what is plugged in; to do without, name gpu in absent of group_data"
    ),
    "mismatch": "reboot the host, so that the kernel loads the module that belongs to the library",
    "lost": (
        "`sudo dmesg | grep -i xid` there names the fault; reboot the host, and where it comes again look at"
        " the card and its power"
    ),
    "no-ctypes": "`sudo apt-get install python3` there",
}
_STEP = "run `nvidia-smi` there"


def gpus_in(snapshot: Snapshot) -> tuple[Gpu, ...] | None:
    """The GPUs of a host; None where it was not asked, or cannot say, as `why_unknown` explains."""
    if why_unknown(snapshot):
        return None
    return tuple(
        Gpu(found["index"], found["uuid"], found["name"], found["memory_total"] // MIB)
        for found in snapshot["gpu"]["gpus"]
    )


def why_unknown(snapshot: Snapshot) -> str:
    """Why nobody knows a host's GPUs, in words; empty where they are known."""
    part = snapshot.get("gpu")
    if part is None:
        return "they were not asked for"
    if "error" in part:
        return f"{one_line(part['error'])}; {_STEP}"
    if part["nvml"] != "ok":
        return f"{fault_of(part)}; {next_step(part)}"
    nameless = [found["index"] for found in part["gpus"] if not _whole(found)]
    return f"GPU {nameless[0]} has no UUID, name or memory; {_STEP}" if nameless else ""


def _whole(found: Mapping[str, Any]) -> bool:
    return None not in (found["uuid"], found["name"], found["memory_total"])


def fault_of(part: GpuPart) -> str:
    """What ails the driver or a GPU, in words; empty where nothing does."""
    said = one_line(part["said"]) or "no more is said"
    module, library = part["module"], part.get("library")
    if kind_of(part) == "mismatch":
        loaded, installed = module or "another version", library or part["driver"] or "another version"
        return f"the kernel has the driver's module {loaded}, the library is of {installed}"
    lost = [f"GPU {found['index']}: {one_line(found['lost'])}" for found in part["gpus"] if found["lost"]]
    words = {
        "ok": "",
        "missing": "the driver is not installed: there is no libnvidia-ml.so.1",
        "no-driver": f"the driver's module is not loaded: {said}",
        "no-gpu": "the driver finds no GPU",
        "lost": f"lost: {', '.join(lost) or said}",
        "no-ctypes": f"python3 is incomplete there: {said}",
    }
    return words.get(part["nvml"], f"the driver fails: {said}")


def kind_of(part: GpuPart) -> str:
    """How it stands with the driver, in a word; a newer library may go on answering for a while."""
    module, driver = part["module"], part["driver"]
    stale = part["nvml"] == "ok" and module and driver and module != driver
    return "mismatch" if stale else str(part["nvml"])


def next_step(part: GpuPart) -> str:
    """What a person can do about a fault."""
    return _STEPS.get(kind_of(part), _STEP)


def faults_in(snapshot: Snapshot) -> Iterator[str]:
    """Why nobody can rest on a host's GPUs, with what to do; nothing where they were not asked for."""
    if "gpu" not in snapshot:
        return
    if reason := why_unknown(snapshot):
        yield reason
    elif fault := fault_of(snapshot["gpu"]):
        yield f"{fault}; {next_step(snapshot['gpu'])}"


def lost_in(snapshots: Mapping[str, Snapshot]) -> dict[str, str]:
    """The containers that do not see the GPU any more that they were given, each with what it says."""
    return {
        container: one_line(said.removeprefix(_LOST))
        for container, said in _sights(snapshots.values())
        if said.startswith(_LOST)
    }


def _sights(snapshots: Iterable[Snapshot]) -> Iterator[tuple[str, str]]:
    """What each container of the system that has a GPU says of it."""
    for snapshot in snapshots:
        yield from (snapshot.get("gpu") or {}).get("containers", {}).items()


def gpu_given(fields: Fields) -> str:
    """The UUID of the GPU that a service or host container is given; empty for none."""
    container = fields.get("TaskTemplate", {}).get("ContainerSpec") or fields
    given = [
        entry.removeprefix(_VISIBLE) for entry in container.get("Env") or () if entry.startswith(_VISIBLE)
    ]
    return given[-1] if given and given[-1].startswith("GPU-") else ""


def vram_reserved(fields: Fields) -> int:
    """MiB of a GPU that a service reserves."""
    reserved = ((fields.get("TaskTemplate", {}).get("Resources") or {}).get("Reservations")) or {}
    specs = (item.get("DiscreteResourceSpec") or {} for item in reserved.get("GenericResources") or ())
    return sum(spec["Value"] for spec in specs if str(spec.get("Kind")).partition("-")[0] == "vram")


@dataclass(frozen=True)
class Process:
    """Somebody who has memory of a GPU; `mib` is None where the driver does not say how much."""

    pid: int
    name: str
    mib: int | None

    def __str__(self) -> str:
        much = "an unknown amount" if self.mib is None else f"{self.mib} MiB"
        return f"{self.name or 'a process'} (PID {self.pid}) has {much}"


@dataclass(frozen=True)
class Sharer:
    """A workload that is given a GPU: what it reserves, and what its processes have, if that is told; MiB."""

    name: str
    reserved_mib: int
    used_mib: int | None


@dataclass(frozen=True)
class Vram:
    """One GPU's memory: who shares it, and who has some of it without being of the system.

    `foreign` is None where the driver does not tell whose processes have how much.
    """

    host: str
    gpu: Gpu
    used_mib: int
    offered_mib: int
    sharers: tuple[Sharer, ...]
    foreign: tuple[Process, ...] | None

    @property
    def missing_mib(self) -> int | None:
        """What foreign processes have of that which is offered to those that share it; None where unknown."""
        missing = max(0, self.offered_mib - (self.gpu.memory_mib - self.foreign_mib))
        return None if missing and self.foreign is None else missing

    @property
    def foreign_mib(self) -> int:
        """What the foreign processes have at most: where one's share is not told, all that is nobody's."""
        if self.foreign is None or any(process.mib is None for process in self.foreign):
            return max(0, self.used_mib - sum(sharer.used_mib or 0 for sharer in self.sharers))
        return sum(process.mib or 0 for process in self.foreign)

    @property
    def untold(self) -> str:
        """What the driver leaves open, in words."""
        return f"the driver does not tell who has the {self.used_mib} MiB that are in use"


def vram_of(
    wanted: Mapping[Key, Fields], manager: str, snapshots: Mapping[str, Snapshot]
) -> tuple[Vram, ...]:
    """How the memory stands of every GPU that could be read, by host and number.

    `wanted` is what everything is to be, engines' settings and workloads alike.
    """
    names = {id_: key.name for id_, key in workloads_by_container(manager, snapshots).items()}
    return tuple(
        _vram(wanted, host, gpu, snapshot["gpu"]["gpus"][place], names, snapshot)
        for host, snapshot in snapshots.items()
        for place, gpu in enumerate(gpus_in(snapshot) or ())
    )


def _vram(
    wanted: Mapping[Key, Fields],
    host: str,
    gpu: Gpu,
    found: Mapping[str, Any],
    names: Mapping[str, str],
    snapshot: Snapshot,
) -> Vram:
    used, foreign = _divided(found["processes"], snapshot["gpu"]["containers"], names)
    reserved = {
        key.name: vram_reserved(fields) for key, fields in wanted.items() if gpu_given(fields) == gpu.uuid
    }
    none = None if foreign is None else 0
    sharers = (
        Sharer(name, reserved.get(name, 0), used.get(name, none))
        for name in (*reserved, *(used.keys() - reserved))
    )
    used_mib = (found["memory_used"] or 0) // MIB
    return Vram(host, gpu, used_mib, _offered(wanted, host, gpu), tuple(sharers), foreign)


def _divided(
    processes: Iterable[Mapping[str, Any]] | None, containers: Collection[str], names: Mapping[str, str]
) -> tuple[dict[str, int | None], tuple[Process, ...] | None]:
    """What each workload's processes have, and whose processes are of none; MiB."""
    used: dict[str, int | None] = {}
    foreign = []
    for process in processes or ():
        mib = None if process["memory"] is None else process["memory"] // MIB
        if process["container"] in containers:
            name = names.get(process["container"], "")
            used[name] = _sum(used.get(name, 0), mib)
        else:
            foreign.append(Process(process["pid"], one_line(process["name"]), mib))
    return used, None if processes is None else tuple(foreign)


def _sum(some: int | None, more: int | None) -> int | None:
    return None if some is None or more is None else some + more


def _offered(wanted: Mapping[Key, Fields], host: str, gpu: Gpu) -> int:
    """What the engine is told to offer the Swarm of a GPU; MiB."""
    settings = wanted.get(Key(host, "daemon-settings", DAEMON_SETTINGS), {})
    offers = dict(str(entry).split("=", 1) for entry in settings.get("node-generic-resources", ()))
    return int(offers.get(f"vram-{gpu.index}" if gpu.index else "vram", 0))


def workloads_by_container(manager: str, snapshots: Mapping[str, Snapshot]) -> dict[str, Key]:
    """The workload that each container is of, by the containers' IDs, as far as the engines know."""
    cluster = engine_in(snapshots.get(manager))
    services = {service["ID"]: service["Spec"]["Name"] for service in cluster.get("services", ())}
    tasks = (*cluster.get("tasks", ()), *cluster.get("running", ()))
    found = {
        container_of(task): Key(manager, "service", services[task["ServiceID"]])
        for task in tasks
        if task["ServiceID"] in services
    }
    for host, snapshot in snapshots.items():
        for container in (item["container"] for item in engine_in(snapshot).get("containers", ())):
            found[container["Id"]] = Key(host, "container", container["Name"].lstrip("/"))
    return found


def engine_in(snapshot: Snapshot | None) -> Mapping[str, Any]:
    """What a snapshot says of its engine; empty where that could not be read."""
    engine = (snapshot or {}).get("docker") or {}
    return engine if "api" in engine else {}


def container_of(task: Mapping[str, Any]) -> str:
    """The ID of a task's container; empty while it has none."""
    return str((task["Status"].get("ContainerStatus") or {}).get("ContainerID") or "")
