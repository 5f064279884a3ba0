"""Both hosts rebooted: everything comes back by itself."""

from __future__ import annotations

from lab.errors import LabError
from lab.hosts import HOSTS, open_lab
from lab.polling import until
from tests.lab.conftest import Checkout, containers

RETURN_S = 300


def test_everything_comes_back_healthy_after_a_reboot_of_both_hosts(fleet: Checkout) -> None:
    before = containers()
    lab = open_lab(lambda _: None, fleet.path)
    for host in HOSTS:
        lab.engine.run("restart", host.container)
    lab.up()

    def healthy() -> None:
        status = fleet.status()
        if status.code:
            raise LabError("the fleet", (status.out + status.err)[-2000:], "look at cascade status")

    until("the fleet", healthy, timeout_s=RETURN_S, next_step="look at cascade status", interval_s=1)
    started_again = {item["started"] for item in containers().values()}
    assert started_again.isdisjoint(item["started"] for item in before.values())
    assert fleet.dry().ok().planned == []
    assert fleet.deploy().ok().writes == 0
