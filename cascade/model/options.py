"""What a person asks of one run: `cascade COMMAND --group G`, or `pyinfra --data group=G`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from cascade.model.strict import Strict


def _listed(value: object) -> object:
    return (
        tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value
    )


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class Options(Strict):
    """Choices that hold for one run and leave no trace in the files.

    `group` names the only groups to roll out, `from_group` the first one in the order of the phases.
    `stand_ins` deploys the stand-in image in place of every other.
    `allow_docker_restart` lets a restart of the engine stop containers that are not Cascade's.
    """

    group: Names = ()
    from_group: str | None = None
    stand_ins: bool = False
    allow_docker_restart: bool = False
