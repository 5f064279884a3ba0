"""NVIDIA Container Toolkit on both hosts: from a signed repository, in one version, from a bare host on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from cascade.exit_codes import ERROR
from cascade.planning.desired import GPU_KEY, GPU_PACKAGES, GPU_RUNTIME_SETTINGS
from lab.gpu import VERSIONS
from lab.hosts import HOSTS
from tests.lab.conftest import Checkout, look, on_host
from tests.lab.gpu_system import SERVED, UUIDS, asked_of_the_runtime, stand_ins

OLD, NEW = VERSIONS
LISTS = f"{SERVED}/deb/$(dpkg --print-architecture)"
STALE = "/etc/apt/sources.list.d/nvidia-container-toolkit.list"


def toolkit(host: str) -> dict[str, str]:
    """The packages of the toolkit that a host has on hold, with their versions."""
    shown = on_host(
        host, f"dpkg-query -W -f '${{Package}} ${{Version}} ${{Status}}\\n' {' '.join(GPU_PACKAGES)}"
    )
    lines = (line.split(" ", 2) for line in shown.splitlines())
    return {name: version for name, version, status in lines if status == "hold ok installed"}


def every(version: str) -> dict[str, str]:
    return dict.fromkeys(GPU_PACKAGES, version)


def serve(host: str, key: str) -> None:
    """Lets the repository be signed by this key, and give it to whoever asks for it."""
    on_host(host, f"cp {SERVED}/{key}.asc {SERVED}/gpgkey && cp {LISTS}/InRelease.{key} {LISTS}/InRelease")


@pytest.fixture
def served(gpu_variant: Checkout) -> Iterator[Checkout]:
    """A copy of the system's files, and repositories to change; afterwards these are as they were."""
    yield gpu_variant
    for host in HOSTS:
        serve(host.name, "first")


def test_a_second_run_changes_nothing(gpu_trial: Checkout) -> None:
    again = gpu_trial.deploy().ok()
    assert again.writes == 0
    assert gpu_trial.dry().planned == []
    assert gpu_trial.drift().code == 0


def test_the_toolkit_is_there_in_its_version_and_stays(gpu_trial: Checkout) -> None:
    assert {host.name: toolkit(host.name) for host in HOSTS} == {host.name: every(OLD) for host in HOSTS}
    on_host("pc2", "apt-get -qq update && apt-get -qq -y upgrade")
    assert toolkit("pc2") == every(OLD)
    assert gpu_trial.dry().planned == []


@pytest.mark.usefixtures("gpu_trial")
@pytest.mark.parametrize("host", [host.name for host in HOSTS])
def test_what_the_packages_do_when_they_come_leaves_settings_and_links_as_they_are_to_be(host: str) -> None:
    assert 'swarm-resource = "DOCKER_RESOURCE_GPU"' in look(host, f"cat {GPU_RUNTIME_SETTINGS}").splitlines()
    assert set(look(host, "cat /var/lib/nvidia-stand-in/reloads").split()) == {"linked"}


@pytest.mark.usefixtures("gpu_trial")
def test_the_engine_offers_the_gpu_and_what_of_it_is_shared() -> None:
    node = json.loads(on_host("mainpc", "docker node inspect self"))[0]
    offered = {
        found["Kind"]: found["Value"]
        for resource in node["Description"]["Resources"]["GenericResources"]
        for found in resource.values()
    }
    # 80 % of 24564 MiB.
    assert offered == {"gpu": UUIDS["mainpc"], "vram": 19651}


@pytest.mark.usefixtures("gpu_trial")
@pytest.mark.parametrize(
    ("host", "workload", "sees"),
    [
        ("mainpc", "ai_inference", UUIDS["mainpc"]),
        ("mainpc", "ai_embedding", UUIDS["mainpc"]),
        ("mainpc", "plain_clerk", "void"),
        ("pc2", "edge_speech", UUIDS["pc2"]),
    ],
)
def test_a_container_gets_its_gpu_from_the_runtime_or_none(host: str, workload: str, sees: str) -> None:
    (container,) = on_host(host, f"docker ps -q --no-trunc --filter name={workload}").split()
    assert asked_of_the_runtime(host)[container] == sees
    listed = look(host, f"docker exec {container} nvidia-smi -L 2>&1")
    assert [uuid for uuid in UUIDS.values() if uuid in listed] == ([] if sees == "void" else [sees])


def test_a_gpu_that_is_set_otherwise_is_set_again(gpu_trial: Checkout) -> None:
    on_host("pc2", "nvidia-smi --persistence-mode=0 && rm /dev/char/195:*")
    found = {(item["kind"], item["name"], item["repair"]) for item in gpu_trial.drift().document["findings"]}
    assert found == {("gpu", UUIDS["pc2"], "automatic")}
    gpu_trial.deploy().ok()
    assert "nvidiactl" in look("pc2", "ls -l /dev/char")
    assert gpu_trial.drift().code == 0


def test_a_key_that_was_rotated_ends_the_run_until_a_person_has_said_so(
    served: Checkout,
) -> None:
    keys = stand_ins().fingerprints
    serve("pc2", "second")
    on_host("pc2", f"rm {GPU_KEY}")
    refused = served.deploy()
    assert refused.code == ERROR
    assert f"gives the key {keys['second']}, and gpu.key in group_data is {keys['first']}" in refused.err
    assert look("pc2", f"ls {GPU_KEY}") == ""
    serve("mainpc", "second")
    served.change("group_data/lab.py", keys["first"], keys["second"])
    served.deploy().ok()
    assert served.dry().planned == []


def test_packages_that_somebody_has_changed_are_not_installed(served: Checkout) -> None:
    for host in HOSTS:
        # One that an earlier run has fetched is the right one.
        on_host(host.name, "rm -f /var/cache/apt/archives/*nvidia*")
        on_host(host.name, f"for file in {LISTS}/*_{NEW}_*; do cp $file $file.kept; echo >>$file; done")
    served.change("group_data/lab.py", "HostGpu(", f'HostGpu(toolkit="{NEW}", ')
    refused = served.deploy()
    assert refused.code == ERROR
    assert "has unexpected size" in refused.err
    assert {host.name: toolkit(host.name) for host in HOSTS} == {host.name: every(OLD) for host in HOSTS}
    for host in HOSTS:
        on_host(host.name, f"for file in {LISTS}/*.kept; do mv $file ${{file%.kept}}; done")
    served.deploy().ok()
    assert {host.name: toolkit(host.name) for host in HOSTS} == {host.name: every(NEW) for host in HOSTS}
    assert served.dry().planned == []


def test_lists_that_the_key_has_not_signed_install_nothing(served: Checkout) -> None:
    on_host("mainpc", f"cp {LISTS}/InRelease.second {LISTS}/InRelease")
    on_host("pc2", f"sed -i 's/^Label:.*/Label: another/' {LISTS}/InRelease")
    for host in HOSTS:
        on_host(host.name, "apt-mark unhold nvidia-container-toolkit")
    refused = served.deploy()
    assert refused.code == ERROR
    assert refused.err.count("signature") >= len(HOSTS)
    for host in HOSTS:
        assert toolkit(host.name).keys() == {*GPU_PACKAGES} - {"nvidia-container-toolkit"}


def test_a_stale_source_is_found_before_anything_is_changed(gpu_trial: Checkout) -> None:
    on_host("mainpc", f"echo 'deb [signed-by=/usr/share/x.gpg] http://127.0.0.1:8041/deb/all /' >{STALE}")
    doctor = gpu_trial.run("cascade", "doctor", "inventories/lab.py")
    on_host("mainpc", f"rm {STALE}")
    assert doctor.code == ERROR
    assert f"`sudo rm {STALE}`" in doctor.out
