"""All that the virtual machines change: real kernels, but slow ones, for a few of the groups."""

from pathlib import Path

from cascade.model.compose import HealthTiming
from cascade.model.image import ArchiveImage

_stand_in = ArchiveImage(path=Path(".lab/stand-in.tar"))

# Links to three of the groups: services on both machines, volumes, and host containers.
stacks = "group_data/stacks/vm"
phases = (("cascade-core",), ("cascade-audio-realtime",), ("cascade-pc2-core",))
images = {f"cascade/{name}": _stand_in for name in ("core", "audio-realtime", "pc2-core")}

# The groups reserve more than the 2 GiB that a machine has.
reservation_scale = 0.08

absent = frozenset(("gpu", "/dev/snd"))

# An emulated processor takes seconds for what takes a real one tenths.
health_timing = HealthTiming(interval=60, timeout=30, retries=3, start_period=180, start_interval=2)

docker_source = "distribution"
