"""PC2: RTX 3060."""

from cascade.model.gpu import HostGpu

swarm_role = "worker"
node_labels = {"system": "pc2", "gpu": "rtx3060"}
gpu = HostGpu()
