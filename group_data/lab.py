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

# All of all.py but default-ulimits: a container may not raise limits of containers inside of it.
daemon_settings = {
    "default-address-pools": [{"base": "10.202.0.0/16", "size": 24}],
    "features": {"containerd-snapshotter": False},
    "log-driver": "json-file",
    "log-opts": {"max-file": "5", "max-size": "100m"},
    "icc": False,
    "no-new-privileges": True,
    "userland-proxy": False,
}
# Those of all.py that are a host's own: the rest of the kernel is the machine's that carries both.
sysctls = {
    "net.core.somaxconn": "4096",
    "net.ipv4.conf.all.accept_redirects": "0",
    "net.ipv4.conf.all.accept_source_route": "0",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.conf.default.accept_redirects": "0",
    "net.ipv4.conf.default.accept_source_route": "0",
    "net.ipv4.conf.default.send_redirects": "0",
    "net.ipv4.icmp_echo_ignore_broadcasts": "1",
    "net.ipv4.ip_forward": "1",
    "net.ipv4.ip_local_reserved_ports": "2377,4789,7946,26002",
    "net.ipv4.tcp_keepalive_time": "600",
    "net.ipv4.tcp_syncookies": "1",
}
