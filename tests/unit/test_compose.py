"""The part of the Compose Specification that a group file may use: short and long forms, and refusals."""

import re
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from cascade.model.compose import (
    Attachments,
    Deploy,
    Device,
    Environment,
    HealthCheck,
    HealthTiming,
    Logging,
    Mount,
    Placement,
    Port,
    RestartPolicy,
    TextMap,
    Tmpfs,
    Ulimit,
    UpdateConfig,
)
from cascade.model.service import Scale, Service


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"A": "1"}, {"A": "1"}),
        ({"A": 1, "B": 1.5, "C": ""}, {"A": "1", "B": "1.5", "C": ""}),
        ({"A": True, "B": False}, {"A": "true", "B": "false"}),
        (["A=1"], {"A": "1"}),
        (["A=b=c"], {"A": "b=c"}),
        (["A="], {"A": ""}),
        (["A=$(touch x)\n; y"], {"A": "$(touch x)\n; y"}),
        ([], {}),
        ({}, {}),
    ],
)
def test_a_map_of_texts_has_two_forms(written: Any, read: dict[str, str]) -> None:
    assert TypeAdapter(TextMap).validate_python(written) == read


@pytest.mark.parametrize(
    "written",
    [{"A": None}, {"A": ["b"]}, {"A": {"b": "c"}}, {1: "a"}, "A=1", 7, None, [{"A": "b"}], ["A: b"]],
)
def test_what_is_no_map_of_texts_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(TextMap).validate_python(written)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (["A=1", "B=2", "A=1", "B=3"], "A, B stands twice"),
        (["=1"], "at least 1 character"),
        ({"": "1"}, "at least 1 character"),
    ],
)
def test_a_name_stands_once_and_is_not_empty(written: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        TypeAdapter(TextMap).validate_python(written)


@pytest.mark.parametrize("written", [["A=1", "A=2"], ["=1"], {"": "1"}, {"A=B": "1"}])
def test_an_environment_has_names_that_a_process_can_read(written: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Environment).validate_python(written)


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({"environment": {"A": "1", "B": "{{.Node.ID}}"}}, ("environment", "B")),
        ({"environment": ["A=a {{ b"]}, ("environment", "A")),
        ({"hostname": "{{.Task.Name}}"}, ("hostname",)),
        ({"volumes": ["/srv/{{.Task.Slot}}:/srv"]}, ("volumes", 0, "source")),
        ({"volumes": ["/srv:/{{.Task.Slot}}"]}, ("volumes", 0, "target")),
        ({"tmpfs": ["/{{.Task.Slot}}"]}, ("tmpfs", 0, "target")),
    ],
)
def test_what_swarm_would_take_for_a_template_is_refused(keys: dict[str, Any], path: Any) -> None:
    with pytest.raises(ValidationError, match=r"Swarm would expand \{\{") as refused:
        Service.model_validate({"image": "a", **keys})
    assert [error["loc"] for error in refused.value.errors()] == [path]


@pytest.mark.parametrize("text", ["}}", "{ {", '{"a":{"b":[{"c":{}}]}}'])
def test_other_braces_are_no_template(text: str) -> None:
    assert TypeAdapter(Environment).validate_python({"A": text}) == {"A": text}


def test_every_variable_without_a_value_is_named() -> None:
    for written in (["HOME", "A=1", "USER"], {"HOME": None, "A": "1", "USER": None}):
        for model in (TextMap, Environment):
            with pytest.raises(ValidationError) as refused:
                TypeAdapter(model).validate_python(written)
            expected = "no value, and the deploying machine's environment is not passed on"
            assert [(error["loc"], expected in error["msg"]) for error in refused.value.errors()] == [
                (("HOME",), True),
                (("USER",), True),
            ]


def fields(model: Any, written: Any) -> dict[str, Any]:
    """The model read from this, as plain values."""
    found: dict[str, Any] = model.model_validate(written).model_dump()
    return found


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("data:/data", ("volume", "data", "/data", False)),
        ("data:/data:ro", ("volume", "data", "/data", True)),
        ("data:/data:rw", ("volume", "data", "/data", False)),
        ("/srv/data:/data", ("bind", "/srv/data", "/data", False)),
        ("/srv/da ta:/da ta:ro", ("bind", "/srv/da ta", "/da ta", True)),
        ({"type": "bind", "source": "/srv", "target": "/data"}, ("bind", "/srv", "/data", False)),
        (
            {"type": "volume", "source": "data", "target": "/data", "read_only": True},
            ("volume", "data", "/data", True),
        ),
    ],
)
def test_a_mount_has_two_forms(written: Any, read: tuple[Any, ...]) -> None:
    assert tuple(fields(Mount, written).values())[:4] == read


@pytest.mark.parametrize(
    "written",
    [
        "",
        "data",
        "/data",
        "data:",
        "data:data",
        "data:/data:rx",
        "data:/data:ro:z",
        "data:/data:ro,z",
        {"type": "tmpfs", "source": "data", "target": "/data"},
        {"type": "npipe", "source": "data", "target": "/data"},
        {"type": "volume", "target": "/data"},
        {"type": "volume", "source": "data"},
        {"type": "volume", "source": "data", "target": "/data", "volume": {"subpath": "a"}},
        {"type": "volume", "source": "data", "target": "/data", "bind": {"propagation": "shared"}},
        {"type": "volume", "source": "data", "target": "/data", "tmpfs": {"size": "1M"}},
        {"type": "bind", "source": "/srv", "target": "/data", "volume": {"nocopy": True}},
        {"type": "bind", "source": "/srv", "target": "/data", "bind": {"propagation": "wide"}},
        {"type": "bind", "source": "/srv", "target": "/data", "bind": {"create_host_path": True}},
        {"type": "tmpfs", "source": "/srv", "target": "/data"},
        {"type": "tmpfs", "target": "/data", "tmpfs": {"mode": "9"}},
        {"type": "bind", "source": "srv", "target": "/data"},
        {"type": "bind", "source": "./srv", "target": "/data"},
        {"type": "bind", "source": "/srv", "target": "data"},
        {"type": "volume", "source": "data", "target": "data"},
        {"type": "volume", "source": "/srv", "target": "/data"},
        {"type": "volume", "source": "", "target": "/data"},
        "./srv:/data",
        "../srv:/data",
        "~/srv:/data",
        ":/data",
        "data:/",
        "data://",
        7,
        None,
    ],
)
def test_a_mount_that_cannot_be_honoured_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError):
        Mount.model_validate(written)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("80:8080", (8080, 80, "tcp", "ingress")),
        ("80:8080/udp", (8080, 80, "udp", "ingress")),
        ("80:8080/tcp", (8080, 80, "tcp", "ingress")),
        ("1:65535", (65535, 1, "tcp", "ingress")),
        ("65535:1", (1, 65535, "tcp", "ingress")),
        ({"target": 8080, "published": 80}, (8080, 80, "tcp", "ingress")),
        ({"target": 8080, "published": 80, "mode": "host", "protocol": "udp"}, (8080, 80, "udp", "host")),
        (
            {"target": "8080", "published": "80", "name": "web", "app_protocol": "http"},
            (8080, 80, "tcp", "ingress"),
        ),
    ],
)
def test_a_port_has_two_forms(written: Any, read: tuple[Any, ...]) -> None:
    assert tuple(fields(Port, written).values())[:4] == read


@pytest.mark.parametrize(
    "written",
    [
        "",
        "80",
        "80:",
        ":80",
        "80-90:80-90",
        "127.0.0.1:80:80",
        "80:80:80",
        "http:80",
        "80:80/sctp",
        "-1:80",
        "0:80",
        "80:65536",
        "80:80;x",
        {"target": 80},
        {"published": 80},
        {"target": 80, "published": "80-90"},
        {"target": 80, "published": 80, "mode": "bridge"},
        {"target": True, "published": 80},
        {"target": 80, "published": True},
        {"target": 80, "published": 80, "host_ip": "127.0.0.1"},
        # What YAML makes of an unquoted 22:22.
        1342,
        None,
    ],
)
def test_a_port_that_cannot_be_honoured_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError):
        Port.model_validate(written)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("/dev/snd", ("/dev/snd", "/dev/snd", "rwm")),
        ("/dev/snd:/dev/audio", ("/dev/snd", "/dev/audio", "rwm")),
        ("/dev/snd:/dev/audio:r", ("/dev/snd", "/dev/audio", "r")),
        ({"source": "/dev/a", "target": "/dev/b"}, ("/dev/a", "/dev/b", "rwm")),
        ({"source": "/dev/a"}, ("/dev/a", "/dev/a", "rwm")),
        ("/dev/a:/dev/b:mr", ("/dev/a", "/dev/b", "mr")),
    ],
)
def test_a_device_has_two_forms(written: Any, read: tuple[str, ...]) -> None:
    assert tuple(fields(Device, written).values()) == read


@pytest.mark.parametrize(
    "written",
    [
        "",
        "snd",
        "dev/snd",
        "/dev/snd:",
        "/dev/snd:rw",
        "/dev/snd:dev/audio",
        "/dev/snd:/dev/audio:",
        "/dev/snd:/dev/audio:x",
        "/dev/snd:/dev/audio:rr",
        "/dev/snd:/dev/audio:r:w",
        {"target": "/dev/snd"},
        {"source": "snd", "target": "/dev/snd"},
        {"source": "/dev/snd", "target": "snd"},
        {"source": "/dev/snd", "target": "/dev/snd", "permissions": "rwx"},
        7,
    ],
)
def test_a_device_that_cannot_be_honoured_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError):
        Device.model_validate(written)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("/run", ("/run", None, None)),
        ("/run:size=64M", ("/run", 64 * 2**20, None)),
        ("/run:mode=1770", ("/run", None, 0o1770)),
        ("/run:mode=700,size=1k", ("/run", 1024, 0o700)),
        ("/run:rw,noexec,nosuid,nodev,size=1k", ("/run", 1024, None)),
    ],
)
def test_a_file_system_in_memory_has_a_size_and_a_mode(written: str, read: tuple[Any, ...]) -> None:
    assert tuple(fields(Tmpfs, written).values()) == read


@pytest.mark.parametrize(
    "written",
    [
        "",
        "run",
        "/",
        "/run:",
        "/run:exec",
        "/run:uid=1000",
        "/run:size=",
        "/run:size=half",
        "/run:size=0",
        "/run:mode=rwx",
        "/run:mode=789",
        "/run:mode=17777",
        "/run:mode=-1",
        "/run:target=/etc",
        "/run:size=1M,size=2M",
        {"target": "/run"},
        7,
    ],
)
def test_a_file_system_in_memory_that_cannot_be_honoured_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError):
        Tmpfs.model_validate(written)


@pytest.mark.parametrize("written", ["hole:192.0.2.9", "a.b-c:::1", "hole_2:fe80::1"])
def test_an_extra_host_is_a_name_and_an_address(written: str) -> None:
    assert Service.model_validate({"image": "a", "extra_hosts": [written]}).extra_hosts == (written,)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["hole=192.0.2.9", "den:[::1]"], ("hole:192.0.2.9", "den:::1")),
        ({"hole": "192.0.2.9", "den": "[::1]"}, ("hole:192.0.2.9", "den:::1")),
        ({"hole": ["192.0.2.9", "::1"]}, ("hole:192.0.2.9", "hole:::1")),
        ({}, ()),
    ],
)
def test_extra_hosts_have_more_forms(written: Any, read: tuple[str, ...]) -> None:
    assert Service.model_validate({"image": "a", "extra_hosts": written}).extra_hosts == read


@pytest.mark.parametrize(
    "written",
    [
        "hole",
        "hole:",
        ":192.0.2.9",
        "hole:host-gateway",
        "192.0.2.9:hole",
        {"hole": None},
        {"hole": "host-gateway"},
        {"hole": ["192.0.2.9", "x"]},
        "hole:192.0.2.999",
        "a b:192.0.2.9",
        "hole:192.0.2.9 # x",
        7,
    ],
)
def test_an_extra_host_that_cannot_be_honoured_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError):
        Service.model_validate({"image": "a", "extra_hosts": [written]})


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("SYS_NICE", "CAP_SYS_NICE"),
        ("CAP_SYS_NICE", "CAP_SYS_NICE"),
        ("cap_sys_nice", "CAP_SYS_NICE"),
        ("all", "ALL"),
    ],
)
@pytest.mark.parametrize("key", ["cap_add", "cap_drop"])
def test_a_capability_has_one_name_however_it_is_written(key: str, written: str, named: str) -> None:
    assert getattr(Service.model_validate({"image": "a", key: [written]}), key) == (named,)


@pytest.mark.parametrize("written", ["SYS_NICER", "", "CAP_", "CAP_CAP_CHOWN", "NICE; touch x"])
@pytest.mark.parametrize("key", ["cap_add", "cap_drop"])
def test_an_unknown_capability_is_refused(key: str, written: str) -> None:
    with pytest.raises(ValidationError, match="is no Linux capability"):
        Service.model_validate({"image": "a", key: [written]})


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["inner", "outer"], {"inner": (), "outer": ()}),
        ({"inner": None}, {"inner": ()}),
        ({"inner": {"aliases": ["fox"]}}, {"inner": ("fox",)}),
        ([], {}),
    ],
)
def test_networks_have_two_forms(written: Any, read: dict[str, tuple[str, ...]]) -> None:
    found = TypeAdapter(Attachments).validate_python(written)
    assert {name: attachment.aliases for name, attachment in found.items()} == read


@pytest.mark.parametrize(
    "written",
    [
        "inner",
        7,
        [{"a": "b"}],
        [["a"]],
        [7],
        [None],
        {"inner": {"ipv4_address": "192.0.2.7"}},
        {"inner": ["fox"]},
    ],
)
def test_networks_that_cannot_be_honoured_are_refused(written: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Attachments).validate_python(written)


@pytest.mark.parametrize(
    ("written", "read"),
    [(1024, (1024, 1024)), ({"soft": 1, "hard": 2}, (1, 2)), (-1, (-1, -1))],
)
def test_a_ulimit_has_two_forms(written: Any, read: tuple[int, int]) -> None:
    assert tuple(fields(Ulimit, written).values()) == read


@pytest.mark.parametrize(
    ("written", "test"),
    [
        ("curl -f http://localhost", ("CMD-SHELL", "curl -f http://localhost")),
        (["CMD", "curl"], ("CMD", "curl")),
        (["CMD-SHELL", "a && b"], ("CMD-SHELL", "a && b")),
        (["NONE"], ("NONE",)),
    ],
)
def test_a_health_check_is_a_command_or_a_shell_line(written: Any, test: tuple[str, ...]) -> None:
    assert HealthCheck.model_validate({"test": written}).test == test


@pytest.mark.parametrize(
    "written",
    [
        "",
        [],
        ["CMD"],
        ["CMD", ""],
        ["CMD-SHELL"],
        ["CMD-SHELL", ""],
        ["CMD-SHELL", "a", "b"],
        ["NONE", "a"],
        ["curl", "-f"],
        ["cmd", "curl"],
        [""],
    ],
)
def test_a_health_check_that_asks_nothing_is_refused(written: Any) -> None:
    with pytest.raises(
        ValidationError, match="a test is CMD and a command, CMD-SHELL and one line, or only NONE"
    ):
        HealthCheck.model_validate({"test": written})


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("http:80", "is not `published:target`: write it like '8080:80'"),
        ("80:http", "is not `published:target`: write it like '8080:80'"),
        ("80-90:80-90", "is a range: write one line for each port"),
        ("80-90", "is a range: write one line for each port"),
        ("127.0.0.1:81:80", "names an address, and a port is published on all of a host: write '81:80'"),
        ("80", "says no port to publish it on, and Compose would take any: write it like '8080:80'"),
        (80, "says no port to publish it on, and Compose would take any: write it like '8080:80'"),
    ],
)
def test_a_port_that_is_no_pair_of_numbers_says_how_to_write_it(written: object, reason: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(reason)):
        Port.model_validate(written)


def test_one_try_is_enough_for_a_health_check() -> None:
    assert HealthCheck.model_validate({"test": "true", "retries": 1}).retries == 1
    assert HealthTiming(retries=1).checking(80).retries == 1


def test_the_rhythm_of_a_health_check_is_read_in_seconds() -> None:
    written = {
        "test": ["CMD", "true"],
        "interval": "1m",
        "timeout": "1.5s",
        "retries": 3,
        "start_period": "1m30s",
        "start_interval": "250ms",
    }
    assert tuple(fields(HealthCheck, written).values())[1:6] == (60, 1.5, 3, 90, 0.25)


def test_a_health_check_and_the_one_an_agent_gets_have_the_same_rhythm() -> None:
    own = HealthCheck(test=("CMD", "curl", "-f", "http://localhost:8200/health"))
    assert HealthTiming().checking(8200) == own
    assert tuple(own.model_dump().values())[1:6] == (10, 5, 5, 30, 1)


def test_the_rhythm_of_the_check_that_an_agent_gets_can_be_changed() -> None:
    check = HealthTiming(interval=30, start_interval=0.25, retries=2).checking(8200)
    assert (check.interval, check.start_interval, check.retries) == (30, 0.25, 2)


@pytest.mark.parametrize(
    ("model", "written", "path"),
    [
        (HealthCheck, {"test": "true", "disable": True}, ()),
        (HealthCheck, {"test": "true", "disable": "perhaps"}, ("disable",)),
        (HealthCheck, {"test": "true", "retries": 0}, ("retries",)),
        (HealthCheck, {"interval": "10s"}, ("test",)),
        (HealthCheck, {"test": "true", "interval": float("inf")}, ("interval",)),
        (HealthCheck, {"test": "true", "retries": True}, ("retries",)),
        (Deploy, {"replicas": True}, ("replicas",)),
        (Deploy, {"resources": {"limits": {"cpus": "1e400"}}}, ("resources", "limits", "cpus")),
        (RestartPolicy, {"max_attempts": True}, ("max_attempts",)),
        (UpdateConfig, {"parallelism": True}, ("parallelism",)),
        (Ulimit, {"soft": 1, "hard": True}, ("hard",)),
        (Scale, {"min": 0, "max": True}, ("max",)),
        (Service, {"image": "a", "stop_grace_period": float("nan")}, ("stop_grace_period",)),
        (Service, {"image": "a", "agents": []}, ("agents",)),
        (Service, {"image": "a", "scale": {"min": 1, "max": 2}}, ("scale",)),
        (HealthTiming, {"test": "true"}, ("test",)),
        (Deploy, {"mode": "global"}, ("mode",)),
        (Deploy, {"replicas": -1}, ("replicas",)),
        (Deploy, {"endpoint_mode": "vip"}, ("endpoint_mode",)),
        (Deploy, {"labels": {"a": ["b"]}}, ("labels", "a")),
        (Deploy, {"rollback_config": {}}, ("rollback_config",)),
        (Deploy, {"resources": {"limits": {"pids": -2}}}, ("resources", "limits", "pids")),
        (Deploy, {"resources": {"reservations": {"pids": 1}}}, ("resources", "reservations", "pids")),
        (
            Deploy,
            {"resources": {"reservations": {"generic_resources": []}}},
            ("resources", "reservations", "generic_resources"),
        ),
        (Deploy, {"resources": {"reservations": {"devices": []}}}, ("resources", "reservations", "devices")),
        (Placement, {"preferences": [{}]}, ("preferences", 0, "spread")),
        (Placement, {"preferences": [{"spread": ""}]}, ("preferences", 0, "spread")),
        (Placement, {"max_replicas_per_node": -1}, ("max_replicas_per_node",)),
        (RestartPolicy, {"condition": "always"}, ("condition",)),
        (RestartPolicy, {"max_attempts": -1}, ("max_attempts",)),
        (UpdateConfig, {"failure_action": "rollback"}, ("failure_action",)),
        (UpdateConfig, {"failure_action": "continue"}, ("failure_action",)),
        (UpdateConfig, {"order": "any"}, ("order",)),
        (UpdateConfig, {"parallelism": 0}, ("parallelism",)),
        (UpdateConfig, {"max_failure_ratio": 0.5}, ("max_failure_ratio",)),
        (Logging, {"driver": "local", "tag": "x"}, ("tag",)),
        (Device, {"source": "/dev/a", "target": "/dev/a", "cgroup": "r"}, ("cgroup",)),
        (Ulimit, {"soft": 1}, ("hard",)),
        (Scale, {"min": 0, "max": 0}, ("max",)),
        (Scale, {"min": -1, "max": 2}, ("min",)),
        (Service, {"image": "a", "privileged": True}, ("privileged",)),
        (Service, {"image": "a", "build": "."}, ("build",)),
        (Service, {"image": "a", "security_opt": ["label:disable"]}, ("security_opt", 0)),
        (Service, {"image": "a", "runtime": "runc"}, ("runtime",)),
        (Service, {"image": "a", "depends_on": ["b", "b"]}, ("depends_on",)),
        (Service, {"image": "a", "depends_on": [{"b": "c"}]}, ("depends_on",)),
        (Service, {"image": "a", "depends_on": {"b": {"restart": True}}}, ("depends_on", "b", "restart")),
        (Service, {"image": "a", "depends_on": {"b": {"required": False}}}, ("depends_on", "b", "required")),
        (Service, {"image": "a", "depends_on": {"b": {"condition": "up"}}}, ("depends_on", "b", "condition")),
        (Service, {"image": "a", "dns": "home"}, ("dns", 0)),
        (Service, {"image": "a", "pids_limit": -2}, ("pids_limit",)),
        (Service, {"image": "a", "command": ""}, ("command",)),
        (Service, {"image": "a", "command": []}, ("command",)),
        (Service, {"image": "a", "entrypoint": ""}, ("entrypoint",)),
        (Service, {"image": "a", "command": "echo 'open"}, ("command",)),
        (Service, {"command": "true"}, ("image",)),
    ],
)
def test_what_cannot_be_honoured_is_refused_where_it_stands(model: Any, written: Any, path: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(written)
    assert [error["loc"] for error in refused.value.errors()] == [path]


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("run --name 'a b'", ("run", "--name", "a b")),
        (["run", "a b; touch x"], ("run", "a b; touch x")),
        (None, ()),
    ],
)
def test_a_command_is_a_line_or_a_list_of_words(written: Any, words: tuple[str, ...]) -> None:
    service = Service.model_validate({"image": "a", "command": written, "entrypoint": written})
    assert (service.command, service.entrypoint) == (words, words)


def test_a_service_that_says_only_its_image_has_the_documented_defaults() -> None:
    service = Service.model_validate({"image": "a"})
    assert service.init
    assert (service.stop_grace_period, service.stop_signal) == (10, "SIGTERM")
    assert (service.deploy.replicas, service.scale, service.agents) == (1, None, ())
    assert tuple(service.deploy.restart_policy.model_dump().values()) == ("any", 5, None, 0)
    assert tuple(service.deploy.update_config.model_dump().values()) == (1, 0, "start-first", 5, "pause")


@pytest.mark.parametrize(("replicas", "fits"), [(0, False), (1, True), (5, True), (6, False)])
def test_the_replicas_lie_inside_the_range_of_scale(replicas: int, fits: bool) -> None:
    written = {"image": "a", "deploy": {"replicas": replicas}, "x-scale": {"min": 1, "max": 5}}
    if fits:
        assert Service.model_validate(written).scale == Scale(min=1, max=5)
    else:
        with pytest.raises(ValidationError, match=rf"deploy.replicas {replicas} is outside x-scale 1-5"):
            Service.model_validate(written)


@pytest.mark.parametrize(
    ("model", "written", "fix"),
    [
        (Mount, "data:/data:ro,z", "take z out"),
        (Mount, {"type": "tmpfs", "target": "/x", "tmpfs": {"mode": "rwx"}}, "write one like 1770"),
        (Ulimit, {"soft": -1, "hard": 5}, "write -1"),
        (Ulimit, {"soft": 7, "hard": 5}, "write 7 or more"),
    ],
)
def test_a_fix_can_be_followed_to_the_letter(model: Any, written: Any, fix: str) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(written)
    (error,) = refused.value.errors()
    assert error["msg"].endswith(f": {fix}")


@pytest.mark.parametrize("target", ["/..", "/.", "//", "/a/.."])
def test_nothing_is_mounted_on_the_root_however_it_is_written(target: str) -> None:
    with pytest.raises(ValidationError, match="nothing can be mounted on / itself"):
        Mount.model_validate(f"data:{target}")


@pytest.mark.parametrize("spread", ["", "node.role", "zone", "node.labels."])
def test_replicas_are_spread_over_a_label_only(spread: str) -> None:
    with pytest.raises(ValidationError, match=r"write one like node\.labels\.zone"):
        Placement.model_validate({"preferences": [{"spread": spread}]})


@pytest.mark.parametrize(
    ("model", "key"),
    [
        (Deploy, "replicas"),
        (RestartPolicy, "max_attempts"),
        (UpdateConfig, "parallelism"),
        (Placement, "max_replicas_per_node"),
        (Ulimit, "soft"),
    ],
)
def test_a_number_that_the_engine_cannot_hold_is_refused(model: Any, key: str) -> None:
    with pytest.raises(ValidationError, match="less than or equal to 9223372036854775807"):
        model.model_validate({key: 2**63, **({"hard": -1} if key == "soft" else {})})
