"""The releases that the lab's manager keeps."""

from __future__ import annotations

from cascade.model.fleet import FleetSettings
from tests.lab.conftest import on_host

KEPT = FleetSettings.model_fields["releases_kept"].default


def releases() -> list[str]:
    """Their names, the oldest first."""
    listed = "docker config ls --filter label=cascade.release --format '{{.Name}}'"
    return sorted(on_host("mainpc", listed).split())


def writes_of_a_release() -> int:
    """What it costs to record the next one: it is written, and the oldest goes when there are enough."""
    return 2 if len(releases()) >= KEPT else 1


def forget_all_but_the_last() -> None:
    """As if many releases had been recorded since, so that nobody goes back to an earlier one."""
    *earlier, _ = releases()
    on_host("mainpc", f"docker config rm {' '.join(earlier)}")
