"""Changed files on a running fleet: what is touched, and what a gate that fails says."""

from __future__ import annotations

import json

from cascade.exit_codes import ATTENTION, ROLLED_BACK
from tests.lab.conftest import Checkout, Evidence, of_agent, on_host, steady
from tests.lab.releases import releases, writes_of_a_release

STACKS = "group_data/stacks/cascade"


def test_one_changed_agent_costs_one_write_and_restarts_nothing_else(variant: Checkout) -> None:
    variant.change(
        f"{STACKS}/cascade-auxiliary.yaml",
        "      - name: CodeGenerator\n",
        "      - name: CodeGenerator\n        environment: {CHANGED: 'yes'}\n",
    )
    before, own = steady(), of_agent("CodeGenerator")
    *planned, recorded = variant.dry().planned
    and_a_release = writes_of_a_release()
    done = variant.deploy().ok()
    after = steady()
    assert planned == [
        "cascade-auxiliary wave 1/1: update service cascade-auxiliary_code-generator",
        "cascade-auxiliary wave 1/1: gate",
    ]
    assert f"{recorded.removeprefix('record ')} recorded" in done.err
    assert "TaskTemplate.ContainerSpec.Env.CHANGED unset → yes" in done.err
    assert done.writes == 1 + and_a_release
    assert {id_ for id_ in before if id_ not in after} == set(own)
    assert {item["agent"] for id_, item in after.items() if id_ not in before} == {"CodeGenerator"}


def test_a_changed_host_container_is_replaced_alone(variant: Checkout) -> None:
    variant.change(
        f"{STACKS}/cascade-audio-realtime.yaml",
        "      - name: StreamingTTSAgent\n",
        "      - name: StreamingTTSAgent\n        environment: {CHANGED: 'yes'}\n",
    )
    before, own = steady(), of_agent("StreamingTTSAgent")
    variant.deploy().ok()
    after = steady()
    assert set(before) - set(after) == set(own)
    assert {item["agent"] for id_, item in after.items() if id_ not in before} == {"StreamingTTSAgent"}
    assert variant.dry().ok().planned == []


def test_a_gate_that_fails_names_the_agent_and_leaves_later_groups_untouched(variant: Checkout) -> None:
    variant.change(
        f"{STACKS}/cascade-personality.yaml",
        "      - name: ToneDetector\n",
        "      - name: ToneDetector\n"
        "        environment: {STANDIN_CRASH_AFTER_S: '0', STANDIN_EXIT_CODE: '7'}\n",
    )
    variant.change(
        f"{STACKS}/cascade-auxiliary.yaml",
        "      - name: CodeGenerator\n",
        "      - name: CodeGenerator\n        environment: {CHANGED: 'yes'}\n",
    )
    later, kept = of_agent("CodeGenerator"), releases()
    failed = variant.deploy()
    assert failed.code == ROLLED_BACK
    assert "cascade-personality went back: 1 agents are healthy with the specs they had" in failed.err
    assert releases() == kept
    assert "cascade-personality_tone-detector" in failed.err
    assert "exit code 7" in failed.err
    assert "crashing with exit code 7, as told" in failed.err
    assert "Traceback" not in failed.err
    assert of_agent("CodeGenerator") == later
    assert variant.status().code == 0


def test_wrong_files_are_all_named_before_any_connection(variant: Checkout) -> None:
    variant.change(f"{STACKS}/cascade-core.yaml", "    init: true\n", "    privileged: true\n")
    variant.change(f"{STACKS}/cascade-auxiliary.yaml", "        port: 5650\n", "        port: 565000\n")
    refused = variant.deploy()
    status = variant.status()
    for finished in (refused, status):
        assert finished.code == 64
        assert "cascade-core.yaml: services.cascade-core.privileged: a Swarm service has no" in finished.err
        assert "cascade-auxiliary.yaml: services.cascade-auxiliary.x-agents[3].port" in finished.err
        assert "Traceback" not in finished.err
        assert "Connected" not in finished.err


def test_an_optional_agent_that_fails_warns_and_does_not_block(variant: Checkout) -> None:
    variant.change(
        f"{STACKS}/cascade-auxiliary.yaml",
        "      - name: TranslationService\n",
        "      - name: TranslationService\n        environment: {STANDIN_CRASH_AFTER_S: '0'}\n",
    )
    done = variant.deploy()
    assert done.code == ATTENTION
    assert "cascade-auxiliary_translation-service is optional and not healthy" in done.err


def test_the_join_token_is_in_no_log_and_no_argument(fleet: Checkout, evidence: Evidence) -> None:
    assert fleet
    tokens = json.loads(on_host("mainpc", "curl -s --unix-socket /run/docker.sock http://docker/swarm"))[
        "JoinTokens"
    ]
    for host in ("mainpc", "pc2"):
        for token in tokens.values():
            assert token not in on_host(host, "journalctl --no-pager")
    for token in tokens.values():
        assert token not in evidence.demo.out
        assert token not in evidence.demo.err
