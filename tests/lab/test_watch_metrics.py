"""Prometheus has nothing to say of a check's metrics."""

from __future__ import annotations

import pytest

from cascade.watch.metrics import Check, exposition
from tests.drifts import DRIFT, FINDING, IN_SYNC, UNREACHABLE, Document
from tests.lab.promtool import check_metrics

HOSTILE = 'a"b\\c\nd{}=,'


@pytest.mark.parametrize(
    "document",
    [
        IN_SYNC,
        DRIFT,
        UNREACHABLE,
        DRIFT | {"findings": [FINDING | {"host": HOSTILE, "kind": HOSTILE}]},
    ],
    ids=["in-sync", "drift", "unreachable", "hostile"],
)
def test_promtool_has_nothing_to_say(document: Document) -> None:
    assert check_metrics(exposition(Check("cascade", f"/srv/{HOSTILE}.py", document, 0.5))) == ""


def test_promtool_would_tell_of_metrics_that_are_badly_made() -> None:
    metrics = exposition(Check("cascade", "/srv/home.py", DRIFT, 0.5))
    assert check_metrics(metrics.replace("# HELP cascade_drift_in_sync ", "# "))
    assert check_metrics(metrics.replace(" 1.0\n", " one\n"))
