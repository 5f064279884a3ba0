"""PC2, which has a label that nobody needs but in a test."""

swarm_role = "worker"
node_labels = {"system": "pc2", "disk": "ssd"}
