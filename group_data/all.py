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

# Two have this name, one on each machine.
monitoring = "ObservabilityHub"

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
    # What holds for containers of other owners too; those of this system say it themselves.
    "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 65536, "Hard": 65536}},
    "icc": False,
    "no-new-privileges": True,
    "userland-proxy": False,
}

packages = ("ca-certificates", "curl", "iproute2", "systemd-timesyncd")
sysctls = {
    "fs.protected_fifos": "2",
    "fs.protected_hardlinks": "1",
    "fs.protected_regular": "2",
    "fs.protected_symlinks": "1",
    "kernel.dmesg_restrict": "1",
    "kernel.kptr_restrict": "2",
    "kernel.unprivileged_bpf_disabled": "1",
    "kernel.yama.ptrace_scope": "1",
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
