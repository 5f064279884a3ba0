"""What single services say about their security reaches the engine, or is told before."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cascade.model.fleet import Fleet
from cascade.model.loader import examine_group_file, read_group_file
from cascade.model.workload import Workload
from cascade.planning.comparable import comparable
from cascade.planning.diff import diff_fields
from cascade.planning.specs import container_body, service_spec

Alpha = Callable[..., tuple[tuple[Workload, ...], Fleet]]
PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []}],
    "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_X"]}}],
}


def read(folder: Path, *options: Any) -> Any:
    """The problems of a group file with these security options, or how the options are read."""
    path = folder / "alpha.yaml"
    service = {"image": "a", "security_opt": list(options)}
    path.write_text(yaml.safe_dump({"name": "alpha", "services": {"one": service}}))
    found = examine_group_file(path).problems
    if found:
        assert all(problem.fix for problem in found)
        return [(problem.path, f"{problem.reason}; {problem.fix}") for problem in found]
    return [(option.name, option.value) for option in read_group_file(path).services["one"].security_opt]


@pytest.mark.parametrize(
    ("option", "name", "value"),
    [
        ("no-new-privileges:true", "no-new-privileges", "true"),
        ("no-new-privileges=true", "no-new-privileges", "true"),
        ("no-new-privileges", "no-new-privileges", "true"),
        ("seccomp:unconfined", "seccomp", "unconfined"),
        ("seccomp=unconfined", "seccomp", "unconfined"),
    ],
)
def test_both_ways_to_write_an_option_are_read(option: str, name: str, value: str, tmp_path: Path) -> None:
    assert read(tmp_path, option) == [(name, value)]


@pytest.mark.parametrize("sign", [":", "="])
def test_a_profile_is_read_from_beside_the_group_file_without_its_layout(sign: str, tmp_path: Path) -> None:
    (tmp_path / "tight.json").write_text(json.dumps(PROFILE, indent=4))
    ((name, value),) = read(tmp_path, f"seccomp{sign}./tight.json")
    assert name == "seccomp"
    assert json.loads(value) == PROFILE
    assert value == json.dumps(PROFILE, separators=(",", ":"))


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("no-new-privileges:false", "changes nothing, for it is off"),
        ("apparmor:mine", "a Swarm service takes no profile of its own"),
        ("apparmor=unconfined", "a Swarm service takes no profile of its own"),
        ("label:disable", "the hosts run no SELinux"),
        ("systempaths=unconfined", "a Swarm service has no such setting"),
        ("secomp:unconfined", "'secomp:unconfined' is no security option"),
        ("", "'' is no security option"),
        (5, "5 is no security option"),
        ("seccomp:builtin", "a Swarm service has the engine's own profile"),
        ("seccomp:", "'' is no path of a file"),
        ("seccomp:none.json", "'none.json' cannot be read: no such file"),
        ("seccomp:text.json", "'text.json' is no JSON"),
        ("seccomp:nan.json", "'nan.json' is no JSON, NaN is no number"),
        ("seccomp:deep.json", "'deep.json' is no JSON"),
        ("seccomp:bytes.json", "'bytes.json' is no JSON"),
        ("seccomp:big.json", "'big.json' has 131073 bytes"),
    ],
)
def test_an_option_that_cannot_be_had_is_told_in_its_place(option: Any, reason: str, tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text("defaultAction: SCMP_ACT_ALLOW")
    (tmp_path / "nan.json").write_text('{"defaultAction": NaN}')
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "bytes.json").write_bytes(b'{"\xff": 1}')
    (tmp_path / "big.json").write_bytes(b" " * (128 * 1024 + 1))
    ((path, said),) = read(tmp_path, "no-new-privileges", option)[-1:]
    assert path == "services.one.security_opt[1]"
    assert said.startswith(reason) or reason in said


@pytest.mark.parametrize(
    ("profile", "fault"),
    [
        ([], "it is no map"),
        ({}, "defaultAction is nothing"),
        ({"defaultAction": "ALLOW"}, "defaultAction is 'ALLOW'"),
        ({"defaultAction": ["SCMP_ACT_ALLOW"]}, "defaultAction is a list"),
        ({**PROFILE, "defaultActions": 1}, "it has no key 'defaultActions'"),
        ({**PROFILE, "architectures": ["SCMP_ARCH_X86"]}, "architectures stands beside archMap"),
        ({**PROFILE, "syscalls": {"names": []}}, "syscalls is a map"),
        ({**PROFILE, "syscalls": ["read"]}, "syscalls[0] names no system call"),
        ({**PROFILE, "syscalls": [{"names": [], "action": "SCMP_ACT_ALLOW"}]}, "syscalls[0] names no"),
        ({**PROFILE, "syscalls": [{"names": ["a b"], "action": "SCMP_ACT_ALLOW"}]}, "syscalls[0] names no"),
        ({**PROFILE, "syscalls": [{"names": ["read"], "action": "allow"}]}, "syscalls[0].action is 'allow'"),
        ({**PROFILE, "syscalls": [{"names": ["read"]}]}, "syscalls[0].action is nothing"),
    ],
)
def test_a_profile_that_the_engine_would_refuse_is_told(profile: Any, fault: str, tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text(json.dumps(profile))
    ((path, said),) = read(tmp_path, "seccomp:odd.json")
    assert path == "services.one.security_opt[0]"
    assert said.startswith(f"'odd.json' is no seccomp profile: {fault}")


def test_an_option_stands_once(tmp_path: Path) -> None:
    ((path, said),) = read(tmp_path, "seccomp:unconfined", "seccomp=unconfined")
    assert (path, said) == ("services.one.security_opt", "seccomp stands twice; remove one of the two")


def specs(alpha: Alpha, *options: str) -> tuple[Any, Any]:
    """The ContainerSpec of a service with these options, and the HostConfig of a host container."""
    (service,), fleet = alpha(json.dumps({"security_opt": options}))
    (container,), same = alpha(json.dumps({"security_opt": options, "devices": ["/dev/snd"]}))
    in_swarm = service_spec(service, fleet)["TaskTemplate"]["ContainerSpec"]
    return in_swarm, container_body(container, same)["HostConfig"]


def test_no_new_privileges_reaches_services_and_host_containers(alpha: Alpha) -> None:
    service, container = specs(alpha, "no-new-privileges:true")
    unsaid, of_container = specs(alpha)
    assert service["Privileges"] == unsaid["Privileges"]
    assert service["Privileges"]["NoNewPrivileges"] is True
    assert container["SecurityOpt"] == of_container["SecurityOpt"]
    assert container["SecurityOpt"][0] == "no-new-privileges=true"


def test_an_unconfined_service_says_so(alpha: Alpha) -> None:
    service, container = specs(alpha, "seccomp:unconfined")
    assert service["Privileges"] == {"NoNewPrivileges": True, "Seccomp": {"Mode": "unconfined"}}
    assert container["SecurityOpt"] == [
        "no-new-privileges=true",
        "seccomp=unconfined",
        "apparmor=cascade.alpha",
    ]


def test_a_profile_reaches_services_and_host_containers(alpha: Alpha, tmp_path: Path) -> None:
    path = tmp_path / "tight.json"
    path.write_text(json.dumps(PROFILE))
    service, container = specs(alpha, "no-new-privileges", f"seccomp:{path}")
    seccomp = service["Privileges"]["Seccomp"]
    assert service["Privileges"]["NoNewPrivileges"] is True
    assert seccomp["Mode"] == "custom"
    assert json.loads(base64.b64decode(seccomp["Profile"])) == PROFILE
    first, second, _apparmor = container["SecurityOpt"]
    assert first == "no-new-privileges=true"
    assert json.loads(second.removeprefix("seccomp=")) == PROFILE


def differences(kind: Any, wanted: Any, observed: Any) -> list[str]:
    return [str(field) for field in diff_fields(comparable(kind, wanted), comparable(kind, observed))]


def service(**privileges: Any) -> Any:
    return {"TaskTemplate": {"ContainerSpec": {"Image": "a", "Privileges": privileges}}}


def encoded(profile: Any) -> dict[str, str]:
    text = json.dumps(profile, separators=(",", ":"))
    return {"Mode": "custom", "Profile": base64.b64encode(text.encode()).decode()}


def test_what_a_client_of_an_old_api_strips_is_found_field_by_field() -> None:
    wanted = service(NoNewPrivileges=True, Seccomp=encoded(PROFILE))
    stripped = service(CredentialSpec=None, SELinuxContext=None)
    (found,) = differences("service", wanted, stripped)
    assert found.startswith("TaskTemplate.ContainerSpec.Privileges unset → ")
    partly = service(CredentialSpec=None, NoNewPrivileges=True, Seccomp={"Mode": "unconfined"})
    mode, profile = differences("service", wanted, partly)
    assert mode == "TaskTemplate.ContainerSpec.Privileges.Seccomp.Mode unconfined → custom"
    assert profile.startswith("TaskTemplate.ContainerSpec.Privileges.Seccomp.Profile unset → profile ")


def test_a_profile_is_shown_by_a_digest_that_differs_when_the_profile_does() -> None:
    other = {**PROFILE, "defaultErrnoRet": 133}
    (found,) = differences("service", service(Seccomp=encoded(PROFILE)), service(Seccomp=encoded(other)))
    assert found.count("profile ") == 2
    assert len(found) < 150


@pytest.mark.parametrize(
    ("wanted", "observed", "expected"),
    [
        (["no-new-privileges=true"], ["no-new-privileges"], []),
        (["no-new-privileges=true"], ["no-new-privileges:true"], []),
        (["seccomp=unconfined", "no-new-privileges=true"], ["no-new-privileges", "seccomp:unconfined"], []),
        (
            ["no-new-privileges=true"],
            ["no-new-privileges:false"],
            ["HostConfig.SecurityOpt.no-new-privileges false → true"],
        ),
        (["seccomp=unconfined"], None, ["HostConfig.SecurityOpt unset → {'seccomp': 'unconfined'}"]),
        ([], ["apparmor=mine"], ["HostConfig.SecurityOpt {'apparmor': 'mine'} → unset"]),
    ],
)
def test_the_options_of_a_host_container_compare_by_what_they_mean(
    wanted: Any, observed: Any, expected: list[str]
) -> None:
    specs = [{"HostConfig": {"Init": True, "SecurityOpt": options}} for options in (wanted, observed)]
    assert differences("container", *specs) == expected
