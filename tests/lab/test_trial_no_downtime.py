"""A client that resolves an agent's name for each request, and calls every address that it gets.

None of its requests fails while the replicas are exchanged, nor while an update fails and goes back.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from cascade.exit_codes import ROLLED_BACK
from lab.errors import LabError
from lab.hosts import HOSTS
from lab.polling import until
from lab.stand_in import REFERENCE
from tests.lab.conftest import Checkout, look, on_host
from tests.lab.trial_system import change_agent, digests, seen, touch

NAME, PORT = "web.middle.trial", 8000
MANY = 100
CALLING = f"""
addresses() {{
    nslookup {NAME} 127.0.0.11 2>/dev/null |
        awk '/^Name/ {{ named = 1 }} named && /^Address/ {{ print $NF }}'
}}
while :; do
    found=$(addresses)
    if [ -z "$found" ]; then echo "nobody is called {NAME}"; fi
    for address in $found; do
        curl -f -s -m 10 "http://$address:{PORT}/" >/dev/null && echo answered || echo "$address: $?"
    done
    sleep 0.1
done
"""


@pytest.fixture
def callers(trial_variant: Checkout) -> Iterator[Checkout]:
    """The small system under constant load, from both hosts."""
    for host in HOSTS:
        command = f"--entrypoint sh {REFERENCE} -c {shlex.quote(CALLING)}"
        on_host(host.name, f"docker run -d --name caller --network trial-internal {command}")
    yield trial_variant
    for host in HOSTS:
        look(host.name, "docker rm -f caller")


def answers() -> Counter[str]:
    """What came of every request so far."""
    return Counter(line for host in HOSTS for line in look(host.name, "docker logs caller 2>&1").splitlines())


def await_more(than: Counter[str]) -> Counter[str]:
    """What came of the requests when there are many more than these."""

    def attempt() -> Counter[str]:
        found = answers()
        if found.total() < than.total() + MANY:
            raise LabError("the callers", f"{found.total()} requests", "look at their logs")
        return found

    return until("the callers", attempt, timeout_s=60, next_step="look at their logs")


def test_no_request_fails_while_replicas_are_exchanged(callers: Checkout) -> None:
    begun, before = await_more(Counter()), seen()["middle_web"]
    touch(callers, "middle")
    callers.deploy().ok()
    after = seen()["middle_web"]
    assert not before.replicas & after.replicas
    assert len(after.replicas) == len(before.replicas)
    assert await_more(answers()).keys() == {"answered"}
    assert answers().total() > begun.total() + MANY


@pytest.mark.parametrize(
    "said",
    [
        {"environment": {"STANDIN_CRASH_AFTER_S": "0"}},
        pytest.param(
            {
                "environment": {"STANDIN_UNHEALTHY_AFTER_S": "4"},
                "deploy": {"update_config": {"delay": "15s"}},
            },
            marks=pytest.mark.long,
        ),
    ],
    ids=["new ones crash", "new ones are healthy at first"],
)
def test_no_request_fails_while_an_update_fails_and_goes_back(
    said: dict[str, Any], callers: Checkout
) -> None:
    await_more(Counter())
    before = digests(seen())
    touch(callers, "middle")
    change_agent(callers, "middle", "web", **said)
    assert callers.deploy().code == ROLLED_BACK
    assert digests(seen()) == before
    assert await_more(answers()).keys() == {"answered"}
