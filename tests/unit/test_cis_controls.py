"""The controls of tests/verify: a host that is as they ask passes all, and each one sees what is not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import testinfra

from cascade.model.host import Host
from tests.verify import look
from tests.verify.controls import CONTROLS, Fault
from tests.verify.exceptions import Exempt, by_hand, exceptions, lacking, unexcused
from tests.verify.look import PATHS, File, Look, Unread, files_at, inside, members_of

Seen = dict[str, Any]
PAGE = Path(__file__).parents[2] / "docs/how-to/verify.md"
UNIT_FILES = {unit: f"/usr/lib/systemd/system/{unit}" for unit in ("docker.service", "docker.socket")}
DATA = "/srv/docker"
CERTIFICATE, TLS = "/etc/docker/certs.d/mirror.example/ca.crt", ("tlscacert", "tlscert", "tlskey")
# What the benchmark has in these sections; 1.2 is two, and 7.6, 7.8 and 7.9 are among those by hand.
COUNTS = {"1.1": 18, "1.2": 2, "2": 18, "3": 24, "4": 12, "5": 32, "7": 9}


def files() -> dict[str, File]:
    modes = {"/run/docker.sock": 0o660, "/run/containerd/containerd.sock": 0o660, CERTIFICATE: 0o444}
    modes |= {f"/etc/docker/{name}": 0o400 if name == "tlskey" else 0o444 for name in TLS}
    paths = (*PATHS, DATA, *UNIT_FILES.values(), *modes)
    groups = {"/run/docker.sock": "docker"}
    return {path: File("root", groups.get(path, "root"), modes.get(path, 0o644)) for path in paths} | {
        "/etc/docker": File("root", "root", 0o755)
    }


def good() -> Seen:
    """A host with one container, on which every control passes."""
    audited = "\n".join(f"-w {path} -p rwxa" for path in (*PATHS, DATA, *UNIT_FILES.values()))
    host_config = {
        "CapAdd": None,
        "CapDrop": ["ALL"],
        "CgroupParent": "",
        "CpuShares": 0,
        "Devices": [],
        "IpcMode": "private",
        "Memory": 64,
        "NanoCpus": 5,
        "NetworkMode": "cascade-internal",
        "PidMode": "",
        "PidsLimit": 512,
        "Privileged": False,
        "ReadonlyRootfs": True,
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 5},
        "SecurityOpt": ["label=type:agent"],
        "UTSMode": "",
        "Ulimits": [{"Name": "core"}],
        "UsernsMode": "",
    }
    container = {
        "AppArmorProfile": "docker-default",
        "Config": {"Env": ["DB_PASSWORD=/run/secrets/db"], "Image": "sha256:1", "User": "10001:10001"},
        "HostConfig": host_config,
        "Id": "c1",
        "Image": "sha256:1",
        "Mounts": [
            {"Type": "bind", "Source": "/srv/data", "Destination": "/data", "Propagation": "rprivate"}
        ],
        "Name": "/group_agent.1.x",
        "NetworkSettings": {
            "Networks": {"cascade-internal": {}},
            "Ports": {"80/tcp": [{"HostIp": "10.0.0.1", "HostPort": "8080"}], "81/tcp": None},
        },
        "State": {"Pid": 7, "Health": {"Status": "healthy"}},
    }
    cluster = {
        "Spec": {"EncryptionConfig": {"AutoLockManagers": True}, "CAConfig": {"NodeCertExpiry": 10**9}}
    }
    return {
        "info": {
            "Driver": "overlay2",
            "ExperimentalBuild": False,
            "LoggingDriver": "syslog",
            "Plugins": {"Authorization": ["opa"]},
            "RegistryConfig": {
                "IndexConfigs": {"a": {"Secure": True}},
                "InsecureRegistryCIDRs": ["127.0.0.0/8"],
            },
            "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless", "name=userns"],
            "Swarm": {
                "Cluster": cluster,
                "ControlAvailable": True,
                "LocalNodeState": "inactive",
                "Managers": 1,
                "Nodes": 2,
            },
        },
        "daemon": {
            **{name: f"/etc/docker/{name}" for name in TLS},
            "default-ulimits": {"core": {}},
            "hosts": ["tcp://10.0.0.1:2376"],
            "icc": False,
            "live-restore": True,
            "no-new-privileges": True,
            "tlsverify": True,
            "userland-proxy": False,
        },
        "arguments": ("/usr/sbin/dockerd", "-H", "fd://"),
        "environment": {"DOCKER_CONTENT_TRUST": "1"},
        "files": files(),
        "unit_files": UNIT_FILES,
        "registry_certificates": (CERTIFICATE,),
        "docker_group": (),
        "data": DATA,
        "mount_of_data": DATA,
        "audit_rules": audited,
        "listening": ("10.0.0.1:2377", "[::]:22"),
        "containers": (container,),
        "statuses": {"group_agent": {"Seccomp": "2", "NoNewPrivs": "1"}},
        "set_id_files": {"sha256:1": ()},
        "images": ({"Id": "sha256:1", "RepoTags": ["a:1"], "Config": {"Healthcheck": {"Test": ["CMD"]}}},),
        "history": {"sha256:1": ("COPY a b",)},
        "networks": ({"Name": "cascade-internal", "Driver": "overlay", "Options": {"encrypted": ""}},),
        "services": (
            {
                "Spec": {
                    "Name": "group_agent",
                    "TaskTemplate": {"RestartPolicy": {"Condition": "on-failure", "MaxAttempts": 5}},
                }
            },
        ),
        "sshd_in_containers": (),
    }


def put(*path: str | int, value: Any) -> Callable[[Seen], None]:
    """Sets one value of what was seen."""

    def change(seen: Seen) -> None:
        place: Any = seen
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


def of_container(*path: str | int, value: Any) -> Callable[[Seen], None]:
    return put("containers", 0, *path, value=value)


def of_host(key: str, value: Any) -> Callable[[Seen], None]:
    return of_container("HostConfig", key, value=value)


def daemon(key: str, value: Any) -> Callable[[Seen], None]:
    return put("daemon", key, value=value)


def file(path: str, owner: str = "root", group: str = "root", mode: int = 0o400) -> Callable[[Seen], None]:
    return put("files", path, value=File(owner, group, mode))


def taken(path: str) -> Callable[[Seen], None]:
    return file(path, owner="daemon")


def loose(path: str) -> Callable[[Seen], None]:
    return file(path, mode=0o777)


def unwatched(path: str) -> Callable[[Seen], None]:
    def change(seen: Seen) -> None:
        seen["audit_rules"] = seen["audit_rules"].replace(f"-w {path} ", "-w /elsewhere ")

    return change


CLUSTER = ("info", "Swarm", "Cluster", "Spec")
SOCKET, CONTAINERD = "/run/docker.sock", "/run/containerd/containerd.sock"
PUBLISHED = ("NetworkSettings", "Ports", "80/tcp", 0)
BAD: dict[str, Callable[[Seen], None]] = {
    "1.1.1": put("mount_of_data", value="/"),
    "1.1.2": put("docker_group", value=("mallory",)),
    "1.1.3": unwatched("/usr/sbin/dockerd"),
    "1.1.4": unwatched("/run/containerd"),
    "1.1.5": unwatched(DATA),
    "1.1.6": unwatched("/etc/docker"),
    "1.1.7": unwatched(UNIT_FILES["docker.service"]),
    "1.1.8": unwatched(CONTAINERD),
    "1.1.9": unwatched(UNIT_FILES["docker.socket"]),
    "1.1.10": unwatched("/etc/default/docker"),
    "1.1.11": unwatched("/etc/docker/daemon.json"),
    "1.1.12": unwatched("/etc/containerd/config.toml"),
    "1.1.13": unwatched("/etc/sysconfig/docker"),
    "1.1.14": unwatched("/usr/bin/containerd"),
    "1.1.15": unwatched("/usr/bin/containerd-shim"),
    "1.1.16": unwatched("/usr/bin/containerd-shim-runc-v1"),
    "1.1.17": unwatched("/usr/bin/containerd-shim-runc-v2"),
    "1.1.18": unwatched("/usr/sbin/runc"),
    "2.1": put("info", "SecurityOptions", value=["name=seccomp,profile=builtin", "name=userns"]),
    "2.2": daemon("icc", True),
    "2.3": daemon("log-level", "debug"),
    "2.4": daemon("iptables", False),
    "2.5": put("info", "RegistryConfig", "InsecureRegistryCIDRs", value=["10.0.0.0/8"]),
    "2.6": put("info", "Driver", value="aufs"),
    "2.7": daemon("tlsverify", False),
    "2.8": daemon("default-ulimits", {}),
    "2.9": put("info", "SecurityOptions", value=["name=seccomp,profile=builtin", "name=rootless"]),
    "2.10": daemon("cgroup-parent", "/elsewhere"),
    "2.11": daemon("storage-opts", ["dm.basesize=50G"]),
    "2.12": put("info", "Plugins", "Authorization", value=None),
    "2.13": put("info", "LoggingDriver", value="json-file"),
    "2.14": daemon("no-new-privileges", False),
    "2.15": daemon("live-restore", None),
    "2.16": put("arguments", value=("dockerd", "--userland-proxy=true")),
    "2.17": put("info", "SecurityOptions", value=["name=seccomp,profile=unconfined", "name=rootless"]),
    "2.18": put("info", "ExperimentalBuild", value=True),
    "3.1": taken(UNIT_FILES["docker.service"]),
    "3.2": loose(UNIT_FILES["docker.service"]),
    "3.3": taken(UNIT_FILES["docker.socket"]),
    "3.4": loose(UNIT_FILES["docker.socket"]),
    "3.5": file("/etc/docker", owner="daemon", mode=0o755),
    "3.6": loose("/etc/docker"),
    "3.7": taken(CERTIFICATE),
    "3.8": loose(CERTIFICATE),
    "3.9": taken("/etc/docker/tlscacert"),
    "3.10": loose("/etc/docker/tlscacert"),
    "3.11": taken("/etc/docker/tlscert"),
    "3.12": loose("/etc/docker/tlscert"),
    "3.13": taken("/etc/docker/tlskey"),
    "3.14": loose("/etc/docker/tlskey"),
    "3.15": file(SOCKET, group="users", mode=0o660),
    "3.16": file(SOCKET, group="docker", mode=0o666),
    "3.17": taken("/etc/docker/daemon.json"),
    "3.18": loose("/etc/docker/daemon.json"),
    "3.19": taken("/etc/default/docker"),
    "3.20": loose("/etc/default/docker"),
    "3.21": loose("/etc/sysconfig/docker"),
    "3.22": taken("/etc/sysconfig/docker"),
    "3.23": file(CONTAINERD, group="users", mode=0o660),
    "3.24": loose(CONTAINERD),
    "4.1": of_container("Config", "User", value="0:0"),
    "4.5": put("environment", value={}),
    "4.6": put("images", 0, "Config", value={}),
    "4.8": put("set_id_files", "sha256:1", value=("/bin/su",)),
    "4.9": put("history", "sha256:1", value=("ADD http://mirror.example/a b",)),
    "5.1": put("info", "Swarm", "LocalNodeState", value="active"),
    "5.2": of_container("AppArmorProfile", value="unconfined"),
    "5.3": of_host("SecurityOpt", None),
    "5.4": of_host("CapAdd", ["SYS_ADMIN"]),
    "5.5": of_host("Privileged", True),
    "5.6": of_container("Mounts", 0, "Source", value="/etc/ssh"),
    "5.7": put("sshd_in_containers", value=("9",)),
    "5.8": of_container(*PUBLISHED, "HostPort", value="80"),
    "5.10": of_host("NetworkMode", "host"),
    "5.11": of_host("Memory", 0),
    "5.12": of_host("NanoCpus", 0),
    "5.13": of_host("ReadonlyRootfs", False),
    "5.14": of_container(*PUBLISHED, "HostIp", value="0.0.0.0"),
    "5.15": put("services", 0, "Spec", "TaskTemplate", "RestartPolicy", "Condition", value="any"),
    "5.16": of_host("PidMode", "host"),
    "5.17": of_host("IpcMode", "host"),
    "5.18": of_host("Devices", [{"PathOnHost": "/dev/snd"}]),
    "5.19": of_host("Ulimits", None),
    "5.20": of_container("Mounts", 0, "Propagation", value="rshared"),
    "5.21": of_host("UTSMode", "host"),
    "5.22": put("statuses", "group_agent", "Seccomp", value="0"),
    "5.25": of_host("CgroupParent", "/elsewhere"),
    "5.26": put("statuses", "group_agent", "NoNewPrivs", value="0"),
    "5.27": of_container("State", value={"Pid": 7}),
    "5.28": of_container("Config", "Image", value="agent:latest"),
    "5.29": of_host("PidsLimit", -1),
    "5.30": of_container("NetworkSettings", "Networks", value={"bridge": {}}),
    "5.31": of_host("UsernsMode", "host"),
    "5.32": of_container("Mounts", 0, "Source", value="/var/run/docker.sock"),
    "7.1": put("info", "Swarm", "Managers", value=2),
    "7.2": put("listening", value=("*:2377",)),
    "7.3": put("networks", 0, "Options", value=None),
    "7.4": of_container("Config", "Env", value=["DB_PASSWORD=hunter2"]),
    "7.5": put(*CLUSTER, "EncryptionConfig", "AutoLockManagers", value=False),
    "7.7": put(*CLUSTER, "CAConfig", "NodeCertExpiry", value=91 * 86400 * 10**9),
}


def faults(seen: Seen, number: str) -> list[Fault]:
    control = next(control for control in CONTROLS if control.number == number)
    return list(control.faults(Look(**seen)))


def test_a_host_that_is_as_the_benchmark_asks_passes_every_control() -> None:
    assert {field.name for field in fields(Look)} == set(good())
    assert {control.number: found for control in CONTROLS if (found := faults(good(), control.number))} == {}


def test_data_that_are_not_there_lie_nowhere() -> None:
    assert faults({**good(), "mount_of_data": ""}, "1.1.1") == [Fault(DATA, "is not there")]


def test_a_command_that_does_not_end_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "ENDS_WITHIN_S", 0.1)
    with pytest.raises(Unread, match="tail -f /dev/null: it did not end"):
        look.output(testinfra.get_host("local://"), "tail -f /dev/null")


def test_what_a_command_says_to_its_shell_is_kept() -> None:
    here = testinfra.get_host("local://")
    assert look.output(here, "for one in 'a b' \"c\"; do echo $one; done") == "a b\nc"
    assert look.output(here, "printf 'caf\\351'") == "caf\ufffd"
    with pytest.raises(Unread, match=r"ls /no/such: .*such"):
        look.output(here, "ls /no/such")


def test_files_are_seen_whatever_they_are_called_and_those_that_are_not_there_are_left_out(
    tmp_path: Path,
) -> None:
    data = tmp_path / "of the engine"
    data.mkdir()
    data.chmod(0o711)
    seen = files_at(testinfra.get_host("local://"), (str(data), "/no/such"))
    assert {path: one.mode for path, one in seen.items()} == {str(data): 0o711}


@pytest.mark.parametrize("number", [control.number for control in CONTROLS])
def test_each_control_sees_what_is_not_as_it_asks(number: str) -> None:
    seen = copy.deepcopy(good())
    BAD[number](seen)
    assert faults(seen, number) != []


def test_every_control_of_the_sections_is_there_once_or_is_for_a_person() -> None:
    numbers = [control.number for control in CONTROLS]
    assert len(numbers) == len(set(numbers))
    assert set(numbers).isdisjoint(by_hand())
    sections = {f"{section}.{number}" for section, count in COUNTS.items() for number in range(1, count + 1)}
    assert {*numbers, *by_hand()} == sections


def test_every_exception_is_of_a_control_and_says_why() -> None:
    assert set(exceptions()) <= {control.number for control in CONTROLS}
    reasons = [*(exempt.reason for exempt in exceptions().values()), *by_hand().values()]
    assert all(len(reason.split()) >= 5 for reason in reasons)


def test_an_exception_for_some_subjects_covers_no_other() -> None:
    exempt = Exempt("Sound needs it.", ("audio_*",))
    assert exempt.covers(Fault("audio_capture", "has /dev/snd"))
    assert not exempt.covers(Fault("core_twin", "has /dev/snd"))


def test_what_no_exception_covers_stays() -> None:
    fault = Fault("core_twin", "is privileged")
    assert unexcused("5.5", [fault]) == [fault]
    assert unexcused("2.15", [Fault("daemon.json", "live-restore is not true")]) == []


def test_the_page_says_how_many_controls_there_are() -> None:
    page = " ".join(PAGE.read_text().split())
    assert f"{len(CONTROLS)} controls, each by its number" in page
    assert f"names the {len(by_hand())} that only a person can judge" in page


def test_an_empty_group_has_no_members() -> None:
    assert members_of("docker:x:988:\n") == ()
    assert members_of("docker:x:988:mallory,trent\n") == ("mallory", "trent")
    assert members_of("") == ()


def machine(**said: Any) -> Host:
    system = {"distribution": "debian", "codename": "trixie", "docker_source": "docker"}
    return Host(name="mainpc", swarm_address="192.0.2.11", swarm_role="manager", **{**system, **said})


def test_a_control_is_left_out_only_where_the_machine_lacks_what_it_is_about() -> None:
    assert lacking("2.8", machine(absent=frozenset({"open-files"})), apparmor=True)
    assert lacking("5.2", machine(), apparmor=False) == "the kernel has no AppArmor"
    assert not lacking("2.8", machine(absent=frozenset({"gpu", "clock"})), apparmor=False)
    assert not lacking("5.2", machine(), apparmor=True)
    assert not lacking("5.2", machine(apparmor="required"), apparmor=False)
    assert not lacking("5.7", machine(absent=frozenset({"open-files"})), apparmor=False)


def test_an_ssh_server_is_in_a_container_only_if_that_is_one_of_the_hosts_own_engine() -> None:
    lines = [
        "/proc/119/cgroup:9:pids:/docker/3e3b/system.slice/ssh.service",
        "/proc/700/cgroup:9:pids:/docker/3e3b/docker/77aa",
        "/proc/700/cgroup:0::/docker/3e3b/docker/77aa",
        "/proc/88/cgroup:0::/system.slice/docker-77aa.scope",
        "/proc/9/cgroup:0::/system.slice/ssh.service",
    ]
    assert inside(lines, ["77aa", "55bb"]) == ("88", "700")
    assert inside(lines, []) == ()
