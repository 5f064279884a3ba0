"""The whole deployment, in order: `pyinfra inventories/lab.py deploy.py`."""

from operations.deploy import carry_out

carry_out("system")  # base packages, sysctls, time synchronisation
carry_out("engine")  # Docker and its settings
carry_out("swarm")  # one cluster, labelled nodes
carry_out("networks")
carry_out("volumes")
carry_out("images")  # on every eligible host, before anything stops
carry_out("rollout")  # groups in order, wave by wave, each behind its gate
