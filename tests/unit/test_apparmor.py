"""AppArmor's profiles: the parser takes them, and their rules allow what they are to allow."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cascade.model.apparmor import PROFILE_FOLDER, engines_profile, profile_of_group
from cascade.model.fleet import Fleet
from cascade.model.host import Host
from cascade.model.workload import Workload
from cascade.planning.desired import CONFINEMENT_FILES, CONFINEMENT_UNIT, LOADER, render
from cascade.planning.resource import Key
from cascade.planning.target import target_of

Alpha = Callable[..., tuple[tuple[Workload, ...], Fleet]]

AUDIO = "{user: root, devices: [/dev/snd], cap_drop: [ALL], cap_add: [SYS_NICE]}"
GLOBS = re.compile(
    r"(?P<any>\*\*)|(?P<some>\*)|(?P<open>\{)|(?P<close>\})|(?P<comma>,)|(?P<set>\[[^]]+\])|\\(?P<sign>.)|(?P<other>.)"
)
parser = pytest.mark.skipif(shutil.which("apparmor_parser") is None, reason="no apparmor_parser")


def profiles(fleet: Fleet, host: str = "mainpc") -> dict[str, str]:
    """The profiles' texts by name."""
    wanted = target_of(fleet).wanted
    names = [key.name for key in wanted if (key.host, key.kind) == (host, "apparmor")]
    return {name: wanted[Key(host, "file", f"{PROFILE_FOLDER}/{name}")]["content"] for name in names}


def in_mode(fleet: Fleet, mode: str) -> Fleet:
    hosts = {name: host.model_copy(update={"apparmor_mode": mode}) for name, host in fleet.hosts.items()}
    return replace(fleet, hosts=hosts)


def parsed(text: str) -> str:
    """What the parser has against a profile."""
    done = subprocess.run(
        ["apparmor_parser", "--skip-kernel-load", "--skip-cache", "--warn=all"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stderr


def expression(glob: str) -> str:
    """A path of a rule as a regular expression; see apparmor.d(5), Globbing."""
    found = {"any": ".*", "some": "[^/]*", "open": "(?:", "close": ")", "comma": "|"}
    parts = []
    for sign in GLOBS.finditer(glob):
        kind = str(sign.lastgroup)
        parts.append(found.get(kind) or (sign["set"] if kind == "set" else re.escape(str(sign[kind]))))
    # Behind a slash, stars stand for one sign at least.
    return "".join(parts).replace("/.*", "/.+").replace("/[^/]*", "/[^/]+")


def allowed(profile: str, path: str) -> str:
    """What a profile allows with a file, as letters in the order of the alphabet."""
    rules = re.findall(r'^  (?:"(/.*)"|(/\S*)) (\w+),$', profile, re.M)
    matching = [perms for quoted, bare, perms in rules if re.fullmatch(expression(quoted or bare), path)]
    return "".join(sorted(set("".join(matching))))


@parser
@pytest.mark.parametrize("mode", ["enforce", "complain"])
def test_the_parser_takes_every_profile_in_both_modes(alpha: Alpha, mode: str) -> None:
    _, fleet = alpha(AUDIO)
    found = profiles(in_mode(fleet, mode))
    assert {name: parsed(text) for name, text in found.items()} == {
        "docker-default": "",
        "cascade.alpha": "",
    }
    assert [("complain" in text.partition("{")[0].partition("flags")[2]) for text in found.values()] == [
        mode == "complain"
    ] * 2


@parser
@pytest.mark.parametrize(
    "service",
    [
        "{devices: ['/dev/x y*{a,b}[c]\"\\\\q']}",
        "{user: root, devices: [/dev/snd], cap_add: [ALL]}",
        "{devices: [/dev/snd], cap_drop: [ALL]}",
        "{user: root, devices: [/dev/snd, '/dev/kvm:/dev/a'], cap_drop: [MKNOD], cap_add: [NET_ADMIN]}",
    ],
)
def test_the_parser_takes_whatever_a_file_gives_to_a_host_container(alpha: Alpha, service: str) -> None:
    _, fleet = alpha(service)
    assert parsed(profiles(fleet)["cascade.alpha"]) == ""


@parser
def test_the_parser_refuses_what_is_no_profile(alpha: Alpha) -> None:
    _, fleet = alpha(AUDIO)
    text = profiles(fleet)["cascade.alpha"].replace("capability sys_nice", "capability sys_nicer")
    assert "sys_nicer" in parsed(text)


def test_no_rule_denies_because_it_would_deny_in_complain_mode_too(alpha: Alpha) -> None:
    _, fleet = alpha(AUDIO)
    assert not any(re.search(r"^[^#]*deny\b", text, re.M) for text in profiles(fleet).values())


def test_the_profile_of_a_group_gives_what_its_host_containers_have_and_nothing_else(alpha: Alpha) -> None:
    _, fleet = alpha(AUDIO)
    text = profiles(fleet)[profile_of_group("alpha")]
    assert re.findall(r"capability (\w+)", text) == ["sys_nice"]
    assert allowed(text, "/dev/snd/pcmC0D0p") == "rw"
    assert "sys_admin" not in engines_profile().capabilities
    assert allowed(profiles(fleet)["docker-default"], "/dev/snd/pcmC0D0p") == ""


def test_groups_with_host_containers_have_a_profile_where_these_run(home_fleet: Fleet) -> None:
    assert list(profiles(home_fleet, "mainpc")) == ["docker-default", "cascade.cascade-audio-realtime"]
    assert list(profiles(home_fleet, "pc2")) == ["docker-default"]


def test_a_group_that_is_not_enabled_has_none(alpha: Alpha) -> None:
    _, fleet = alpha(AUDIO)
    off = fleet.groups["alpha"].model_copy(update={"enabled": False})
    assert list(profiles(replace(fleet, groups={"alpha": off}))) == ["docker-default"]


@pytest.mark.parametrize(
    ("path", "letters"),
    [
        ("/", "r"),
        ("/app/main.py", "iklmrwx"),
        ("/d", "iklmrwx"),
        ("/data/x", "iklmrwx"),
        ("/developers/x", "iklmrwx"),
        ("/dev", ""),
        ("/devices", "iklmrwx"),
        ("/proc2/x", "iklmrwx"),
        ("/srv/x", "iklmrwx"),
        ("/system/x", "iklmrwx"),
        ("/tmp/x", "iklmrwx"),
        ("/usr/bin/python3", "iklmrwx"),
        ("/dev/", "r"),
        ("/dev/kmsg", ""),
        ("/dev/kvm", ""),
        ("/dev/mem", ""),
        ("/dev/new", ""),
        ("/dev/null", "rw"),
        ("/dev/nvidia0", "rw"),
        ("/dev/nvidia-uvm", "rw"),
        ("/dev/pts/0", "rw"),
        ("/dev/sda1", ""),
        ("/dev/shm/ring", "klmrw"),
        ("/proc/", "r"),
        ("/proc/1/environ", "r"),
        ("/proc/12/attr/current", "r"),
        ("/proc/12/mem", "r"),
        ("/proc/12/task/13/comm", "rw"),
        ("/proc/12/oom_score_adj", "rw"),
        ("/proc/cpuinfo", "r"),
        ("/proc/kallsyms", ""),
        ("/proc/kcore", ""),
        ("/proc/keys", ""),
        ("/proc/kmsg", ""),
        ("/proc/self", "r"),
        ("/proc/sys/kernel/core_pattern", "r"),
        ("/proc/sysrq-trigger", ""),
        ("/proc/timer_list", ""),
        ("/sys/class/net/eth0", "r"),
        ("/sys/devices/system/cpu/online", "r"),
        ("/sys/devices/virtual/net/lo/mtu", "r"),
        ("/sys/devices/virtual/powercap/intel-rapl/x", ""),
        ("/sys/firmware/efi/x", ""),
        ("/sys/fs/cgroup/memory.max", "r"),
        ("/sys/kernel/debug/x", ""),
        ("/sys/kernel/security/apparmor/profiles", ""),
        ("/sys/kernel/uevent_helper", ""),
    ],
)
def test_files_outside_of_the_kernels_folders_are_free_and_in_them_few(
    alpha: Alpha, path: str, letters: str
) -> None:
    _, fleet = alpha("{}")
    assert allowed(profiles(fleet)["docker-default"], path) == letters


FAKE_PARSER = """#!/bin/sh
# Takes a profile as the kernel would, unless it says `bad`.
text=$(cat)
case $text in *bad*) echo "syntax error" >&2; exit 1 ;; esac
name=$(echo "$text" | sed -n 's/^profile \\([^ ]*\\).*/\\1/p')
mkdir -p "$POLICIES/$name.7"
echo "$name" >"$POLICIES/$name.7/name"
echo "$text" | sha1sum | cut -d ' ' -f 1 >"$POLICIES/$name.7/sha1"
"""


class Loader:
    """The loading script in folders of a test's own, with a kernel that takes what it is given."""

    def __init__(self, folder: Path, host: Host) -> None:
        self.files, self.policies, self.notes = (folder / name for name in ("files", "policies", "notes"))
        for made in (self.files, self.policies, folder / "bin"):
            made.mkdir()
        parser = folder / "bin" / "apparmor_parser"
        parser.write_text(FAKE_PARSER)
        parser.chmod(0o755)
        self.path = f"{folder / 'bin'}:{os.environ['PATH']}"
        self.script = render(LOADER, host=host)
        for there, here in (
            (PROFILE_FOLDER, self.files),
            ("/sys/kernel/security/apparmor/policy/profiles", self.policies),
            ("/run/cascade/apparmor", self.notes),
        ):
            assert there in self.script
            self.script = self.script.replace(there, str(here))

    def write(self, name: str, rest: str = "") -> None:
        (self.files / name).write_text(f"profile {name} {{\n{rest}}}\n")

    def run(self, *names: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-s", *names],
            input=self.script,
            env={"PATH": self.path, "POLICIES": str(self.policies)},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def noted(self) -> list[str]:
        return sorted(path.name for path in self.notes.iterdir())


@pytest.fixture
def loader(tmp_path: Path, alpha: Alpha) -> Loader:
    _, fleet = alpha("{}")
    return Loader(tmp_path, fleet.hosts["mainpc"])


def test_at_boot_every_profile_is_loaded_and_noted_with_the_kernels_digest(loader: Loader) -> None:
    loader.write("docker-default")
    loader.write("cascade.alpha")
    (loader.files / "of-somebody-else").write_text("bad")
    done = loader.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert loader.noted == ["cascade.alpha", "docker-default"]
    file, digest = (loader.notes / "cascade.alpha").read_text().split()
    assert subprocess.run(
        ["sha256sum", loader.files / "cascade.alpha"], capture_output=True, text=True, check=True
    ).stdout.startswith(file)
    assert digest == (loader.policies / "cascade.alpha.7" / "sha1").read_text().strip()


def test_a_profile_that_cannot_be_loaded_holds_up_no_other_and_is_named(loader: Loader) -> None:
    loader.write("docker-default", "bad")
    loader.write("cascade.alpha")
    done = loader.run()
    assert done.returncode == 1
    assert "syntax error" in done.stderr
    assert f"{loader.files}/docker-default could not be loaded" in done.stderr
    assert loader.noted == ["cascade.alpha"]


def test_a_named_profile_is_loaded_alone(loader: Loader) -> None:
    loader.write("docker-default")
    loader.write("cascade.alpha")
    assert loader.run("docker-default").returncode == 0
    assert loader.noted == ["docker-default"]
    assert loader.run("cascade.gone").returncode == 1


def test_a_host_without_groups_of_its_own_loads_the_engines_profile(loader: Loader) -> None:
    loader.write("docker-default")
    done = loader.run()
    assert (done.returncode, done.stderr, loader.noted) == (0, "", ["docker-default"])


def test_a_kernel_without_digests_is_noted_as_such(loader: Loader) -> None:
    loader.write("docker-default")
    assert loader.run().returncode == 0
    (loader.policies / "docker-default.7" / "sha1").unlink()
    policy = loader.path.partition(":")[0]
    Path(policy, "apparmor_parser").write_text("#!/bin/sh\nexec cat >/dev/null\n")
    assert loader.run().returncode == 0
    assert (loader.notes / "docker-default").read_text().split()[1] == "unknown"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_takes_the_unit_that_loads_them(alpha: Alpha, tmp_path: Path) -> None:
    _, fleet = alpha("{}")
    unit = tmp_path / CONFINEMENT_UNIT
    unit.write_text(render(CONFINEMENT_FILES[1], host=fleet.hosts["mainpc"]))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if CONFINEMENT_UNIT in line]) == (
        0,
        [],
    )
