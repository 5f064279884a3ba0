"""The CIS Docker Benchmark, sections 1 to 5 and 7: each control passes, or its exception says why not."""

from __future__ import annotations

import pytest

from cascade.model.host import Host
from tests.verify.controls import CONTROLS, Control
from tests.verify.evidence import Evidence
from tests.verify.exceptions import exceptions, lacking, unexcused


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.number)
def test_the_control_passes_or_carries_a_reason(control: Control, node: Host, evidence: Evidence) -> None:
    faults = list(control.faults(evidence.looks[node.name]))
    if faults and (reason := lacking(control.number, node, evidence.hosts[node.name]["apparmor"])):
        pytest.skip(reason)
    assert unexcused(control.number, faults) == [], control.title
    if faults:
        pytest.xfail(exceptions()[control.number].reason)
