"""A second run: nothing to do, and what it costs to find that out."""

from __future__ import annotations

from tests.lab.conftest import Checkout, containers, on_host, steady

EXECS_AT_MOST = 3
MORE_SERVICES = 131


def test_a_dry_run_of_a_converged_fleet_shows_no_change(fleet: Checkout) -> None:
    assert fleet.dry().ok().planned == []


def test_a_second_run_changes_nothing(fleet: Checkout) -> None:
    before = steady()
    again = fleet.deploy().ok()
    assert again.summary["verdict"] == "in sync"
    assert again.writes == 0
    assert set(again.execs) == {"mainpc", "pc2"}
    assert max(again.execs.values()) <= EXECS_AT_MOST
    assert containers() == before


def test_the_cost_of_a_second_run_does_not_grow_with_the_services(variant: Checkout) -> None:
    few = variant.deploy().ok()
    agents = "\n".join(
        f"      - {{name: Extra{n}, port: {20000 + n}, health_port: {30000 + n}}}"
        for n in range(MORE_SERVICES)
    )
    (variant.path / "group_data/stacks/cascade/extra.yaml").write_text(
        "name: extra\n"
        "services:\n"
        "  extra:\n"
        "    image: cascade/core\n"
        "    networks: [cascade-external]\n"
        "    deploy: {replicas: 0, placement: {constraints: [node.labels.system == pc2]}}\n"
        f"    x-agents:\n{agents}\n"
        "networks: {cascade-external: {external: true}}\n"
    )
    variant.change("group_data/all.py", '"cascade-pc2-apps"),', '"cascade-pc2-apps", "extra"),')
    try:
        variant.deploy().ok()
        many = variant.deploy().ok()
        assert len(on_host("mainpc", "docker service ls -q").split()) == 62 + MORE_SERVICES
        assert many.writes == 0
        assert many.execs == few.execs
        assert max(many.execs.values()) <= EXECS_AT_MOST
    finally:
        on_host(
            "mainpc",
            "docker service rm $(docker service ls -q --filter label=cascade.group=extra) > /dev/null",
        )
