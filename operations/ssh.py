"""The SSH connections that pyinfra holds."""

from __future__ import annotations

from paramiko import Transport
from pyinfra.api.host import Host
from pyinfra.connectors.ssh import SSHConnector


def transport_of(host: Host) -> Transport:
    """The SSH connection that pyinfra holds to a host."""
    assert isinstance(host.connector, SSHConnector)
    assert host.connector.client is not None
    transport = host.connector.client.get_transport()
    assert transport is not None
    return transport
