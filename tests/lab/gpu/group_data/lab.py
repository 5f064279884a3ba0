"""A small system with a stand-in for a GPU on each host; the tests add where the toolkit comes from."""

from pathlib import Path

from cascade.model.compose import HealthTiming
from cascade.model.fleet import Overlay
from cascade.model.image import ArchiveImage

system = "gpus"
stacks = "group_data/stacks/gpus"
phases = (("plain",), ("ai",), ("edge",))
monitoring = None
networks = (Overlay(name="gpus-internal", subnet="172.20.0.0/16", internal=True),)
images = {"gpus/agent": ArchiveImage(path=Path(".lab/stand-in.tar"))}

absent = frozenset(("realtime", "open-files", "ipvs", "clock"))
health_timing = HealthTiming(interval=2, timeout=3, retries=3, start_period=4, start_interval=0.25)
docker_source = "distribution"
