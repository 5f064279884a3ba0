"""What is done to a fleet behind its owner's back, and the test of tests/verify whose name says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.lab.by_hand import recreate_container, update_service
from tests.lab.conftest import on_host

MANAGER = "mainpc"
HOSTS = ("mainpc", "pc2")
AUDIO = "cascade-audio-realtime"
SETTINGS = "/etc/docker/daemon.json"
FOREIGN_PORT = 30471


@dataclass(frozen=True)
class Sabotage:
    """What somebody did on a host, and what is to be caught: a test's sentence and its subject.

    `also` are patterns of what else is caught for the same reason, as `subject: test`; `undo` is for what no
    deployment brings back.
    """

    name: str
    host: str
    by_hand: str | Callable[[], None]
    caught: str
    subject: str
    also: tuple[str, ...] = ()
    undo: str = ""

    @property
    def spoils(self) -> tuple[str, ...]:
        """Patterns of all that may be caught: anything of an agent, but of a host only what was meant."""
        whole = self.subject and self.subject not in HOSTS
        return (f"{self.subject}: {'*' if whole else self.caught}", *self.also)

    def make(self) -> None:
        """Does it."""
        if isinstance(self.by_hand, str):
            on_host(self.host, self.by_hand)
        else:
            self.by_hand()


def of_service(
    name: str, service: str, options: str, caught: str, also: tuple[str, ...] = (), before: str = ""
) -> Sabotage:
    """A service that somebody updated with the command line."""
    by_hand = f"{before}docker service update -q --detach --no-resolve-image {options} {service}"
    return Sabotage(name, MANAGER, by_hand, caught, service, also)


def of_spec(
    name: str, service: str, change: Callable[[Any], object], caught: str, also: tuple[str, ...] = ()
) -> Sabotage:
    """A service whose spec somebody changed."""
    return Sabotage(name, MANAGER, partial(update_service, service, change), caught, service, also)


def of_container(
    name: str, agent: str, change: Callable[[Any], object], caught: str, also: tuple[str, ...] = ()
) -> Sabotage:
    """A host container that somebody made anew."""
    container = f"{AUDIO}_{agent}"
    return Sabotage(name, MANAGER, partial(recreate_container, container, change), caught, container, also)


def _without_seccomp(spec: Any) -> None:
    spec["TaskTemplate"]["ContainerSpec"]["Privileges"]["Seccomp"] = {"Mode": "unconfined"}


def _host(key: str, value: object) -> Callable[[Any], None]:
    return lambda body: body["HostConfig"].__setitem__(key, value)


def _volume_of(folder: str) -> str:
    return f"$(docker volume inspect {folder} --format '{{{{.Mountpoint}}}}')"


ON_HOSTS = (
    Sabotage(
        "a kernel setting was changed",
        "mainpc",
        "sysctl -q -w net.core.somaxconn=128",
        "the kernel has every declared setting",
        "mainpc",
    ),
    Sabotage(
        "the file of kernel settings was emptied",
        "pc2",
        "echo > /etc/sysctl.d/90-cascade.conf",
        "every declared kernel setting outlives a reboot",
        "pc2",
    ),
    Sabotage(
        "a package was removed",
        "pc2",
        "apt-get remove -y -q curl",
        "every declared package is installed",
        "pc2",
    ),
    Sabotage(
        "the clock is off",
        "mainpc",
        # The hosts of the lab share a clock that is not theirs to set.
        "printf '#!/bin/sh\\nexec /bin/date --date=-90sec \"$@\"\\n' > /usr/local/bin/date;"
        " chmod 755 /usr/local/bin/date",
        "the clock is right",
        "mainpc",
        undo="rm /usr/local/bin/date",
    ),
    Sabotage(
        "the engine no longer starts with its host",
        "mainpc",
        "systemctl disable -q docker.service",
        "the engine runs and starts with its host",
        "mainpc",
    ),
    Sabotage(
        "the engine's settings were edited, and it did not read them",
        "pc2",
        f"sed -i 's/100m/1m/' {SETTINGS}",
        "daemon json has every declared setting",
        "pc2",
        also=("pc2: the running engine read daemon json as it is now",),
    ),
    Sabotage(
        "the engine's socket was opened to everybody",
        "mainpc",
        "chmod 666 /run/docker.sock",
        "the socket of the engine is closed to others",
        "mainpc",
        also=("mainpc-3.16: *",),
        undo="chmod 660 /run/docker.sock",
    ),
    Sabotage(
        "a container runs under the system's name",
        "pc2",
        "docker run -d --name stray --label cascade.system=cascade --network none"
        " $(docker images -q | head -n 1)",
        "no host container of the system runs that no file declares",
        "pc2",
        also=("pc2-5.*: *",),
        undo="docker rm -f stray",
    ),
)

OF_THE_SWARM = (
    Sabotage(
        "a label of a node is gone",
        MANAGER,
        "docker node update --label-rm gpu pc2",
        "the node has the declared labels",
        "pc2",
    ),
    Sabotage(
        "a node takes no more tasks",
        MANAGER,
        "docker node update --availability pause pc2",
        "the host is a node that takes tasks",
        "pc2",
    ),
    Sabotage(
        "a service runs under the system's name",
        MANAGER,
        "docker service create -q --detach --name stray --replicas 0 --label cascade.system=cascade"
        " --no-resolve-image $(docker images -q | head -n 1)",
        "no service of the system runs that no file declares",
        "",
        undo="docker service rm stray",
    ),
    Sabotage(
        "a service was removed",
        MANAGER,
        "docker service rm cascade-pc2-core_cache-manager",
        "as many replicas of the agent run as its file says",
        "cascade-pc2-core_cache-manager",
        also=("cascade-pc2-core_cache-manager-*: *",),
    ),
    of_service(
        "a service was scaled down",
        "cascade-personality_tone-detector",
        "--replicas 1",
        "as many replicas of the agent run as its file says",
    ),
)

OF_AGENTS = (
    of_service(
        "an image was exchanged",
        "cascade-personality_empathy-agent",
        "--image made-by:hand",
        "the image of every replica is the one of the files",
        ("mainpc-5.28: *",),
        before="docker commit --pause=false $(docker ps -q | head -n 1) made-by:hand; ",
    ),
    of_service(
        "a limit of memory was removed",
        "cascade-auxiliary_proactive-agent",
        "--limit-memory 0",
        "the memory of every replica is limited by the kernel",
        ("cascade-auxiliary: *", "mainpc-5.11: *"),
    ),
    of_service(
        "a limit of processor time was changed",
        "cascade-auxiliary_nllb-adapter",
        "--limit-cpu 0.1",
        "the processor time of every replica is limited by the kernel",
    ),
    of_service(
        "a limit of processes was removed",
        "cascade-auxiliary_chitchat-agent",
        "--limit-pids 0",
        "the number of processes of every replica is limited by the kernel",
        ("mainpc-5.29: *",),
    ),
    of_service(
        "the bounds of a log are gone",
        "cascade-auxiliary_translation-service",
        "--log-driver json-file --log-opt max-size=1g",
        "the log of every replica is kept and bounded as its file says",
    ),
    of_service(
        "an agent was told another name",
        "cascade-auxiliary_fixed-streaming-translation",
        "--env-add AGENT_NAME=Nobody",
        "every replica gets the environment of the image contract",
    ),
    of_service(
        "a label of an agent is gone",
        "cascade-personality_emotion-engine",
        "--container-label-rm cascade.agent",
        "every replica carries the labels of its agent group and system",
    ),
    Sabotage(
        "an agent is deaf",
        MANAGER,
        "pkill -f '[n]c -ll -p 7200 '",
        "every replica listens at both its ports",
        "cascade-core_service-registry",
        undo="docker service update -q --detach --force cascade-core_service-registry",
    ),
)


OF_NETWORKS = (
    of_service(
        "an agent was let out of its internal network",
        "cascade-personality_dynamic-identity-agent",
        "--network-add cascade-external",
        "replicas have a way out only by a network that is not internal",
    ),
    Sabotage(
        "isolation was opened to the hosts",
        MANAGER,
        f"docker network connect bridge {AUDIO}_audio-capture",
        "replicas on internal networks alone reach no host",
        f"{AUDIO}_audio-capture",
        also=("mainpc-5.30: *",),
    ),
    of_service(
        "a name is gone",
        "cascade-personality_mood-tracker-agent",
        "--network-rm cascade-internal --network-add name=cascade-internal,alias=mood",
        "every name of the agent leads to exactly its replicas from each host",
    ),
    of_service(
        "a port was published",
        "cascade-auxiliary_executor",
        f"--publish-add published={FOREIGN_PORT},target=5606,mode=host",
        "exactly the declared ports are published",
        ("mainpc: the engine listens at no other port of the host",),
    ),
    Sabotage(
        "a host container was taken off its network",
        MANAGER,
        f"docker network disconnect cascade-internal {AUDIO}_wake-word-detector",
        "every replica is on exactly the networks of its agent",
        f"{AUDIO}_wake-word-detector",
    ),
)


IN_CONTAINERS = (
    of_service(
        "an agent runs as root",
        "cascade-auxiliary_feedback-handler",
        "--user 0:0",
        "every process runs as the declared user",
        ("mainpc-4.1: *",),
    ),
    of_service(
        "a capability was added",
        "cascade-auxiliary_code-generator",
        "--cap-add NET_ADMIN",
        "no process can ever gain a capability that is not declared",
        ("cascade-auxiliary_code-generator-*: *", "mainpc-5.4: *"),
    ),
    of_spec(
        "seccomp was stripped",
        "cascade-ai-engine_tts-service",
        _without_seccomp,
        "the kernel filters the system calls of every process",
        ("mainpc-5.22: *",),
    ),
    of_service(
        "a root file system can be written",
        "cascade-ai-engine_stt-service",
        "--read-only=false",
        "the root file system is read only where its file says nothing else",
        ("mainpc-5.13: *",),
    ),
    of_service(
        "an agent has the engine's socket",
        "cascade-ai-engine_face-recognition-agent",
        "--mount-add type=bind,source=/run/docker.sock,target=/run/docker.sock",
        "no replica has the socket of the engine",
        ("mainpc-5.32: *",),
    ),
    of_service(
        "a limit of open files was changed",
        "cascade-ai-engine_model-orchestrator",
        "--ulimit-add core=1:1",
        "every replica has the resource limits of its file",
    ),
    of_container(
        "a host container is privileged",
        "streaming-tts-agent",
        _host("Privileged", True),
        "no replica is privileged",
        (f"{AUDIO}_streaming-tts-agent-*: *", "mainpc-5.5: *", "mainpc-5.22: *"),
    ),
    of_container(
        "a host container sees the host's processes",
        "streaming-interrupt-handler",
        _host("PidMode", "host"),
        "no replica shares a namespace with its host",
        ("mainpc-5.16: *",),
    ),
    of_container(
        "a host container got a device",
        "streaming-speech-recognition",
        _host(
            "Devices",
            [{"PathOnHost": "/dev/zero", "PathInContainer": "/dev/more", "CgroupPermissions": "rwm"}],
        ),
        "every replica has the devices that its file gives and no others",
    ),
    Sabotage(
        "an agent without a GPU sees one",
        MANAGER,
        f"mknod /proc/$(docker inspect -f '{{{{.State.Pid}}}}' {AUDIO}_streaming-language-analyzer)"
        "/root/dev/nvidia0 c 195 0",
        "no replica sees a gpu that is not its own",
        f"{AUDIO}_streaming-language-analyzer",
        undo=f"docker restart {AUDIO}_streaming-language-analyzer",
    ),
)

OF_DATA = (
    Sabotage(
        "a volume was given to root",
        MANAGER,
        f"chown root:root {_volume_of('cascade-core_redis_data')}",
        "the volume belongs to the user of those who write to it",
        "cascade-core_redis_data",
        undo=f"chown 10001:10001 {_volume_of('cascade-core_redis_data')}",
    ),
    Sabotage(
        "a volume was taken from an agent",
        MANAGER,
        "docker service update -q --detach --no-resolve-image --mount-rm /data/learning"
        " cascade-memory-learning_memory-client",
        "every replica sees at its place the folder of the volume",
        "cascade-memory-learning_learning_data",
        also=("cascade-memory-learning_memory-client: *",),
    ),
)

SABOTAGES = (
    *ON_HOSTS,
    *OF_THE_SWARM,
    *OF_AGENTS,
    *OF_NETWORKS,
    *IN_CONTAINERS,
    *OF_DATA,
)
