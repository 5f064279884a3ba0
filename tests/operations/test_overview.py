"""`cascade images list`: what every image is, and where."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from cascade.image_report import code_of, image_lines
from cascade.model.fleet import Fleet
from cascade.model.image import ArchiveImage, BuildImage, RegistryImage
from operations.pins import Resolved
from operations.swarm import overview as overviews
from operations.swarm.overview import overview
from tests.operations.conftest import LocalRun

OLD, NEW = (f"sha256:{digit * 64}" for digit in "12")
CORE, AUXILIARY, PC2 = "cascade/core", "cascade/auxiliary", "cascade/pc2-core"


@pytest.fixture
def listed(run: LocalRun, fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The list where hosts hold what they are said to, and a registry's tag means what it is said to mean."""
    monkeypatch.chdir(tmp_path)
    Path("group_data").mkdir()

    def build(held: Any, now: Resolved | None = None, **sources: Any) -> dict[str, Any]:
        images = fleet.settings.images | {f"cascade/{name}": source for name, source in sources.items()}
        settings = fleet.settings.model_copy(update={"images": images})
        run.fleet = dataclasses.replace(fleet, settings=settings)
        monkeypatch.setattr(overviews, "resolve", lambda *_, **__: [now] if now else [])
        monkeypatch.setattr(overviews, "_held", lambda _run, host: held[host.name])
        monkeypatch.setattr(run.state.inventory, "get_active_hosts", lambda: list(run.state.inventory))
        return {image["name"]: image for image in overview(run)["images"]}

    return build


def test_an_image_is_looked_for_where_its_agents_may_run(listed: Any, image_id: str) -> None:
    images = listed({"mainpc": {image_id: 7}, "pc2": {}})
    assert images[CORE]["hosts"] == {"mainpc": True}
    assert images[PC2]["hosts"] == {"pc2": False}
    assert (images[CORE]["source"], images[CORE]["pinned"], images[CORE]["bytes"]) == ("archive", image_id, 7)
    assert code_of([images[CORE]]) == 0
    assert code_of(images.values()) == 2


def test_a_host_that_could_not_be_read_is_unknown(listed: Any, image_id: str) -> None:
    images = listed({"mainpc": None, "pc2": {image_id: 7}})
    assert images[CORE]["hosts"] == {"mainpc": None}
    assert code_of(images.values()) == 1


def test_a_tag_that_moved_says_what_it_means_now(listed: Any, tmp_path: Path) -> None:
    tag = RegistryImage(reference="box:5000/core:1")
    (tmp_path / "group_data/images.json").write_text(f'{{"box:5000/core:1": "{OLD}"}}')
    held = {"mainpc": {f"box:5000/core@{OLD}": 5}, "pc2": {}}
    image = listed(held, Resolved(tag.reference, OLD, NEW), auxiliary=tag)[AUXILIARY]
    assert (image["moved"], image["hosts"], image["bytes"]) == (NEW, {"mainpc": True}, 5)
    assert code_of([image]) == 2
    assert f"  moved: now {NEW}; `cascade images pin INVENTORY --update` takes it" in image_lines(image)
    same = listed(held, Resolved(tag.reference, OLD, OLD), auxiliary=tag)[AUXILIARY]
    assert (same["moved"], code_of([same])) == (None, 0)
    deaf = listed(held, Resolved(tag.reference, OLD, None, "no answer"), auxiliary=tag)[AUXILIARY]
    assert (deaf["unknown"], code_of([deaf])) == ("no answer", 1)


@pytest.mark.parametrize(
    ("source", "kind", "said"),
    [
        (RegistryImage(reference="box:5000/core:1"), "registry", "moving reference"),
        (ArchiveImage(path=Path("gone.tar")), "archive", "there is no archive"),
        (BuildImage(context=Path("gone")), "build", "there is no folder gone"),
    ],
)
def test_an_image_without_a_pin_says_why_and_counts_as_missing(
    listed: Any, source: Any, kind: str, said: str
) -> None:
    image = listed({"mainpc": {}, "pc2": {}}, auxiliary=source)[AUXILIARY]
    assert (image["source"], image["pinned"]) == (kind, None)
    assert said in image["problem"]
    assert said in "\n".join(image_lines(image))
    assert code_of([image]) == 2
