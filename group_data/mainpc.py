"""MainPC: RTX 4090, manager of the Swarm."""

from cascade.model.gpu import HostGpu

swarm_role = "manager"
node_labels = {"system": "mainpc", "gpu": "rtx4090"}
gpu = HostGpu()
