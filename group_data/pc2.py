"""PC2: RTX 3060."""

swarm_role = "worker"
node_labels = {"system": "pc2", "gpu": "rtx3060"}
