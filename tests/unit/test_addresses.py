"""Where a deployed system answers, and what is said at the end of a deployment."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cascade.closing import closing_lines
from cascade.model.fleet import Fleet
from cascade.model.options import Options
from cascade.model.workload import Workload
from cascade.planning.addresses import addresses

Alpha = Callable[..., tuple[tuple[Workload, ...], Fleet]]


def test_an_ingress_port_answers_on_every_host(home_fleet: Fleet) -> None:
    assert [str(address) for address in addresses(home_fleet)] == [
        "192.0.2.1:26002/tcp",
        "192.0.2.2:26002/tcp",
    ]
    assert {address.agent for address in addresses(home_fleet)} == {"RequestCoordinator"}


def test_without_ipvs_there_is_no_such_address(lab_fleet: Fleet) -> None:
    assert addresses(lab_fleet) == ()


@pytest.mark.parametrize("own", [{}, {"devices": ["/dev/snd"]}], ids=["service", "container"])
def test_a_host_port_answers_on_the_hosts_that_may_run_its_agent(
    own: dict[str, Any], alpha: Alpha, home_fleet: Fleet
) -> None:
    service = {
        "networks": ["cascade-external"],
        "ports": [{"target": 1000, "published": 80, "mode": "host", "protocol": "udp"}],
        "deploy": {"placement": {"constraints": ["node.labels.system == mainpc"]}},
    }
    _, fleet = alpha(str({**service, **own}))
    both = replace(fleet, hosts=home_fleet.hosts)
    assert [str(address) for address in addresses(both)] == ["192.0.2.1:80/udp"]


def test_only_the_groups_of_the_run_are_told(home_fleet: Fleet) -> None:
    assert addresses(replace(home_fleet, options=Options(group=("cascade-core",)))) == ()


def test_the_closing_lines_name_each_agent_once_and_the_next_commands(home_fleet: Fleet) -> None:
    first, *commands = closing_lines(home_fleet, "inventories/home.py")
    where = "192.0.2.1:26002/tcp, 192.0.2.2:26002/tcp"
    assert first == f"cascade-request-handler RequestCoordinator answers on {where}"
    assert [line.split("  ")[0] for line in commands] == [
        "cascade status inventories/home.py",
        "cascade logs inventories/home.py AGENT -f",
        "pyinfra inventories/home.py deploy.py --dry",
    ]


def test_after_a_rehearsal_the_next_commands_are_of_the_rehearsal(home_fleet: Fleet) -> None:
    rehearsal = replace(home_fleet, options=Options(stand_ins=True))
    _, *commands = closing_lines(rehearsal, "my own.py")
    assert [line.split("  ")[0] for line in commands] == [
        "cascade status 'my own.py' --stand-ins",
        "cascade logs 'my own.py' AGENT -f",
        "pyinfra 'my own.py' deploy.py --dry --data stand_ins=True",
    ]
