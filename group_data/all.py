"""What every inventory shares: the system of seed 004."""

from cascade.model.fleet import Overlay, SwarmPool

system = "cascade"
stacks = "group_data/stacks/cascade"

phases = (
    ("cascade-core", "cascade-ai-engine"),
    ("cascade-request-handler", "cascade-memory-learning"),
    ("cascade-audio-realtime", "cascade-personality", "cascade-auxiliary"),
    ("cascade-pc2-core", "cascade-pc2-apps"),
)

networks = (
    Overlay(name="cascade-internal", subnet="172.20.0.0/16", internal=True),
    Overlay(name="cascade-external"),
)
swarm_pool = SwarmPool(pool="10.201.0.0/16")

distribution = "debian"
codename = "trixie"
docker_source = "docker"
daemon_settings = {
    # Leaves 172.20.0.0/16 to cascade-internal.
    "default-address-pools": [{"base": "10.202.0.0/16", "size": 24}],
    # An archive's image keeps its ID in the classic store only.
    "features": {"containerd-snapshotter": False},
    "log-driver": "json-file",
    "log-opts": {"max-file": "5", "max-size": "100m"},
}

packages = ("ca-certificates", "curl", "iproute2", "systemd-timesyncd")
sysctls = {
    "net.core.somaxconn": "4096",
    "net.ipv4.ip_forward": "1",
    "net.ipv4.ip_local_reserved_ports": "2377,4789,7946,26002",
    "net.ipv4.tcp_keepalive_time": "600",
}
