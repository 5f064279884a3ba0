"""The Docker Engine API of a host, over the SSH connection that pyinfra already has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from docker import APIClient
from docker.auth import AuthConfig
from paramiko import Transport
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection

API_VERSION = "1.44"
CHANNELS = 4
TIMEOUT_S = 60.0
# docker-py reads the deploying machine's files whenever it holds no entry at all.
NO_CREDENTIALS = AuthConfig({"auths": {"nobody.invalid": {}}})
_READS = {"GET", "HEAD"}


class _ChannelConnection(HTTPConnection):
    """HTTP through `docker system dial-stdio` in a channel of an open SSH connection."""

    transport: Transport

    def connect(self) -> None:
        channel = self.transport.open_session()
        channel.settimeout(TIMEOUT_S)
        channel.exec_command("sudo -n docker system dial-stdio")
        self.sock: Any = channel

    @property
    def is_connected(self) -> bool:
        """urllib3 would ask for a file descriptor, which costs paramiko a pipe for each call."""
        return self.sock is not None and not self.sock.closed


class _ChannelAdapter(HTTPAdapter):
    """One bounded pool for every path: sshd allows few sessions a connection."""

    def __init__(self, transport: Transport) -> None:
        super().__init__()
        connection = type("_Connection", (_ChannelConnection,), {"transport": transport})
        self._pool = HTTPConnectionPool("docker", maxsize=CHANNELS, block=True)
        self._pool.ConnectionCls = connection

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> HTTPConnectionPool:
        return self._pool

    def close(self) -> None:
        self._pool.close()
        super().close()


class EngineClient(APIClient):
    """docker-py's low-level client for one host; `on_write` hears of every call that is not a read."""

    def __init__(self, transport: Transport, on_write: Callable[[], None]) -> None:
        super().__init__(base_url="http://docker:80", version=API_VERSION, timeout=int(TIMEOUT_S))
        # The deploying machine's registry passwords and proxies are nobody's business on the hosts.
        self._auth_configs = NO_CREDENTIALS
        self.trust_env = False
        self._on_write = on_write
        self.mount("http://docker:80", _ChannelAdapter(transport))

    def request(self, method: str, *args: Any, **kwargs: Any) -> Any:
        if method.upper() not in _READS:
            self._on_write()
        return super().request(method, *args, **kwargs)
