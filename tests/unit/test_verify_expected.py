"""What the files ask for, where they do not tell it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cascade.model.image import ArchiveImage
from tests.fleets import lab_fleet
from tests.verify.expected import Expected
from tests.verify.look import Unread


def test_an_image_is_the_one_that_its_files_pin() -> None:
    expected = Expected(lab_fleet())
    assert {expected.pin_of(one).partition("@")[0] for one in expected.workloads.values()} == {
        *expected.fleet.images
    }


def test_an_image_that_nobody_here_knows_is_unknown(tmp_path: Path) -> None:
    fleet = lab_fleet()
    lost = dict.fromkeys(fleet.settings.images, ArchiveImage(path=tmp_path / "images.tar"))
    expected = Expected(replace(fleet, settings=fleet.settings.model_copy(update={"images": lost})))
    with pytest.raises(Unread, match=r"nobody here knows .*images\.tar"):
        expected.pin_of(next(iter(expected.workloads.values())))
