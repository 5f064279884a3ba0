"""A small system in place of the fleet: three groups, one after the other, that tell soon how they are."""

from pathlib import Path

from cascade.model.compose import HealthTiming
from cascade.model.fleet import Overlay
from cascade.model.image import ArchiveImage

system = "trial"
stacks = "group_data/stacks/trial"
phases = (("first",), ("middle",), ("last",))
monitoring = None
networks = (
    Overlay(name="trial-internal", subnet="172.20.0.0/16", internal=True),
    Overlay(name="trial-external"),
    Overlay(name="trial-extra", subnet="10.99.0.0/16"),
)
images = {
    "trial/agent": ArchiveImage(path=Path(".lab/stand-in.tar")),
    # Nobody uses it but in a test.
    "trial/other": ArchiveImage(path=Path("group_data/other.tar")),
}

absent = frozenset(("gpu", "realtime", "open-files", "ipvs", "clock"))
health_timing = HealthTiming(interval=2, timeout=3, retries=3, start_period=4, start_interval=0.25)
docker_source = "distribution"
