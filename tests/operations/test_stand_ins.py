"""A rehearsal has the stand-in in place of every image."""

from __future__ import annotations

from pathlib import Path

import pytest

from cascade.model.fleet import Fleet
from cascade.model.strict import InvalidFiles
from lab.errors import LabError
from operations import stand_ins as rehearsal
from operations.stand_ins import stand_ins


def test_every_name_that_a_group_file_uses_is_the_stand_in(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "stand_in_archive", lambda folder, _say: folder / "stand-in.tar")
    found = stand_ins(fleet.groups.values())
    assert found.keys() == fleet.settings.images.keys()
    assert {source.archive for source in found.values()} == {Path(".lab/stand-in.tar")}


@pytest.mark.parametrize(
    "error", [LabError("apt-get", "is not installed", "install it"), PermissionError(13, "Permission denied")]
)
def test_a_stand_in_that_cannot_be_made_is_a_mistake_with_a_way_out(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(rehearsal, "stand_in_archive", refuse)
    with pytest.raises(InvalidFiles) as failure:
        stand_ins(fleet.groups.values())
    (problem,) = failure.value.problems
    assert problem.path == "stand_ins"
    assert str(error).partition("\n")[0] in problem.reason
    assert ".lab/busybox" in problem.fix
