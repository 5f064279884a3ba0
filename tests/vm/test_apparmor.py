"""AppArmor on real kernels: it denies in services and in host containers, whatever was restarted since.

The tests follow one another: what one leaves running, the next one looks at.
"""

from __future__ import annotations

import pytest

from lab.stand_in import REFERENCE
from lab.vm import VIRTUAL_HOSTS
from tests.lab.conftest import Checkout
from tests.vm.machines import Container, containers, deploy, healthy, on_machine, planned
from tests.vm.probes import ALLOWED, DENIED, expected, probe

pytestmark = pytest.mark.usefixtures("system")
KINDS = {("mainpc", "service"), ("mainpc", "host container"), ("pc2", "service")}


def one_of_each_kind() -> list[Container]:
    found = {(container.machine, container.kind): container for container in containers()}
    assert set(found) == KINDS
    return list(found.values())


def assert_denied() -> None:
    assert {
        container.profile for container in containers() if not container.profile.endswith(" (enforce)")
    } == set()
    for container in one_of_each_kind():
        assert probe(container) == expected(container), container


def assert_converged(system: Checkout) -> None:
    healthy(system)
    assert planned(system) == []
    assert deploy(system).ok().writes == 0


def test_services_share_one_profile_and_host_containers_have_that_of_their_group() -> None:
    assert {(container.kind, container.profile) for container in containers()} == {
        ("service", "docker-default (enforce)"),
        ("host container", "cascade.cascade-audio-realtime (enforce)"),
    }


def test_apparmor_denies_in_services_and_in_host_containers() -> None:
    assert_denied()


def test_nothing_but_apparmor_says_no_to_what_is_probed() -> None:
    script = "; ".join(f"cat {path} >/dev/null && echo {path}" for path in (*DENIED, *ALLOWED))
    options = (
        "--rm --network none --user 10001:10001 --cap-drop ALL --read-only --security-opt apparmor=unconfined"
    )
    read = on_machine("mainpc", f"docker run {options} --entrypoint sh {REFERENCE} -c '{script}'").split()
    assert set(read) == {*DENIED, *ALLOWED}


def test_apparmor_denies_after_a_restart_of_the_engines(system: Checkout) -> None:
    before = {container.id for container in containers()}
    for host in VIRTUAL_HOSTS:
        on_machine(host.name, "systemctl restart docker")
    healthy(system)
    assert before.isdisjoint(container.id for container in containers() if container.kind == "service")
    assert_denied()


@pytest.mark.parametrize("name", [host.name for host in VIRTUAL_HOSTS])
def test_apparmor_denies_and_everything_converges_after_a_reboot(name: str, system: Checkout) -> None:
    before = on_machine(name, "cat /proc/sys/kernel/random/boot_id")
    system.run_alone("cascade", "lab", "reboot", "--vm", name).ok()
    assert on_machine(name, "cat /proc/sys/kernel/random/boot_id") != before
    assert_converged(system)
    assert_denied()


def test_a_reboot_loads_the_profiles_before_the_engine_starts() -> None:
    started = "systemctl show --value --property {} {}"
    for host in VIRTUAL_HOSTS:
        loaded = on_machine(
            host.name, started.format("ExecMainExitTimestampMonotonic", "cascade-apparmor.service")
        )
        engine = on_machine(host.name, started.format("ExecMainStartTimestampMonotonic", "docker.service"))
        assert 0 < int(loaded) < int(engine)


def test_a_profile_that_somebody_took_out_of_force_is_drift_and_comes_back(system: Checkout) -> None:
    on_machine("mainpc", "apparmor_parser --remove /etc/apparmor.d/docker-default")
    drift = system.run_alone("cascade", "drift", "inventories/vm.py", "--json")
    assert "docker-default" in drift.out
    deploy(system).ok()
    assert_converged(system)
    assert_denied()


def test_complain_mode_logs_and_does_not_deny(variant: Checkout) -> None:
    before = {container.id for container in containers()}
    variant.change("group_data/vm.py", "absent =", 'apparmor_mode = "complain"\nabsent =')
    deploy(variant).ok()
    found = one_of_each_kind()
    assert {container.profile.rpartition(" ")[2] for container in found} == {"(complain)"}
    for container in found:
        assert probe(container) == expected(container, complain=True), container
    assert before == {container.id for container in containers()}


def test_after_complain_mode_apparmor_denies_again() -> None:
    assert_denied()
