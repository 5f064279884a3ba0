"""All that the lab changes: two test hosts on one machine stand in for MainPC and PC2."""

from pathlib import Path

from cascade.model.compose import HealthTiming
from cascade.model.image import ArchiveImage

_stand_in = ArchiveImage(path=Path(".lab/stand-in.tar"))

images = {
    f"cascade/{name}": _stand_in
    for name in (
        "core",
        "ai-engine",
        "request-handler",
        "memory-learning",
        "audio-realtime",
        "personality",
        "auxiliary",
        "pc2-core",
        "pc2-apps",
    )
}

# The groups reserve 19 CPUs on MainPC; the machine that carries both hosts may have two.
reservation_scale = 0.08

absent = frozenset(("gpu", "/dev/snd", "realtime", "open-files", "ipvs", "clock"))

# 114 health checks every ten seconds would keep two cores busy.
health_timing = HealthTiming(interval=30, start_interval=0.25)

docker_source = "distribution"
