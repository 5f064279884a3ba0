"""What a person asks of one run: `cascade COMMAND --group G`, or `pyinfra --data group=G`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator

from cascade.model.names import fits
from cascade.model.quantities import Seconds
from cascade.model.strict import Strict


def _listed(value: object) -> object:
    return (
        tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value
    )


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]


def _release(value: object) -> object:
    """A release by its number, as the command line has it."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Rollback = Annotated[
    str,
    BeforeValidator(_release),
    AfterValidator(fits("previous|[1-9][0-9]{0,5}", "is no release", "3, or previous")),
]


class Options(Strict):
    """Choices that hold for one run and leave no trace in the files.

    `group` names the only groups to roll out, `from_group` the first one in the order of the phases.
    `stand_ins` deploys the stand-in image in place of every other.
    `prune` removes what carries the system's labels and is no longer wanted.
    `rollback` is the number of a release to go back to, or `previous`; `repair` puts the fleet back to its
    last release, `automatic` without what needs a person's consent, `all` with it; `plan_file` is a saved
    plan to carry out. Each of these three is a target in place of the files.
    `reschedule` decides anew which agents have the GPU that they can do without.
    `allow_docker_restart` lets a restart of the engine stop containers that are not Cascade's.
    `lock_wait` is how long to wait for somebody else who holds the lock.
    `report` is the file to write at the end: what was done, and what did not become healthy.
    """

    group: Names = ()
    from_group: str | None = None
    stand_ins: bool = False
    prune: bool = False
    rollback: Rollback | None = None
    repair: Literal["automatic", "all"] | None = None
    plan_file: str | None = None
    reschedule: bool = False
    allow_docker_restart: bool = False
    lock_wait: Seconds = 0.0
    report: str | None = None
