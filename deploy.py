"""The whole deployment, in order: `pyinfra inventories/lab.py deploy.py`."""

from operations.deploy import carry_out

carry_out("system")  # base packages, sysctls, time synchronisation
carry_out("confinement")  # AppArmor, before Docker starts a container
carry_out("gpu")  # what gives containers their GPUs, where there are any
carry_out("engine")  # Docker and its settings
carry_out("swarm")  # one cluster, labelled nodes
carry_out("networks")
carry_out("volumes")
carry_out("configs")
carry_out("secrets")
carry_out("images")  # on every eligible host, before anything stops
carry_out("rollout")  # groups in order, wave by wave, each behind its gate
carry_out("prune")  # what nobody wants any more, when asked for
carry_out("release")  # what was rolled out is written down
