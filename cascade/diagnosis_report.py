"""A diagnosis as people read it."""

from __future__ import annotations

from collections.abc import Iterator

from cascade.documents import Diagnosis, Waiting

_SPOKEN = {
    "left": "it stays as it is, for inspection",
    "warned": "it is optional: the rollout goes on without it",
}


def diagnosis_lines(diagnosis: Diagnosis) -> Iterator[str]:
    """What is wrong, why, who waited for it, and what to do next."""
    healthy = f"{diagnosis.healthy} of {diagnosis.desired} replicas healthy"
    yield f"{diagnosis.wave}: {diagnosis.name}: {healthy}"
    yield f"  reason: {diagnosis.reason}"
    yield f"  host: {', '.join(diagnosis.hosts) or 'none'}"
    yield f"  state: {diagnosis.state}"
    if diagnosis.exit_code is not None:
        yield f"  exit code: {diagnosis.exit_code}{', out of memory' if diagnosis.oom else ''}"
    if diagnosis.health:
        yield "  last health checks:"
        yield from (f"    {line}" for line in diagnosis.health)
    yield "  last log lines:"
    yield from (f"    {line}" for line in diagnosis.log or ("none",))
    yield from (f"  {line}" for line in _waiting(diagnosis.waiting))
    if spoken := _SPOKEN.get(diagnosis.outcome):
        yield f"  {spoken}"
    yield from (f"  next: {command}" for command in diagnosis.next_commands)


def _waiting(waiting: Waiting) -> Iterator[str]:
    if waiting.dependents:
        yield f"depending on it: {', '.join(waiting.dependents)}"
    if waiting.agents:
        yield f"not touched of its group: {', '.join(waiting.agents)}"
    if waiting.groups:
        yield f"groups not touched: {', '.join(waiting.groups)}"
