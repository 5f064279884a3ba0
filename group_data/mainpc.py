"""MainPC: RTX 4090, manager of the Swarm."""

swarm_role = "manager"
node_labels = {"system": "mainpc", "gpu": "rtx4090"}
